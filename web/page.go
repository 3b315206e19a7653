package web

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nametap/nametap/analysis/forecast/live"
	"github.com/nametap/nametap/detect"
	"github.com/nametap/nametap/watch"
	"github.com/nametap/nametap/web/chart"
)

//go:embed assets
var assets embed.FS

// pageTemplate escapes whatever comes from rules and packets; only the charts,
// which escape for themselves, are put in as they are.
var pageTemplate = template.Must(template.New("page.html").Funcs(template.FuncMap{
	"bits": bits, "number": number, "percent": percent, "share": share, "whole": whole, "milliseconds": milliseconds, "clock": clock,
	"meaning": meaning, "verdict": verdict, "label": label, "check": checkValue, "state": checkState, "unjudged": unjudged,
	"port": portState, "sofar": soFar, "unsure": unsure,
}).ParseFS(assets, "assets/page.html"))

// policy allows what the server itself serves and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// span is a choice of how far back the page looks.
type span struct {
	Name string
	Long time.Duration
}

var spans = []span{{"10m", 10 * time.Minute}, {"1h", time.Hour}, {"6h", 6 * time.Hour}, {"12h", 12 * time.Hour}, {"48h", 48 * time.Hour}}

// usualSpan is what a series spans that is not asked for a range, and the most that
// the page does.
const usualSpan = "12h"

// fitting is the least range that holds everything there is, up to the usual one:
// a young daemon would else have a page of next to nothing.
func fitting(reach time.Duration) string {
	for _, s := range spans {
		if reach <= s.Long || s.Name == usualSpan {
			return s.Name
		}
	}
	return usualSpan
}

// spanOf returns the range that is asked for, or the one of the name otherwise.
func spanOf(r *http.Request, otherwise string) (span, bool) {
	name := cmp.Or(r.URL.Query().Get("range"), otherwise)
	for _, s := range spans {
		if s.Name == name {
			return s, true
		}
	}
	return span{}, false
}

// page renders the page, once a state and span however many look at it.
type page struct {
	watch     *watch.Watcher
	forecasts func() []live.Class // nil: none
	title     string

	mu    sync.Mutex
	cache map[string]rendered
}

type rendered struct {
	version uint64
	body    []byte
}

func newPage(cfg *Config) *page {
	return &page{watch: cfg.Watch, forecasts: cfg.Forecasts, title: cmp.Or(cfg.Title, "nametap"), cache: map[string]rendered{}}
}

func (p *page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s, ok := spanOf(r, fitting(p.watch.Reach()))
	if !ok {
		answer(w, http.StatusBadRequest, "range is one of "+spanNames())
		return
	}
	body, err := p.render(s)
	if err != nil {
		answer(w, http.StatusInternalServerError, "the page could not be made")
		return
	}
	h := w.Header()
	secure(h)
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	_, _ = w.Write(body) // the client may be gone
}

func spanNames() string {
	var names []string
	for _, s := range spans {
		names = append(names, s.Name)
	}
	return strings.Join(names, ", ")
}

func secure(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
}

func (p *page) render(s span) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	version, _ := p.watch.News()
	if c, ok := p.cache[s.Name]; ok && c.version == version {
		return c.body, nil
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, p.content(s)); err != nil {
		return nil, err
	}
	p.cache[s.Name] = rendered{version, b.Bytes()}
	return b.Bytes(), nil
}

// content is what the template shows.
type content struct {
	Title   string
	Span    string
	Spans   []span
	Summary watch.Summary
	Health  watch.Health
	Open    []watch.Event // that last
	Events  []watch.Event
	Over    string // the five minutes, or less, that rates are taken over
	Waiting string // what is awaited, where there is no app to show
	Apps    []app
	Quiet   []string // classes without traffic in the span
}

// app is one app: its charts as a whole, its classes now, and theirs.
type app struct {
	Name    string
	ID      string
	Classes []watch.ClassSummary
	Next    []outlook
	Charts  []picture
	Parts   []part
}

