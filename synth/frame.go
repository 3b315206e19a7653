package synth

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// layering is what is between Ethernet and the subscriber's packet.
type layering struct {
	vlan, qinq, mpls, gtp, outer6 bool
}

func parseLayers(kind string) (layering, error) {
	var l layering
	for part := range strings.SplitSeq(kind, "+") {
		switch part {
		case "", "none":
		case "vlan":
			l.vlan = true
		case "qinq":
			l.vlan, l.qinq = true, true
		case "mpls":
			l.mpls = true
		case "gtpu":
			l.gtp = true
		case "gtpu6":
			l.gtp, l.outer6 = true, true
		default:
			return l, fmt.Errorf("%q is no encapsulation: use none, or vlan, qinq, mpls, gtpu, gtpu6 joined by '+'", part)
		}
	}
	return l, nil
}

const (
	headroom    = 128     // for what is written in front of the inner packet
	frameRoom   = 4 << 10 // the largest inner packet is 1500 bytes
	leastFrame  = 60      // Ethernet's least, without the check sequence
	serverHops  = 11      // between a server and the tap
	etherIPv4   = 0x0800
	etherIPv6   = 0x86dd
	etherVLAN   = 0x8100
	etherQinQ   = 0x88a8
	etherMPLS   = 0x8847
	portGTPU    = 2152
	portGTPC    = 2123
	protocolTCP = 6
	protocolUDP = 17
)

// ipHeader writes the header of a packet with length bytes after it to b and
// returns its size.
type ipHeader struct {
	v6       bool
	src, dst [16]byte // IPv4 in the first four
	protocol byte
	ttl      byte
	id       uint16
	df       bool
	flow     uint32 // IPv6
}

func (h *ipHeader) size() int {
	if h.v6 {
		return 40
	}
	return 20
}

func (h *ipHeader) put(b []byte, length int) {
	if h.v6 {
		binary.BigEndian.PutUint32(b, 6<<28|h.flow&0xfffff)
		binary.BigEndian.PutUint16(b[4:], uint16(length))
		b[6], b[7] = h.protocol, h.ttl
		copy(b[8:], h.src[:])
		copy(b[24:], h.dst[:])
		return
	}
	b[0], b[1] = 0x45, 0
	binary.BigEndian.PutUint16(b[2:], uint16(20+length))
	binary.BigEndian.PutUint16(b[4:], h.id)
	b[6], b[7] = 0, 0
	if h.df {
		b[6] = 0x40
	}
	b[8], b[9], b[10], b[11] = h.ttl, h.protocol, 0, 0
	copy(b[12:16], h.src[:4])
	copy(b[16:20], h.dst[:4])
	binary.BigEndian.PutUint16(b[10:], fold(sum(b[:20], 0)))
}

// pseudo is the sum of the pseudo-header (RFC 9293 section 3.1, RFC 8200
// section 8.1).
func (h *ipHeader) pseudo(length int) uint64 {
	n := 4
	if h.v6 {
		n = 16
	}
	s := uint64(h.protocol) + uint64(length)
	return sum(h.dst[:n], sum(h.src[:n], s))
}

// inner fills the header of a packet between subscriber and server.
func (g *Generator) inner(h *ipHeader, s *subscriber, iid uint64, server int32, down bool) {
	var user, host [16]byte
	h.v6 = s.v6
	if s.v6 {
		binary.BigEndian.PutUint64(user[:], s.prefix)
		binary.BigEndian.PutUint64(user[8:], iid)
		host = g.servers[server].addr6
	} else {
		binary.BigEndian.PutUint32(user[:], s.addr)
		copy(host[:], g.servers[server].addr4[:])
	}
	h.src, h.dst = user, host
	h.ttl = g.devices[s.device].stack.ttl
	if !g.layers.gtp {
		h.ttl-- // the gateway has routed it
	}
	if down {
		h.src, h.dst = host, user
		h.ttl = serverStack.ttl - serverHops
	}
}

