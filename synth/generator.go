package synth

import (
	"fmt"
	"time"
)

// Options say how a trace differs from its scenario's defaults.
type Options struct {
	Seed          uint64        // same seed, scenario and options: same bytes
	Duration      time.Duration // 0: the scenario's
	Subscribers   int           // 0: the scenario's
	Encapsulation string        // "": the scenario's; see Encapsulation.Kind
}

// Frame is one Ethernet frame at the tap.
type Frame struct {
	Time int64  // nanoseconds since 1970, never less than the frame's before
	Data []byte // valid until the next call of Next
	// Downlink is the direction, and the port of a tap that delivers each
	// direction on its own: interface 0 uplink, 1 downlink.
	Downlink bool

	dns bool // or GTP-C: kept whole by a snap length
}

// Interface is the number of the tap's port, 0 uplink and 1 downlink.
func (f *Frame) Interface() int {
	if f.Downlink {
		return 1
	}
	return 0
}

// Milestone is something that a scenario has in store.
type Milestone struct {
	At   time.Duration // since the trace's start
	What string
}

// Stats is what a generator has done and what it holds.
type Stats struct {
	Frames uint64 // as given out, with copies and fragments
	Bytes  uint64 // on the wire
	Flows  uint64 // ended

	// What is alive now. None of it grows with the length of a trace, only
	// with the population and its activity.
	Connections int
	Packets     int // on their way
	Lookups     int
	Events      int
	Remembered  int // names in the caches of subscribers and of the truth
}

// Generator makes one trace, frame by frame. It is not safe for concurrent
// use.
type Generator struct {
	sc     *Scenario
	opt    Options
	layers layering
	rng    rng
	now    int64
	start  int64
	end    int64
	last   int64 // time of the last frame
	queue  queue

	devices  []device
	sites    []site
	servers  []server
	pools    []serverPool
	services []service
	internal uint8 // number of the first internal service
	resolver int32 // server number
	subs     []subscriber
	ladder   []rung

	totalRate              float64 // actions of a mean subscriber an hour, at load 1
	outageStart, outageEnd int64

	conns   pool[conn]
	packets pool[packet]
	lookups pool[lookup]

	truth  func(*FlowTruth)
	record FlowTruth
	frames uint64
	octets uint64
	flows  uint64

	filler      []byte
	message     []byte // the message of which a segment is a part
	text        []byte // a name
	frame       []byte // room for a frame
	second      []byte // room for a second fragment
	out         []byte // the frame that is ready
	pending     []byte // the one after it, at the same time
	pendingDown bool
	whole       bool // the frame is of a protocol that is read, not counted
	header      ipHeader
	outer       ipHeader
	moved       subscriber // as after a handover
	udpID       uint16
	outerID     uint16
	gtpSequence uint16
}

// New returns a generator of a scenario's trace.
func New(sc *Scenario, opt Options) (*Generator, error) {
	if opt.Duration == 0 {
		opt.Duration = time.Duration(sc.Duration)
	}
	if opt.Subscribers == 0 {
		opt.Subscribers = sc.Subscribers
	}
	if opt.Encapsulation == "" {
		opt.Encapsulation = sc.Encapsulation.Kind
	}
	l, err := parseLayers(opt.Encapsulation)
	if err != nil {
		return nil, fmt.Errorf("encapsulation: %w", err)
	}
	if opt.Duration < 0 || opt.Duration > maxDuration {
		return nil, fmt.Errorf("duration %v: must be more than 0 and at most ten years", opt.Duration)
	}
	if opt.Subscribers < 0 || opt.Subscribers > MaxSubscribers {
		return nil, fmt.Errorf("subscribers %d: must be between 1 and %d", opt.Subscribers, MaxSubscribers)
	}
	g := &Generator{
		sc: sc, opt: opt, layers: l, rng: rng{mix(opt.Seed + 1)},
		start: sc.Start.UnixNano(), outageStart: never, outageEnd: never,
		frame: make([]byte, frameRoom), second: make([]byte, frameRoom),
	}
	g.now, g.end = g.start, g.start+int64(opt.Duration)
	g.last = g.start
	g.filler = appendRandom(nil, fillerMask+1+frameRoom, &rng{mix(opt.Seed ^ 0xf111e7)})
	for i := range sc.Services {
		g.totalRate += sc.Services[i].PerHour
	}
	if o := sc.Outage; o != nil {
		g.outageStart = g.start + int64(o.After)
		g.outageEnd = g.outageStart + int64(o.Duration)
		for _, text := range o.Ladder {
			r, err := parseRung(sc, text)
			if err != nil {
				return nil, fmt.Errorf("outage.ladder: %w", err)
			}
			g.ladder = append(g.ladder, r)
		}
	}
	if err := g.build(); err != nil {
		return nil, err
	}
	return g, nil
}

