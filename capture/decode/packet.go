package decode

import (
	"encoding/binary"
	"net/netip"
)

// Addr is an IP address in network order, as two halves. An IPv4 address is
// kept in its IPv4-mapped form (::ffff:a.b.c.d, RFC 4291 section 2.5.5.2), so
// that one key and one code path serve both families and no long-lived entry
// holds a pointer.
type Addr struct{ Hi, Lo uint64 }

const v4Prefix = 0xffff << 32

// AddrFrom4 returns the address of the four bytes at b.
func AddrFrom4(b []byte) Addr {
	return Addr{0, v4Prefix | uint64(binary.BigEndian.Uint32(b))}
}

// AddrFrom16 returns the address of the sixteen bytes at b.
func AddrFrom16(b []byte) Addr {
	return Addr{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

// AddrFrom returns a as an Addr. A zone is dropped.
func AddrFrom(a netip.Addr) Addr {
	b := a.As16()
	return AddrFrom16(b[:])
}

// Is4 reports whether a is an IPv4 address.
func (a Addr) Is4() bool { return a.Hi == 0 && a.Lo>>32 == 0xffff }

// Netip returns a in the standard library's form, IPv4 unmapped.
func (a Addr) Netip() netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.Hi)
	binary.BigEndian.PutUint64(b[8:], a.Lo)
	return netip.AddrFrom16(b).Unmap()
}

// Prefix returns the 64 bits that tell subscribers apart: an IPv4 address
// whole, of an IPv6 address its /64, because a handset owns all of it
// (3GPP TS 23.401 section 5.3.1.2.2).
func (a Addr) Prefix() uint64 {
	if a.Is4() {
		return a.Lo
	}
	return a.Hi
}

// Compare orders addresses as their bytes are ordered.
func (a Addr) Compare(b Addr) int {
	switch {
	case a == b:
		return 0
	case a.Hi < b.Hi, a.Hi == b.Hi && a.Lo < b.Lo:
		return -1
	}
	return 1
}

// TCP flags as they stand in the header (RFC 9293 section 3.1).
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
)

// Protocol numbers that a Packet can carry.
const (
	ProtocolTCP = 6
	ProtocolUDP = 17
)

// Tunnel says inside what the innermost IP packet was found.
type Tunnel uint8

// Tunnels. Only GTP has a meaning for flows (it scopes a subscriber);
// the others are taken off and forgotten.
const (
	TunnelNone Tunnel = iota
	TunnelGTP
)

// Packet is the innermost IP packet of a frame, when Decode's outcome is TCP,
// UDP or OtherIP. One value is reused for many frames: a field that is not
// called always valid, and any field after another outcome, holds what an
// earlier frame or an outer packet left there.
//
// What is read of every segment comes first, so that little of a packet has to
// get from the processor that decodes it to the one that works it.
type Packet struct {
	// Time is the packet's time stamp in nanoseconds since 1970. Set by
	// whoever calls Decode, never by Decode.
	Time int64

	// Src and Dst of the innermost IP header. Always valid.
	Src, Dst Addr

	// Seq, Ack, Window, Flags are valid for TCP. Here and below, fields that
	// follow each other in a header stand in the opposite order: a big-endian
	// load of both then takes one store on a little-endian machine.
	Ack, Seq uint32

	// TSval and TSecr are the TCP time stamp option's, 0 without one. Valid
	// for TCP.
	TSecr, TSval uint32

	// SrcPort and DstPort are valid for TCP and UDP.
	DstPort, SrcPort uint16

	// PayloadLen is the length on the wire of what follows the transport
	// header; the captured part, Payload, may be shorter. Valid for TCP
	// and UDP.
	PayloadLen uint32

	// IPBytes is the total length of the IP packet by its header, of a
	// fragmented one the sum over its fragments, repeats left out. If not
	// this packet but one around it was fragmented, it is this one's own
	// length. Always valid.
	IPBytes uint32

	Window uint16
	Flags  uint8

	// HasTimestamps says whether there is a time stamp option (RFC 7323).
	// Valid for TCP.
	HasTimestamps bool

	// Tunnel says whether TEID, OuterSrc and OuterDst are valid. Always
	// valid itself.
	Tunnel Tunnel

	// Fragmented says that the packet, or one around it, was put together
	// from fragments, so that Transport is in the Decoder's Scratch. Always
	// valid.
	Fragmented bool

	// TTL is the IPv4 time to live or IPv6 hop limit, of a fragmented
	// packet its first fragment's. Always valid.
	TTL uint8

	// Protocol is ProtocolTCP, ProtocolUDP, or another IP protocol number.
	// Always valid.
	Protocol uint8

	// IPID is the IPv4 identification; 0 for IPv6. Always valid.
	IPID uint16

	// VLAN is the innermost 802.1Q VLAN identifier before the first IP
	// header, 0 without one. Always valid.
	VLAN uint16

	// Transport is what was captured from the transport header on. It
	// points into the frame (or, for a reassembled packet, into the
	// Decoder's scratch space) and dies with it. Always valid.
	Transport []byte

	// HeaderLen is the length of the transport header, options included,
	// on the wire; Transport may be shorter. Valid for TCP and UDP.
	HeaderLen uint8

	// TEID is the tunnel endpoint identifier of the innermost GTP-U header
	// and OuterSrc and OuterDst the addresses of the IP packet around it.
	TEID               uint32
	OuterSrc, OuterDst Addr
}

// IPv4 returns Src and Dst as numbers, and whether both are IPv4 addresses. Always
// valid.
func (p *Packet) IPv4() (src, dst uint32, ok bool) {
	s, d := p.Src.Lo^v4Prefix, p.Dst.Lo^v4Prefix
	return uint32(s), uint32(d), (s|d)>>32|p.Src.Hi|p.Dst.Hi == 0
}

// Payload returns what was captured of the bytes after the transport header:
// at most PayloadLen bytes, none if the capture ends within the header. Valid
// for TCP and UDP.
func (p *Packet) Payload() []byte {
	return p.Transport[min(int(p.HeaderLen), len(p.Transport)):]
}

// Options returns the TCP options as far as they were captured. Valid for TCP.
func (p *Packet) Options() []byte {
	return p.Transport[min(tcpLen, len(p.Transport)):min(max(tcpLen, int(p.HeaderLen)), len(p.Transport))]
}

// String returns the tunnel's name in records, empty for none.
func (t Tunnel) String() string {
	if t == TunnelGTP {
		return "gtp"
	}
	return ""
}
