package decode

import "encoding/binary"

// IP protocol numbers (iana.org/assignments/protocol-numbers) that Decode
// looks behind. The second group are IPv6 extension headers.
const (
	protocolIPv4 = 4
	protocolIPv6 = 41
	protocolGRE  = 47
	protocolAH   = 51

	protocolHopByHop    = 0
	protocolRouting     = 43
	protocolFragment    = 44
	protocolNoNext      = 59
	protocolDestination = 60
	protocolMobility    = 135
	protocolHIP         = 139
	protocolShim6       = 140
)

const (
	ipv4Len      = 20
	ipv6Len      = 40
	extensionLen = 8 // the least

	// moreFragments and fragmentOffset are the parts of IPv4's second word
	// that make a packet a fragment (RFC 791 section 3.1).
	moreFragments  = 0x2000
	fragmentOffset = 0x1fff

	// maxOffload is the most bytes that Linux hands to segmentation offload
	// at once (GSO_MAX_SIZE). A capture file can claim 4 GiB for a frame.
	maxOffload = 8 * 65535
)

// ipv4 reads an IPv4 header (RFC 791 section 3.1).
func (d *Decoder) ipv4(c *cursor, p *Packet) header {
	b := c.b
	if len(b) < ipv4Len {
		return c.short(ipv4Len, BadIP)
	}
	n := int(b[0]&15) * 4
	if b[0]>>4 != 4 || n < ipv4Len {
		return c.end(BadIP)
	}
	total := int(binary.BigEndian.Uint16(b[2:4]))
	if total == 0 && c.left <= maxOffload {
		total = c.left
	}
	room, ok := c.room(total)
	if room < n || !ok {
		return c.end(BadIP)
	}
	if len(b) < n {
		return c.end(CutFrame)
	}
	if len(b) > room {
		b = b[:room] // Ethernet padding, trailers
	}
	fragment := binary.BigEndian.Uint16(b[6:8])
	p.IPBytes = uint32(total)
	p.ipv4((*[ipv4Len]byte)(b))
	protocol := b[9]
	c.b, c.left = b[n:], room-n
	c.packets++
	c.v6 = false
	if fragment&(moreFragments|fragmentOffset) != 0 {
		start := int(fragment&fragmentOffset) * 8
		return d.fragment(c, p, uint32(p.IPID), piece{
			start: start, limit: maxIPLen - n,
			more: fragment&moreFragments != 0, protocol: protocol,
		})
	}
	return c.above(protocol, p)
}

// ipv4 notes what an IPv4 header says of the packet, its length left out.
func (p *Packet) ipv4(h *[ipv4Len]byte) {
	p.Src, p.Dst = AddrFrom4(h[12:16]), AddrFrom4(h[16:20])
	p.IPID = binary.BigEndian.Uint16(h[4:6])
	p.TTL, p.Protocol = h[8], h[9]
}

// ipv6 notes what an IPv6 header says of the packet, its length left out.
func (p *Packet) ipv6(h *[ipv6Len]byte) {
	p.Src, p.Dst = AddrFrom16(h[8:24]), AddrFrom16(h[24:40])
	p.IPID = 0
	p.TTL, p.Protocol = h[7], h[6]
}

// ipv6 reads an IPv6 header (RFC 8200 section 3).
func (c *cursor) ipv6(p *Packet) header {
	b := c.b
	if len(b) < ipv6Len {
		return c.short(ipv6Len, BadIP)
	}
	if b[0]>>4 != 6 {
		return c.end(BadIP)
	}
	total := ipv6Len + int(binary.BigEndian.Uint16(b[4:6]))
	protocol := b[6]
	if total == ipv6Len && unsized(protocol) && c.left <= maxOffload {
		total = c.left
	}
	room, ok := c.room(total)
	if room < ipv6Len || !ok {
		return c.end(BadIP)
	}
	if len(b) > room {
		b = b[:room]
	}
	p.IPBytes = uint32(total)
	p.ipv6((*[ipv6Len]byte)(b))
	c.b, c.left = b[ipv6Len:], room-ipv6Len
	c.packets++
	c.v6 = true
	return c.above(protocol, p)
}

// room returns how many bytes an IP packet that claims total really has: fewer
// where a link header knows better, all where only the frame's length speaks
// against it (see the package's comment). It reports false for a packet that
// does not fit into the tunnel around it.
func (c *cursor) room(total int) (int, bool) {
	if total <= c.left {
		return total, true
	}
	if c.sized {
		return c.left, c.packets == 0
	}
	return total, c.packets == 0
}

// unsized reports whether a payload length of 0 before protocol cannot be
// meant: segmentation offload leaves 0, as does a jumbogram, whose real length
// stands in a hop-by-hop option (RFC 2675 section 2) and is the frame's.
func unsized(protocol uint8) bool {
	return protocol == ProtocolTCP || protocol == ProtocolUDP || protocol == protocolHopByHop
}

// above goes on with the header that an IP or extension header announces.
func (c *cursor) above(protocol uint8, p *Packet) header {
	p.Protocol = protocol
	p.Transport = c.b
	switch protocol {
	case ProtocolTCP:
		return tcpHeader
	case ProtocolUDP:
		return udpHeader
	case protocolIPv4:
		return ipv4Header
	case protocolIPv6:
		return ipv6Header
	case protocolGRE:
		return greHeader
	case protocolAH:
		c.protocol = protocol
		return extensionHeader
	case protocolHopByHop, protocolRouting, protocolFragment, protocolDestination,
		protocolMobility, protocolHIP, protocolShim6:
		if c.v6 {
			c.protocol = protocol
			return extensionHeader
		}
	}
	return c.end(OtherIP)
}

// extension passes an IPv6 extension header (RFC 8200 section 4), or an
// authentication header (RFC 4302 section 2), which IPv4 knows too.
func (d *Decoder) extension(c *cursor, p *Packet) header {
	b := c.b
	if len(b) < extensionLen {
		return c.short(extensionLen, BadIP)
	}
	n := (int(b[1]) + 1) * 8
	switch c.protocol {
	case protocolAH:
		n = (int(b[1]) + 2) * 4
	case protocolFragment:
		return d.fragmentHeader(c, p)
	}
	if len(b) < n {
		return c.short(n, BadIP)
	}
	c.skip(n)
	return c.above(b[0], p)
}