// SetTruth has fn called at each flow's end, with a value that is overwritten
// afterwards. Flows that are open when the trace ends follow after the last
// frame, before Next returns false.
func (g *Generator) SetTruth(fn func(*FlowTruth)) { g.truth = fn }

// Start is the packet time at which the trace begins.
func (g *Generator) Start() time.Time { return time.Unix(0, g.start).UTC() }

// End is the packet time before which it ends.
func (g *Generator) End() time.Time { return time.Unix(0, g.end).UTC() }

// Subscribers is the size of the population.
func (g *Generator) Subscribers() int { return len(g.subs) }

// Milestones lists what happens within the trace, in order.
func (g *Generator) Milestones() []Milestone {
	if g.sc.Outage == nil || g.outageStart >= g.end {
		return nil
	}
	m := []Milestone{{time.Duration(g.outageStart - g.start), "outage of " + g.sc.Outage.App + " begins"}}
	if g.outageEnd < g.end {
		m = append(m, Milestone{time.Duration(g.outageEnd - g.start), "servers work again: connections come back within minutes"})
	}
	return m
}

// Stats returns the counts so far.
func (g *Generator) Stats() Stats {
	s := Stats{
		Frames: g.frames, Bytes: g.octets, Flows: g.flows,
		Connections: g.conns.used, Packets: g.packets.used, Lookups: g.lookups.used, Events: len(g.queue.heap),
	}
	for i := range g.subs {
		s.Remembered += len(g.subs[i].cache) + len(g.subs[i].known)
	}
	return s
}

// Next puts the next frame into f, and reports false when there is none.
func (g *Generator) Next(f *Frame) bool {
	if g.pending != nil {
		g.give(f, g.pending, g.pendingDown)
		g.pending = nil
		return true
	}
	for len(g.queue.heap) > 0 && g.queue.heap[0].at < g.end {
		e := g.queue.pop()
		g.now = e.at
		g.out, g.whole = nil, false
		down := g.handle(e)
		if g.out != nil {
			g.give(f, g.out, down)
			g.pendingDown = down
			return true
		}
	}
	g.finish()
	return false
}

func (g *Generator) give(f *Frame, data []byte, down bool) {
	f.Time, f.Data, f.Downlink, f.dns = g.now, data, down, g.whole
	g.last = g.now
	g.frames++
	g.octets += uint64(len(data))
}

// finish ends what is still open.
func (g *Generator) finish() {
	g.queue.heap = nil
	for _, block := range g.conns.blocks {
		for i := range block {
			c := &block[i]
			if !c.live {
				continue
			}
			if f := &c.flow; f.open {
				reason := "shutdown"
				if g.last-f.last > g.idleTimeout(c) {
					reason = "idle"
				}
				g.endFlow(c, reason)
			}
			g.release(c)
		}
	}
}

// handle runs an event. If it leaves a frame in g.out, down is its direction.
func (g *Generator) handle(e event) (down bool) {
	switch e.kind() {
	case evTap:
		return g.pass(g.packets.at(e.ref))
	case evCopy:
		p := g.packets.at(e.ref)
		down = p.down
		g.buildFrame(p)
		g.drop(p)
		return down
	case evArrive:
		g.arrive(g.packets.at(e.ref))
	case evNear, evApp, evKeep:
		g.timer(e)
	case evAct:
		g.act(e.ref)
	case evLadder:
		g.climb(e.ref)
	case evLookup:
		if l := g.lookups.at(e.ref); l.live && l.gen == e.gen && !l.done {
			g.ask(l)
		}
	case evDetach:
		g.detachIdle(e.ref)
	}
	return false
}

