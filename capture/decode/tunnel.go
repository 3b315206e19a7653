package decode

import "encoding/binary"

// UDP ports of tunnels.
const (
	portGTPU   = 2152 // 3GPP TS 29.281 section 4.4.2
	portTeredo = 3544 // RFC 4380 section 2.7
	portVXLAN  = 4789 // RFC 7348 section 8
)

// GTP-U (3GPP TS 29.281 section 5.1).
const (
	gtpLen          = 8
	gtpOptionalLen  = 4    // sequence number, N-PDU number, next extension type
	gtpVersionMask  = 0xf0 // version and protocol type
	gtpVersion1     = 0x30 // version 1, GTP rather than GTP'
	gtpOptionalMask = 0x07 // any of E, S, PN
	gtpExtension    = 0x04 // E
	gtpGPDU         = 255
)

// GRE (RFC 2784 section 2, RFC 2890 section 2, RFC 2637 section 4.1).
const (
	greLen      = 4
	greChecksum = 0x8000
	greRouting  = 0x4000
	greKey      = 0x2000
	greSequence = 0x1000
	greAck      = 0x0080
	greVersion  = 0x0007
)

const (
	vxlanLen         = 8
	vxlanIdentifier  = 0x08
	erspanLen        = 8  // type II
	erspanIIILen     = 12 // type III
	erspanPlatform   = 1  // last bit of the type III header: 8 more bytes
	erspanSubLen     = 8
	teredoOrigin     = 0
	teredoAuth       = 1
	teredoOriginLen  = 8
	teredoAuthMinLen = 13
)

// gtpu reads a GTP-U header and what follows it up to the T-PDU. Anything on
// the port that is not a G-PDU with an IP packet in it is plain UDP: signalling
// (echo, error indication, end marker), T-PDUs of PPP or Ethernet, and other
// traffic whose port happens to be 2152.
//
// Whether a datagram is GTP at all shows in version, protocol type, message
// type and a length that is exactly the datagram's. If all agree, an extension
// chain or inner IP header that contradicts them is a BadTunnel. If the
// length is smaller (trailing bytes), the rest must fit without fault, else it
// is plain UDP too.
func (c *cursor) gtpu(p *Packet) header {
	b := c.b
	if len(b) < gtpLen {
		return c.short(gtpLen, UDP)
	}
	room := int(binary.BigEndian.Uint16(b[2:4]))
	if b[0]&gtpVersionMask != gtpVersion1 || b[1] != gtpGPDU || room > c.left-gtpLen {
		return c.end(UDP)
	}
	bad := UDP
	if room == c.left-gtpLen {
		bad = BadTunnel
	}
	teid := binary.BigEndian.Uint32(b[4:8])
	extended := b[0]&gtpExtension != 0
	optional := b[0]&gtpOptionalMask != 0
	if len(b) > gtpLen+room {
		b = b[:gtpLen+room]
	}
	c.b, c.left = b[gtpLen:], room
	if optional {
		if len(c.b) < gtpOptionalLen {
			return c.short(gtpOptionalLen, bad)
		}
		next := c.b[3]
		c.skip(gtpOptionalLen)
		if extended && !c.gtpExtensions(next, bad) {
			return nothing
		}
	}
	next := c.tpdu(bad)
	if next != nothing {
		p.Tunnel = TunnelGTP
		p.TEID = teid
		p.OuterSrc, p.OuterDst = p.Src, p.Dst
	}
	return next
}

// gtpExtensions passes the chain of extension headers (3GPP TS 29.281 section
// 5.2.1), whose first one has type next. If it returns false, decoding is over.
func (c *cursor) gtpExtensions(next uint8, bad Outcome) bool {
	for next != 0 {
		if len(c.b) == 0 {
			c.short(1, bad)
			return false
		}
		n := int(c.b[0]) * 4
		if n == 0 {
			c.end(bad)
			return false
		}
		if len(c.b) < n {
			c.short(n, bad)
			return false
		}
		next = c.b[n-1]
		c.skip(n)
		if !c.descend() {
			c.end(TooDeep)
			return false
		}
	}
	return true
}

