package gtp

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
	m := t.asked(x)
	t.tagFARs(x)
	def := t.target(t.responderKey(x), defaultBearer(m, op))
	for i := range m.Endpoints[:m.NumEndpoints] {
		e := &m.Endpoints[i]
		s := t.ownerOf(x, nil, e, def, op)
		if s == 0 || e.Control() || e.Addr.IsZero() || e.ID == 0 {
			continue
		}
		if t.sessions[s].state != stateActive {
			continue // it made room for an endpoint before this one
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
	if x.m == 0 {
		return // it was answered
	}
	m := t.asked(x)
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
	ask := t.asked(x)
	t.settleSides(x, answer)
	t.tagFARs(x)
	bindDirections(ask, answer)
	if op == opBearerCreate {
		bindBearers(ask, answer)
	}
	def := t.parties(x, answer, defaultBearer(ask, op))
	if def != 0 {
		t.sessions[def].seen = t.clock // others are to make room for its endpoints
	}
	parts := [2]*Message{ask, answer}
	known := false
	for p, m := range parts {
		for i := range m.Endpoints[:m.NumEndpoints] {
			e := &m.Endpoints[i]
			s := t.stillActive(t.ownerOf(x, answer, e, def, op))
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
	def = t.stillActive(def)
	if def != 0 {
		t.touch(def, parts)
	}
	t.removeBearers(ask, def)
	t.replace(parts)
	t.rollback(x) // what was announced and not granted
}

// stillActive returns s, or 0 where it had to make room for an endpoint that the
// same message gave to another session.
func (t *Table) stillActive(s uint32) uint32 {
	if t.sessions[s].state != stateActive {
		return 0
	}
	return s
}

func (t *Table) touch(s uint32, parts [2]*Message) {
	r := &t.sessions[s]
	r.seen, r.signalled = t.clock, t.clock
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
