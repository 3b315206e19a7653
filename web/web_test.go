package web

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/nametap/nametap/watch"
)

var update = flag.Bool("update", false, "write the golden page anew")

func (f *feed) config() Config {
	return Config{
		Listen: "127.0.0.1:0", Metrics: http.NotFoundHandler(), Watch: f.watcher,
		Logger: slog.New(slog.DiscardHandler),
	}
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// handler answers without a network.
func (f *feed) handler() http.Handler {
	s := &Server{cfg: f.config(), bounds: usual, listeners: make(chan struct{}, 1), ending: make(chan struct{})}
	return s.routes()
}

func get(t *testing.T, h http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
	return rec
}

// outage is a day with an outage that lasts.
func outageFeed() *feed { return newFeed().run(6*time.Hour, false).run(40*time.Minute, true) }

func TestGoldenPage(t *testing.T) {
	rec := get(t, outageFeed().handler(), "/")
	if rec.Code != http.StatusOK {
		t.Fatalf("status %d: %s", rec.Code, rec.Body)
	}
	path := filepath.Join("testdata", "page.html")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, rec.Body.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(rec.Body.Bytes(), want) {
		g, w := strings.Split(rec.Body.String(), "\n"), strings.Split(string(want), "\n")
		for i := range min(len(g), len(w)) {
			if g[i] != w[i] {
				t.Fatalf("%s:%d differs (go test ./web -update writes it anew)\n got %.300s\nwant %.300s", path, i+1, g[i], w[i])
			}
		}
		t.Fatalf("%s: %d lines, want %d", path, len(g), len(w))
	}
}

// elements calls f with every element.
func elements(n *html.Node, f func(*html.Node)) {
	if n.Type == html.ElementNode {
		f(n)
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		elements(c, f)
	}
}

func attributes(n *html.Node) map[string]string {
	all := map[string]string{}
	for _, a := range n.Attr {
		all[a.Key] = a.Val
	}
	return all
}

// TestPageIsSound: what a browser, a screen reader and the policy ask for.
func TestPageIsSound(t *testing.T) {
	rec := get(t, outageFeed().handler(), "/")
	h := rec.Header()
	if !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") || strings.Contains(h.Get("Content-Security-Policy"), "unsafe") {
		t.Errorf("policy %q", h.Get("Content-Security-Policy"))
	}
	if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", h)
	}
	root, err := html.Parse(rec.Body)
	if err != nil {
		t.Fatal(err)
	}
	ids, charts, headings := map[string]bool{}, 0, []string{}
	var refers []string
	elements(root, func(n *html.Node) {
		a := attributes(n)
		if id := a["id"]; id != "" {
			if ids[id] {
				t.Errorf("id %s is there twice", id)
			}
			ids[id] = true
		}
		if a["style"] != "" || n.Data == "style" {
			t.Errorf("%s has a style of its own: the policy forbids it", n.Data)
		}
		for name := range a {
			if strings.HasPrefix(name, "on") {
				t.Errorf("%s has %s: the policy forbids it", n.Data, name)
			}
		}
		if n.Data == "script" && a["src"] == "" {
			t.Error("a script in the page: the policy forbids it")
		}
		for _, ref := range []string{a["src"], a["href"]} {
			if strings.HasPrefix(ref, "http") || strings.HasPrefix(ref, "/") {
				t.Errorf("%s refers to %s: it must work behind a prefix and without other hosts", n.Data, ref)
			}
		}
		if by := a["aria-labelledby"]; by != "" {
			refers = append(refers, strings.Fields(by)...)
		}
		switch n.Data {
		case "svg":
			charts++
			if a["role"] != "img" || a["aria-labelledby"] == "" {
				t.Errorf("a chart without role or name: %v", a)
			}
		case "h1", "h2", "h3":
			headings = append(headings, n.Data)
		}
	})
	for _, id := range refers {
		if !ids[id] {
			t.Errorf("aria-labelledby names %s, which is not there", id)
		}
	}
	if charts != 5+6+5+6+6 {
		t.Errorf("%d charts", charts)
	}
	if len(headings) == 0 || headings[0] != "h1" || slices.Contains(headings[1:], "h1") {
		t.Errorf("headings %v", headings)
	}
}

