package synth

// TCP flags (RFC 9293 section 3.1).
const (
	flagFIN = 1 << iota
	flagSYN
	flagRST
	flagPSH
	flagACK
	_
	flagECE
	flagCWR
)

const (
	synTries  = 5
	dataTries = 8
	// finDelay is how long an application takes to close after its peer's FIN.
	finDelay = 3e6
)

// open sends the SYN of c's subscriber.
func (g *Generator) open(c *conn) {
	c.ends[0].state = stateSynSent
	c.ends[1].state = stateListen
	g.sendSYN(c, subscriberSide)
	g.schedule(c)
}

// newSegment returns a packet of c from side, with everything but payload.
func (g *Generator) newSegment(c *conn, side int, flags uint8) *packet {
	p := g.newPacket(packetTCP, c.id)
	p.down = side == serverSide
	p.flags = flags
	e := &c.ends[side]
	e.ipid++
	p.ipid = e.ipid
	p.seq = e.iss + 1 + e.nxt
	if flags&flagACK != 0 {
		p.ack = e.irs + 1 + e.rcvNxt
	}
	p.window = e.windowField(c)
	p.size = uint16(g.subs[c.sub].ipHeader()) + 20
	if c.timestamps {
		p.size += 12
		p.tsval = e.timestamp(g.now)
		p.tsecr = e.tsRecent
	}
	return p
}

func (e *endpoint) timestamp(now int64) uint32 {
	return e.tsBase + uint32(now/int64(e.stack.clock))
}

// windowField is constant for a connection: the model's applications read at
// once.
func (e *endpoint) windowField(c *conn) uint16 {
	if c.ends[0].stack.has(optScale) {
		return uint16(e.stack.receive >> e.stack.scale)
	}
	return uint16(min(e.stack.receive, 65535))
}

func (g *Generator) sendSYN(c *conn, side int) {
	e := &c.ends[side]
	p := g.newSegment(c, side, flagSYN)
	p.seq = e.iss
	p.window = e.stack.window
	p.repeat = e.backoff > 0
	if side == serverSide {
		p.flags |= flagACK
		p.ack = e.irs + 1
		p.cause = e.cause
		e.cause = 0
	} else if e.stack.ecn && e.backoff == 0 {
		p.flags |= flagECE | flagCWR
	}
	var scratch [40]byte
	peer := c.ends[0].stack
	if side == subscriberSide {
		peer = nil
	}
	p.size = uint16(g.subs[c.sub].ipHeader()) + 20 + uint16(e.stack.synOptions(scratch[:], 0, 0, 0, peer))
	e.rtoAt = g.now + e.rto()
	g.launch(p, 0)
}

// acknowledge sends a pure ACK, with SACK blocks where data is missing.
func (g *Generator) acknowledge(c *conn, side int) {
	e := &c.ends[side]
	p := g.newSegment(c, side, flagACK)
	p.cause = e.cause
	if c.sack && len(e.holes) > 0 {
		g.addSACK(e, p)
	}
	e.ackSent()
	g.launch(p, 0)
}

func (e *endpoint) ackSent() {
	e.unacked = 0
	e.ackAt = never
	e.cause = 0
	e.lastAck = e.rcvNxt
}

// addSACK writes the blocks, the newest first (RFC 2018 section 4).
func (g *Generator) addSACK(e *endpoint, p *packet) {
	base := e.irs + 1
	add := func(s span) {
		p.sack[p.nsack] = span{base + s.lo, base + s.hi}
		p.nsack++
	}
	add(e.newest)
	for i := len(e.holes) - 1; i >= 0 && p.nsack < 3; i-- {
		if e.holes[i] != e.newest {
			add(e.holes[i])
		}
	}
	p.size += 4 + 8*uint16(p.nsack)
}

// write appends length bytes of kind to what side has to send.
func (e *endpoint) write(kind uint8, length uint32) {
	e.writes = append(e.writes, write{e.written, length, kind})
	e.written += length
}

