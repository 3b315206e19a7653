// Package stream puts the first bytes of one direction of a TCP connection back
// in order.
//
// A tap sees segments late, twice, out of order and with holes. An Assembler
// holds a bounded number of slots; each slot is a window of fixed size on one
// direction, beginning at the stream's first byte, and hands out what lies in it
// without a gap. A ClientHello needs the window once; DNS over TCP consumes one
// message after the other and lets the window move on.
package stream

import "slices"

const (
	// MaxIslands is how many stretches of bytes a slot holds beyond its first
	// gap. Real reordering makes one or two; a sender that leaves more holes than
	// this is not helped by remembering them.
	MaxIslands = 8

	// chunkBytes is the step in which memory is committed. Small, because there
	// is one Assembler a partition and most of them stay nearly empty.
	chunkBytes = 128 << 10
)

// Assembler is a pool of slots. Memory is taken when a slot is first needed and
// is used again after that: in the steady state nothing is allocated. It is for
// one goroutine at a time.
type Assembler struct {
	size   int // bytes of a slot's window
	most   int // slots
	step   int // slots a chunk
	chunks [][]byte
	slots  []slot
	free   []uint32
}

// slot is the header of one window. It holds no pointer. Positions count from
// the window's buffer, not from the stream.
type slot struct {
	base    uint32 // offset in the stream of the buffer's first byte, modulo 2^32
	head    uint32 // consumed up to here
	end     uint32 // without a gap up to here
	count   uint8  // of islands
	used    bool
	islands [MaxIslands]span // ascending, apart from each other and from end
}

type span struct{ from, to uint32 }

// New returns an Assembler of slots with a window of size bytes each, as many as
// fit into budget bytes. It panics where size is not positive or 2^31 bytes or
// more.
func New(size, budget int) *Assembler {
	if size <= 0 || size >= 1<<31 {
		panic("stream: window size out of range")
	}
	return &Assembler{size: size, most: max(budget, 0) / size, step: max(1, chunkBytes/size)}
}

// Get takes an empty slot whose window begins at offset 0. It returns false
// where all slots are in use.
func (a *Assembler) Get() (id uint32, ok bool) { return a.GetAt(0) }

// GetAt is Get for a window that begins at the offset base of the stream.
func (a *Assembler) GetAt(base uint32) (id uint32, ok bool) {
	if len(a.free) == 0 && !a.grow() {
		return 0, false
	}
	id = a.free[len(a.free)-1]
	a.free = a.free[:len(a.free)-1]
	a.slots[id] = slot{used: true, base: base}
	return id, true
}

func (a *Assembler) grow() bool {
	n := min(a.step, a.most-len(a.slots))
	if n <= 0 {
		return false
	}
	a.chunks = append(a.chunks, make([]byte, n*a.size))
	first := len(a.slots)
	a.slots = slices.Grow(a.slots, n)[:first+n]
	a.free = slices.Grow(a.free, len(a.slots))
	for i := first + n - 1; i >= first; i-- { // the lowest is handed out first
		a.free = append(a.free, uint32(i))
	}
	return true
}

// Put gives a slot back. It panics where the slot is not in use: two owners of
// one slot would mix two streams.
func (a *Assembler) Put(id uint32) {
	if !a.slots[id].used {
		panic("stream: Put of a slot that is not in use")
	}
	a.slots[id].used = false
	a.free = append(a.free, id)
}

// Add brings the payload of one segment; offset is the position of its first
// byte in the stream, modulo 2^32 (sequence number minus the initial one minus
// one, RFC 9293 section 3.4). Of bytes that come twice the first copy stays.
// The payload is copied.
//
// Add returns false where something was lost on this slot: bytes beyond the
// window, or a segment that would have made one island too many, which is
// dropped whole. Bytes from before the window are old and no loss.
func (a *Assembler) Add(id, offset uint32, payload []byte) bool {
	s := &a.slots[id]
	at := int64(int32(offset - s.base)) // a window is under 2^31, so this is exact
	from, to := max(at, int64(s.head)), at+int64(len(payload))
	if to <= from {
		return true
	}
	if to > int64(a.size) && s.head > 0 {
		shift := s.head
		a.compact(id)
		at, from, to = at-int64(shift), from-int64(shift), to-int64(shift)
	}
	whole := to <= int64(a.size)
	to = min(to, int64(a.size))
	if from >= to {
		return false
	}
	return a.place(id, span{uint32(from), uint32(to)}, payload[from-at:]) && whole
}

