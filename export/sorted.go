package export

import (
	"bufio"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"

	"github.com/nametap/nametap/flows"
)

// runBytes is how much a Sorted keeps in memory before it writes a run.
const runBytes = 16 << 20

// Sorted writes flow records in the order of the flows' ends. That order is
// known only when the input is over (an idle flow's end lies an hour back by the
// time it is known), so lines gather in memory and, beyond 16 MiB, in sorted
// runs in a temporary file, which are merged at the end.
type Sorted struct {
	out   io.Writer
	ids   *Addresses
	limit int

	lines []line
	text  []byte
	spill *os.File
	runs  []run
	wrote int64
}

// line is one record's place in the order and in the text.
type line struct {
	order   flows.Order
	at, end int
}

type run struct{ from, to int64 }

// NewSorted returns a Sorted that writes to out when it is closed.
func NewSorted(out io.Writer, ids *Addresses) *Sorted {
	return &Sorted{out: out, ids: ids, limit: runBytes}
}

// Write adds records. It keeps nothing of the slice.
func (s *Sorted) Write(records []flows.Record) error {
	for i := range records {
		r := &records[i]
		at := len(s.text)
		s.text = AppendRecord(s.text, r, s.ids)
		s.lines = append(s.lines, line{r.Order(), at, len(s.text)})
	}
	if len(s.text) < s.limit {
		return nil
	}
	return s.writeRun()
}

func (s *Sorted) sort() {
	slices.SortStableFunc(s.lines, func(a, b line) int { return a.order.Compare(&b.order) })
}

// writeRun moves what is in memory to the temporary file, which has no name any
// more once it is open: nothing is left behind however the program ends.
func (s *Sorted) writeRun() error {
	if s.spill == nil {
		f, err := os.CreateTemp("", "nametap-flows-*")
		if err != nil {
			return fmt.Errorf("sorting flow records needs a temporary file: %w; set TMPDIR to a directory with room", err)
		}
		s.spill = f
		_ = os.Remove(f.Name())
	}
	s.sort()
	w := bufio.NewWriterSize(s.spill, 1<<20)
	from := s.wrote
	var head []byte
	for i := range s.lines {
		l := &s.lines[i]
		head = appendOrder(head[:0], &l.order, l.end-l.at)
		_, _ = w.Write(head)
		_, _ = w.Write(s.text[l.at:l.end])
		s.wrote += int64(len(head) + l.end - l.at)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("sorting flow records: %w; set TMPDIR to a directory with room", err)
	}
	s.runs = append(s.runs, run{from, s.wrote})
	s.lines, s.text = s.lines[:0], s.text[:0]
	return nil
}

// orderBytes is the length of what appendOrder appends.
const orderBytes = 8 + 8 + 32 + 2 + 2 + 4 + 4

func appendOrder(b []byte, r *flows.Order, length int) []byte {
	e := binary.BigEndian
	b = e.AppendUint64(b, uint64(r.End))
	b = e.AppendUint64(b, uint64(r.Start))
	for _, half := range []uint64{r.Key.Subscriber.Hi, r.Key.Subscriber.Lo, r.Key.Server.Hi, r.Key.Server.Lo} {
		b = e.AppendUint64(b, half)
	}
	b = e.AppendUint16(b, r.Key.SubscriberPort)
	b = e.AppendUint16(b, r.Key.ServerPort)
	b = e.AppendUint32(b, r.Key.Scope)
	return e.AppendUint32(b, uint32(length))
}

func readOrder(b []byte) (r flows.Order, length int) {
	e := binary.BigEndian
	r.End, r.Start = int64(e.Uint64(b)), int64(e.Uint64(b[8:]))
	r.Key.Subscriber.Hi, r.Key.Subscriber.Lo = e.Uint64(b[16:]), e.Uint64(b[24:])
	r.Key.Server.Hi, r.Key.Server.Lo = e.Uint64(b[32:]), e.Uint64(b[40:])
	r.Key.SubscriberPort, r.Key.ServerPort = e.Uint16(b[48:]), e.Uint16(b[50:])
	r.Key.Scope = e.Uint32(b[52:])
	return r, int(e.Uint32(b[56:]))
}

