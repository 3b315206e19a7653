//go:build ignore

// SPDX-License-Identifier: Apache-2.0
//
// Which worker gets a packet: the one that has its subscriber's partition.
//
// The kernel runs this program once a packet, for a PACKET_FANOUT_EBPF group
// (packet(7)). It sees the packet from the network header on: what is in front
// of that, one VLAN tag included, the kernel has taken off. The packet is only
// read. Where a packet's headers are, and which end of it is the subscriber, the
// decoder and the probe find as well: tests compare the two.
//
// No helper in here is reserved to programs under the GPL.

#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;

#define always static __attribute__((always_inline)) inline

// Set from the configuration before the program is loaded.
volatile const u64 seed;
volatile const u32 workers = 1;
volatile const u32 prefix_count;
volatile const u32 prefixes_in_trie;

// A prefix as in the probe: IPv4 in mapped form, host byte order.
struct prefix {
	u64 hi, lo, mask_hi, mask_lo;
};

// A handful of prefixes is compared one by one; more go into the trie.
#define LISTED_PREFIXES 16
volatile const struct prefix prefixes[LISTED_PREFIXES];

struct trie_key {
	u32 bits;
	u8 address[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct trie_key);
	__type(value, u8);
} trie SEC(".maps");

// What becomes of a datagram's fragments: all of them go to one worker.
struct datagram {
	u64 time; // of the fragment that came first, boot-time clock
	u32 worker;
	u32 stray; // that fragment was not the datagram's first
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, struct datagram);
} datagrams SEC(".maps");

// An identification is used again sooner or later: after so many nanoseconds
// an entry says nothing any more.
#define DATAGRAM_AGE 2000000000ull

// Counters, in the order of Counts in fanout.go.
enum count {
	COUNT_UNDECIDED, // both or neither end is a subscriber by its prefix
	COUNT_FOLLOWED,  // fragments sent after the first one of their datagram
	COUNT_STRAY,     // fragments that came before it, or without it
	COUNT_CONTROL,   // GTP-C and PFCP, for worker 0
	COUNT_NOT_IP,    // frames without an IP header, for worker 0
	COUNTS,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTS);
	__type(key, u32);
	__type(value, u64);
} counts SEC(".maps");

always void count(u32 which)
{
	u64 *n = bpf_map_lookup_elem(&counts, &which);
	if (n)
		(*n)++;
}

// Headers, as far as they matter here (see capture/decode for their sections).
#define TYPE_IPV4 0x0800
#define TYPE_BRIDGED 0x6558
#define TYPE_DOT1Q 0x8100
#define TYPE_IPV6 0x86dd
#define TYPE_MPLS 0x8847
#define TYPE_MPLS_UPSTREAM 0x8848
#define TYPE_PPPOE 0x8864
#define TYPE_DOT1AD 0x88a8
#define TYPE_QINQ_9100 0x9100
#define TYPE_QINQ_9200 0x9200
#define TYPE_ERSPAN 0x88be
#define TYPE_ERSPAN_III 0x22eb

#define PPP_IPV4 0x0021
#define PPP_IPV6 0x0057
#define PPP_MPLS 0x0281

#define PROTOCOL_HOP_BY_HOP 0
#define PROTOCOL_IPV4 4
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define PROTOCOL_IPV6 41
#define PROTOCOL_ROUTING 43
#define PROTOCOL_FRAGMENT 44
#define PROTOCOL_GRE 47
#define PROTOCOL_AH 51
#define PROTOCOL_DESTINATION 60
#define PROTOCOL_MOBILITY 135
#define PROTOCOL_HIP 139
#define PROTOCOL_SHIM6 140

#define PORT_DNS 53
#define PORT_GTPC 2123
#define PORT_GTPU 2152
#define PORT_VXLAN 4789
#define PORT_PFCP 8805

#define V4_MAPPED (0xffffull << 32)

