package flows

import (
	"errors"
	"fmt"
	"math"

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
	hot      []Hot // those at 0 are never used: index 0 means none
	cold     []Cold
	lost     []Lost
	links    []links
	used     uint32 // flows that tables have taken
	promised int    // flows that tables may take, all together
}

// run is how many flows a table takes at a time: 18 KiB. On average half of
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
	s := &Slab{used: 1}
	var errs [4]error
	s.hot, errs[0] = arena.Make[Hot](flows + 1)
	s.cold, errs[1] = arena.Make[Cold](flows + 1)
	s.lost, errs[2] = arena.Make[Lost](flows + 1)
	s.links, errs[3] = arena.Make[links](flows + 1)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, errors.Join(err, s.Free())
	}
	return s, nil
}

// Free gives the memory back, once no table uses it any more.
func (s *Slab) Free() error {
	err := errors.Join(arena.Free(s.hot), arena.Free(s.cold), arena.Free(s.lost), arena.Free(s.links))
	s.hot, s.cold, s.lost, s.links = nil, nil, nil, nil
	return err
}

// promise keeps room for a table of so many flows.
func (s *Slab) promise(flows int) error {
	if flows > len(s.hot)-1-s.promised {
		return errSlabFull
	}
	s.promised += flows
	return nil
}

// take gives the next n records, of those promised, and returns the first.
func (s *Slab) take(n uint32) uint32 {
	first := s.used
	s.used += n
	if first < hugeRecords && s.used >= hugeRecords {
		arena.AdviseHuge(s.hot)
		arena.AdviseHuge(s.cold)
		arena.AdviseHuge(s.lost)
		arena.AdviseHuge(s.links)
	}
	return first
}

// hugeRecords is with how many records the slab is large enough for huge pages.
const hugeRecords = uint32(arena.HugeFrom / FlowBytes)

// Hot returns what every segment needs of the flow at index, of whichever table.
func (s *Slab) Hot(index uint32) *Hot { return &s.hot[index] }
