package chart

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2014, 2, 22, 12, 0, 0, 0, time.UTC)

func values(v ...float64) []*float64 {
	out := make([]*float64, len(v))
	for i := range v {
		if !math.IsNaN(v[i]) {
			out[i] = &v[i]
		}
	}
	return out
}

func chart(form Form, series ...[]*float64) *Chart {
	c := &Chart{
		ID: "c", Title: "a <chart>", Start: start, Step: 5 * time.Minute, Form: form,
		Format: func(v float64) string { return fmt.Sprintf("%g", v) }, Level: func(v float64) string { return fmt.Sprintf("%g", v) },
	}
	for i, s := range series {
		c.Series = append(c.Series, Series{Name: fmt.Sprint("s", i), Class: fmt.Sprint("c-", i), Values: s})
		c.Bins = max(c.Bins, len(s))
	}
	return c
}

var unknown = math.NaN()

// paths returns the paths of a class in the drawing, which must be XML.
func paths(t *testing.T, svg, class string) (all []string) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%v in %s", err, svg)
		}
		e, ok := token.(xml.StartElement)
		if !ok || e.Name.Local != "path" {
			continue
		}
		at := map[string]string{}
		for _, a := range e.Attr {
			at[a.Name.Local] = a.Value
		}
		if at["class"] == class {
			all = append(all, at["d"])
		}
	}
}