// Close writes all records in order. It does not close the writer.
func (s *Sorted) Close() error {
	w := bufio.NewWriterSize(s.out, 1<<16)
	if s.spill == nil {
		s.sort()
		for i := range s.lines {
			_, _ = w.Write(s.text[s.lines[i].at:s.lines[i].end])
		}
		return writeError(w.Flush())
	}
	defer func() { _ = s.spill.Close() }() // nothing depends on it any more
	if err := s.writeRun(); err != nil {
		return err
	}
	if err := s.merge(w); err != nil {
		return err
	}
	return writeError(w.Flush())
}

func writeError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("writing flow records: %w", err)
}

// merge writes the runs' lines to w, always the least of their heads.
func (s *Sorted) merge(w *bufio.Writer) error {
	var heads mergeHeap
	for i, r := range s.runs {
		size := min(max(s.limit/len(s.runs), 64<<10), 1<<20)
		h := &mergeHead{number: i, in: bufio.NewReaderSize(io.NewSectionReader(s.spill, r.from, r.to-r.from), size)}
		if err := h.next(); err != nil {
			return err
		}
		heads = append(heads, h)
	}
	heap.Init(&heads)
	for len(heads) > 0 {
		h := heads[0]
		_, _ = w.Write(h.text) // a bufio.Writer keeps its error for Flush
		err := h.next()
		switch {
		case errors.Is(err, io.EOF):
			heap.Pop(&heads)
		case err != nil:
			return fmt.Errorf("sorting flow records: reading the temporary file: %w", err)
		default:
			heap.Fix(&heads, 0)
		}
	}
	return nil
}

type mergeHead struct {
	number int
	in     *bufio.Reader
	order  flows.Order
	text   []byte
}

// next reads the run's next line; io.EOF is its end.
func (h *mergeHead) next() error {
	var head [orderBytes]byte
	if _, err := io.ReadFull(h.in, head[:]); err != nil {
		return err
	}
	var length int
	h.order, length = readOrder(head[:])
	h.text = slices.Grow(h.text[:0], length)[:length]
	_, err := io.ReadFull(h.in, h.text)
	return err
}

type mergeHeap []*mergeHead

func (h mergeHeap) Len() int { return len(h) }
func (h mergeHeap) Less(i, j int) bool {
	if c := h[i].order.Compare(&h[j].order); c != 0 {
		return c < 0
	}
	return h[i].number < h[j].number
}
func (h mergeHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *mergeHeap) Push(x any)   { *h = append(*h, x.(*mergeHead)) }
func (h *mergeHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// Stream writes flow records as they come, each batch in the order of the flows'
// ends: what a live tap can do without holding an hour of records back.
type Stream struct {
	out io.Writer
	ids atomic.Pointer[Addresses]
	buf []byte
}

// NewStream returns a Stream that writes to out.
func NewStream(out io.Writer, ids *Addresses) *Stream {
	s := &Stream{out: out}
	s.ids.Store(ids)
	return s
}

// SetAddresses changes how addresses are written from the next batch on. It may
// be called from any goroutine.
func (s *Stream) SetAddresses(ids *Addresses) { s.ids.Store(ids) }

// Write sorts and writes the records.
func (s *Stream) Write(records []flows.Record) error {
	slices.SortStableFunc(records, func(a, b flows.Record) int {
		x, y := a.Order(), b.Order()
		return x.Compare(&y)
	})
	s.buf = s.buf[:0]
	ids := s.ids.Load()
	for i := range records {
		s.buf = AppendRecord(s.buf, &records[i], ids)
	}
	_, err := s.out.Write(s.buf)
	return writeError(err)
}

// Close has nothing left to do.
func (s *Stream) Close() error { return nil }
