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
	slots []pair
	mask  uint64
	n     int
	*pairCounts
	// newest is the latest minute that the set was told of.
	newest uint32
	// shedIn is the minute in which pairs were last forgotten; shedOnce says
	// that there was one.
	shedIn   uint32
	shedOnce bool
	most     int // slots
	// Refused counts sightings without a place.
	Refused uint64
}

// pairCounts are what presences count. A shard's partitions share theirs: with each
// its own, a sighting would write to two more lines of the cache.
type pairCounts struct {
	// Ever counts pairs by class since the start, Active those seen in the
	// last five minutes.
	Ever, Active [classify.MaxIDs]int
}

// pair is a pair of a presence in one word, from the lowest bit on: eight of the
// minute in which it was seen last, six of class, one that says that this was long ago,
// and 49 of its hash, of which two of four million are the same with a probability of
// one in 70. Class 0 (pending, never seen) marks an empty slot.
type pair uint64

const (
	pairMinute = pair(1<<8 - 1)
	pairLong   = pair(1 << 14)
	pairKey    = ^(pairMinute | pairLong) // what is the same in all sightings
)

// longAgo is after how many minutes a pair is given pairLong. Those that it has not
// been given are less than 256 minutes old, where turn is called each minute.
const longAgo = 100

func pairOf(mark uint64, class uint8) pair {
	return pair(mix(mark, uint64(class)))&^(1<<15-1) | pair(class)<<8
}

func (p pair) class() uint8 { return uint8(p>>8) % classify.MaxIDs }

// age is for how many minutes the pair has not been seen. One that another engine,
// which was ahead, has seen has an age below 0: 255 and less.
func (p pair) age(minute uint32) uint8 {
	if p&pairLong != 0 {
		return longAgo
	}
	return uint8(minute) - uint8(p)
}

// firstSlots is the size of a new set; it doubles as it fills, so that the walk
// of turn, and the memory it touches, follow what is there.
const firstSlots = 64

func newPresence(entries int) (*presence, error) {
	slots, err := arena.MakeDense[pair](firstSlots)
	if err != nil {
		return nil, err
	}
	s := &presence{slots: slots, mask: firstSlots - 1, most: firstSlots, pairCounts: new(pairCounts)}
	for s.most*3/4 < entries {
		s.most *= 2
	}
	return s, nil
}

// recent remembers what was noted in a minute, and forgets it where something
// else needs the place: it only spares the set behind it most repeats. Like all
// state it is a partition's: which repeats come through must not hang on the
// number of shards, because a set that is full counts each that it refuses.
type recent [1 << 5]recentLine

// recentLine is a line of the cache, of one minute.
type recentLine struct {
	minute uint32
	hashes [15]uint32 // of pairs, 0: none
}

// line returns where the pair with that hash is noted.
func (r *recent) line(hash uint64) *recentLine { return &r[hash%uint64(len(r))] }

// first reports whether the pair was not noted in this minute, or that was
// forgotten, and notes it.
func (r *recent) first(mark uint64, class uint8, minute uint32) bool {
	hash := mix(mark, uint64(class))
	line := r.line(hash)
	if line.minute != minute {
		*line = recentLine{minute: minute}
	}
	slot, short := &line.hashes[hash>>32*uint64(len(line.hashes))>>32], uint32(hash>>8)|1
	if *slot == short {
		return false
	}
	*slot = short
	return true
}

// touch loads the place of a pair, as first will read it.
func (r *recent) touch(mark uint64, class uint8) uint64 {
	return uint64(r.line(mix(mark, uint64(class))).minute)
}

// find returns where the pair is, or would be. All but its key is 0.
func (s *presence) find(p pair) uint64 {
	slots, mask := s.slots, s.mask
	at := uint64(p) >> 16 & mask
	for {
		if was := slots[at&uint64(len(slots)-1)]; was == 0 || (was^p)&pairKey == 0 {
			return at
		}
		at = (at + 1) & mask
	}
}

// seen notes a sighting and reports whether it is the pair's first in this
// minute.
func (s *presence) seen(mark uint64, class uint8, minute uint32) bool {
	p := pairOf(mark, class)
	at := s.find(p)
	was := s.slots[at]
	if was == 0 {
		return s.enter(p, at, minute)
	}
	age := was.age(minute)
	if -age < activeMinutes {
		return false // engines are never quite at the same time: another one was ahead
	}
	if age >= activeMinutes {
		s.Active[class]++
	}
	s.set(at, p, minute)
	return true
}

// enter takes a pair into the set whose place would be there.
func (s *presence) enter(p pair, at uint64, minute uint32) bool {
	if s.n*4 > len(s.slots)*3 {
		if !s.grow() && !s.shed(minute) {
			s.Refused++
			return true
		}
		at = s.find(p)
	}
	s.set(at, p, minute)
	s.n++
	s.Ever[p.class()]++
	s.Active[p.class()]++
	return true
}

func (s *presence) set(at uint64, p pair, minute uint32) {
	s.slots[at] = p | pair(minute)&pairMinute
	if int32(minute-s.newest) > 0 {
		s.newest = minute
	}
}

// touch loads the place of a pair, so that the loads of a list overlap.
func (s *presence) touch(mark uint64, class uint8) uint64 {
	return uint64(s.slots[mix(mark, uint64(class))>>16&s.mask])
}

// spare reports whether there is room for a pair that may be nobody: an address
// that has sent and got no answer. A flood of these gets half of the set.
func (s *presence) spare() bool { return s.n < s.most*3/8 }

// takes reports whether a pair that may be nobody is taken in: there is room, if
// need be after those that are not active were forgotten, or it is there already.
func (s *presence) takes(mark uint64, class uint8, minute uint32) bool {
	return s.spare() || s.slots[s.find(pairOf(mark, class))] != 0 || s.shed(minute) && s.spare()
}

// turn recounts the active pairs at the start of a minute.
func (s *presence) turn(minute uint32) {
	s.Active = [classify.MaxIDs]int{}
	s.recount(minute)
}

// recount adds the active pairs to those that others with the same counters have.
func (s *presence) recount(minute uint32) {
	all := minute-s.newest >= longAgo // not one has been seen since
	s.newest = minute
	if s.n == 0 {
		return
	}
	for i, p := range s.slots {
		if p == 0 || p&pairLong != 0 {
			continue
		}
		if age := p.age(minute); age < activeMinutes && !all {
			s.Active[p.class()]++
		} else if age >= longAgo || all {
			s.slots[i] = p | pairLong
		}
	}
}

// grow doubles the set, unless it has its full size.
func (s *presence) grow() bool {
	if len(s.slots) >= s.most {
		return false
	}
	next, err := arena.MakeDense[pair](2 * len(s.slots))
	if err != nil {
		return false
	}
	old := s.slots
	s.slots, s.mask = next, uint64(len(next)-1)
	for _, p := range old {
		if p != 0 {
			s.slots[s.find(p)] = p
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
	start := uint64(0) // an empty slot: nothing is looked for across it
	for s.slots[start] != 0 {
		start++
	}
	for i, p := range s.slots {
		if p != 0 && p.age(minute) >= activeMinutes {
			s.slots[i] = 0
			s.n--
		}
	}
	if s.n == before {
		return false
	}
	// From there on, each pair moves at most backwards, to where find looks for it.
	for i := uint64(1); i <= s.mask; i++ {
		slot := &s.slots[(start+i)&s.mask]
		if p := *slot; p != 0 {
			*slot = 0
			s.slots[s.find(p)] = p
		}
	}
	return true
}
