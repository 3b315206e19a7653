package chart

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestFormat(t *testing.T) {
	for _, c := range []struct {
		v    float64
		u    Unit
		want string
	}{
		{0, Bytes, "0 B"},
		{999, Bytes, "999 B"},
		{999.6, Bytes, "1 kB"},
		{1500, Bytes, "1.5 kB"},
		{1e6, Bytes, "1 MB"},
		{2.345e15, Bytes, "2.35 PB"},
		{125000, Rate, "1 Mb/s"},
		{0, Rate, "0 b/s"},
		{math.Copysign(0, -1), Count, "0"},
		{0.5, Share, "50 %"},
		{1, Share, "100 %"},
		{0.00766, Share, "0.77 %"},
		{0.9999, Share, "> 99.9 %"},
		{1, Share, "100 %"},
		{0.00001, Share, "< 0.01 %"},
		{0, Seconds, "0 s"},
		{0.00012, Seconds, "120 µs"},
		{0.106, Seconds, "106 ms"},
		{20, Seconds, "20 s"},
		{90, Seconds, "90 s"},
		{600, Seconds, "10 min"},
		{3600, Seconds, "1 h"},
		{4500, Seconds, "75 min"},
		{18000, Seconds, "5 h"},
		{172800, Seconds, "2 d"},
		{0.106, Millis, "106 ms"},
		{0.0243, Millis, "24.3 ms"},
		{1234, Count, "1\u202f234"},
		{1234567, Count, "1\u202f234\u202f567"},
		{-1234, Count, "-1\u202f234"},
		{12345678, Count, "12.3 M"},
		{0.5, Count, "0.5"},
		{-1200, Lag, "−20 min"},
		{-0.5, Factor, "−0.5"},
		{1393090200, Clock, "22 Feb 17:30"},
	} {
		if c.u != Clock {
			c.want = strings.ReplaceAll(c.want, " ", "\u00a0")
		}
		if got := Format(c.v, c.u); got != c.want {
			t.Errorf("%v as %s: %q, want %q", c.v, c.u, got, c.want)
		}
	}
}

// TestTicks: every axis has some labels, not too many, in order and in range.
func TestTicks(t *testing.T) {
	for _, c := range []struct {
		a         Axis
		low, high float64
	}{
		{Axis{Unit: Bytes, Log: true}, 40, 1e9},
		{Axis{Unit: Bytes, Log: true}, 1000, 2000},
		{Axis{Unit: Bytes, Log: true}, 5, 5},
		{Axis{Unit: Seconds, Log: true}, 0.001, 1e5},
		{Axis{Unit: Seconds, Log: true}, 60, 90},
		{Axis{Unit: Rate, Log: true}, 1e4, 3e5},
		{Axis{Unit: Millis, Log: true}, 0.0001, 1},
		{Axis{Unit: Millis}, 0.1, 0.12},
		{Axis{Unit: Count}, 0, 0},
		{Axis{Unit: Count}, 0, 3},
		{Axis{Unit: Count}, 0, 1e9},
		{Axis{Unit: Share, Min: 0, Max: 1}, 5, 9},
		{Axis{Unit: Share}, 0, 0.003},
		{Axis{Unit: Rate}, 0, 1e6},
		{Axis{Unit: Factor, Min: -1, Max: 1}, 0, 0},
		{Axis{Unit: Clock}, 1393027200, 1393027203},
		{Axis{Unit: Clock}, 1393027200, 1393027200 + 93600},
		{Axis{Unit: Clock}, 1393027200, 1393027200 + 40*86400},
		{Axis{Unit: Clock}, 0, 4e9},
		{Axis{Unit: Lag}, -21600, 21600},
		{Axis{Unit: Lag}, -100, 100},
		{Axis{Unit: Count}, math.Inf(1), math.Inf(-1)},
		{Axis{Unit: Bytes, Log: true}, math.Inf(1), math.Inf(-1)},
	} {
		s := newScale(c.a, c.low, c.high)
		for _, n := range []int{3, 6, 12} {
			labels, last := 0, math.Inf(-1)
			for _, k := range s.ticks(n) {
				if math.IsNaN(k.Value) || strings.ContainsAny(k.Label, "NI") && !strings.Contains(k.Label, "Nov") {
					t.Errorf("%+v: tick %+v", c, k)
				}
				if k.Label != "" {
					labels++
				}
				last = max(last, k.Value)
			}
			if labels == 0 || labels > 3*n+3 {
				t.Errorf("%+v, %d wanted: %d labels", c, n, labels)
			}
		}
	}
}

