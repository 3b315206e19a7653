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
			if t.control.counts[s]+t.identities.counts[s]+t.users.counts[s] != 0 {
				return fmt.Sprintf("session %d has ended and is still found", s)
			}
		default:
			if t.user.counts[s]+t.control.counts[s]+t.identities.counts[s]+t.users.counts[s] != 0 {
				return fmt.Sprintf("free record %d has entries", s)
			}
			continue
		}
		if r.Scope == 0 || r.Scope != t.scopes[s] {
			return fmt.Sprintf("session %d: scope %d, index says %d", s, r.Scope, t.scopes[s])
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
	for s := t.free; s != 0; s = t.sessions[s].next {
		if free++; free > int(t.used) {
			return "free records form a ring"
		}
	}
	if free+live != int(t.used) {
		return fmt.Sprintf("%d free and %d live of %d records", free, live, t.used)
	}
	for name, x := range map[string]*index{"user": &t.user, "control": &t.control, "identities": &t.identities, "users": &t.users} {
		if err := x.invariants(t); err != "" {
			return name + ": " + err
		}
	}
	return ""
}

func (x *index) invariants(t *Table) string {
	n := 0
	for i := range x.entries {
		e := &x.entries[i]
		if e.session == 0 {
			continue
		}
		n++
		if t.sessions[e.session].state == stateFree {
			return fmt.Sprintf("place %d belongs to free record %d", i, e.session)
		}
		if x.findOf(e.key, e.session) < 0 {
			return fmt.Sprintf("place %d cannot be found", i)
		}
		if e.flags&flagMark != 0 {
			return fmt.Sprintf("place %d is still marked", i)
		}
	}
	if n != x.n || n > x.max {
		return fmt.Sprintf("%d entries, counted %d of at most %d", n, x.n, x.max)
	}
	chained := 0
	for s := range x.heads {
		count, before := 0, uint32(0)
		for i := x.first(uint32(s)); i >= 0; i = x.older(i) {
			if x.entries[i].session != uint32(s) {
				return fmt.Sprintf("chain of %d holds an entry of %d", s, x.entries[i].session)
			}
			if x.links[i].prev != before {
				return fmt.Sprintf("chain of %d is not linked back", s)
			}
			before = uint32(i + 1)
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