// place copies to the window what of w is not there yet, payload beginning at
// w.from, and joins what touches.
func (a *Assembler) place(id uint32, w span, payload []byte) bool {
	s := &a.slots[id]
	i, j := s.touching(w)
	attached := w.from <= s.end
	if !attached && i == j && s.count == MaxIslands {
		return false
	}
	buf := a.window(id)
	next := w.from // the first byte of w that may be missing
	if attached {
		next = max(next, s.end)
	}
	joined := w
	for _, have := range s.islands[i:j] {
		if next < have.from {
			copy(buf[next:have.from], payload[next-w.from:])
		}
		next = max(next, have.to)
		joined = span{min(joined.from, have.from), max(joined.to, have.to)}
	}
	if next < w.to {
		copy(buf[next:w.to], payload[next-w.from:])
	}
	if attached {
		s.end = max(s.end, joined.to)
		s.remove(i, j)
		return true
	}
	s.remove(i, j)
	s.insert(i, joined)
	return true
}

// touching returns the islands [i, j) that w overlaps or touches; i is also
// where w belongs if there are none.
func (s *slot) touching(w span) (i, j int) {
	n := int(s.count)
	for i < n && s.islands[i].to < w.from {
		i++
	}
	for j = i; j < n && s.islands[j].from <= w.to; {
		j++
	}
	return i, j
}

func (s *slot) remove(i, j int) {
	copy(s.islands[i:], s.islands[j:s.count])
	s.count -= uint8(j - i)
}

func (s *slot) insert(i int, w span) {
	copy(s.islands[i+1:], s.islands[i:s.count])
	s.islands[i] = w
	s.count++
}

// Contiguous returns the bytes from the first one not consumed up to the first
// gap. They are the Assembler's own and good until its next Add or Put on the
// slot; the caller must not change them.
func (a *Assembler) Contiguous(id uint32) []byte {
	s := &a.slots[id]
	return a.window(id)[s.head:s.end:s.end]
}

// Base returns the offset in the stream of the first byte of Contiguous, which is
// that of the first byte not consumed.
func (a *Assembler) Base(id uint32) uint32 { return a.slots[id].base + a.slots[id].head }

// Consume drops n bytes from the front of Contiguous, and lets the window reach
// as much further. It panics where there are fewer.
func (a *Assembler) Consume(id uint32, n int) {
	s := &a.slots[id]
	if n < 0 || n > int(s.end-s.head) {
		panic("stream: Consume of more bytes than are contiguous")
	}
	s.head += uint32(n)
	if s.head == s.end && s.count == 0 { // empty: moving costs nothing
		s.base += s.head
		s.head, s.end = 0, 0
	}
}

// compact moves the window up to the first byte not consumed. It is put off
// until a segment needs the room, so that a burst of small messages is not
// copied down once for each.
func (a *Assembler) compact(id uint32) {
	s := &a.slots[id]
	last := s.end
	if s.count > 0 {
		last = s.islands[s.count-1].to
	}
	buf := a.window(id)
	copy(buf, buf[s.head:last])
	for i := range s.islands[:s.count] {
		s.islands[i].from -= s.head
		s.islands[i].to -= s.head
	}
	s.base += s.head
	s.end -= s.head
	s.head = 0
}

func (a *Assembler) window(id uint32) []byte {
	at := int(id) % a.step * a.size
	return a.chunks[int(id)/a.step][at : at+a.size : at+a.size]
}

// InUse returns the number of slots that are taken.
func (a *Assembler) InUse() int { return len(a.slots) - len(a.free) }

// Slots returns the number of slots that the budget allows.
func (a *Assembler) Slots() int { return a.most }

// Committed returns the bytes of windows that memory has been taken for. It
// never falls.
func (a *Assembler) Committed() int { return len(a.slots) * a.size }