// sourced is two hours of a source.
func sourced(s watch.Source, until time.Time) *feed {
	f := newFeed().run(2*time.Hour, false)
	f.watcher.SetSource(s, until)
	return f
}

// TestReady: what is worked, and whether it is what passes now.
func TestReady(t *testing.T) {
	f := newFeed()
	s := &Server{cfg: f.config(), bounds: usual}
	bare := &Server{}
	bare.SetReady(true)
	for _, tt := range []struct {
		server *Server
		then   func()
		want   string
	}{
		{s, func() {}, "503 not capturing\n"},
		{s, func() { s.SetReady(true) }, "200 capturing\n"},
		{s, func() { f.watcher.SetSource(watch.CatchingUp, time.Unix(0, epoch)) }, "200 capturing, still catching up\n"},
		{s, func() { f.watcher.SetSource(watch.Live, time.Time{}) }, "200 capturing\n"},
		{s, func() { f.watcher.SetSource(watch.Ended, time.Time{}) }, "503 not capturing: the traffic has ended\n"},
		{bare, func() {}, "200 capturing\n"},
	} {
		tt.then()
		rec := httptest.NewRecorder()
		tt.server.readyz(rec, nil)
		if got := fmt.Sprint(rec.Code, " ", rec.Body); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

// TestSourceIsNews: who listens learns that no more comes, though no time passes.
func TestSourceIsNews(t *testing.T) {
	f := newFeed()
	p := newPage(&Config{Watch: f.watcher})
	before, _ := p.render(spans[0])
	_, newer := f.watcher.News()
	f.watcher.SetSource(watch.Ended, time.Time{})
	select {
	case <-newer:
	default:
		t.Error("nobody is told")
	}
	if after, _ := p.render(spans[0]); bytes.Equal(after, before) {
		t.Error("the page is the old one")
	}
}

// idleFeed is a tap to which nothing comes.
func idleFeed() *feed {
	f := &feed{watcher: watch.New(nil)}
	for f.s.Time = epoch; f.s.Time <= epoch+int64(time.Minute); f.s.Time += int64(watch.Fine) {
		f.observe()
	}
	return f
}

func TestPageSays(t *testing.T) {
	page := func(f *feed, path string) string { return get(t, f.handler(), path).Body.String() }
	tests := []struct {
		name, page string
		has, not   []string
	}{
		{"before any traffic", page(newFeed(), "/"), []string{"The first packet came at 09:00:00 UTC. This range is drawn in steps of ten seconds, and the first whole one ends at 09:00:20 UTC, in 20s", "tap: warm_up", "None so far"}, []string{"<svg"}},
		{"before any packet", page(idleFeed(), "/"), []string{"No packet has come yet, in 1m0s of watching", `aria-current="true">10m`}, []string{"<svg"}},
		{"the first minute", page(newFeed().run(time.Minute, false), "/"), []string{`aria-current="true">10m`, "<svg", "whatsapp"}, []string{`id="waiting"`}},
		{
			"the first minute of a longer range", page(newFeed().run(time.Minute, false), "/?range=12h"),
			[]string{"drawn in steps of five minutes, and the first whole one ends at 09:10 UTC, in 9m0s. The range 10m has what there is"},
			[]string{"<svg"},
		},
		{"the first hour", page(newFeed().run(11*time.Minute, false), "/"), []string{`aria-current="true">1h`, "<svg"}, nil},
		{"the second hour", page(newFeed().run(90*time.Minute, false), "/"), []string{`aria-current="true">6h`, "<svg"}, nil},
		{"the second day", page(newFeed().run(30*time.Hour, false), "/"), []string{`aria-current="true">12h`, "<svg"}, nil},
		{
			"interfaces", page(newFeed().run(time.Hour, false), "/"),
			[]string{`<th scope="row">eth1</th><td><span class="state ok">delivers</span></td><td data-label="Packets/s">45</td><td data-label="On the wire">280 kbit/s</td><td data-label="Drops/s">0</td><td data-label="Packets">162000</td>`},
			nil,
		},
		{
			"checks that cannot judge", page(newFeed().run(time.Hour, false), "/"),
			[]string{`3 of 12 checks cannot tell</span></a>`, `<li class="unknown"><b>duplicates</b> <span class="state unknown">cannot tell</span>`, `<li class="ok"><b>drops</b>`},
			[]string{`in order</span> <span class="value">too little`},
		},
		{
			"figures of a moment and of the whole", page(outageFeed(), "/"),
			[]string{"So far: 4", "In the five minutes from 22 Feb 2014 15:02:30 UTC, when most signals spoke:", "4.0 times the connection attempts"},
			nil,
		},
		{"times of figures", page(newFeed().run(2*time.Hour, false), "/"), []string{"By class, 10:55 to 11:00", `<span class="newest">latest: 10:55 to 11:00</span>`}, []string{"Last five minutes"}},
		{
			"whole days", page(newFeed().run(49*time.Hour, false), "/?range=48h"),
			[]string{`">23 Feb</text>`, `">24 Feb</text>`, `">12:00</text>`},
			[]string{`">00:00</text>`},
		},
		{"what is not slow", page(outageFeed(), "/"), []string{"keep a connection open after the transfer"}, nil},
		{"in order", page(newFeed().run(2*time.Hour, false), "/"), []string{"tap healthy", "None so far", "whatsapp/media"}, []string{`class="alert`}},
		{
			"what is still catching up", page(sourced(watch.CatchingUp, time.Unix(0, epoch).Add(3*time.Hour)), "/"),
			[]string{"tap healthy", ">catching up, until 22 Feb 2014 12:00:00 UTC<"},
			[]string{"has ended"},
		},
		{
			"what is over", page(sourced(watch.Ended, time.Time{}), "/"),
			[]string{"the traffic has ended</a>", "last figures, rates and checks those of 10:55 to 11:00."},
			[]string{"tap healthy", "catching up"},
		},
		{"an outage", page(outageFeed(), "/"), []string{"whatsapp: app failure", "s-outage", "Outage ·"}, nil},
		{"an outage that is over", page(outageFeed().run(time.Hour, false), "/"), []string{"s-outage", `<li class="over">`}, []string{`class="alert"`, "Outage ·"}},
		{"the last hour", page(outageFeed(), "/?range=1h"), []string{`href="?range=1h" aria-current="true"`}, nil},
		{"works without a script", page(newFeed(), "/"), []string{`<noscript><meta http-equiv="refresh"`}, nil},
		{
			"hostile names", page(newFeed("<script>alert(1)</script>", `"onload="x`, "quiet").run(time.Hour, false), "/"),
			[]string{"&lt;script&gt;alert(1)"},
			[]string{"<script>alert", `"onload="x`},
		},
	}
	if n := strings.Count(page(outageFeed(), "/"), heldOpen); n != 1 {
		t.Errorf("what is not slow is said %d times", n)
	}
	for _, tt := range tests {
		for _, want := range tt.has {
			if !strings.Contains(tt.page, want) {
				t.Errorf("%s: %q is not on the page", tt.name, want)
			}
		}
		for _, want := range tt.not {
			if strings.Contains(tt.page, want) {
				t.Errorf("%s: %q is on the page", tt.name, want)
			}
		}
	}
}

func TestRoutes(t *testing.T) {
	h := newFeed().run(time.Hour, false).handler()
	tests := []struct {
		path   string
		status int
		kind   string
	}{
		{"/", 200, "text/html"},
		{"/?range=48h", 200, "text/html"},
		{"/?range=3h", 400, "text/plain"},
		{"/nothing", 404, "text/plain"},
		{"/assets/style.css", 200, "text/css"},
		{"/assets/live.js", 200, "text/javascript"},
		{"/assets/icon.svg", 200, "image/svg+xml"},
		{"/assets/page.html", 404, "text/plain"},
		{"/assets/", 404, "text/plain"},
		{"/api/v1/summary", 200, "application/json"},
		{"/api/v1/series", 200, "application/json"},
		{"/api/v1/series?range=1h&app=whatsapp", 200, "application/json"},
		{"/api/v1/series?range=x", 400, "application/json"},
		{"/api/v1/events", 200, "application/json"},
		{"/api/v1/health", 200, "application/json"},
		{"/healthz", 200, "text/plain"},
	}
	for _, tt := range tests {
		rec := get(t, h, tt.path)
		if rec.Code != tt.status || !strings.HasPrefix(rec.Header().Get("Content-Type"), tt.kind) {
			t.Errorf("%s: %d %s, want %d %s", tt.path, rec.Code, rec.Header().Get("Content-Type"), tt.status, tt.kind)
		}
	}
	bare := (&Server{cfg: Config{Metrics: http.NotFoundHandler()}}).routes()
	if rec := get(t, bare, "/"); rec.Code != 404 {
		t.Errorf("without a watcher / answers %d", rec.Code)
	}
}

// TestReadyWhileAllAreUp: ready is who captures, from all interfaces.
func TestReadyWhileAllAreUp(t *testing.T) {
	var gone []string
	s := &Server{cfg: Config{Metrics: http.NotFoundHandler(), Down: func() []string { return gone }}}
	tests := []struct {
		captures bool
		gone     []string
		status   int
		says     string
	}{
		{false, nil, 503, "not capturing\n"},
		{true, nil, 200, "capturing\n"},
		{true, []string{"eth1"}, 503, "not capturing from eth1: down, without a carrier or gone\n"},
		{true, []string{"eth1", "eth2"}, 503, "not capturing from eth1, eth2: down, without a carrier or gone\n"},
		{false, []string{"eth1"}, 503, "not capturing\n"},
	}
	for _, tt := range tests {
		gone = tt.gone
		s.SetReady(tt.captures)
		if rec := get(t, s.routes(), "/readyz"); rec.Code != tt.status || rec.Body.String() != tt.says {
			t.Errorf("%v, %v: %d %q", tt.captures, tt.gone, rec.Code, rec.Body.String())
		}
	}
	bare := &Server{cfg: Config{Metrics: http.NotFoundHandler()}}
	bare.SetReady(true)
	if rec := get(t, bare.routes(), "/readyz"); rec.Code != 200 {
		t.Errorf("with nothing that could be down: %d", rec.Code)
	}
}

// keys collects the keys of JSON, however deep.
func keys(v any, into map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			into[k] = true
			keys(x, into)
		}
	case []any:
		for _, x := range v {
			keys(x, into)
		}
	}
}

