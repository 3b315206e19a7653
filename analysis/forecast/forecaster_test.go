package forecast

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"
)

// skipUnderRace: half a million values take minutes there, and there is but one
// goroutine.
func skipUnderRace(t *testing.T) {
	t.Helper()
	if raceDetector {
		t.Skip("nothing here runs at the same time as anything else")
	}
}

// TestTenSeries is what the issue asks of the selector.
func TestTenSeries(t *testing.T) {
	skipUnderRace(t)
	bound := map[int]float64{1: 1.02, 6: 1.02, 30: 1, 360: 1}
	for _, s := range ten(7) {
		cfg := liveConfig()
		f, err := s.run(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range cfg.Horizons {
			score := f.Score(h, Selected)
			if score.Count < 20_000 {
				t.Errorf("%s, %d ahead: only %d forecasts", s.name, h, score.Count)
			}
			if !(score.MASE < bound[h]) {
				t.Errorf("%s, %d ahead: MASE %.4f, want below %g", s.name, h, score.MASE, bound[h])
			}
			if !(score.Covered >= 0.87 && score.Covered <= 0.93) {
				t.Errorf("%s, %d ahead: the interval covers %.4f", s.name, h, score.Covered)
			}
		}
	}
}

// TestNothingToGain: in a random walk the last value is the best there is, and
// whoever chooses must not do worse by choosing.
func TestNothingToGain(t *testing.T) {
	skipUnderRace(t)
	rng := rand.New(rand.NewPCG(1, 2))
	s := synthetic{name: "random walk", values: make([]float64, 6*dayPeriods)}
	y := 0.0
	for i := range s.values {
		y += 0.01 * rng.NormFloat64()
		s.values[i] = math.Exp(y)
	}
	f, err := s.run(liveConfig())
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []int{1, 6, 30} {
		score := f.Score(h, Selected)
		if !(score.MASE <= 1.02) || score.Covered < 0.87 || score.Covered > 0.93 {
			t.Errorf("%d ahead: %+v", h, score)
		}
	}
	if naive := f.Score(30, SeasonalNaive); !(naive.Skill < 0) {
		t.Errorf("skill of yesterday's value in a random walk is %+.3f, and not negative", naive.Skill)
	}
}

// TestOutsideColumn: a column that tells half a minute ahead what comes is used.
func TestOutsideColumn(t *testing.T) {
	skipUnderRace(t)
	rng := rand.New(rand.NewPCG(3, 4))
	const ahead = 6
	n := 5 * dayPeriods
	signal := make([]float64, n+ahead)
	for i := 1; i < len(signal); i++ {
		signal[i] = 0.9*signal[i-1] + rng.NormFloat64()
	}
	with := synthetic{name: "with", values: make([]float64, n), columns: make([]float64, n)}
	for i := range n {
		with.values[i] = math.Exp(-3 + 0.2*signal[i] + 0.05*rng.NormFloat64())
		with.columns[i] = 100 + 7*signal[i+ahead] // other unit, other zero
	}
	without := with
	without.columns = nil
	cfg := liveConfig()
	blind, err := without.run(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Columns = 1
	seeing, err := with.run(cfg)
	if err != nil {
		t.Fatal(err)
	}
	a, b := seeing.Score(ahead, Selected).MASE, blind.Score(ahead, Selected).MASE
	if !(a < b/2) || seeing.Outlook(ahead).Model != Regression {
		t.Errorf("MASE %.3f with the column and %.3f without; %s speaks", a, b, seeing.Outlook(ahead).Model)
	}
	// The column goes: the regression is silent, another model speaks.
	at := int64(synthStart) + int64(n)*int64(cfg.Period)
	if err := seeing.Add(at, 0.05, math.NaN()); err != nil {
		t.Fatal(err)
	}
	if o := seeing.Outlook(ahead); o.Model == Regression || math.IsNaN(o.Point) {
		t.Errorf("without its column %s says %v", o.Model, o.Point)
	}
}

// small is a configuration of which a test sees the end: a season of 24 periods.
func small(transform Transform) Config {
	return Config{Period: time.Hour, Season: 24 * time.Hour, Horizons: []int{1, 3}, Transform: transform}
}

func hour(n int) int64 { return int64(n) * int64(time.Hour) }

func TestAddErrors(t *testing.T) {
	tests := []struct {
		what      string
		transform Transform
		at        int64
		value     float64
		columns   []float64
		want      string
	}{
		{"the clock goes back", Log, hour(9), 1, nil, "goes back by 1h"},
		{"by years", Log, math.MinInt64, 1, nil, "goes back"},
		{"the same period", Log, hour(10), 1, nil, "second value"},
		{"the same period, rounded", Log, hour(10) + int64(29*time.Minute), 1, nil, "second value"},
		{"zero has no logarithm", Log, hour(11), 0, nil, "logarithm"},
		{"negative", Log, hour(11), -1, nil, "logarithm"},
		{"infinite", Plain, hour(11), math.Inf(1), nil, "infinite"},
		{"share above 1", Share, hour(11), 1.01, nil, "share"},
		{"share below 0", Share, hour(11), -0.01, nil, "share"},
		{"a column too many", Log, hour(11), 1, []float64{1}, "columns"},
		{"fine", Log, hour(11), 1, nil, ""},
		{"a gap", Log, hour(11), math.NaN(), nil, ""},
		{"after a leap of centuries", Log, math.MaxInt64, 1, nil, ""},
		{"after a leap of a century", Log, hour(876_000), 1, nil, ""},
	}
	for _, test := range tests {
		f, err := New(small(test.transform))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Add(hour(10), 0.5); err != nil {
			t.Fatal(err)
		}
		err = f.Add(test.at, test.value, test.columns...)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.what, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n")):
			t.Errorf("%s: %v, want %q", test.what, err, test.want)
		}
		if test.want != "" {
			if err := f.Add(hour(11), 0.5); err != nil {
				t.Errorf("%s: the series is broken by it: %v", test.what, err)
			}
		}
	}
	if f, _ := New(small(Log)); f.Add(hour(1), math.NaN()) != nil || f.Values() != 0 {
		t.Error("a series that starts with a gap")
	}
}

func TestConfigErrors(t *testing.T) {
	tests := []struct {
		want   string
		change func(*Config)
	}{
		{"period", func(c *Config) { c.Period = 0 }},
		{"multiple", func(c *Config) { c.Period = 7 * time.Second }},
		{"multiple", func(c *Config) { c.Season = c.Period }},
		{"season", func(c *Config) { c.Period = time.Millisecond }},
		{"horizons", func(c *Config) { c.Horizons = nil }},
		{"horizons", func(c *Config) { c.Horizons = []int{0} }},
		{"horizons", func(c *Config) { c.Horizons = []int{1 << 30} }},
		{"ascend", func(c *Config) { c.Horizons = []int{6, 1} }},
		{"ascend", func(c *Config) { c.Horizons = []int{1, 1} }},
		{"columns", func(c *Config) { c.Columns = 100 }},
		{"columns", func(c *Config) { c.Columns = -1 }},
		{"warm", func(c *Config) { c.Warmup = -1 }},
		{"none of", func(c *Config) { c.Transform = "sqrt" }},
	}
	for _, test := range tests {
		cfg := DefaultConfig()
		test.change(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v, want %q", cfg, err, test.want)
		}
	}
}

// TestGaps: nothing is filled in.
func TestGaps(t *testing.T) {
	f, _ := New(small(Plain))
	for i := range 24 * 40 {
		if err := f.Add(hour(i), math.Sin(2*math.Pi*float64(i)/24)+0.01*float64(i%5)); err != nil {
			t.Fatal(err)
		}
	}
	now := 24*40 - 1
	if p, lo, hi := f.Forecast(3); math.IsNaN(p) || !(lo <= p && p <= hi) {
		t.Fatalf("%v in %v to %v", p, lo, hi)
	}
	before := f.Outlook(3)
	if before.Time != hour(now+3) {
		t.Errorf("time %d", before.Time)
	}
	for _, gap := range []int{1, 2} {
		if err := f.Add(hour(now+gap), math.NaN()); err != nil {
			t.Fatal(err)
		}
		if after := f.Outlook(3); !reflect.DeepEqual(before, after) {
			t.Errorf("a gap changes what was said: %+v", after)
		}
		if p, _, _ := f.Forecast(1); !math.IsNaN(p) {
			t.Errorf("%v for a period that has gone by", p)
		}
	}
	if err := f.Add(hour(now+4), 0.5); err != nil {
		t.Fatal(err)
	}
	if s := f.horizons[0].pending(f.now); s.arGood || !math.IsNaN(s.point[AR]) {
		t.Error("the autoregression speaks right after a gap, of which it knows nothing")
	}
	if count := f.Score(3, LastValue).Count; count != 24*40-3 {
		t.Errorf("%d scored at 3 ahead; values in gaps or from gaps must not be", count)
	}
	// A gap beyond all memory.
	if err := f.Add(hour(now+10_000), 0.5); err != nil {
		t.Fatal(err)
	}
	if s := f.horizons[0].pending(f.now); !math.IsNaN(s.point[SeasonalNaive]) || f.n != 1 {
		t.Errorf("yesterday's value is %v, %d values in the last season", s.point[SeasonalNaive], f.n)
	}
}

// TestGapsGivenOrNot: a period without a value need not be given.
func TestGapsGivenOrNot(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	given, _ := New(small(Plain))
	left, _ := New(small(Plain))
	for i := range 2000 {
		v := rng.NormFloat64()
		if rng.IntN(5) == 0 {
			v = math.NaN()
		}
		if err := given.Add(hour(i), v); err != nil {
			t.Fatal(err)
		}
		if math.IsNaN(v) {
			continue
		}
		if err := left.Add(hour(i), v); err != nil {
			t.Fatal(err)
		}
		for _, h := range []int{1, 3} {
			if a, b := given.Outlook(h), left.Outlook(h); fmt.Sprint(a) != fmt.Sprint(b) { // NaN is not equal to itself
				t.Fatalf("at %d: %v and %v", i, a, b)
			}
		}
	}
}

// TestNoLookingAhead: what is said does not hang on what comes later.
func TestNoLookingAhead(t *testing.T) {
	s := ten(2)[0]
	cfg := liveConfig()
	cfg.Warmup = 0
	whole, _ := New(cfg)
	part, _ := New(cfg)
	for i, v := range s.values {
		at := int64(i) * int64(cfg.Period)
		if err := whole.Add(at, v); err != nil {
			t.Fatal(err)
		}
		if i < len(s.values)/2 {
			_ = part.Add(at, v)
		} else {
			_ = part.Add(at, 100*v)
		}
		if i == len(s.values)/2-1 && fmt.Sprint(whole.Outlook(30)) != fmt.Sprint(part.Outlook(30)) {
			t.Fatal("two runs over the same values differ")
		}
	}
	if fmt.Sprint(whole.Outlook(30)) == fmt.Sprint(part.Outlook(30)) {
		t.Error("other values, and nothing has changed")
	}
}

func TestConstantSeries(t *testing.T) {
	for _, transform := range []Transform{Log, Share, Plain} {
		f, _ := New(small(transform))
		for i := range 24 * 60 {
			if err := f.Add(hour(i), 0.25); err != nil {
				t.Fatal(err)
			}
		}
		p, lo, hi := f.Forecast(1)
		for _, v := range []float64{p, lo, hi} {
			if math.Abs(v-0.25) > 1e-9 {
				t.Errorf("%s: %v in %v to %v", transform, p, lo, hi)
			}
		}
	}
}

// TestShare: loss is mostly 0, and an interval of it stays between 0 and 1.
func TestShare(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	f, _ := New(small(Share))
	for i := range 24 * 100 {
		v := 0.0
		if rng.IntN(4) == 0 {
			v = rng.Float64()
		}
		if err := f.Add(hour(i), v); err != nil {
			t.Fatal(err)
		}
		p, lo, hi := f.Forecast(1)
		if p < 0 || p > 1 || lo < 0 || hi > 1 || lo > hi {
			t.Fatalf("%v in %v to %v", p, lo, hi)
		}
	}
	if score := f.Score(1, Selected); score.Covered < 0.87 {
		t.Errorf("%+v", score)
	}
}

// TestHysteresis: two models that are as good as each other do not take turns.
func TestHysteresis(t *testing.T) {
	x := &horizon{least: 1}
	set := func(m Model, ratio float64) { x.errors[m] = fading{fade: 1, weight: 100, sum: ratio, naive: 1} }
	for m := range models {
		set(Model(m), 2)
	}
	steps := []struct {
		model Model
		ratio float64
		want  Model
	}{
		{LastValue, 1, LastValue},
		{Holt, 0.99, LastValue}, // better, but not by the margin
		{Holt, 0.97, Holt},
		{AR, 0.96, Holt},
		{LastValue, 0.94, LastValue},
		{Holt, 0.93, LastValue},
	}
	for i, step := range steps {
		set(step.model, step.ratio)
		if x.choose(); x.current != step.want {
			t.Errorf("step %d: %s, want %s", i, x.current, step.want)
		}
	}
	x.errors[Median] = fading{weight: 0.5, sum: 0.1, naive: 1}
	if x.choose(); x.current != LastValue {
		t.Error("a model that has hardly been tried is chosen")
	}
}

// TestConformalDrift: errors whose size doubles every so often stay covered.
func TestConformalDrift(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	c := newConformal(1)
	inside, below, n := 0, 0, 0
	for i := range 40_000 {
		e := rng.NormFloat64() * math.Exp2(float64(i/2000%5)) * 0.1
		if lo, hi := c.interval(); !math.IsNaN(lo) {
			n++
			if e >= lo && e <= hi {
				inside++
			}
			if e < lo {
				below++
			}
			c.judge(e < lo, e > hi)
		}
		c.add(e)
	}
	if share := float64(inside) / float64(n); share < 0.89 || share > 0.91 {
		t.Errorf("covers %.4f", share)
	}
	if share := float64(below) / float64(n); share < 0.04 || share > 0.06 {
		t.Errorf("%.4f below: the tails are not alike", share)
	}
	if len(c.sorted) != memory || len(c.ring) != memory {
		t.Errorf("%d and %d errors remembered", len(c.sorted), len(c.ring))
	}
}

func TestRidge(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	r := newRidge(3, 1000)
	want := []float64{0.5, -2, 1e-6}
	row := func() ([]float64, float64) {
		x := []float64{1, rng.NormFloat64(), 1e6 * rng.NormFloat64()}
		return x, want[0] + want[1]*x[1] + want[2]*x[2]
	}
	if !math.IsNaN(r.predict([]float64{1, 2, 3})) {
		t.Error("a prediction before any row")
	}
	for range 5000 {
		r.add(row())
	}
	r.fit()
	for range 10 {
		x, y := row()
		if got := r.predict(x); math.Abs(got-y) > 0.02*(1+math.Abs(y)) {
			t.Errorf("%v, want %v", got, y)
		}
	}
	// What was true long ago is forgotten.
	want[1] = 3
	for range 15_000 {
		r.add(row())
	}
	r.fit()
	if math.Abs(r.beta[1]-3) > 0.05 {
		t.Errorf("slope %v, want 3", r.beta[1])
	}
	degenerate := newRidge(3, 1000)
	for range 100 {
		degenerate.add([]float64{1, 0, 0}, 4)
	}
	degenerate.fit()
	if got := degenerate.predict([]float64{1, 5, 5}); math.Abs(got-4) > 1e-6 {
		t.Errorf("columns of zeros: %v, want 4", got)
	}
}

func TestErrorsAreComparable(t *testing.T) {
	f, _ := New(small(Plain))
	_ = f.Add(hour(1), 1)
	if err := f.Add(hour(1), 1); !errors.Is(err, ErrSamePeriod) {
		t.Error(err)
	}
}

func BenchmarkAdd(b *testing.B) {
	for _, each := range []bool{false, true} {
		b.Run(fmt.Sprintf("each=%v", each), func(b *testing.B) {
			cfg := liveConfig()
			cfg.EachModel = each
			f, _ := New(cfg)
			rng := rand.New(rand.NewPCG(13, 14))
			b.ReportAllocs()
			for i := range b.N {
				if err := f.Add(int64(i)*int64(cfg.Period), math.Exp(rng.NormFloat64())); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