// buildTCP makes the frame of a segment.
func (g *Generator) buildTCP(c *conn, p *packet) {
	h := &g.header
	s := &g.subs[c.sub]
	g.inner(h, s, c.iid, c.server, p.down)
	h.protocol, h.id, h.df = protocolTCP, p.ipid, true
	h.flow = uint32(c.salt)
	b := g.frame[headroom:]
	ip := h.size()
	t := b[ip:]
	src, dst := c.sport, c.dport
	if p.down {
		src, dst = dst, src
	}
	binary.BigEndian.PutUint16(t, src)
	binary.BigEndian.PutUint16(t[2:], dst)
	binary.BigEndian.PutUint32(t[4:], p.seq)
	binary.BigEndian.PutUint32(t[8:], p.ack)
	n := 20 + g.putOptions(c, p, t[20:])
	t[12], t[13] = byte(n/4)<<4, p.flags
	binary.BigEndian.PutUint16(t[14:], p.window)
	t[16], t[17], t[18], t[19] = 0, 0, 0, 0
	if p.plen > 0 {
		g.fill(c, p, t[n:n+int(p.plen)])
	}
	n += int(p.plen)
	h.put(b, n)
	binary.BigEndian.PutUint16(t[16:], fold(sum(t[:n], h.pseudo(n))))
	g.wrap(s, p.down, ip+n)
}

// putOptions writes p's TCP options and returns their length.
func (g *Generator) putOptions(c *conn, p *packet, b []byte) int {
	if p.flags&flagSYN != 0 {
		d := p.direction()
		var peer *stack
		if p.down {
			peer = c.ends[0].stack
		}
		return c.ends[d].stack.synOptions(b, g.mss(&g.subs[c.sub]), p.tsval, p.tsecr, peer)
	}
	n := 0
	if c.timestamps && p.flags&(flagRST|flagACK) != flagRST {
		b[0], b[1], b[2], b[3] = 1, 1, 8, 10
		binary.BigEndian.PutUint32(b[4:], p.tsval)
		binary.BigEndian.PutUint32(b[8:], p.tsecr)
		n = 12
	}
	if p.nsack > 0 {
		b[n], b[n+1], b[n+2], b[n+3] = 1, 1, 5, 2+8*p.nsack
		n += 4
		for _, s := range p.sack[:p.nsack] {
			binary.BigEndian.PutUint32(b[n:], s.lo)
			binary.BigEndian.PutUint32(b[n+4:], s.hi)
			n += 8
		}
	}
	return n
}

// buildDNS makes the frame of a question or answer by UDP.
func (g *Generator) buildDNS(l *lookup, p *packet) {
	h := &g.header
	s := &g.subs[l.sub]
	g.inner(h, s, s.stableIID(), g.resolver, p.down)
	h.protocol, h.id, h.df, h.flow = protocolUDP, p.ipid, false, uint32(l.dnsID)
	if p.down {
		h.ttl = 62
	}
	if p.kind == packetQuery || p.kind == packetQueryAAAA {
		g.message = g.appendQuery(g.message[:0], l, p.kind == packetQueryAAAA)
	} else {
		g.message = g.appendAnswer(g.message[:0], l, p.kind)
	}
	src, dst := l.sport, uint16(53)
	if p.down {
		src, dst = dst, src
	}
	n := putUDP(g.frame[headroom:], h, src, dst, g.message)
	g.wrap(s, p.down, n)
}

// putUDP writes a datagram with its IP header and returns the packet's size.
func putUDP(b []byte, h *ipHeader, src, dst uint16, data []byte) int {
	n := 8 + len(data)
	ip := h.size()
	copy(b[ip+8:], data)
	udpHeader(b[ip:], h, src, dst, n)
	h.put(b, n)
	return ip + n
}

// udpHeader writes the header of a datagram of n bytes whose data is in place.
func udpHeader(u []byte, h *ipHeader, src, dst uint16, n int) {
	binary.BigEndian.PutUint16(u, src)
	binary.BigEndian.PutUint16(u[2:], dst)
	binary.BigEndian.PutUint16(u[4:], uint16(n))
	u[6], u[7] = 0, 0
	v := fold(sum(u[:n], h.pseudo(n)))
	if v == 0 {
		v = 0xffff // RFC 768: 0 means none
	}
	binary.BigEndian.PutUint16(u[6:], v)
}

// wrap puts what the encapsulation asks for around the n bytes of inner packet
// at headroom, and leaves the frame in g.out.
func (g *Generator) wrap(s *subscriber, down bool, n int) {
	at := headroom
	if g.layers.gtp {
		at = g.wrapGTP(s, down, n)
		n += headroom - at
	}
	if g.sc.Encapsulation.MTU > 0 && g.layers.gtp && !g.layers.outer6 && n > g.sc.Encapsulation.MTU {
		g.fragment(down, at, n)
		return
	}
	g.out = g.link(g.frame, at, n, down)
}

