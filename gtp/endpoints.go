package gtp

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
			t.lingerOn(t.user.key(i), s)
		}
		i = t.user.first(s) // room for it may have come from an endpoint of this very session
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
			// It may be gone: both had more than one may have.
			if i = t.user.find(k); i >= 0 {
				t.retag(&t.user.entries[i], s, e)
				return s
			}
		default:
			t.user.delete(i)
			t.counters.EndpointsReassigned++
		}
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
	return t.since(t.sessions[s].signalled) <= int64(t.config.Answer)
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
	if b.state != stateActive || a.is(flagKeyed) && b.is(flagKeyed) || o.flags&flagOld != 0 {
		return false
	}
	if a.IMSI != 0 && b.IMSI != 0 && a.IMSI != b.IMSI || t.contradicts(other, a.v4(), a.v6()) {
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
	if a.is(flagKeyed) && !b.is(flagKeyed) || a.is(flagKeyed) == b.is(flagKeyed) && t.tags[s].scope < t.tags[other].scope {
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
	f, gone := t.sessions[from], t.tags[from]
	t.withdraw(from)
	t.unlistUser(from, familyV4)
	t.unlistUser(from, familyV6)
	t.control.giveAll(from, to)
	t.user.giveAll(from, to)
	for t.user.counts[to] > maxUserEndpoints {
		t.user.delete(t.user.oldest(to))
		t.counters.EndpointsDropped++
	}
	for t.control.counts[to] > maxControlEndpoints {
		t.control.delete(t.control.oldest(to))
	}
	t.tags[from].met = false // what is known of its owner is known better below
	t.release(from)

	r := &t.sessions[to]
	r.signalled = max(r.signalled, f.signalled)
	r.seen = max(r.seen, f.seen)
	for _, d := range [...]struct {
		to   *Digits
		from Digits
	}{{&r.IMSI, f.IMSI}, {&r.MSISDN, f.MSISDN}, {&r.IMEI, f.IMEI}} {
		if *d.to == 0 {
			*d.to = d.from
		}
	}
	if r.APN == NoAPN || r.is(flagAPNIsNI) && !f.is(flagAPNIsNI) && f.APN != NoAPN {
		r.APN = f.APN
		r.set(flagAPNIsNI, f.is(flagAPNIsNI))
	}
	if r.RAT == 0 {
		r.RAT = f.RAT
	}
	if r.gateway == 0 {
		r.gateway = f.gateway
	}
	if r.EBI == 0 {
		r.EBI = f.EBI
	}
	r.farDirs |= f.farDirs
	if r.ue4 == 0 {
		t.setUE(to, f.v4(), Addr{}, 0)
	}
	if r.ue6 == 0 {
		t.setUE(to, Addr{}, f.v6(), f.UEv6Prefix)
	}
	if gone.scope < t.tags[to].scope {
		gone = t.rescope(to, gone)
		r.created = f.created
	}
	if gone.met {
		t.remember(gone.scope, r)
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
	m := t.asked(x)
	for i := range m.Endpoints[:m.NumEndpoints] {
		if e := &m.Endpoints[i]; e.slot == slotFar {
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
