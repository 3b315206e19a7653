// Package chart draws time series as SVG, to be put into a page: no script, no
// style of its own but classes, a title and a description for those who do not
// see it.
package chart

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Series is one line or area. A nil value is a time of which nothing is known.
type Series struct {
	Name   string
	Class  string // of the CSS, which gives the colour
	Values []*float64
}

// Form is how the series are drawn.
type Form int

// Forms.
const (
	// Lines: one line each.
	Lines Form = iota
	// Mirrored: areas, the first above the axis and the second below it.
	Mirrored
	// Stacked: areas on top of each other.
	Stacked
)

// Span is a stretch of time that is marked.
type Span struct {
	From, To time.Time
	Class    string
	Name     string
}

// Chart is a picture of some series over one time.
type Chart struct {
	// ID is unique in the page.
	ID     string
	Title  string
	Start  time.Time
	Step   time.Duration
	Bins   int
	Form   Form
	Series []Series
	Spans  []Span
	// Format writes a value with its unit, Level one of the vertical axis: in
	// five characters at most, for there is no room for more.
	Format, Level func(float64) string
}

// Size of the picture in its own units; the page scales it.
const (
	width, height = 280, 124
	// The vertical axis' numbers stand beside the plot, never on it.
	left, right         = 34, 4
	top, bottom         = 14, 16
	plotWidth           = width - left - right
	plotHeight  float64 = height - top - bottom
)

// SVG draws the chart.
func (c *Chart) SVG() string {
	low, high := c.limits()
	b := &strings.Builder{}
	fmt.Fprintf(b, `<svg class="chart" viewBox="0 0 %d %d" role="img" aria-labelledby="%s-t %s-d">`, width, height, c.ID, c.ID)
	fmt.Fprintf(b, `<title id="%s-t">%s</title><desc id="%s-d">%s</desc>`, c.ID, html.EscapeString(c.Title), c.ID, html.EscapeString(c.describe()))
	y := func(v float64) float64 { return top + plotHeight*(high-v)/(high-low) }
	c.spans(b)
	marks := levels(low, high)
	for _, v := range marks {
		fmt.Fprintf(b, `<line class="grid" x1="%d" x2="%d" y1="%s" y2="%s"/>`, left, width-right, num(y(v)), num(y(v)))
	}
	c.times(b)
	switch c.Form {
	case Mirrored:
		c.areas(b, y, low, high)
	case Stacked:
		c.stack(b, y)
	default:
		for _, s := range c.Series {
			c.line(b, &s, y)
		}
	}
	fmt.Fprintf(b, `<line class="axis" x1="%d" x2="%d" y1="%s" y2="%s"/>`, left, width-right, num(y(0)), num(y(0)))
	for _, v := range marks {
		fmt.Fprintf(b, `<text class="level" x="%d" y="%s">%s</text>`, left-4, num(y(v)+3), html.EscapeString(c.Level(math.Abs(v))))
	}
	b.WriteString("</svg>")
	return b.String()
}

// Most is the greater end of the vertical axis: what its unit has to suit.
func (c *Chart) Most() float64 {
	low, high := c.limits()
	return max(high, -low)
}

// leastApart is how much of the axis two of its numbers need between them.
const leastApart = 0.15

// levels are the values that the vertical axis names: the ends and zero, or the
// middle where zero is an end, as far as they do not stand on each other.
func levels(low, high float64) (marks []float64) {
	wanted := []float64{high, 0, low}
	switch {
	case low == 0:
		wanted = []float64{high, 0, high / 2}
	case -low > high:
		wanted = []float64{low, 0, high}
	}
	for _, v := range wanted {
		if !slices.ContainsFunc(marks, func(m float64) bool { return math.Abs(v-m) < leastApart*(high-low) }) {
			marks = append(marks, v)
		}
	}
	return marks
}

// limits are the ends of the vertical axis: round numbers around everything, or
// around nearly everything where a few bins stand far above the others.
func (c *Chart) limits() (low, high float64) {
	if c.Form == Mirrored {
		low, high = -round(reach(c.Series[1])), round(reach(c.Series[0]))
	} else {
		high = round(c.most())
	}
	if high == low {
		high = 1
	}
	return low, high
}

