package report

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/nametap/nametap/internal/steps"
)

// TestNoStepsInSmoothData: whatever the shape, whatever the number, chance and
// curvature are no steps.
func TestNoStepsInSmoothData(t *testing.T) {
	shapes := map[string]func(r *rand.Rand) float64{
		"log-normal":        func(r *rand.Rand) float64 { return 30 * math.Exp(r.NormFloat64()) },
		"narrow log-normal": func(r *rand.Rand) float64 { return 30 * math.Exp(0.3*r.NormFloat64()) },
		"exponential":       func(r *rand.Rand) float64 { return 100 * r.ExpFloat64() },
		"uniform":           func(r *rand.Rand) float64 { return 20 + 100*r.Float64() },
		"pareto":            func(r *rand.Rand) float64 { return 5 * math.Pow(1-r.Float64(), -1/1.2) },
		"triangle":          func(r *rand.Rand) float64 { return 50 * (r.Float64() + r.Float64()) },
		"mixture": func(r *rand.Rand) float64 {
			if r.Float64() < 0.4 {
				return 2 * math.Exp(0.7*r.NormFloat64())
			}
			return 300 * math.Exp(0.9*r.NormFloat64())
		},
	}
	for name, draw := range shapes {
		for _, n := range []int{20, 100, 1000, 10000, 200000} {
			seeds := uint64(40)
			if n > 1000 {
				seeds = 3
			}
			for seed := range seeds {
				r := rand.New(rand.NewPCG(seed, 1))
				var h histogram
				var values []float64
				for range n {
					v := draw(r)
					h.add(v)
					if n <= 1000 {
						if v /= 100; v < mostRTT {
							values = append(values, v)
						}
					}
				}
				if s := h.steps(); len(s) > 0 {
					t.Errorf("%s, %d values, seed %d: %+v", name, n, seed, s)
				}
				if s := steps.Of(values, steps.RTTBin, steps.RTTWindows); len(s) > 0 {
					t.Errorf("%s as round-trip times, %d values, seed %d: %+v", name, n, seed, s)
				}
			}
		}
	}
}

// TestFindsTimeouts: the study's time-outs, smeared by what was said before the
// silence, on a background of other ends.
func TestFindsTimeouts(t *testing.T) {
	wants := []float64{90, 180, 600, 900, 1500}
	for _, n := range []int{600, 5000, 100000} {
		for seed := range uint64(8) {
			r := rand.New(rand.NewPCG(seed, 2))
			var h histogram
			for i := range n {
				if i%3 == 0 {
					h.add(60 * math.Exp(1.3*r.NormFloat64()))
					continue
				}
				smear := 4 * r.ExpFloat64()
				if r.Float64() < 0.3 {
					smear *= 10
				}
				h.add(wants[r.IntN(len(wants))] + smear)
			}
			found := h.steps()
			if len(found) != len(wants) {
				t.Errorf("%d values, seed %d: %d steps: %+v", n, seed, len(found), found)
				continue
			}
			for i, s := range found {
				if off := math.Abs(s.At/wants[i] - 1); off > 0.05 {
					t.Errorf("%d values, seed %d: %.0f s found at %.1f", n, seed, wants[i], s.At)
				}
			}
		}
	}
}

// TestFindsCities: two data centres 8 ms apart, 100 addresses and up.
func TestFindsCities(t *testing.T) {
	for _, n := range []int{100, 400} {
		for seed := range uint64(8) {
			r := rand.New(rand.NewPCG(seed, 3))
			var v []float64
			for i := range n {
				switch {
				case i%10 == 0:
					v = append(v, 0.02+0.2*r.Float64())
				case i%2 == 0:
					v = append(v, 0.106+0.0003*r.ExpFloat64())
				default:
					v = append(v, 0.114+0.0003*r.ExpFloat64())
				}
			}
			steps := steps.Of(v, steps.RTTBin, steps.RTTWindows)
			if len(steps) != 2 || math.Abs(steps[0].At-0.106) > 0.001 || math.Abs(steps[1].At-0.114) > 0.001 {
				t.Errorf("%d addresses, seed %d: %+v", n, seed, steps)
			}
		}
	}
}