struct ipv4 {
	u8 version_length, tos;
	__be16 total;
	__be16 id;
	__be16 fragment;
	u8 ttl, protocol;
	__be16 checksum;
	__be32 src, dst;
};

struct ipv6 {
	u8 version, class, label[2];
	__be16 length;
	u8 protocol, hops;
	__be64 src_hi, src_lo, dst_hi, dst_lo;
} __attribute__((packed));

struct ports {
	__be16 src, dst;
};

struct gtpu {
	u8 flags, type;
	__be16 length;
	__be32 teid;
};

// The header that comes next.
enum next {
	DONE,
	TYPED,
	ETHERNET,
	LLC,
	VLAN,
	PPPOE,
	PPP,
	MPLS,
	IPV4,
	IPV6,
	EXTENSION,
	TRANSPORT,
	GRE,
	GTPU,
};

// As in the decoder, nothing is followed for ever.
#define MOST_HEADERS 20
#define MOST_LABELS 6

struct state {
	u64 src_hi, src_lo, dst_hi, dst_lo; // of the innermost IP header
	u64 datagram, inner_datagram;       // what this is the first known fragment of
	u32 off;
	u32 next;
	u32 worker;
	u16 type;
	u16 sport, dport;
	u8 protocol;
	u8 has_ip, has_ports, v6, tunnel, answer;
	u8 chosen; // worker is final
	u8 stray;  // the last of the datagrams begins elsewhere
};

// The state lies in a map and not on the stack, because the verifier keeps no
// book of what a map holds: with every field's value in each of its states, the
// number of paths through the loop over headers is beyond it.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct state);
} states SEC(".maps");

always u64 mix(u64 a, u64 b)
{
	a ^= 0x9e3779b97f4a7c15ull;
	b ^= 0xa0761d6478bd642full;
	u64 a0 = (u32)a, a1 = a >> 32, b0 = (u32)b, b1 = b >> 32;
	u64 p01 = a0 * b1, p10 = a1 * b0;
	u64 mid = (a0 * b0 >> 32) + (u32)p01 + (u32)p10;
	u64 hi = a1 * b1 + (p01 >> 32) + (p10 >> 32) + (mid >> 32);
	return hi ^ a * b;
}

// is_zero is without a branch, which the verifier would follow both ways.
always u64 is_zero(u64 x)
{
	return ((x | -x) >> 63) ^ 1;
}

always bool is4(u64 hi, u64 lo)
{
	return hi == 0 && lo >> 32 == 0xffff;
}

// partition_worker is Partition in choice.go, and the worker that has that
// partition.
always u32 partition_worker(u64 hi, u64 lo)
{
	u64 key = is4(hi, lo) ? lo : hi;
	return (u32)(mix(key ^ seed, 1) >> (64 - 6)) % workers;
}

always bool in_trie(u64 hi, u64 lo)
{
	struct trie_key k = {.bits = 128};
	*(u64 *)&k.address[0] = bpf_cpu_to_be64(hi);
	*(u64 *)&k.address[8] = bpf_cpu_to_be64(lo);
	return bpf_map_lookup_elem(&trie, &k) != 0;
}

// subscriber_is_dst finds the end that is the subscriber. Where the prefixes do
// not tell, the probe goes by who sent the SYN and who asked DNS; here is no
// memory for that, and the higher port, which is the rule after those, has to
// do.
always bool subscriber_is_dst(struct state *s)
{
	if (s->has_ports && s->protocol == PROTOCOL_UDP) {
		if (s->sport == PORT_DNS)
			return true;
		if (s->dport == PORT_DNS)
			return s->answer;
	}
	u64 src = 0, dst = 0;
	if (prefixes_in_trie) {
		src = in_trie(s->src_hi, s->src_lo);
		dst = in_trie(s->dst_hi, s->dst_lo);
	} else {
		for (u32 i = 0; i < LISTED_PREFIXES && i < prefix_count; i++) {
			u64 hi = prefixes[i].hi, lo = prefixes[i].lo;
			u64 mask_hi = prefixes[i].mask_hi, mask_lo = prefixes[i].mask_lo;
			src |= is_zero(((s->src_hi ^ hi) & mask_hi) | ((s->src_lo ^ lo) & mask_lo));
			dst |= is_zero(((s->dst_hi ^ hi) & mask_hi) | ((s->dst_lo ^ lo) & mask_lo));
		}
	}
	if (src != dst)
		return dst;
	count(COUNT_UNDECIDED);
	if (s->has_ports && s->sport != s->dport)
		return s->dport > s->sport;
	// No ports, or the same: anything that is the same in both directions.
	return s->dst_hi > s->src_hi || (s->dst_hi == s->src_hi && s->dst_lo > s->src_lo);
}

