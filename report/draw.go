package report

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/nametap/nametap/report/chart"
)

func (d *drawer) who(s *WhoSection) []block {
	if len(s.Classes) == 0 {
		return nil
	}
	t := &table{
		Caption: "Classes",
		Head:    heads("<class", "bytes", "of the app", "up", "down", "flows", "of the app", "subscribers", "SYN", "SYN/ACK", "FIN", "RST"),
	}
	for i := range s.Classes {
		e := &s.Classes[i]
		ink := d.inks[e.App+"/"+e.Class]
		t.Rows = append(t.Rows, []cell{
			{Text: label(e.App + "/" + e.Class)},
			value(float64(e.Bytes()), chart.Bytes),
			ofApp(e, e.ShareOfBytes, ink),
			value(float64(e.UplinkBytes), chart.Bytes), value(float64(e.DownlinkBytes), chart.Bytes),
			count1(e.Flows),
			ofApp(e, e.ShareOfFlows, ink),
			approx(e.Subscribers, e.SubscribersExact),
			count1(e.SYN), count1(e.SYNACK), count1(e.FIN), count1(e.RST),
		})
	}
	c := chart.Chart{
		Title: "Volume over time", Kind: chart.Stacked,
		X: chart.Axis{Unit: chart.Clock}, Y: chart.Axis{Unit: chart.Rate},
	}
	x := s.Over.clock(len(s.Over.line()))
	for i := range s.Over.Classes {
		l := &s.Over.Classes[i]
		y := floats(l.Uplink)
		for j, v := range floats(l.Downlink) {
			y[j] = (y[j] + v) / s.Over.Width
		}
		c.Series = append(c.Series, chart.Series{Name: label(l.Class), X: x, Y: y, Ink: d.inks[l.Class]})
	}
	f := d.draw(&c, "Both directions, stacked by class, in bins of "+chart.Duration(s.Over.Width)+".", true, overTime(&c))
	return append([]block{{Grid: []*figure{f}}, {Table: t}}, d.studyShares(s)...)
}

// ofApp is a share of an app; everything else is no app.
func ofApp(e *ClassEntry, share float64, ink int) cell {
	if e.App == "other" {
		return cell{Text: "–", Class: "n"}
	}
	return cell{Text: chart.Format(share, chart.Share), Class: "nw", Extra: bar(share, ink)}
}

func (o *VolumeOver) line() []uint64 {
	if len(o.Classes) == 0 {
		return nil
	}
	return o.Classes[0].Uplink
}

// studyShares holds the shares of media beside the study's.
func (d *drawer) studyShares(s *WhoSection) []block {
	t := &table{Caption: "Media in the volume", Head: heads("<app", "bytes", "of all", "media", "video", "study: media", "study: video")}
	for i := range s.Apps {
		a := &s.Apps[i]
		if a.App == "other" {
			continue
		}
		t.Rows = append(t.Rows, []cell{
			{Text: title(a.App)},
			value(float64(a.Bytes), chart.Bytes), value(a.ShareOfAll, chart.Share),
			value(a.MediaShare, chart.Share), value(a.VideoShare, chart.Share),
			{Text: "75 %", Class: "n"},
			{Text: "36 %", Class: "n"},
		})
	}
	if len(t.Rows) == 0 {
		return nil
	}
	return []block{{Table: t}}
}

