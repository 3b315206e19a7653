package quantile

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/nametap/nametap/flows"
)

func histogram(values ...float64) *flows.Histogram {
	h := &flows.Histogram{}
	for _, v := range values {
		h.Observe(v, 1)
	}
	return h
}

func TestAt(t *testing.T) {
	const exact = 1e-6 // of a sum's resolution
	tests := []struct {
		what   string
		values []float64
		q      float64
		want   float64
		within float64
	}{
		{"one sample is the mean", []float64{0.024125}, 0, 0.024125, exact},
		{"and so is its median", []float64{0.024125}, 0.5, 0.024125, exact},
		{"and its last", []float64{0.024125}, 1, 0.024125, exact},
		{"equal ones", []float64{0.1063, 0.1063, 0.1063}, 0.5, 0.1063, exact},
		{"near the lower end of a bucket", []float64{0.12501, 0.12501}, 1, 0.12501, 0.0001},
		{"on a bound", []float64{0.125}, 0.5, 0.125, exact},
		{"two of one bucket", []float64{0.1, 0.104}, 1, 0.104, 0.004},
		{"the middle of three", []float64{0.01, 0.1, 1}, 0.5, 0.1, 0.009},
		{"nothing at all", []float64{0}, 0.5, 0, exact},
		{"below the first bound", []float64{1e-7}, 0.5, 1e-7, exact},
	}
	var none flows.Histogram
	for _, test := range tests {
		if got := Between(&none, histogram(test.values...)).At(test.q); !(math.Abs(got-test.want) <= test.within) {
			t.Errorf("%s: %g, want %g", test.what, got, test.want)
		}
	}
	if s := Between(&none, &none); s.Count() != 0 || !math.IsNaN(s.At(0.5)) {
		t.Errorf("of no samples: %d, %g", s.Count(), s.At(0.5))
	}
	before, now := histogram(0.001, 0.002), histogram(0.001, 0.002, 0.0303)
	if got := Between(before, now).At(0.5); math.Abs(got-0.0303) > exact {
		t.Errorf("what came last is %g, want 0.0303", got)
	}
}

// TestAgainstSamples holds quantiles against those of the samples themselves: in
// the same bucket always, in order, on the right side of the mean.
func TestAgainstSamples(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	qs := []float64{0, 0.05, 0.5, 0.95, 1}
	var none flows.Histogram
	var ours, middles float64
	for range 3000 {
		values := make([]float64, 1+random.IntN(200))
		centre, spread := 0.001+random.Float64()*0.3, random.Float64()*random.Float64()
		for i := range values {
			values[i] = math.Round(centre*math.Exp(spread*random.NormFloat64())*1e6) / 1e6
		}
		s := Between(&none, histogram(values...))
		slices.Sort(values)
		mean := 0.0
		for _, v := range values {
			mean += v / float64(len(values))
		}
		last := 0.0
		for _, q := range qs {
			got, want := s.At(q), values[max(int(math.Ceil(q*float64(len(values)))), 1)-1]
			if ratio := got / want; ratio > math.Exp2(1.0/8)+1e-9 || ratio < math.Exp2(-1.0/8)-1e-9 {
				t.Fatalf("the %g-quantile of %d is %g, want %g", q, len(values), got, want)
			}
			if got < last {
				t.Fatalf("the %g-quantile %g is below one before it, %g", q, got, last)
			}
			last = got
			if q == 0.5 {
				ours += math.Abs(got/want - 1)
				step := math.Ceil(8 * math.Log2(want))
				middles += math.Abs(math.Exp2((step-0.5)/8)/want - 1)
			}
		}
		if least, greatest := s.At(0), s.At(1); least > mean+2e-6 || greatest < mean-2e-6 {
			t.Fatalf("mean %g outside %g to %g", mean, least, greatest)
		}
	}
	if ours > middles/2 {
		t.Errorf("medians are off by %.2f %% on average, the middles of their buckets by %.2f %%", ours/30, middles/30)
	}
}