// wrapGTP writes outer IP, UDP and GTP-U headers (TS 29.281 section 5.1) and
// returns where they start.
func (g *Generator) wrapGTP(s *subscriber, down bool, n int) int {
	numbered := mix(uint64(s.node)^g.opt.Seed)>>11 < uint64(g.sc.Encapsulation.SequenceShare*(1<<53))
	at := headroom - 8
	if numbered {
		at -= 4
		n += 4
	}
	u := g.frame[at:]
	u[0], u[1] = 0x30, 255
	binary.BigEndian.PutUint16(u[2:], uint16(n))
	teid := s.teidUp
	if down {
		teid = s.teidDown
	}
	binary.BigEndian.PutUint32(u[4:], teid)
	if numbered {
		u[0] |= 0x02
		g.gtpSequence++
		binary.BigEndian.PutUint16(u[8:], g.gtpSequence)
		u[10], u[11] = 0, 0
	}
	n += 8
	h := &g.outer
	g.outerHeader(h, s.node, down)
	at -= 8
	udpHeader(g.frame[at:], h, portGTPU, portGTPU, n+8)
	at -= h.size()
	h.put(g.frame[at:], n+8)
	return at
}

// outerHeader is between an access node and the gateway.
func (g *Generator) outerHeader(h *ipHeader, node uint8, down bool) {
	access := [16]byte{172, 20, 1, node + 1}
	gateway := [16]byte{172, 20, 255, 1}
	h.v6 = g.layers.outer6
	if h.v6 {
		access = [16]byte{0xfd, 0x20, 15: node + 1}
		gateway = [16]byte{0xfd, 0x20, 14: 0xff, 15: 1}
	}
	h.src, h.dst = access, gateway
	if down {
		h.src, h.dst = gateway, access
	}
	g.outerID++
	h.protocol, h.ttl, h.id, h.df = protocolUDP, 253, g.outerID, false
}

// link puts MPLS labels, VLAN tags and the Ethernet header before the n bytes
// at at in room, pads, and returns the frame.
func (g *Generator) link(room []byte, at, n int, down bool) []byte {
	end := at + n
	ether := uint16(etherIPv4)
	if room[at]>>4 == 6 {
		ether = etherIPv6
	}
	if g.layers.mpls {
		at -= 8
		label := uint32(17001)
		if down {
			label = 17002
		}
		binary.BigEndian.PutUint32(room[at:], label<<12|62)
		binary.BigEndian.PutUint32(room[at+4:], 299<<12|1<<8|62)
		ether = etherMPLS
	}
	if g.layers.vlan {
		at -= 4
		binary.BigEndian.PutUint16(room[at:], 785)
		binary.BigEndian.PutUint16(room[at+2:], ether)
		ether = etherVLAN
	}
	if g.layers.qinq {
		at -= 4
		binary.BigEndian.PutUint16(room[at:], 421)
		binary.BigEndian.PutUint16(room[at+2:], ether)
		ether = etherQinQ
	}
	at -= 14
	e := room[at:]
	access, network := [6]byte{2, 0, 0, 0, 0, 1}, [6]byte{2, 0, 0, 0, 0, 2}
	if down {
		access, network = network, access
	}
	copy(e, network[:])
	copy(e[6:], access[:])
	binary.BigEndian.PutUint16(e[12:], ether)
	for end-at < leastFrame {
		room[end] = 0
		end++
	}
	return room[at:end]
}

// fragment splits the outer IPv4 packet of n bytes at at in two (RFC 791
// section 3.2): the second frame follows the first.
func (g *Generator) fragment(down bool, at, n int) {
	first := (g.sc.Encapsulation.MTU - 20) &^ 7
	whole := g.frame[at : at+n]
	rest := n - 20 - first
	copy(g.second[headroom:], whole[:20])
	copy(g.second[headroom+20:], whole[20+first:])
	g.outer.put(whole, first)
	flags(whole, 0x2000)
	g.outer.put(g.second[headroom:], rest)
	flags(g.second[headroom:], uint16(first/8))
	g.out = g.link(g.frame, at, 20+first, down)
	g.pending = g.link(g.second, headroom, 20+rest, down)
}

// flags sets an IPv4 header's fragment field.
func flags(b []byte, v uint16) {
	binary.BigEndian.PutUint16(b[6:], v)
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], fold(sum(b[:20], 0)))
}
