package decode

import (
	"encoding/binary"
	"math"
)

// The straight ways read what nearly every frame is without a cursor: Ethernet,
// up to two VLAN tags, perhaps a GTP-U tunnel over IPv4, then IPv4 without
// options or IPv6 without extension headers, and TCP or UDP. They know only
// headers without fault that were captured whole, and leave all else to the
// walk, which begins anew, whatever they have left in the Packet. Plain is the
// straightest of them.
//
// Bytes are compared as a little-endian load finds them, which spares turning
// them round, and headers are pointers to arrays, whose bounds are known.

// straightDepth is the most headers that they pass, as the walk counts them:
// Ethernet, two tags, IP, UDP, a GTP-U extension, IP, TCP.
const straightDepth = 8

// noLink is no link type; a file may claim any that fits into Link.
const noLink = -1

// outermost is the room of an IP packet in no tunnel: its header is believed
// even where it claims more than the frame has (see the package's comment).
const outermost = math.MaxUint16 + ipv6Len

// Values as they stand in a header, loaded little-endian.
const (
	wireIPv4       = typeIPv4>>8 | typeIPv4&0xff<<8
	wireIPv6       = typeIPv6>>8 | typeIPv6&0xff<<8
	wireDot1Q      = typeDot1Q>>8 | typeDot1Q&0xff<<8
	wireDot1ad     = typeDot1ad>>8 | typeDot1ad&0xff<<8
	wireGTPU       = portGTPU>>8 | portGTPU&0xff<<8
	wireGPDU       = gtpVersion1 | gtpGPDU<<8
	wireGPDUMask   = gtpVersionMask | 0xff<<8
	wireTimestamps = optionNoOp | optionNoOp<<8 | optionTimestamps<<16 | timestampsLen<<24

	// From the flags of an IPv4 header on: the protocol of a packet that is no
	// fragment, whatever its time to live and "do not fragment".
	wireTCP   = ProtocolTCP << 24
	wireUDP   = ProtocolUDP << 24
	wireWhole = 0xff00ffff &^ 0x40
)

// usualTCPLen is the length of a TCP header with nothing but time stamps as
// every system lays them out (RFC 7323 appendix A).
const usualTCPLen = tcpLen + 2 + timestampsLen

// headers4 are an IPv4 header without options and 20 bytes behind it: of a TCP
// header, or of the headers of UDP and GTP-U with the optional octets.
type headers4 [ipv4Len + tcpLen]byte

// plain reports whether there are no options and the packet is whole; protocol
// is a wire value.
func (h *headers4) plain(protocol uint32) bool {
	return h[0] == 0x45 && binary.LittleEndian.Uint32(h[6:10])&wireWhole == protocol
}

// total is the packet's total length.
func (h *headers4) total() int { return int(binary.BigEndian.Uint16(h[2:4])) }

// tcpLen is the length of the TCP header.
func (h *headers4) tcpLen() int { return int(h[ipv4Len+12]) >> 2 & 0x3c }

// gtpPort reports whether a UDP port is GTP-U's.
func (h *headers4) gtpPort() bool {
	return binary.LittleEndian.Uint16(h[22:24]) == wireGTPU || binary.LittleEndian.Uint16(h[20:22]) == wireGTPU
}

// straight decodes an Ethernet frame that is more than IPv4 and TCP. Like
// Plain, it reads these two itself and ends by calling what comes next: a call
// that may come back undecided would have to keep all arguments for the walk. It is
// not inlined, so that Decode is.
//
//go:noinline
func (d *Decoder) straight(frame []byte, wireLen uint32, vlan uint16, p *Packet) Outcome {
	if len(frame) < ethernetLen+ipv4Len+tcpLen {
		return d.walk(frame, wireLen, LinkEthernet, vlan, p)
	}
	p.VLAN = vlan & vlanIdentifierMask
	b, room := frame[ethernetLen:len(frame):len(frame)], outermost
	if t := binary.LittleEndian.Uint16(frame[12:14]); t != wireIPv4 {
		b, t = straightTags(b, t, p)
		if t != wireIPv4 || len(b) < ipv4Len+tcpLen {
			p.Tunnel, p.Fragmented = TunnelNone, false
			return d.straightOther(frame, wireLen, vlan, len(frame)-len(b), room, p)
		}
	}
	p.Tunnel, p.Fragmented = TunnelNone, false
	if h := (*headers4)(b); h.plain(wireUDP) && h.gtpPort() {
		flags, datagram := h[28], int(binary.BigEndian.Uint16(h[24:26]))
		room = int(binary.BigEndian.Uint16(h[30:32]))
		if binary.LittleEndian.Uint16(h[28:30])&wireGPDUMask != wireGPDU ||
			datagram > h.total()-ipv4Len || room > datagram-udpLen-gtpLen {
			return d.walk(frame, wireLen, LinkEthernet, vlan, p)
		}
		p.Tunnel = TunnelGTP
		p.OuterSrc, p.OuterDst = AddrFrom4(h[12:16]), AddrFrom4(h[16:20])
		p.TEID = binary.BigEndian.Uint32(h[32:36])
		b = b[ipv4Len+udpLen+gtpLen:]
		if flags&gtpOptionalMask != 0 {
			extended := flags&gtpExtension != 0 && b[3] != 0
			b, room = b[gtpOptionalLen:], room-gtpOptionalLen
			if extended {
				n := gtpExtensionLen(b)
				if n == 0 {
					return d.walk(frame, wireLen, LinkEthernet, vlan, p)
				}
				b, room = b[n:], room-n
			}
		}
	}
	if len(b) >= ipv4Len+tcpLen {
		if h := (*headers4)(b); h.plain(wireTCP) {
			n, total := h.tcpLen(), h.total()
			end := min(total, len(b))
			if total > room || n < tcpLen || ipv4Len+n > end {
				return d.walk(frame, wireLen, LinkEthernet, vlan, p)
			}
			p.IPBytes = uint32(total)
			p.ipv4((*[ipv4Len]byte)(h[:]))
			p.tcp((*[tcpLen]byte)(h[ipv4Len:]), n, total-ipv4Len)
			p.Transport = b[ipv4Len:end:end]
			if usualOptions(p.Transport, n) {
				p.usualTimestamps((*[usualTCPLen]byte)(p.Transport))
				return TCP
			}
			p.TSval, p.TSecr, p.HasTimestamps = timestamps(p.Transport[tcpLen:n])
			return TCP
		}
	}
	return d.straightOther(frame, wireLen, vlan, len(frame)-len(b), room, p)
}

