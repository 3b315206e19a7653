package web

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nametap/nametap/watch"
)

var pictures = flag.String("pictures", "", "write pictures of the page into this folder")

// keep writes a picture of the page, where they are asked for.
func (c *chromium) keep(name string) {
	c.t.Helper()
	if *pictures == "" {
		return
	}
	if err := os.WriteFile(filepath.Join(*pictures, name), c.picture(), 0o644); err != nil {
		c.t.Fatal(err)
	}
}

const browserCharts = 5 + 6 + 5 + 6 + 6

// TestBrowser: the page works in a real browser and keeps itself up to date, and
// the policy stops nothing that it needs.
func TestBrowser(t *testing.T) {
	c := browser(t)
	f := outageFeed()
	s := served(t, f, usual)
	c.open("http://" + s.Addr() + "/")
	page := c.await("whatsapp: app failure")
	if n := strings.Count(page, "<svg"); n != browserCharts {
		t.Errorf("%d charts", n)
	}
	// Somebody reads on, and has closed a class.
	c.evaluate(`document.querySelector("details").open = false; document.querySelector("footer a").focus()`)
	for range 3 {
		f.run(2*watch.Fine, true)
		c.await(clock(f.s.Time))
	}
	if got := c.evaluate(`document.querySelector("details").open + " " + document.activeElement.textContent`); got != "false metrics" {
		t.Errorf("after the update: %s", got)
	}
	// Also what holds the focus is kept up to date, and holds it still.
	c.evaluate(`document.querySelector("#state a").focus()`)
	f.run(2*watch.Fine, true)
	c.await(clock(f.s.Time))
	if got := c.evaluate(`document.activeElement.className`); got != "pill ok" {
		t.Errorf("after the update the focus is on %q", got)
	}
	// The outage ends: what the page is made of changes.
	f.run(4*watch.Coarse, false)
	c.await(`<li class="over">`)
	if n := c.evaluate(`document.querySelectorAll(".alert").length`); n != "0" {
		t.Errorf("%s alerts after the end", n)
	}
	if c.log != nil {
		t.Errorf("the browser says %v", c.log)
	}
}

// front is what stands between a browser and the server, as a proxy does.
type front struct {
	*httptest.Server
	refuse atomic.Pointer[string] // prefix of the paths to which it answers 502 itself; nil: none
}

