package decode

import "encoding/binary"

// Link is the type of a frame's outermost header, in the numbers of
// https://www.tcpdump.org/linktypes.html.
type Link uint16

// Link types that Decode knows.
const (
	LinkNull     Link = 0
	LinkEthernet Link = 1
	LinkPPP      Link = 9
	LinkRawBSD   Link = 12
	LinkRawBSDI  Link = 14
	LinkPPPHDLC  Link = 50
	LinkRaw      Link = 101
	LinkCHDLC    Link = 104
	LinkLoop     Link = 108
	LinkSLL      Link = 113
	LinkIPv4     Link = 228
	LinkIPv6     Link = 229
	LinkSLL2     Link = 276
)

// EtherTypes (IEEE 802 numbers, iana.org/assignments/ieee-802-numbers).
const (
	maxLLCLength       = 1500 // a type field up to here is an 802.3 length
	typeIPv4           = 0x0800
	typeBridged        = 0x6558 // transparent Ethernet bridging, in GRE only
	typeDot1Q          = 0x8100
	typeIPv6           = 0x86dd
	typePPP            = 0x880b // in GRE only
	typeMPLS           = 0x8847
	typeMPLSUpstream   = 0x8848
	typePPPoE          = 0x8864
	typeDot1ad         = 0x88a8
	typeQinQ9100       = 0x9100 // before 802.1ad: vendors' own outer tags
	typeQinQ9200       = 0x9200
	typeERSPAN         = 0x88be // in GRE only
	typeERSPANTypeIII  = 0x22eb // in GRE only
	vlanIdentifierMask = 0x0fff
)

// PPP protocol numbers (iana.org/assignments/ppp-numbers).
const (
	pppIPv4 = 0x0021
	pppIPv6 = 0x0057
	pppMPLS = 0x0281
)

// Lengths of link-layer headers.
const (
	ethernetLen = 14
	vlanLen     = 4
	snapLen     = 8
	pppoeLen    = 6
	mplsLen     = 4
	chdlcLen    = 4
	sllLen      = 16
	sll2Len     = 20
	loopLen     = 4
)

// link begins with a frame's outermost header.
func (c *cursor) link(l Link, p *Packet) header {
	switch l {
	case LinkEthernet:
		return ethernetHeader
	case LinkSLL:
		return c.cooked(sllLen, 14, p)
	case LinkSLL2:
		return c.cooked(sll2Len, 0, p)
	case LinkRaw, LinkRawBSD, LinkRawBSDI:
		return c.rawIP()
	case LinkIPv4:
		return ipv4Header
	case LinkIPv6:
		return ipv6Header
	case LinkNull, LinkLoop:
		return c.loopback()
	case LinkPPP:
		return pppHeader
	case LinkPPPHDLC:
		// https://www.tcpdump.org/linktypes.html: PPP in HDLC-like framing,
		// or Cisco HDLC, told apart by the address octet.
		if len(c.b) > 0 && c.b[0] != 0xff && c.b[0]&0x7f == 0x0f {
			return c.ciscoHDLC(p)
		}
		return pppHeader
	case LinkCHDLC:
		return c.ciscoHDLC(p)
	}
	return c.end(LinkType)
}

// ethernet reads an Ethernet II or 802.3 header.
func (c *cursor) ethernet(p *Packet) header {
	b := c.b
	if len(b) < ethernetLen {
		return c.short(ethernetLen, BadLink)
	}
	t := binary.BigEndian.Uint16(b[12:14])
	c.b, c.left = b[ethernetLen:], c.left-ethernetLen
	if t == typeIPv4 {
		return ipv4Header
	}
	return c.typed(t, p)
}

// typed goes on with what the EtherType t announces.
func (c *cursor) typed(t uint16, p *Packet) header {
	for {
		switch t {
		case typeIPv4:
			return ipv4Header
		case typeIPv6:
			return ipv6Header
		case typeMPLS, typeMPLSUpstream:
			return mplsHeader
		case typePPPoE:
			return c.pppoe()
		case typeDot1Q, typeDot1ad, typeQinQ9100, typeQinQ9200:
			if len(c.b) < vlanLen {
				return c.short(vlanLen, BadLink)
			}
			c.tag(binary.BigEndian.Uint16(c.b), p)
			t = binary.BigEndian.Uint16(c.b[2:])
			c.skip(vlanLen)
			if !c.descend() {
				return c.end(TooDeep)
			}
		default:
			if t <= maxLLCLength {
				return c.llc(p)
			}
			return c.end(c.noIP)
		}
	}
}

// tag notes a VLAN tag. Identifier 0 only carries a priority and names no VLAN
// (IEEE 802.1Q table 9-2); tags inside a tunnel say nothing about where the
// frame was seen.
func (c *cursor) tag(tci uint16, p *Packet) {
	if v := tci & vlanIdentifierMask; v != 0 && c.packets == 0 {
		p.VLAN = v
	}
}