// transmit sends what the windows allow: repeats first (RFC 6675 section 5).
func (g *Generator) transmit(c *conn, side int) {
	e := &c.ends[side]
	if e.state != stateEstablished {
		return
	}
	for e.lost > 0 {
		i := e.head
		for !e.segs[i].lost {
			i++
		}
		s := &e.segs[i]
		if e.pipe > 0 && e.pipe+s.length() > e.cwnd {
			break
		}
		s.lost = false
		e.lost--
		g.sendData(c, side, i)
	}
	for e.lost == 0 && e.nxt < e.written {
		w := &e.writes[0]
		n := min(e.mss, w.start+w.length-e.nxt)
		flight := e.nxt - e.una
		// Never the last full segment of the peer's window: an application
		// that reads at once keeps it from filling.
		if e.pipe > 0 && e.pipe+n > e.cwnd || flight > 0 && flight+n+e.mss > e.peerWindow {
			break
		}
		e.segs = append(e.segs, segment{off: e.nxt, plen: uint16(n), wkind: w.kind, wstart: w.start, wlen: w.length})
		if e.nxt+n == w.start+w.length {
			e.writes = e.writes[:copy(e.writes, e.writes[1:])]
		}
		g.sendData(c, side, len(e.segs)-1)
		e.nxt += n
	}
	if e.closing && !e.finSent && e.nxt == e.written && e.lost == 0 {
		e.finSent = true
		e.segs = append(e.segs, segment{off: e.nxt, fin: true})
		g.sendData(c, side, len(e.segs)-1)
		e.nxt++
	}
}

// sendData sends segment i of side's list.
func (g *Generator) sendData(c *conn, side, i int) {
	e := &c.ends[side]
	s := &e.segs[i]
	flags := uint8(flagACK)
	if s.off+uint32(s.plen) == s.wstart+s.wlen && s.plen > 0 {
		flags |= flagPSH
	}
	if s.fin {
		flags |= flagFIN
	}
	p := g.newSegment(c, side, flags)
	p.seq = e.iss + 1 + s.off
	p.off = s.off
	p.serial = e.serialBase + uint32(i)
	p.plen = s.plen
	p.wkind, p.wstart, p.wlen = s.wkind, s.wstart, s.wlen
	p.size += s.plen
	p.repeat = s.sent > 0
	if s.sent < 255 {
		s.sent++
	}
	s.sentAt = g.now
	e.pipe += s.length()
	e.ackSent()
	if e.rtoAt == never {
		e.rtoAt = g.now + e.rto()
	}
	g.launch(p, 0)
}

func (g *Generator) keepAlive(c *conn) {
	p := g.newSegment(c, subscriberSide, flagACK)
	p.seq--
	p.keepAlive = true
	g.launch(p, 0)
}

// reset closes side at once with an RST.
func (g *Generator) reset(c *conn, side int) {
	e := &c.ends[side]
	p := g.newSegment(c, side, flagRST|flagACK)
	e.state = stateReset
	e.stop()
	c.expire(g.now + 60e9)
	g.launch(p, 0)
}

func (e *endpoint) stop() { e.rtoAt, e.ackAt, e.closeAt = never, never, never }

// expire ends c by then whatever happens, should an RST have been lost.
func (c *conn) expire(at int64) {
	c.giveUpAt = min(c.giveUpAt, at)
	c.appAt = never
}

// receive hands p to the endpoint on side.
func (g *Generator) receive(c *conn, side int, p *packet) {
	e := &c.ends[side]
	if side == subscriberSide {
		c.active = g.now
	}
	switch e.state {
	case stateGone, stateClosed:
		return
	case stateReset:
		g.answerStray(c, side, p)
		return
	}
	if p.flags&flagRST != 0 {
		e.state = stateReset
		e.stop()
		c.expire(g.now + 60e9)
		return
	}
	if p.flags&flagSYN != 0 {
		g.receiveSYN(c, side, p)
		return
	}
	if e.state == stateListen || e.state == stateSynSent {
		return // overtook the SYN; it will be repeated
	}
	if e.state == stateSynReceived {
		e.state = stateEstablished
		e.backoff = 0
		e.rtoAt = never
		g.advance(c)
	}
	if c.timestamps && int32(p.seq-e.irs-1-e.lastAck) <= 0 && int32(p.tsval-e.tsRecent) > 0 {
		e.tsRecent = p.tsval // RFC 7323 section 4.3
	}
	g.receiveAck(c, side, p)
	if p.keepAlive {
		g.acknowledge(c, side)
	} else if p.plen > 0 || p.flags&flagFIN != 0 {
		g.receiveData(c, side, p)
	}
	g.transmit(c, side)
}