func inFront(t *testing.T, s *Server) *front {
	t.Helper()
	behind := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: s.Addr()})
	behind.Transport = &http.Transport{DisableKeepAlives: true}
	behind.ErrorLog = log.New(io.Discard, "", 0)
	f := &front{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if prefix := f.refuse.Load(); prefix != nil && strings.HasPrefix(r.URL.Path, *prefix) {
			http.Error(w, "bad gateway", http.StatusBadGateway)
			return
		}
		behind.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

// sever refuses what begins with prefix from now on, and breaks off what runs.
func (f *front) sever(prefix string) {
	f.refuse.Store(&prefix)
	f.CloseClientConnections()
}

// TestBrowserComesBack: a stream that is refused, for which a browser gives up, is
// opened again; until then the header says that the page is not live, and since
// when.
func TestBrowserComesBack(t *testing.T) {
	c := browser(t)
	f := outageFeed()
	proxy := inFront(t, served(t, f, usual))
	c.open(proxy.URL + "/")
	c.await("whatsapp: app failure")
	const badge = `document.querySelector("header [role=status]").textContent`
	off := func() string {
		return c.evaluate(badge + ` + "|" + document.querySelector("header").className + "|" + document.title`)
	}
	if got := off(); got != "||Outage · nametap" {
		t.Fatalf("while all is well the header says %q", got)
	}
	// All is gone, as while the daemon starts anew behind a proxy.
	proxy.sever("/")
	c.awaitValue(badge+`.startsWith("not connected since ")`, "true")
	if got := off(); !strings.HasSuffix(got, " UTC, trying again|off|Not connected · Outage · nametap") {
		t.Errorf("while nothing answers the header says %q", got)
	}
	if worst := c.evaluate(contrast); worst != "" {
		t.Errorf("hard to read: %s", worst)
	}
	c.keep("not-connected.png")
	// The page is to be had and the stream is not, as for one listener too many.
	f.run(watch.Fine, true)
	proxy.sever("/api/v1/stream")
	c.await(clock(f.s.Time))
	c.awaitValue(badge+`.startsWith("no live updates since ")`, "true")
	// Both are.
	proxy.refuse.Store(nil)
	c.awaitValue(badge, "")
	f.run(watch.Fine, true)
	c.await(clock(f.s.Time))
	if got := off(); got != "||Outage · nametap" {
		t.Errorf("when all is well again the header says %q", got)
	}
}

// TestBrowserWaits: the waits between tries grow, have an end, and differ from one
// browser to the next.
func TestBrowserWaits(t *testing.T) {
	c := browser(t)
	s := served(t, newFeed(), usual)
	c.call("Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": refused}, nil)
	c.open("http://" + s.Addr() + "/")
	var waits [2][]float64
	for i := range waits {
		if i > 0 {
			c.open("http://" + s.Addr() + "/")
		}
		c.awaitValue(`waits.length >= 12`, "true")
		if err := json.Unmarshal([]byte(c.evaluate(`JSON.stringify(waits)`)), &waits[i]); err != nil {
			t.Fatal(err)
		}
		for k, got := range waits[i][:12] {
			middle := min(1000*math.Pow(2, float64(k)), 60_000)
			if got < middle/2 || got > middle*3/2 {
				t.Errorf("wait %d is %.0f ms, want about %.0f", k, got, middle)
			}
		}
	}
	if slices.Equal(waits[0][:12], waits[1][:12]) {
		t.Errorf("twice the same waits %v", waits[0])
	}
}

// refused stands in for a stream that is always refused, and for a clock that runs
// ahead: it notes the waits between tries.
const refused = `
window.waits = [];
const later = window.setTimeout;
window.EventSource = class extends EventTarget {
  static OPEN = 1;
  readyState = 2;
  constructor() { super(); later(() => this.onerror()); }
  close() {}
};
window.fetch = () => Promise.reject(new Error("refused"));
window.setTimeout = (f, long) => {
  if (f.name !== "listen") { return later(f, long); }
  waits.push(long);
  return later(f, 1);
};`

// TestBrowserWithoutScript: all of it is there without JavaScript, and it renews
// itself.
func TestBrowserWithoutScript(t *testing.T) {
	c := browser(t)
	f := outageFeed()
	s := served(t, f, usual)
	c.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": true}, nil)
	c.open("http://" + s.Addr() + "/")
	page := c.await("whatsapp: app failure")
	if n := strings.Count(page, "<svg"); n != browserCharts {
		t.Errorf("%d charts", n)
	}
	if len(s.listeners) != 0 {
		t.Error("a script listens")
	}
	f.run(watch.Fine, true)
	c.await(clock(f.s.Time))
	if c.log != nil {
		t.Errorf("the browser says %v", c.log)
	}
}

