package report

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/nametap/nametap/report/chart"
)

var (
	//go:embed page/page.html
	pageSource string
	//go:embed page/style.css
	styleSource string
	//go:embed page/script.js
	scriptSource string
)

var pageTemplate = template.Must(template.New("page").Parse(pageSource))

// policy lets the page use its own style and script, told by their hashes, and
// load nothing (Content Security Policy Level 3).
func policy(style, script string) string {
	hash := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return "default-src 'none'; style-src " + hash(style) + "; script-src " + hash(script) +
		"; img-src data:; base-uri 'none'; form-action 'none'"
}

// page is what the template shows.
type page struct {
	Title, When string
	Policy      string
	Style       template.CSS
	Script      template.JS
	Cards       []card
	Short       []string
	Sections    []section
}

type card struct {
	Value, Label string
	Alarm        bool
}

type section struct {
	ID, Name string
	Notes    Notes
	Parts    []block
}

// block is a row of figures, or a table.
type block struct {
	Grid  []*figure
	Table *table
}

type figure struct {
	Title, Caption string
	Full           bool
	Legend         []legend
	Wide, Narrow   template.HTML
	Data           figureData
	Table          *table
}

type legend struct {
	Name   string
	Swatch template.HTML
}

// figureData is what the script reads.
type figureData struct {
	Kind   string       `json:"kind"` // line, stacked or curve
	X      chart.Unit   `json:"x"`
	Y      chart.Unit   `json:"y"`
	Wide   chart.Plot   `json:"wide"`
	Narrow chart.Plot   `json:"narrow"`
	Xs     []float64    `json:"xs,omitempty"` // where all series share them
	Series []lineSeries `json:"series"`
}

type lineSeries struct {
	Name string     `json:"name"`
	Ink  int        `json:"ink"`
	X    []float64  `json:"x,omitempty"`
	Y    []*float64 `json:"y"`
}

type table struct {
	Caption string
	Folded  bool
	Head    []column
	Rows    [][]cell
}

type column struct {
	Name string
	Text bool
}

type cell struct {
	Text  string
	Class string
	Extra template.HTML
	Span  int // columns, if more than one
}

// WriteHTML writes the report as one page that needs nothing else.
func (r *Report) WriteHTML(w io.Writer) error {
	p := page{
		Title: r.Title, When: r.when(),
		Policy: policy(styleSource, scriptSource), Style: template.CSS(styleSource), Script: template.JS(scriptSource),
		Cards: r.cards(), Short: r.short(),
	}
	d := &drawer{inks: inks(r)}
	p.Sections = []section{
		{"volume", "Who and how much", r.Who.Notes, d.who(&r.Who)},
		{"outage", "Outages", r.Outage.Notes, d.outage(&r.Outage)},
		{"experience", "Experience", r.Experience.Notes, d.experience(&r.Experience)},
		{"shape", "Size, duration, throughput", r.Shape.Notes, d.shape(&r.Shape)},
		{"devices", "Duration by device", r.Devices.Notes, d.devices(&r.Devices)},
		{"hosting", "Hosting", r.Hosting.Notes, d.hosting(&r.Hosting)},
		{"where", "Where the servers are", r.Location.Notes, d.location(&r.Location)},
		{"naming", "Naming scheme", r.Naming.Notes, d.naming(&r.Naming)},
		{"trust", "How far to trust this", r.Trust.Notes, d.trust(&r.Trust)},
	}
	return pageTemplate.Execute(w, &p)
}

func (r *Report) when() string {
	if r.First == "" {
		return "No flow in the input."
	}
	first, _ := time.Parse(time.RFC3339, r.First)
	last, _ := time.Parse(time.RFC3339, r.Last)
	end := "2 January, 15:04"
	if last.Year() != first.Year() {
		end = "2 January 2006, 15:04"
	}
	return fmt.Sprintf("%s to %s UTC · %s · from %s", first.Format("Monday 2 January 2006, 15:04"), last.Format(end),
		chart.Duration(r.Seconds), r.Inputs)
}