func odd() []Series {
	nan := math.NaN()
	return []Series{
		{Name: "none", Ink: 1},
		{Name: "one", X: []float64{5}, Y: []float64{1}, Ink: 2},
		{Name: "gaps", X: []float64{1, 2, 3, 4}, Y: []float64{nan, 1, nan, 2}, Ink: 3},
		{Name: "zeros", X: []float64{0, 0, 1}, Y: []float64{0, 0, 0}, Ink: 4},
		{Name: "endless", X: []float64{1, 2, 3}, Y: []float64{math.Inf(1), 1, math.Inf(-1)}, Ink: 5, Dashed: true},
	}
}

// TestSVG: odd data of all kinds give well-formed SVG without odd numbers.
func TestSVG(t *testing.T) {
	for _, kind := range []Kind{Line, Steps, Stacked} {
		for _, log := range []bool{false, true} {
			for i := range odd() {
				c := Chart{
					Title: "A <b> & \"c\"", Desc: "d", Kind: kind, X: Axis{Unit: Bytes, Log: log}, Y: Axis{Unit: Count}, Series: odd()[i : i+1],
					Marks: []Mark{{2, "<mark>"}, {-1, "out"}, {math.NaN(), "nowhere"}}, Bands: []Band{{From: 1, To: 2}},
				}
				svg, plot := c.SVG("x", 300, 200)
				check(t, svg)
				if plot.Left >= plot.Right || plot.Top >= plot.Bottom || plot.Right > 300 || plot.Bottom > 200 {
					t.Errorf("kind %d: data at %+v", kind, plot)
				}
			}
		}
	}
	c := Chart{Series: odd()}
	svg, _ := c.SVG("all", 960, 320)
	check(t, svg)
	if !strings.Contains(svg, `class="l s2"`) || !strings.Contains(svg, `class="l s5 dash"`) || c.Empty() {
		t.Errorf("series are missing: %s", svg)
	}
	if empty := (&Chart{Series: odd()[:1]}); !empty.Empty() {
		t.Error("a chart of nothing is not empty")
	}
}

// TestStepsBeforeAGap: each value of a step chart holds until the next, the last one
// before a gap until the gap: else it would be a spike without width.
func TestStepsBeforeAGap(t *testing.T) {
	nan := math.NaN()
	c := Chart{
		Kind: Steps, X: Axis{Unit: Count, Min: 0, Max: 4}, Y: Axis{Unit: Count, Min: 0, Max: 10},
		Series: []Series{{Name: "gone", X: []float64{0, 1, 2, 3, 4}, Y: []float64{1, 5, nan, nan, nan}, Ink: 7}, {Name: "alone", X: []float64{2, 3, 4}, Y: []float64{nan, 5, nan}, Ink: 8}},
	}
	svg, p := c.SVG("x", 500, 300)
	place := func(x, y float64) string {
		return short(p.Left+x/4*(p.Right-p.Left)) + " " + short(p.Bottom-y/10*(p.Bottom-p.Top))
	}
	for _, want := range []string{
		`<path class="l s7" d="M` + place(0, 1) + "L" + place(1, 1) + "L" + place(1, 5) + "L" + place(2, 5),
		`<path class="l s8" d="M` + place(3, 5) + "L" + place(4, 5),
	} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %s in %s", want, svg)
		}
	}
}

func check(t *testing.T, svg string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v\n%s", err, svg)
		}
	}
	for _, bad := range []string{"NaN", "Inf", "e+", "%!"} {
		if strings.Contains(svg, bad) {
			t.Errorf("%q in %s", bad, svg)
		}
	}
}

