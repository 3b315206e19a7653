package contract

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/miekg/dns"
)

// Packets, written by hand from the documents, so that no library's idea of a
// header stands between a trace and its truth. Checksums are left 0: network
// cards fill them in behind the tap, and nametap does not look at them.

var be = binary.BigEndian

const (
	protocolTCP = 6
	protocolUDP = 17

	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
)

// TCP flags (RFC 9293 section 3.1).
const (
	fin = 1 << iota
	syn
	rst
	psh
	ack
)

func join(parts ...[]byte) []byte { return slices.Concat(parts...) }

// ipPacket is an IPv4 or IPv6 packet, as the addresses say.
func ipPacket(src, dst netip.Addr, protocol byte, id uint16, payload []byte) []byte {
	if src.Is4() {
		return ipv4(src, dst, protocol, id, 0, payload)
	}
	return ipv6(src, dst, protocol, payload)
}

// ipv4 is RFC 791 section 3.1; fragment is its flags and offset.
func ipv4(src, dst netip.Addr, protocol byte, id, fragment uint16, payload []byte) []byte {
	b := []byte{0x45, 0}
	b = be.AppendUint16(b, uint16(20+len(payload)))
	b = be.AppendUint16(b, id)
	b = be.AppendUint16(b, fragment)
	b = append(b, 63, protocol, 0, 0)
	return join(b, src.AsSlice(), dst.AsSlice(), payload)
}

// ipv6 is RFC 8200 section 3.
func ipv6(src, dst netip.Addr, next byte, payload []byte) []byte {
	b := []byte{0x60, 0, 0, 0}
	b = be.AppendUint16(b, uint16(len(payload)))
	b = append(b, next, 63)
	return join(b, src.AsSlice(), dst.AsSlice(), payload)
}

// fragments4 cuts an IPv4 packet into fragments of at most size bytes of payload
// each, a multiple of 8.
func fragments4(packet []byte, size int) (cut [][]byte) {
	src, _ := netip.AddrFromSlice(packet[12:16])
	dst, _ := netip.AddrFromSlice(packet[16:20])
	id := be.Uint16(packet[4:])
	payload := packet[20:]
	for at := 0; at < len(payload); at += size {
		end, flags := min(at+size, len(payload)), uint16(at/8)
		if end < len(payload) {
			flags |= 0x2000
		}
		cut = append(cut, ipv4(src, dst, packet[9], id, flags, payload[at:end]))
	}
	return cut
}

// fragments6 does the same for IPv6 (RFC 8200 section 4.5).
func fragments6(packet []byte, id uint32, size int) (cut [][]byte) {
	src, _ := netip.AddrFromSlice(packet[8:24])
	dst, _ := netip.AddrFromSlice(packet[24:40])
	payload := packet[40:]
	for at := 0; at < len(payload); at += size {
		end, more := min(at+size, len(payload)), uint16(0)
		if end < len(payload) {
			more = 1
		}
		header := []byte{packet[6], 0}
		header = be.AppendUint16(header, uint16(at)|more)
		header = be.AppendUint32(header, id)
		cut = append(cut, ipv6(src, dst, 44, join(header, payload[at:end])))
	}
	return cut
}

func udp(src, dst uint16, payload []byte) []byte {
	var b []byte
	b = be.AppendUint16(b, src)
	b = be.AppendUint16(b, dst)
	b = be.AppendUint16(b, uint16(8+len(payload)))
	return join(b, []byte{0, 0}, payload)
}

// segment is a TCP segment; options must fill words of four bytes.
type segment struct {
	flags    byte
	seq, ack uint32
	options  []byte
	payload  []byte
}

func (s *segment) bytes(src, dst uint16) []byte {
	var b []byte
	b = be.AppendUint16(b, src)
	b = be.AppendUint16(b, dst)
	b = be.AppendUint32(b, s.seq)
	b = be.AppendUint32(b, s.ack)
	b = append(b, byte(20+len(s.options))<<2, s.flags, 0xff, 0xff, 0, 0, 0, 0)
	return join(b, s.options, s.payload)
}

// length is what the segment takes of the sequence space.
func (s *segment) length() uint32 {
	n := uint32(len(s.payload))
	if s.flags&syn != 0 {
		n++
	}
	if s.flags&fin != 0 {
		n++
	}
	return n
}

// etherType of an IP packet.
func etherType(ip []byte) uint16 {
	if ip[0]>>4 == 6 {
		return etherIPv6
	}
	return etherIPv4
}

func ethernet(t uint16, payload []byte) []byte {
	b := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}
	return join(be.AppendUint16(b, t), payload)
}

// tag is what follows the EtherType 0x8100 or 0x88a8.
func tag(id, t uint16, payload []byte) []byte {
	var b []byte
	b = be.AppendUint16(b, id)
	return join(be.AppendUint16(b, t), payload)
}

// labels is an MPLS stack (RFC 3032 section 2.1).
func labels(ip []byte, values ...uint32) []byte {
	var b []byte
	for i, v := range values {
		word := v<<12 | 64
		if i == len(values)-1 {
			word |= 1 << 8
		}
		b = be.AppendUint32(b, word)
	}
	return join(b, ip)
}

// pppoe is a PPPoE session frame (RFC 2516 section 4).
func pppoe(ip []byte) []byte {
	b := []byte{0x11, 0, 0x12, 0x34}
	b = be.AppendUint16(b, uint16(2+len(ip)))
	protocol := uint16(0x0021)
	if etherType(ip) == etherIPv6 {
		protocol = 0x0057
	}
	return join(be.AppendUint16(b, protocol), ip)
}