// TestDocs holds docs/api.md to what is served: each route has its chapter, and
// each chapter every key and no other.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	cfg := outageFeed().config()
	cfg.Forecasts = expectations
	h := (&Server{cfg: cfg, bounds: usual}).routes()
	served := map[string]map[string]bool{}
	for _, route := range []string{"summary", "series", "events", "health", "forecast"} {
		var v any
		if err := json.Unmarshal(get(t, h, "/api/v1/"+route).Body.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		served[route] = map[string]bool{}
		keys(v, served[route])
	}
	for _, route := range []string{"`GET /`", "`GET /api/v1/stream`"} {
		if !strings.Contains(string(text), "| "+route) {
			t.Errorf("docs/api.md: %s is not in the table", route)
		}
	}
	chapters := strings.Split(string(text), "\n## GET /api/v1/")
	if len(chapters)-1 != len(served) {
		t.Errorf("docs/api.md: %d chapters, want %d", len(chapters)-1, len(served))
	}
	for _, chapter := range chapters[1:] {
		route, body, _ := strings.Cut(chapter, "\n")
		if !strings.Contains(chapters[0], "| `GET /api/v1/"+route+"`") {
			t.Errorf("docs/api.md: %s is not in the table", route)
		}
		for k := range served[route] {
			if !strings.Contains(body, "`"+k+"`") {
				t.Errorf("docs/api.md: %s does not say what %s is", route, k)
			}
		}
		for line := range strings.Lines(body) {
			cell, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
			if !strings.HasPrefix(line, "| `") {
				continue
			}
			for _, k := range strings.Split(cell, ", ") {
				if k = strings.Trim(k, "`"); !served[route][k] {
					t.Errorf("docs/api.md: %s has no %s", route, k)
				}
			}
		}
	}
	for r := range watch.Reasons {
		if !strings.Contains(string(text), "`"+r.String()+"`") {
			t.Errorf("docs/api.md: reason %s is missing", r)
		}
	}
}