type part struct {
	Name, ID string
	Charts   []picture
}

// picture is a chart with its heading and the keys of its colours, whose values are
// those of the newest point.
type picture struct {
	Title, Unit string
	Newest      string // when that was
	Keys        []key
	SVG         template.HTML
	Note        string
}

// heldOpen is what has to be known of durations before anybody is blamed.
const heldOpen = "Bad is not always slow: apps and devices that keep a connection open after the transfer, or use it for several, look slower than they are."

type key struct{ Name, Class, Value string }

func (p *page) content(s span) content {
	c := content{
		Title: p.title, Span: s.Name, Spans: spans, Summary: p.watch.Summary(), Health: p.watch.Health(),
		Events: p.watch.Events().Events,
	}
	for _, e := range c.Events {
		if e.End == 0 {
			c.Open = append(c.Open, e)
		}
	}
	c.Over = over(&c.Summary)
	var forecasts []live.Class
	if p.forecasts != nil {
		forecasts = p.forecasts()
	}
	series := p.watch.Series(s.Long, "")
	d := drawer{start: parse(series.Start), step: time.Duration(series.Step * float64(time.Second)), bins: series.Bins, together: 1}
	if series.Bins > mostBins && series.Bins%perPoint == 0 {
		d.together = perPoint
	}
	for i := range series.Apps {
		whole := &series.Apps[i]
		if silent(whole) {
			continue
		}
		a := app{Name: whole.App, ID: identifier("app", whole.App)}
		a.Charts = d.pictures(whole, a.ID, c.Events)
		a.Next = outlooks(forecasts, whole.App)
		for k := range series.Classes {
			class := &series.Classes[k]
			if class.App != whole.App {
				continue
			}
			if silent(class) {
				c.Quiet = append(c.Quiet, class.App+"/"+class.Class)
				continue
			}
			id := identifier("class", class.App+"-"+class.Class)
			a.Classes = append(a.Classes, classNow(c.Summary.Classes, class))
			a.Parts = append(a.Parts, part{class.Class, id, d.pictures(class, id, c.Events)})
		}
		if len(a.Parts) == 1 {
			a.Parts = nil // the whole says it all
		}
		c.Apps = append(c.Apps, a)
	}
	if len(c.Apps) == 0 {
		c.Waiting = p.waiting(&c.Summary, s)
	}
	return c
}

// over says what time the summary's rates are taken over.
func over(s *watch.Summary) string {
	end := parse(s.Time).Truncate(watch.Fine)
	if s.Time == nil || s.Window == 0 {
		return "Nothing watched yet"
	}
	begin := end.Add(-time.Duration(s.Window * float64(time.Second)))
	return moment(begin) + " to " + moment(end)
}

// waiting says what is awaited, and until when, where the page has nothing to show.
func (p *page) waiting(s *watch.Summary, of span) string {
	if s.Since == nil {
		return fmt.Sprintf("No packet has come yet, in %s of watching. Under The tap: what each interface delivers.", p.watch.Watched().Round(time.Second))
	}
	step, end := p.watch.Pending(of.Long)
	long := "ten seconds"
	if step > watch.Fine {
		long = "five minutes"
	}
	now := parse(s.Time)
	if p.watch.Watched() <= 2*step && now.Before(end) {
		text := fmt.Sprintf("The first packet came at %s UTC. This range is drawn in steps of %s, and the first whole one ends at %s UTC, in %s.",
			parse(s.Since).Format("15:04:05"), long, moment(end), end.Sub(now).Round(time.Second))
		if step > watch.Fine {
			text += fmt.Sprintf(" The range %s has what there is by now.", fitting(p.watch.Reach()))
		}
		return text
	}
	return "No TCP connection passed in this range. Under The tap: what each interface delivers."
}

func classNow(list []watch.ClassSummary, of *watch.ClassSeries) watch.ClassSummary {
	for i := range list {
		if list[i].App == of.App && list[i].Class == of.Class {
			return list[i]
		}
	}
	return watch.ClassSummary{App: of.App, Class: of.Class}
}

