package flows

import "math"

// Histogram buckets grow by the eighth root of two, 9 % each: native
// histogram schema 3. Index i holds values in (2^((i-1)/8), 2^(i/8)], as
// Prometheus counts them, shifted by histogramZero.
const (
	HistogramSchema  = 3
	histogramOctaves = 8 // buckets an octave: 2^schema
	// HistogramMin and HistogramMax are the exponents (of two) between which
	// values are told apart; values beyond fall into the first or last
	// bucket. From a microsecond (2^-20 s) to 17 minutes for times (2^10),
	// and to 64 GiB (2^36) for sizes.
	HistogramMin     = -20
	HistogramMax     = 36
	HistogramBuckets = (HistogramMax-HistogramMin)*histogramOctaves + 1
)

// Histogram counts observations of one quantity in base units (seconds, bytes,
// bytes per second). It has a fixed size: hostile input cannot make it grow.
type Histogram struct {
	Count uint64
	// Sum is kept in multiples of 2^-20 (a microsecond), so that adding up the
	// sums of several goroutines gives the same in any order.
	Sum     float64
	Buckets [HistogramBuckets]uint64
}

// HistogramIndex returns the native bucket index (schema 3) of the bucket at
// position i of Histogram.Buckets. Its upper bound is 2^(index/8).
func HistogramIndex(i int) int { return i + HistogramMin*histogramOctaves }

// mantissaBounds are the upper bounds of the buckets within an octave, for a
// fraction in [0.5, 1): 2^(i/8-1), with the last digit as the Prometheus client
// library has it, so that a value on a bound falls into the same bucket.
var mantissaBounds = [histogramOctaves]float64{
	0.5452538663326288, 0.5946035575013605, 0.6484197773255048, 0.7071067811865475,
	0.7711054127039704, 0.8408964152537144, 0.9170040432046711, 1,
}

// Observe counts v n times.
func (h *Histogram) Observe(v float64, n uint64) {
	h.Count += n
	units := v * float64(n) * (1 << 20)
	if units >= 0 && units < 1<<mantissaBits {
		// What is left is exact, and twice that is 1 or more where it is to be rounded
		// up. A branch that asks for it would be guessed wrong as often as not.
		whole := int64(units)
		units = float64(whole + int64(2*(units-float64(whole))))
	} else {
		units = math.Round(units) // nothing that is ever observed
	}
	h.Sum += units / (1 << 20)
	h.Buckets[bucketOf(v)] += n
}

func bucketOf(v float64) int {
	if !(v > 0) {
		return 0
	}
	// v = frac × 2^exp, frac in [0.5, 1): by its bits (IEEE 754), because a
	// search would be guessed wrong more often than not. The number before v stands
	// for it: so one on a bound is below that, and a frac of exactly one half, the
	// upper bound of the octave below, is in that octave. A subnormal number is far
	// below the first bucket.
	word := math.Float64bits(v) - 1
	exp, mantissa := int(word>>mantissaBits)-exponentBias, word&(1<<mantissaBits-1)
	i := int(firstBound[mantissa>>(mantissaBits-firstBits)])
	below := int((mantissa - boundMantissas[i%histogramOctaves]) >> 63) // 1 or 0
	at := (exp-1-HistogramMin)*histogramOctaves + i + 2 - below
	return min(max(at, 0), HistogramBuckets-1)
}

const (
	mantissaBits = 52
	exponentBias = 1022 // so that frac is in [0.5, 1)
	// firstBits of the mantissa part an octave more finely than the buckets do:
	// each part has at most one bound in it.
	firstBits = 6
)

// boundMantissas are the mantissas of mantissaBounds; that of 1, the end of the
// octave, is beyond all others. firstBound is the first bound that is not below
// the beginning of a part of the octave.
var boundMantissas, firstBound = mantissaTables()

func mantissaTables() (bounds [histogramOctaves]uint64, first [1 << firstBits]uint8) {
	for i, b := range mantissaBounds[:histogramOctaves-1] {
		bounds[i] = math.Float64bits(b) & (1<<mantissaBits - 1)
	}
	bounds[histogramOctaves-1] = 1 << mantissaBits
	for part := range first {
		start := uint64(part) << (mantissaBits - firstBits)
		for bounds[first[part]] < start {
			first[part]++
		}
	}
	return bounds, first
}

// Add adds o to h.
func (h *Histogram) Add(o *Histogram) {
	if o.Count == 0 {
		return
	}
	h.Count += o.Count
	h.Sum += o.Sum
	for i, n := range o.Buckets {
		h.Buckets[i] += n
	}
}