// tpdu looks at the inner packet before the tunnel is entered, while it still
// can be left alone.
func (c *cursor) tpdu(bad Outcome) header {
	if c.left == 0 {
		return c.end(UDP)
	}
	if len(c.b) == 0 {
		return c.end(CutFrame)
	}
	switch c.b[0] >> 4 {
	case 4:
		if len(c.b) < 4 {
			return c.short(4, bad)
		}
		n, total := int(c.b[0]&15)*4, int(binary.BigEndian.Uint16(c.b[2:4]))
		if n < ipv4Len || total < n || total > c.left {
			return c.end(bad)
		}
		return ipv4Header
	case 6:
		if len(c.b) < 6 {
			return c.short(6, bad)
		}
		if ipv6Len+int(binary.BigEndian.Uint16(c.b[4:6])) > c.left {
			return c.end(bad)
		}
		return ipv6Header
	}
	return c.end(UDP)
}

// vxlan reads a VXLAN header (RFC 7348 section 5). The port also serves hosts
// as an ephemeral one, so a datagram that does not look the part is plain UDP.
func (c *cursor) vxlan() header {
	if c.left < vxlanLen+ethernetLen {
		return c.end(UDP)
	}
	if len(c.b) < vxlanLen {
		return c.end(CutFrame)
	}
	if c.b[0]&vxlanIdentifier == 0 || c.b[7] != 0 {
		return c.end(UDP)
	}
	c.skip(vxlanLen)
	c.noIP = UDP
	return ethernetHeader
}

// teredo passes the indicators before an IPv6 packet in UDP (RFC 4380 section
// 5.1.1). Only an inner header that accounts for every byte makes it Teredo.
func (c *cursor) teredo() header {
	if c.indicator(teredoAuth) {
		n := teredoAuthMinLen
		if len(c.b) >= 4 {
			n += int(c.b[2]) + int(c.b[3])
		}
		if len(c.b) < n {
			return c.short(n, UDP)
		}
		c.skip(n)
	}
	if c.indicator(teredoOrigin) {
		if len(c.b) < teredoOriginLen {
			return c.short(teredoOriginLen, UDP)
		}
		c.skip(teredoOriginLen)
	}
	if c.left < ipv6Len {
		return c.end(UDP)
	}
	if len(c.b) < 6 {
		return c.end(CutFrame)
	}
	if c.b[0]>>4 != 6 || ipv6Len+int(binary.BigEndian.Uint16(c.b[4:6])) != c.left {
		return c.end(UDP)
	}
	return ipv6Header
}

// indicator reports whether a Teredo indicator of type t comes next.
func (c *cursor) indicator(t uint16) bool {
	return len(c.b) >= 2 && binary.BigEndian.Uint16(c.b) == t
}

// gre reads a GRE header: version 0, or version 1 as PPTP has it.
func (c *cursor) gre(p *Packet) header {
	b := c.b
	if len(b) < greLen {
		return c.short(greLen, BadTunnel)
	}
	flags, t := binary.BigEndian.Uint16(b[0:2]), binary.BigEndian.Uint16(b[2:4])
	n := greLen
	switch flags & greVersion {
	case 0:
		if flags&greRouting != 0 { // RFC 1701 only; nobody routes by it any more
			return c.end(OtherIP)
		}
		n += 4*bit(flags&greChecksum) + 4*bit(flags&greKey) + 4*bit(flags&greSequence)
	case 1:
		if t != typePPP || flags&greKey == 0 {
			return c.end(BadTunnel)
		}
		if flags&greSequence == 0 { // an acknowledgement alone
			return c.end(OtherIP)
		}
		n += 8 + 4*bit(flags&greAck)
	default:
		return c.end(OtherIP)
	}
	if len(b) < n {
		return c.short(n, BadTunnel)
	}
	c.skip(n)
	c.noIP = OtherIP
	switch t {
	case typeBridged:
		return ethernetHeader
	case typePPP:
		return pppHeader
	case typeERSPAN:
		// Type I has neither a sequence number nor a header of its own.
		return c.erspan(erspanLen * bit(flags&greSequence))
	case typeERSPANTypeIII:
		return c.erspan(erspanIIILen)
	}
	if t <= maxLLCLength { // keep-alives
		return c.end(OtherIP)
	}
	return c.typed(t, p)
}

// erspan passes a mirrored frame's ERSPAN header of n bytes
// (draft-foschiano-erspan-03 section 4).
func (c *cursor) erspan(n int) header {
	if len(c.b) < n {
		return c.short(n, BadTunnel)
	}
	if n == erspanIIILen && c.b[n-1]&erspanPlatform != 0 {
		n += erspanSubLen
		if len(c.b) < n {
			return c.short(n, BadTunnel)
		}
	}
	c.skip(n)
	return ethernetHeader
}

// bit returns 1 if any bit of flag is set.
func bit(flag uint16) int {
	if flag != 0 {
		return 1
	}
	return 0
}
