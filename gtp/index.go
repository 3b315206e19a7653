package gtp

import (
	"math/bits"

	"github.com/nametap/nametap/internal/arena"
)

// key of an index: an address and a number within it.
type key struct{ hi, lo, id uint64 }

// entry says which session a key belongs to. It fills half a cache line, so
// that a G-PDU costs one miss here. session 0 is an empty place.
type entry struct {
	key
	session uint32
	slot    slot
	bearer  uint8
	dir     Direction
	flags   uint8
}

// Flags of an entry.
const (
	flagUsed      = 1 << iota // a G-PDU went by since the last sweep
	flagTentative             // asked for and not answered yet
	flagOld                   // replaced, resolves for a little longer
	flagMark                  // about to be replaced by the message at hand
	flagCrowded               // more sessions had the key than are kept
)

// link chains the entries of one session, as place+1. It lies beside the
// entries, because the user plane never needs it.
type link struct{ next, prev uint32 }

// index is a hash table with linear probing and no tombstones: a delete moves
// the entries behind it up. A key may stand in it several times.
type index struct {
	entries []entry
	links   []link
	heads   []uint32 // by session: first entry as place+1
	counts  []uint8  // by session
	seed    [3]uint64
	n, max  int
}

// placesFor keeps the load at or under three quarters.
func placesFor(n int) int { return n + n/3 + 2 }

// Huge pages come once one place in hugeShare is taken: entries are spread over
// the whole table from the first on, and a thousand sessions must not commit it.
// Small tables need none: from hugeFrom places on, 32 MiB, address translation is
// most of what a look-up costs.
const (
	hugeFrom  = 1 << 20
	hugeShare = 16
)

// indexBytes is the memory of an index in full use.
func indexBytes(entries, sessions int) int64 {
	return int64(placesFor(entries))*(32+8) + int64(sessions+1)*5
}

func (x *index) init(entries, sessions int, seed uint64) (err error) {
	x.max = entries
	for i := range x.seed {
		seed += 0x9e3779b97f4a7c15 // splitmix64: one seed gives three
		z := seed
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		x.seed[i] = z ^ z>>31 | 1
	}
	if x.entries, err = arena.Make[entry](placesFor(entries)); err != nil {
		return err
	}
	if x.links, err = arena.Make[link](placesFor(entries)); err != nil {
		return err
	}
	if x.heads, err = arena.Make[uint32](sessions + 1); err != nil {
		return err
	}
	x.counts, err = arena.Make[uint8](sessions + 1)
	return err
}

func (x *index) close() {
	_ = arena.Free(x.entries)
	_ = arena.Free(x.links)
	_ = arena.Free(x.heads)
	_ = arena.Free(x.counts)
	*x = index{}
}

// home is where a key's probing begins. The seed is secret to whoever sends
// the TEIDs: keys cannot be made to pile up.
func (x *index) home(k key) int {
	h, l := bits.Mul64(k.lo^x.seed[0], k.hi^x.seed[1])
	h, l = bits.Mul64(h^l^k.id, x.seed[2])
	h, _ = bits.Mul64(h^l, uint64(len(x.entries)))
	return int(h)
}

func (x *index) after(i int) int {
	if i++; i == len(x.entries) {
		return 0
	}
	return i
}

// find returns the place of k's first entry, or -1.
func (x *index) find(k key) int { return x.probe(x.home(k), k) }

// next returns the place of k's next entry behind i, or -1.
func (x *index) next(i int, k key) int { return x.probe(x.after(i), k) }

func (x *index) probe(i int, k key) int {
	for {
		e := &x.entries[i]
		if e.session == 0 {
			return -1
		}
		if e.key == k {
			return i
		}
		if i++; i == len(x.entries) {
			i = 0
		}
	}
}

// findOf returns the place of session's entry for k, or -1.
func (x *index) findOf(k key, session uint32) int {
	i := x.find(k)
	for i >= 0 && x.entries[i].session != session {
		i = x.next(i, k)
	}
	return i
}

func (x *index) full() bool { return x.n >= x.max }

// insert adds an entry. The index must not be full. Places that the caller
// knows stay good.
func (x *index) insert(k key, session uint32) *entry {
	i := x.home(k)
	for x.entries[i].session != 0 {
		i = x.after(i)
	}
	x.entries[i] = entry{key: k, session: session}
	head := x.heads[session]
	x.links[i] = link{next: head}
	if head != 0 {
		x.links[head-1].prev = uint32(i + 1)
	}
	x.heads[session] = uint32(i + 1)
	x.counts[session]++
	x.n++
	if x.n == len(x.entries)/hugeShare && len(x.entries) > hugeFrom {
		arena.AdviseHuge(x.entries)
	}
	return &x.entries[i]
}

// delete removes the entry at i. Other entries may move.
func (x *index) delete(i int) {
	x.unlink(i)
	x.n--
	for j := x.after(i); x.entries[j].session != 0; j = x.after(j) {
		// An entry may move up to i only if its probing starts at or
		// before i: its home must not lie behind i on the way to j.
		if x.between(i, x.home(x.entries[j].key), j) {
			continue
		}
		x.move(j, i)
		i = j
	}
	x.entries[i], x.links[i] = entry{}, link{}
}

// between reports whether h lies in (i, j], around the end of the table.
func (x *index) between(i, h, j int) bool {
	if i < j {
		return i < h && h <= j
	}
	return i < h || h <= j
}

func (x *index) unlink(i int) {
	l, s := x.links[i], x.entries[i].session
	if l.prev != 0 {
		x.links[l.prev-1].next = l.next
	} else {
		x.heads[s] = l.next
	}
	if l.next != 0 {
		x.links[l.next-1].prev = l.prev
	}
	x.counts[s]--
}

func (x *index) move(from, to int) {
	x.entries[to], x.links[to] = x.entries[from], x.links[from]
	l := x.links[to]
	if l.prev != 0 {
		x.links[l.prev-1].next = uint32(to + 1)
	} else {
		x.heads[x.entries[to].session] = uint32(to + 1)
	}
	if l.next != 0 {
		x.links[l.next-1].prev = uint32(to + 1)
	}
}

// first returns the place of session's newest entry, or -1; older returns that
// of the next older one.
func (x *index) first(session uint32) int { return int(x.heads[session]) - 1 }
func (x *index) older(i int) int          { return int(x.links[i].next) - 1 }

// oldest returns the place of session's oldest entry, or -1.
func (x *index) oldest(session uint32) int {
	last := -1
	for i := x.first(session); i >= 0; i = x.older(i) {
		last = i
	}
	return last
}

func (x *index) deleteAll(session uint32) {
	for x.heads[session] != 0 {
		x.delete(int(x.heads[session]) - 1)
	}
}

// giveAll makes all entries of one session another's.
func (x *index) giveAll(from, to uint32) {
	last := -1
	for i := x.first(from); i >= 0; i = x.older(i) {
		x.entries[i].session = to
		last = i
	}
	if last < 0 {
		return
	}
	head := x.heads[to]
	x.links[last].next = head
	if head != 0 {
		x.links[head-1].prev = uint32(last + 1)
	}
	x.heads[to] = x.heads[from]
	x.counts[to] += x.counts[from]
	x.heads[from], x.counts[from] = 0, 0
}
