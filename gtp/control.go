package gtp

// maxMessages in one datagram: piggybacking makes two (TS 29.274 section
// 5.5.1), PFCP may bundle more.
const maxMessages = 16

// packet is where a message came from.
type packet struct {
	src, dst     Addr
	sport, dport uint16
	sum          uint64
}

// Control takes the payload of one UDP datagram of the control plane (either
// port PortGTPC or PortPFCP), with its outer addresses and ports and the packet
// time in nanoseconds. It keeps nothing of payload. The verdict is that of the
// last message that was read; a message that is not usable ends the datagram.
func (t *Table) Control(payload []byte, src, dst Addr, sport, dport uint16, now int64) Verdict {
	t.Advance(now)
	pfcp := sport == PortPFCP || dport == PortPFCP
	p := packet{src: src, dst: dst, sport: sport, dport: dport}
	m := &t.message
	v := OK
	for range maxMessages {
		var rest []byte
		rest, v = m.Parse(payload, pfcp)
		t.counters.Malformed[v]++
		if !v.Usable() {
			return v
		}
		t.counters.Messages[m.Kind()]++
		t.counters.EndpointsDropped += uint64(m.Dropped)
		p.sum = checksum(payload[:len(payload)-len(rest)], t.exchanges.seed)
		t.handle(m, &p)
		if len(rest) == 0 {
			break
		}
		payload = rest
		if !pfcp {
			p.sport = 0 // see exchangeKey
		}
	}
	return v
}

func (t *Table) handle(m *Message, p *packet) {
	info := &kindInfos[m.Kind()]
	switch info.role {
	case roleRequest:
		t.request(m, p, info)
	case roleResponse:
		t.response(m, p, info)
	}
}

func (t *Table) request(m *Message, p *packet, info *kindInfo) {
	k := exchangeKey{
		initiator: p.src, responder: p.dst, port: p.sport,
		seq: m.Seq, request: info.request, version: m.Version,
	}
	if x := t.exchanges.find(&k); x != nil {
		if x.state == exchangeInverted || x.state == exchangeRefusedFirst {
			t.invert(x, m, p, info)
			return
		}
		if x.sum == p.sum {
			t.counters.Repeated++
			return
		}
		t.dropExchange(x)
	}
	x := t.newExchange(&k)
	*t.asked(x), x.sum, x.state = *m, p.sum, exchangeAsked
	t.countUnknown(m)
	switch info.op {
	case opModify, opPFCPModify, opBearerCreate:
		t.announce(x, info.op)
	case opDelete:
		if s := t.target(controlKey(m.Version, k.responder, m.TEID), m.EBI); s != 0 {
			x.ref = t.ref(s)
		}
	}
}

// invert does an exchange once more whose response came first: two mirror ports
// are never perfectly in step. Its message is the response.
func (t *Table) invert(x *exchange, m *Message, p *packet, info *kindInfo) {
	granted := x.state == exchangeInverted
	x.sum, x.state = p.sum, exchangeAnswered
	t.countUnknown(m)
	if granted {
		t.late = *t.asked(x)
		*t.asked(x) = *m
		t.perform(x, &t.late, info.op)
	}
	t.exchanges.settle(x)
}

// asked is the request of an exchange that waits for its response.
func (t *Table) asked(x *exchange) *Message { return t.exchanges.message(x) }

func (t *Table) newExchange(k *exchangeKey) *exchange {
	for t.exchanges.full() || t.exchanges.crowded() {
		if t.exchanges.oldest().state == exchangeAsked {
			t.counters.ExchangesEvicted++
		}
		t.rollback(t.exchanges.oldest())
		t.exchanges.shift()
	}
	x := t.exchanges.add(k)
	x.born, x.ref = t.now, Ref{}
	t.exchanges.keep(x)
	return x
}

// dropExchange gives up a request whose sequence number is used anew.
func (t *Table) dropExchange(x *exchange) {
	if x.state == exchangeAsked {
		t.counters.Unanswered++
		t.rollback(x)
	}
	t.exchanges.forget(x)
}

// expireExchange ends the wait for a response. A delete stands without: the
// side that asked has forgotten the session (TS 29.274 section 7.6).
func (t *Table) expireExchange(x *exchange) {
	if x.state == exchangeAsked {
		t.counters.Unanswered++
		t.rollback(x)
		if info := &kindInfos[kinds[x.key.version][x.key.request]]; info.op == opDelete && t.alive(x.ref) {
			t.deleteSession(x.ref.Index, t.asked(x))
		}
	}
	t.exchanges.shift()
}

func (t *Table) response(m *Message, p *packet, info *kindInfo) {
	k := exchangeKey{
		initiator: p.dst, responder: p.src, port: p.dport,
		seq: m.Seq, request: info.request, version: m.Version,
	}
	x := t.exchanges.find(&k)
	if x == nil && m.Version != PFCP {
		piggybacked := k
		piggybacked.port = 0
		x = t.exchanges.find(&piggybacked)
	}
	if x == nil {
		t.counters.Unmatched++
		x = t.newExchange(&k)
		*t.asked(x) = Message{Version: m.Version, Type: info.request, NumBearers: 1}
		x.sum, x.state = 0, exchangeInverted
	} else {
		if x.state != exchangeAsked {
			t.counters.Repeated++
			return
		}
		x.state = exchangeAnswered
	}
	t.countUnknown(m)
	granted := m.accepted() || m.notFound() && isDelete(info.op)
	if granted {
		t.perform(x, m, info.op)
	} else {
		t.counters.Refused++
		t.rollback(x)
	}
	switch {
	case x.state != exchangeInverted:
		t.exchanges.settle(x)
	case granted:
		*t.asked(x) = *m
	default:
		x.state = exchangeRefusedFirst
		t.exchanges.settle(x)
	}
}