always u32 owner(struct state *s)
{
	if (subscriber_is_dst(s))
		return partition_worker(s->dst_hi, s->dst_lo);
	return partition_worker(s->src_hi, s->src_lo);
}

// fragment notes that the packet is a fragment, its first or a later one.
// Later ones have no ports, and in a tunnel no inner packet: they go where the
// first one of the datagram went. A later one that comes before it decides for
// all of them, so that they meet in any case.
always void fragment(struct state *s, u32 id, u8 protocol, bool later)
{
	u64 key = mix(mix(s->src_hi ^ seed, s->src_lo) ^ id, mix(s->dst_hi ^ protocol, s->dst_lo));
	struct datagram *d = bpf_map_lookup_elem(&datagrams, &key);
	if (d && bpf_ktime_get_ns() - d->time < DATAGRAM_AGE && (later || d->stray)) {
		if (later)
			count(COUNT_FOLLOWED);
		s->worker = d->worker;
		s->chosen = true;
		s->next = DONE;
		return;
	}
	if (s->datagram)
		s->inner_datagram = key;
	else
		s->datagram = key;
	if (later) {
		count(COUNT_STRAY);
		s->has_ports = false;
		s->stray = true;
		s->next = DONE;
	}
}

always void remember(u64 key, u32 worker, bool stray)
{
	struct datagram d = {.time = bpf_ktime_get_ns(), .worker = worker, .stray = stray};
	bpf_map_update_elem(&datagrams, &key, &d, BPF_ANY);
}

#define LOAD(h) (bpf_skb_load_bytes(skb, s->off, &(h), sizeof(h)) == 0)

// above goes on with what an IP or extension header announces.
always void above(struct state *s, u8 protocol)
{
	s->protocol = protocol;
	s->has_ports = false;
	switch (protocol) {
	case PROTOCOL_TCP:
	case PROTOCOL_UDP:
		s->next = TRANSPORT;
		return;
	case PROTOCOL_IPV4:
		s->next = IPV4;
		return;
	case PROTOCOL_IPV6:
		s->next = IPV6;
		return;
	case PROTOCOL_GRE:
		s->next = GRE;
		return;
	case PROTOCOL_AH:
		s->next = EXTENSION;
		return;
	case PROTOCOL_HOP_BY_HOP:
	case PROTOCOL_ROUTING:
	case PROTOCOL_FRAGMENT:
	case PROTOCOL_DESTINATION:
	case PROTOCOL_MOBILITY:
	case PROTOCOL_HIP:
	case PROTOCOL_SHIM6:
		s->next = s->v6 ? EXTENSION : DONE;
		return;
	}
	s->next = DONE;
}

always void typed(struct state *s)
{
	switch (s->type) {
	case TYPE_IPV4:
		s->next = IPV4;
		return;
	case TYPE_IPV6:
		s->next = IPV6;
		return;
	case TYPE_DOT1Q:
	case TYPE_DOT1AD:
	case TYPE_QINQ_9100:
	case TYPE_QINQ_9200:
		s->next = VLAN;
		return;
	case TYPE_MPLS:
	case TYPE_MPLS_UPSTREAM:
		s->next = MPLS;
		return;
	case TYPE_PPPOE:
		s->next = PPPOE;
		return;
	}
	s->next = s->type <= 1500 ? LLC : DONE;
}

