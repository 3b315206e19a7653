package chart

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Kind of a chart.
type Kind uint8

// Kinds.
const (
	Line    Kind = iota // points joined
	Steps               // each value holds until the next
	Stacked             // areas on top of each other, each value until the next
)

// Chart is a picture of some series over one X axis.
type Chart struct {
	Title string // what a screen reader says first
	Desc  string // and what the picture shows
	Kind  Kind
	X, Y  Axis
	// Series in the order of their colours, the first lowest in a stack.
	Series []Series
	Marks  []Mark
	Bands  []Band
}

// Series is one line. X and Y have the same length; NaN is a gap. A point
// outside of what a logarithm has is left out.
type Series struct {
	Name string
	X, Y []float64
	// Ink is the number of its colour, from 1. Dashed sets it apart where
	// colours do not.
	Ink    int
	Dashed bool
}

// Mark is a vertical line with a name.
type Mark struct {
	X     float64
	Label string
}

// Band is a stretch of X that is shaded.
type Band struct {
	From, To float64
	Label    string
}

// Empty reports a chart without a point to draw.
func (c *Chart) Empty() bool {
	low, _, _, _ := c.reach()
	return math.IsInf(low, 0)
}

// reach returns the extent of the data.
func (c *Chart) reach() (x0, x1, y0, y1 float64) {
	x0, y0 = math.Inf(1), math.Inf(1)
	x1, y1 = math.Inf(-1), math.Inf(-1)
	var stack map[float64]float64
	if c.Kind == Stacked {
		stack = map[float64]float64{}
	}
	for i := range c.Series {
		s := &c.Series[i]
		for j, x := range s.X {
			y := s.Y[j]
			if !c.drawable(x, y) {
				continue
			}
			if stack != nil {
				stack[x] += y
				y = stack[x]
			}
			x0, x1 = min(x0, x), max(x1, x)
			y0, y1 = min(y0, y), max(y1, y)
		}
	}
	return x0, x1, y0, y1
}

func (c *Chart) drawable(x, y float64) bool {
	if math.IsNaN(x) || math.IsNaN(y) || math.IsInf(x, 0) || math.IsInf(y, 0) {
		return false
	}
	return (!c.X.Log || x > 0) && (!c.Y.Log || y > 0 || c.Kind == Stacked)
}

// Plot is where the data of a drawn chart lie, in pixels, and how to get from
// pixels to values: a script reads it.
type Plot struct {
	Left   float64 `json:"left"`
	Right  float64 `json:"right"`
	Top    float64 `json:"top"`
	Bottom float64 `json:"bottom"`
	X0     float64 `json:"x0"`
	X1     float64 `json:"x1"`
	Y0     float64 `json:"y0"`
	Y1     float64 `json:"y1"`
	XLog   bool    `json:"xlog"`
	YLog   bool    `json:"ylog"`
}

const fontSize = 12

// topRoom is left above the data, for the names of marks.
func (c *Chart) topRoom() vg.Length {
	if len(c.Marks) == 0 {
		return 12
	}
	return vg.Length(8 + rowHeight*min(len(c.Marks), noteRows))
}

