package probe

import (
	"encoding/binary"

	"github.com/nametap/nametap/capture/decode"
)

// One packet can pass a tap twice: on two mirror ports, on S1-U and again on
// S5-U, or going into and out of a switch whose port is mirrored. The copies are
// equal from the inner IP header on but for what a router changes, the TTL and
// checksums, and come within milliseconds. What keeps a true repeat of a sender
// from being taken for a copy:
//
//   - IPv4 with an identification (RFC 6864 lets a sender of atomic packets
//     choose any; most count): a repeat is a new packet with a new one. Same
//     identification and same headers within the window: a copy.
//   - IPv6, and IPv4 with identification 0: equal packets may be true ones
//     (three duplicate acknowledgments within a millisecond are). Only what was
//     seen in another place (interface, VLAN, tunnel or distance, by TTL) is a
//     copy.
//   - A retransmission comes a round trip or 200 ms later (RFC 6298), with
//     another TSval where time stamps are in use; the window is shorter.
//   - A third sighting in the place of the first is not explained by one tap
//     point more, so each place counts once.

// The table begins at 4,096 packets in 64 KiB, which stay in the second-level
// cache, and doubles up to 131,072 in 2 MiB while packets younger than the window
// have to make room: at two million packets a second and a window of 10 ms,
// 20,000 are of interest. What it knew is forgotten then, a few milliseconds'
// worth; which packets those are hangs on the packets before them alone.
const (
	firstBuckets = 1 << 11
	mostBuckets  = 1 << 16
	// crowdedEvery packets, one in crowdedShare may be pushed out too young.
	crowdedEvery = 1 << 14
	crowdedShare = 16
)

// dedup remembers the packets of the last few milliseconds.
type dedup struct {
	window  int64 // nanoseconds; 0 turns it off
	seed    uint64
	buckets []dedupBucket
	mask    uint64
	seen    uint32 // packets since the last look at crowded
	crowded uint32 // of them, those that pushed out one younger than the window
	// Packets and Bytes (IP) counted as copies.
	Packets, Bytes uint64
	// Early counts packets that were forgotten within the window for want of
	// room.
	Early uint64
}

// dedupBucket holds two packets, the younger one first.
type dedupBucket [2]dedupSlot

type dedupSlot struct {
	mark    uint32
	time    uint32 // microseconds (more exactly 1,024 ns), modulo 2^32
	place   uint32
	gateway uint32 // number of the tunnel's gateway, 0 without one
}

func newDedup(window int64, seed uint64) dedup {
	d := dedup{window: window, seed: seed}
	if window > 0 {
		d.size(firstBuckets)
	}
	return d
}

func (d *dedup) size(buckets int) {
	d.buckets, d.mask = make([]dedupBucket, buckets), uint64(buckets-1)
}

// touch loads what copied will read first.
func (d *dedup) touch(mark uint64) uint64 {
	if d.window == 0 {
		return 0
	}
	return uint64(d.buckets[mark&d.mask][0].mark)
}

// copied reports whether p is a copy of a packet seen a moment ago, and counts
// it. mark is d.mark(p); port says on which interface p was captured, gateway in
// front of which gateway; first is the gateway of the copy that counted.
func (d *dedup) copied(p *decode.Packet, mark uint64, port uint16, gateway uint32) (first uint32, copied bool) {
	if d.window == 0 {
		return 0, false
	}
	b := &d.buckets[mark&d.mask]
	now := uint32(p.Time >> 10)
	tag, place := uint32(mark>>32), placeOf(p, port)
	for i := range b {
		s := &b[i]
		if s.mark != tag || p.IPID == 0 && s.place == place {
			continue
		}
		if age := int64(int32(now-s.time)) << 10; age <= d.window && -age <= d.window {
			d.Packets++
			d.Bytes += uint64(p.IPBytes)
			return s.gateway, true
		}
	}
	if int64(now-b[1].time)<<10 <= d.window {
		d.crowded++
		d.Early++
	}
	b[1] = b[0]
	b[0] = dedupSlot{tag, now, place, gateway}
	if d.seen++; d.seen == crowdedEvery {
		d.look()
	}
	return 0, false
}

// look doubles the table if it was too small for what has passed since the last
// look.
func (d *dedup) look() {
	if d.crowded > crowdedEvery/crowdedShare && len(d.buckets) < mostBuckets {
		d.size(2 * len(d.buckets))
	}
	d.seen, d.crowded = 0, 0
}

// placeOf stands for where a packet was captured.
func placeOf(p *decode.Packet, port uint16) uint32 {
	h := mix(uint64(port)|uint64(p.VLAN)<<16|uint64(p.TTL)<<32, 1)
	if p.Tunnel != decode.TunnelNone {
		h = mix(h^uint64(p.TEID), p.OuterDst.Lo^p.OuterSrc.Lo<<1)
	}
	return uint32(h)
}

// mark stands for what copies have in common. The products do not wait for each
// other: a chain of them would be most of what a copy costs to recognise.
func (d *dedup) mark(p *decode.Packet) uint64 {
	who := product(p.Src.Lo^d.seed, p.Dst.Lo^markServer) ^ product(p.Src.Hi^markUpper, p.Dst.Hi^d.seed)
	what := uint64(p.IPID)<<48 | uint64(p.SrcPort)<<32 | uint64(p.DstPort)<<16 | uint64(uint16(p.IPBytes))
	if p.Protocol != decode.ProtocolTCP {
		what ^= uint64(p.Protocol) << 56
		first := uint64(0)
		if payload := p.Payload(); len(payload) >= 8 {
			first = binary.BigEndian.Uint64(payload)
		}
		return mix(who^first, what)
	}
	how := uint64(p.Flags)<<56 | uint64(p.Window)<<20 | uint64(p.PayloadLen)
	if len(p.Transport) >= 18 {
		// The checksum covers the payload: two segments of one stream with
		// the same numbers and other bytes are not copies.
		how |= uint64(binary.BigEndian.Uint16(p.Transport[16:])) << 36
	}
	where := product(uint64(p.Seq)<<32|uint64(p.Ack), how^markHow)
	if p.HasTimestamps {
		where ^= product(uint64(p.TSval)<<32|uint64(p.TSecr), markStamps)
	}
	return mix(who^where, what)
}

// Odd numbers without a pattern, one for each kind of word: equal words in
// different places give different products.
const (
	markServer = 0xe30d65e5eccf7d57
	markUpper  = 0x9cb000fc4a11ffd3
	markHow    = 0xd514ed2cd3572a05
	markStamps = 0xe24408d225d05d37
)
