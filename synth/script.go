package synth

import (
	"math"
	"time"
)

var protocols = []string{"chat", "tls", "http", "push", "dead"}

// Values of subscriber.chat that are no connection.
const (
	chatNone    = -1
	chatPending = -2 // its name is being resolved
)

// request is a connection that a subscriber wants.
type request struct {
	service uint8
	port    uint16
	failing bool // to a server that fails above TCP
	fetch   bool // a download, whatever the service's share of uploads
	name    uint32
}

// surge is the activity toward the app that has failed, against the usual.
func (g *Generator) surge(at int64) float64 {
	o := g.sc.Outage
	if o == nil || at < g.outageEnd {
		return 1
	}
	return 1 + (o.Surge-1)*math.Exp(-float64(at-g.outageEnd)/float64(o.Decay))
}

func (g *Generator) inOutage() bool {
	return g.sc.Outage != nil && g.now >= g.outageStart && g.now < g.outageEnd
}

// planAct queues the subscriber's next action after from: a Poisson process
// whose rate follows the rhythm, by thinning (Lewis and Shedler 1979).
func (g *Generator) planAct(id uint32, from int64) {
	peak := 1.0
	if g.sc.Outage != nil {
		peak = g.sc.Outage.Surge
	}
	mean := float64(time.Hour) / (g.totalRate * float64(g.subs[id].factor) * peak)
	for t := from; ; {
		t += 1 + int64(g.rng.exp(mean))
		if t >= g.end {
			return
		}
		if g.rng.chance(g.load(t) * g.surge(t) / peak) {
			g.queue.push(t, evAct, id, 0)
			return
		}
	}
}

// act is a subscriber doing something.
func (g *Generator) act(id uint32) {
	s := &g.subs[id]
	s.lastAct = g.now
	if g.layers.gtp {
		if !s.attached {
			g.attach(id)
			g.queue.push(g.now+attachTime, evAct, id, 0)
			return
		}
		if g.rng.chance(g.sc.Encapsulation.Handovers) {
			g.handover(id)
		}
		if d := int64(g.sc.Encapsulation.DetachAfter); d > 0 {
			g.queue.push(g.now+d, evDetach, id, 0)
		}
	}
	pick := g.rng.float() * g.totalRate
	i := 0
	for pick -= g.services[0].PerHour; pick >= 0 && i < int(g.internal)-1; pick -= g.services[i].PerHour {
		i++
	}
	if g.services[i].inOutage || !g.rng.chance(1-1/g.surge(g.now)) {
		g.begin(id, uint8(i))
	}
	g.planAct(id, g.now)
}

// begin starts what the subscriber wants of a service.
func (g *Generator) begin(id uint32, service uint8) {
	s := &g.subs[id]
	sv := &g.services[service]
	r := request{service: service, name: g.anyName(service), port: uint16(sv.Ports[g.rng.below(len(sv.Ports))])}
	down := sv.inOutage && g.inOutage()
	if sv.Protocol == "chat" {
		if s.laddering && !down {
			g.climb(id) // the user tries again at once
			return
		}
		if s.chat != chatNone || s.laddering {
			return
		}
		if down {
			g.startLadder(id, 0)
			return
		}
		s.chat = chatPending
	} else if down {
		u := g.rng.float()
		if u >= g.sc.Outage.Residue+g.sc.Outage.Attempts {
			return
		}
		r.failing = u >= g.sc.Outage.Residue
		r.fetch = true // what still works: an upload needs the chat servers first
	}
	g.connect(id, r)
}

func (g *Generator) anyName(service uint8) uint32 {
	return g.nameID(service, g.rng.below(g.services[service].names))
}

// connect dials at once if the subscriber still has the name's addresses.
func (g *Generator) connect(id uint32, r request) {
	if c := g.recall(&g.subs[id], r.name); c != nil {
		g.dial(id, r, g.pick(r.name, c.base, c.active, c.count))
		return
	}
	g.resolve(id, r)
}

// failed is when a name could not be resolved.
func (g *Generator) failed(id uint32, r request) {
	s := &g.subs[id]
	if g.services[r.service].Protocol != "chat" {
		return
	}
	s.chat = chatNone
	if s.laddering {
		g.nextRung(id)
	}
}

