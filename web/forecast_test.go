package web

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/nametap/nametap/analysis/forecast"
	"github.com/nametap/nametap/analysis/forecast/live"
)

// expectations are those of chat's server side: known an hour ahead, with an
// interval only ten seconds ahead; nothing else is.
func expectations() []live.Class {
	unknown := live.Forecast{Point: math.NaN(), Lower: math.NaN(), Upper: math.NaN()}
	classes := []live.Class{{App: "other", Class: "other"}, {App: "whatsapp", Class: "chat"}}
	for i := range classes {
		for q := range classes[i].Outlook {
			classes[i].Outlook[q].Latest = math.NaN()
			for h := range classes[i].Outlook[q].At {
				classes[i].Outlook[q].At[h] = unknown
			}
		}
	}
	o := &classes[1].Outlook[live.ServerRTT]
	o.Latest = 0.1
	for h := range o.At {
		o.At[h].Point = 0.11
	}
	o.At[0] = live.Forecast{Point: 0.106, Lower: 0.09, Upper: 0.13, Sums: forecast.Sums{Count: 10, Error: 3, Naive: 4, Intervals: 8, Covered: 6}}
	return classes
}

func TestForecastOnThePage(t *testing.T) {
	f := newFeed().run(time.Hour, false)
	cfg := f.config()
	cfg.Forecasts = expectations
	page, err := newPage(&cfg).render(spans[0])
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	for _, want := range []string{
		"; (–): that takes about a hundred forecasts",
		`id="app-whatsapp-next"`, `<th scope="col">In 10s</th><th scope="col">In 1m</th><th scope="col">In 5m</th><th scope="col">In 1h</th>`,
		"<tr><th scope=\"row\">chat</th><td>RTT server</td><td>100\u202fms</td><td>106\u202fms (90\u202fms to 130\u202fms)</td><td>110\u202fms (–)</td>",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if strings.Contains(text, "app-other-next") || strings.Contains(text, "RTT handset</td>") {
		t.Error("rows of what is not known")
	}
	sure := expectations()
	for h := range sure[1].Outlook[live.ServerRTT].At {
		sure[1].Outlook[live.ServerRTT].At[h] = sure[1].Outlook[live.ServerRTT].At[0]
	}
	cfg.Forecasts = func() []live.Class { return sure }
	if whole, err := newPage(&cfg).render(spans[0]); err != nil || strings.Contains(string(whole), "(–)") {
		t.Errorf("an interval is said to be missing where none is (%v)", err)
	}
	if bare, err := newPage(&Config{Watch: f.watcher}).render(spans[0]); err != nil || strings.Contains(string(bare), "What comes next") {
		t.Errorf("a table where nobody forecasts (%v)", err)
	}
}

func TestForecastAPI(t *testing.T) {
	f := newFeed()
	cfg := f.config()
	cfg.Forecasts = expectations
	s := &Server{cfg: cfg, bounds: usual, listeners: make(chan struct{}, 1), ending: make(chan struct{})}
	var got forecastAnswer
	if err := json.Unmarshal(get(t, s.routes(), "/api/v1/forecast").Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Classes) != 2 || len(got.Classes[1].Quantities) != int(live.Quantities) {
		t.Fatalf("%+v", got)
	}
	rtt := got.Classes[1].Quantities[live.ServerRTT]
	if near := rtt.Horizons[0]; rtt.Quantity != "server_rtt_s" || *rtt.Latest != 0.1 || near.Horizon != "10s" || *near.Point != 0.106 ||
		*near.Lower != 0.09 || *near.Upper != 0.13 || near.Scored != 10 || *near.Skill != 0.25 || *near.Coverage != 0.75 {
		t.Errorf("%+v", rtt)
	}
	if far := rtt.Horizons[3]; far.Horizon != "1h" || *far.Point != 0.11 || far.Lower != nil || far.Skill != nil || far.Coverage != nil {
		t.Errorf("%+v", far)
	}
	if loss := got.Classes[1].Quantities[live.DownlinkLoss]; loss.Latest != nil || loss.Horizons[0].Point != nil {
		t.Errorf("%+v", loss)
	}
	if body := get(t, f.handler(), "/api/v1/forecast").Body.String(); body != "{\"classes\":[]}\n" {
		t.Errorf("where nobody forecasts: %s", body)
	}
}
