package gtp

// establish makes a session of a granted create, or finds the one that it is
// about: the other hop of a chain (S11 and S5/S8 both tapped), a handover to
// another SGW or access, the UP function's half (PFCP). Where the response came
// first, ask is empty at first, and x.ref is what it made the second time.
func (t *Table) establish(x *exchange, answer *Message) {
	ask := t.asked(x)
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
	k, ok := identityKey(ask.IMSI, ask.IMEI, t.intern(ask.APN()), ask.EBI)
	if !ok {
		return 0
	}
	s := t.withIdentity(k)
	if s == 0 || s == own {
		return 0
	}
	if t.hasAddress(s, v4, v6) {
		return s
	}
	t.end(s, &t.counters.Replaced)
	return 0
}

// identity is what a subscriber's sessions are told apart by.
type identity struct {
	digits Digits
	apn    APN
	ebi    uint8
	imei   bool
}

// identityKey: an emergency session may have an IMEI only (TS 23.401 section
// 4.3.12).
func identityKey(imsi, imei Digits, apn APN, ebi uint8) (k identity, ok bool) {
	switch {
	case imsi != 0:
		return identity{imsi, apn, ebi, false}, true
	case imei != 0:
		return identity{imei, apn, ebi, true}, true
	}
	return identity{}, false
}

// sameAddress finds the session that an UE brings along to another access: same
// subscriber and APN, and the address that it asks to keep (TS 23.402 section
// 8.6). The bearer may be numbered anew.
func (t *Table) sameAddress(ask *Message, v4, v6 Addr) uint32 {
	apn := t.intern(ask.APN())
	for ebi := uint8(1); ebi <= 15; ebi++ {
		k, ok := identityKey(ask.IMSI, ask.IMEI, apn, ebi)
		if !ok {
			return 0
		}
		if s := t.withIdentity(k); s != 0 && t.hasAddress(s, v4, v6) {
			return s
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
	return !v4.IsZero() && r.v4() == v4 || v6.Hi != 0 && r.ue6 == v6.Hi
}

func (t *Table) contradicts(s uint32, v4, v6 Addr) bool {
	r := &t.sessions[s]
	return !v4.IsZero() && r.ue4 != 0 && r.v4() != v4 ||
		v6.Hi != 0 && r.ue6 != 0 && r.ue6 != v6.Hi
}

// describe takes over who the subscriber is.
func (t *Table) describe(s uint32, parts [2]*Message) {
	r := &t.sessions[s]
	r.seen, r.signalled = t.clock, t.clock
	k, keyed := t.withdraw(s)
	for _, m := range parts {
		t.learnIdentity(r, m)
	}
	if parts[0].Version == PFCP {
		if keyed {
			t.enlist(s, k) // a Network Instance is no APN to be found by
		}
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

func (t *Table) learnIdentity(r *record, m *Message) {
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
	if a := t.intern(m.APN()); a != NoAPN && (r.APN == NoAPN || r.is(flagAPNIsNI) || !m.apnIsNI) {
		r.APN = a
		r.set(flagAPNIsNI, m.apnIsNI)
	}
}

// enrol lets the session, which is not, be found by its identity. Whoever stood there before
// was asked about in sameIdentity.
func (t *Table) enrol(s uint32) {
	r := &t.sessions[s]
	k, ok := identityKey(r.IMSI, r.IMEI, r.APN, r.EBI)
	if !ok {
		return
	}
	if other := t.withIdentity(k); other != 0 {
		t.end(other, &t.counters.Replaced)
	}
	t.enlist(s, k)
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
			k, keyed := t.withdraw(s)
			r.IMSI, r.MSISDN, r.IMEI = o.IMSI, o.MSISDN, o.IMEI
			if keyed {
				t.enlist(s, k)
			}
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
			had := t.control.key(i)
			if t.control.entries[i].slot == e.slot && (had.id != e.ID || had != k && sameFamily(had.hi, had.lo, e.Addr)) {
				t.control.delete(i)
				i = t.control.first(s)
				continue
			}
			i = t.control.older(i)
		}
	}
	if e.slot == slotCtlPGW && (t.sessions[s].gateway == 0 || e.Addr.Is4()) {
		t.sessions[s].gateway = t.gateways.number(e.Addr)
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
	if !v4.IsZero() && r.v4() != v4 {
		t.unlistUser(s, familyV4)
		r.ue4 = uint32(v4.Lo)
		t.listUser(s, familyV4)
	}
	if v6.Hi != 0 {
		if r.ue6 != v6.Hi {
			t.unlistUser(s, familyV6)
			r.ue6 = v6.Hi
			t.listUser(s, familyV6)
		}
		r.UEv6Prefix = prefix
	}
}

// holdsStale: one gateway gives an address of one APN to one session. Whoever
// had it is gone, though the delete was not seen.
func (t *Table) holdsStale(old, s uint32) bool {
	o, r := &t.sessions[old], &t.sessions[s]
	return old != s && o.APN == r.APN && r.APN != NoAPN &&
		o.gateway == r.gateway && r.gateway != 0
}

// establishSecondary adds a secondary PDP context to its primary (TS 29.060
// section 7.3.1): other tunnels, same user, same address.
func (t *Table) establishSecondary(x *exchange, answer *Message) {
	ask := t.asked(x)
	s := t.target(t.responderKey(x), ask.LinkedNSAPI)
	if s == 0 {
		t.counters.UnknownSession++
		return
	}
	t.sessions[s].seen, t.sessions[s].signalled = t.clock, t.clock
	t.place([2]*Message{ask, answer}, s)
}