// silent says that the class had no flow.
func silent(s *watch.ClassSeries) bool {
	return !some(s.Flows) && !some(s.DownlinkBytes) && !some(s.UplinkBytes) && !some(s.SYN)
}

// identifier makes an HTML id of a name from the rules.
func identifier(kind, name string) string {
	return kind + "-" + strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, name)
}

func parse(stamp *string) time.Time {
	if stamp == nil {
		return time.Time{}
	}
	t, _ := time.Parse(time.RFC3339Nano, *stamp) // our own
	return t
}

// A chart is some hundred points wide: where there are many more short bins, a
// few of them make a point.
const (
	mostBins = 300
	perPoint = 6
)

// drawer makes charts over one stretch of time.
type drawer struct {
	start    time.Time
	step     time.Duration
	bins     int
	together int // bins to a point
}

// pictures are the charts of a class or app.
func (d *drawer) pictures(s *watch.ClassSeries, id string, events []watch.Event) []picture {
	perSecond := func(v float64) float64 { return v * 8 / d.step.Seconds() }
	perMinute := func(v float64) float64 { return v * 60 / d.step.Seconds() }
	same := func(v float64) float64 { return v }
	marks := spansOf(events, s.App, s.Class, d.start.Add(d.step*time.Duration(d.bins)))
	newest := d.newest()
	draw := func(n int, title, unit string, form chart.Form, format func(float64) string, scale func(float64) float64, series ...chart.Series) picture {
		c := chart.Chart{
			ID: fmt.Sprintf("%s-%d", id, n), Title: strings.TrimSpace(s.App+" "+s.Class) + ": " + title,
			Start: d.start, Step: d.step * time.Duration(d.together), Bins: d.bins / d.together, Form: form, Spans: marks, Format: format,
		}
		p := picture{Title: title, Newest: newest}
		for _, x := range series {
			x.Values = scaled(mean(x.Values, d.together), scale)
			c.Series = append(c.Series, x)
			p.Keys = append(p.Keys, key{x.Name, x.Class, last(x.Values, format)})
		}
		p.Unit, c.Level = level(unit, c.Most())
		p.SVG = template.HTML(c.SVG()) //nolint:gosec // chart escapes what it is given
		return p
	}
	out := []picture{
		draw(1, "Volume", "bit/s", chart.Mirrored, bits, perSecond,
			chart.Series{Name: "downlink", Class: "c-down", Values: s.DownlinkBytes}, chart.Series{Name: "uplink", Class: "c-up", Values: s.UplinkBytes}),
		draw(2, "Flows a minute", "", chart.Lines, number, perMinute,
			chart.Series{Name: "opened", Class: "c-flows", Values: s.Flows}, chart.Series{Name: "first payload both ways", Class: "c-good", Values: s.Carried}),
		draw(3, "Segments a minute", "", chart.Lines, number, perMinute,
			chart.Series{Name: "SYN", Class: "c-flows", Values: s.SYN}, chart.Series{Name: "SYN/ACK", Class: "c-good", Values: s.SYNACK},
			chart.Series{Name: "RST", Class: "c-bad", Values: s.RST}),
		draw(4, "Round-trip time", "ms", chart.Lines, milliseconds, same,
			chart.Series{Name: "to server", Class: "c-server", Values: s.ServerRTT}, chart.Series{Name: "to handset", Class: "c-access", Values: s.AccessRTT}),
	}
	out = append(out, draw(6, "Segments lost", "%", chart.Lines, func(v float64) string { return percent(&v) }, same,
		chart.Series{Name: "server side", Class: "c-server", Values: s.ServerLoss}, chart.Series{Name: "handset side", Class: "c-access", Values: s.AccessLoss}))
	if s.Kind == "session" || s.Class == "" && !rated(s) {
		return out
	}
	transfers := draw(5, "Transfers a minute", "", chart.Stacked, number, perMinute,
		chart.Series{Name: "good", Class: "c-good", Values: s.GoodTransfers},
		chart.Series{Name: "acceptable", Class: "c-fair", Values: s.FairTransfers},
		chart.Series{Name: "bad", Class: "c-bad", Values: s.BadTransfers})
	if s.Class == "" && some(s.BadTransfers) { // once an app, not under each class
		transfers.Note = heldOpen
	}
	return append(out, transfers)
}

