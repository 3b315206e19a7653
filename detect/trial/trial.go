package trial

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/nametap/nametap/detect"
)

// LeastDays is how long a trial must be at least: what is usual has to be learned
// before something can go wrong.
const LeastDays = 3

// Result is how the detector did in one scenario.
type Result struct {
	Scenario string `json:"scenario"`
	Text     string `json:"text"`
	// Expected is the verdict that was to be found; empty for nothing.
	Expected detect.Verdict `json:"expected"`
	Within   float64        `json:"within_s"`
	// Runs are simulations of all days each; Found are those in which the event
	// was found, as one.
	Runs  int `json:"runs"`
	Found int `json:"found"`
	// Verdicts are what was found was called in the end, most frequent first.
	Verdicts []Count `json:"verdicts"`
	// Delays are from the beginning to the alarm, in seconds, rising.
	Delays []float64 `json:"delays_s"`
	// StartOff and EndOff are the greatest errors of the events' times.
	StartOff float64 `json:"start_off_s"`
	EndOff   float64 `json:"end_off_s"`
	// FalseAlerts are events of what was not there.
	FalseAlerts int `json:"false_alerts"`
	// Failures are the runs that went otherwise than they should, in words.
	Failures []string `json:"failures"`
}

// Count is how often a verdict was given.
type Count struct {
	Verdict detect.Verdict `json:"verdict"`
	Runs    int            `json:"runs"`
}

// Run simulates the scenario in each of its networks from each of its beginnings.
// When ctx ends it returns what it has by then.
func (s *Scenario) Run(ctx context.Context, seed uint64, days int) Result {
	r := Result{
		Scenario: s.Name, Text: s.Text, Expected: s.Expect, Within: s.Within.Seconds(),
		Verdicts: []Count{}, Delays: []float64{}, Failures: []string{},
	}
	for k := range s.networks {
		for i, begin := range s.begins(days) {
			if ctx.Err() != nil {
				return r
			}
			x := s.simulate(seed*1000+uint64(10*i+k), &s.networks[k], begin, days)
			s.judge(&r, &x)
		}
	}
	r.sort()
	return r
}

func (r *Result) sort() {
	slices.Sort(r.Delays)
	slices.SortStableFunc(r.Verdicts, func(a, b Count) int { return b.Runs - a.Runs })
}

// Add puts another seed's result of the same scenario to r, which may be empty.
func (r *Result) Add(o *Result) {
	if r.Scenario == "" {
		*r = *o
		return
	}
	r.Runs += o.Runs
	r.Found += o.Found
	for _, c := range o.Verdicts {
		r.called(c.Verdict, c.Runs)
	}
	r.Delays = append(r.Delays, o.Delays...)
	r.StartOff, r.EndOff = max(r.StartOff, o.StartOff), max(r.EndOff, o.EndOff)
	r.FalseAlerts += o.FalseAlerts
	r.Failures = append(r.Failures, o.Failures...)
	r.sort()
}

// run is one simulation.
type run struct {
	name       string
	begin, end int64
	told       []told // in the order in which they were told of, each event once
}

// told is an event as it stood last, and when it was told of.
type told struct {
	detect.Event
	at    int64
	first detect.Verdict // what it was called then
}

func (x *run) tell(e detect.Event, at int64) {
	for i := range x.told {
		if o := &x.told[i]; o.App == e.App && o.Group == e.Group && o.Start == e.Start {
			o.Event = e
			return
		}
	}
	x.told = append(x.told, told{e, at, e.Verdict})
}

func (s *Scenario) simulate(seed uint64, k *kind, begin time.Duration, days int) run {
	x := run{name: fmt.Sprintf("seed %d, %.0f subscribers, from %s on", seed, k.subscribers, epochPlus(begin)), begin: epoch + int64(begin)}
	x.end = x.begin + int64(s.lasts)
	net := newNetwork(seed, k.subscribers, k.groups...)
	if s.summerTime {
		net.summerTime = (days-3)*perDay + perDay/12 // at two at night
	}
	detector := detect.New()
	for step := range days * perDay {
		part, after := x.covers(step)
		made := net.step(step, &s.fail, part, after)
		if s.restarts && x.restarts(&detector, step) {
			continue
		}
		for _, e := range detector.Step(made) {
			x.tell(e, made.Start+int64(detect.Hop))
		}
	}
	return x
}

