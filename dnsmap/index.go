package dnsmap

import "github.com/nametap/nametap/internal/arena"

// index finds records by hash. It is a hash table whose homes are cache lines of
// eight slots each, with linear probing in Robin Hood order: along a run of slots,
// homes never decrease, so a search for something absent ends as early as one for
// something present, and deletion closes the gap by moving the run back. There are
// no tombstones, and churn leaves no trace. Within a line, slots are filled from its
// beginning.
//
// A slot is eight bytes: the upper 32 bits of the hash (the tag) above the
// record's number, 0 for an empty slot. The tag alone gives the home, so that
// growing, inserting and deleting never look at a record. Homes come from the
// tag by multiplication, not masking: the number of slots need not be a power
// of two, and the last step of growth can end exactly at the cap's need.
type index struct {
	slots []uint64
	used  int // slots in use
	limit int // slots that may be in use before the next growth
	max   int // final number of slots
}

const (
	// The index is filled up to 7/8: then it costs 9.2 bytes a record at
	// the cap, and of what is there 71 in 100 are still found in the first
	// line (97 of it at 0.6 full, where it is most of the time).
	loadNum, loadDen = 7, 8

	// window is how many slots are compared at once, those of a cache line.
	window = 8

	// firstSlots is two pages: a partition that sees next to nothing costs
	// next to nothing.
	firstSlots = 1024
)

// newIndex returns an index that can hold records entries.
func newIndex(records int) (index, error) {
	need := records*loadDen/loadNum + 2
	x := index{max: (need + window - 1) / window * window}
	slots, err := arena.MakeDense[uint64](min(firstSlots, x.max))
	if err != nil {
		return index{}, err
	}
	x.use(slots)
	return x, nil
}

// use takes slots, which must be empty. One slot stays empty always, or a
// search would never end.
func (x *index) use(slots []uint64) {
	x.slots = slots
	x.used = 0
	x.limit = min(len(slots)*loadNum/loadDen+1, len(slots)-1)
}

// home returns the first slot of the line that tag belongs to.
func (x *index) home(tag uint32) int {
	return int(uint64(tag)*uint64(len(x.slots))>>32) &^ (window - 1)
}

// distance is how far behind its home a tag at pos lies.
func (x *index) distance(tag uint32, pos int) int {
	d := pos - x.home(tag)
	if d < 0 {
		d += len(x.slots)
	}
	return d
}

// line returns the line that begins at pos.
func (x *index) line(pos int) *[window]uint64 {
	return (*[window]uint64)(x.slots[pos : pos+window])
}

// nearest returns the record of the line that has the tag, and a number above 32
// bits where none has it. Which slot it is, is chance, and a branch on it would be
// guessed wrong more often than not. So there is none: with the tag taken off its
// upper half, the slot that has it is the least one, and is the record.
//
// An empty slot seems to have tag 0, and record 0.
func nearest(w *[window]uint64, tag uint32) uint64 {
	t := uint64(tag) << 32
	return min(min(w[0]^t, w[1]^t, w[2]^t, w[3]^t), min(w[4]^t, w[5]^t, w[6]^t, w[7]^t)) // in step with each other
}

// first returns a record with that tag, 0 where there is none. Who meets another
// record than his own there, because two tags of 32 bits are alike, goes through all
// of them with seek.
func (x *index) first(tag uint32) uint32 {
	pos := x.home(tag)
	w := x.line(pos)
	if near := nearest(w, tag); near>>32 == 0 && near != 0 {
		return uint32(near)
	}
	if w[window-1] == 0 && tag != 0 {
		return 0
	}
	return x.firstBehind(tag, pos)
}