// answerStray answers what reaches a closed socket (RFC 9293 section 3.10.7.1).
func (g *Generator) answerStray(c *conn, side int, p *packet) {
	if p.flags&flagRST != 0 || p.flags&flagACK == 0 {
		return
	}
	r := g.newSegment(c, side, flagRST)
	r.seq, r.ack, r.window = p.ack, 0, 0
	if c.timestamps {
		r.size -= 12
	}
	g.launch(r, 0)
}

func (g *Generator) receiveSYN(c *conn, side int, p *packet) {
	e := &c.ends[side]
	switch e.state {
	case stateListen:
		e.irs = p.seq
		e.tsRecent = p.tsval
		e.peerWindow = uint32(p.window)
		e.cause = p.tapped
		e.state = stateSynReceived
		g.sendSYN(c, side)
	case stateSynReceived:
		e.cause = p.tapped
		g.sendSYN(c, side)
	case stateSynSent:
		e.irs = p.seq
		e.tsRecent = p.tsval
		e.peerWindow = uint32(p.window)
		e.sample(g.now - e.rtoAt + e.rto())
		e.state = stateEstablished
		e.backoff = 0
		e.rtoAt = never
		e.cause = p.tapped
		g.acknowledge(c, side)
		g.advance(c)
	default:
		g.acknowledge(c, side) // our ACK was lost
	}
}

// receiveAck takes what p says about what side has sent.
func (g *Generator) receiveAck(c *conn, side int, p *packet) {
	e := &c.ends[side]
	e.peerWindow = uint32(p.window) << e.peerScale
	a := p.ack - e.iss - 1
	if int32(e.nxt-a) < 0 {
		return
	}
	advanced := int32(a-e.una) > 0
	if advanced {
		g.acked(e, a)
	} else if a == e.una && e.una != e.nxt && p.plen == 0 && p.flags&flagFIN == 0 && !p.keepAlive {
		e.dupAcks++
	}
	marked := p.nsack > 0 && e.markSACK(p)
	if !c.sack && e.dupAcks == 3 || e.recovery && advanced && e.una != e.nxt {
		marked = e.markLost(e.head) || marked
	}
	if marked && !e.recovery && int32(e.una-e.recover) >= 0 {
		e.ssthresh = max((e.nxt-e.una)/2, 2*e.mss)
		e.cwnd = e.ssthresh
		e.recover = e.nxt
		e.recovery = true
	}
}

// acked takes off what is acknowledged up to a.
func (g *Generator) acked(e *endpoint, a uint32) {
	n := a - e.una
	for e.head < len(e.segs) {
		s := &e.segs[e.head]
		if int32(s.off+s.length()-a) > 0 {
			break
		}
		switch {
		case s.lost:
			e.lost--
		case !s.sacked:
			e.pipe -= s.length()
		}
		if s.sent == 1 {
			e.sample(g.now - s.sentAt)
		}
		e.head++
	}
	e.trim()
	e.una = a
	e.backoff = 0
	e.dupAcks = 0
	e.rtoAt = never
	if e.una != e.nxt {
		e.rtoAt = g.now + e.rto()
	}
	if e.recovery && int32(a-e.recover) >= 0 {
		e.recovery = false
	}
	switch {
	case e.recovery:
	case e.cwnd < e.ssthresh:
		e.cwnd += min(n, 2*e.mss) // RFC 3465 section 2.3
	default:
		e.cwnd += max(e.mss*min(n, e.mss)/e.cwnd, 1)
	}
}

// trim gives back the room of segments that are acknowledged.
func (e *endpoint) trim() {
	if e.head < len(e.segs) && e.head < 64 {
		return
	}
	e.serialBase += uint32(e.head)
	e.segs = e.segs[:copy(e.segs, e.segs[e.head:])]
	e.head = 0
}