func (d *drawer) shape(s *ShapeSection) []block {
	type view struct {
		title, caption string
		of             func(*ShapeEntry) *Distribution
		unit           chart.Unit
		mark           []string
	}
	views := []view{
		{"Flow size", "Share of a class's flows up to a size, both directions together.", func(e *ShapeEntry) *Distribution { return &e.Size }, chart.Bytes, []string{"chat size", "media size"}},
		{"Flow duration", "Share of a class's flows up to a duration, of flows seen from SYN to end.", func(e *ShapeEntry) *Distribution { return &e.Duration }, chart.Seconds, nil},
		{"Uplink size", "Share of a class's flows up to a size, subscriber to server.", func(e *ShapeEntry) *Distribution { return &e.Up }, chart.Bytes, nil},
		{"Downlink size", "Share of a class's flows up to a size, server to subscriber.", func(e *ShapeEntry) *Distribution { return &e.Down }, chart.Bytes, nil},
		{"Uplink throughput", "Flows with more than 1 MB uplink.", func(e *ShapeEntry) *Distribution { return &e.UpRate }, chart.Rate, []string{"uplink throughput"}},
		{"Downlink throughput", "Flows with more than 1 MB downlink.", func(e *ShapeEntry) *Distribution { return &e.DownRate }, chart.Rate, []string{"downlink throughput"}},
	}
	var grid []*figure
	for _, v := range views {
		c := chart.Chart{Title: v.title, X: chart.Axis{Unit: v.unit, Log: true, Floor: axisFloor[v.unit]}, Y: chart.Axis{Unit: chart.Share, Min: 0, Max: 1}}
		t := quantileTable(v.unit)
		for i := range s.Classes {
			e := &s.Classes[i]
			q := v.of(e)
			if q.Count == 0 {
				continue
			}
			name := e.App + "/" + e.Class
			c.Series = append(c.Series, chart.Series{Name: label(name), X: q.Curve.X, Y: q.Curve.Y, Ink: d.inks[name], Dashed: d.inks[name] == restInk})
			t.Rows = append(t.Rows, quantileRow(label(name), &q.Quantiles, v.unit))
		}
		for _, m := range s.Marks {
			for _, of := range v.mark {
				if m.Of == of {
					c.Marks = append(c.Marks, chart.Mark{X: m.At, Label: m.Label})
				}
			}
		}
		if len(c.Series) > 0 && !c.Empty() {
			grid = append(grid, d.draw(&c, v.caption, false, t))
		}
	}
	if len(grid) == 0 {
		return nil
	}
	t := &table{Caption: "Against the study", Head: heads("<class", "flows under 10 kB", "study, chat", "flows over 70 kB", "study, media")}
	for i := range s.Classes {
		e := &s.Classes[i]
		if e.App == "other" {
			continue
		}
		chat, media := "", ""
		if e.Class == "chat" {
			chat = "90 %"
		}
		if e.Transfer {
			media = "50 %"
		}
		t.Rows = append(t.Rows, []cell{
			{Text: label(e.App + "/" + e.Class)},
			value(e.Under10K, chart.Share),
			{Text: chat, Class: "n"},
			value(e.Over70K, chart.Share),
			{Text: media, Class: "n"},
		})
	}
	parts := []block{{Grid: grid}}
	if len(t.Rows) > 0 {
		parts = append(parts, block{Table: t})
	}
	return parts
}

// axisFloor keeps flows without a byte, or of no time, from stretching an axis.
var axisFloor = map[chart.Unit]float64{chart.Bytes: 20, chart.Seconds: 0.001, chart.Rate: 12.5}

func quantileTable(chart.Unit) *table {
	return &table{Head: heads("<", "flows", "mean", "5 %", "25 %", "median", "75 %", "90 %", "95 %", "99 %", "largest")}
}

func quantileRow(name string, q *Quantiles, u chart.Unit) []cell {
	row := []cell{{Text: name}, count1(q.Count)}
	for _, v := range []float64{q.Mean, q.P05, q.P25, q.P50, q.P75, q.P90, q.P95, q.P99, q.Max} {
		row = append(row, value(v, u))
	}
	return row
}

func (d *drawer) devices(s *DevicesSection) []block {
	var parts []block
	steps := &table{Caption: "Steps of the durations", Head: heads("<system", "<flows", "at", "<from … to", "share of flows", "standard deviations")}
	for _, kind := range []string{"sessions", "transfers"} {
		curve := chart.Chart{
			Title: "Duration of " + kind + " by system",
			X:     chart.Axis{Unit: chart.Seconds, Log: true, Floor: axisFloor[chart.Seconds]}, Y: chart.Axis{Unit: chart.Share, Min: 0, Max: 1},
		}
		density := chart.Chart{
			Title: "Where " + kind + " end", Kind: chart.Steps,
			X: chart.Axis{Unit: chart.Seconds, Log: true, Floor: axisFloor[chart.Seconds]}, Y: chart.Axis{Unit: chart.Share},
		}
		t := quantileTable(chart.Seconds)
		ink := 0
		var marks []chart.Mark
		for i := range s.Devices {
			e := &s.Devices[i]
			if e.Kind != kind || e.Duration.Count == 0 {
				continue
			}
			ink++
			curve.Series = append(curve.Series, chart.Series{Name: e.OS, X: e.Curve.X, Y: e.Curve.Y, Ink: min(ink, restInk)})
			density.Series = append(density.Series, chart.Series{Name: e.OS, X: e.Density.X, Y: e.Density.Y, Ink: min(ink, restInk)})
			t.Rows = append(t.Rows, quantileRow(e.OS, &e.Duration, chart.Seconds))
			for _, x := range e.Steps {
				marks = append(marks, chart.Mark{X: x.At, Label: chart.Duration(x.At)})
				steps.Rows = append(steps.Rows, []cell{
					{Text: e.OS},
					text(kind), value(x.At, chart.Seconds), text(chart.Duration(x.From) + " … " + chart.Duration(x.To)),
					{Text: chart.Format(x.Share, chart.Share), Class: "nw", Extra: bar(x.Share, min(ink, restInk))},
					value(x.Significance, chart.Factor),
				})
			}
		}
		if curve.Empty() {
			continue
		}
		curve.Marks, density.Marks = distinctMarks(marks), distinctMarks(marks)
		parts = append(parts, block{Grid: []*figure{
			d.draw(&curve, "Share of a system's flows up to a duration; lines mark the steps.", false, t),
			d.draw(&density, "Share of a system's flows in each bin of 5 % in duration: time-outs stand out as peaks.", false, binTable(&density)),
		}})
	}
	if len(steps.Rows) > 0 {
		parts = append(parts, block{Table: steps})
	}
	return parts
}