// firstBehind is first where the line at pos, the tag's home, does not tell.
//
//go:noinline
func (x *index) firstBehind(tag uint32, pos int) uint32 {
	if tag == 0 {
		record, _, _ := x.seek(tag, pos, 0)
		return record
	}
	for dist := window - 1; !x.ends(x.slots[pos+window-1], pos+window-1, dist); dist += window {
		if pos += window; pos == len(x.slots) {
			pos = 0
		}
		if near := nearest(x.line(pos), tag); near>>32 == 0 {
			return uint32(near)
		}
	}
	return 0
}

// seek goes on from pos, which is dist slots behind the home of tag, to the
// next slot with that tag, and returns its record, its position and distance;
// record 0 where there is none. After a record that was not the one, go on with
// next(pos) and dist+1.
func (x *index) seek(tag uint32, pos, dist int) (record uint32, at, atDist int) {
	for {
		s := x.slots[pos]
		if s != 0 && uint32(s>>32) == tag {
			return uint32(s), pos, dist
		}
		if x.ends(s, pos, dist) {
			return 0, 0, 0
		}
		pos = x.next(pos)
		dist++
	}
}

// ends reports whether slot s at pos proves that no tag whose home is dist
// slots before pos stands at pos or behind it.
func (x *index) ends(s uint64, pos, dist int) bool {
	return s == 0 || x.distance(uint32(s>>32), pos) < dist
}

func (x *index) next(pos int) int {
	pos++
	if pos == len(x.slots) {
		return 0
	}
	return pos
}

// add inserts tag with record, which must not be there yet. There must be room.
func (x *index) add(tag, record uint32) {
	s := uint64(tag)<<32 | uint64(record)
	pos := x.home(tag)
	x.used++
	if w := x.line(pos); w[window-1] == 0 {
		w[filled(w)%window] = s
		return
	}
	x.addBehind(s, pos)
}

// filled is how many slots of the line are in use, of which the last is not: found
// by halves.
func filled(w *[window]uint64) (n uint) {
	if w[3] != 0 {
		n = 4
	}
	if w[n+1] != 0 {
		n += 2
	}
	if w[n] != 0 {
		n++
	}
	return n
}

// addBehind inserts s where the line at pos, its home, is full: behind all whose home
// does not come after its own.
func (x *index) addBehind(s uint64, pos int) {
	for dist := 0; !x.ends(x.slots[pos], pos, dist); dist++ {
		pos = x.next(pos)
	}
	for s != 0 {
		s, x.slots[pos] = x.slots[pos], s
		pos = x.next(pos)
	}
}

// remove empties the slot at pos and moves the run behind it one back.
func (x *index) remove(pos int) {
	for {
		next := x.next(pos)
		s := x.slots[next]
		if s == 0 || next%window == 0 && x.home(uint32(s>>32)) == next {
			break
		}
		x.slots[pos] = s
		pos = next
	}
	x.slots[pos] = 0
	x.used--
}

// find returns where record, which must be there with that tag, stands.
func (x *index) find(tag, record uint32) int {
	pos := x.home(tag)
	for x.slots[pos] != uint64(tag)<<32|uint64(record) {
		pos = x.next(pos)
	}
	return pos
}

// room makes sure that one more record can be inserted, and reports whether
// that was possible. It may move slots.
func (x *index) room() bool {
	if x.used < x.limit {
		return true
	}
	if len(x.slots) >= x.max {
		return false
	}
	x.grow()
	return x.used < x.limit
}

// grow doubles the index. Where the system has no memory left, the index
// stays as large as it is, and that is the cap from now on.
func (x *index) grow() {
	old := x.slots
	slots, err := arena.MakeDense[uint64](min(2*len(old), x.max))
	if err != nil {
		x.max = len(old)
		return
	}
	x.use(slots)
	for _, s := range old {
		if s != 0 {
			x.add(uint32(s>>32), uint32(s))
		}
	}
	// A range that cannot be given back is lost, which the caller can do
	// nothing about.
	_ = arena.Free(old)
}

func (x *index) close() error {
	slots := x.slots
	*x = index{}
	return arena.Free(slots)
}
