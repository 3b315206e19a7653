package report

import (
	"maps"
	"math/bits"
	"slices"
	"time"
)

// widths of time bins; each divides the next, so that bins can be put together
// whatever came first. Beyond the last it is multiplied by ten.
var widths = []time.Duration{
	time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second,
	time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute,
	time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour, 240 * time.Hour,
}

// timeline is a row of bins of one width, aligned to the epoch. It starts with
// the narrowest width that it is given; where the bins get more than most, they
// are put together to the next, or, without a function that does so, the oldest
// are forgotten. What is in a bin in the end does not depend on the order in
// which it came.
type timeline[T any] struct {
	width int64
	most  int64
	bins  map[int64]*T // by number: time / width
	merge func(into, from *T)
	low   int64 // numbers of the first bin and of the last
	high  int64
	any   bool // there is one
}

func newTimeline[T any](narrowest time.Duration, most int64, merge func(into, from *T)) *timeline[T] {
	return &timeline[T]{width: int64(narrowest), most: most, bins: map[int64]*T{}, merge: merge}
}

// reach makes room for times from..to: it widens the bins until they fit in, or
// forgets the oldest ones.
func (l *timeline[T]) reach(from, to int64) {
	low, high := from/l.width, to/l.width
	if l.any {
		low, high = min(low, l.low), max(high, l.high)
	}
	if l.merge == nil {
		low = max(low, high-l.most+1)
		l.forget(low)
	}
	for high-low >= l.most {
		factor := l.widen()
		low, high = low/factor, high/factor
	}
	l.low, l.high, l.any = low, high, true
}

// forget takes away the bins before low.
func (l *timeline[T]) forget(low int64) {
	if !l.any || low <= l.low {
		return
	}
	if low-l.low > int64(len(l.bins)) {
		maps.DeleteFunc(l.bins, func(n int64, _ *T) bool { return n < low })
		return
	}
	for n := l.low; n < low; n++ {
		delete(l.bins, n)
	}
}

// widen puts bins together to the next width and returns how many make one.
func (l *timeline[T]) widen() int64 {
	next := l.width * 10
	for _, w := range widths {
		if int64(w) > l.width {
			next = int64(w)
			break
		}
	}
	factor := next / l.width
	old := l.bins
	l.bins = make(map[int64]*T, len(old))
	for n, b := range old {
		if into := l.bins[n/factor]; into != nil {
			l.merge(into, b)
		} else {
			l.bins[n/factor] = b
		}
	}
	l.width = next
	return factor
}

// at returns the bin of a time that reach was told of, nil if it was forgotten.
func (l *timeline[T]) at(t int64) *T {
	if t/l.width < l.low {
		return nil
	}
	return l.number(t / l.width)
}

func (l *timeline[T]) number(n int64) *T {
	b := l.bins[n]
	if b == nil {
		b = new(T)
		l.bins[n] = b
	}
	return b
}

// span calls fn for the bins that start..end touches, with the part of each: its
// edges within start..end.
func (l *timeline[T]) span(start, end int64, fn func(bin *T, from, to int64)) {
	for n := max(start/l.width, l.low); n <= end/l.width; n++ {
		fn(l.number(n), max(start, n*l.width), min(end, (n+1)*l.width))
	}
}

// part returns what of total falls between from and to if it is spread evenly
// over start..end. Parts that touch add up exactly.
func part(total uint64, start, end, from, to int64) uint64 {
	if end <= start {
		return total
	}
	return portion(total, start, end, to) - portion(total, start, end, from)
}

// portion is what has passed by time t.
func portion(total uint64, start, end, t int64) uint64 {
	if t >= end {
		return total
	}
	if t <= start {
		return 0
	}
	hi, lo := bits.Mul64(total, uint64(t-start))
	q, _ := bits.Div64(hi, lo, uint64(end-start))
	return q
}

// row returns all bins from the first to the last, nil where nothing was.
func (l *timeline[T]) row() (first int64, out []*T) {
	if len(l.bins) == 0 {
		return 0, nil
	}
	numbers := make([]int64, 0, len(l.bins))
	for n := range l.bins {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	low, high := numbers[0], numbers[len(numbers)-1]
	for n := low; n <= high; n++ {
		out = append(out, l.bins[n])
	}
	return low * l.width, out
}