// binTable is the table behind a chart of densities: a row a bin that has a flow of
// any series.
func binTable(c *chart.Chart) *table {
	t := &table{Head: heads("from")}
	t.Head[0].Text = true
	rows := map[float64][]cell{}
	for i := range c.Series {
		s := &c.Series[i]
		t.Head = append(t.Head, column{Name: s.Name})
		for j, x := range s.X {
			if math.IsNaN(s.Y[j]) || s.Y[j] == 0 {
				continue
			}
			if rows[x] == nil {
				rows[x] = slices.Repeat([]cell{{Text: "–", Class: "n"}}, len(c.Series)+1)
				rows[x][0] = cell{Text: chart.Format(x, c.X.Unit)}
			}
			rows[x][i+1] = value(s.Y[j], c.Y.Unit)
		}
	}
	for _, x := range slices.Sorted(maps.Keys(rows)) {
		t.Rows = append(t.Rows, rows[x])
	}
	return t
}

// distinctMarks leaves one of several marks at nearly the same place.
func distinctMarks(in []chart.Mark) (out []chart.Mark) {
	for _, m := range in {
		near := false
		for _, o := range out {
			near = near || m.X < o.X*1.06 && m.X > o.X/1.06
		}
		if !near {
			out = append(out, m)
		}
	}
	for i := range out {
		for j := i; j > 0 && out[j].X < out[j-1].X; j-- {
			out[j], out[j-1] = out[j-1], out[j]
		}
	}
	return out
}

func (d *drawer) hosting(s *HostingSection) []block {
	if len(s.Classes) == 0 {
		return nil
	}
	var grid []*figure
	c := chart.Chart{Title: "Active server addresses", Kind: chart.Steps, X: chart.Axis{Unit: chart.Clock}, Y: chart.Axis{Unit: chart.Count}}
	for i := range s.Active.Classes {
		l := &s.Active.Classes[i]
		c.Series = append(c.Series, chart.Series{Name: label(l.Class), Y: floats(l.Counts), Ink: d.inks[l.Class]})
	}
	if len(c.Series) > 0 {
		x := s.Active.clock(len(s.Active.Classes[0].Counts))
		for i := range c.Series {
			c.Series[i].X = x
		}
		grid = append(grid, d.draw(&c, "Addresses of each class with a live flow, in bins of "+chart.Duration(s.Active.Width)+".", true, overTime(&c)))
	}
	if s.Churn.told() {
		grid = append(grid, d.churn(&s.Churn))
	}
	parts := []block{}
	if len(grid) > 0 {
		parts = append(parts, block{Grid: grid})
	}
	t := &table{Caption: "Addresses and networks", Head: heads("<class", "addresses", "IPv6", "/24", "/16", "/8", "always on", "peak only")}
	row := func(name string, e *HostingEntry) {
		always, peak := count1(uint64(e.AlwaysOn)), count1(uint64(e.PeakOnly))
		if len(s.Churn.Seen) < leastPresence {
			always, peak = cell{Text: "–", Class: "n"}, cell{Text: "–", Class: "n"}
		}
		t.Rows = append(t.Rows, []cell{
			{Text: name},
			count1(uint64(e.Addresses)), count1(uint64(e.IPv6)), count1(uint64(e.Slash24)),
			count1(uint64(e.Slash16)), count1(uint64(e.Slash8)), always, peak,
		})
	}
	for i := range s.Apps {
		row("all of "+title(s.Apps[i].App), &s.Apps[i])
	}
	for i := range s.Classes {
		row(label(s.Classes[i].App+"/"+s.Classes[i].Class), &s.Classes[i])
	}
	return append(append(parts, block{Table: t}), d.owners(s)...)
}

// churn draws who comes and goes, without what the edges of the input make: there
// everybody is seen for the first or the last time.
func (d *drawer) churn(o *Churn) *figure {
	c := chart.Chart{Title: "Coming and going", Kind: chart.Steps, X: chart.Axis{Unit: chart.Clock}, Y: chart.Axis{Unit: chart.Count}}
	x := o.clock(len(o.Seen))
	fresh, gone := floats(o.Fresh), floats(o.Gone)
	for i := range x {
		if i < o.FreshFrom {
			fresh[i] = math.NaN()
		}
		if i > o.GoneTo {
			gone[i] = math.NaN()
		}
	}
	c.Series = []chart.Series{
		{Name: "seen", X: x, Y: floats(o.Seen), Ink: 1},
		{Name: "for the first time", X: x, Y: fresh, Ink: 3},
		{Name: "for the last time", X: x, Y: gone, Ink: 2},
	}
	caption := "Addresses of all apps in bins of " + chart.Duration(o.Width) + ". "
	if o.Away > 0 {
		caption += fmt.Sprintf("19 of 20 addresses that came back had been away for at most %s: so near its begin and its end the input cannot tell a new or a lost address from one that rests, and both lines leave that out.", chart.Duration(o.Away))
	} else {
		caption += "Where the input begins and ends every address would seem new or lost: both lines leave that out."
	}
	return d.draw(&c, caption, true, overTime(&c))
}