func (c *Chart) most() (most float64) {
	for bin := range c.Bins {
		sum := 0.0
		for i := range c.Series {
			v, _ := value(&c.Series[i], bin)
			sum += v
			if c.Form != Stacked {
				sum = v
			}
			most = max(most, sum)
		}
	}
	return most
}

// reach is the greatest value, or, where that is far above all but a few, what
// shows the others.
func reach(s Series) float64 {
	var values []float64
	for _, v := range s.Values {
		if v != nil && *v > 0 {
			values = append(values, *v)
		}
	}
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	most, usual := values[len(values)-1], values[(len(values)-1)*19/20]
	if most > 3*usual {
		return 1.5 * usual
	}
	return most
}

// round returns the least of 1, 2, 2.5, 5 times a power of ten that is not below
// v; 0 for 0.
func round(v float64) float64 {
	if v <= 0 {
		return 0
	}
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{1, 2, 2.5, 5, 10} {
		if v <= f*unit*(1+1e-9) {
			return f * unit
		}
	}
	return 10 * unit
}

func value(s *Series, bin int) (float64, bool) {
	if bin >= len(s.Values) || s.Values[bin] == nil {
		return 0, false
	}
	return *s.Values[bin], true
}

func (c *Chart) x(bin int) float64 {
	if c.Bins < 2 {
		return left
	}
	return left + plotWidth*float64(bin)/float64(c.Bins-1)
}

// at returns where a time is, between the edges.
func (c *Chart) at(t time.Time) float64 {
	span := float64(c.Step) * float64(max(c.Bins-1, 1))
	return left + plotWidth*min(max(float64(t.Sub(c.Start))/span, 0), 1)
}

func (c *Chart) spans(b *strings.Builder) {
	for _, s := range c.Spans {
		// A bin stands where it begins, and is drawn to both sides of that.
		from, to := c.at(s.From.Add(-c.Step/2)), c.at(s.To.Add(-c.Step/2))
		if to <= from {
			continue
		}
		fmt.Fprintf(b, `<rect class="span %s" x="%s" y="%d" width="%s" height="%s"><title>%s</title></rect>`,
			html.EscapeString(s.Class), num(from), top, num(to-from), num(plotHeight), html.EscapeString(s.Name))
	}
}

// intervals between labels of the time axis.
var intervals = []time.Duration{
	10 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute,
	30 * time.Minute, time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
}

const (
	// mostLabels is how many fit.
	mostLabels = 6
	// edge is half of the widest label.
	edge = 15
)

func (c *Chart) times(b *strings.Builder) {
	if c.Bins < 2 {
		return
	}
	span := c.Step * time.Duration(c.Bins-1)
	every := intervals[len(intervals)-1]
	for _, i := range intervals {
		if span/i < mostLabels {
			every = i
			break
		}
	}
	apart := plotWidth * float64(every) / float64(span) // a label at an end is moved inwards, where the next is not too close
	form := func(t time.Time) string {
		switch {
		case t.Truncate(24 * time.Hour).Equal(t):
			return t.Format("2 Jan") // which day it is cannot be told from 00:00
		case every < time.Minute:
			return t.Format("15:04:05")
		}
		return t.Format("15:04")
	}
	for t := c.Start.Truncate(every); !t.After(c.Start.Add(span)); t = t.Add(every) {
		if t.Before(c.Start) {
			continue
		}
		x := c.at(t)
		fmt.Fprintf(b, `<line class="tick" x1="%s" x2="%s" y1="%s" y2="%s"/>`, num(x), num(x), num(top+plotHeight), num(top+plotHeight+3))
		inside := min(max(x, left+edge), width-right-edge)
		if inside == x || apart > 3*edge {
			fmt.Fprintf(b, `<text class="time" x="%s" y="%d">%s</text>`, num(inside), height-3, form(t.UTC()))
		}
	}
}