func (g *Generator) timer(e event) {
	c := g.conns.at(e.ref)
	if c.gen != e.gen || !c.live {
		return
	}
	switch e.kind() {
	case evNear:
		if c.nearQueued != e.at {
			return
		}
		c.nearQueued = never
		g.nearTimer(c)
	case evApp:
		if c.appQueued != e.at {
			return
		}
		c.appQueued = never
		if c.appAt <= g.now {
			g.perform(c)
		}
	case evKeep:
		if c.keepQueued != e.at {
			return
		}
		c.keepQueued = never
		g.keepTimer(c)
	}
	if c.live && c.gen == e.gen {
		g.schedule(c)
		g.settle(c)
	}
}

func (g *Generator) newPacket(kind uint8, ref uint32) *packet {
	id, p := g.packets.get()
	*p = packet{id: id, kind: kind, ref: ref}
	return p
}

// subOf returns whose packet p is.
func (g *Generator) subOf(p *packet) *subscriber {
	switch p.kind {
	case packetTCP:
		return &g.subs[g.conns.at(p.ref).sub]
	case packetGTPC:
		return &g.subs[p.ref]
	}
	return &g.subs[g.lookups.at(p.ref).sub]
}

// launch sends p toward the tap after the sender has thought.
func (g *Generator) launch(p *packet, think int64) {
	var c *conn
	if p.kind == packetTCP {
		c = g.conns.at(p.ref)
		c.refs++
	}
	side := &g.sc.Server
	if !p.down {
		side = &g.sc.Access.Side
	}
	if g.rng.chance(side.Loss) {
		g.lost(p, c, true)
		return
	}
	at := g.now + think
	if p.down {
		at = g.fromServer(p, c, at, side)
	} else {
		at = g.uplink(p, at, side)
	}
	g.queue.push(at, evTap, p.id, 0)
}

// lost counts a packet that goes no further, and drops it.
func (g *Generator) lost(p *packet, c *conn, before bool) {
	if c != nil && (p.plen > 0 || p.flags&flagFIN != 0) {
		if before {
			c.flow.lostBefore[p.direction()]++
		} else {
			c.flow.lostAfter[p.direction()]++
		}
	}
	g.drop(p)
}

// drop gives p back.
func (g *Generator) drop(p *packet) {
	switch p.kind {
	case packetTCP:
		c := g.conns.at(p.ref)
		c.refs--
		g.packets.put(p.id)
		g.settle(c)
		return
	case packetGTPC:
	default:
		l := g.lookups.at(p.ref)
		l.refs--
		g.settleLookup(l)
	}
	g.packets.put(p.id)
}

// late is the extra delay of a packet that is overtaken.
func (g *Generator) late(side *Side) int64 {
	return g.rng.between(1e6, max(int64(side.ReorderDelay), 2e6))
}

func (g *Generator) jitter(side *Side) int64 {
	return int64(g.rng.exp(float64(side.Jitter)))
}

// fromServer is when a packet that a server sends at at passes the tap.
func (g *Generator) fromServer(p *packet, c *conn, at int64, side *Side) int64 {
	if c == nil {
		return at + g.sites[g.servers[g.resolver].site].oneWay + g.jitter(side)
	}
	at += c.oneWay + g.jitter(side)
	if g.rng.chance(side.Reorder) {
		return at + g.late(side)
	}
	// The server's link is of 1 Gbit/s.
	at = max(at, c.lastDown+8*int64(p.size))
	c.lastDown = at
	return at
}

// toServer is when a packet that passes the tap now reaches the server.
func (g *Generator) toServer(c *conn, side *Side) int64 {
	if c == nil {
		return g.now + g.sites[g.servers[g.resolver].site].oneWay + g.jitter(side)
	}
	at := g.now + c.oneWay + g.jitter(side)
	if g.rng.chance(side.Reorder) {
		return at + g.late(side)
	}
	at = max(at, c.lastUp+1)
	c.lastUp = at
	return at
}

// wake is how long the radio needs for a packet at at.
func (g *Generator) wake(s *subscriber, at int64) int64 {
	a := &g.sc.Access
	asleep := at-s.radioAt > int64(a.WakeAfter)
	s.radioAt = at
	if !asleep || a.Wake == 0 {
		return 0
	}
	return g.rng.between(int64(a.Wake)/5, int64(a.Wake))
}

