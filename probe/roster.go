package probe

import (
	"unsafe"

	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/dnsmap"
	"github.com/nametap/nametap/internal/arena"
)

// claims is how many classes a server may have in the roster. A server with
// more is nobody's evidence.
const claims = 4

// fact is one address of one DNS answer, on its way to the roster.
type fact struct {
	server     decode.Addr
	answered   int64
	until      int64 // the answer can name flows up to here, stale included
	subscriber uint32
	class      uint8
	nameLen    uint16
	nameAt     uint32 // into the buffer that travels with the facts
}

// facts is a list with the bytes of its names.
type facts struct {
	list   []fact
	names  []byte
	newest uint16 // length of the last of the names
	noName bool   // there was no room for it
	// most facts are kept, with nameRoom bytes of names for each; 0 keeps all.
	most int
	// refused counts those beyond.
	refused uint64
}

// nameRoom is for a name of 48 octets in answers of two addresses.
const nameRoom = 24

// newFacts returns an empty list for so many facts.
func newFacts(most int) (facts, error) {
	list, err := arena.Make[fact](most)
	if err != nil {
		return facts{}, err
	}
	names, err := arena.Make[byte](most * nameRoom)
	return facts{list: list[:0], names: names[:0], most: most}, err
}

func (l *facts) reset() { l.list, l.names = l.list[:0], l.names[:0] }

// holds reports whether there is room for so many more.
func (l *facts) holds(facts, names int) bool {
	return l.most == 0 || len(l.list)+facts <= l.most && len(l.names)+names <= l.most*nameRoom
}

// add adds a fact about the name that was kept last, if there is room.
func (l *facts) add(f fact) {
	if l.noName || !l.holds(1, 0) {
		l.refused++
		return
	}
	f.nameAt, f.nameLen = uint32(len(l.names))-uint32(l.newest), l.newest
	l.list = append(l.list, f)
}

// keep keeps a name for the facts that follow.
func (l *facts) keep(name []byte) {
	if l.noName = !l.holds(1, len(name)); l.noName {
		return
	}
	l.names = append(l.names, name...)
	l.newest = uint16(len(name))
}

// take adds what is in o, and empties that.
func (l *facts) take(o *facts) {
	l.copy(o)
	o.reset()
}

// copy adds what is in o.
func (l *facts) copy(o *facts) {
	first, base := len(l.list), uint32(len(l.names))
	l.list = append(l.list, o.list...)
	l.names = append(l.names, o.names...)
	for i := range l.list[first:] {
		l.list[first+i].nameAt += base
	}
}

func (l *facts) name(f *fact) []byte { return l.names[f.nameAt:][:f.nameLen] }

// roster knows for each server which classes the answers of all subscribers
// give it: the evidence "server". A claim is recent as long as an answer behind
// it could still name a flow of its own subscriber, as valid or stale.
type roster struct {
	entries []rosterEntry // 0 is never used
	index   []uint32
	mask    uint64
	used    int
	hand    int
	seed    uint64
	names   *dnsmap.Names
	shared  int    // entries of which several subscribers were told
	sink    uint64 // keeps the compiler from dropping the loads ahead
	// Evicted counts servers that made room for others.
	Evicted uint64
}

// rosterEntry is three lines of the cache, and what ends most look-ups is in the
// first one.
type rosterEntry struct {
	server decode.Addr
	mixed  int64 // up to here more classes than claims were recent
	recent bool  // answered since the hand passed
	shared bool  // several subscribers were told of it
	claim  [claims]claim
}

type claim struct {
	first, newest int64 // of its unbroken run of answers
	until         int64
	name          dnsmap.NameID // of the newest answer
	subscriber    uint32        // who asked, 0 for several
	class         uint8         // 0: no claim
}

const rosterCost = int64(unsafe.Sizeof(rosterEntry{})) + 8 + nameCost

func newRoster(servers int, seed uint64) (*roster, error) {
	names, err := dnsmap.NewNames(dnsmap.NamesConfig{Bytes: uint64(servers) * nameCost, Seed: seed})
	if err != nil {
		return nil, err
	}
	entries, err := arena.Make[rosterEntry](servers + 1)
	if err != nil {
		return nil, err
	}
	index, err := arena.MakeDense[uint32](firstSlots)
	if err != nil {
		return nil, err
	}
	return &roster{entries: entries, index: index, mask: firstSlots - 1, used: 1, hand: 1, seed: seed, names: names}, nil
}

// slot returns where the server stands in the index, or would.
func (r *roster) slot(server decode.Addr) uint64 {
	at := fingerprint(r.seed, server) & r.mask
	for r.index[at] != 0 && r.entries[r.index[at]].server != server {
		at = (at + 1) & r.mask
	}
	return at
}

// learn adds the facts, in their order, a group of them at a time: what is read
// for all of a group is loaded first, so that the waits overlap.
func (r *roster) learn(l *facts) {
	for list := l.list; len(list) > 0; {
		n := min(len(list), group)
		r.touch(list[:n])
		for i := range list[:n] {
			r.add(&list[i], l.name(&list[i]))
		}
		list = list[n:]
	}
}