// startLadder begins a round of reconnects in some time.
func (g *Generator) startLadder(id uint32, in int64) {
	s := &g.subs[id]
	s.laddering = true
	s.rung = 0
	g.queue.push(g.now+in, evLadder, id, 0)
}

// climb tries the ladder's next rung; after the outage any works.
func (g *Generator) climb(id uint32) {
	s := &g.subs[id]
	if !s.laddering || s.chat != chatNone {
		return
	}
	r := g.ladder[s.rung]
	s.chat = chatPending
	down := g.inOutage()
	if !down {
		s.laddering = false
	}
	g.connect(id, request{service: r.service, port: r.port, name: g.anyName(r.service), failing: down})
}

// nextRung plans the try after a failed one: soon, or after the last rung
// when the client has lost patience for a while.
func (g *Generator) nextRung(id uint32) {
	s := &g.subs[id]
	s.rung++
	in := g.rng.between(500e6, 3e9)
	if int(s.rung) == len(g.ladder) {
		s.rung = 0
		in = g.rng.between(int64(g.sc.Outage.WaitMin), int64(g.sc.Outage.WaitMax))
	}
	g.queue.push(g.now+in, evLadder, id, 0)
}

// newConn returns a connection with its slices' room kept.
func (g *Generator) newConn(sub uint32, server int32, service uint8) *conn {
	id, c := g.conns.get()
	s := &g.subs[sub]
	old := c.ends
	*c = conn{
		id: id, gen: c.gen + 1, live: true, steps: c.steps[:0],
		sub: sub, server: server, service: service, salt: g.rng.next(),
		appAt: never, keepAt: never, giveUpAt: never, killAt: never,
		nearQueued: never, appQueued: never, keepQueued: never,
		next: s.first, prev: -1,
	}
	if s.first >= 0 {
		g.conns.at(uint32(s.first)).prev = int32(id)
	}
	s.first = int32(id)
	s.conns++
	c.oneWay = g.sites[g.servers[server].site].oneWay
	c.iid = g.currentIID(s)
	c.sport = s.takePort(g)
	c.flow.clear()
	st := g.devices[s.device].stack
	c.sack = st.has(optSACK)
	c.timestamps = st.has(optTimestamp)
	mss := uint32(g.mss(s))
	if c.timestamps {
		mss -= 12
	}
	for i := range c.ends {
		e := &c.ends[i]
		e.segs, e.holes, e.writes = old[i].segs[:0], old[i].holes[:0], old[i].writes[:0]
		e.stack = serverStack
		if i == subscriberSide {
			e.stack = st
		}
		e.iss = uint32(g.rng.next())
		e.tsBase = uint32(g.rng.next())
		e.ipid = uint16(e.tsBase >> 7)
		e.mss = mss
		e.cwnd = e.initialWindow()
		e.ssthresh = math.MaxInt32
		e.stop()
	}
	if st.has(optScale) {
		c.ends[0].peerScale = serverStack.scale
		c.ends[1].peerScale = st.scale
	}
	return c
}

func (g *Generator) mss(s *subscriber) uint16 {
	if s.v6 {
		return uint16(g.sc.Access.MSS - 20)
	}
	return uint16(g.sc.Access.MSS)
}

// dial opens a connection to a server that has been chosen.
func (g *Generator) dial(id uint32, r request, server int32) {
	s := &g.subs[id]
	sv := &g.services[r.service]
	c := g.newConn(id, server, r.service)
	c.name, c.dport, c.failing = r.name, r.port, r.failing
	c.hideDown = g.rng.chance(g.sc.Tap.ClientOnly)
	c.tls13 = sv.TLS13
	c.sni = g.rng.chance(sv.SNI)
	c.ech = c.sni && c.tls13 && g.rng.chance(sv.ECH)
	c.bigHello = c.tls13 && g.rng.chance(sv.BigHello)
	d := g.devices[s.device]
	if d.KeepAlive > 0 {
		c.keepEvery = int64(d.KeepAlive)
		c.keepAt = g.now + c.keepEvery
	}
	c.active = g.now
	switch {
	case sv.Protocol == "chat":
		g.prepareChat(c, s, sv)
	case r.failing:
		g.failingScript(c)
	case sv.Protocol == "tls":
		g.transferScript(c, sv, int64(d.MediaLinger), r.fetch)
	case sv.Protocol == "http":
		g.httpScript(c, sv)
	case sv.Protocol == "push":
		g.pushScript(c, sv)
	}
	g.open(c)
	if sv.Protocol == "dead" {
		c.ends[serverSide].state = stateClosed
	}
}

