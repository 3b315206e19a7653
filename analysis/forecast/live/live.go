// Package live forecasts what a running engine's classes will meet: the median
// round-trip time on both sides of the tap and the share of segments sent again,
// period by period of packet time, and keeps the books on how its forecasts fared.
package live

import (
	"math"
	"sync"
	"time"

	"github.com/nametap/nametap/analysis/forecast"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/internal/quantile"
	"github.com/nametap/nametap/probe"
)

// Period is the time from one value to the next.
const Period = 10 * time.Second

// Quantity is what is forecast.
type Quantity int

// The quantities, of each class. Round-trip times are in seconds; the losses are
// the shares of a direction's segments that were sent again.
const (
	ServerRTT Quantity = iota
	AccessRTT
	UplinkLoss
	DownlinkLoss
	// Quantities is their number.
	Quantities
)

// Horizons are how far ahead, a closed list: so many periods, by their names.
var Horizons = [...]Horizon{{1, "10s"}, {6, "1m"}, {30, "5m"}, {360, "1h"}}

// Horizon is one of them.
type Horizon struct {
	Periods int
	Name    string
}

// What a value takes at least: fewer are not one of the period but of chance.
const (
	leastSamples  = 3
	leastSegments = 20
)

// Forecast is what is expected at one horizon, and how what was expected fared.
type Forecast struct {
	// Time for which it holds, packet time in nanoseconds.
	Time int64
	// Point and the 90 % interval; NaN where nothing is known yet, or where
	// that time has gone by without a value.
	Point, Lower, Upper float64
	forecast.Sums
}

// Outlook is what is expected of one quantity.
type Outlook struct {
	// Latest value, NaN where the last period had none.
	Latest float64
	At     [len(Horizons)]Forecast
}

// Class is what is expected of one class, by Quantity.
type Class struct {
	App, Class string
	Outlook    [Quantities]Outlook
}

// Forecaster follows one engine. A class takes some hundred kilobytes for each
// quantity that it has values of; there are probe.MaxClasses of them at most. It
// is safe for concurrent use.
type Forecaster struct {
	mu      sync.Mutex
	last    *probe.Snapshot
	series  [][Quantities]*forecast.Forecaster // nil before the first value
	classes []Class
}

// New returns a Forecaster that has seen nothing.
func New() *Forecaster { return &Forecaster{} }

// Observe takes a snapshot. It should get one soon after each multiple of Period
// in packet time (probe.Config.Watch does that); what lies between two of them
// counts as the period of the earlier one. Periods in which too little passed are
// gaps.
func (f *Forecaster) Observe(s *probe.Snapshot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.last
	if s.Time <= 0 {
		return
	}
	f.last = s
	for i := len(f.classes); i < len(s.Classes); i++ {
		f.classes = append(f.classes, Class{App: s.Classes[i].App, Class: s.Classes[i].Class, Outlook: nothing()})
		f.series = append(f.series, [Quantities]*forecast.Forecaster{})
	}
	if before == nil || s.Time/int64(Period) <= before.Time/int64(Period) || s.Frames < before.Frames {
		f.unknown()
		return
	}
	end := before.Time - before.Time%int64(Period) + int64(Period)
	var none flows.Counters
	for i := range f.classes {
		a := &none
		if i < len(before.Classes) {
			a = &before.Classes[i].Counters
		}
		for q, v := range values(a, &s.Classes[i].Counters) {
			f.take(i, Quantity(q), end, v)
		}
	}
}

// unknown says that nothing was measured in the last period.
func (f *Forecaster) unknown() {
	for i := range f.classes {
		for q := range f.classes[i].Outlook {
			f.classes[i].Outlook[q].Latest = math.NaN()
		}
	}
}

func nothing() (out [Quantities]Outlook) {
	unknown := math.NaN()
	for q := range out {
		out[q].Latest = unknown
		for h := range out[q].At {
			out[q].At[h] = Forecast{Point: unknown, Lower: unknown, Upper: unknown}
		}
	}
	return out
}

// values are those of the period between two states of a class, NaN for none.
func values(a, b *flows.Counters) (v [Quantities]float64) {
	for d, q := range [2]Quantity{flows.Up: ServerRTT, flows.Down: AccessRTT} {
		v[q] = math.NaN()
		if b.RTT[d].Count-a.RTT[d].Count >= leastSamples {
			v[q] = quantile.Between(&a.RTT[d], &b.RTT[d]).At(0.5)
		}
	}
	for d, q := range [2]Quantity{flows.Up: UplinkLoss, flows.Down: DownlinkLoss} {
		v[q] = math.NaN()
		if n := b.Packets[d] - a.Packets[d]; n >= leastSegments {
			v[q] = min(1, float64(b.Retransmitted[d]-a.Retransmitted[d])/float64(n))
		}
	}
	return v
}

func (f *Forecaster) take(class int, q Quantity, end int64, v float64) {
	f.classes[class].Outlook[q].Latest = v
	if f.series[class][q] == nil {
		if math.IsNaN(v) {
			return
		}
		f.series[class][q] = newSeries(q)
	}
	series := f.series[class][q]
	if series.Add(end, v) != nil {
		return // a clock that was set back: it goes on when the time is reached again
	}
	for h := range Horizons {
		o := series.Outlook(Horizons[h].Periods)
		f.classes[class].Outlook[q].At[h] = Forecast{
			Time: o.Time, Point: o.Point, Lower: o.Lo, Upper: o.Hi, Sums: series.Sums(Horizons[h].Periods),
		}
	}
}

func newSeries(q Quantity) *forecast.Forecaster {
	cfg := forecast.DefaultConfig()
	cfg.Period = Period
	cfg.Horizons = nil
	for _, h := range Horizons {
		cfg.Horizons = append(cfg.Horizons, h.Periods)
	}
	if q == UplinkLoss || q == DownlinkLoss {
		cfg.Transform = forecast.Share
	}
	series, err := forecast.New(cfg)
	if err != nil {
		panic("a configuration that is always the same: " + err.Error())
	}
	return series
}

// Classes returns what is expected now, in the order of the snapshots' classes.
func (f *Forecaster) Classes() []Class {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Class(nil), f.classes...)
}
