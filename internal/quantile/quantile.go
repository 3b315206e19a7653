// Package quantile reads quantiles out of counted buckets and an exact sum.
package quantile

import (
	"math"

	"github.com/nametap/nametap/flows"
)

// Bucket says how many samples lie from Low to High.
type Bucket struct {
	Low, High float64
	Count     uint64
}

// Samples are samples of which their number in each bucket and their sum are
// known. In each bucket they are taken to lie at equal distances, around the place
// in it, the same for all buckets, at which they add up to the sum. So a sample
// that is alone, and samples that are all equal, come out as they were; and a
// quantile is never outside the bucket in which it was.
type Samples struct {
	buckets []Bucket // those that hold any, in rising order
	count   uint64
	middle  float64 // 0 is the lower end of a bucket, 1 the upper one
	width   float64 // of what the samples take up around it
}

// New returns the samples in buckets, which rise, with their sum.
func New(buckets []Bucket, sum float64) *Samples {
	s := &Samples{buckets: buckets}
	var low, high float64
	for _, b := range buckets {
		s.count += b.Count
		low += b.Low * float64(b.Count)
		high += b.High * float64(b.Count)
	}
	s.middle = 0.5
	if high > low {
		s.middle = min(max((sum-low)/(high-low), 0), 1)
	}
	s.width = 2 * min(s.middle, 1-s.middle)
	return s
}

// Between returns what a histogram took in from one state to a later one.
func Between(before, now *flows.Histogram) *Samples {
	var list []Bucket
	for i := range now.Buckets {
		n := now.Buckets[i] - before.Buckets[i]
		if n == 0 {
			continue
		}
		b := Bucket{High: math.Exp2(float64(flows.HistogramIndex(i)) / 8), Count: n}
		if i > 0 { // the first one begins at nothing
			b.Low = math.Exp2(float64(flows.HistogramIndex(i-1)) / 8)
		}
		list = append(list, b)
	}
	return New(list, now.Sum-before.Sum)
}

// Count is their number.
func (s *Samples) Count() uint64 { return s.count }

// At returns the q-quantile: the sample that a share q of all does not exceed, the
// least one for 0. It is NaN where there are none.
func (s *Samples) At(q float64) float64 {
	rank := max(uint64(math.Ceil(q*float64(s.count))), 1)
	for _, b := range s.buckets {
		if rank <= b.Count {
			at := (float64(rank) - 0.5) / float64(b.Count)
			return b.Low + (b.High-b.Low)*(s.middle+(at-0.5)*s.width)
		}
		rank -= b.Count
	}
	return math.NaN()
}
