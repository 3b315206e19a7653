package arena

import (
	"fmt"
	"math/bits"
	"sync"
	"unsafe"
)

// MakeDense returns n zeroed records of T that lie densely together with those of
// other callers, beyond HugeFrom on huge pages where the system has them. It is for what is used
// all over from the start, above all hash tables that double as they fill: many
// small ones, each on pages of its own, would keep the processor translating
// addresses. What is larger than half a huge page gets its own.
//
// Up to that size memory is there at once where the system can do so. A hash table
// reads a place before it writes there: each of its pages would come twice, first
// that of zeros which all share, then one of its own, for which the other processors
// have to drop the first from their address translation.
//
// T, the errors and Free are as with Make. It may be called from any goroutine,
// and takes a lock: a table does so when it grows, not for each packet.
func MakeDense[T any](n int) ([]T, error) {
	size, err := sizeOf[T](n)
	if err != nil {
		return nil, err
	}
	if size == 0 || size > largestPiece {
		s, err := Make[T](n)
		if err == nil && size >= HugePage {
			AdviseHuge(s)
		}
		return s, err
	}
	pages := pagesOf(uintptr(size))
	p, err := pieces.take(pages)
	if err != nil {
		return nil, refused(size, n, err)
	}
	populate(unsafe.Slice((*byte)(p), pages*pieceUnit))
	reserved.Add(int64(size))
	return unsafe.Slice((*T)(p), n), nil
}

const (
	// pieceUnit is what pieces are measured in: a page of the smallest kind, so
	// that no two tables share one.
	pieceUnit = 4 << 10
	slabPages = HugePage / pieceUnit
	// largestPiece leaves room for another in the same slab.
	largestPiece = HugePage / 2
)

// pieces are those of all tables of the process.
var pieces pool

// pool divides slabs among tables.
type pool struct {
	mu    sync.Mutex
	slabs []*slab
}

// slab has the size of a huge page. A piece begins at a multiple of its size, rounded up to a
// power of two: so what a table of one size leaves when it doubles, and its
// neighbour when that doubles, together take a table of the next size.
type slab struct {
	start unsafe.Pointer
	left  int // pages not in use
	used  pageSet
	dirty pageSet // pages that were in use once: not zero any more
}

// pageSet has a bit for each page of a slab.
type pageSet [slabPages / 64]uint64

func pagesOf(size uintptr) int { return int((size + pieceUnit - 1) / pieceUnit) }

// take returns so many zeroed pages.
func (p *pool) take(pages int) (unsafe.Pointer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.slabs {
		if s.left < pages {
			continue
		}
		if at, ok := s.used.room(pages); ok {
			return s.take(at, pages), nil
		}
	}
	start, err := reserve(HugePage)
	if err != nil {
		return nil, err
	}
	if len(p.slabs) >= HugeFrom/HugePage {
		adviseHuge(unsafe.Slice((*byte)(start), HugePage))
	}
	s := &slab{start: start, left: slabPages}
	p.slabs = append(p.slabs, s)
	return s.take(0, pages), nil
}

func (s *slab) take(at, pages int) unsafe.Pointer {
	s.left -= pages
	for page := at; page < at+pages; page++ {
		s.used.add(page)
		if s.dirty.has(page) {
			clear(unsafe.Slice((*byte)(unsafe.Add(s.start, page*pieceUnit)), pieceUnit))
		}
		s.dirty.add(page)
	}
	return unsafe.Add(s.start, at*pieceUnit)
}

// give takes a piece back, if it is one, and reports whether it is. A slab that is
// empty then goes back to the system.
func (p *pool) give(start unsafe.Pointer, pages int) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, s := range p.slabs {
		offset := uintptr(start) - uintptr(s.start)
		if offset >= HugePage { // or before the slab: the difference wraps around
			continue
		}
		s.left += pages
		at := int(offset / pieceUnit)
		for page := at; page < at+pages; page++ {
			s.used.remove(page)
		}
		if s.left < slabPages {
			return true, nil
		}
		p.slabs[i] = p.slabs[len(p.slabs)-1]
		p.slabs = p.slabs[:len(p.slabs)-1]
		return true, release(s.start, HugePage)
	}
	return false, nil
}

func (s *pageSet) has(page int) bool { return s[page/64]>>(page%64)&1 != 0 }
func (s *pageSet) add(page int)      { s[page/64] |= 1 << (page % 64) }
func (s *pageSet) remove(page int)   { s[page/64] &^= 1 << (page % 64) }

// room finds the first place for so many pages.
func (s *pageSet) room(pages int) (at int, ok bool) {
	step := 1 << bits.Len(uint(pages-1))
	for ; at+pages <= slabPages; at += step {
		if s.free(at, pages) {
			return at, true
		}
	}
	return 0, false
}

func (s *pageSet) free(at, pages int) bool {
	for page := at; page < at+pages; page++ {
		if s.has(page) {
			return false
		}
	}
	return true
}

// refused puts into words that the system gives no memory.
func refused(size uint64, n int, err error) error {
	return fmt.Errorf("arena: cannot reserve %d bytes for %d records: %w; lower the memory budget or raise the limit (ulimit -v, cgroup)", size, n, err)
}