always void ipv4(struct __sk_buff *skb, struct state *s)
{
	// The ports in one go with the header: a load is what costs most here.
	struct {
		struct ipv4 ip;
		struct ports ports;
	} b;
	bool both = LOAD(b);
	s->next = DONE;
	if (!both && !LOAD(b.ip))
		return;
	struct ipv4 h = b.ip;
	u32 n = (h.version_length & 15) * 4;
	if (h.version_length >> 4 != 4 || n < sizeof(h))
		return;
	s->src_hi = s->dst_hi = 0;
	s->src_lo = V4_MAPPED | bpf_ntohl(h.src);
	s->dst_lo = V4_MAPPED | bpf_ntohl(h.dst);
	s->has_ip = true;
	s->v6 = false;
	s->off += n;
	u16 fragmented = bpf_ntohs(h.fragment) & 0x3fff;
	above(s, h.protocol);
	if (both && n == sizeof(h)) {
		s->sport = bpf_ntohs(b.ports.src);
		s->dport = bpf_ntohs(b.ports.dst);
		s->has_ports = s->next == TRANSPORT;
	}
	if (fragmented)
		fragment(s, bpf_ntohs(h.id), h.protocol, fragmented & 0x1fff);
}

always void ipv6(struct __sk_buff *skb, struct state *s)
{
	struct ipv6 h;
	s->next = DONE;
	if (!LOAD(h) || h.version >> 4 != 6)
		return;
	s->src_hi = bpf_be64_to_cpu(h.src_hi);
	s->src_lo = bpf_be64_to_cpu(h.src_lo);
	s->dst_hi = bpf_be64_to_cpu(h.dst_hi);
	s->dst_lo = bpf_be64_to_cpu(h.dst_lo);
	s->has_ip = true;
	s->v6 = true;
	s->off += sizeof(h);
	above(s, h.protocol);
}

always void extension(struct __sk_buff *skb, struct state *s)
{
	struct {
		u8 protocol, length;
		__be16 offset;
		__be32 id;
	} h;
	u8 kind = s->protocol;
	s->next = DONE;
	if (!LOAD(h))
		return;
	if (kind == PROTOCOL_FRAGMENT) {
		u16 offset = bpf_ntohs(h.offset) & 0xfff9;
		s->off += sizeof(h);
		above(s, h.protocol);
		if (offset)
			fragment(s, bpf_ntohl(h.id), h.protocol, offset & 0xfff8);
		return;
	}
	s->off += kind == PROTOCOL_AH ? (h.length + 2) * 4 : (h.length + 1) * 8;
	above(s, h.protocol);
}

always void transport(struct __sk_buff *skb, struct state *s)
{
	s->next = DONE;
	if (!s->has_ports) {
		struct ports h;
		if (!LOAD(h))
			return;
		s->sport = bpf_ntohs(h.src);
		s->dport = bpf_ntohs(h.dst);
		s->has_ports = true;
	}
	if (s->protocol != PROTOCOL_UDP || s->sport == PORT_DNS)
		return;
	if (s->dport == PORT_DNS) { // an answer has the QR bit (RFC 1035 section 4.1.1)
		u8 flags = 0;
		s->answer = bpf_skb_load_bytes(skb, s->off + 8 + 2, &flags, 1) == 0 && flags & 0x80;
		return;
	}
	if (s->sport == PORT_GTPU || s->dport == PORT_GTPU) {
		s->off += 8;
		s->next = GTPU;
		return;
	}
	if (s->tunnel)
		return;
	if (s->dport == PORT_VXLAN) {
		u8 vxlan[8];
		s->off += 8;
		if (LOAD(vxlan) && vxlan[0] & 8 && vxlan[7] == 0) {
			s->off += 8;
			s->next = ETHERNET;
		}
		return;
	}
	if (s->sport == PORT_GTPC || s->dport == PORT_GTPC || s->sport == PORT_PFCP || s->dport == PORT_PFCP) {
		count(COUNT_CONTROL);
		s->worker = 0;
		s->chosen = true;
	}
}

