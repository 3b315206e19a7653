package trial

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nametap/nametap/detect"
)

// TestScenarios is the trial as the command runs it, with one seed.
func TestScenarios(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long, and has no goroutines for the race detector to watch")
	}
	for _, s := range Scenarios() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			r := s.Run(t.Context(), 1, 28)
			for _, f := range r.Failures {
				t.Error(f)
			}
			if r.Expected != "" && r.Found != r.Runs || r.Runs == 0 {
				t.Errorf("found in %d of %d runs", r.Found, r.Runs)
			}
			if s.Name == "outage-2014" && r.Delay(1) > 9*time.Minute {
				t.Errorf("found after up to %v: too close to the ten minutes in which it must be", r.Delay(1))
			}
			// The times of an event are those of its beginning and end, as far
			// as an alarm that is clear can tell.
			if r.Within > 0 && r.Within <= 600 && (r.StartOff > 300 || r.EndOff > 300) {
				t.Errorf("start off by %g s, end by %g s", r.StartOff, r.EndOff)
			}
		})
	}
}

// TestSeed: the same seed gives the same table, another one another.
func TestSeed(t *testing.T) {
	s := scenario(t, "outage-2014")
	s.everyMinute = false
	run := func(seed uint64) []run {
		return []run{s.simulate(seed, &s.networks[0], starts[0].at(), LeastDays)}
	}
	if a, b := run(5), run(5); !reflect.DeepEqual(a, b) {
		t.Errorf("%+v, then %+v", a, b)
	}
	a, b := newNetwork(5, 1000).step(0, nil, 0, 0), newNetwork(6, 1000).step(0, nil, 0, 0)
	if reflect.DeepEqual(a, b) {
		t.Error("the seed decides nothing")
	}
}