// gre is RFC 2784 section 2 with the optional fields of RFC 2890 that flags ask
// for.
func gre(flags, t uint16, payload []byte) []byte {
	var b []byte
	b = be.AppendUint16(b, flags)
	b = be.AppendUint16(b, t)
	for _, flag := range []uint16{0x8000, 0x2000, 0x1000} { // checksum, key, sequence number
		if flags&flag != 0 {
			b = append(b, 0, 0, 0, 7)
		}
	}
	return join(b, payload)
}

// vxlan is RFC 7348 section 5.
func vxlan(frame []byte) []byte { return join([]byte{8, 0, 0, 0, 0, 0, 42, 0}, frame) }

// gtpu is a G-PDU (3GPP TS 29.281 section 5.1). flags are E, S and PN; extensions
// the chain of extension headers, each beginning with its length and without
// the type that it is announced by; types those types.
func gtpu(flags byte, teid uint32, tpdu []byte, types []byte, extensions ...[]byte) []byte {
	var rest []byte
	if flags&7 != 0 {
		rest = []byte{0x12, 0x34, 0, 0} // sequence number, N-PDU number, next type
	}
	types = append(types, 0)
	if flags&4 != 0 {
		rest[3] = types[0]
	}
	for i, e := range extensions {
		rest = join(rest, e, types[i+1:i+2])
	}
	b := []byte{0x30 | flags, 255}
	b = be.AppendUint16(b, uint16(len(rest)+len(tpdu)))
	b = be.AppendUint32(b, teid)
	return join(b, rest, tpdu)
}

// sll is Linux's cooked header, sll2 its second version
// (https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL.html and _SLL2).
func sll(t uint16, payload []byte) []byte {
	b := []byte{0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0}
	return join(be.AppendUint16(b, t), payload)
}

func sll2(t uint16, payload []byte) []byte {
	b := be.AppendUint16(nil, t)
	return join(b, []byte{0, 0, 0, 0, 0, 3, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0}, payload)
}

// answer is a DNS response.
type answer struct {
	name  string
	ttl   uint32
	addrs []string
	chain []string // CNAMEs from name to the owner of the addresses
	rcode int
	edns  bool
	plain bool // names not compressed
}

func (a answer) message() *dns.Msg {
	m := &dns.Msg{}
	kind := dns.TypeA
	if len(a.addrs) > 0 && netip.MustParseAddr(a.addrs[0]).Is6() {
		kind = dns.TypeAAAA
	}
	m.SetQuestion(dns.Fqdn(a.name), kind)
	m.Response, m.Rcode, m.Compress = true, a.rcode, !a.plain
	owner := dns.Fqdn(a.name)
	for _, target := range a.chain {
		m.Answer = append(m.Answer, &dns.CNAME{
			Hdr:    dns.RR_Header{Name: owner, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: a.ttl},
			Target: dns.Fqdn(target),
		})
		owner = dns.Fqdn(target)
	}
	for _, addr := range a.addrs {
		ip := netip.MustParseAddr(addr)
		h := dns.RR_Header{Name: owner, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: a.ttl}
		if ip.Is4() {
			m.Answer = append(m.Answer, &dns.A{Hdr: h, A: ip.AsSlice()})
			continue
		}
		h.Rrtype = dns.TypeAAAA
		m.Answer = append(m.Answer, &dns.AAAA{Hdr: h, AAAA: ip.AsSlice()})
	}
	if a.edns {
		m.SetEdns0(1232, false)
	}
	return m
}

func (a answer) bytes() []byte { return packed(a.message()) }

func packed(m *dns.Msg) []byte {
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

// overTCP puts the length before each message (RFC 1035 section 4.2.2).
func overTCP(messages ...[]byte) (b []byte) {
	for _, m := range messages {
		b = append(be.AppendUint16(b, uint16(len(m))), m...)
	}
	return b
}

// hello is a TLS ClientHello (RFC 8446 section 4.1.2) in as few records as hold
// it.
type hello struct {
	sni  string
	ech  bool
	pad  int // bytes of padding (RFC 7685) before the server name
	tail int // and after it
}

func (h hello) bytes() []byte {
	extension := func(kind uint16, body []byte) []byte {
		b := be.AppendUint16(nil, kind)
		return join(be.AppendUint16(b, uint16(len(body))), body)
	}
	var extensions []byte
	if h.pad > 0 {
		extensions = join(extensions, extension(21, make([]byte, h.pad)))
	}
	if h.sni != "" {
		name := join([]byte{0}, be.AppendUint16(nil, uint16(len(h.sni))), []byte(h.sni))
		extensions = join(extensions, extension(0, join(be.AppendUint16(nil, uint16(len(name))), name)))
	}
	if h.ech {
		extensions = join(extensions, extension(0xfe0d, make([]byte, 40)))
	}
	if h.tail > 0 {
		extensions = join(extensions, extension(0x5a5a, make([]byte, h.tail)))
	}
	body := join([]byte{3, 3}, make([]byte, 32), []byte{0}, // version, random, no session
		[]byte{0, 2, 0x13, 0x01}, []byte{1, 0}, // one cipher suite, no compression
		be.AppendUint16(nil, uint16(len(extensions))), extensions)
	message := join([]byte{1, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body)
	var records []byte
	for len(message) > 0 {
		n := min(len(message), 1<<14)
		records = join(records, []byte{22, 3, 1}, be.AppendUint16(nil, uint16(n)), message[:n])
		message = message[n:]
	}
	return records
}
