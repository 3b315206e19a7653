package live

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nametap/nametap/analysis/forecast"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/internal/quantile"
	"github.com/nametap/nametap/probe"
)

// tap is an engine's counters: one class, whose state is moved on by hand.
type tap struct {
	now  int64
	chat flows.Counters
	n    uint64
}

func (x *tap) snapshot(after time.Duration) *probe.Snapshot {
	x.now += int64(after)
	x.n++
	return &probe.Snapshot{
		Time: x.now, Frames: x.n,
		Classes: []probe.ClassSnapshot{
			{ClassInfo: classify.ClassInfo{App: "other", Class: "other"}},
			{ClassInfo: classify.ClassInfo{App: "whatsapp", Class: "chat"}, Counters: x.chat},
		},
	}
}

func (x *tap) measured(rtt float64, samples, segments, again uint64) {
	x.chat.RTT[flows.Up].Observe(rtt, samples)
	x.chat.Packets[flows.Down] += segments
	x.chat.Retransmitted[flows.Down] += again
}

// TestSameAsASeries: what is said live is what the Forecaster says of the same
// values in a series.
func TestSameAsASeries(t *testing.T) {
	const start = 1_700_000_000 * int64(time.Second)
	live, x := New(), &tap{now: start}
	live.Observe(x.snapshot(0))
	cfg := forecast.DefaultConfig()
	series, err := forecast.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	level := -2.0
	for range 2000 {
		level += 0.02 * rng.NormFloat64()
		before := x.chat.RTT[flows.Up]
		for range 20 {
			x.measured(math.Exp(level+0.1*rng.NormFloat64()), 1, 0, 0)
		}
		live.Observe(x.snapshot(Period))
		if err := series.Add(x.now, quantile.Between(&before, &x.chat.RTT[flows.Up]).At(0.5)); err != nil {
			t.Fatal(err)
		}
	}
	got := live.Classes()[1]
	if got.App != "whatsapp" || got.Class != "chat" {
		t.Fatalf("%+v", got)
	}
	for h, horizon := range Horizons {
		f, want := got.Outlook[ServerRTT].At[h], series.Outlook(horizon.Periods)
		if f.Time != want.Time || f.Point != want.Point || f.Lower != want.Lo || f.Upper != want.Hi || f.Sums != series.Sums(horizon.Periods) {
			t.Errorf("%s: %+v, want %+v", horizon.Name, f, want)
		}
		if f.Count < 1500 || !(f.Lower < f.Point && f.Point < f.Upper) || f.Time != x.now+int64(horizon.Periods)*int64(Period) {
			t.Errorf("%s: %+v", horizon.Name, f)
		}
		if share := float64(f.Covered) / float64(f.Intervals); share < 0.8 || share > 0.97 {
			t.Errorf("%s: %.3f covered", horizon.Name, share)
		}
	}
	if v := got.Outlook[AccessRTT]; !math.IsNaN(v.Latest) || !math.IsNaN(v.At[0].Point) || v.At[0].Count != 0 {
		t.Errorf("the access side has no samples, and yet %+v", v)
	}
}

func TestPeriods(t *testing.T) {
	const start = 1_700_000_000 * int64(time.Second)
	good := func(x *tap) { x.measured(0.1, 100, 1000, 10) }
	tests := []struct {
		what      string
		step      func(x *tap) *probe.Snapshot
		rtt, loss bool
	}{
		{"a period", func(x *tap) *probe.Snapshot { good(x); return x.snapshot(Period) }, true, true},
		{"a snapshot that is a little late", func(x *tap) *probe.Snapshot { good(x); return x.snapshot(Period + time.Second) }, true, true},
		{"too few samples and segments", func(x *tap) *probe.Snapshot { x.measured(0.1, 2, 19, 0); return x.snapshot(Period) }, false, false},
		{"segments, no samples", func(x *tap) *probe.Snapshot { x.measured(0.1, 0, 20, 0); return x.snapshot(Period) }, false, true},
		{"nothing", func(x *tap) *probe.Snapshot { return x.snapshot(Period) }, false, false},
		{"a silence after it", func(x *tap) *probe.Snapshot { good(x); return x.snapshot(5 * Period) }, true, true},
		{"two in one period", func(x *tap) *probe.Snapshot { good(x); return x.snapshot(time.Second) }, false, false},
		{"the clock was set back", func(x *tap) *probe.Snapshot { good(x); return x.snapshot(-time.Hour) }, false, false},
		{"another engine", func(x *tap) *probe.Snapshot { x.n = 0; return x.snapshot(Period) }, false, false},
	}
	for _, test := range tests {
		live, x := New(), &tap{now: start}
		live.Observe(x.snapshot(0))
		good(x)
		live.Observe(x.snapshot(Period))
		live.Observe(test.step(x))
		o := live.Classes()[1].Outlook
		if rtt := !math.IsNaN(o[ServerRTT].Latest); rtt != test.rtt {
			t.Errorf("%s: round-trip time %v", test.what, o[ServerRTT].Latest)
		}
		if loss := !math.IsNaN(o[DownlinkLoss].Latest); loss != test.loss {
			t.Errorf("%s: loss %v", test.what, o[DownlinkLoss].Latest)
		}
		good(x)
		live.Observe(x.snapshot(Period)) // whatever it was, it goes on
		good(x)
		live.Observe(x.snapshot(Period))
		o = live.Classes()[1].Outlook
		if v := o[DownlinkLoss].Latest; v != 0.01 {
			t.Errorf("%s: loss %v after it, want 0.01", test.what, v)
		}
		if v := o[ServerRTT].Latest; math.Abs(v-0.1) > 0.0045 {
			t.Errorf("%s: round-trip time %v after it, want 0.1", test.what, v)
		}
	}
}
