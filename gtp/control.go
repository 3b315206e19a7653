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
	x.m, x.sum, x.state = *m, p.sum, exchangeAsked
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
// are never perfectly in step. x.m holds the response.
func (t *Table) invert(x *exchange, m *Message, p *packet, info *kindInfo) {
	t.late = x.m
	granted := x.state == exchangeInverted
	x.m, x.sum, x.state = *m, p.sum, exchangeAnswered
	t.countUnknown(m)
	if granted {
		t.perform(x, &t.late, info.op)
	}
}

func (t *Table) newExchange(k *exchangeKey) *exchange {
	if t.exchanges.full() {
		if t.exchanges.oldest().state == exchangeAsked {
			t.counters.ExchangesEvicted++
		}
		t.rollback(t.exchanges.oldest())
		t.exchanges.shift()
	}
	x := t.exchanges.add(k)
	x.born, x.ref = t.now, Ref{}
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
			t.deleteSession(x.ref.Index, &x.m)
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
		x.m = Message{Version: m.Version, Type: info.request, NumBearers: 1}
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
	if x.state == exchangeInverted {
		x.m = *m
		if !granted {
			x.state = exchangeRefusedFirst
		}
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
	if s := t.target(x.responderKey(), ebi); s != 0 || answer == nil {
		return s
	}
	return t.target(x.initiatorKey(answer), ebi)
}

// responderKey is the control endpoint that the request was sent to,
// initiatorKey that of its response.
func (x *exchange) responderKey() key {
	return controlKey(x.key.version, x.key.responder, x.m.TEID)
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
	access := true
	if i := t.control.find(x.responderKey()); i >= 0 {
		access = t.control.entries[i].slot == slotCtlPGW
	} else if answer != nil {
		if i := t.control.find(x.initiatorKey(answer)); i >= 0 {
			access = t.control.entries[i].slot != slotCtlPGW
		}
	}
	settleSender(&x.m, x.key.initiator, access, x.m.EBI)
	if answer != nil {
		settleSender(answer, x.key.responder, !access, x.m.EBI)
	}
}

// establish makes a session of a granted create, or finds the one that it is
// about: the other hop of a chain (S11 and S5/S8 both tapped), a handover to
// another SGW or access, the UP function's half (PFCP). Where the response came
// first, ask is empty at first, and x.ref is what it made the second time.
func (t *Table) establish(x *exchange, answer *Message) {
	ask := &x.m
	t.settleSides(x, answer)
	if ask.Secondary {
		t.establishSecondary(x, answer)
		return
	}
	parts := [2]*Message{ask, answer}
	t.tagFARs(x)
	bindDirections(ask, answer)
	s := t.sessionOf(x, parts)
	if s == 0 {
		if !worthKeeping(parts) {
			return
		}
		if s = t.create(ask.Version); s == 0 {
			return
		}
	}
	x.ref = t.ref(s)
	t.describe(s, parts)
	if ask.NumEndpoints == 0 {
		t.learnInitiator(s, x, answer)
	}
	t.learnControl(s, parts)
	t.learnAddresses(s, parts)
	x.ref = t.ref(t.place(parts, s))
}

// worthKeeping: a session that no packet could ever be matched with is none.
func worthKeeping(parts [2]*Message) bool {
	for _, m := range parts {
		if !m.UEv4.IsZero() || !m.UEv6.IsZero() {
			return true
		}
		for i := range m.Endpoints[:m.NumEndpoints] {
			if e := &m.Endpoints[i]; !e.Control() && e.ID != 0 {
				return true
			}
		}
	}
	return false
}

// ueAddresses: the response assigns, the request may only wish.
func ueAddresses(parts [2]*Message) (v4, v6 Addr, prefix uint8) {
	v4, v6, prefix = parts[1].UEv4, parts[1].UEv6, parts[1].UEv6Prefix
	if v4.IsZero() && v6.IsZero() {
		v4, v6, prefix = parts[0].UEv4, parts[0].UEv6, parts[0].UEv6Prefix
	}
	return v4, v6, prefix
}

// sessionOf finds the session that a create is about, 0 for a new one. Sessions
// that the create proves dead end here.
func (t *Table) sessionOf(x *exchange, parts [2]*Message) uint32 {
	ask := parts[0]
	own := uint32(0)
	if t.alive(x.ref) {
		own = x.ref.Index
	}
	if ask.Version == PFCP {
		return own // joined by its endpoints, see claim
	}
	v4, v6, _ := ueAddresses(parts)
	s := t.quoted(parts, own, v4, v6)
	if s == 0 {
		s = t.sameIdentity(ask, own, v4, v6)
	}
	if s == 0 && ask.Handover {
		s = t.sameAddress(ask, v4, v6)
	}
	if s == 0 && own == 0 {
		s = t.sibling(x, parts, v4, v6)
	}
	switch {
	case s == 0:
		return own
	case own != 0 && own != s:
		t.merge(s, own)
	case t.restarted(s, parts):
		t.control.deleteAll(s)
		t.markAll(s)
		t.retire(s)
	}
	return s
}

// quoted finds a session by the PGW's control endpoint: the response on both
// hops names it, and the request of a handover does.
func (t *Table) quoted(parts [2]*Message, own uint32, v4, v6 Addr) uint32 {
	ask := parts[0]
	for _, m := range parts {
		for n := range m.Endpoints[:m.NumEndpoints] {
			e := &m.Endpoints[n]
			if e.slot != slotCtlPGW || e.ID == 0 {
				continue
			}
			k := e.controlKey()
			for i := t.control.find(k); i >= 0; {
				s := t.control.entries[i].session
				if s == own || !t.sameUser(s, ask) {
					i = t.control.next(i, k)
					continue
				}
				if !t.contradicts(s, v4, v6) {
					return s
				}
				t.end(s, &t.counters.Replaced) // its TEID is in use anew
				i = t.control.find(k)
			}
		}
	}
	return 0
}

// sameUser: IMSI and bearer do not speak against it.
func (t *Table) sameUser(s uint32, ask *Message) bool {
	r := &t.sessions[s]
	if r.IMSI != 0 && ask.IMSI != 0 && r.IMSI != ask.IMSI {
		return false
	}
	return r.EBI == 0 || ask.EBI == 0 || r.EBI == ask.EBI || ask.Handover
}

// sameIdentity finds a session of the same subscriber, APN and bearer. With the
// same address it is the same one; with another the network has put the old one
// away (implicit detach, TS 23.401 section 5.3.2.1).
func (t *Table) sameIdentity(ask *Message, own uint32, v4, v6 Addr) uint32 {
	k, ok := t.identityKey(ask.IMSI, ask.IMEI, t.intern(ask.APN()), ask.EBI)
	if !ok {
		return 0
	}
	i := t.identities.find(k)
	if i < 0 || t.identities.entries[i].session == own {
		return 0
	}
	s := t.identities.entries[i].session
	if t.hasAddress(s, v4, v6) {
		return s
	}
	t.end(s, &t.counters.Replaced)
	return 0
}

// identityKey: an emergency session may have an IMEI only (TS 23.401 section
// 4.3.12).
func (t *Table) identityKey(imsi, imei Digits, apn APN, ebi uint8) (k key, ok bool) {
	switch {
	case imsi != 0:
		return key{uint64(imsi), uint64(apn), uint64(ebi)}, true
	case imei != 0:
		return key{uint64(imei), uint64(apn), uint64(ebi) | 1<<8}, true
	}
	return key{}, false
}

// sameAddress finds the session that an UE brings along to another access: same
// subscriber and APN, and the address that it asks to keep (TS 23.402 section
// 8.6). The bearer may be numbered anew.
func (t *Table) sameAddress(ask *Message, v4, v6 Addr) uint32 {
	apn := t.intern(ask.APN())
	for ebi := uint8(1); ebi <= 15; ebi++ {
		k, ok := t.identityKey(ask.IMSI, ask.IMEI, apn, ebi)
		if !ok {
			return 0
		}
		if i := t.identities.find(k); i >= 0 && t.hasAddress(t.identities.entries[i].session, v4, v6) {
			return t.identities.entries[i].session
		}
	}
	return 0
}

// sibling helps a response without its request: it is sent to an endpoint that
// may be known, as that of the same session on a repetition.
func (t *Table) sibling(x *exchange, parts [2]*Message, v4, v6 Addr) uint32 {
	ask, answer := parts[0], parts[1]
	if ask.NumEndpoints != 0 || answer.TEID == 0 {
		return 0
	}
	k := x.initiatorKey(answer)
	for i := t.control.find(k); i >= 0; i = t.control.next(i, k) {
		s := t.control.entries[i].session
		if t.hasAddress(s, v4, v6) {
			return s
		}
	}
	return 0
}

// restarted: the same subscriber with the same address, but the gateway has
// made a new session. What was known of the old one's tunnels is over.
func (t *Table) restarted(s uint32, parts [2]*Message) bool {
	had, named := false, false
	for i := t.control.first(s); i >= 0; i = t.control.older(i) {
		had = had || t.control.entries[i].slot == slotCtlPGW
	}
	for _, m := range parts {
		for i := range m.Endpoints[:m.NumEndpoints] {
			e := &m.Endpoints[i]
			if e.slot != slotCtlPGW || e.ID == 0 {
				continue
			}
			named = true
			if t.control.findOf(e.controlKey(), s) >= 0 {
				return false
			}
		}
	}
	return had && named
}

func (t *Table) hasAddress(s uint32, v4, v6 Addr) bool {
	r := &t.sessions[s]
	return !v4.IsZero() && r.UEv4 == v4 || !v6.IsZero() && r.UEv6.ueKey() == v6.ueKey()
}

func (t *Table) contradicts(s uint32, v4, v6 Addr) bool {
	r := &t.sessions[s]
	return !v4.IsZero() && !r.UEv4.IsZero() && r.UEv4 != v4 ||
		!v6.IsZero() && !r.UEv6.IsZero() && r.UEv6.ueKey() != v6.ueKey()
}

// describe takes over who the subscriber is.
func (t *Table) describe(s uint32, parts [2]*Message) {
	r := &t.sessions[s]
	r.Seen, r.signalled = t.now, t.now
	for _, m := range parts {
		t.learnIdentity(r, m)
	}
	if parts[0].Version == PFCP {
		return
	}
	for _, m := range parts {
		if m.EBI != 0 {
			r.EBI = m.EBI
			break
		}
	}
	t.enrol(s)
}

func (t *Table) learnIdentity(r *Session, m *Message) {
	for _, d := range [...]struct {
		to   *Digits
		from Digits
	}{{&r.IMSI, m.IMSI}, {&r.MSISDN, m.MSISDN}, {&r.IMEI, m.IMEI}} {
		if d.from != 0 {
			*d.to = d.from
		}
	}
	if m.RAT != 0 {
		r.RAT = m.RAT
	}
	// A Network Instance may be an APN and may be some other name of a
	// routing domain (TS 29.244 section 8.2.4): better than nothing.
	if a := t.intern(m.APN()); a != NoAPN && (r.APN == NoAPN || r.apnIsNI || !m.apnIsNI) {
		r.APN, r.apnIsNI = a, m.apnIsNI
	}
}

// enrol lets the session be found by its identity. Whoever stood there before
// was asked about in sameIdentity.
func (t *Table) enrol(s uint32) {
	r := &t.sessions[s]
	k, ok := t.identityKey(r.IMSI, r.IMEI, r.APN, r.EBI)
	if !ok {
		return
	}
	if i := t.identities.find(k); i >= 0 {
		if t.identities.entries[i].session == s {
			return
		}
		t.end(t.identities.entries[i].session, &t.counters.Replaced)
	}
	t.identities.deleteAll(s)
	t.sessions[s].keyed = t.insert(&t.identities, k, s) != nil
}

func (t *Table) learnControl(s uint32, parts [2]*Message) {
	for _, m := range parts {
		for i := range m.Endpoints[:m.NumEndpoints] {
			t.setControl(s, &m.Endpoints[i])
		}
	}
}

// learnInitiator: a response that comes without its request still tells the
// TEID that its receiver chose.
func (t *Table) learnInitiator(s uint32, x *exchange, answer *Message) {
	e := Endpoint{Addr: x.key.initiator, ID: answer.TEID, slot: slotCtlAccess}
	switch answer.Version {
	case PFCP:
		e.slot = slotSEIDCP
	case V2:
		e.slot = slotCtlSGWCore // S5/S8, unless the SGW answers on S11
		for i := range answer.Endpoints[:answer.NumEndpoints] {
			if a := &answer.Endpoints[i]; a.slot == slotCtlSGWAccess || a.Interface == 32 || a.Interface == 36 {
				e.slot = slotCtlAccess
			}
		}
	}
	t.inherit(s, &e)
	t.setControl(s, &e)
}

// inherit takes the subscriber over from another session at the same end of S11.
func (t *Table) inherit(s uint32, e *Endpoint) {
	r := &t.sessions[s]
	if e.slot != slotCtlAccess || r.IMSI != 0 || r.Version != V2 {
		return
	}
	k := e.controlKey()
	for i := t.control.find(k); i >= 0; i = t.control.next(i, k) {
		if o := &t.sessions[t.control.entries[i].session]; o.IMSI != 0 {
			r.IMSI, r.MSISDN, r.IMEI = o.IMSI, o.MSISDN, o.IMEI
			return
		}
	}
}

// setControl gives a session a control endpoint, in place of the one that it
// had in that slot: after a change of SGW the old one's delete must not find it
// (TS 23.401 section 5.3.3.1).
func (t *Table) setControl(s uint32, e *Endpoint) {
	if !e.Control() || e.ID == 0 || e.Addr.IsZero() {
		return
	}
	k := e.controlKey()
	if e.slot != slotSEIDCP && e.slot != slotSEIDUP { // a session may have two UP functions
		for i := t.control.first(s); i >= 0; {
			o := &t.control.entries[i]
			if o.slot == e.slot && o.id != e.ID || o.slot == e.slot && o.key != k && sameFamily(o.hi, o.lo, e.Addr) {
				t.control.delete(i)
				i = t.control.first(s)
				continue
			}
			i = t.control.older(i)
		}
	}
	if e.slot == slotCtlPGW && (t.sessions[s].Gateway.IsZero() || e.Addr.Is4()) {
		t.sessions[s].Gateway = e.Addr
	}
	if i := t.control.findOf(k, s); i >= 0 {
		t.control.entries[i].slot = e.slot
		return
	}
	t.evictStrangers(k, s)
	if t.control.counts[s] >= maxControlEndpoints {
		t.control.delete(t.control.oldest(s))
		t.counters.EndpointsDropped++
	}
	if n := t.insert(&t.control, k, s); n != nil {
		n.slot = e.slot
	}
}

func sameFamily(hi, lo uint64, a Addr) bool { return Addr{hi, lo}.Is4() == a.Is4() }

// evictStrangers takes k from sessions of other subscribers: its owner has given
// it away anew. Those of the same one may share it, within bounds.
func (t *Table) evictStrangers(k key, s uint32) {
	imsi := t.sessions[s].IMSI
	n, last := 0, -1
	for i := t.control.find(k); i >= 0; {
		o := t.control.entries[i].session
		if t.sessions[o].IMSI != imsi || imsi == 0 {
			t.control.delete(i)
			t.counters.EndpointsReassigned++
			if t.control.heads[o] == 0 { // nobody can ever speak of it again
				t.end(o, &t.counters.Replaced)
			}
			i, n = t.control.find(k), 0
			continue
		}
		last = i
		n++
		i = t.control.next(i, k)
	}
	if n >= maxSharing {
		t.control.delete(last)
		t.counters.EndpointsDropped++
	}
}

func (t *Table) learnAddresses(s uint32, parts [2]*Message) {
	v4, v6, prefix := ueAddresses(parts)
	t.setUE(s, v4, v6, prefix)
}

// setUE gives a session the user's addresses, zero for no change.
func (t *Table) setUE(s uint32, v4, v6 Addr, prefix uint8) {
	r := &t.sessions[s]
	if !v4.IsZero() && r.UEv4 != v4 {
		t.moveUser(s, r.UEv4, v4)
		r.UEv4 = v4
	}
	if !v6.IsZero() {
		if r.UEv6.ueKey() != v6.ueKey() {
			t.moveUser(s, r.UEv6, v6)
		}
		r.UEv6, r.UEv6Prefix = v6, prefix
	}
}

func (t *Table) moveUser(s uint32, from, to Addr) {
	if !from.IsZero() {
		f := from.ueKey()
		if i := t.users.findOf(key{f.Hi, f.Lo, 0}, s); i >= 0 {
			t.users.delete(i)
		}
	}
	to = to.ueKey()
	k := key{to.Hi, to.Lo, 0}
	n, any := 0, -1
	for i := t.users.find(k); i >= 0; {
		if o := t.users.entries[i].session; t.holdsStale(o, s) {
			t.end(o, &t.counters.Replaced)
			i, n = t.users.find(k), 0
			continue
		}
		any = i
		n++
		i = t.users.next(i, k)
	}
	if n >= maxSharing {
		// ByUE answers nothing for this address until they are gone.
		t.users.entries[any].flags |= flagCrowded
		return
	}
	t.insert(&t.users, k, s)
}

// holdsStale: one gateway gives an address of one APN to one session. Whoever
// had it is gone, though the delete was not seen.
func (t *Table) holdsStale(old, s uint32) bool {
	o, r := &t.sessions[old], &t.sessions[s]
	return old != s && o.APN == r.APN && r.APN != NoAPN &&
		o.Gateway == r.Gateway && !r.Gateway.IsZero()
}

// establishSecondary adds a secondary PDP context to its primary (TS 29.060
// section 7.3.1): other tunnels, same user, same address.
func (t *Table) establishSecondary(x *exchange, answer *Message) {
	ask := &x.m
	s := t.target(x.responderKey(), ask.LinkedNSAPI)
	if s == 0 {
		t.counters.UnknownSession++
		return
	}
	t.sessions[s].Seen, t.sessions[s].signalled = t.now, t.now
	t.place([2]*Message{ask, answer}, s)
}

// bindDirections lets a PFCP response know what its rules are for.
func bindDirections(ask, answer *Message) {
	if ask.Version != PFCP {
		return
	}
	answer.resolve(ask.Endpoints[:ask.NumEndpoints])
}

// bindBearers gives the endpoints of a Create Bearer Request the bearer that
// only the response knows; they are matched by an F-TEID that both hold
// (TS 29.274 section 7.2.4).
func bindBearers(ask, answer *Message) {
	for i := range ask.Endpoints[:ask.NumEndpoints] {
		e := &ask.Endpoints[i]
		if e.Bearer != 0 || e.context == 0 {
			continue
		}
		e.Bearer = answeredBearer(ask, answer, e.context)
	}
}

func answeredBearer(ask, answer *Message, context uint8) uint8 {
	for i := range ask.Endpoints[:ask.NumEndpoints] {
		e := &ask.Endpoints[i]
		if e.context != context {
			continue
		}
		for n := range answer.Endpoints[:answer.NumEndpoints] {
			a := &answer.Endpoints[n]
			if a.ID == e.ID && a.Addr == e.Addr && a.context != 0 {
				return a.Bearer
			}
		}
	}
	return 0
}

// defaultBearer names the bearer that tells a modify's session apart.
func defaultBearer(m *Message, op operation) uint8 {
	if m.EBI != 0 || op == opBearerCreate {
		return m.EBI
	}
	for i := range m.Bearers[1:m.NumBearers] {
		if ebi := m.Bearers[1+i].EBI; ebi != 0 {
			return ebi
		}
	}
	return 0
}

// announce lets the endpoints of a request resolve before its response is seen:
// the gateway sends to a new eNodeB while its answer is still on the way, or
// before the answer passes the other mirror port. Nothing old goes yet.
func (t *Table) announce(x *exchange, op operation) {
	t.settleSides(x, nil)
	m := &x.m
	t.tagFARs(x)
	def := t.target(x.responderKey(), defaultBearer(m, op))
	for i := range m.Endpoints[:m.NumEndpoints] {
		e := &m.Endpoints[i]
		s := t.ownerOf(x, nil, e, def, op)
		if s == 0 || e.Control() || e.Addr.IsZero() || e.ID == 0 {
			continue
		}
		k := key{e.Addr.Hi, e.Addr.Lo, e.ID}
		if n := t.user.find(k); n >= 0 && t.user.entries[n].session == s {
			continue
		}
		now := t.claim(s, e)
		if def == s {
			def = now
		}
		if n := t.user.findOf(k, now); n >= 0 {
			t.user.entries[n].flags |= flagTentative
		}
	}
}

// ownerOf finds the session that an endpoint of a modify belongs to: one message
// may speak of bearers of several PDN connections (Modify Access Bearers).
func (t *Table) ownerOf(x *exchange, answer *Message, e *Endpoint, def uint32, op operation) uint32 {
	if e.Bearer == 0 || e.Bearer >= 16 || op != opModify || def != 0 && t.hasBearer(def, e.Bearer) {
		return def
	}
	return t.parties(x, answer, e.Bearer)
}

// rollback takes back what announce did.
func (t *Table) rollback(x *exchange) {
	if x.state == exchangeGone {
		return
	}
	m := &x.m
	for i := range m.Endpoints[:m.NumEndpoints] {
		e := &m.Endpoints[i]
		if n := t.user.find(key{e.Addr.Hi, e.Addr.Lo, e.ID}); n >= 0 && t.user.entries[n].flags&flagTentative != 0 {
			t.user.delete(n)
		}
	}
}

// modify applies a granted Modify Bearer, Update PDP Context, Create Bearer or
// PFCP modification to the sessions it is about.
func (t *Table) modify(x *exchange, answer *Message, op operation) {
	ask := &x.m
	t.settleSides(x, answer)
	t.tagFARs(x)
	bindDirections(ask, answer)
	if op == opBearerCreate {
		bindBearers(ask, answer)
	}
	def := t.parties(x, answer, defaultBearer(ask, op))
	parts := [2]*Message{ask, answer}
	known := false
	for p, m := range parts {
		for i := range m.Endpoints[:m.NumEndpoints] {
			e := &m.Endpoints[i]
			s := t.ownerOf(x, answer, e, def, op)
			t.owners[p][i] = s
			known = known || s != 0
			if s != 0 {
				t.setControl(s, e)
			}
		}
	}
	if def == 0 && !known {
		t.counters.UnknownSession++
		return
	}
	if def != 0 {
		t.touch(def, parts)
	}
	t.removeBearers(ask, def)
	t.replace(parts)
	t.rollback(x) // what was announced and not granted
}

func (t *Table) touch(s uint32, parts [2]*Message) {
	r := &t.sessions[s]
	r.Seen, r.signalled = t.now, t.now
	for _, m := range parts {
		if m.RAT != 0 {
			r.RAT = m.RAT
		}
		if m.IMEI != 0 && r.IMEI == 0 {
			r.IMEI = m.IMEI
		}
		if m.MSISDN != 0 && r.MSISDN == 0 {
			r.MSISDN = m.MSISDN
		}
		if m.Version == PFCP {
			t.setUE(s, m.UEv4, m.UEv6, m.UEv6Prefix)
		}
	}
}

// removeBearers: bearer contexts to be removed have instance 1 in a Modify
// Bearer Request (TS 29.274 section 7.2.7).
func (t *Table) removeBearers(ask *Message, s uint32) {
	if s == 0 || ask.Version != V2 || ask.Type != 34 {
		return
	}
	for i := range ask.Bearers[1:ask.NumBearers] {
		if b := &ask.Bearers[1+i]; b.Instance == 1 && b.EBI != 0 {
			t.markBearer(s, b.EBI)
			t.retire(s)
		}
	}
}

// place puts the user-plane endpoints of parts into session s. It returns the
// session that has them then, which is another where two turned out to be one.
func (t *Table) place(parts [2]*Message, s uint32) uint32 {
	for p, m := range parts {
		for i := range m.Endpoints[:m.NumEndpoints] {
			t.owners[p][i] = s
		}
	}
	merged := t.replace(parts)
	if merged != 0 {
		return merged
	}
	return s
}

// replace puts endpoints into the sessions in t.owners, in place of what had
// their slots. All that goes is marked before anything comes, so that endpoints
// of one message do not push each other out. It returns the session of the last
// one, 0 where there was none.
func (t *Table) replace(parts [2]*Message) (last uint32) {
	refused := refusedBearers(parts[1])
	for p, m := range parts {
		for i := range m.Endpoints[:m.NumEndpoints] {
			if s := t.owners[p][i]; s != 0 && placeable(&m.Endpoints[i], refused) {
				t.mark(s, &m.Endpoints[i])
			}
		}
	}
	for p, m := range parts {
		for i := range m.Endpoints[:m.NumEndpoints] {
			e := &m.Endpoints[i]
			s := t.owners[p][i]
			if s == 0 || t.sessions[s].state != stateActive {
				continue
			}
			t.learnFAR(s, e)
			if !placeable(e, refused) {
				continue
			}
			if now := t.claim(s, e); now != s {
				t.rename(s, now)
				s = now
			}
			last = s
		}
	}
	for p, m := range parts {
		for i := range m.Endpoints[:m.NumEndpoints] {
			if s := t.owners[p][i]; s != 0 {
				t.retire(s)
			}
		}
	}
	return last
}

func (t *Table) rename(from, to uint32) {
	for p := range t.owners {
		for i := range t.owners[p] {
			if t.owners[p][i] == from {
				t.owners[p][i] = to
			}
		}
	}
}

// refusedBearers of a response that grants only some.
func refusedBearers(answer *Message) (mask uint16) {
	for i := range answer.Bearers[1:answer.NumBearers] {
		if b := &answer.Bearers[1+i]; b.Cause != 0 && !acceptedV2(b.Cause) {
			mask |= 1 << b.EBI
		}
	}
	return mask &^ 1
}

func placeable(e *Endpoint, refused uint16) bool {
	if e.Control() || e.slot == slotIgnored || e.slot == slotSender || e.ID == 0 || e.Addr.IsZero() {
		return false
	}
	return e.Bearer >= 16 || refused>>e.Bearer&1 == 0
}

// mark notes what e takes the place of.
func (t *Table) mark(s uint32, e *Endpoint) {
	if e.slot == slotNear {
		return // several rules share one F-TEID; it ends with its session
	}
	for i := t.user.first(s); i >= 0; i = t.user.older(i) {
		o := &t.user.entries[i]
		if o.bearer != e.Bearer || o.flags&flagOld != 0 {
			continue
		}
		// A SGSN or ePDG sends to the PGW itself: the SGW is out.
		direct := e.direct && e.slot == slotRAN && (o.slot == slotSGWAccess || o.slot == slotSGWCore)
		if o.slot == e.slot || direct {
			o.flags |= flagMark
		}
	}
}

func (t *Table) markAll(s uint32) {
	for i := t.user.first(s); i >= 0; i = t.user.older(i) {
		t.user.entries[i].flags |= flagMark
	}
}

func (t *Table) markBearer(s uint32, ebi uint8) {
	for i := t.user.first(s); i >= 0; i = t.user.older(i) {
		if t.user.entries[i].bearer == ebi {
			t.user.entries[i].flags |= flagMark
		}
	}
}

// retire lets go what is still marked.
func (t *Table) retire(s uint32) {
	for i := t.user.first(s); i >= 0; {
		e := &t.user.entries[i]
		if e.flags&flagMark == 0 {
			i = t.user.older(i)
			continue
		}
		again := e.flags&flagOld != 0
		e.flags = e.flags&^(flagMark|flagTentative) | flagOld
		if !again {
			t.lingerOn(e.key, s)
		}
		// Room for it may have come from an endpoint of this very session:
		// places do not stay good.
		i = t.user.first(s)
	}
}

// claim makes e an endpoint of s. Where another session has it, either both are
// one, or it was given away anew. It returns s, or what s was merged into.
func (t *Table) claim(s uint32, e *Endpoint) uint32 {
	k := key{e.Addr.Hi, e.Addr.Lo, e.ID}
	if i := t.user.find(k); i >= 0 {
		o := &t.user.entries[i]
		switch other := o.session; {
		case other == s:
			t.retag(o, s, e)
			return s
		case t.oneSession(s, other, e, o):
			s = t.join(s, other)
			t.retag(&t.user.entries[t.user.find(k)], s, e)
			return s
		}
		t.user.delete(i)
		t.counters.EndpointsReassigned++
	}
	if t.user.counts[s] >= maxUserEndpoints {
		t.user.delete(t.user.oldest(s))
		t.counters.EndpointsDropped++
	}
	if n := t.insert(&t.user, k, s); n != nil {
		t.retag(n, s, e)
	}
	return s
}

// retag notes what an endpoint is. What GTP-C or its own node (PFCP) says of it
// is worth more than what a FAR that sends to it says.
func (t *Table) retag(o *entry, s uint32, e *Endpoint) {
	o.flags &= flagUsed
	dir := e.Direction
	if dir == DirectionUnknown && e.slot == slotFar {
		dir = t.farDirection(s, e.ref)
	}
	if dir != DirectionUnknown {
		o.dir = dir
	}
	switch {
	case e.slot == slotFar && (o.slot == slotNear || o.slot.owned()):
	case e.slot == slotNear && o.slot.owned():
	default:
		o.slot, o.bearer = e.slot, e.Bearer
	}
}

// recent is how long after its last message a half of a session may still find
// its other half: they are made within milliseconds of each other.
func (t *Table) recent(s uint32) bool {
	return t.now-t.sessions[s].signalled <= int64(t.config.Answer)
}

// oneSession decides whether s, which names endpoint e, and other, which has it
// as o, are two views of one session.
//
// A gateway's own endpoint is evidence: one side says "my F-TEID" and the other
// "I send there" (a FAR), or GTP-C and PFCP name it at the same time. Two that
// both say "mine" at different times are two owners, one after the other; and an
// eNodeB's endpoint is never evidence, because it changes hands without a word
// on this side. Two sessions that GTP-C named by subscriber are two.
func (t *Table) oneSession(s, other uint32, e *Endpoint, o *entry) bool {
	a, b := &t.sessions[s], &t.sessions[other]
	if b.state != stateActive || a.keyed && b.keyed || o.flags&flagOld != 0 {
		return false
	}
	if a.IMSI != 0 && b.IMSI != 0 && a.IMSI != b.IMSI || t.contradicts(other, a.UEv4, a.UEv6) {
		return false
	}
	switch {
	case e.slot == slotFar:
		return o.slot == slotNear || o.slot.owned()
	case e.slot.owned():
		return (o.slot == slotNear || o.slot == slotFar) && t.recent(other)
	case e.slot == slotNear:
		return (o.slot == slotFar || o.slot.owned()) && t.recent(other)
	}
	return false
}

// join merges two sessions, the better known of them staying.
func (t *Table) join(s, other uint32) (kept uint32) {
	a, b := &t.sessions[s], &t.sessions[other]
	if a.keyed && !b.keyed || a.keyed == b.keyed && a.Scope < b.Scope {
		t.merge(s, other)
		return s
	}
	t.merge(other, s)
	return other
}

// merge makes from a part of to. The older scope stays, because packets may have
// been counted under it.
func (t *Table) merge(to, from uint32) {
	t.counters.Merged++
	f := t.sessions[from]
	t.identities.deleteAll(from)
	t.users.deleteAll(from)
	t.control.giveAll(from, to)
	t.user.giveAll(from, to)
	for t.user.counts[to] > maxUserEndpoints {
		t.user.delete(t.user.oldest(to))
	}
	for t.control.counts[to] > maxControlEndpoints {
		t.control.delete(t.control.oldest(to))
	}
	t.release(from)

	r := &t.sessions[to]
	r.signalled = max(r.signalled, f.signalled)
	r.Seen = max(r.Seen, f.Seen)
	for _, d := range [...]struct {
		to   *Digits
		from Digits
	}{{&r.IMSI, f.IMSI}, {&r.MSISDN, f.MSISDN}, {&r.IMEI, f.IMEI}} {
		if *d.to == 0 {
			*d.to = d.from
		}
	}
	if r.APN == NoAPN || r.apnIsNI && !f.apnIsNI && f.APN != NoAPN {
		r.APN, r.apnIsNI = f.APN, f.apnIsNI
	}
	if r.RAT == 0 {
		r.RAT = f.RAT
	}
	if r.Gateway.IsZero() {
		r.Gateway = f.Gateway
	}
	if r.EBI == 0 {
		r.EBI = f.EBI
	}
	r.farDirs |= f.farDirs
	if f.Scope < r.Scope {
		r.Scope, r.Created = f.Scope, f.Created
		t.scopes[to] = f.Scope
	}
	if r.UEv4.IsZero() {
		t.setUE(to, f.UEv4, Addr{}, 0)
	}
	if r.UEv6.IsZero() {
		t.setUE(to, Addr{}, f.UEv6, f.UEv6Prefix)
	}
}

// tagFARs tells the FARs of two UP functions apart that became one session: the
// tag's two bits above farMask come from the UP function's address.
func (t *Table) tagFARs(x *exchange) {
	if x.key.version != PFCP {
		return
	}
	a := x.key.responder
	zone := uint8((a.Hi^a.Lo^(a.Hi^a.Lo)>>8)&3) << 5
	for i := range x.m.Endpoints[:x.m.NumEndpoints] {
		if e := &x.m.Endpoints[i]; e.slot == slotFar {
			e.Bearer = farTag(e.ref) | zone
		}
	}
}

// learnFAR remembers where a FAR sends, for an update that does not repeat it.
func (t *Table) learnFAR(s uint32, e *Endpoint) {
	if e.slot != slotFar || e.Direction == DirectionUnknown {
		return
	}
	shift := 2 * (e.ref & farMask)
	r := &t.sessions[s]
	r.farDirs = r.farDirs&^(3<<shift) | uint64(e.Direction)<<shift
}

func (t *Table) farDirection(s, far uint32) Direction {
	return Direction(t.sessions[s].farDirs >> (2 * (far & farMask)) & 3)
}

// performDelete: the session may have gone by the same delete on the next hop.
func (t *Table) performDelete(x *exchange, answer *Message) {
	if t.alive(x.ref) {
		t.deleteSession(x.ref.Index, &x.m)
		return
	}
	if s := t.parties(x, answer, x.m.EBI); s != 0 {
		t.deleteSession(s, &x.m)
		return
	}
	if x.ref.Scope == 0 {
		t.counters.UnknownSession++
	}
}

// deleteSession ends s, or as much of it as the request says.
func (t *Table) deleteSession(s uint32, ask *Message) {
	if ask.Version == V2 {
		if ask.localRelease || ask.noOI && t.onS11(s, ask.TEID) {
			t.leaveEndpoint(s, ask.TEID)
			return
		}
		t.end(s, &t.counters.Deleted)
		return
	}
	if ask.Teardown || ask.EBI == 0 || !t.otherBearers(s, ask.EBI) {
		t.end(s, &t.counters.Deleted)
		return
	}
	t.markBearer(s, ask.EBI)
	t.retire(s)
}

// onS11: a delete there says by its Operation Indication whether it is for the
// PGW as well. Without, the SGW forgets the session and the session goes on
// elsewhere, over another SGW or a SGSN (TS 23.401 section 5.3.3.1).
func (t *Table) onS11(s uint32, teid uint64) bool {
	for i := t.control.first(s); i >= 0; i = t.control.older(i) {
		if e := &t.control.entries[i]; e.id == teid && e.slot == slotCtlSGWAccess {
			return true
		}
	}
	return false
}

// leaveEndpoint forgets one control endpoint of a session that goes on.
func (t *Table) leaveEndpoint(s uint32, teid uint64) {
	for i := t.control.first(s); i >= 0; i = t.control.older(i) {
		e := &t.control.entries[i]
		if e.id == teid && (e.slot == slotCtlSGWAccess || e.slot == slotCtlSGWCore || e.slot == slotCtlAccess) {
			t.control.delete(i)
			return
		}
	}
}

func (t *Table) otherBearers(s uint32, nsapi uint8) bool {
	for i := t.user.first(s); i >= 0; i = t.user.older(i) {
		if e := &t.user.entries[i]; e.bearer != nsapi && e.flags&flagOld == 0 {
			return true
		}
	}
	return false
}

// movedAway: causes of a Delete Bearer Request that close one access of a
// session which goes on over another (TS 29.274 table 8.4-1).
func movedAway(cause uint8) bool {
	switch cause {
	case 4, 5, 10, 15: // 3GPP to non-3GPP, ISR deactivation, back, EPS to 5GS
		return true
	}
	return false
}

// deleteBearers applies a Delete Bearer: the default bearer's end is the
// session's (TS 29.274 section 7.2.9.2).
func (t *Table) deleteBearers(x *exchange, answer *Message) {
	ask := &x.m
	lbi := ask.EBI
	if lbi == 0 {
		lbi = answer.EBI
	}
	if lbi != 0 {
		s := t.parties(x, answer, lbi)
		switch {
		case s == 0:
			t.counters.UnknownSession++
		case movedAway(ask.Cause):
			t.leaveEndpoint(s, ask.TEID)
		default:
			t.end(s, &t.counters.Deleted)
		}
		return
	}
	gone := ask.EBIs
	for i := range answer.Bearers[1:answer.NumBearers] {
		if b := &answer.Bearers[1+i]; b.Cause == 0 || acceptedV2(b.Cause) {
			gone |= 1 << b.EBI
		}
	}
	gone &^= refusedBearers(answer)
	found := false
	for ebi := uint8(1); ebi < 16; ebi++ {
		if gone>>ebi&1 == 0 {
			continue
		}
		s := t.parties(x, answer, ebi)
		if s == 0 {
			continue
		}
		found = true
		if t.sessions[s].EBI == ebi {
			t.end(s, &t.counters.Deleted)
			continue
		}
		t.markBearer(s, ebi)
		t.retire(s)
	}
	if !found {
		t.counters.UnknownSession++
	}
}

// releaseSlot lets go the endpoints of one slot for all sessions of an UE, as
// Release Access Bearers does when it goes idle (TS 23.401 section 5.3.5): the
// eNodeB gives its TEIDs to others at once.
func (t *Table) releaseSlot(x *exchange, which slot) {
	k := x.responderKey()
	n := 0
	for i := t.control.find(k); i >= 0 && k.id != 0; i = t.control.next(i, k) {
		s := t.control.entries[i].session
		n++
		t.sessions[s].Seen, t.sessions[s].signalled = t.now, t.now
		for u := t.user.first(s); u >= 0; u = t.user.older(u) {
			if e := &t.user.entries[u]; e.slot == which && e.flags&flagOld == 0 {
				e.flags |= flagMark
			}
		}
		t.retire(s)
	}
	if n == 0 {
		t.counters.UnknownSession++
	}
}

// deletePFCP takes the UP function out of a session. A session that GTP-C knows
// goes on: only its SGW-U may have changed.
func (t *Table) deletePFCP(x *exchange, answer *Message) {
	s := t.parties(x, answer, 0)
	if s == 0 {
		t.counters.UnknownSession++
		return
	}
	for _, k := range [2]key{x.responderKey(), x.initiatorKey(answer)} {
		if i := t.control.findOf(k, s); i >= 0 {
			t.control.delete(i)
		}
	}
	if t.control.heads[s] == 0 {
		t.end(s, &t.counters.Deleted)
	}
}