func isDelete(op operation) bool {
	return op == opDelete || op == opPFCPDelete || op == opBearerDelete
}

func (t *Table) countUnknown(m *Message) {
	for i := range m.Endpoints[:m.NumEndpoints] {
		if m.Endpoints[i].slot >= slotUnknownControl {
			t.counters.UnknownInterfaces++
		}
	}
}

// perform does what request and response agreed on.
func (t *Table) perform(x *exchange, answer *Message, op operation) {
	switch op {
	case opCreate, opPFCPCreate:
		t.establish(x, answer)
	case opModify, opPFCPModify, opBearerCreate:
		t.modify(x, answer, op)
	case opDelete:
		t.performDelete(x, answer)
	case opBearerDelete:
		t.deleteBearers(x, answer)
	case opRelease:
		t.releaseSlot(x, slotRAN)
	case opForwardDelete:
		t.releaseSlot(x, slotForward)
	case opPFCPDelete:
		t.deletePFCP(x, answer)
	}
}

// controlKey is a control endpoint's. SEIDs are numbered apart from TEIDs, at
// what may be the same address: theirs is its complement, which no node has.
func controlKey(v Version, a Addr, id uint64) key {
	if v == PFCP {
		return key{^a.Hi, ^a.Lo, id}
	}
	return key{a.Hi, a.Lo, id}
}

func (e *Endpoint) controlKey() key {
	if e.slot == slotSEIDCP || e.slot == slotSEIDUP {
		return controlKey(PFCP, e.Addr, e.ID)
	}
	return controlKey(V2, e.Addr, e.ID)
}

// target finds the session that a message to the control endpoint k is about;
// ebi tells apart those that share it, 0 where not known.
//
// On S11 all PDN connections of an UE share one endpoint at each end, and so
// may the PDP contexts of GTPv1 (TS 29.060 section 7.7.14), so there a bearer
// that no session has belongs to one that was never seen. S5/S8 has an endpoint
// a PDN connection.
func (t *Table) target(k key, ebi uint8) uint32 {
	if k.id == 0 {
		return 0
	}
	only, n := -1, 0
	for i := t.control.find(k); i >= 0; i = t.control.next(i, k) {
		s := t.control.entries[i].session
		if ebi != 0 && t.hasBearer(s, ebi) {
			return s
		}
		only = i
		n++
	}
	if n != 1 {
		return 0
	}
	e := &t.control.entries[only]
	s := e.session
	shared := e.slot == slotCtlAccess || e.slot == slotCtlSGWAccess || t.sessions[s].Version == V1
	if ebi != 0 && shared && t.sessions[s].EBI != 0 {
		return 0
	}
	return s
}

// parties finds the session by the request's TEID at the responder, else by the
// response's at the initiator.
func (t *Table) parties(x *exchange, answer *Message, ebi uint8) uint32 {
	if s := t.target(t.responderKey(x), ebi); s != 0 || answer == nil {
		return s
	}
	return t.target(x.initiatorKey(answer), ebi)
}

// responderKey is the control endpoint that the request was sent to,
// initiatorKey that of its response.
func (t *Table) responderKey(x *exchange) key {
	return controlKey(x.key.version, x.key.responder, t.asked(x).TEID)
}

func (x *exchange) initiatorKey(answer *Message) key {
	return controlKey(x.key.version, x.key.initiator, answer.TEID)
}

func (t *Table) hasBearer(s uint32, ebi uint8) bool {
	if t.sessions[s].EBI == ebi {
		return true
	}
	for i := t.user.first(s); i >= 0; i = t.user.older(i) {
		if t.user.entries[i].bearer == ebi {
			return true
		}
	}
	return false
}

// settleSender gives the endpoints of a GTPv1 message the side of its sender,
// those without an address the sender's (TS 29.060 section 7.7.32), and those of
// a response, which need not repeat it, the request's NSAPI.
func settleSender(m *Message, from Addr, access bool, nsapi uint8) {
	for i := range m.Endpoints[:m.NumEndpoints] {
		e := &m.Endpoints[i]
		if e.Addr.IsZero() {
			e.Addr = from
		}
		if e.Bearer == 0 && !e.Control() {
			e.Bearer = nsapi
		}
		switch {
		case e.slot == slotSender && access:
			e.slot = slotRAN
		case e.slot == slotSender:
			e.slot = slotPGW
		case e.slot == slotCtlSender && access:
			e.slot = slotCtlAccess
		case e.slot == slotCtlSender:
			e.slot = slotCtlPGW
		default:
			continue
		}
		e.Direction = e.slot.direction()
	}
}

// settleSides does so for both messages of an exchange: one that is sent to a
// gateway comes from the access side.
func (t *Table) settleSides(x *exchange, answer *Message) {
	if x.key.version != V1 {
		return
	}
	ask := t.asked(x)
	access := true
	if i := t.control.find(t.responderKey(x)); i >= 0 {
		access = t.control.entries[i].slot == slotCtlPGW
	} else if answer != nil {
		if i := t.control.find(x.initiatorKey(answer)); i >= 0 {
			access = t.control.entries[i].slot != slotCtlPGW
		}
	}
	settleSender(ask, x.key.initiator, access, ask.EBI)
	if answer != nil {
		settleSender(answer, x.key.responder, !access, ask.EBI)
	}
}