func (g *Generator) prepareChat(c *conn, s *subscriber, sv *service) {
	c.kind = connChat
	s.chat = int32(c.id)
	if s.goneServer >= 0 && g.rng.chance(sv.PortReuse) {
		c.server, c.sport, c.dport = s.goneServer, s.gonePort, s.goneDport
		c.oneWay = g.sites[g.servers[c.server].site].oneWay
		c.reuses = true
	}
	s.goneServer = -1
	if c.failing {
		g.failingScript(c)
		return
	}
	if sv.inOutage && g.now < g.outageStart {
		c.killAt = g.outageStart + g.rng.between(0, 5*60e9)
		c.killSide = serverSide
	}
	g.chatScript(c, sv)
}

func (c *conn) then(side, do, kind uint8, length uint32, delay int64) {
	c.steps = append(c.steps, step{side, do, kind, length, delay})
}

// say appends a message of the kinds that have one length.
func (g *Generator) say(c *conn, side, kind uint8, delay int64) uint32 {
	n := g.messageLength(c, kind)
	c.then(side, stepWrite, kind, n, delay)
	return n
}

// draw returns a flow size in IP bytes.
func (g *Generator) draw(s *Size) float64 {
	v := s.Median * math.Exp(s.Sigma*g.rng.normal())
	if g.rng.chance(s.Tail) {
		v = s.TailFrom * math.Pow(1-g.rng.float(), -1/s.TailAlpha)
	}
	if s.Max > 0 {
		v = min(v, s.Max)
	}
	return v
}

// think is how long a server needs.
func (g *Generator) think() int64 { return 1e6 + int64(g.rng.exp(8e6)) }

// chatScript is a chat connection: log in, messages until its budget of bytes
// is used, and silence until the device's time-out.
func (g *Generator) chatScript(c *conn, sv *service) {
	// Most connections check in and fall silent at once; the others are
	// conversations.
	pause := 150e6
	if g.rng.chance(0.35) {
		pause = 5e9
	}
	header := float64(g.subs[c.sub].ipHeader() + 20)
	if c.timestamps {
		header += 12
	}
	budget := g.draw(&sv.Size) - 9*header
	spend := func(n uint32) { budget -= float64(n) + 1.7*header }
	spend(g.say(c, subscriberSide, writeChatHello, 5e6))
	chatty := func(side uint8, n int, delay int64) {
		c.then(side, stepWrite, writeChatFrame, uint32(n), delay)
		spend(uint32(n))
	}
	chatty(serverSide, 60+g.rng.below(80), g.think())
	chatty(subscriberSide, 70+g.rng.below(60), 5e6)
	chatty(serverSide, 50+g.rng.below(60), g.think())
	for budget > 0 && len(c.steps) < 400 {
		from := uint8(g.rng.below(2))
		delay := int64(g.rng.exp(pause))
		if budget > 15_000 {
			// A thumbnail, a long history: one piece.
			n := uint32(budget * (0.5 + 0.45*g.rng.float()))
			c.then(from, stepWrite, writeRaw, n, delay)
			budget -= float64(n) * 1.06
			continue
		}
		n := min(40+int(120*math.Exp(0.7*g.rng.normal())), 1200)
		chatty(from, n, delay)
		chatty(1-from, 24+g.rng.below(12), 5e6)
	}
	d := g.devices[g.subs[c.sub].device]
	silence := g.chatTimeout(d)
	switch {
	case g.rng.chance(sv.Vanish):
		c.then(subscriberSide, stepVanish, 0, 0, g.rng.between(1e9, silence))
	case g.rng.chance(d.Reset):
		c.then(subscriberSide, stepRST, 0, 0, silence)
	default:
		c.then(subscriberSide, stepFIN, 0, 0, silence)
	}
}

func (g *Generator) chatTimeout(d device) int64 {
	total := 0.0
	for _, t := range d.ChatTimeouts {
		total += t.Share
	}
	pick := g.rng.float() * total
	for _, t := range d.ChatTimeouts {
		if pick -= t.Share; pick < 0 {
			return int64(t.After)
		}
	}
	return int64(d.ChatTimeouts[len(d.ChatTimeouts)-1].After)
}

