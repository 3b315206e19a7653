package flows

import (
	"errors"
	"fmt"
	"math"
	"unsafe"

	"github.com/nametap/nametap/internal/arena"
)

// Slab is the memory of the records of several tables. A table takes them a few
// at a time, so that the flows of all tables lie densely together, on as few
// huge pages as they fill: with a region for each table, many small tables would
// each be spread over pages of 4 KiB of its own, and every packet would begin
// with a translation that misses the processor's buffers.
//
// How many flows a table holds hangs on nothing but its own cap: the slab has
// room for all of them at their caps. It belongs, like its tables, to one
// goroutine at a time.
type Slab struct {
	recs     []Flow // recs[0] is never used: index 0 means none
	used     uint32 // records that tables have taken
	promised int    // records that tables may take, all together
}

// run is how many records a table takes at a time: 18 KiB. On average half of
// the last one of each table is not in use.
const run = 64

// errSlabFull is an error of the caller: the caps of its tables add up to more
// than it made the slab for.
var errSlabFull = errors.New("flows: the tables of a slab hold more flows than the slab")

// NewSlab returns the memory for tables of so many flows together. It is
// reserved at once and committed by the system as flows come; Free gives it
// back.
func NewSlab(flows int) (*Slab, error) {
	if flows < 0 || uint64(flows) >= math.MaxUint32 {
		return nil, fmt.Errorf("flows: %d flows in one memory; give at most %d", flows, uint32(math.MaxUint32-1))
	}
	recs, err := arena.Make[Flow](flows + 1)
	if err != nil {
		return nil, err
	}
	if uint64(len(recs))*uint64(unsafe.Sizeof(Flow{})) >= arena.HugePage {
		arena.AdviseHuge(recs)
	}
	return &Slab{recs: recs, used: 1}, nil
}

// Free gives the memory back, once no table uses it any more.
func (s *Slab) Free() error {
	err := arena.Free(s.recs)
	s.recs = nil
	return err
}

// promise keeps room for a table of so many flows.
func (s *Slab) promise(flows int) error {
	if flows > len(s.recs)-1-s.promised {
		return errSlabFull
	}
	s.promised += flows
	return nil
}

// take gives the next n records, of those promised, and returns the first.
func (s *Slab) take(n uint32) uint32 {
	first := s.used
	s.used += n
	return first
}