// touch loads what add will read for the facts, at most a group of them.
func (r *roster) touch(list []fact) {
	var at [group]uint64
	sink := uint64(0)
	for i := range list {
		at[i] = fingerprint(r.seed, list[i].server) & r.mask
		sink += uint64(r.index[at[i]])
	}
	for _, at := range at[:len(list)] {
		e := &r.entries[r.index[at]]
		sink += e.server.Lo + uint64(e.claim[1].until) + uint64(e.claim[3].until)
	}
	r.sink = sink
}

func (r *roster) add(f *fact, name []byte) {
	e := r.entry(f.server, f.answered)
	e.add(r.names, f, name)
	if !e.shared && e.told() {
		e.shared = true
		r.shared++
	}
}

// told reports whether several subscribers were told the same of the server.
func (e *rosterEntry) told() bool {
	for i := range e.claim {
		if e.claim[i].class != 0 && e.claim[i].subscriber == 0 {
			return true
		}
	}
	return false
}

func (r *roster) entry(server decode.Addr, now int64) *rosterEntry {
	at := r.slot(server)
	e := r.index[at]
	if e == 0 {
		if r.used == len(r.entries) {
			e = r.evict(now)
			at = r.slot(server)
		} else {
			e = uint32(r.used)
			r.used++
			if 2*r.used > len(r.index) && r.grow() {
				at = r.slot(server)
			}
		}
		r.entries[e].server = server
		r.index[at] = e
	}
	r.entries[e].recent = true
	return &r.entries[e]
}

// grow doubles the index. Where memory for that is refused, the index stays at
// a higher load; refused for long it fills up, and the entries with it.
func (r *roster) grow() bool {
	next, err := arena.MakeDense[uint32](2 * len(r.index))
	if err != nil {
		return false
	}
	old := r.index
	r.index, r.mask = next, uint64(len(next)-1)
	for _, e := range old {
		if e != 0 {
			r.index[r.slot(r.entries[e].server)] = e
		}
	}
	_ = arena.Free(old) // what cannot be given back stays reserved, no more
	return true
}

// mostSpared bounds how many servers one eviction passes over because several
// subscribers were told of them.
const mostSpared = 1024

// evict takes an entry that has not been used for a turn of the hand. A server
// that only one subscriber was told of helps nobody yet: such go first, unless
// they are less than a quarter, so that a flood of random answers pushes out
// itself.
func (r *roster) evict(now int64) uint32 {
	crowded := r.shared > len(r.entries)/4*3
	spared := 0
	for {
		e := &r.entries[r.hand]
		at := uint32(r.hand)
		if r.hand++; r.hand == len(r.entries) {
			r.hand = 1
		}
		if e.shared && !crowded && spared < mostSpared && e.lasts(now) {
			spared++
			continue
		}
		if e.recent {
			e.recent = false
			continue
		}
		r.unplace(r.slot(e.server))
		for i := range e.claim {
			r.names.Release(e.claim[i].name)
		}
		if e.shared {
			r.shared--
		}
		*e = rosterEntry{}
		r.Evicted++
		return at
	}
}

// lasts reports whether what is known of the server may still name a flow.
func (e *rosterEntry) lasts(now int64) bool {
	for i := range e.claim {
		if e.claim[i].class != 0 && e.claim[i].until >= now {
			return true
		}
	}
	return false
}

func (r *roster) unplace(hole uint64) {
	for at := (hole + 1) & r.mask; ; at = (at + 1) & r.mask {
		e := r.index[at]
		if e == 0 {
			r.index[hole] = 0
			return
		}
		home := fingerprint(r.seed, r.entries[e].server) & r.mask
		if (at-home)&r.mask >= (at-hole)&r.mask {
			r.index[hole] = e
			hole = at
		}
	}
}

// add counts one answer for the entry.
func (e *rosterEntry) add(names *dnsmap.Names, f *fact, name []byte) {
	var c *claim
	for i := range e.claim {
		if e.claim[i].class == f.class {
			c = &e.claim[i]
			break
		}
		if c == nil && (e.claim[i].class == 0 || e.claim[i].until < f.answered) {
			c = &e.claim[i]
		}
	}
	if c == nil {
		e.mixed = max(e.mixed, f.until)
		return
	}
	if c.class != f.class || c.until < f.answered {
		names.Release(c.name)
		*c = claim{class: f.class, first: f.answered, newest: f.answered - 1, subscriber: f.subscriber}
	}
	if c.subscriber != f.subscriber {
		c.subscriber = 0
	}
	c.first = min(c.first, f.answered)
	c.until = max(c.until, f.until)
	if f.answered > c.newest {
		c.newest = f.answered
		if c.name == 0 || !names.Is(c.name, name) {
			names.Release(c.name)
			c.name, _ = names.Intern(name)
		}
	}
}

// lookup appends to dst the name that other subscribers' recent answers, as of
// time at, give the server, if all of them agree on one class. It changes
// nothing, so that all shards may look at once.
func (r *roster) lookup(dst []byte, server decode.Addr, at int64, subscriber uint32) []byte {
	i := r.index[r.slot(server)]
	if i == 0 {
		return dst
	}
	e := &r.entries[i]
	if at <= e.mixed {
		return dst
	}
	var found *claim
	for i := range e.claim {
		c := &e.claim[i]
		if c.class == 0 || c.subscriber == subscriber || at < c.first || at > c.until {
			continue
		}
		if found != nil {
			return dst
		}
		found = c
	}
	if found == nil {
		return dst
	}
	return r.names.Append(dst, found.name)
}