// newest says which time the last point of a chart stands for.
func (d *drawer) newest() string {
	if d.bins < d.together {
		return ""
	}
	end := d.start.Add(d.step * time.Duration(d.bins/d.together*d.together))
	return moment(end.Add(-d.step*time.Duration(d.together))) + " to " + moment(end)
}

func rated(s *watch.ClassSeries) bool {
	return some(s.GoodTransfers) || some(s.FairTransfers) || some(s.BadTransfers)
}

// some says that not all of the list is nothing.
func some(list []*float64) bool {
	return slices.ContainsFunc(list, func(v *float64) bool { return v != nil && *v > 0 })
}

// mean returns the means of so many neighbours each.
func mean(values []*float64, together int) []*float64 {
	if together == 1 {
		return values
	}
	out := make([]*float64, len(values)/together)
	for i := range out {
		sum, n := 0.0, 0
		for _, v := range values[i*together : (i+1)*together] {
			if v != nil {
				sum += *v
				n++
			}
		}
		if n > 0 {
			sum /= float64(n)
			out[i] = &sum
		}
	}
	return out
}

func scaled(values []*float64, scale func(float64) float64) []*float64 {
	out := make([]*float64, len(values))
	for i, v := range values {
		if v != nil {
			x := scale(*v)
			out[i] = &x
		}
	}
	return out
}

// last writes the newest value.
func last(values []*float64, format func(float64) string) string {
	if n := len(values); n > 0 && values[n-1] != nil {
		return format(*values[n-1])
	}
	return "–"
}

// spansOf are the events that a chart of the class marks.
func spansOf(events []watch.Event, app, class string, end time.Time) []chart.Span {
	var out []chart.Span
	for i := range events {
		e := &events[i]
		blind := e.App == ""
		if !blind && (e.App != app || class != "" && len(e.Classes) > 0 && !contains(e.Classes, class)) {
			continue
		}
		s := chart.Span{From: time.Unix(0, e.Start), To: end, Class: "s-outage", Name: verdict(e.Verdict)}
		if blind {
			s.Class = "s-blind"
		}
		if e.End != 0 {
			s.To = time.Unix(0, e.End)
		}
		out = append(out, s)
	}
	return out
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// verdict says what failed.
func verdict(v detect.Verdict) string {
	switch v {
	case detect.AppFailure:
		return "app failure"
	case detect.Unreachable:
		return "servers unreachable"
	case detect.DNSFailure:
		return "name resolution fails"
	case detect.OurNetwork:
		return "our own network"
	case detect.TapFailure:
		return "the tap is blind"
	}
	return string(v)
}

// meaning says what a verdict rests on.
func meaning(v detect.Verdict) string {
	switch v {
	case detect.AppFailure:
		return "Servers accept connections and fail above them."
	case detect.Unreachable:
		return "Connections are tried and not accepted, or not even tried any more."
	case detect.DNSFailure:
		return "Names are asked for and not answered."
	case detect.OurNetwork:
		return "Other apps fail as well, or the app fails behind one gateway only."
	case detect.TapFailure:
		return "All traffic fell at once, or one direction of it. Nothing is said about apps."
	}
	return ""
}

// asset serves the style, the script and the icon that are compiled in.
func asset() http.Handler {
	files := http.FileServerFS(assets)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/assets/style.css", "/assets/live.js", "/assets/icon.svg":
			secure(w.Header())
			w.Header().Set("Cache-Control", "no-cache")
			files.ServeHTTP(w, r)
		default:
			http.NotFound(w, r)
		}
	})
}