// tlsHandshake appends a handshake and returns its bytes.
func (g *Generator) tlsHandshake(c *conn, resumed bool) uint32 {
	n := g.say(c, subscriberSide, writeHello, 2e6)
	if resumed {
		n += g.say(c, serverSide, writeServerResume, g.think())
		return n + g.say(c, subscriberSide, writeClientFinished, 3e6)
	}
	n += g.say(c, serverSide, writeServerHello, g.think())
	if c.tls13 {
		return n + g.say(c, subscriberSide, writeClientFinished, 8e6)
	}
	n += g.say(c, subscriberSide, writeClientKey, 12e6)
	return n + g.say(c, serverSide, writeServerFinished, g.think())
}

// tls appends application data.
func (c *conn) tls(side uint8, n uint32, delay int64) {
	c.then(side, stepWrite, writeTLS, tlsLength(n), delay)
}

// transferScript is one TLS connection for one object.
func (g *Generator) transferScript(c *conn, sv *service, linger int64, fetch bool) {
	total := g.draw(&sv.Size)
	n := g.tlsHandshake(c, g.rng.chance(sv.Resumed))
	upload := g.rng.chance(sv.Upload) && !fetch
	// What is left after the handshake, both requests and the headers of
	// some 20 small packets is the object with its headers and half an ACK
	// a segment.
	header := float64(g.subs[c.sub].ipHeader() + 20)
	if c.timestamps {
		header += 12
	}
	segment := float64(c.ends[0].mss) + 1.5*header
	object := uint32(max((total-float64(n)-700-20*header)*float64(c.ends[0].mss)/segment, 300))
	if upload {
		c.tls(subscriberSide, object+350, 5e6)
		c.tls(serverSide, 320, g.think())
	} else {
		c.tls(subscriberSide, uint32(300+g.rng.below(150)), 5e6)
		c.tls(serverSide, object+250, g.think())
	}
	if g.rng.chance(sv.Abort) {
		c.killAt = g.now + g.rng.between(600e6, 6e9)
		c.killSide = subscriberSide
	}
	delay := g.rng.between(0, 200e6)
	if linger > 0 {
		delay = linger
	}
	g.say(c, subscriberSide, writeTLSAlert, delay)
	c.then(subscriberSide, stepFIN, 0, 0, 0)
}

// httpScript is a request, and a response that ends with the connection.
func (g *Generator) httpScript(c *conn, sv *service) {
	c.object = uint32(max(g.draw(&sv.Size)*0.92-900, 100))
	g.say(c, subscriberSide, writeHTTPRequest, 2e6)
	g.say(c, serverSide, writeHTTPResponse, g.think())
	c.then(serverSide, stepWrite, writeRaw, c.object, 0)
	c.then(serverSide, stepFIN, 0, 0, 0)
}

// pushScript is a connection that is silent for longer than the idle time-out
// of its class.
func (g *Generator) pushScript(c *conn, sv *service) {
	g.tlsHandshake(c, g.rng.chance(sv.Resumed))
	c.tls(subscriberSide, 180, 5e6)
	c.tls(serverSide, 240, g.think())
	for range 1 + g.rng.below(4) {
		c.tls(subscriberSide, 35, int64(sv.Heartbeat))
		c.tls(serverSide, 35, g.think())
	}
	c.then(subscriberSide, stepFIN, 0, 0, 10e9)
	c.keepAt = never
}

// failingScript is a server in the outage: it accepts, and then fails.
func (g *Generator) failingScript(c *conn) {
	tls := g.services[c.service].Protocol == "tls"
	if tls {
		g.say(c, subscriberSide, writeHello, 2e6)
	} else {
		g.say(c, subscriberSide, writeChatHello, 5e6)
	}
	switch u := g.rng.float(); {
	case u < 0.4:
		c.then(serverSide, stepRST, 0, 0, g.rng.between(50e6, 2e9))
	case u < 0.7:
		if tls {
			g.say(c, serverSide, writeTLSAlertPlain, g.rng.between(50e6, 8e9))
		}
		c.then(serverSide, stepFIN, 0, 0, g.rng.between(50e6, 2e9))
	default:
		c.then(subscriberSide, stepFIN, 0, 0, g.rng.between(15e9, 30e9))
	}
}

