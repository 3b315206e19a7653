package synth

import "math"

// Rules of the record that the truth follows (default flags).
const (
	dnsGrace    = 10e9
	dnsStale    = 6 * 3600e9
	lateAnswer  = 1e9
	idleChat    = 3600e9
	idleOther   = 300e9
	idleOpening = 60e9
	noName      = math.MaxUint32
)

// delays are samples of a round-trip time at the tap.
type delays struct {
	handshake, least, sum int64
	count                 int64
}

func (d *delays) add(v int64) {
	if d.count == 0 || v < d.least {
		d.least = v
	}
	d.sum += v
	d.count++
}

// flow is what the tap has seen of a connection: the whole of it, or what
// came after a silence longer than the time-out.
type flow struct {
	open, closed bool
	reset        bool // closed by an RST
	synSeen      bool
	synAckSeen   bool
	sniSeen      bool
	firstFlow    bool // of the connection
	start, last  int64
	closedAt     int64

	packets, bytes, payload     [2]uint64 // by direction, 0 uplink
	latePackets, lateBytes      [2]uint64
	duplicates, duplicateBytes  [2]uint64
	retransmitted, outOfOrder   [2]uint32
	synRepeated                 [2]uint32
	lostBefore, lostAfter       [2]uint32
	uncaptured                  [2]uint32
	syn, synAck, fin, rst       uint32
	finSeen, finAcked, anything [2]bool
	highest                     [2]uint32 // offset beyond what has passed
	helloSeen                   uint32
	synAt, synAckAt             int64
	muddled                     bool      // the handshake was repeated or lost in part
	rtt                         [2]delays // 0 access side, 1 server side

	// What answers said when the flow began.
	name     uint32
	nameAt   int64
	nameTTL  uint32
	stale    bool
	hint     uint32
	hintAt   int64
	lateName bool
}

// clear makes f the flow of a new connection, of which nothing has passed.
func (f *flow) clear() {
	*f = flow{firstFlow: true, name: noName, hint: noName}
	f.rtt[0].handshake, f.rtt[1].handshake = -1, -1
}

// begin makes f a flow that starts with the packet that passes now.
func (g *Generator) beginFlow(c *conn) {
	f := &c.flow
	f.open = true
	f.start = g.now
	s := &g.subs[c.sub]
	for _, k := range s.known {
		if k.server != c.server || g.now-k.at-int64(k.ttl)*1e9-dnsGrace > dnsStale {
			continue
		}
		f.name, f.nameAt, f.nameTTL = k.name, k.at, k.ttl
		f.stale = g.now-k.at > int64(k.ttl)*1e9+dnsGrace
		return
	}
	f.hint, f.hintAt = g.agreed(&g.servers[c.server].hints[s.family()])
}

// agreed returns the latest name that recent answers to anybody give a
// server, if all of them are of one class.
func (g *Generator) agreed(hints *[]hint) (name uint32, at int64) {
	name = noName
	for _, h := range *hints {
		if g.now-h.at > dnsStale {
			continue
		}
		if name != noName && !g.sameClass(h.name, name) {
			return noName, 0
		}
		if name == noName || h.at > at {
			name, at = h.name, h.at
		}
	}
	return name, at
}

func (g *Generator) sameClass(a, b uint32) bool {
	x, y := &g.services[a>>nameBits], &g.services[b>>nameBits]
	return x.App == y.App && x.Class == y.Class
}

// learn is when the tap passes l's answer.
func (g *Generator) learn(l *lookup) {
	s := &g.subs[l.sub]
	for i := range l.count {
		server := g.answerServer(l.name, l.base, l.active, i)
		s.learn(known{server: server, name: l.name, ttl: l.ttl, at: g.now}, g.now)
		g.learnHint(&g.servers[server].hints[s.family()], hint{l.name, g.now})
		for id := s.first; id >= 0; {
			c := g.conns.at(uint32(id))
			id = c.next
			f := &c.flow
			if c.server == server && f.open && !f.closed && f.name == noName && g.now-f.start <= lateAnswer {
				f.name, f.nameAt, f.nameTTL, f.lateName = l.name, g.now, l.ttl, true
			}
		}
	}
}