// uplink is when a packet that a subscriber sends at at passes the tap: its
// link delivers in order, at its rate.
func (g *Generator) uplink(p *packet, at int64, side *Side) int64 {
	s := g.subOf(p)
	at += g.wake(s, at)
	s.upFree = max(at, s.upFree) + int64(p.size)*s.upNS
	at = s.upFree + s.delay + g.jitter(side)
	if g.rng.chance(side.Reorder) {
		return at + g.late(side)
	}
	at = max(at, s.upLast+1000)
	s.upLast = at
	return at
}

// downlink is when a packet that passes the tap now reaches its subscriber.
func (g *Generator) downlink(p *packet, side *Side) int64 {
	s := g.subOf(p)
	at := g.now + g.wake(s, g.now)
	s.downFree = max(at, s.downFree) + int64(p.size)*s.downNS
	at = s.downFree + s.delay + g.jitter(side)
	if g.rng.chance(side.Reorder) {
		return at + g.late(side)
	}
	at = max(at, s.downLast+1000)
	s.downLast = at
	return at
}

// pass is a packet at the tap: it is captured, counted, and goes on.
func (g *Generator) pass(p *packet) (down bool) {
	down = p.down
	var c *conn
	if p.kind == packetTCP {
		c = g.conns.at(p.ref)
	}
	if g.captured(p, c) {
		g.capture(p, c)
	}
	if p.kind == packetGTPC {
		g.sessionEvent(p)
		g.drop(p)
		return down
	}
	side := &g.sc.Access.Side
	if !p.down {
		side = &g.sc.Server
	}
	if g.rng.chance(side.Loss) {
		g.lost(p, c, false)
		return down
	}
	at := int64(0)
	if p.down {
		at = g.downlink(p, side)
	} else {
		at = g.toServer(c, side)
	}
	g.queue.push(at, evArrive, p.id, 0)
	return down
}

// captured says whether the tap gets to see p.
func (g *Generator) captured(p *packet, c *conn) bool {
	if g.rng.chance(g.sc.Tap.Loss) {
		if c != nil && c.flow.open {
			c.flow.uncaptured[p.direction()]++
		}
		return false
	}
	if c != nil {
		return !c.hideDown || !p.down
	}
	return p.kind != packetAnswer || !g.lookups.at(p.ref).unseen
}

// capture makes p's frame and counts it.
func (g *Generator) capture(p *packet, c *conn) {
	p.tapped = g.now
	switch {
	case c != nil:
		g.observe(c, p)
	case p.kind == packetAnswer:
		g.learn(g.lookups.at(p.ref))
	}
	g.buildFrame(p)
	if p.kind == packetGTPC || !g.rng.chance(g.sc.Tap.Duplicates) {
		return
	}
	twin := g.newPacket(p.kind, p.ref)
	id := twin.id
	*twin = *p
	twin.id = id
	if c != nil {
		c.refs++
		c.flow.duplicates[p.direction()]++
		c.flow.duplicateBytes[p.direction()] += uint64(p.size)
	} else {
		g.lookups.at(p.ref).refs++
	}
	g.queue.push(g.now+g.rng.between(2e3, 200e3), evCopy, twin.id, 0)
}

func (g *Generator) buildFrame(p *packet) {
	g.whole = p.kind != packetTCP || p.wkind == writeDNSAnswer
	switch p.kind {
	case packetTCP:
		g.buildTCP(g.conns.at(p.ref), p)
	case packetGTPC:
		g.buildGTPC(p)
	default:
		g.buildDNS(g.lookups.at(p.ref), p)
	}
}

// arrive is a packet at its receiver.
func (g *Generator) arrive(p *packet) {
	if p.kind != packetTCP {
		g.receiveDNS(p)
		g.packets.put(p.id)
		return
	}
	c := g.conns.at(p.ref)
	side := serverSide
	if p.down {
		side = subscriberSide
	}
	g.receive(c, side, p)
	c.refs--
	g.packets.put(p.id)
	g.schedule(c)
	g.settle(c)
}