const listedOwners = 40

func (d *drawer) owners(s *HostingSection) []block {
	var parts []block
	if s.KnowsAS {
		t := &table{Caption: "Whose they are", Head: heads("<autonomous system", "share of bytes", "addresses", "/24", "/16", "/8", "its own addresses", "its /24", "its /16", "its /8")}
		for i := range s.Systems[:min(len(s.Systems), listedOwners)] {
			e := &s.Systems[i]
			row := []cell{
				{Text: asName(e)},
				{Text: chart.Format(e.Share, chart.Share), Class: "nw", Extra: bar(e.Share, 1)},
				count1(uint64(e.Addresses)), count1(uint64(e.Slash24)), count1(uint64(e.Slash16)), count1(uint64(e.Slash8)),
			}
			for i := range 4 {
				if e.Own == nil {
					row = append(row, cell{Text: "–", Class: "n"})
					continue
				}
				row = append(row, count1([]uint64{e.Own.Addresses, e.Own.Slash24, e.Own.Slash16, e.Own.Slash8}[i]))
			}
			t.Rows = append(t.Rows, row)
		}
		parts = append(parts, block{Table: t})
	}
	if s.KnowsCountry {
		t := &table{Caption: "Countries, as the database has them", Head: heads("<country", "share of bytes", "addresses", "flows")}
		for i := range s.Countries[:min(len(s.Countries), listedOwners)] {
			e := &s.Countries[i]
			t.Rows = append(t.Rows, []cell{
				{Text: e.Country},
				{Text: chart.Format(e.Share, chart.Share), Class: "nw", Extra: bar(e.Share, 1)},
				count1(uint64(e.Addresses)), count1(e.Flows),
			})
		}
		parts = append(parts, block{Table: t})
	}
	return parts
}

