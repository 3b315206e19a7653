package gtp

import "fmt"

// invariants returns what is wrong with the table's inside, empty for nothing.
// It walks everything: for small tables.
func (t *Table) invariants() string {
	active, live := 0, 0
	for s := uint32(1); s <= t.used; s++ {
		r := &t.sessions[s]
		switch r.state {
		case stateActive:
			active++
			live++
		case stateEnding:
			live++
			if t.control.counts[s] != 0 || r.is(flagKeyed|flagListedV4|flagListedV6) {
				return fmt.Sprintf("session %d has ended and is still found", s)
			}
		default:
			if t.user.counts[s]+t.control.counts[s] != 0 || *r != (record{}) || t.tags[s] != (tag{}) {
				return fmt.Sprintf("free record %d has entries", s)
			}
			continue
		}
		if err := t.findable(s); err != "" {
			return fmt.Sprintf("session %d: %s", s, err)
		}
	}
	if active != t.active {
		return fmt.Sprintf("%d active sessions, counted %d", active, t.active)
	}
	n := &t.counters
	if over := n.Deleted + n.Replaced + n.Expired + n.Merged; uint64(active) > n.Created-over || n.Created < over {
		return fmt.Sprintf("active %d, created %d, over %d", active, n.Created, over)
	}
	free := 0
	for s := t.free; s != 0; s = t.identities.next[s] {
		if free++; free > int(t.used) {
			return "free records form a ring"
		}
	}
	if free+live != int(t.used) {
		return fmt.Sprintf("%d free and %d live of %d records", free, live, t.used)
	}
	for name, x := range map[string]*index{"user": &t.user, "control": &t.control} {
		if err := x.invariants(t); err != "" {
			return name + ": " + err
		}
	}
	keyed, listed := 0, 0
	for s := uint32(1); s <= t.used; s++ {
		for _, f := range []recordFlags{flagListedV4, flagListedV6} {
			if t.sessions[s].is(f) {
				listed++
			}
		}
		if t.sessions[s].is(flagKeyed) {
			keyed++
		}
	}
	if keyed != t.identities.n || listed != t.users.n || live != t.scopes.n {
		return fmt.Sprintf("%d of %d identities, %d of %d addresses, %d of %d scopes", keyed, t.identities.n, listed, t.users.n, live, t.scopes.n)
	}
	return ""
}

// findable returns by what s ought to be found and is not.
func (t *Table) findable(s uint32) string {
	r := &t.sessions[s]
	if o, ok := t.Owner(t.tags[s].scope); t.tags[s].scope == 0 || !ok || o.IMSI != r.IMSI || o.APN != r.APN {
		return "scope"
	}
	if r.is(flagKeyed) && t.withIdentity(t.keyOf(s)) != s {
		return "identity"
	}
	for f := range family(2) {
		if r.is(flagListedV4<<f) && !t.listed(userItem(s, f)) {
			return "address"
		}
	}
	return ""
}

func (t *Table) listed(item uint32) bool {
	i := t.users.first(t.userHash(item))
	for i != 0 && i != item {
		i = t.users.next[i]
	}
	return i == item
}

func (x *index) invariants(t *Table) string {
	n, wide := 0, 0
	for i := 1; i <= int(x.used); i++ {
		e := &x.entries[i]
		if e.session == 0 {
			continue // free, or the rest of a wide key
		}
		n++
		if e.rest() != 0 {
			wide++
		}
		if t.sessions[e.session].state == stateFree {
			return fmt.Sprintf("place %d belongs to free record %d", i, e.session)
		}
		if x.findOf(x.key(i), e.session) < 0 {
			return fmt.Sprintf("place %d cannot be found", i)
		}
		if e.flags&flagMark != 0 {
			return fmt.Sprintf("place %d is still marked", i)
		}
	}
	if n != x.n || n > x.max || n+wide+x.vacant != len(x.entries)-1 {
		return fmt.Sprintf("%d entries, %d of them wide, counted %d of at most %d; %d vacant of %d", n, wide, x.n, x.max, x.vacant, len(x.entries)-1)
	}
	chained := 0
	for s := range x.heads {
		count := 0
		for i := x.first(uint32(s)); i >= 0; i = x.older(i) {
			if x.entries[i].session != uint32(s) {
				return fmt.Sprintf("chain of %d holds an entry of %d", s, x.entries[i].session)
			}
			if count++; count > n {
				return fmt.Sprintf("chain of %d is a ring", s)
			}
		}
		if count != int(x.counts[s]) {
			return fmt.Sprintf("chain of %d has %d entries, counted %d", s, count, x.counts[s])
		}
		chained += count
	}
	if chained != n {
		return fmt.Sprintf("%d of %d entries are chained", chained, n)
	}
	return ""
}
