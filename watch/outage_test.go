package watch

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/demo"
	"github.com/nametap/nametap/detect"
	"github.com/nametap/nametap/probe"
	"github.com/nametap/nametap/synth"
)

// TestOutage2014 watches the day of the great outage through the real engine:
// it is found within ten minutes of its start, called what it was, and nothing
// else is; and so is the storm of reconnects after it.
func TestOutage2014(t *testing.T) {
	if testing.Short() {
		t.Skip("a day of traffic takes some seconds")
	}
	scenario, err := synth.LoadScenario("outage-2014")
	if err != nil {
		t.Fatal(err)
	}
	g, err := synth.New(scenario, synth.Options{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	var told []Event
	w := New(func(e Event) { told = append(told, e) })
	e, err := probe.New(probe.Config{
		Shards: 1, // how many changes nothing, and several wait for each other all day
		Memory: probe.MinMemory, Subscribers: probe.DefaultSubscribers(), Cascade: classify.DefaultCascade(),
		DNSGrace: 10 * time.Second, DNSStale: 6 * time.Hour, Rules: classify.Builtin(), Dedup: 5 * time.Millisecond,
		Watch: w.Observe, WatchEvery: Fine,
	})
	if err != nil {
		t.Fatal(err)
	}
	begin := g.Start().Add(g.Milestones()[0].At)
	if err := e.Run(context.Background(), demo.NewSource(g, 1, g.End().Sub(g.Start()))); err != nil {
		t.Fatal(err)
	}
	for _, e := range told {
		j, _ := e.MarshalJSON()
		t.Logf("%s", j)
	}
	for _, c := range w.Health().Checks {
		v := -1.0
		if c.Value != nil {
			v = *c.Value
		}
		t.Logf("%s %v %g", c.Reason, c.Active, v)
	}
	events := w.Events().Events
	if len(events) != 1 {
		t.Fatalf("%d events, want one", len(events))
	}
	found := events[0]
	if late := time.Duration(found.Detected - begin.UnixNano()); late < 0 || late > 9*time.Minute {
		t.Errorf("found %v after it began", late)
	} else {
		t.Logf("found %v after it began", late)
	}
	for _, e := range told {
		if e.App != "whatsapp" || e.Verdict != detect.AppFailure {
			t.Errorf("called %s of %s", e.Verdict, e.App)
		}
	}
	// The scenario announces a storm of reconnects: the program sees it.
	var states []string
	for _, e := range told {
		states = append(states, e.State())
	}
	if got := strings.Join(states, " "); got != "lasts over recovered" {
		t.Errorf("told of states %s", got)
	}
	if storm := time.Duration(found.RecoveryEnd - found.End); storm <= 0 || storm > time.Hour {
		t.Errorf("the storm lasted %v", storm)
	} else {
		t.Logf("the storm lasted %v", storm)
	}
}