// gtpExtensionLen is the length of the GTP-U extension header in front of b if
// it is the last, as 5G's PDU session container always is, else 0.
func gtpExtensionLen(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	n := int(b[0]) * 4
	if n == 0 || n > len(b) || b[n-1] != 0 {
		return 0
	}
	return n
}

// straightTags passes one or two VLAN tags of an Ethernet frame with the
// EtherType t, a wire value, and returns what is behind them.
func straightTags(b []byte, t uint16, p *Packet) ([]byte, uint16) {
	for range 2 {
		if t != wireDot1Q && t != wireDot1ad || len(b) < vlanLen {
			break
		}
		if v := binary.BigEndian.Uint16(b[0:2]) & vlanIdentifierMask; v != 0 {
			p.VLAN = v
		}
		b, t = b[vlanLen:], binary.LittleEndian.Uint16(b[2:4])
	}
	return b, t
}

// straightOther reads what is not TCP over IPv4: the IP packet at an offset of
// the frame, behind an EtherType or in a tunnel, with at most room bytes.
func (d *Decoder) straightOther(frame []byte, wireLen uint32, vlan uint16, at, room int, p *Packet) Outcome {
	b, t := frame[at:], binary.LittleEndian.Uint16(frame[at-2:at])
	if p.Tunnel == TunnelGTP { // there is no EtherType; the version tells
		t = wireIPv4
		if len(b) > 0 && b[0]>>4 == 6 {
			t = wireIPv6
		}
	}
	switch {
	case t == wireIPv4 && straightUDP4(b, room, p):
		return UDP
	case t == wireIPv6 && straight6(b, room, p):
		return outcomeOf(p)
	}
	return d.walk(frame, wireLen, LinkEthernet, vlan, p)
}

// outcomeOf is the outcome of a packet that a straight way has read.
func outcomeOf(p *Packet) Outcome {
	if p.Protocol == ProtocolTCP {
		return TCP
	}
	return UDP
}

// straightUDP4 reads an IPv4 packet of at most room bytes with UDP.
func straightUDP4(b []byte, room int, p *Packet) bool {
	if len(b) < ipv4Len+udpLen {
		return false
	}
	total := int(binary.BigEndian.Uint16(b[2:4]))
	if b[0] != 0x45 || binary.LittleEndian.Uint32(b[6:10])&wireWhole != wireUDP || total > room || total < ipv4Len+udpLen {
		return false
	}
	p.IPBytes = uint32(total)
	p.ipv4((*[ipv4Len]byte)(b))
	end := min(total, len(b))
	return straightUDP(b[ipv4Len:end:end], total-ipv4Len, p)
}

// straight6 reads an IPv6 packet of at most room bytes. Payload length 0, which
// can mean another length, has no room for a header here: it is the walk's.
func straight6(b []byte, room int, p *Packet) bool {
	if len(b) < ipv6Len {
		return false
	}
	h := (*[ipv6Len]byte)(b)
	left := int(binary.BigEndian.Uint16(h[4:6]))
	if h[0]>>4 != 6 || ipv6Len+left > room {
		return false
	}
	p.IPBytes = uint32(ipv6Len + left)
	p.ipv6(h)
	end := min(ipv6Len+left, len(b))
	b = b[ipv6Len:end:end]
	switch p.Protocol {
	case ProtocolTCP:
		return straightTCP(b, left, p)
	case ProtocolUDP:
		return straightUDP(b, left, p)
	}
	return false
}

// straightTCP reads a TCP segment of left bytes, of which b was captured.
func straightTCP(b []byte, left int, p *Packet) bool {
	if len(b) < tcpLen {
		return false
	}
	n := int(b[12]) >> 2 & 0x3c
	if n < tcpLen || n > len(b) {
		return false
	}
	p.tcp((*[tcpLen]byte)(b), n, left)
	p.Transport = b
	if usualOptions(b, n) {
		p.usualTimestamps((*[usualTCPLen]byte)(b))
	} else {
		p.TSval, p.TSecr, p.HasTimestamps = timestamps(b[tcpLen:n])
	}
	return true
}

// straightUDP reads a UDP datagram in left bytes, of which b was captured. It
// leaves tunnels to the walk.
func straightUDP(b []byte, left int, p *Packet) bool {
	if len(b) < udpLen {
		return false
	}
	src, dst, n := binary.BigEndian.Uint16(b[0:2]), binary.BigEndian.Uint16(b[2:4]), int(binary.BigEndian.Uint16(b[4:6]))
	if n < udpLen || n > left || tunnelPort(src) || tunnelPort(dst) {
		return false
	}
	p.SrcPort, p.DstPort = src, dst
	p.HeaderLen = udpLen
	p.PayloadLen = uint32(n - udpLen)
	p.Transport = b[:min(n, len(b))]
	return true
}

// tunnelPort reports whether a tunnel may be behind a UDP port.
func tunnelPort(port uint16) bool {
	return port == portGTPU || port == portVXLAN || port == portTeredo
}