// markSACK takes p's blocks and marks as lost what has three segments
// acknowledged above it (RFC 6675 section 4, IsLost), and reports whether any.
func (e *endpoint) markSACK(p *packet) bool {
	base := e.iss + 1
	for _, b := range p.sack[:p.nsack] {
		for i := e.head; i < len(e.segs); i++ {
			s := &e.segs[i]
			end := s.off + s.length()
			if int32(s.off-(b.lo-base)) < 0 || int32(end-(b.hi-base)) > 0 || s.sacked {
				continue
			}
			s.sacked = true
			if s.lost {
				s.lost = false
				e.lost--
			} else {
				e.pipe -= s.length()
			}
		}
	}
	any, above := false, 0
	for i := len(e.segs) - 1; i >= e.head; i-- {
		if e.segs[i].sacked {
			above++
		} else if above >= 3 && e.markLost(i) {
			any = true
		}
	}
	return any
}

// markLost marks segment i, unless it has been or was sent again since.
func (e *endpoint) markLost(i int) bool {
	s := &e.segs[i]
	if s.lost || s.sacked || s.sent > 1 {
		return false
	}
	s.lost = true
	e.lost++
	e.pipe -= s.length()
	return true
}

// receiveData takes p's bytes and its FIN.
func (g *Generator) receiveData(c *conn, side int, p *packet) {
	e := &c.ends[side]
	lo := p.seq - e.irs - 1
	hi := lo + uint32(p.plen)
	if p.flags&flagFIN != 0 {
		hi++
	}
	switch {
	case int32(hi-e.rcvNxt) <= 0: // all of it again
		g.acknowledge(c, side)
		return
	case int32(lo-e.rcvNxt) > 0:
		e.addHole(span{lo, hi})
		g.acknowledge(c, side)
		return
	}
	e.rcvNxt = hi
	filled := e.fill()
	other := &c.ends[1-side]
	fin := other.finSent && e.rcvNxt == other.written+1 && !e.finRcvd
	e.unacked++
	if e.unacked >= 2 || filled || fin {
		g.acknowledge(c, side)
	} else if e.ackAt == never {
		e.ackAt = g.now + int64(e.stack.delayed)
	}
	if fin {
		e.finRcvd = true
		if !e.closing {
			e.closeAt = g.now + finDelay
		}
	}
	g.advance(c)
}

// addHole keeps s, which is beyond what is missing.
func (e *endpoint) addHole(s span) {
	i := 0
	for i < len(e.holes) && int32(e.holes[i].hi-s.lo) < 0 {
		i++
	}
	j := i
	for j < len(e.holes) && int32(e.holes[j].lo-s.hi) <= 0 {
		if int32(e.holes[j].lo-s.lo) < 0 {
			s.lo = e.holes[j].lo
		}
		if int32(e.holes[j].hi-s.hi) > 0 {
			s.hi = e.holes[j].hi
		}
		j++
	}
	e.newest = s
	if i == j {
		e.holes = append(e.holes, span{})
		copy(e.holes[i+1:], e.holes[i:])
		e.holes[i] = s
		return
	}
	e.holes[i] = s
	e.holes = append(e.holes[:i+1], e.holes[j:]...)
}

// fill moves rcvNxt over what was kept, and reports whether anything was.
func (e *endpoint) fill() bool {
	if len(e.holes) == 0 {
		return false
	}
	n := 0
	for n < len(e.holes) && int32(e.holes[n].lo-e.rcvNxt) <= 0 {
		if int32(e.holes[n].hi-e.rcvNxt) > 0 {
			e.rcvNxt = e.holes[n].hi
		}
		n++
	}
	e.holes = e.holes[:copy(e.holes, e.holes[n:])]
	if len(e.holes) > 0 {
		e.newest = e.holes[len(e.holes)-1]
	}
	return true
}

