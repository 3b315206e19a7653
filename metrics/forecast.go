package metrics

import (
	"math"

	"github.com/nametap/nametap/analysis/forecast/live"
	"github.com/nametap/nametap/probe"
)

// forecasts are the families of what comes next: of each quantity what is
// expected, its interval, and the books on how that fared.
func forecasts() (out []family) {
	for _, q := range []struct {
		quantity          live.Quantity
		name, unit, scale string
		what              string
	}{
		{live.ServerRTT, "tcp_server_rtt_forecast", "seconds", "natural logarithms", "median round-trip time between tap and server of ten seconds"},
		{live.DownlinkLoss, "tcp_downlink_loss_forecast", "ratio", "shares", "share of downlink segments sent again in ten seconds"},
	} {
		gaugeOf := func(suffix, help string, get func(*live.Forecast) float64) {
			out = append(out, ofForecast(q.quantity, q.name+suffix+"_"+q.unit, gauge, help, get))
		}
		countOf := func(suffix, help string, get func(*live.Forecast) float64) {
			out = append(out, ofForecast(q.quantity, q.name+suffix+"_total", counter, help, get))
		}
		gaugeOf("", "Expected "+q.what+", so far ahead as the horizon says. 0 before the first value, and where that time has gone by without one.",
			func(f *live.Forecast) float64 { return f.Point })
		gaugeOf("_lower", "Lower end of the 90 % interval of the expected "+q.what+". 0 until enough forecasts have been scored.",
			func(f *live.Forecast) float64 { return f.Lower })
		gaugeOf("_upper", "Upper end of the 90 % interval of the expected "+q.what+". 0 until enough forecasts have been scored.",
			func(f *live.Forecast) float64 { return f.Upper })
		countOf("s_scored", "Forecasts that a value has been held against.",
			func(f *live.Forecast) float64 { return float64(f.Count) })
		countOf("_error", "Absolute errors of those forecasts added up, as differences of "+q.scale+".",
			func(f *live.Forecast) float64 { return f.Error })
		countOf("_naive_error", "What the absolute errors would have been with the last value as the forecast: the skill is 1 minus the ratio of the two.",
			func(f *live.Forecast) float64 { return f.Naive })
		countOf("_intervals_scored", "Forecasts with an interval that a value has been held against.",
			func(f *live.Forecast) float64 { return float64(f.Intervals) })
		countOf("_intervals_covered", "Values that were inside their interval.",
			func(f *live.Forecast) float64 { return float64(f.Covered) })
	}
	return out
}

// ofForecast returns a gauge or counter by class and horizon. What is not known is
// 0, as on the rest of the page.
func ofForecast(q live.Quantity, name string, k kind, help string, get func(*live.Forecast) float64) family {
	return family{name: name, kind: k, labels: with("horizon"), help: help, emit: func(e *emitter, s *probe.Snapshot) {
		for i := range s.Classes {
			for h := range live.Horizons {
				v := 0.0
				if i < len(e.forecasts) {
					v = get(&e.forecasts[i].Outlook[q].At[h])
				}
				if math.IsNaN(v) {
					v = 0
				}
				e.value(v, s.Classes[i].App, s.Classes[i].Class, live.Horizons[h].Name)
			}
		}
	}}
}
