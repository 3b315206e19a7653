package flows

import (
	"math"
	"math/rand/v2"
	"testing"
)

// searched finds the bucket of v as its definition has it.
func searched(v float64) int {
	i := 0
	for i < HistogramBuckets-1 && !(v <= math.Ldexp(mantissaBounds[(i+histogramOctaves-1)%histogramOctaves], (i+histogramOctaves-1)/histogramOctaves+HistogramMin)) {
		i++
	}
	return i
}

func TestBucketOf(t *testing.T) {
	check := func(v float64) {
		t.Helper()
		if got, want := bucketOf(v), searched(v); got != want {
			t.Fatalf("bucketOf(%v) = %d, want %d", v, got, want)
		}
	}
	for i := range HistogramBuckets {
		bound := math.Ldexp(mantissaBounds[(i+histogramOctaves-1)%histogramOctaves], (i+histogramOctaves-1)/histogramOctaves+HistogramMin)
		for _, v := range []float64{bound, math.Nextafter(bound, 0), math.Nextafter(bound, math.Inf(1))} {
			check(v)
		}
	}
	for _, v := range []float64{0, -1, math.SmallestNonzeroFloat64, 1e-300, 1e300, math.MaxFloat64, math.Inf(1)} {
		check(v)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		check(math.Exp2(r.Float64()*70 - 30))
	}
}

// TestSum holds the quick rounding of a sum against math.Round, about the values where
// adding a half first would be wrong.
func TestSum(t *testing.T) {
	check := func(v float64, n uint64) {
		t.Helper()
		var h Histogram
		h.Observe(v, n)
		if want := math.Round(v*float64(n)*(1<<20)) / (1 << 20); h.Sum != want {
			t.Fatalf("the sum of %d times %v is %v, want %v", n, v, h.Sum, want)
		}
	}
	for _, units := range []float64{0, 0.5, 1, 1.5, 2.5, 1<<51 + 0.5, 1<<52 - 0.5, 1 << 52, 1<<53 + 2, 1 << 63, 1 << 64, 1e300, -0.5, -1.5} {
		for _, u := range []float64{units, math.Nextafter(units, -1), math.Nextafter(units, math.Inf(1))} {
			check(u/(1<<20), 1)
		}
	}
	check(math.Inf(1), 1)
	r := rand.New(rand.NewPCG(3, 4))
	for range 100_000 {
		check(math.Exp2(r.Float64()*70-30), 1+r.Uint64N(9))
	}
}