// listen opens a stream and returns its lines.
func listen(t *testing.T, s *Server) (*http.Response, <-chan string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr()+"/api/v1/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	lines := make(chan string, 64)
	go func() {
		defer close(lines)
		in := bufio.NewScanner(resp.Body)
		for in.Scan() {
			lines <- in.Text()
		}
	}()
	return resp, lines
}

func expect(t *testing.T, lines <-chan string, want string) {
	t.Helper()
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				t.Fatalf("the stream ended before %q", want)
			}
			if strings.HasPrefix(line, want) {
				return
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("no %q", want)
		}
	}
}

// TestStream: news come, also long after the bounds of a request are over; between
// them the server says that it is there; its end ends the stream.
func TestStream(t *testing.T) {
	f := newFeed()
	s, err := start(f.config(), bounds{header: time.Second, read: 50 * time.Millisecond, write: 50 * time.Millisecond, idle: time.Second, beat: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	resp, lines := listen(t, s)
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("content type %q", got)
	}
	expect(t, lines, "event: news")
	expect(t, lines, "event: still")
	expect(t, lines, "data: {}") // without it a browser drops the event
	for range 2 {                // the breath between them is longer than the bounds
		f.run(watch.Fine, false)
		expect(t, lines, "event: news")
		expect(t, lines, "data: {\"version\":")
	}
	stop(t, s)
	for range lines { // it ends
	}
}

func TestStreamIsBounded(t *testing.T) {
	s := served(t, newFeed(), usual)
	for range mostListeners {
		_, lines := listen(t, s)
		expect(t, lines, "event: news")
	}
	resp, _ := listen(t, s)
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("one more: %s", resp.Status)
	}
}