// TestBrowserWidths: at any width, light and dark, nothing sticks out, text can
// be told from its ground and stands on nothing else, and there are no errors.
func TestBrowserWidths(t *testing.T) {
	c := browser(t)
	cfg := outageFeed().config()
	cfg.Forecasts = expectations
	s, err := start(cfg, usual)
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, s)
	grounds := map[string]string{}
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int{320, 450, 900, 1280} {
			c.look(width, scheme)
			c.open("http://" + s.Addr() + "/")
			c.await("whatsapp: app failure")
			if got := c.evaluate(`document.documentElement.scrollWidth`); got != fmt.Sprint(width) {
				t.Errorf("%s, %d wide: the page is %s wide", scheme, width, got)
			}
			if cut := c.evaluate(`(e => e.scrollWidth - e.clientWidth)(document.getElementById("interfaces"))`); cut != "0" {
				t.Errorf("%s, %d wide: the interfaces stick out by %s", scheme, width, cut)
			}
			if cut := c.evaluate(`[...document.querySelectorAll("caption")].filter((e) => {
				const seen = e.closest(".scroll").getBoundingClientRect(), range = document.createRange();
				range.selectNodeContents(e);
				return [...range.getClientRects()].some((r) => r.left < seen.left || r.right > seen.right);
			}).map((e) => e.textContent).join(", ")`); cut != "" {
				t.Errorf("%s, %d wide: cut off: %s", scheme, width, cut)
			}
			grounds[scheme] = c.evaluate(`getComputedStyle(document.body).backgroundColor`)
			if worst := c.evaluate(contrast); worst != "" {
				t.Errorf("%s, %d wide: hard to read: %s", scheme, width, worst)
			}
			if bad := c.evaluate(overlaps); bad != "" {
				t.Errorf("%s, %d wide: one over the other: %s", scheme, width, bad)
			}
			c.keep(fmt.Sprintf("page-%s-%d.png", scheme, width))
		}
	}
	if grounds["light"] == grounds["dark"] {
		t.Errorf("light and dark have the same ground %s", grounds["light"])
	}
	if c.log != nil {
		t.Errorf("the browser says %v", c.log)
	}
}

// overlaps finds text that stands on other text, and numbers of an axis that stand
// on the curves.
const overlaps = `(() => {
  const bad = new Set(), lines = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n = walk.nextNode(); n; n = walk.nextNode()) {
    if (!n.textContent.trim() || n.parentElement.closest("title, desc, noscript, script, .skip")) { continue; }
    const range = document.createRange();
    range.selectNodeContents(n);
    const rects = n.parentElement.ownerSVGElement ? [n.parentElement.getBoundingClientRect()] : [...range.getClientRects()];
    rects.filter((r) => r.width > 0).forEach((r) => lines.push({ r, n, text: n.textContent.trim() }));
  }
  lines.sort((a, b) => a.r.top - b.r.top);
  lines.forEach((a, i) => {
    for (let k = i + 1; k < lines.length && lines[k].r.top < a.r.bottom - 1; k++) {
      const b = lines[k];
      if (a.n !== b.n && a.r.left < b.r.right - 1 && b.r.left < a.r.right - 1) { bad.add(a.text + " / " + b.text); }
    }
  });
  for (const svg of document.querySelectorAll("svg.chart")) {
    const edge = Math.min(...[...svg.querySelectorAll(".line, .area, .span, .axis")].map((e) => e.getBoundingClientRect().left));
    for (const e of svg.querySelectorAll(".level")) {
      const r = e.getBoundingClientRect();
      if (r.right > edge || r.left < svg.getBoundingClientRect().left) { bad.add(svg.id + " " + e.textContent + " and the curves"); }
    }
  }
  return [...bad].join(", ");
})()`

// contrast finds text that has less than 4.5 to 1 against its ground (WCAG 2.2,
// success criterion 1.4.3). Charts stand on the ground of their figure.
const contrast = `(() => {
  const parse = (c) => (c.match(/[\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => { v /= 255; return v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; })
    .reduce((s, v, i) => s + v * [.2126, .7152, .0722][i], 0);
  const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] > 0) { return c; } } return [255, 255, 255]; };
  const bad = new Set();
  for (const e of document.querySelectorAll("body *")) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || e.closest("title, desc, noscript, script, .skip")) { continue; }
    const style = getComputedStyle(e);
    const ink = light(parse(e.ownerSVGElement ? style.fill : style.color)), back = light(ground(e));
    const ratio = (Math.max(ink, back) + .05) / (Math.min(ink, back) + .05);
    if (ratio < 4.5) { bad.add(e.tagName + "." + (e.getAttribute("class") || "") + " " + ratio.toFixed(2)); }
  }
  return [...bad].join(", ");
})()`
