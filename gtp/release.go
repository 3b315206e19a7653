package gtp

// performDelete: the session may have gone by the same delete on the next hop.
func (t *Table) performDelete(x *exchange, answer *Message) {
	if t.alive(x.ref) {
		t.deleteSession(x.ref.Index, t.asked(x))
		return
	}
	if s := t.parties(x, answer, t.asked(x).EBI); s != 0 {
		t.deleteSession(s, t.asked(x))
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
		if e := &t.control.entries[i]; t.control.key(i).id == teid && e.slot == slotCtlSGWAccess {
			return true
		}
	}
	return false
}

// leaveEndpoint forgets one control endpoint of a session that goes on.
func (t *Table) leaveEndpoint(s uint32, teid uint64) {
	for i := t.control.first(s); i >= 0; i = t.control.older(i) {
		e := &t.control.entries[i]
		if t.control.key(i).id == teid && (e.slot == slotCtlSGWAccess || e.slot == slotCtlSGWCore || e.slot == slotCtlAccess) {
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
	ask := t.asked(x)
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
	k := t.responderKey(x)
	n := 0
	for i := t.control.find(k); i >= 0 && k.id != 0; i = t.control.next(i, k) {
		s := t.control.entries[i].session
		n++
		t.sessions[s].seen, t.sessions[s].signalled = t.clock, t.clock
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
	for _, k := range [2]key{t.responderKey(x), x.initiatorKey(answer)} {
		if i := t.control.findOf(k, s); i >= 0 {
			t.control.delete(i)
		}
	}
	if t.control.heads[s] == 0 {
		t.end(s, &t.counters.Deleted)
	}
}