// TestPageIsMadeOnce: many who look at one state get the same bytes.
func TestPageIsMadeOnce(t *testing.T) {
	f := outageFeed()
	p := newPage(&Config{Watch: f.watcher})
	first, err := p.render(spans[0])
	if err != nil {
		t.Fatal(err)
	}
	again, _ := p.render(spans[0])
	if &first[0] != &again[0] {
		t.Error("made twice")
	}
	f.run(watch.Fine, true)
	if next, _ := p.render(spans[0]); bytes.Equal(next, first) {
		t.Error("not made anew")
	}
}

func TestMean(t *testing.T) {
	number := func(v float64) *float64 { return &v }
	got := mean([]*float64{number(1), number(3), nil, number(5), nil, nil}, 2)
	if len(got) != 3 || *got[0] != 2 || *got[1] != 5 || got[2] != nil {
		t.Errorf("means %v", got)
	}
}

func TestFormat(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{bits(0), "0\u202fbit/s"},
		{bits(999.4), "999\u202fbit/s"},
		{bits(999.6), "1\u202fkbit/s"},
		{bits(1_234_567), "1.23\u202fMbit/s"},
		{bits(45_600_000_000), "45.6\u202fGbit/s"},
		{number(0.5), "0.5"},
		{number(12.34), "12.3"},
		{number(123.4), "123"},
		{number(12_345), "12.3\u202fk"},
		{milliseconds(0.1234), "123\u202fms"},
		{percent(nil), "–"},
		{whole(nil), "–"},
		{whole(pointer(1.04)), "100\u202f%"},
		{whole(pointer(0.5)), "50\u202f%"},
		{checkValue(watch.Check{Reason: "warm_up", Value: pointer(90), Limit: 1200}), "watched for 1.5 of 20 min"},
		{clock(int64(0)), "–"},
		{clock((*string)(nil)), "–"},
		{clock(epoch), "22 Feb 2014 09:00:00 UTC"},
	} {
		if tt.got != tt.want {
			t.Errorf("%q, want %q", tt.got, tt.want)
		}
	}
}

func BenchmarkPage(b *testing.B) {
	f := outageFeed()
	p := newPage(&Config{Watch: f.watcher})
	for b.Loop() {
		p.cache = map[string]rendered{}
		body, err := p.render(spans[3])
		if err != nil {
			b.Fatal(err)
		}
		_, _ = fmt.Fprint(io.Discard, len(body))
	}
}

func pointer(v float64) *float64 { return &v }