// TestPlotMatchesDrawing: what a script computes from Plot is where the line is.
func TestPlotMatchesDrawing(t *testing.T) {
	c := Chart{X: Axis{Unit: Bytes, Log: true}, Y: Axis{Unit: Share, Min: 0, Max: 1}, Series: []Series{{X: []float64{10, 100, 1000}, Y: []float64{0, 0.5, 1}, Ink: 1}}}
	svg, p := c.SVG("x", 500, 300)
	x := p.Left + (2-p.X0)/(p.X1-p.X0)*(p.Right-p.Left)
	y := p.Bottom - (0.5-p.Y0)/(p.Y1-p.Y0)*(p.Bottom-p.Top)
	found := false
	for _, off := range []float64{-0.1, 0, 0.1} { // both are rounded
		found = found || strings.Contains(svg, "L"+short(x)+" "+short(y+off)) || strings.Contains(svg, "L"+short(x+off)+" "+short(y))
	}
	if !found {
		t.Errorf("%v, %v is not in %s", x, y, svg)
	}
	again, _ := c.SVG("x", 500, 300)
	if again != svg {
		t.Error("the same chart is drawn differently")
	}
}

func BenchmarkCDF(b *testing.B) {
	s := Series{Ink: 1}
	for i := range 160 {
		s.X, s.Y = append(s.X, math.Pow(1.1, float64(i))), append(s.Y, float64(i)/160)
	}
	c := Chart{X: Axis{Unit: Bytes, Log: true}, Y: Axis{Unit: Share, Min: 0, Max: 1}, Series: []Series{s, s, s, s}}
	for range b.N {
		svg, _ := c.SVG("x", 560, 280)
		b.ReportMetric(float64(len(svg)), "bytes")
	}
}

// TestNotes: names of marks stay in the picture and off each other, and those that
// have room stand next to their marks.
func TestNotes(t *testing.T) {
	for _, tt := range []struct {
		name   string
		width  float64
		at     []float64
		labels []string
		shown  int
		// crossed names have the line of another mark through them: there was no
		// other room.
		crossed int
	}{
		{"two that are close", 560, []float64{340, 400}, []string{"good up to 20 s", "bad beyond 40 s"}, 2, 0},
		{"wider than what is left", 340, []float64{150, 200}, []string{"study: 90 % of chat flows below 10 kB", "study: half of the media flows above 70 kB"}, 2, 1},
		{"four at the edge", 340, []float64{245, 290, 305, 325}, []string{"3.03 min", "10.1 min", "15.2 min", "25.3 min"}, 4, 0},
		{"one on the other", 560, []float64{200, 200, 200}, []string{"one", "two", "three"}, 3, 0},
		{"more than there is room for", 560, []float64{200, 201, 202, 203, 204}, []string{"a name", "a name", "a name", "a name", "a name"}, 5, 0},
		{"time-outs of sessions", 560, []float64{395, 470, 496, 528}, []string{"3.03 min", "10.1 min", "15.2 min", "25.3 min"}, 4, 0},
		{"a heap", 560, slices.Repeat([]float64{300}, 40), slices.Repeat([]string{"a name"}, 40), 8, 0},
		{"wider than the picture", 100, []float64{50}, []string{strings.Repeat("x", 40)}, 0, 0},
	} {
		shown, crossed := 0, 0
		list := notes(tt.at, tt.labels, tt.width)
		for i, n := range list {
			if n.hidden {
				continue
			}
			shown++
			// The name is at its own line.
			if beside := math.Min(math.Abs(n.from-n.at), math.Abs(n.to-n.at)) <= 4; !beside && (n.side != onTop || n.at < n.from || n.at > n.to) {
				t.Errorf("%s: %q stands off its mark: %+v", tt.name, tt.labels[i], n)
			}
			for j, o := range list {
				if j != i && !o.hidden && o.row >= n.row && o.at > n.from && o.at < n.to {
					crossed++
				}
			}
			if n.from < -2 || n.to > tt.width+2 {
				t.Errorf("%s: %q is at %v … %v of %v", tt.name, tt.labels[i], n.from, n.to, tt.width)
			}
			for j, o := range list[:i] {
				if !o.hidden && o.row == n.row && o.to+noteGap > n.from && n.to+noteGap > o.from {
					t.Errorf("%s: %q is on %q", tt.name, tt.labels[i], tt.labels[j])
				}
			}
		}
		if shown != tt.shown || crossed != tt.crossed {
			t.Errorf("%s: %d names shown of %d, %d crossed; want %d and %d: %+v", tt.name, shown, len(list), crossed, tt.shown, tt.crossed, list)
		}
	}
	if n := notes([]float64{340, 400}, []string{"good up to 20 s", "bad beyond 40 s"}, 560); n[0].to > 345 || n[1].from < 395 || n[0].row+n[1].row > 0 {
		t.Errorf("the names of two marks do not lead away from each other: %+v", n)
	}
}
