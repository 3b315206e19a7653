package report

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/nametap/nametap/synth"
)

// browser starts a headless Chromium whose every connection would end in a trap.
func browser(t *testing.T) (context.Context, *trap) {
	t.Helper()
	var chromium string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			chromium = path
			break
		}
	}
	if chromium == "" {
		t.Skip("no Chromium: apt-get install chromium")
	}
	tr := &trap{}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: tr, ReadHeaderTimeout: time.Second}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	options := append([]chromedp.ExecAllocatorOption{}, chromedp.DefaultExecAllocatorOptions[:]...)
	options = append(options,
		chromedp.ExecPath(chromium), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()),
		chromedp.ProxyServer("http://"+listener.Addr().String()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-gpu", true),
		chromedp.Flag("no-first-run", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-sync", true),
	)
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	return ctx, tr
}

// trap is a proxy that nobody should ask.
type trap struct {
	mu    sync.Mutex
	asked []string
}

func (t *trap) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t.mu.Lock()
	t.asked = append(t.asked, r.Method+" "+r.Host)
	t.mu.Unlock()
	http.Error(w, "nothing leaves", http.StatusTeapot)
}

// listen notes what a page says and asks for.
func listen(ctx context.Context, t *testing.T) func() []string {
	t.Helper()
	var mu sync.Mutex
	var out []string
	add := func(format string, args ...any) {
		mu.Lock()
		out = append(out, fmt.Sprintf(format, args...))
		mu.Unlock()
	}
	err := chromedp.Listen(ctx, func(ev any) {
		switch e := ev.(type) {
		case *runtime.EventConsoleAPICalled:
			add("console %s", e.Type)
		case *runtime.EventExceptionThrown:
			add("exception %+v", e.ExceptionDetails)
		case *log.EventEntryAdded:
			add("log %s: %s", e.Entry.Level, e.Entry.Text)
		case *network.EventRequestWillBeSent:
			if u := e.Request.URL; !strings.HasPrefix(u, "file:") && !strings.HasPrefix(u, "data:") {
				add("request %s", u)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return out
	}
}

// survey is what a script finds in the page.
type survey struct {
	Figures, Charts, EmptyCharts, Unnamed, Tables, Untitled, Overflow, Headings, Sections int
	Painted                                                                               float64
	Problems                                                                              []string
}

const surveyScript = `(() => {
  const all = (q, r) => [...(r || document).querySelectorAll(q)];
  const s = {Figures: 0, Charts: 0, EmptyCharts: 0, Unnamed: 0, Tables: 0, Untitled: 0, Overflow: 0, Headings: 0, Sections: 0, Problems: []};
  for (const f of all("figure")) {
    s.Figures++;
    if (!f.querySelector("figcaption h3") || !f.querySelector("details table tbody tr")) s.Problems.push("figure without caption or table: " + f.textContent.slice(0, 40));
    const data = JSON.parse(f.querySelector("script").textContent);
    const points = data.series.reduce((n, x) => n + x.y.filter((y) => y !== null).length, 0);
    for (const svg of all("svg.chart", f)) {
      s.Charts++;
      const drawn = all("path.l[class*=' s'],path.f[class*=' a']", svg).filter((p) => p.getAttribute("d").length > 8);
      if (!points || !drawn.length) { s.EmptyCharts++; s.Problems.push("empty: " + f.querySelector("h3").textContent); }
      const title = svg.querySelector("title"), desc = svg.querySelector("desc");
      if (!title.textContent || !desc.textContent || svg.getAttribute("role") !== "img" || svg.tabIndex !== 0 ||
          svg.getAttribute("aria-labelledby") !== title.id + " " + desc.id) s.Unnamed++;
      for (const t of all("text", svg)) if (/NaN|undefined|Infinity/.test(t.textContent)) s.Problems.push("text " + t.textContent);
    }
  }
  for (const t of all("table")) { s.Tables++; if (!t.querySelector("thead th[scope=col]") || !t.querySelector("tbody th[scope=row]")) s.Untitled++; }
  s.Headings = all("h1").length; s.Sections = all("section[aria-labelledby] > h2").length;
  s.Overflow = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const ids = all("[id]").map((e) => e.id);
  if (new Set(ids).size !== ids.length) s.Problems.push("ids that stand twice");
  for (const a of all("nav a")) if (!document.querySelector(a.getAttribute("href"))) s.Problems.push("link to nowhere " + a.href);
  return s;
})()`

// paintScript waits for the first picture.
const paintScript = `new Promise((done) => {
  const look = () => {
    const p = performance.getEntriesByName("first-contentful-paint")[0];
    if (p) done(p.startTime); else requestAnimationFrame(look);
  };
  look();
})`

// TestPageInBrowser opens the report as a reader does.
func TestPageInBrowser(t *testing.T) {
	ctx, tr := browser(t)
	x := trace(t, "outage-2014", synth.Options{})
	events, err := ReadEvents(write(t, "posts.csv", "time,posts\n2014-02-22 17:40,100\n2014-02-22 18:40,300\n2014-02-22 20:40,200\n2014-02-22 22:40,10\n"))
	if err != nil {
		t.Fatal(err)
	}
	places, err := OpenPlaces("", "", write(t, "p.csv", "prefix,asn,org,country,city,lat,lon\n0.0.0.0/0,36351,SoftLayer,US,Dallas,32.78,-96.80\n"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "report.html")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.report(Options{Tap: &Position{48.21, 16.37}, Events: events, Places: places}).WriteHTML(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	heard := listen(ctx, t)
	for _, width := range []int64{400, 900, 1280, 1920} {
		err := chromedp.Do(ctx, chromedp.EmulateViewport(width, 900), chromedp.Navigate("file://"+path))
		if err != nil {
			t.Fatal(err)
		}
		s := evaluate[survey](ctx, t, surveyScript)
		// The size in which a chart's text is shown, after scaling.
		fontSize := evaluate[float64](ctx, t, `Math.min(...[...document.querySelectorAll("svg.chart")].filter((s) => s.getBoundingClientRect().width > 0)
			.map((s) => 12 * s.getBoundingClientRect().width / s.viewBox.baseVal.width))`)
		if len(s.Problems) > 0 || s.EmptyCharts > 0 || s.Unnamed > 0 || s.Untitled > 0 {
			t.Errorf("%d pixels: %+v", width, s)
		}
		if s.Figures < 20 || s.Charts != 2*s.Figures || s.Sections != 9 || s.Headings != 1 {
			t.Errorf("%d pixels: %+v", width, s)
		}
		if s.Overflow > 0 {
			t.Errorf("%d pixels: the page is %d wider than the window", width, s.Overflow)
		}
		// A phone's menu moves under the finger; elsewhere it is whole, in rows if need be.
		menu := evaluate[string](ctx, t, `(() => { const u = document.querySelector("nav ul"), b = u.getBoundingClientRect();
			return [...u.querySelectorAll("a")].filter((a) => a.getBoundingClientRect().right > b.right - parseFloat(getComputedStyle(u).paddingRight) + 0.5).map((a) => a.textContent)
				.concat(u.offsetHeight > u.clientHeight ? ["a scrollbar"] : []).join(", "); })()`)
		if width > 736 && menu != "" {
			t.Errorf("%d pixels: out of the menu's frame: %s", width, menu)
		}
		if fontSize < 9 {
			t.Errorf("%d pixels: text of charts is shown in %.1f pixels", width, fontSize)
		}
		painted, err := chromedp.Run(ctx, chromedp.Evaluate[float64](paintScript, chromedp.EvalAwaitPromise))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d pixels: first contentful paint after %.0f ms, %d figures, text of charts at least %.1f pixels", width, painted, s.Figures, fontSize)
		if painted > 1000 {
			t.Errorf("%d pixels: first paint after %v ms", width, painted)
		}
	}
	readValues(ctx, t)
	if out := heard(); len(out) > 0 {
		t.Errorf("the page said or asked: %v", out)
	}
	// Chromium itself calls home whatever it is told; the page must not.
	for _, a := range tr.asked {
		if !strings.Contains(a, "google") && !strings.Contains(a, "gvt1") {
			t.Errorf("asked for %s", a)
		}
	}
}

// TestPageOfAMillionFlows: a month of them is on the screen within a second.
func TestPageOfAMillionFlows(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	ctx, _ := browser(t)
	r := rand.New(rand.NewPCG(6, 6))
	c := NewCollector(Options{})
	const n = 1_000_000
	for i := range uint64(n) {
		rec := forge(r, i, n)
		c.Add(&rec)
	}
	path := filepath.Join(t.TempDir(), "million.html")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Report().WriteHTML(f); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	heard := listen(ctx, t)
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1280, 900), chromedp.Navigate("file://"+path)); err != nil {
		t.Fatal(err)
	}
	painted, err := chromedp.Run(ctx, chromedp.Evaluate[float64](paintScript, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatal(err)
	}
	if s := evaluate[survey](ctx, t, surveyScript); len(s.Problems) > 0 || s.EmptyCharts > 0 || s.Figures < 10 {
		t.Errorf("%+v", s)
	}
	if out := heard(); len(out) > 0 {
		t.Errorf("the page said or asked: %v", out)
	}
	t.Logf("first contentful paint after %.0f ms", painted)
	if painted > 1000 {
		t.Errorf("first paint after %v ms", painted)
	}
}

func evaluate[T any](ctx context.Context, t *testing.T, script string) T {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](script))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// readValues moves pointer and keys over a chart.
func readValues(ctx context.Context, t *testing.T) {
	t.Helper()
	const chart = `document.querySelector("#experience figure svg.wide")`
	const out = `document.querySelector("#experience figure .read")`
	live := evaluate[string](ctx, t, chart+`.focus(); `+out+`.getAttribute("aria-live")`)
	if err := chromedp.Do(ctx, chromedp.KeyEvent(kb.ArrowRight)); err != nil {
		t.Fatal(err)
	}
	byKey := evaluate[string](ctx, t, out+`.textContent`)
	byPointer := evaluate[string](ctx, t, `(() => { const s = `+chart+`, b = s.getBoundingClientRect();
		s.dispatchEvent(new PointerEvent("pointermove", {clientX: b.left + b.width * 0.6, clientY: b.top + 20}));
		return `+out+`.textContent + "|" + s.querySelectorAll(".pointer circle").length; })()`)
	after := evaluate[string](ctx, t, chart+`.dispatchEvent(new PointerEvent("pointerleave")); `+out+`.textContent`)
	t.Logf("by key %q, by pointer %q", byKey, byPointer)
	if !strings.Contains(byKey, "photo") || !strings.Contains(byKey, "%") || live != "polite" {
		t.Errorf("the arrow key reads %q (aria-live %q)", byKey, live)
	}
	if !strings.Contains(byPointer, "video") || !strings.HasSuffix(byPointer, "|3") || after != "" {
		t.Errorf("the pointer reads %q, and %q when it has left", byPointer, after)
	}
}

// TestPageWithoutScript: with JavaScript off everything but the read-out is
// there.
func TestPageWithoutScript(t *testing.T) {
	x := trace(t, "quiet-hour", synth.Options{})
	var b strings.Builder
	if err := x.report(Options{}).WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	html := strings.ReplaceAll(b.String(), "http://www.w3.org/2000/svg", "") // a namespace, not an address
	for _, bad := range []string{"<noscript", "hidden>", "src=", "@import", "url(", "http://", "https://", " style=", " onclick"} {
		if strings.Contains(html, bad) {
			t.Errorf("%q in the page", bad)
		}
	}
	if n := strings.Count(html, "<svg class=\"chart wide\""); n < 10 {
		t.Errorf("%d charts are drawn", n)
	}
	if !strings.Contains(html, "default-src &#39;none&#39;") {
		t.Error("no content security policy")
	}
}