func epochPlus(d time.Duration) string {
	return fmt.Sprintf("day %d, %s", int(d/(24*time.Hour))+1, time.Unix(0, epoch+int64(d)).UTC().Format("15:04:05"))
}

// covers says how much of the step the failure takes, and how many steps ago it
// was over.
func (x *run) covers(step int) (part float64, after int) {
	if x.end == x.begin {
		return 0, 0
	}
	hop := float64(detect.Hop)
	from, to := float64(x.begin-epoch)/hop, float64(x.end-epoch)/hop
	part = math.Max(0, math.Min(float64(step+1), to)-math.Max(float64(step), from))
	if float64(step) >= to {
		after = step - int(to) + 1
	}
	return part, after
}

// Restarts: every nine hours, and an hour after the failure begins.
const (
	restartEvery = int(9 * time.Hour / detect.Hop)
	restartTakes = int(20 * time.Minute / detect.Hop)
)

// restarts saves the detector and loads it again as its time comes. It reports
// whether the step is one that is missed.
func (x *run) restarts(d **detect.Detector, step int) bool {
	since := step % restartEvery
	if in := step - int((x.begin+int64(time.Hour)-epoch)/int64(detect.Hop)); in >= 0 && in < restartTakes {
		since = in
	}
	if since == 0 {
		*d = reloaded(*d)
	}
	return since < restartTakes
}

func reloaded(d *detect.Detector) *detect.Detector {
	b, err := json.Marshal(d)
	loaded := detect.New()
	if err == nil {
		err = json.Unmarshal(b, loaded)
	}
	if err != nil {
		panic("trial: a detector does not load what it saved: " + err.Error())
	}
	return loaded
}

// judge adds a simulation to the result.
func (s *Scenario) judge(r *Result, x *run) {
	r.Runs++
	found, fine := 0, true
	fail := func(format string, args ...any) {
		fine = false
		r.Failures = append(r.Failures, x.name+": "+fmt.Sprintf(format, args...))
	}
	for i := range x.told {
		e := &x.told[i]
		if s.Expect == "" || e.Start < x.begin-int64(detect.Width) || e.Start > x.end {
			r.FalseAlerts++
			fail("%s of %q on %s is no event: %s", e.Verdict, e.App, epochPlus(time.Duration(e.Start-epoch)), strings.Join(e.Reasons, "; "))
			continue
		}
		if found++; found > 1 {
			continue
		}
		r.called(e.Verdict, 1)
		late := time.Duration(e.at - x.begin)
		r.Delays = append(r.Delays, late.Seconds())
		r.StartOff = max(r.StartOff, time.Duration(e.Start-x.begin).Abs().Seconds())
		switch {
		case late >= s.Within:
			fail("found after %v", late)
		case e.first != s.Expect && e.Verdict == s.Expect:
			fail("first called %s", e.first)
		case e.Verdict != s.Expect:
			fail("called %s: %s", e.Verdict, strings.Join(e.Reasons, "; "))
		case e.End == 0:
			fail("it has no end")
		}
		if e.End != 0 {
			r.EndOff = max(r.EndOff, time.Duration(e.End-x.end).Abs().Seconds())
		}
	}
	switch {
	case s.Expect == "":
	case found == 0:
		fail("not found")
	case found > 1:
		fail("found as %d events", found)
	}
	if fine && s.Expect != "" {
		r.Found++
	}
}

func (r *Result) called(v detect.Verdict, runs int) {
	for i := range r.Verdicts {
		if r.Verdicts[i].Verdict == v {
			r.Verdicts[i].Runs += runs
			return
		}
	}
	r.Verdicts = append(r.Verdicts, Count{v, runs})
}

// Good says that all runs went as they should.
func (r *Result) Good() bool { return len(r.Failures) == 0 }

// Delay returns the quantile q of the delays, 0 where nothing was found.
func (r *Result) Delay(q float64) time.Duration {
	if len(r.Delays) == 0 {
		return 0
	}
	at := int(math.Ceil(q*float64(len(r.Delays)))) - 1
	return time.Duration(r.Delays[max(at, 0)] * float64(time.Second))
}