// start is what tells whether an IP packet fits.
struct start {
	u8 version_length, tos;
	__be16 total;
	__be16 length6;
};

// optional passes the optional part of a GTP-U header at off and its extension
// headers, and returns where the inner packet begins, or 0.
always u32 optional(struct __sk_buff *skb, u32 off, u8 flags)
{
	u8 next, length;
	if (bpf_skb_load_bytes(skb, off + 3, &next, 1))
		return 0;
	off += 4;
	if (!(flags & 4))
		return off;
	for (int i = 0; i < 6 && next; i++) {
		if (bpf_skb_load_bytes(skb, off, &length, 1) || length == 0)
			return 0;
		off += length * 4;
		if (bpf_skb_load_bytes(skb, off - 1, &next, 1))
			return 0;
	}
	return next ? 0 : off;
}

// gtpu passes a G-PDU's header (3GPP TS 29.281 section 5) if what follows is an
// IP packet that fits; anything else on the port is an ordinary datagram. Of a
// fragment only the start is here, and its length proves nothing.
always void gtpu(struct __sk_buff *skb, struct state *s)
{
	struct {
		struct gtpu gtp;
		struct start inner;
	} h;
	s->next = DONE;
	if (!LOAD(h))
		return;
	u32 room = bpf_ntohs(h.gtp.length);
	u32 off = s->off + sizeof(h.gtp), end = off + room;
	bool whole = s->datagram == 0;
	if ((h.gtp.flags & 0xf0) != 0x30 || h.gtp.type != 255 || (whole && end > skb->len))
		return;
	if (h.gtp.flags & 7) {
		off = optional(skb, off, h.gtp.flags);
		if (off == 0 || bpf_skb_load_bytes(skb, off, &h.inner, sizeof(h.inner)))
			return;
	}
	struct start ip = h.inner;
	u32 n = (ip.version_length & 15) * 4, total = bpf_ntohs(ip.total);
	switch (ip.version_length >> 4) {
	case 4:
		if (n < sizeof(struct ipv4) || total < n || off + total > end)
			return;
		s->next = IPV4;
		break;
	case 6:
		if (off + sizeof(struct ipv6) + bpf_ntohs(ip.length6) > end)
			return;
		s->next = IPV6;
		break;
	default:
		return;
	}
	s->off = off;
	s->tunnel = true;
}

// gre passes a GRE header, version 0, and a mirrored frame's ERSPAN header.
always void gre(struct __sk_buff *skb, struct state *s)
{
	struct {
		__be16 flags, type;
	} h;
	s->next = DONE;
	if (!LOAD(h))
		return;
	u16 flags = bpf_ntohs(h.flags);
	if (flags & 0x4007)
		return;
	s->off += sizeof(h);
	s->off += flags & 0x8000 ? 4 : 0;
	s->off += flags & 0x2000 ? 4 : 0;
	s->off += flags & 0x1000 ? 4 : 0;
	s->type = bpf_ntohs(h.type);
	switch (s->type) {
	case TYPE_BRIDGED:
		s->next = ETHERNET;
		return;
	case TYPE_ERSPAN:
		s->off += flags & 0x1000 ? 8 : 0;
		s->next = ETHERNET;
		return;
	case TYPE_ERSPAN_III: {
		u8 last;
		if (bpf_skb_load_bytes(skb, s->off + 11, &last, 1))
			return;
		s->off += last & 1 ? 20 : 12;
		s->next = ETHERNET;
		return;
	}
	}
	if (s->type > 1500)
		s->next = TYPED;
}