func (s *subscriber) learn(k known, now int64) {
	for i := range s.known {
		if s.known[i].server == k.server {
			s.known[i] = k
			return
		}
	}
	if len(s.known) == cap(s.known) {
		kept := s.known[:0]
		for _, o := range s.known {
			if now-o.at-int64(o.ttl)*1e9-dnsGrace <= dnsStale {
				kept = append(kept, o)
			}
		}
		s.known = kept
	}
	s.known = append(s.known, k)
}

// learnHint keeps the latest name of each class.
func (g *Generator) learnHint(hints *[]hint, h hint) {
	for i, o := range *hints {
		if g.sameClass(o.name, h.name) {
			(*hints)[i] = h
			return
		}
	}
	*hints = append(*hints, h)
}

// idleTimeout is how long the tap waits for c's next packet.
func (g *Generator) idleTimeout(c *conn) int64 {
	f := &c.flow
	if f.syn > 0 && f.packets[0] == uint64(f.syn) && f.packets[1] == 0 {
		return idleOpening // nothing but SYNs
	}
	if _, class, _ := g.verdict(c); class == "chat" {
		return idleChat
	}
	return idleOther
}

// verdict is the name that the rules give the flow: evidence, class, name.
func (g *Generator) verdict(c *conn) (evidence, class string, name uint32) {
	f := &c.flow
	switch {
	case f.sniSeen:
		evidence, name = "sni", c.name
	case f.name != noName && !f.stale && !f.lateName:
		evidence, name = "dns", f.name
	case f.name != noName && !f.lateName:
		evidence, name = "dns-stale", f.name
	case f.hint != noName:
		evidence, name = "server", f.hint
	case f.lateName:
		evidence, name = "dns", f.name
	default:
		return "none", "other", noName
	}
	return evidence, g.services[name>>nameBits].Class, name
}

// direction is 0 uplink, 1 downlink.
func (p *packet) direction() int {
	if p.down {
		return 1
	}
	return 0
}

// observe counts a segment that passes the tap and is captured.
func (g *Generator) observe(c *conn, p *packet) {
	f := &c.flow
	if c.reuses && p.flags&(flagSYN|flagACK) == flagSYN {
		g.endReused(c)
	}
	if f.open && !f.closed && g.now-f.last > g.idleTimeout(c) {
		g.endFlow(c, "idle")
	}
	if !f.open {
		g.beginFlow(c)
	}
	d := p.direction()
	f.last = g.now
	f.packets[d]++
	f.bytes[d] += uint64(p.size)
	f.payload[d] += uint64(p.plen)
	if f.closed {
		f.latePackets[d]++
		f.lateBytes[d] += uint64(p.size)
	}
	switch {
	case p.flags&flagSYN != 0:
		g.observeSYN(f, p, d)
	case p.flags&flagRST != 0:
		f.rst++
		f.close(g.now, true)
	default:
		g.observeData(c, p, d)
		g.observeAck(c, p, d)
	}
	if f.finAcked[0] && f.finAcked[1] {
		f.close(g.now, false)
	}
}

func (f *flow) close(at int64, reset bool) {
	if f.closed {
		return
	}
	f.closed, f.reset, f.closedAt = true, reset, at
}

func (g *Generator) observeSYN(f *flow, p *packet, d int) {
	if p.down {
		if f.synAckSeen {
			f.synRepeated[d]++
		}
		f.synAck++
		f.synAckSeen = true
		f.synAckAt = g.now
		f.muddled = f.muddled || p.repeat || p.cause == 0
		since := p.cause
		if since == 0 {
			since = f.synAt // what anybody at the tap would say
		}
		if since != 0 && f.rtt[1].handshake < 0 {
			f.rtt[1].handshake = g.now - since
			f.rtt[1].add(g.now - since)
		}
		return
	}
	f.muddled = f.muddled || p.repeat
	f.synAt = g.now
	if f.synSeen {
		f.synRepeated[d]++
	}
	f.syn++
	f.synSeen = true
}

