package watch

import (
	"time"

	"github.com/nametap/nametap/probe"
)

// bin is a stretch of packet time. Cells are in the order of the classes.
type bin struct {
	Start int64   `json:"start_ns"`
	Known bool    `json:"known"` // it was watched from its beginning to its end
	Tap   TapCell `json:"tap"`
	Cells []Cell  `json:"cells"`

	watched int64 // how much of it was: less than all of the first
}

// ring holds the last bins of one width, in places that are used again.
type ring struct {
	width int64
	bins  []bin

	open    int64           // number of the bin that is being filled
	before  *probe.Snapshot // what had been counted when it began
	partial bool            // it was not watched from its beginning
	last    int64           // start of the newest bin that is closed; 0 before
}

func newRing(width int64, n int) ring { return ring{width: width, bins: make([]bin, n)} }

// reset begins anew with s: what was counted before does not count.
func (r *ring) reset(s *probe.Snapshot) {
	r.before, r.open, r.partial = s, s.Time/r.width, true
}

// pause is how long packet time may step over without leaving a hole: a small
// capture has minutes in which nothing passes.
const pause = int64(150 * time.Second)

// advance closes the open bin if s is beyond it, and returns it, else nil. A
// snapshot is taken soon after the end of a bin, so that all it has counted
// belongs there. Bins that are skipped are empty after a short pause, and have
// not been watched after a long one; neither then has the open one.
func (r *ring) advance(s *probe.Snapshot, stepped int64) *bin {
	n := s.Time / r.width
	if n <= r.open {
		return nil
	}
	hole := stepped > pause
	b := r.put(r.open, !r.partial && !hole, r.before, s)
	if !hole {
		for skipped := r.open + 1; skipped < n; skipped++ {
			r.put(skipped, true, s, s)
		}
	}
	r.before, r.open, r.partial = s, n, hole
	return b
}

// put fills the bin of the number with what came from one snapshot to the next.
func (r *ring) put(number int64, known bool, from, to *probe.Snapshot) *bin {
	b := &r.bins[number%int64(len(r.bins))]
	b.Start, b.Known = number*r.width, known
	b.watched = r.width
	if !known && from.Time > b.Start {
		b.watched = max(b.Start+r.width-from.Time, 0)
	}
	b.Tap = tapBetween(from, to)
	b.Cells = b.Cells[:0]
	var none probe.ClassSnapshot
	for i := range to.Classes {
		a := &none
		if i < len(from.Classes) {
			a = &from.Classes[i]
		}
		b.Cells = append(b.Cells, cellBetween(a, &to.Classes[i]))
	}
	r.last = b.Start
	return b
}

// at returns the bin that starts then, nil where there is none.
func (r *ring) at(start int64) *bin {
	if start < 0 {
		return nil
	}
	b := &r.bins[start/r.width%int64(len(r.bins))]
	if b.Start != start || b.Cells == nil {
		return nil
	}
	return b
}

// since is the start of the oldest bin of the newest span.
func (r *ring) since(span int64) int64 { return r.last - span + r.width }

// presence is how far back to look for who was there in the window: the engine
// counts those seen in this minute and the four before it, so that at the turn of a
// minute it drops some of whom the window still has flows.
const presence = int64(time.Minute + 2*Fine)

// present returns the most subscribers and servers of a class, of the newest bins.
func (r *ring) present(class int) (subscribers, servers int) {
	for start := r.since(presence); start <= r.last; start += r.width {
		if b := r.at(start); b != nil && class < len(b.Cells) {
			subscribers, servers = max(subscribers, b.Cells[class].Subscribers), max(servers, b.Cells[class].Servers)
		}
	}
	return subscribers, servers
}

// sum adds up the bins of the newest span. got is how much of it was watched.
func (r *ring) sum(span int64) (tap TapCell, cells []Cell, got int64) {
	if r.last == 0 && r.at(0) == nil {
		return tap, nil, 0
	}
	for start := r.since(span); start <= r.last; start += r.width {
		b := r.at(start)
		if b == nil {
			continue
		}
		got += b.watched
		tap.add(&b.Tap)
		for i := range b.Cells {
			if i >= len(cells) {
				cells = append(cells, Cell{})
			}
			cells[i].add(&b.Cells[i])
		}
	}
	return tap, cells, got
}
