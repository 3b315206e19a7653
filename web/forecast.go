package web

import (
	"math"
	"slices"
	"strings"

	"github.com/nametap/nametap/analysis/forecast"
	"github.com/nametap/nametap/analysis/forecast/live"
)

// quantities are what a person calls them, and how their values are written.
var quantities = [live.Quantities]struct {
	name   string
	key    string
	format func(float64) string
}{
	live.ServerRTT:    {"RTT server", "server_rtt_s", milliseconds},
	live.AccessRTT:    {"RTT handset", "access_rtt_s", milliseconds},
	live.UplinkLoss:   {"lost uplink", "uplink_loss", func(v float64) string { return percent(&v) }},
	live.DownlinkLoss: {"lost downlink", "downlink_loss", func(v float64) string { return percent(&v) }},
}

// outlook is a row of the table of what comes next.
type outlook struct {
	Class, Of, Latest string
	At                []expected
}

type expected struct{ Horizon, Text string }

// outlooks are the rows of an app, of what there is anything to say.
func outlooks(classes []live.Class, app string) (rows []outlook) {
	for i := range classes {
		if classes[i].App != app {
			continue
		}
		for q := range quantities {
			o := &classes[i].Outlook[q]
			if math.IsNaN(o.At[0].Point) {
				continue
			}
			row := outlook{Class: classes[i].Class, Of: quantities[q].name, Latest: "–"}
			if !math.IsNaN(o.Latest) {
				row.Latest = quantities[q].format(o.Latest)
			}
			for h := range o.At {
				row.At = append(row.At, expected{live.Horizons[h].Name, expectation(&o.At[h], quantities[q].format)})
			}
			rows = append(rows, row)
		}
	}
	return rows
}

// noInterval stands where there is none: a class in which little passes has met too
// few of its forecasts yet.
const noInterval = " (–)"

// unsure says that some of the rows have no interval.
func unsure(rows []outlook) bool {
	return slices.ContainsFunc(rows, func(o outlook) bool {
		return slices.ContainsFunc(o.At, func(e expected) bool { return strings.HasSuffix(e.Text, noInterval) })
	})
}

func expectation(f *live.Forecast, format func(float64) string) string {
	switch {
	case math.IsNaN(f.Point):
		return "–"
	case math.IsNaN(f.Lower):
		return format(f.Point) + noInterval
	}
	return format(f.Point) + " (" + format(f.Lower) + " to " + format(f.Upper) + ")"
}

// forecastAnswer is GET /api/v1/forecast.
type forecastAnswer struct {
	Classes []forecastClass `json:"classes"`
}

type forecastClass struct {
	App        string             `json:"app"`
	Class      string             `json:"class"`
	Quantities []forecastQuantity `json:"quantities"`
}

type forecastQuantity struct {
	Quantity string             `json:"quantity"`
	Latest   *float64           `json:"latest"`
	Horizons []forecastHorizons `json:"horizons"`
}

type forecastHorizons struct {
	Horizon  string   `json:"horizon"`
	Point    *float64 `json:"point"`
	Lower    *float64 `json:"lower"`
	Upper    *float64 `json:"upper"`
	Scored   int      `json:"scored"`
	Skill    *float64 `json:"skill"`
	Coverage *float64 `json:"coverage"`
}

func (s *Server) forecast() forecastAnswer {
	out := forecastAnswer{Classes: []forecastClass{}}
	if s.cfg.Forecasts == nil {
		return out
	}
	classes := s.cfg.Forecasts()
	for i := range classes {
		c := forecastClass{App: classes[i].App, Class: classes[i].Class}
		for q := range quantities {
			o := &classes[i].Outlook[q]
			list := forecastQuantity{Quantity: quantities[q].key, Latest: forecast.Number(o.Latest)}
			for h := range o.At {
				f := &o.At[h]
				list.Horizons = append(list.Horizons, forecastHorizons{
					Horizon: live.Horizons[h].Name, Point: forecast.Number(f.Point), Lower: forecast.Number(f.Lower), Upper: forecast.Number(f.Upper),
					Scored: f.Count, Skill: forecast.Number(1 - f.Error/f.Naive), Coverage: forecast.Number(float64(f.Covered) / float64(f.Intervals)),
				})
			}
			c.Quantities = append(c.Quantities, list)
		}
		out.Classes = append(out.Classes, c)
	}
	return out
}