// String says what the input was.
func (in Inputs) String() string {
	var parts []string
	if n := in.Captures; n > 0 {
		parts = append(parts, fmt.Sprintf("%d %s", n, plural(n, "capture")))
	}
	if n := in.RecordFiles; n > 0 {
		parts = append(parts, fmt.Sprintf("%d %s of flow records", n, plural(n, "file")))
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, " and ")
}

func (r *Report) cards() []card {
	var total, users uint64
	media, app := 0.0, false
	for i := range r.Who.Apps {
		a := &r.Who.Apps[i]
		total += a.Bytes
		if a.App != "other" && !app {
			media, app = a.MediaShare, true
		}
	}
	users = r.Subscribers
	out := []card{
		{chart.Format(float64(total), chart.Bytes), "volume, both directions", false},
		{chart.Format(float64(r.Flows), chart.Count), plural(int(r.Flows), "TCP flow"), false},
		{chart.Format(float64(users), chart.Count), plural(int(users), "subscriber"), false},
	}
	if app {
		out = append(out, card{chart.Format(media, chart.Share), "of the app's volume is media", false})
	}
	if n := r.Experience.All.Count; n > 0 {
		out = append(out, card{chart.Format(float64(r.Experience.All.Good)/float64(n), chart.Share), "of transfers are good", false})
	}
	if r.Outage.Judged > 0 {
		n := len(r.Outage.Events)
		out = append(out, card{fmt.Sprint(n), plural(n, "event") + " detected", n > 0})
	}
	return out
}

// short are the sentences for whoever reads no further.
func (r *Report) short() []string {
	var out []string
	for i := range r.Outage.Events {
		out = append(out, r.Outage.Events[i].sentence())
	}
	for i := range r.Who.Apps {
		a := &r.Who.Apps[i]
		if a.App == "other" || a.Bytes == 0 {
			continue
		}
		text := fmt.Sprintf("%s: %s in %s of %s", title(a.App), chart.Format(float64(a.Bytes), chart.Bytes),
			some(a.Flows, "flow"), some(a.Subscribers, "subscriber"))
		if a.MediaShare > 0 {
			text += fmt.Sprintf("; %s of the bytes are media", chart.Format(a.MediaShare, chart.Share))
		}
		if a.VideoShare > 0 {
			text += fmt.Sprintf(", %s video", chart.Format(a.VideoShare, chart.Share))
		}
		out = append(out, text+".")
	}
	if e := &r.Experience.All; e.Count > 0 {
		out = append(out, fmt.Sprintf("%s of %s transfers took no longer than %s, %s longer than %s; the median is %s.",
			part1(e.Good, e.Count), chart.Format(float64(e.Count), chart.Count), chart.Duration(r.Experience.GoodMark),
			part1(e.Bad, e.Count), chart.Duration(r.Experience.BadMark), chart.Duration(e.Time.P50)))
	}
	if l := &r.Location; l.WithRTT > 0 {
		text := some(uint64(l.Total), "server address")
		if len(l.Steps) > 0 {
			text += "; most answer after "
			for i, s := range l.Steps {
				if i > 0 {
					text += " and "
				}
				text += chart.Format(milliseconds(s.At)/1000, chart.Millis)
			}
		} else {
			text += fmt.Sprintf("; the median answers after %s", chart.Format(milliseconds(l.All.P50)/1000, chart.Millis))
		}
		if l.Refused > 0 {
			text += fmt.Sprintf("; for %d the database names a place that light could not reach in time", l.Refused)
		}
		out = append(out, text+".")
	}
	if f := r.Trust.Figures; len(f) > 0 && f[0].Of > 0 {
		out = append(out, fmt.Sprintf("%s of all flows have a name.", part1(f[0].Value, f[0].Of)))
	}
	return out
}

// some writes a number of things.
func some(n uint64, thing string) string {
	text := chart.Format(float64(n), chart.Count) + " " + thing
	switch {
	case n == 1:
		return text
	case strings.HasSuffix(thing, "s"):
		return text + "es"
	}
	return text + "s"
}