// observeData judges p's bytes and its FIN against what has passed.
func (g *Generator) observeData(c *conn, p *packet, d int) {
	if p.plen == 0 && p.flags&flagFIN == 0 {
		return
	}
	f := &c.flow
	if p.flags&flagFIN != 0 {
		f.fin++
		f.finSeen[d] = true
	}
	e := &c.ends[d]
	length := uint32(p.plen)
	if p.flags&flagFIN != 0 {
		length++
	}
	s := e.segment(p.serial)
	seen := s == nil || s.seen > 0
	later := f.anything[d] && int32(f.highest[d]-p.off) > 0
	switch {
	case seen, p.repeat && later:
		f.retransmitted[d]++
	case later:
		f.outOfOrder[d]++
	}
	if !f.anything[d] || int32(p.off+length-f.highest[d]) > 0 {
		f.highest[d] = p.off + length
		f.anything[d] = true
	}
	if s != nil {
		if s.seen == 0 {
			s.firstSeen = g.now
		}
		if s.seen < 255 {
			s.seen++
		}
	}
	if seen {
		return
	}
	if p.wkind == writeHello {
		f.helloSeen += uint32(p.plen)
		f.sniSeen = f.firstFlow && f.helloSeen == p.wlen && c.sni && !c.ech
	}
	if p.wkind == writeDNSAnswer {
		g.learn(g.lookups.at(c.lookup))
	}
}

// segment returns the segment of that number, nil if it is acknowledged and
// gone.
func (e *endpoint) segment(serial uint32) *segment {
	i := serial - e.serialBase
	if i >= uint32(len(e.segs)) || int(i) < e.head {
		return nil
	}
	return &e.segs[i]
}

// observeAck takes round-trip times of what p acknowledges: the newest segment
// that ends there, if it was sent once (Karn).
func (g *Generator) observeAck(c *conn, p *packet, d int) {
	f := &c.flow
	if d == 0 && f.synAckAt != 0 && f.rtt[0].handshake < 0 {
		f.muddled = f.muddled || p.cause == 0
		f.rtt[0].handshake = g.now - f.synAckAt
		f.rtt[0].add(g.now - f.synAckAt)
	}
	other := &c.ends[1-d]
	a := p.ack - other.iss - 1
	for i := other.head; i < len(other.segs); i++ {
		s := &other.segs[i]
		end := s.off + s.length()
		if int32(end-a) > 0 {
			break
		}
		if s.tapAcked {
			continue
		}
		s.tapAcked = true
		if s.fin && f.finSeen[1-d] {
			f.finAcked[1-d] = true
		}
		if end == a && s.sent == 1 && s.seen == 1 {
			// An ACK uplink answers what came from the server: access side.
			f.rtt[d].add(g.now - s.firstSeen)
		}
	}
}

// endReused ends the flow that has c's 5-tuple.
func (g *Generator) endReused(c *conn) {
	c.reuses = false
	for id := g.subs[c.sub].first; id >= 0; {
		o := g.conns.at(uint32(id))
		id = o.next
		if o != c && o.ghost && o.server == c.server && o.sport == c.sport && o.dport == c.dport {
			g.endFlow(o, "reused")
			g.release(o)
		}
	}
}

// endFlow reports c's flow, if one is open, and makes ready for another.
// An empty reason stands for how the connection was closed.
func (g *Generator) endFlow(c *conn, reason string) {
	f := &c.flow
	if !f.open {
		return
	}
	if f.closed {
		reason = "fin"
		if f.reset {
			reason = "rst"
		}
	}
	g.flows++
	if g.truth != nil {
		g.describe(c, reason)
		g.truth(&g.record)
	}
	// A segment of before the silence is no repeat of anything in the new
	// flow, nor is a later one out of order.
	f.clear()
	f.firstFlow = false
}