// SVG draws the chart and returns it as an element. id has to be unique in the
// page.
func (c *Chart) SVG(id string, width, height int) (string, Plot) {
	w, h := float64(width), float64(height)
	cv := newCanvas(w, h)
	x0, x1, y0, y1 := c.reach()
	if !c.Empty() {
		for _, m := range c.Marks {
			if c.drawable(m.X, 1) {
				x0, x1 = min(x0, m.X), max(x1, m.X)
			}
		}
	}
	if c.Y.Min == c.Y.Max && !c.Y.Log {
		y0, y1 = min(0, y0), y1+(y1-min(0, y0))*0.04
	}
	xs, ys := newScale(c.X, x0, x1), newScale(c.Y, y0, y1)
	p := c.plot(&xs, &ys, width, height)

	area := draw.NewCanvas(cv, vg.Length(w), vg.Length(h))
	area = draw.Crop(area, 2, -10, 2, -c.topRoom())
	p.Draw(area)
	data := p.DataCanvas(area)
	px, py := p.Transforms(&data)
	left, bottom := cv.place(vg.Point{X: px(xs.low), Y: py(ys.low)})
	right, top := cv.place(vg.Point{X: px(xs.high), Y: py(ys.high)})
	c.marks(cv, &xs, px, top, bottom)

	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="chart" id="%s" viewBox="0 0 %d %d" role="img" aria-labelledby="%s-t %s-d" tabindex="0">`, id, width, height, id, id)
	fmt.Fprintf(&b, `<title id="%s-t">%s</title><desc id="%s-d">%s</desc>`, id, html.EscapeString(c.Title), id, html.EscapeString(c.Desc))
	b.WriteString(cv.String())
	fmt.Fprintf(&b, `<g class="pointer" aria-hidden="true"></g></svg>`)
	return b.String(), Plot{
		math.Round(left*100) / 100, math.Round(right*100) / 100, math.Round(top*100) / 100, math.Round(bottom*100) / 100,
		xs.low, xs.high, ys.low, ys.high, xs.Log, ys.Log,
	}
}

// plot sets gonum's plot up.
func (c *Chart) plot(xs, ys *scale, width, height int) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil
	c.style(&p.X, xs, max(3, width/95), ink{"tick", "middle"}, draw.XCenter, draw.YTop)
	c.style(&p.Y, ys, max(3, height/55), ink{"tick", "end"}, draw.XRight, draw.YCenter)
	p.X.Tick.LineStyle.Width, p.X.Tick.Length = 1, 5
	p.X.Label.Text = c.X.Label
	p.X.Label.TextStyle = textStyle(ink{"label", "middle"}, draw.XCenter, draw.YTop)
	p.X.Label.Padding = 3
	p.Add(grid{c.Bands, xs})
	switch c.Kind {
	case Stacked:
		c.stack(p, xs, ys)
	default:
		for i := range c.Series {
			c.line(p, &c.Series[i], xs, ys)
		}
	}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = xs.low, xs.high, ys.low, ys.high
	return p
}

func textStyle(col ink, x draw.XAlignment, y draw.YAlignment) draw.TextStyle {
	return draw.TextStyle{
		Color: col, Font: font.From(plot.DefaultFont, fontSize), XAlign: x, YAlign: y, Handler: text.Plain{Fonts: font.DefaultCache},
	}
}

func (c *Chart) style(a *plot.Axis, s *scale, n int, col ink, x draw.XAlignment, y draw.YAlignment) {
	a.LineStyle.Width = 0
	a.Tick.LineStyle = draw.LineStyle{Color: ink{class: "base"}}
	a.Padding = 0
	a.Tick.Label = textStyle(col, x, y)
	a.Tick.Marker = plot.ConstantTicks(s.ticks(n))
}

// grid draws bands, horizontal rules and the base line, under everything else.
type grid struct {
	bands []Band
	xs    *scale
}

func (g grid) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	for _, b := range g.bands {
		from, to := x(max(g.xs.apply(b.From), p.X.Min)), x(min(g.xs.apply(b.To), p.X.Max))
		if to-from < 2 {
			to = from + 2
		}
		c.FillPolygon(ink{class: "band"}, []vg.Point{{X: from, Y: c.Min.Y}, {X: to, Y: c.Min.Y}, {X: to, Y: c.Max.Y}, {X: from, Y: c.Max.Y}})
	}
	for _, t := range p.Y.Tick.Marker.Ticks(p.Y.Min, p.Y.Max) {
		if t.Value < p.Y.Min || t.Value > p.Y.Max {
			continue
		}
		class := "rule"
		if t.Value == p.Y.Min {
			class = "base"
		}
		c.StrokeLine2(draw.LineStyle{Color: ink{class: class}, Width: 1}, c.Min.X, y(t.Value), c.Max.X, y(t.Value))
	}
}

// line adds a series, cut where it has gaps.
func (c *Chart) line(p *plot.Plot, s *Series, xs, ys *scale) {
	class := fmt.Sprintf("s%d", s.Ink)
	if s.Dashed {
		class += " dash"
	}
	var run plotter.XYs
	flush := func() {
		if len(run) > 0 {
			l := plotter.Line{XYs: run, LineStyle: draw.LineStyle{Color: ink{class: class}, Width: 2}}
			if c.Kind == Steps {
				l.StepStyle = plotter.PostStep
			}
			if len(run) == 1 {
				l.XYs = append(run, run[0]) // a round cap makes it a dot
			}
			p.Add(&l)
		}
		run = nil
	}
	for i, x := range s.X {
		if !c.drawable(x, s.Y[i]) {
			if c.Kind == Steps && len(run) > 0 && c.drawable(x, 0) { // what stands before a gap holds until it
				run = append(run, plotter.XY{X: min(max(xs.apply(x), xs.low), xs.high), Y: run[len(run)-1].Y})
			}
			flush()
			continue
		}
		v := plotter.XY{X: min(max(xs.apply(x), xs.low), xs.high), Y: min(max(ys.apply(s.Y[i]), ys.low), ys.high)}
		run = append(run, v)
	}
	flush()
}

// stack adds areas that stand on each other.
func (c *Chart) stack(p *plot.Plot, xs, ys *scale) {
	if len(c.Series) == 0 {
		return
	}
	longest := 0
	for i := range c.Series {
		longest = max(longest, len(c.Series[i].X))
	}
	base := make([]float64, longest)
	for i := range c.Series {
		s := &c.Series[i]
		top := make([]float64, len(base))
		var upper, lower plotter.XYs
		for j, x := range s.X {
			y := s.Y[j]
			if !c.drawable(x, 0) {
				continue
			}
			if !c.drawable(x, y) {
				y = 0
			}
			top[j] = base[j] + y
			next := x
			if j+1 < len(s.X) {
				next = s.X[j+1]
			}
			upper = append(upper, plotter.XY{X: xs.apply(x), Y: min(top[j], ys.high)}, plotter.XY{X: xs.apply(next), Y: min(top[j], ys.high)})
			lower = append(lower, plotter.XY{X: xs.apply(x), Y: min(base[j], ys.high)}, plotter.XY{X: xs.apply(next), Y: min(base[j], ys.high)})
		}
		for l, r := 0, len(lower)-1; l < r; l, r = l+1, r-1 {
			lower[l], lower[r] = lower[r], lower[l]
		}
		p.Add(&plotter.Polygon{XYs: []plotter.XYs{append(upper, lower...)}, Color: ink{class: fmt.Sprintf("a%d", s.Ink)}})
		base = top
	}
}

// marks draws the vertical lines and their names.
func (c *Chart) marks(cv *canvas, xs *scale, px func(float64) vg.Length, top, bottom float64) {
	list := slices.Clone(c.Marks)
	slices.SortStableFunc(list, func(a, b Mark) int { return cmp.Compare(a.X, b.X) })
	var at []float64
	var labels []string
	for _, m := range list {
		v := xs.apply(m.X)
		if math.IsNaN(v) || v < xs.low || v > xs.high {
			continue
		}
		at = append(at, float64(px(v)))
		labels = append(labels, m.Label)
	}
	for i, n := range notes(at, labels, cv.width) {
		base := top - 8 - rowHeight*float64(n.row)
		up := base - capHeight
		if n.side == onTop || n.hidden {
			up = base + 4
		}
		fmt.Fprintf(cv, `<path class="l mark" d="M%s %sL%s %s"/>`, short(n.at), short(up), short(n.at), short(bottom))
		if n.hidden {
			continue
		}
		anchor, x := "start", n.from
		switch n.side {
		case leftOf:
			anchor, x = "end", n.to
		case onTop:
			anchor, x = "middle", (n.from+n.to)/2
		}
		fmt.Fprintf(cv, `<text class="note" x="%s" y="%s" text-anchor="%s">%s</text>`, short(x), short(base), anchor, html.EscapeString(labels[i]))
	}
}