func title(s string) string {
	if s == "whatsapp" {
		return "WhatsApp"
	}
	return s
}

func part1(a, b uint64) string { return chart.Format(float64(a)/float64(b), chart.Share) }

// sentence says what happened.
func (e *EventEntry) sentence() string {
	what := map[string]string{
		"app-failure": "servers accept connections and fail above them", "unreachable": "servers were not reached",
		"dns-failure": "names were not resolved", "our-network": "the failure is on this network's side", "tap": "the tap was blind",
	}[e.Verdict]
	who := title(e.App)
	if e.App == "" {
		who = "The tap"
	}
	if e.Group != "" {
		who += " behind " + e.Group
	}
	start, _ := time.Parse(time.RFC3339, e.Start)
	text := fmt.Sprintf("%s: %s (%s) from %s", who, e.Verdict, what, start.Format("2 January 15:04"))
	if end, err := time.Parse(time.RFC3339, e.End); err == nil {
		text += " to " + end.Format("15:04")
	} else {
		text += " to the end of the input"
	}
	text += fmt.Sprintf(" UTC, %s", chart.Duration(e.Minutes*60))
	if e.App != "" {
		text += fmt.Sprintf(". Of the expected volume %s was left downlink and %s uplink; %s of the flows carried anything, %s did before",
			chart.Format(e.ResidueDown, chart.Share), chart.Format(e.ResidueUp, chart.Share),
			chart.Format(e.SuccessDuring, chart.Share), chart.Format(e.SuccessBefore, chart.Share))
	}
	return text + "."
}

// templateHTML is markup of our own making.
type templateHTML = template.HTML

func sortedKeys(m map[string]uint64) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// drawer numbers charts and keeps the colours of classes.
type drawer struct {
	inks map[string]int
	next int
}

const restInk = 9

// inks gives each class one colour for the whole page: eight in the order of
// the rules, the rest grey.
func inks(r *Report) map[string]int {
	out, n := map[string]int{}, 0
	for i := range r.Who.Classes {
		c := &r.Who.Classes[i]
		if c.App == "other" || n == restInk-1 {
			out[c.App+"/"+c.Class] = restInk
			continue
		}
		n++
		out[c.App+"/"+c.Class] = n
	}
	return out
}

// label is how a class is called where its app is plain.
func label(class string) string {
	if class == "other/other" {
		return "everything else"
	}
	return strings.TrimPrefix(class, "whatsapp/")
}

// draw makes a figure of a chart.
func (d *drawer) draw(c *chart.Chart, caption string, full bool, t *table) *figure {
	d.next++
	f := &figure{Title: c.Title, Caption: caption, Full: full, Table: t}
	if t != nil {
		t.Folded = true
		t.Caption = c.Title
	}
	c.Desc = caption
	wide, narrow := 560, 340
	if full {
		wide = 960
	}
	height := 280
	if full {
		height = 320
	}
	svg, plot := c.SVG(fmt.Sprintf("c%dw", d.next), wide, height)
	f.Wide, f.Data.Wide = template.HTML(strings.Replace(svg, `class="chart"`, `class="chart wide"`, 1)), plot
	svg, plot = c.SVG(fmt.Sprintf("c%dn", d.next), narrow, 270)
	f.Narrow, f.Data.Narrow = template.HTML(strings.Replace(svg, `class="chart"`, `class="chart narrow"`, 1)), plot
	f.Data.Kind = map[chart.Kind]string{chart.Line: "curve", chart.Steps: "line", chart.Stacked: "stacked"}[c.Kind]
	f.Data.X, f.Data.Y = c.X.Unit, c.Y.Unit
	shared := len(c.Series) > 0
	for i := range c.Series {
		shared = shared && len(c.Series[i].X) == len(c.Series[0].X) && len(c.Series[i].X) > 0 && &c.Series[i].X[0] == &c.Series[0].X[0]
	}
	if shared {
		f.Data.Xs = c.Series[0].X
	}
	f.Data.Series = []lineSeries{}
	for i := range c.Series {
		s := &c.Series[i]
		l := lineSeries{Name: s.Name, Ink: s.Ink, Y: make([]*float64, len(s.Y))}
		if !shared {
			l.X = sixDigits(s.X)
		}
		for j, y := range s.Y {
			if !math.IsNaN(y) {
				v := round(y)
				l.Y[j] = &v
			}
		}
		f.Data.Series = append(f.Data.Series, l)
		f.Legend = append(f.Legend, legend{s.Name, swatch(c.Kind, s)})
	}
	if len(c.Bands) > 0 {
		f.Legend = append(f.Legend, legend{"detected event", `<svg viewBox="0 0 18 10" aria-hidden="true"><rect class="f band" width="18" height="10"/></svg>`})
	}
	return f
}