// timeout is the retransmission timer of side.
func (g *Generator) timeout(c *conn, side int) {
	e := &c.ends[side]
	e.rtoAt = never
	e.backoff++
	switch e.state {
	case stateSynSent, stateSynReceived:
		if int(e.backoff) >= synTries {
			e.state = stateReset
			e.stop()
			c.expire(g.now + 60e9)
			return
		}
		g.sendSYN(c, side)
		return
	case stateEstablished:
	default:
		return
	}
	if int(e.backoff) > dataTries {
		e.state = stateReset
		e.stop()
		c.expire(g.now + 60e9)
		return
	}
	e.ssthresh = max((e.nxt-e.una)/2, 2*e.mss)
	e.cwnd = e.mss
	e.recover = e.nxt
	e.recovery = false
	for i := e.head; i < len(e.segs); i++ {
		s := &e.segs[i]
		if s.lost || s.sacked {
			continue
		}
		s.lost = true
		e.lost++
		e.pipe -= s.length()
	}
	e.rtoAt = g.now + e.rto()
	g.transmit(c, side)
}

// schedule queues the timers of c that have no earlier event in the queue.
func (g *Generator) schedule(c *conn) {
	a, b := &c.ends[0], &c.ends[1]
	near := min(a.rtoAt, a.ackAt, a.closeAt, b.rtoAt, b.ackAt, b.closeAt)
	if near < c.nearQueued {
		c.nearQueued = near
		g.queue.push(near, evNear, c.id, c.gen)
	}
	if c.appAt < c.appQueued {
		c.appQueued = c.appAt
		g.queue.push(c.appAt, evApp, c.id, c.gen)
	}
	if keep := min(c.keepAt, c.giveUpAt, c.killAt); keep < c.keepQueued {
		c.keepQueued = keep
		g.queue.push(keep, evKeep, c.id, c.gen)
	}
}

// nearTimer runs what is due of c's short timers.
func (g *Generator) nearTimer(c *conn) {
	for side := range c.ends {
		e := &c.ends[side]
		if e.ackAt <= g.now {
			g.acknowledge(c, side)
		}
		if e.closeAt <= g.now {
			e.closeAt = never
			e.closing = true
			g.transmit(c, side)
		}
		if e.rtoAt <= g.now {
			g.timeout(c, side)
		}
	}
}

// keepTimer sends a keep-alive, or ends a connection that its end has not
// reached.
func (g *Generator) keepTimer(c *conn) {
	if c.giveUpAt <= g.now {
		g.giveUp(c)
		return
	}
	if c.killAt <= g.now {
		g.kill(c)
	}
	if c.keepAt > g.now {
		return
	}
	e := &c.ends[subscriberSide]
	if e.state != stateEstablished || e.finSent {
		c.keepAt = never
		return
	}
	due := c.active + c.keepEvery
	if due <= g.now {
		if e.una == e.nxt {
			g.keepAlive(c)
		}
		c.active = g.now
		due = g.now + c.keepEvery
	}
	c.keepAt = due
}

// advance gives the side whose turn it is the time to think, once it has
// received what it waits for.
func (g *Generator) advance(c *conn) {
	if c.appAt != never || c.step >= len(c.steps) {
		return
	}
	s := &c.steps[c.step]
	e, other := &c.ends[s.side], &c.ends[1-s.side]
	if e.state != stateEstablished || e.received(other.written) < other.written {
		return
	}
	c.appAt = g.now + s.delay
}

// perform takes the step that is due.
func (g *Generator) perform(c *conn) {
	c.appAt = never
	if c.step >= len(c.steps) {
		return
	}
	s := c.steps[c.step]
	c.step++
	e := &c.ends[s.side]
	if e.state != stateEstablished || e.closing || e.finSent {
		return
	}
	switch s.do {
	case stepWrite:
		if e.una == e.nxt && e.cwnd > e.initialWindow() {
			e.cwnd = e.initialWindow() // RFC 5681 section 4.1, restart after idle
		}
		e.write(s.kind, s.length)
		g.transmit(c, int(s.side))
	case stepFIN:
		e.closing = true
		g.transmit(c, int(s.side))
	case stepRST:
		g.reset(c, int(s.side))
	case stepVanish:
		c.ends[0].state, c.ends[1].state = stateGone, stateGone
		c.ends[0].stop()
		c.ends[1].stop()
	case stepResolved:
		g.resolved(g.lookups.at(c.lookup))
	}
	g.advance(c)
}

func (e *endpoint) initialWindow() uint32 { return e.stack.initial * e.mss }