func TestSVG(t *testing.T) {
	const floor = "108" // y of zero
	tests := []struct {
		name  string
		chart *Chart
		class string
		want  []string
	}{
		{"a line", chart(Lines, values(0, 5, 10)), "line c-0", []string{"M34 108L155 61L276 14"}},
		{"a gap", chart(Lines, values(0, unknown, 10, 0)), "line c-0", []string{"M34 108h0.01M195.3 14L276 108"}},
		{"nothing known", chart(Lines, values(unknown, unknown)), "line c-0", nil},
		{"one bin", chart(Lines, values(10)), "line c-0", []string{"M34 14h0.01"}},
		{"no bin", chart(Lines, nil), "line c-0", nil},
		{"all zero", chart(Lines, values(0, 0)), "line c-0", []string{"M34 " + floor + "L276 " + floor}},
		{"stacked below", chart(Stacked, values(5, 5), values(5, 0)), "area c-0", []string{"M34 108V61H155V61H276V108H155V108H34Z"}},
		{"stacked above", chart(Stacked, values(5, 5), values(5, 0)), "area c-1", []string{"M34 61V14H155V61H34Z"}},
		{"mirrored up", chart(Mirrored, values(10, 0), values(0, 10)), "area c-0", []string{"M34 61V14H155V61H34Z"}},
		{"mirrored down", chart(Mirrored, values(10, 0), values(0, 10)), "area c-1", []string{"M155 61V108H276V61H155Z"}},
	}
	for _, tt := range tests {
		got := paths(t, tt.chart.SVG(), tt.class)
		if fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestBeyond: one bin far above the others is cut and marked, so that the others
// can be seen.
func TestBeyond(t *testing.T) {
	v := make([]float64, 100)
	for i := range v {
		v[i] = 10
	}
	v[50] = 1000
	c := chart(Mirrored, values(v...), values(make([]float64, 100)...))
	if _, high := c.limits(); high != 20 {
		t.Errorf("the scale ends at %g", high)
	}
	if got := paths(t, c.SVG(), "beyond"); len(got) != 1 {
		t.Errorf("%d marks", len(got))
	}
	if !strings.Contains(c.describe(), "at most 1000") {
		t.Errorf("described as %s", c.describe())
	}
}

// TestLevels: the axis names its ends and zero, or the middle, and never two values
// in one place.
func TestLevels(t *testing.T) {
	for _, tt := range []struct {
		low, high float64
		want      string
	}{
		{0, 10, "[10 0 5]"},
		{-10, 10, "[10 0 -10]"},
		{-5, 10, "[10 0 -5]"},
		{-0.5, 10, "[10 0]"},
		{-10, 0.5, "[-10 0]"},
		{-10, 0, "[-10 0]"},
		{0, 1, "[1 0 0.5]"},
	} {
		if got := fmt.Sprint(levels(tt.low, tt.high)); got != tt.want {
			t.Errorf("from %g to %g: %s, want %s", tt.low, tt.high, got, tt.want)
		}
	}
}

func TestRound(t *testing.T) {
	for _, tt := range []struct{ v, want float64 }{
		{-1, 0}, {0, 0}, {1, 1}, {1.01, 2}, {2.2, 2.5}, {3, 5}, {7, 10}, {0.0007, 0.001}, {999, 1000}, {1e12, 1e12},
	} {
		if got := round(tt.v); math.Abs(got-tt.want) > 1e-9*tt.want {
			t.Errorf("round(%g) = %g, want %g", tt.v, got, tt.want)
		}
	}
}

// TestWords: names are escaped, and the description has what the picture shows.
func TestWords(t *testing.T) {
	c := chart(Lines, values(1, 7, 2), values(unknown, unknown, unknown))
	c.Series[0].Name = `<b> & "c"`
	c.Spans = []Span{{From: start, To: start.Add(time.Hour), Class: "s", Name: "out <age>"}, {From: start.Add(48 * time.Hour), To: start.Add(49 * time.Hour)}}
	svg := c.SVG()
	paths(t, svg, "")
	for _, want := range []string{
		"a &lt;chart&gt;", "&lt;b&gt; &amp; &#34;c&#34;: last 2, at most 7.", "s1: no data.", "From 22 February 12:00 to 22 February 12:15 UTC",
		`role="img"`, `aria-labelledby="c-t c-d"`, "out &lt;age&gt; is marked.", `<rect class="span s" x="34"`,
	} {
		if !strings.Contains(svg, want) {
			t.Errorf("%q is not in %s", want, svg)
		}
	}
	if strings.Count(svg, "<rect") != 1 {
		t.Error("a span outside of the chart is drawn")
	}
}

// TestTimes: there are some labels at any length, and not too many.
func TestTimes(t *testing.T) {
	for _, span := range []time.Duration{time.Minute, time.Hour, 6 * time.Hour, 12 * time.Hour, 48 * time.Hour} {
		c := chart(Lines, values(make([]float64, 145)...))
		c.Step = span / 144
		n := strings.Count(c.SVG(), `class="time"`)
		if n < 2 || n > mostLabels {
			t.Errorf("%v: %d labels", span, n)
		}
	}
}

func BenchmarkSVG(b *testing.B) {
	c := chart(Lines, values(make([]float64, 144)...), values(make([]float64, 144)...))
	for b.Loop() {
		_ = c.SVG()
	}
}

// TestTimeLabels: the axis names times of day, and days where they begin, also at its
// ends.
func TestTimeLabels(t *testing.T) {
	label := regexp.MustCompile(`<text class="time"[^>]*>([^<]*)<`)
	for _, tt := range []struct {
		name  string
		start time.Time
		step  time.Duration
		bins  int
		want  string
	}{
		{"ten minutes", start.Add(7 * time.Second), 10 * time.Second, 60, "12:02 12:04 12:06 12:08"},
		{"twelve hours of a day", start.Add(-11 * time.Hour), 5 * time.Minute, 145, "03:00 06:00 09:00 12:00"},
		{"twelve hours over midnight", start.Add(7 * time.Hour), 5 * time.Minute, 145, "21:00 23 Feb 03:00 06:00"},
		{"two days", start.Add(-7 * time.Hour), 30 * time.Minute, 97, "12:00 23 Feb 12:00 24 Feb"},
		{"two days that end just after midnight", start.Add(13 * time.Hour), 30 * time.Minute, 97, "12:00 24 Feb 12:00 25 Feb"},
	} {
		c := chart(Lines, make([]*float64, tt.bins))
		c.Start, c.Step = tt.start, tt.step
		var got []string
		for _, m := range label.FindAllStringSubmatch(c.SVG(), -1) {
			got = append(got, m[1])
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
