package metrics

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/nametap/nametap/flows"
)

// NativeBucketLimit is the most buckets that one native histogram shows, empty
// ones that keep a span whole included, as a scraper counts them. Beyond it the
// resolution is halved.
const NativeBucketLimit = 160

// zeroThreshold is the upper bound of the first fine bucket, which also holds
// everything below it: it is the zero bucket of the native histogram.
var zeroThreshold = math.Ldexp(1, flows.HistogramMin)

// bounds are the upper bounds of a classic histogram's buckets. Each is a power
// of two and with that the bound of a fine bucket, so that classic counts are
// exact sums of fine ones. Rounder numbers (0.1, 0.25 …) lie inside fine buckets:
// their counts would be guesses that disagree with the native histogram.
type bounds struct {
	// last is the position in flows.Histogram.Buckets of the last fine
	// bucket that counts.
	last  []int
	upper []float64
}

// powersOfTwo returns the bounds 2^exponent, for ascending exponents that are
// less than flows.HistogramMax: the last fine bucket holds what is beyond it too.
func powersOfTwo(exponents ...int) *bounds {
	b := &bounds{}
	for _, e := range exponents {
		b.last = append(b.last, e<<flows.HistogramSchema-flows.HistogramIndex(0))
		b.upper = append(b.upper, math.Ldexp(1, e))
	}
	return b
}

var (
	// roundTripBounds run from 1 ms to 8 s.
	roundTripBounds = powersOfTwo(-10, -9, -8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3)
	// durationBounds are dense between 4 s and an hour: transfers are judged
	// at some 20 s and 40 s, clients give chat connections up after 3 to 25
	// minutes.
	durationBounds = powersOfTwo(-2, 0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14)
	// sizeBounds run from 1 KiB to 1 GiB and are dense between 8 KiB and
	// 128 KiB, where chat ends and media begin.
	sizeBounds = powersOfTwo(10, 12, 13, 14, 15, 16, 17, 18, 20, 22, 24, 26, 28, 30)
	// throughputBounds run from 8 KiB/s (66 kbit/s) to 64 MiB/s (537 Mbit/s).
	throughputBounds = powersOfTwo(13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26)
)

// histogram is a native and a classic histogram in one metric, which no const
// constructor of the client library gives.
type histogram struct {
	desc   *prometheus.Desc
	labels []*dto.LabelPair
	bounds *bounds
	of     *flows.Histogram // of a snapshot, which nobody changes
}

// Desc is part of prometheus.Metric.
func (h *histogram) Desc() *prometheus.Desc { return h.desc }

// Write is part of prometheus.Metric.
func (h *histogram) Write(m *dto.Metric) error {
	schema, spans, deltas := native(h.of)
	m.Label = h.labels
	m.Histogram = &dto.Histogram{
		SampleCount:   new(h.of.Count),
		SampleSum:     new(h.of.Sum),
		Bucket:        h.bounds.classic(h.of),
		Schema:        new(schema),
		ZeroThreshold: new(zeroThreshold),
		ZeroCount:     new(h.of.Buckets[0]),
		PositiveSpan:  spans,
		PositiveDelta: deltas,
	}
	return nil
}

// classic returns the cumulative buckets; that of +Inf is the sample count.
func (b *bounds) classic(h *flows.Histogram) []*dto.Bucket {
	buckets := make([]*dto.Bucket, len(b.last))
	sum, next := uint64(0), 0
	for i, last := range b.last {
		for ; next <= last; next++ {
			sum += h.Buckets[next]
		}
		buckets[i] = &dto.Bucket{CumulativeCount: new(sum), UpperBound: &b.upper[i]}
	}
	return buckets
}

// native returns the exponential buckets at the finest schema that keeps to
// NativeBucketLimit. Buckets that are shown once are shown for good, so that
// the schema only ever falls while the process lives: a scraper takes that for
// what it is, and a rise for a reset.
func native(h *flows.Histogram) (schema int32, spans []*dto.BucketSpan, deltas []int64) {
	counts := h.Buckets[1:]
	index := flows.HistogramIndex(1)
	for schema = flows.HistogramSchema; ; schema-- {
		spans, deltas = encode(index, counts)
		if len(deltas) <= NativeBucketLimit {
			return schema, spans, deltas
		}
		counts, index = halve(counts), (index+1)>>1
	}
}

// halve returns the counts at half the resolution. The bucket with index i goes
// into ⌈i/2⌉, so that an odd index and the even one above it meet; the first
// index is odd at every resolution, since 2^flows.HistogramMin is a bound of all.
func halve(counts []uint64) []uint64 {
	half := make([]uint64, len(counts)/2)
	for i := range half {
		half[i] = counts[2*i] + counts[2*i+1]
	}
	return half
}

// widestGap is how many empty buckets are written out rather than given a new
// span, which costs about as much.
const widestGap = 2

// encode writes counts, the first of which has the native index given, as spans
// of buckets and the differences from bucket to bucket.
func encode(index int, counts []uint64) ([]*dto.BucketSpan, []int64) {
	var spans []*dto.BucketSpan
	var deltas []int64
	last := uint64(0)
	add := func(n uint64) {
		*spans[len(spans)-1].Length++
		deltas = append(deltas, int64(n-last))
		last = n
	}
	next := 0 // native index after the last span
	for i, n := range counts {
		if n == 0 {
			continue
		}
		gap := index + i - next
		if spans == nil || gap > widestGap {
			spans = append(spans, &dto.BucketSpan{Offset: new(int32(gap)), Length: new(uint32(0))})
			gap = 0
		}
		for range gap {
			add(0)
		}
		add(n)
		next = index + i + 1
	}
	return spans, deltas
}
