package web

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nametap/nametap/watch"
)

var pictures = flag.String("pictures", "", "write pictures of the page into this folder")

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
	s := served(t, outageFeed(), usual)
	grounds := map[string]string{}
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int{320, 390, 900, 1280} {
			c.look(width, scheme)
			c.open("http://" + s.Addr() + "/")
			c.await("whatsapp: app failure")
			if got := c.evaluate(`document.documentElement.scrollWidth`); got != fmt.Sprint(width) {
				t.Errorf("%s, %d wide: the page is %s wide", scheme, width, got)
			}
			if cut := c.evaluate(`(e => e.scrollWidth - e.clientWidth)(document.getElementById("interfaces"))`); cut != "0" {
				t.Errorf("%s, %d wide: the interfaces stick out by %s", scheme, width, cut)
			}
			grounds[scheme] = c.evaluate(`getComputedStyle(document.body).backgroundColor`)
			if worst := c.evaluate(contrast); worst != "" {
				t.Errorf("%s, %d wide: hard to read: %s", scheme, width, worst)
			}
			if bad := c.evaluate(overlaps); bad != "" {
				t.Errorf("%s, %d wide: one over the other: %s", scheme, width, bad)
			}
			if *pictures != "" {
				name := filepath.Join(*pictures, fmt.Sprintf("page-%s-%d.png", scheme, width))
				if err := os.WriteFile(name, c.picture(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
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