// llc reads an 802.2 header, of which only SNAP (RFC 1042) carries IP.
func (c *cursor) llc(p *Packet) header {
	b := c.b
	if len(b) < 3 {
		return c.short(3, BadLink)
	}
	if b[0] != 0xaa || b[1] != 0xaa || b[2] != 3 {
		return c.end(c.noIP)
	}
	if len(b) < snapLen {
		return c.short(snapLen, BadLink)
	}
	// Organisation code 0 says that an EtherType follows, 0000f8 the same
	// for frames that crossed a bridge (IEEE 802.1H).
	if oui := binary.BigEndian.Uint32(b[2:]) & 0xffffff; oui != 0 && oui != 0x0000f8 {
		return c.end(c.noIP)
	}
	t := binary.BigEndian.Uint16(b[6:])
	c.skip(snapLen)
	if t <= maxLLCLength {
		return c.end(c.noIP)
	}
	if !c.descend() {
		return c.end(TooDeep)
	}
	return c.typed(t, p)
}

// cooked reads a header that Linux writes where the real one is unknown
// (LINKTYPE_LINUX_SLL and SLL2): n bytes with the EtherType at offset at.
func (c *cursor) cooked(n, at int, p *Packet) header {
	if len(c.b) < n {
		return c.short(n, BadLink)
	}
	t := binary.BigEndian.Uint16(c.b[at:])
	c.skip(n)
	return c.typed(t, p)
}

// loopback reads the address family before a packet of a BSD loopback
// interface, in the byte order of the capturing host (LINKTYPE_NULL) or of the
// network (LINKTYPE_LOOP). Every family is below 65,536, so the order shows.
func (c *cursor) loopback() header {
	if len(c.b) < loopLen {
		return c.short(loopLen, BadLink)
	}
	family := binary.LittleEndian.Uint32(c.b)
	if family > 0xffff {
		family = binary.BigEndian.Uint32(c.b)
	}
	c.skip(loopLen)
	switch family {
	case 2:
		return ipv4Header
	case 10, 24, 28, 30: // Linux; NetBSD and OpenBSD; FreeBSD; Darwin
		return ipv6Header
	}
	return c.end(c.noIP)
}

// rawIP tells IPv4 from IPv6 by the version field.
func (c *cursor) rawIP() header {
	if len(c.b) == 0 {
		return c.short(1, BadIP)
	}
	switch c.b[0] >> 4 {
	case 4:
		return ipv4Header
	case 6:
		return ipv6Header
	}
	return c.end(BadIP)
}

// ciscoHDLC reads address, control and EtherType.
func (c *cursor) ciscoHDLC(p *Packet) header {
	if len(c.b) < chdlcLen {
		return c.short(chdlcLen, BadLink)
	}
	t := binary.BigEndian.Uint16(c.b[2:])
	c.skip(chdlcLen)
	return c.typed(t, p)
}

// pppoe reads a PPPoE session header (RFC 2516 section 4). Its length keeps
// Ethernet padding out even where the IP header's takes it in, which tools that
// rewrite captures bring about.
func (c *cursor) pppoe() header {
	b := c.b
	if len(b) < pppoeLen {
		return c.short(pppoeLen, BadLink)
	}
	if b[0] != 0x11 || b[1] != 0 { // version 1, type 1, session data
		return c.end(BadLink)
	}
	n := int(binary.BigEndian.Uint16(b[4:6]))
	c.skip(pppoeLen)
	if n <= c.left {
		c.left = n
		c.b = c.b[:min(n, len(c.b))]
		c.sized = true
	}
	return pppHeader
}

// ppp reads the PPP protocol field, with or without the HDLC address and
// control octets before it, compressed to one octet or not (RFC 1661 sections
// 2 and 6.5, RFC 1662 section 3.1).
func (c *cursor) ppp() header {
	if len(c.b) >= 2 && c.b[0] == 0xff && c.b[1] == 3 {
		c.skip(2)
	}
	if len(c.b) == 0 {
		return c.short(1, BadLink)
	}
	protocol, n := uint16(c.b[0]), 1
	if protocol&1 == 0 || protocol == 0xff { // only the last octet is odd; 0xff is no protocol
		if len(c.b) < 2 {
			return c.short(2, BadLink)
		}
		protocol, n = binary.BigEndian.Uint16(c.b), 2
	}
	c.skip(n)
	switch protocol {
	case pppIPv4:
		return ipv4Header
	case pppIPv6:
		return ipv6Header
	case pppMPLS:
		return mplsHeader
	}
	return c.end(c.noIP)
}

// mpls takes off a label stack (RFC 3032 section 2.1). What follows its bottom
// is not said anywhere; like every router that hashes flows we guess by the
// first nibble (RFC 4928 section 2): 4 or 6 is IP, anything else an Ethernet
// pseudowire.
func (c *cursor) mpls() header {
	for bottom := false; !bottom; {
		if len(c.b) < mplsLen {
			return c.short(mplsLen, BadLink)
		}
		bottom = c.b[2]&1 != 0
		c.skip(mplsLen)
		if !c.descend() {
			return c.end(TooDeep)
		}
	}
	if len(c.b) < 4 {
		return c.short(4, BadLink)
	}
	switch c.b[0] >> 4 {
	case 4:
		return ipv4Header
	case 6:
		return ipv6Header
	case 1: // associated channel: operation and maintenance (RFC 4385 section 5)
		return c.end(c.noIP)
	}
	// The control word's first 16 bits are 0 (RFC 4448 section 4.6); no
	// Ethernet address in use today begins so.
	if c.b[0] == 0 && c.b[1] == 0 {
		c.skip(4)
	}
	return ethernetHeader
}