// mpls passes a label stack. What follows is told by the first nibble, as
// routers do (RFC 4928 section 2).
always void mpls(struct __sk_buff *skb, struct state *s)
{
	u8 b[4] = {};
	s->next = DONE;
	for (int i = 0; i < MOST_LABELS; i++) {
		if (!LOAD(b))
			return;
		s->off += sizeof(b);
		if (b[2] & 1)
			break;
	}
	if (!(b[2] & 1) || !LOAD(b))
		return;
	switch (b[0] >> 4) {
	case 4:
		s->next = IPV4;
		return;
	case 6:
		s->next = IPV6;
		return;
	case 1:
		return;
	}
	if (b[0] == 0 && b[1] == 0) // a pseudowire's control word
		s->off += sizeof(b);
	s->next = ETHERNET;
}

always void ppp(struct __sk_buff *skb, struct state *s)
{
	u8 b[2];
	s->next = DONE;
	if (!LOAD(b))
		return;
	if (b[0] == 0xff && b[1] == 3) {
		s->off += 2;
		if (!LOAD(b))
			return;
	}
	u16 protocol = b[0];
	s->off += 1;
	if (!(protocol & 1) || protocol == 0xff) {
		protocol = protocol << 8 | b[1];
		s->off += 1;
	}
	if (protocol == PPP_IPV4)
		s->next = IPV4;
	else if (protocol == PPP_IPV6)
		s->next = IPV6;
	else if (protocol == PPP_MPLS)
		s->next = MPLS;
}

// link passes one of the headers in front of an IP header.
always void link(struct __sk_buff *skb, struct state *s)
{
	u8 b[8];
	switch (s->next) {
	case TYPED:
		typed(s);
		return;
	case ETHERNET:
		s->next = DONE;
		if (bpf_skb_load_bytes(skb, s->off + 12, b, 2))
			return;
		s->type = b[0] << 8 | b[1];
		s->off += 14;
		s->next = TYPED;
		return;
	case VLAN:
		s->next = DONE;
		if (bpf_skb_load_bytes(skb, s->off + 2, b, 2))
			return;
		s->type = b[0] << 8 | b[1];
		s->off += 4;
		s->next = TYPED;
		return;
	case LLC:
		s->next = DONE;
		if (!LOAD(b) || b[0] != 0xaa || b[1] != 0xaa || b[2] != 3)
			return;
		s->type = b[6] << 8 | b[7];
		s->off += 8;
		if (s->type > 1500)
			s->next = TYPED;
		return;
	case PPPOE:
		s->next = DONE;
		if (bpf_skb_load_bytes(skb, s->off, b, 2) || b[0] != 0x11 || b[1] != 0)
			return;
		s->off += 6;
		s->next = PPP;
		return;
	case PPP:
		ppp(skb, s);
		return;
	}
	mpls(skb, s);
}

SEC("socket")
int fanout(struct __sk_buff *skb)
{
	u32 zero = 0;
	struct state *s = bpf_map_lookup_elem(&states, &zero);
	if (!s)
		return 0;
	__builtin_memset(s, 0, sizeof(*s));
	s->type = bpf_ntohs(skb->protocol);
	typed(s);
	for (int i = 0; i < MOST_HEADERS && s->next != DONE; i++) {
		switch (s->next) {
		case IPV4:
			ipv4(skb, s);
			break;
		case IPV6:
			ipv6(skb, s);
			break;
		case TRANSPORT:
			transport(skb, s);
			break;
		case GTPU:
			gtpu(skb, s);
			break;
		case EXTENSION:
			extension(skb, s);
			break;
		case GRE:
			gre(skb, s);
			break;
		default:
			link(skb, s);
		}
	}
	if (!s->chosen && !s->has_ip) {
		count(COUNT_NOT_IP);
		return 0;
	}
	u32 worker = s->chosen ? s->worker : owner(s);
	if (s->datagram)
		remember(s->datagram, worker, s->stray && !s->inner_datagram);
	if (s->inner_datagram)
		remember(s->inner_datagram, worker, s->stray);
	return worker;
}

char _license[] SEC("license") = "Apache-2.0";
