package probe

import (
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/internal/arena"
)

// activeMinutes is how long a subscriber or server counts as active after it
// was last seen.
const activeMinutes = 5

// presence is a set of ⟨address, class⟩ with the minute of the last sighting,
// exact but for fingerprints that collide. It counts how many there are and
// how many are active.
type presence struct {
	slots []presenceSlot
	mask  uint64
	n     int
	most  int // slots
	// Ever counts pairs by class since the start, Active those seen in the
	// last five minutes.
	Ever, Active [classify.MaxIDs]int
	// Refused counts sightings without a place.
	Refused uint64
	// shedIn is the minute in which pairs were last forgotten; shedOnce says
	// that there was one.
	shedIn   uint32
	shedOnce bool
}

// presenceSlot is 16 bytes; class 0 (pending, never seen) marks an empty one.
type presenceSlot struct {
	mark   uint64
	minute uint32 // of packet time
	class  uint8
}

// firstSlots is the size of a new set; it doubles as it fills, so that the walk
// of turn, and the memory it touches, follow what is there.
const firstSlots = 64

func newPresence(entries int) (*presence, error) {
	slots, err := arena.MakeDense[presenceSlot](firstSlots)
	if err != nil {
		return nil, err
	}
	s := &presence{slots: slots, mask: firstSlots - 1, most: firstSlots}
	for s.most*3/4 < entries {
		s.most *= 2
	}
	return s, nil
}

// recent remembers what was noted in a minute, and forgets it where something
// else needs the place: it only spares the set behind it most repeats. Like all
// state it is a partition's: which repeats come through must not hang on the
// number of shards, because a set that is full counts each that it refuses.
type recent [1 << 9]uint64

// first reports whether the pair was not noted in this minute, or that was
// forgotten, and notes it.
func (r *recent) first(mark uint64, class uint8, minute uint32) bool {
	const minutes = 1<<24 - 1 // they come again after 31 years
	mark = mix(mark, uint64(class))
	slot := &r[mark%uint64(len(r))]
	if word := mark&^minutes | uint64(minute)&minutes; *slot != word {
		*slot = word
		return true
	}
	return false
}

// touch loads the place of a pair, as first will read it.
func (r *recent) touch(mark uint64, class uint8) uint64 {
	return r[mix(mark, uint64(class))%uint64(len(r))]
}

func (s *presence) find(mark uint64, class uint8) *presenceSlot {
	slots, mask := s.slots, s.mask
	at := mark >> 16 & mask
	for {
		slot := &slots[at]
		if slot.class == 0 || slot.mark == mark && slot.class == class {
			return slot
		}
		at = (at + 1) & mask
	}
}

// seen notes a sighting and reports whether it is the pair's first in this
// minute.
func (s *presence) seen(mark uint64, class uint8, minute uint32) bool {
	mark = mix(mark, uint64(class))
	slot := s.find(mark, class)
	if slot.class == 0 {
		if s.n*4 > len(s.slots)*3 {
			if !s.grow() && !s.shed(minute) {
				s.Refused++
				return true
			}
			slot = s.find(mark, class)
		}
		*slot = presenceSlot{mark, minute, class}
		s.n++
		s.Ever[class]++
		s.Active[class]++
		return true
	}
	if slot.minute-minute < activeMinutes {
		return false // engines are never quite at the same time: another one was ahead
	}
	if minute-slot.minute >= activeMinutes {
		s.Active[class]++
	}
	slot.minute = minute
	return true
}

// touch loads the place of a pair, so that the loads of a list overlap.
func (s *presence) touch(mark uint64, class uint8) uint64 {
	return s.slots[mix(mark, uint64(class))>>16&s.mask].mark
}

// spare reports whether there is room for a pair that may be nobody: an address
// that has sent and got no answer. A flood of these gets half of the set.
func (s *presence) spare() bool { return s.n < s.most*3/8 }

// takes reports whether a pair that may be nobody is taken in: there is room, if
// need be after those that are not active were forgotten, or it is there already.
func (s *presence) takes(mark uint64, class uint8, minute uint32) bool {
	return s.spare() || s.find(mix(mark, uint64(class)), class).class != 0 || s.shed(minute) && s.spare()
}

// turn recounts the active pairs at the start of a minute.
func (s *presence) turn(minute uint32) {
	if s.n == 0 {
		return
	}
	s.Active = [classify.MaxIDs]int{}
	for i := range s.slots {
		slot := &s.slots[i]
		if slot.class != 0 && minute-slot.minute < activeMinutes {
			s.Active[slot.class]++
		}
	}
}

// grow doubles the set, unless it has its full size.
func (s *presence) grow() bool {
	if len(s.slots) >= s.most {
		return false
	}
	next, err := arena.MakeDense[presenceSlot](2 * len(s.slots))
	if err != nil {
		return false
	}
	old := s.slots
	s.slots, s.mask = next, uint64(len(next)-1)
	for i := range old {
		if old[i].class != 0 {
			*s.find(old[i].mark, old[i].class) = old[i]
		}
	}
	_ = arena.Free(old) // what cannot be given back stays reserved, no more
	return true
}

// shed makes room by forgetting pairs that are not active. A pair that comes
// back then counts twice in Ever; memory comes first.
func (s *presence) shed(minute uint32) bool {
	if s.shedOnce && s.shedIn-minute < activeMinutes {
		return false // pairs grow old by the minute: a flood must not pay for the walk each time
	}
	s.shedIn, s.shedOnce = minute, true
	before := s.n
	for i := range s.slots {
		if slot := &s.slots[i]; slot.class != 0 && minute-slot.minute >= activeMinutes {
			*slot = presenceSlot{}
			s.n--
		}
	}
	if s.n == before {
		return false
	}
	s.rehash()
	return true
}

// rehash puts every pair where find looks for it again. Walking from an empty
// slot on, each pair moves at most backwards within its run.
func (s *presence) rehash() {
	start := uint64(0)
	for s.slots[start].class != 0 {
		start++
	}
	for i := uint64(1); i <= s.mask; i++ {
		slot := &s.slots[(start+i)&s.mask]
		if slot.class == 0 {
			continue
		}
		moved := *slot
		*slot = presenceSlot{}
		*s.find(moved.mark, moved.class) = moved
	}
}