func scenario(t testing.TB, name string) Scenario {
	t.Helper()
	for _, s := range Scenarios() {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no scenario %s", name)
	return Scenario{}
}

// TestJudge: what is wrong with a run is said, and counted.
func TestJudge(t *testing.T) {
	s := Scenario{Expect: detect.AppFailure, Within: 10 * time.Minute}
	begin, end := epoch, epoch+int64(time.Hour)
	event := func(from, to int64, v detect.Verdict, after time.Duration) told {
		return told{detect.Event{App: "whatsapp", Start: from, End: to, Verdict: v}, begin + int64(after), v}
	}
	tests := []struct {
		name  string
		told  []told
		found int
		stray int
		says  string
	}{
		{"good", []told{event(begin, end, detect.AppFailure, 6*time.Minute)}, 1, 0, ""},
		{"nothing", nil, 0, 0, "not found"},
		{"late", []told{event(begin, end, detect.AppFailure, 10*time.Minute)}, 0, 0, "found after 10m0s"},
		{"called otherwise", []told{event(begin, end, detect.OurNetwork, 6*time.Minute)}, 0, 0, "called our-network"},
		{"first called otherwise", []told{{detect.Event{App: "whatsapp", Start: begin, End: end, Verdict: detect.AppFailure}, begin, detect.OurNetwork}}, 0, 0, "first called our-network"},
		{"no end", []told{event(begin, 0, detect.AppFailure, 6*time.Minute)}, 0, 0, "no end"},
		{"twice", []told{event(begin, begin+1, detect.AppFailure, 6*time.Minute), event(begin+2, end, detect.AppFailure, 50*time.Minute)}, 0, 0, "2 events"},
		{"another", []told{event(begin, end, detect.AppFailure, 6*time.Minute), event(end+int64(time.Hour), end+int64(2*time.Hour), detect.AppFailure, 2*time.Hour)}, 0, 1, "is no event"},
	}
	for _, tt := range tests {
		r := Result{}
		s.judge(&r, &run{begin: begin, end: end, told: tt.told})
		if r.Found != tt.found || r.FalseAlerts != tt.stray || r.Good() != (tt.says == "") || !strings.Contains(strings.Join(r.Failures, "\n"), tt.says) {
			t.Errorf("%s: %+v", tt.name, r)
		}
	}
	quiet := Result{}
	(&Scenario{}).judge(&quiet, &run{begin: begin, end: begin, told: []told{event(begin, end, detect.TapFailure, 0)}})
	if quiet.FalseAlerts != 1 || quiet.Good() {
		t.Errorf("an event where there is none: %+v", quiet)
	}
}

// follow runs a network with a failure between two steps and calls before with
// each step before the detector gets it; a nil step is left out.
func follow(n *network, steps int, f *failure, from, to int, before func(d **detect.Detector, s *detect.Step) *detect.Step) (events []detect.Event) {
	d := detect.New()
	for step := range steps {
		part := 0.0
		if step >= from && step < to {
			part = 1
		}
		after := max(0, step-to+1)
		if f == nil {
			after = 0
		}
		s := n.step(step, f, part, after)
		if before != nil {
			s = before(&d, s)
		}
		if s != nil {
			events = append(events, d.Step(s)...)
		}
	}
	return events
}

// TestRestart: a state that is saved and loaded between any two steps goes on to
// the same events as one that was not.
func TestRestart(t *testing.T) {
	outage := scenario(t, "outage-2014").fail
	from := 16*perDay + perDay*18/24
	days := 18 * perDay
	want := follow(newNetwork(7, 3000), days, &outage, from, from+120, nil)
	saves := 0
	got := follow(newNetwork(7, 3000), days, &outage, from, from+120, func(d **detect.Detector, s *detect.Step) *detect.Step {
		step := int((s.Start - epoch) / int64(detect.Hop))
		if step%1013 != 0 && (step < from-2 || step > from+6) {
			return s
		}
		saves++
		loaded := reloaded(*d)
		b, _ := json.Marshal(*d)
		again, _ := json.Marshal(loaded)
		if !bytes.Equal(b, again) {
			t.Fatal("a loaded state is saved differently")
		}
		*d = loaded
		return s
	})
	if saves < 15 || len(want) < 2 || !reflect.DeepEqual(got, want) {
		t.Errorf("%d saves: got %d events, want %d\n%+v\n%+v", saves, len(got), len(want), got, want)
	}
}

// TestGap: a pause of the capture, like a restart of the daemon, is no event.
func TestGap(t *testing.T) {
	events := follow(newNetwork(5, 5000), 18*perDay, nil, 0, 0, func(_ **detect.Detector, s *detect.Step) *detect.Step {
		if (s.Start-epoch)/int64(detect.Hop)%997 > 960 {
			return nil
		}
		return s
	})
	if events != nil {
		t.Errorf("%+v", events)
	}
}

// TestAdopted: what stays different becomes how things are.
func TestAdopted(t *testing.T) {
	f := failure{apps: "whatsapp", attempts: 1, success: 0.6, answered: 1, bytes: 1}
	events := follow(newNetwork(5, 5000), 14*perDay, &f, 7*perDay, 99*perDay, nil)
	if len(events) != 2 || events[0].End != 0 {
		t.Fatalf("%+v", events)
	}
	if got := time.Duration(events[1].End - events[1].Start); got < 72*time.Hour || got > 73*time.Hour {
		t.Errorf("lasted %v", got)
	}
}

// TestRecoveryIsTold: when the storm of reconnects after an outage is over.
func TestRecoveryIsTold(t *testing.T) {
	outage := scenario(t, "outage-2014").fail
	events := follow(newNetwork(9, 20000), 18*perDay, &outage, 16*perDay, 16*perDay+72, nil)
	if len(events) != 3 {
		t.Fatalf("%+v", events)
	}
	last := events[2]
	if last.RecoveryEnd <= last.End || last.RecoveryEnd > last.End+int64(2*time.Hour)+1 {
		t.Errorf("over at %d, recovered at %d", last.End, last.RecoveryEnd)
	}
}

// TestNightAfterAnOutage: an outage of the evening, before there is a season, ends
// in the night. What was usual before it is then no measure of how much there
// should be.
func TestNightAfterAnOutage(t *testing.T) {
	s := scenario(t, "outage-2014")
	for seed := uint64(2000); seed < 2004; seed++ {
		r := Result{}
		x := s.simulate(seed, &s.networks[0], starts[0].at(), 4)
		if s.judge(&r, &x); !r.Good() {
			t.Error(r.Failures)
		}
	}
}

// TestOldStep: a step that was given before changes nothing.
func TestOldStep(t *testing.T) {
	d := detect.New()
	n := newNetwork(3, 1000)
	d.Step(n.step(0, nil, 0, 0))
	s := n.step(1, nil, 0, 0)
	d.Step(s)
	before, _ := json.Marshal(d)
	if e := d.Step(s); e != nil {
		t.Error(e)
	}
	after, _ := json.Marshal(d)
	if !bytes.Equal(before, after) {
		t.Error("learned twice")
	}
}

func BenchmarkStep(b *testing.B) {
	n := newNetwork(3, 20000)
	d := detect.New()
	steps := make([]*detect.Step, 22*perDay)
	for i := range steps {
		steps[i] = n.step(i, nil, 0, 0)
	}
	for _, s := range steps[:21*perDay] {
		d.Step(s)
	}
	b.ResetTimer()
	for i := range b.N {
		s := *steps[21*perDay+i%perDay]
		s.Start = epoch + int64(21*perDay+i)*int64(detect.Hop)
		d.Step(&s)
	}
}