// line draws a series, interrupted where nothing is known. A value that stands
// alone is a dot.
func (c *Chart) line(b *strings.Builder, s *Series, y func(float64) float64) {
	path := &strings.Builder{}
	run := 0
	end := func() {
		if run == 1 {
			path.WriteString("h0.01")
		}
		run = 0
	}
	for bin := range c.Bins {
		v, ok := value(s, bin)
		if !ok {
			end()
			continue
		}
		verb := "L"
		if run == 0 {
			verb = "M"
		}
		run++
		path.WriteString(verb + num(c.x(bin)) + " " + num(y(v)))
	}
	end()
	if path.Len() > 0 {
		fmt.Fprintf(b, `<path class="line %s" d="%s"/>`, html.EscapeString(s.Class), path)
	}
}

// areas draws the first series up and the second down from the axis. What is
// beyond the scale is cut and marked.
func (c *Chart) areas(b *strings.Builder, y func(float64) float64, low, high float64) {
	for i, s := range c.Series {
		sign, tip := 1.0, 4.0
		if i == 1 {
			sign, tip = -1, -4
		}
		c.area(b, s.Class, y, func(bin int) (from, to float64, ok bool) {
			v, ok := value(&s, bin)
			return 0, min(max(sign*v, low), high), ok
		})
		for bin := range c.Bins {
			if v, _ := value(&s, bin); sign*v > high || sign*v < low {
				end := y(min(max(sign*v, low), high))
				fmt.Fprintf(b, `<path class="beyond" d="M%s %sl3 %sh-6z"><title>%s</title></path>`,
					num(c.x(bin)), num(end-tip), num(tip), html.EscapeString(c.Format(v)))
			}
		}
	}
}

// stack draws each series on top of those before it.
func (c *Chart) stack(b *strings.Builder, y func(float64) float64) {
	floor := make([]float64, c.Bins)
	for _, s := range c.Series {
		c.area(b, s.Class, y, func(bin int) (from, to float64, ok bool) {
			v, ok := value(&s, bin)
			return floor[bin], floor[bin] + v, ok
		})
		for bin := range floor {
			v, _ := value(&s, bin)
			floor[bin] += v
		}
	}
}

// area draws bins as steps, so that a single one is seen.
func (c *Chart) area(b *strings.Builder, class string, y func(float64) float64, get func(bin int) (from, to float64, ok bool)) {
	half := plotWidth / float64(max(c.Bins-1, 1)) / 2
	edge := func(x float64) string { return num(min(max(x, left), width-right)) }
	path := &strings.Builder{}
	for bin := 0; bin < c.Bins; {
		if from, to, ok := get(bin); !ok || from == to {
			bin++
			continue
		}
		var back []string
		fmt.Fprintf(path, "M%s %s", edge(c.x(bin)-half), num(y(first(get(bin)))))
		for ; bin < c.Bins; bin++ {
			from, to, ok := get(bin)
			if !ok || from == to {
				break
			}
			fmt.Fprintf(path, "V%sH%s", num(y(to)), edge(c.x(bin)+half))
			back = append(back, "H"+edge(c.x(bin)-half), "V"+num(y(from)))
		}
		for i := len(back) - 1; i >= 0; i-- {
			path.WriteString(back[i])
		}
		path.WriteString("Z")
	}
	if path.Len() > 0 {
		fmt.Fprintf(b, `<path class="area %s" d="%s"/>`, html.EscapeString(class), path)
	}
}

func first(v, _ float64, _ bool) float64 { return v }

// describe says in words what the chart shows: newest and greatest values.
func (c *Chart) describe() string {
	if c.Bins == 0 {
		return "Nothing yet."
	}
	parts := []string{fmt.Sprintf("From %s to %s UTC.",
		c.Start.UTC().Format("2 January 15:04"), c.Start.Add(c.Step*time.Duration(c.Bins)).UTC().Format("2 January 15:04"))}
	for _, s := range c.Series {
		most, newest, known := 0.0, 0.0, false
		for bin := range c.Bins {
			if v, ok := value(&s, bin); ok {
				most, newest, known = max(most, v), v, true
			}
		}
		if !known {
			parts = append(parts, s.Name+": no data.")
			continue
		}
		parts = append(parts, fmt.Sprintf("%s: last %s, at most %s.", s.Name, c.Format(newest), c.Format(most)))
	}
	for _, s := range c.Spans {
		parts = append(parts, s.Name+" is marked.")
	}
	return strings.Join(parts, " ")
}

// num writes a coordinate with one decimal.
func num(v float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
}
