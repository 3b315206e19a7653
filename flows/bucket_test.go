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