// dialLookup opens the connection that carries l: to the operator's resolver,
// or encrypted to it or to a public one.
func (g *Generator) dialLookup(l *lookup) {
	s := &g.subs[l.sub]
	server, which, port := g.resolver, uint8(serviceDNS), uint16(53)
	if s.encrypted {
		which, port = serviceDoT, 853
		if l.sub%2 == 1 {
			server, which, port = g.resolver+1, serviceDoH, 443
		}
	}
	c := g.newConn(l.sub, server, g.internal+which)
	c.name = g.nameID(g.internal+which, int(mix(uint64(l.sub))%uint64(g.services[g.internal+which].names)))
	c.kind, c.lookup, c.dport = connLookup, l.id, port
	c.active = g.now
	l.refs++
	if !s.encrypted {
		c.iid = s.stableIID()
		g.say(c, subscriberSide, writeDNSQuery, 1e6)
		g.say(c, serverSide, writeDNSAnswer, g.think())
		c.then(subscriberSide, stepResolved, 0, 0, 0)
		c.then(subscriberSide, stepFIN, 0, 0, 1e6)
		g.open(c)
		return
	}
	c.tls13 = true
	c.sni = which == serviceDoH
	g.tlsHandshake(c, g.rng.chance(0.8))
	c.tls(subscriberSide, 150, 1e6)
	c.tls(serverSide, 480, g.think())
	c.then(subscriberSide, stepResolved, 0, 0, 0)
	g.say(c, subscriberSide, writeTLSAlert, 2e9)
	c.then(subscriberSide, stepFIN, 0, 0, 0)
	g.open(c)
}

// settle ends c once neither end has anything to say and nothing is on its
// way.
func (g *Generator) settle(c *conn) {
	if !c.live || c.ghost || c.refs > 0 || !c.ends[0].done() || !c.ends[1].done() {
		return
	}
	s := &g.subs[c.sub]
	switch c.kind {
	case connLookup:
		l := g.lookups.at(c.lookup)
		l.refs--
		l.done = true
		if !l.answered {
			g.failed(l.sub, l.then)
		}
		g.settleLookup(l)
	case connChat:
		g.chatOver(c, s)
	}
	if f := &c.flow; f.open && !f.closed {
		// The tap waits for more until it loses patience.
		c.ghost = true
		c.appAt, c.keepAt, c.killAt = never, never, never
		c.ends[0].stop()
		c.ends[1].stop()
		c.giveUpAt = f.last + g.idleTimeout(c) + 1
		g.schedule(c)
		return
	}
	g.endFlow(c, "")
	g.release(c)
}

// chatOver is when a chat connection has ended.
func (g *Generator) chatOver(c *conn, s *subscriber) {
	if s.chat == int32(c.id) {
		s.chat = chatNone
	}
	if c.ends[0].state == stateGone {
		s.goneServer, s.gonePort, s.goneDport = c.server, c.sport, c.dport
		return
	}
	switch {
	case c.failing && s.laddering:
		g.nextRung(c.sub)
	case g.services[c.service].inOutage && g.inOutage() && !s.laddering:
		g.startLadder(c.sub, g.rng.between(1e9, 30e9))
	}
}

// release gives c back.
func (g *Generator) release(c *conn) {
	s := &g.subs[c.sub]
	if c.prev >= 0 {
		g.conns.at(uint32(c.prev)).next = c.next
	} else {
		s.first = c.next
	}
	if c.next >= 0 {
		g.conns.at(uint32(c.next)).prev = c.prev
	}
	s.conns--
	c.live = false
	c.gen++ // whatever is queued for it is stale
	g.conns.put(c.id)
}

// giveUp is when c's last deadline has come.
func (g *Generator) giveUp(c *conn) {
	if c.ghost {
		g.endFlow(c, "idle")
		g.release(c)
		return
	}
	c.giveUpAt = never
	for i := range c.ends {
		c.ends[i].state = stateReset
		c.ends[i].stop()
	}
}

// kill breaks c off.
func (g *Generator) kill(c *conn) {
	c.killAt = never
	e := &c.ends[c.killSide]
	if e.state != stateEstablished || e.finSent {
		return
	}
	c.appAt = never
	c.step = len(c.steps)
	if c.killSide == serverSide && g.rng.chance(0.5) {
		e.closing = true
		g.transmit(c, int(c.killSide))
		return
	}
	g.reset(c, int(c.killSide))
}
