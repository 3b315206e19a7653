package forecast

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// point of a series: NaN values are gaps.
type synthetic struct {
	name    string
	values  []float64 // positive, a period each
	columns []float64 // nil, or one outside column
}

const (
	dayPeriods = 8640
	synthStart = 1_700_000_000_000_000_000 / 10_000_000_000 * 10_000_000_000
)

// ten series of round-trip times over some days, no two alike: daily rhythms of
// different size and shape, noise with short and long memory, spikes, gaps,
// level shifts, growing variance.
func ten(days int) []synthetic {
	type recipe struct {
		name              string
		rhythm, second    float64 // of the first and second harmonic, in log
		slow, slowPhi     float64 // noise with a memory of minutes
		fast, fastPhi     float64 // noise with a memory of seconds
		white             float64
		gaps, shift, wild bool
	}
	recipes := []recipe{
		{name: "quiet", rhythm: 0.3, slow: 0.05, slowPhi: 0.995, white: 0.05},
		{name: "busy evening", rhythm: 0.4, second: 0.2, slow: 0.1, slowPhi: 0.99, white: 0.1},
		{name: "radio", rhythm: 0.15, slow: 0.2, slowPhi: 0.98, fast: 0.1, fastPhi: 0.7, white: 0.1},
		{name: "gaps", rhythm: 0.3, slow: 0.1, slowPhi: 0.99, white: 0.1, gaps: true},
		{name: "level shifts", rhythm: 0.2, slow: 0.08, slowPhi: 0.99, white: 0.08, shift: true},
		{name: "gaps and shifts", rhythm: 0.25, second: 0.1, slow: 0.1, slowPhi: 0.99, white: 0.1, gaps: true, shift: true},
		{name: "nearly white", rhythm: 0.1, slow: 0.02, slowPhi: 0.99, white: 0.2},
		{name: "long memory", rhythm: 0.2, slow: 0.2, slowPhi: 0.999, white: 0.03},
		{name: "spikes", rhythm: 0.2, slow: 0.1, slowPhi: 0.98, white: 0.1, wild: true},
		{name: "everything", rhythm: 0.3, second: 0.15, slow: 0.15, slowPhi: 0.995, fast: 0.1, fastPhi: 0.8, white: 0.1, gaps: true, shift: true, wild: true},
	}
	var out []synthetic
	for i, r := range recipes {
		rng := rand.New(rand.NewPCG(2014, uint64(i)))
		s := synthetic{name: r.name, values: make([]float64, days*dayPeriods)}
		level, slow, fast := math.Log(0.05), 0.0, 0.0
		gapUntil := 0
		for t := range s.values {
			phase := 2 * math.Pi * float64(t) / dayPeriods
			slow = r.slowPhi*slow + r.slow*math.Sqrt(1-r.slowPhi*r.slowPhi)*rng.NormFloat64()
			fast = r.fastPhi*fast + r.fast*math.Sqrt(1-r.fastPhi*r.fastPhi)*rng.NormFloat64()
			if r.shift && rng.Float64() < 1.0/(1.5*dayPeriods) {
				level += 0.6 * (2*float64(rng.IntN(2)) - 1)
			}
			y := level + r.rhythm*math.Sin(phase) + r.second*math.Sin(2*phase+1) + slow + fast + r.white*rng.NormFloat64()
			if r.wild && rng.Float64() < 0.01 {
				y += rng.ExpFloat64()
			}
			if r.gaps && gapUntil <= t && rng.Float64() < 1.0/500 {
				gapUntil = t + 1 + rng.IntN(60)
				if rng.IntN(20) == 0 {
					gapUntil = t + rng.IntN(2000)
				}
			}
			s.values[t] = math.Exp(y)
			if t < gapUntil && t > 0 {
				s.values[t] = math.NaN()
			}
		}
		out = append(out, s)
	}
	return out
}

func (s *synthetic) run(cfg Config) (*Forecaster, error) {
	f, err := New(cfg)
	if err != nil {
		return nil, err
	}
	for t, v := range s.values {
		at := int64(synthStart) + int64(t)*int64(cfg.Period)
		var columns []float64
		if s.columns != nil {
			columns = s.columns[t : t+1]
		}
		if err := f.Add(at, v, columns...); err != nil {
			return nil, fmt.Errorf("%s at %d: %w", s.name, t, err)
		}
	}
	return f, nil
}

func liveConfig() Config {
	cfg := DefaultConfig()
	cfg.Warmup = 48 * time.Hour
	return cfg
}