func (d *drawer) location(s *LocationSection) []block {
	c := chart.Chart{Title: "Least round-trip time to each address", X: chart.Axis{Unit: chart.Millis, Log: true}, Y: chart.Axis{Unit: chart.Share, Min: 0, Max: 1}}
	t := &table{Head: heads("<class", "addresses with a time")}
	for i := range s.Classes {
		l := &s.Classes[i]
		if l.Count == 0 {
			continue
		}
		c.Series = append(c.Series, chart.Series{Name: label(l.Class), X: l.Curve.X, Y: l.Curve.Y, Ink: d.inks[l.Class]})
		t.Rows = append(t.Rows, []cell{{Text: label(l.Class)}, count1(uint64(l.Count))})
	}
	if len(c.Series) == 0 {
		return nil
	}
	c.X.Log = s.All.Max > 4*max(s.All.P05, 1e-6) // where all are alike a straight axis shows more
	steps := &table{Caption: "Steps of the round-trip times", Head: heads("<at", "share", "addresses", "<in the database", "<cities that would fit, and the time light in fibre takes there and back")}
	for _, x := range s.Steps {
		c.Marks = append(c.Marks, chart.Mark{X: x.At, Label: chart.Format(milliseconds(x.At)/1000, chart.Millis)})
		var claims, fits []string
		for _, k := range x.Claims[:min(len(x.Claims), 6)] {
			line := fmt.Sprintf("%s (%d)", k.Place, k.Addresses)
			if k.Refused > 0 {
				line = fmt.Sprintf("%s (%d, %d of them refused)", k.Place, k.Addresses, k.Refused)
			}
			claims = append(claims, line)
		}
		for _, k := range x.Candidates {
			fits = append(fits, k.City+"\u00a0"+chart.Format(milliseconds(k.Floor)/1000, chart.Millis))
		}
		steps.Rows = append(steps.Rows, []cell{
			{Text: chart.Format(milliseconds(x.At)/1000, chart.Millis)},
			{Text: chart.Format(x.Share, chart.Share), Class: "nw", Extra: bar(x.Share, 1)},
			count1(x.Count),
			text(orDash(strings.Join(claims, "; "))), text(orDash(strings.Join(fits, ", "))),
		})
	}
	f := d.draw(&c, "Share of a class's addresses that answer within a time, as seen from the tap; lines mark the steps.", true, t)
	parts := []block{{Grid: []*figure{f}}}
	if len(steps.Rows) > 0 {
		parts = append(parts, block{Table: steps})
	}
	return append(parts, block{Table: d.refused(s)})
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

const listedServers = 200

// refused lists addresses, those first whose place cannot be.
func (d *drawer) refused(s *LocationSection) *table {
	t := &table{
		Caption: fmt.Sprintf("Addresses: %d of %d places in the database refused", s.Refused, s.Checked),
		Head:    heads("<address", "<classes", "least round trip", "<place in the database", "floor", "<verdict", "AS", "bytes"),
		Folded:  true,
	}
	if s.Checked == 0 {
		t.Caption = fmt.Sprintf("The %d addresses with most bytes", min(len(s.Addresses), listedServers))
	}
	for _, want := range []bool{true, false} {
		for i := range s.Addresses {
			l := &s.Addresses[i]
			if (l.Verdict == "refused") != want || len(t.Rows) >= listedServers {
				continue
			}
			verdict := cell{Text: l.Verdict, Class: "t"}
			if want {
				verdict = cell{Class: "t", Extra: `<span class="chip bad">refused</span>`}
			}
			as := "–"
			if l.ASN != 0 {
				as = fmt.Sprintf("AS%d", l.ASN)
			}
			t.Rows = append(t.Rows, []cell{
				{Text: l.Address},
				text(strings.Join(l.Classes, ", ")), value(milliseconds(l.RTT)/1000, chart.Millis),
				text(orDash(l.Place)), value(milliseconds(l.Floor)/1000, chart.Millis), verdict,
				{Text: as, Class: "n"},
				value(float64(l.Bytes), chart.Bytes),
			})
		}
	}
	return t
}

func (d *drawer) experience(s *ExperienceSection) []block {
	if s.All.Count == 0 {
		return nil
	}
	c := chart.Chart{
		Title: "Transfer time", X: chart.Axis{Unit: chart.Seconds, Log: true}, Y: chart.Axis{Unit: chart.Share, Min: 0, Max: 1},
		Marks: []chart.Mark{{X: s.GoodMark, Label: "good up to " + chart.Duration(s.GoodMark)}, {X: s.BadMark, Label: "bad beyond " + chart.Duration(s.BadMark)}},
	}
	t := quantileTable(chart.Seconds)
	for i := range s.Classes {
		e := &s.Classes[i]
		c.Series = append(c.Series, chart.Series{Name: label(e.Label), X: e.Curve.X, Y: e.Curve.Y, Ink: d.inks[e.Label]})
		t.Rows = append(t.Rows, quantileRow(label(e.Label), &e.Time, chart.Seconds))
	}
	over := chart.Chart{Title: "Transfers over time", Kind: chart.Stacked, X: chart.Axis{Unit: chart.Clock}, Y: chart.Axis{Unit: chart.Count}}
	x := s.Over.clock(len(s.Over.Good))
	over.Series = []chart.Series{
		{Name: "good", X: x, Y: floats(s.Over.Good), Ink: 11},
		{Name: "acceptable", X: x, Y: floats(s.Over.Acceptable), Ink: 12},
		{Name: "bad", X: x, Y: floats(s.Over.Bad), Ink: 13},
	}
	parts := []block{{Grid: []*figure{
		d.draw(&c, "Share of a class's transfers that were over within a time.", false, t),
		d.draw(&over, "Rated transfers by when they began, in bins of "+chart.Duration(s.Over.Width)+".", false, overTime(&over)),
	}}}
	rated := &table{Caption: "Ratings", Head: heads("<", "transfers", "good", "acceptable", "bad", "median time", "90 %", "MOS estimate", "<in words")}
	rows := func(list []ScoreEntry, prefix string) {
		for i := range list {
			e := &list[i]
			rated.Rows = append(rated.Rows, []cell{
				{Text: prefix + label(e.Label)},
				count1(e.Count),
				{Text: part1(e.Good, e.Count), Class: "nw", Extra: bar(float64(e.Good)/float64(e.Count), 11)},
				{Text: part1(e.Acceptable, e.Count), Class: "nw", Extra: bar(float64(e.Acceptable)/float64(e.Count), 12)},
				{Text: part1(e.Bad, e.Count), Class: "nw", Extra: bar(float64(e.Bad)/float64(e.Count), 13)},
				value(e.Time.P50, chart.Seconds), value(e.Time.P90, chart.Seconds),
				{Text: fmt.Sprintf("%.1f", e.MOS), Class: "n"},
				text(e.Word),
			})
		}
	}
	rows([]ScoreEntry{s.All}, "")
	rows(s.Classes, "")
	rows(s.Systems, "on ")
	rows(s.APNs, "via ")
	parts = append(parts, block{Table: rated})
	if len(s.Unscored) > 0 {
		t := &table{Caption: "Transfers that were not rated", Head: heads("<because they were", "transfers")}
		for _, u := range s.Unscored {
			t.Rows = append(t.Rows, []cell{{Text: u.Reason}, count1(u.Count)})
		}
		parts = append(parts, block{Table: t})
	}
	return parts
}

func (d *drawer) outage(s *OutageSection) []block {
	if len(s.Classes) == 0 {
		return nil
	}
	var bands []chart.Band
	events := &table{
		Caption: "Detected events",
		Head:    heads("<what", "<verdict", "<from (UTC)", "<to", "left of down / up", "attempts", "success", "confidence"),
	}
	for i := range s.Events {
		e := &s.Events[i]
		end := e.end
		to := "end of input"
		if e.End != "" {
			to = day(e.End)
		}
		to += " (" + chart.Duration(e.Minutes*60) + ")"
		bands = append(bands, chart.Band{From: float64(e.start) / 1e9, To: float64(end) / 1e9, Label: e.Verdict})
		who := title(e.App)
		if e.App == "" {
			who = "the tap"
		}
		if e.Group != "" {
			who += " via " + e.Group
		}
		if len(e.Classes) > 0 {
			who += " (" + strings.Join(e.Classes, ", ") + ")"
		}
		why := strings.Join(e.Reasons, "; ")
		if e.ReasonsFrom != "" {
			why = "in the five minutes from " + e.ReasonsFrom[11:19] + ": " + why
		}
		if !e.Calibrated {
			why += " · uncalibrated"
		}
		if e.RecoveryEnd != "" {
			why += " · reconnects until " + e.RecoveryEnd[11:16]
		}
		events.Rows = append(events.Rows, []cell{
			{Text: who},
			{Class: "t nw", Extra: chip(e.Verdict)},
			{Text: day(e.Start), Class: "t nw"},
			{Text: to, Class: "t nw"},
			{Text: chart.Format(e.ResidueDown, chart.Share) + " / " + chart.Format(e.ResidueUp, chart.Share), Class: "nw"},
			{Text: fmt.Sprintf("× %s", chart.Format(e.Attempts, chart.Factor)), Class: "n"},
			{Text: chart.Format(e.SuccessBefore, chart.Share) + " → " + chart.Format(e.SuccessDuring, chart.Share), Class: "nw"},
			{Text: fmt.Sprintf("%.2f", e.Confidence), Class: "n"},
		}, []cell{{Text: "why"}, {Text: why, Class: "t why", Span: len(events.Head) - 1}})
	}
	var parts []block
	if len(events.Rows) > 0 {
		parts = append(parts, block{Table: events})
	} else if s.Judged > 0 {
		parts = append(parts, block{Table: &table{Caption: "Detected events", Head: heads("<"), Rows: [][]cell{{{Text: fmt.Sprintf("None, in %d bins of %s.", s.Judged, chart.Duration(s.Width))}}}}})
	}
	parts = append(parts, block{Grid: d.signals(s, bands)})
	return append(parts, d.correlations(s)...)
}

// day shortens a time.
func day(stamp string) string {
	t, err := time.Parse(time.RFC3339, stamp)
	if err != nil {
		return stamp
	}
	return t.Format("2 Jan 15:04")
}

func chip(verdict string) (h templateHTML) {
	class := "bad"
	if verdict == "tap" {
		class = "fair"
	}
	return templateHTML(`<span class="chip ` + class + `">` + verdict + `</span>`)
}

// signals draws volume and connections of the app with most flows, apps together.
func (d *drawer) signals(s *OutageSection, bands []chart.Band) []*figure {
	sum := SignalLine{}
	apps := false
	for i := range s.Classes {
		apps = apps || s.Classes[i].App != "other"
	}
	for i := range s.Classes {
		if apps && s.Classes[i].App == "other" {
			continue
		}
		sum.add(&s.Classes[i])
	}
	x := s.Over.clock(len(sum.Flows))
	what := "Apps together"
	if !apps {
		what = "All traffic, for there is none of an app"
	}
	rate := func(v []uint64) []float64 {
		out := floats(v)
		for i := range out {
			out[i] /= s.Over.Width
		}
		return out
	}
	volume := chart.Chart{
		Title: "Volume", Kind: chart.Steps, X: chart.Axis{Unit: chart.Clock}, Y: chart.Axis{Unit: chart.Rate}, Bands: bands,
		Series: []chart.Series{{Name: "downlink", X: x, Y: rate(sum.Downlink), Ink: 1}, {Name: "uplink", X: x, Y: rate(sum.Uplink), Ink: 2}},
	}
	connections := chart.Chart{
		Title: "Connections", Kind: chart.Steps, X: chart.Axis{Unit: chart.Clock}, Y: chart.Axis{Unit: chart.Count}, Bands: bands,
		Series: []chart.Series{
			{Name: "SYN", X: x, Y: floats(sum.SYN), Ink: 1},
			{Name: "SYN/ACK", X: x, Y: floats(sum.SYNACK), Ink: 3, Dashed: true},
			{Name: "FIN", X: x, Y: floats(sum.FIN), Ink: 5},
			{Name: "RST", X: x, Y: floats(sum.RST), Ink: 2},
		},
	}
	bins := "in bins of " + chart.Duration(s.Over.Width)
	out := []*figure{
		d.draw(&volume, what+", "+bins+".", true, overTime(&volume)),
		d.draw(&connections, "Segments that open and end connections, "+bins+".", true, overTime(&connections)),
	}
	flows := chart.Chart{Title: "Flows that began", Kind: chart.Steps, X: chart.Axis{Unit: chart.Clock}, Y: chart.Axis{Unit: chart.Count}, Bands: bands}
	for i := range s.Classes {
		l := &s.Classes[i]
		name := l.App + "/" + l.Class
		flows.Series = append(flows.Series, chart.Series{Name: label(name), X: x, Y: floats(l.Flows), Ink: d.inks[name], Dashed: l.App == "other"})
	}
	out = append(out, d.draw(&flows, "By class, "+bins+".", true, overTime(&flows)))
	if s.Outside != nil {
		out = append(out, d.outside(s.Outside, x, &sum, bands, bins))
	}
	return out
}

// outside lays the series from outside over ours. They have nothing in common but
// time, so each is drawn against its own highest bin; the table has the numbers.
func (d *drawer) outside(o *OutsideLine, x []float64, ours *SignalLine, bands []chart.Band, bins string) *figure {
	c := chart.Chart{
		Title: "From outside: " + o.Name, Kind: chart.Steps, X: chart.Axis{Unit: chart.Clock}, Y: chart.Axis{Unit: chart.Count}, Bands: bands,
		Series: []chart.Series{
			{Name: o.Name, X: x, Y: append(slices.Clone(o.Counts), o.Counts[len(o.Counts)-1]), Ink: 4},
			{Name: "SYN", X: x, Y: floats(ours.SYN), Ink: 1, Dashed: true},
			{Name: "RST", X: x, Y: floats(ours.RST), Ink: 2, Dashed: true},
		},
	}
	numbers := overTime(&c)
	c.Y = chart.Axis{Unit: chart.Share, Min: 0, Max: 1}
	for i := range c.Series {
		y := c.Series[i].Y
		if most := slices.Max(y); most > 0 {
			for j := range y {
				y[j] /= most
			}
		}
	}
	return d.draw(&c, "What --events gave, over connection attempts and resets of the apps, "+bins+", each as a share of its own highest bin.", true, numbers)
}

func (l *SignalLine) add(o *SignalLine) {
	for _, p := range []struct{ into, from *[]uint64 }{
		{&l.Uplink, &o.Uplink},
		{&l.Downlink, &o.Downlink},
		{&l.Flows, &o.Flows},
		{&l.SYN, &o.SYN},
		{&l.SYNACK, &o.SYNACK},
		{&l.FIN, &o.FIN},
		{&l.RST, &o.RST},
	} {
		if *p.into == nil {
			*p.into = make([]uint64, len(*p.from))
		}
		for i, v := range *p.from {
			(*p.into)[i] += v
		}
	}
}

func (d *drawer) correlations(s *OutageSection) []block {
	if len(s.Correlations) == 0 {
		return nil
	}
	c := chart.Chart{Title: "Agreement at each lag", X: chart.Axis{Unit: chart.Lag}, Y: chart.Axis{Unit: chart.Factor, Min: -1, Max: 1}}
	t := &table{Caption: "Agreement with " + s.Outside.Name, Head: heads("<series", "it follows after", "r", "<95 % interval", "bins", "worth independent")}
	for i := range s.Correlations {
		x := &s.Correlations[i]
		c.Series = append(c.Series, chart.Series{Name: x.Series, X: x.Lags, Y: x.Rs, Ink: i + 1})
		t.Rows = append(t.Rows, []cell{
			{Text: x.Series},
			{Text: chart.Format(x.Lag, chart.Lag), Class: "n"},
			{Text: fmt.Sprintf("%.2f", x.R), Class: "n"},
			text(fmt.Sprintf("%.2f … %.2f", x.Low, x.High)), count1(uint64(x.Bins)),
			{Text: fmt.Sprintf("%.0f", x.Worth), Class: "n"},
		})
	}
	caption := "Pearson's r of each series with " + s.Outside.Name + ", which comes so much later. The interval allows for neighbouring bins being alike and for all the lags that were tried; that two things rise together does not make one the cause of the other."
	return []block{{Grid: []*figure{d.draw(&c, caption, true, &table{Head: t.Head, Rows: t.Rows})}}, {Table: t}}
}

const listedNames = 400

func (d *drawer) naming(s *NamingSection) []block {
	list := func(caption string, names []NameEntry, folded bool) *table {
		t := &table{Caption: caption, Folded: folded, Head: heads("<name", "<class", "<rule", "<first seen (UTC)", "flows", "bytes", "<ports", "<protocol", "<addresses")}
		for i := range names[:min(len(names), listedNames)] {
			e := &names[i]
			first := e.First
			if first == "" || e.Asked != "" && e.Asked < first {
				first = e.Asked
			}
			ports := make([]string, len(e.Ports))
			for j, p := range e.Ports {
				ports[j] = fmt.Sprint(p)
			}
			addresses := fmt.Sprintf("%d: ", e.AddressCount) + strings.Join(e.Addresses[:min(len(e.Addresses), 4)], ", ")
			if e.AddressCount > 4 {
				addresses += " …"
			}
			protocol := e.Protocol
			if e.Flows == 0 {
				protocol = "asked, never used"
			}
			t.Rows = append(t.Rows, []cell{
				{Text: e.Name},
				text(e.Class),
				{Class: "t", Text: e.Rule},
				text(strings.TrimSuffix(strings.Replace(first, "T", " ", 1), "Z")),
				count1(e.Flows), value(float64(e.Bytes), chart.Bytes), text(orDash(strings.Join(ports, ", "))), text(protocol), text(addresses),
			})
		}
		return t
	}
	if len(s.Names) == 0 {
		return nil
	}
	var parts []block
	if len(s.Drift) > 0 {
		parts = append(parts, block{Table: list(fmt.Sprintf("Names that match no class: the scheme has drifted (%d)", len(s.Drift)), s.Drift, false)})
	}
	byClass := &table{Caption: "Names by class", Head: heads("<class", "names", "flows", "bytes")}
	var order []string
	sums := map[string]*[3]uint64{}
	for i := range s.Names {
		e := &s.Names[i]
		key := e.App + "/" + e.Class
		if sums[key] == nil {
			sums[key] = &[3]uint64{}
			order = append(order, key)
		}
		sums[key][0]++
		sums[key][1] += e.Flows
		sums[key][2] += e.Bytes
	}
	for _, key := range order {
		x := sums[key]
		byClass.Rows = append(byClass.Rows, []cell{{Text: label(key)}, count1(x[0]), count1(x[1]), value(float64(x[2]), chart.Bytes)})
	}
	caption := fmt.Sprintf("All %d names", len(s.Names))
	if len(s.Names) > listedNames {
		caption = fmt.Sprintf("The %d names with most flows, of %d", listedNames, len(s.Names))
	}
	return append(parts, block{Table: byClass}, block{Table: list(caption, s.Names, len(s.Names) > 12)})
}

func (d *drawer) trust(s *TrustSection) []block {
	var parts []block
	t := &table{Caption: "What flows were named by", Head: heads("<evidence", "flows", "share of flows", "share of bytes")}
	for i := range s.Evidence {
		e := &s.Evidence[i]
		t.Rows = append(t.Rows, []cell{
			{Text: evidenceWord(e.Evidence)},
			count1(e.Flows),
			{Text: chart.Format(e.Share, chart.Share), Class: "nw", Extra: bar(e.Share, 1)},
			{Text: chart.Format(e.Weight, chart.Share), Class: "nw", Extra: bar(e.Weight, 2)},
		})
	}
	parts = append(parts, block{Table: t})
	f := &table{Caption: "What was not seen", Head: heads("<", "number", "share", "<what it means")}
	for i := range s.Figures {
		x := &s.Figures[i]
		row := []cell{{Text: x.Label}, count1(x.Value), {Text: "–", Class: "n"}, text(x.Means)}
		if x.Unit == "bytes" {
			row[1] = value(float64(x.Value), chart.Bytes)
		}
		if x.Of > 0 {
			row[2] = cell{Text: part1(x.Value, x.Of), Class: "nw", Extra: bar(float64(x.Value)/float64(x.Of), 9)}
		}
		f.Rows = append(f.Rows, row)
	}
	parts = append(parts, block{Table: f})
	if c := s.Capture; c != nil {
		t := &table{Caption: "The captures", Head: heads("<", "number")}
		row := func(name string, v cell) { t.Rows = append(t.Rows, []cell{{Text: name}, v}) }
		row("packets", count1(c.Packets))
		row("bytes on the wire", value(float64(c.Bytes), chart.Bytes))
		row("DNS queries", count1(c.DNSQueries))
		row("DNS responses", count1(c.DNSResponses))
		row("malformed DNS responses", count1(c.DNSMalformed))
		row("flows ended because a table was full", count1(c.FlowsEvicted))
		for _, reason := range sortedKeys(c.Undecoded) {
			row("not decoded: "+reason, count1(c.Undecoded[reason]))
		}
		parts = append(parts, block{Table: t})
	}
	return parts
}

func evidenceWord(e string) string {
	switch e {
	case "sni":
		return "sni – the name in the TLS ClientHello"
	case "dns":
		return "dns – the subscriber's own, valid answer"
	case "dns-stale":
		return "dns-stale – the subscriber's own answer, past its validity"
	case "server":
		return "server – other subscribers' answers"
	}
	return "none – no name"
}
