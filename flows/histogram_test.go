package flows

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// observed returns the native buckets that the Prometheus library itself puts
// the values into, by index.
func observed(t *testing.T, values []float64) map[int]uint64 {
	t.Helper()
	h := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "h", Help: "h.",
		// The growth of schema 3; the library takes the widest schema that
		// does not grow faster.
		NativeHistogramBucketFactor:  math.Exp2(1.0 / (1 << HistogramSchema)),
		NativeHistogramZeroThreshold: prometheus.NativeHistogramZeroThresholdZero,
	})
	for _, v := range values {
		h.Observe(v)
	}
	var m dto.Metric
	if err := h.Write(&m); err != nil {
		t.Fatal(err)
	}
	if got := m.Histogram.GetSchema(); got != HistogramSchema {
		t.Fatalf("the library uses schema %d, want %d", got, HistogramSchema)
	}
	buckets := map[int]uint64{}
	index, count, i := 0, int64(0), 0
	for _, span := range m.Histogram.PositiveSpan {
		index += int(span.GetOffset())
		for range span.GetLength() {
			count += m.Histogram.PositiveDelta[i]
			if count != 0 {
				buckets[index] = uint64(count)
			}
			index++
			i++
		}
	}
	return buckets
}

func compare(t *testing.T, name string, values []float64) {
	t.Helper()
	want := observed(t, values)
	var h Histogram
	sum := 0.0
	for _, v := range values {
		h.Observe(v, 1)
		sum += math.Round(v*(1<<20)) / (1 << 20)
	}
	for i, n := range h.Buckets {
		if index := HistogramIndex(i); n != want[index] {
			t.Errorf("%s: bucket %d holds %d, want %d", name, index, n, want[index])
		}
		delete(want, HistogramIndex(i))
	}
	for index, n := range want {
		t.Errorf("%s: the library has %d in bucket %d, which is out of range here", name, n, index)
	}
	if h.Count != uint64(len(values)) || h.Sum != sum {
		t.Errorf("%s: count %d, sum %v; want %d and %v", name, h.Count, h.Sum, len(values), sum)
	}
}

func TestHistogramAgainstPrometheus(t *testing.T) {
	var powers, bounds []float64
	for e := HistogramMin; e <= HistogramMax; e++ {
		v := math.Ldexp(1, e)
		powers = append(powers, v)
		if e > HistogramMin {
			powers = append(powers, math.Nextafter(v, 0))
		}
		if e < HistogramMax {
			powers = append(powers, math.Nextafter(v, math.Inf(1)))
		}
		for i := 1; i < histogramOctaves && e < HistogramMax; i++ {
			b := math.Ldexp(mantissaBounds[i-1], e+1)
			bounds = append(bounds, b, math.Nextafter(b, 0), math.Nextafter(b, math.Inf(1)))
		}
	}
	compare(t, "powers of two and their neighbours", powers)
	compare(t, "bounds and their neighbours", bounds)

	rnd := rand.New(rand.NewPCG(1, 2))
	var spread []float64
	for range 100_000 {
		spread = append(spread, math.Exp2(HistogramMin+rnd.Float64()*(HistogramMax-HistogramMin)))
	}
	compare(t, "spread", spread)
	var times, sizes []float64
	for us := range 20_000 {
		times = append(times, float64(us+1)*1e-6)
		sizes = append(sizes, float64(us*97+1))
	}
	compare(t, "times", times)
	compare(t, "sizes", sizes)
}

func TestHistogramEnds(t *testing.T) {
	for _, c := range []struct {
		v    float64
		want int
	}{
		{0, 0},
		{-1, 0},
		{math.SmallestNonzeroFloat64, 0},
		{math.Ldexp(1, HistogramMin), 0},
		{math.Nextafter(math.Ldexp(1, HistogramMin), 1), 1},
		{1, -HistogramMin * histogramOctaves},
		{math.Ldexp(1, HistogramMax), HistogramBuckets - 1},
		{math.Nextafter(math.Ldexp(1, HistogramMax), math.Inf(1)), HistogramBuckets - 1},
		{math.MaxFloat64, HistogramBuckets - 1},
	} {
		var h Histogram
		h.Observe(c.v, 3)
		if h.Buckets[c.want] != 3 || h.Count != 3 {
			t.Errorf("%v is not in bucket %d", c.v, c.want)
		}
	}
	for i, b := range mantissaBounds {
		if want := math.Exp2(float64(i+1)/8 - 1); math.Abs(b-want) > 3e-16 {
			t.Errorf("bound %d is %v, want %v", i, b, want)
		}
	}
	if HistogramIndex(0) != HistogramMin*8 || HistogramIndex(HistogramBuckets-1) != HistogramMax*8 {
		t.Errorf("the range is %d to %d", HistogramIndex(0), HistogramIndex(HistogramBuckets-1))
	}
}

func TestHistogramAllocs(t *testing.T) {
	var h Histogram
	if n := testing.AllocsPerRun(100, func() { h.Observe(0.03, 1) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