func sixDigits(v []float64) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = round(x)
	}
	return out
}

func swatch(k chart.Kind, s *chart.Series) template.HTML {
	if k == chart.Stacked {
		return template.HTML(fmt.Sprintf(`<svg viewBox="0 0 18 10" aria-hidden="true"><rect class="a%d" width="18" height="10" rx="2"/></svg>`, s.Ink))
	}
	dash := ""
	if s.Dashed {
		dash = " dash"
	}
	return template.HTML(fmt.Sprintf(`<svg viewBox="0 0 18 10" aria-hidden="true"><path class="l s%d%s" d="M1 5L17 5"/></svg>`, s.Ink, dash))
}

// bar is a little bar for a table.
func bar(share float64, inkNumber int) template.HTML {
	return template.HTML(fmt.Sprintf(`<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect class="k%d" width="%.1f" height="10"/></svg>`,
		inkNumber, 100*max(0, min(share, 1))))
}

func text(s string) cell   { return cell{Text: s, Class: "t"} }
func count1(n uint64) cell { return cell{Text: chart.Format(float64(n), chart.Count), Class: "n"} }
func value(v float64, u chart.Unit) cell {
	if v == 0 && (u == chart.Seconds || u == chart.Rate || u == chart.Millis) {
		return cell{Text: "–", Class: "n"}
	}
	return cell{Text: chart.Format(v, u), Class: "n"}
}

// number1 is a value of a series, which may have none.
func number1(v float64, u chart.Unit) cell {
	if math.IsNaN(v) {
		return cell{Text: "–", Class: "n"}
	}
	return cell{Text: chart.Format(v, u), Class: "n"}
}

func approx(n uint64, exact bool) cell {
	c := count1(n)
	if !exact {
		c.Text = "≈ " + c.Text
	}
	return c
}

func heads(names ...string) []column {
	out := make([]column, len(names))
	for i, n := range names {
		out[i] = column{Name: strings.TrimPrefix(n, "<"), Text: strings.HasPrefix(n, "<")}
	}
	return out
}

// clock returns the bins' starts in seconds since 1970, and one more, the end of
// the last.
func (t *Times) clock(n int) []float64 {
	out := make([]float64, n+1)
	for i := range out {
		out[i] = float64(t.first)/1e9 + float64(i)*t.Width
	}
	return out
}

func floats[T uint64 | int](v []T) []float64 {
	out := make([]float64, len(v)+1)
	for i, x := range v {
		out[i] = float64(x)
	}
	if len(v) > 0 {
		out[len(v)] = out[len(v)-1] // the last bin has an end
	}
	return out
}

// overTime is the table behind a chart over time. Long ones are thinned: the
// JSON has them all.
func overTime(c *chart.Chart) *table {
	t := &table{Head: heads("time (UTC)")}
	for i := range c.Series {
		t.Head = append(t.Head, column{Name: c.Series[i].Name})
	}
	if len(c.Series) == 0 {
		return t
	}
	n := len(c.Series[0].X) - 1
	step := (n + 119) / 120
	for i := 0; i < n; i += max(step, 1) {
		row := []cell{{Text: chart.Format(c.Series[0].X[i], chart.Clock)}}
		for j := range c.Series {
			row = append(row, number1(c.Series[j].Y[i], c.Y.Unit))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}
