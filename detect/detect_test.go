package detect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

var (
	outage2014 = failure{name: "outage of 2014", apps: "whatsapp", attempts: 2.4, success: 0.03, answered: 1, bytes: 2, recoverFrom: 2.5}
	partial30  = failure{name: "30 % of it fail", apps: "whatsapp", attempts: 1.3, success: 0.7, answered: 1, bytes: 2}
	toZero     = failure{name: "outage to zero", apps: "whatsapp", attempts: 0, success: 0, answered: 1}
	noAnswer   = failure{name: "servers silent", apps: "whatsapp", attempts: 3, success: 0.02, answered: 0.02, bytes: 0.3}
	resolver   = failure{name: "names not answered", apps: "whatsapp", attempts: 0.1, success: 0.9, answered: 1, bytes: 1, dns: 0.9}
	everything = failure{name: "uplink broken", apps: "all", attempts: 2, success: 0.05, answered: 0.05, bytes: 0.3}
	gateway    = failure{name: "one gateway broken", apps: "whatsapp", group: "internet", attempts: 2, success: 0.05, answered: 0.1, bytes: 0.3}
	tapCut     = failure{name: "tap cut", apps: "all", attempts: 0, success: 0, answered: 0, tap: true}
	tapHalf    = failure{name: "tap: downlink cut", apps: "all", attempts: 1, success: 0, answered: 0, bytes: 1, downOnly: true}
	tapDrops   = failure{name: "tap drops", apps: "all", attempts: 0.8, success: 0.7, answered: 0.8, bytes: 1, droppedTap: true}
)

// trialCase is a line of the table that the issue asks for.
type trialCase struct {
	fail    failure
	hours   float64
	verdict Verdict
	within  time.Duration
	groups  []string
}

var trialCases = []trialCase{
	{outage2014, 5, AppFailure, 10 * time.Minute, nil},
	{partial30, 5, AppFailure, 2 * time.Hour, nil},
	{toZero, 5, Unreachable, 15 * time.Minute, nil},
	{noAnswer, 2, Unreachable, 10 * time.Minute, nil},
	{resolver, 2, DNSFailure, 15 * time.Minute, nil},
	{everything, 2, OurNetwork, 15 * time.Minute, nil},
	{gateway, 2, OurNetwork, 15 * time.Minute, []string{"internet", "wap", "iot"}},
	{tapCut, 2, TapFailure, 15 * time.Minute, nil},
	{tapHalf, 2, TapFailure, 15 * time.Minute, nil},
	{tapDrops, 2, TapFailure, 15 * time.Minute, nil},
}

// whens: an early evening with no season yet, one with two weeks, a night and a
// morning rise with three.
var whens = []struct {
	name string
	bin  float64
}{
	{"day 2, 18:30", float64(perDay) + 18.5*12},
	{"day 17, 18:30", 16*float64(perDay) + 18.5*12},
	{"day 22, 03:10", 21*float64(perDay) + 3*12 + 2},
	{"day 24, 08:00", 23*float64(perDay) + 8*12},
}

// TestTrial simulates 28 days for each failure and each time at which it can
// begin, and prints the table: go test -run TestTrial -v ./detect
func TestTrial(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes long, and has no goroutines for the race detector to watch")
	}
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "failure\tbegins\tfound\tafter\tverdict\tstart off\tend off\tfalse alerts")
	for _, c := range trialCases {
		for i, when := range whens {
			if testing.Short() && i > 0 {
				break
			}
			runTrial(t, w, &c, when.name, when.bin, uint64(100+i))
		}
	}
	w.Flush()
	t.Logf("\n%s", table.String())
}

func runTrial(t *testing.T, w *tabwriter.Writer, c *trialCase, when string, from float64, seed uint64) {
	t.Helper()
	tr := trial{
		net: newNetwork(seed, 20000, c.groups...), days: 28, fail: &c.fail,
		from: from, to: from + c.hours*12,
	}
	tr.run()
	found, after, verdict := 0, time.Duration(0), Verdict("–")
	var startOff, endOff time.Duration
	stray := 0
	for i, e := range tr.opened {
		if e.Start < tr.at(from-1) || e.Start > tr.at(tr.to) {
			stray++
			t.Logf("stray: %s", describe(&e))
			continue
		}
		if found++; found == 1 {
			after = time.Duration(tr.openedAt[i] - tr.at(from))
			startOff = time.Duration(e.Start - tr.at(from))
		}
	}
	for _, e := range tr.finished {
		if e.Start >= tr.at(from-1) && e.Start <= tr.at(tr.to) {
			verdict = e.Verdict
			endOff = time.Duration(e.End - tr.at(tr.to))
		}
	}
	fmt.Fprintf(w, "%s\t%s\t%d\t%v\t%s\t%v\t%v\t%d\n", c.fail.name, when, found, after, verdict, startOff, endOff, stray)
	switch {
	case found == 0:
		t.Errorf("%s, %s, seed %d: not found", c.fail.name, when, seed)
	case found > 1:
		t.Errorf("%s, %s, seed %d: found as %d events", c.fail.name, when, seed, found)
	case after > c.within:
		t.Errorf("%s, %s, seed %d: found after %v, want %v", c.fail.name, when, seed, after, c.within)
	case verdict != c.verdict:
		t.Errorf("%s, %s, seed %d: verdict %s, want %s", c.fail.name, when, seed, verdict, c.verdict)
	case startOff.Abs() > Width || c.within <= 15*time.Minute && endOff.Abs() > Width:
		t.Errorf("%s, %s, seed %d: start off by %v, end by %v", c.fail.name, when, seed, startOff, endOff)
	}
	if stray > 0 {
		t.Errorf("%s, %s, seed %d: %d false alerts", c.fail.name, when, seed, stray)
	}
}

// TestBeginsWithinABin: an outage that begins near the end of a bin is found in
// time too.
func TestBeginsWithinABin(t *testing.T) {
	for i, part := range []float64{0.1, 0.3, 0.5, 0.7, 0.9, 0.95} {
		from := float64(perDay) + 18.5*12 + part
		tr := trial{net: newNetwork(uint64(300+i), 20000), days: 3, fail: &outage2014, from: from, to: from + 60}
		tr.run()
		if len(tr.opened) != 1 {
			t.Errorf("from %.2f on: %d events", part, len(tr.opened))
			continue
		}
		after, off := time.Duration(tr.openedAt[0]-tr.at(from)), time.Duration(tr.opened[0].Start-tr.at(from))
		if after > 10*time.Minute || off.Abs() > Width {
			t.Errorf("from %.2f on: found after %v, start off by %v", part, after, off)
		}
	}
}

// TestQuiet: 28 days with rhythm, noise and spikes have no event at all, in a
// big network, a small one, one with groups, and over a daylight-saving change.
func TestQuiet(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		for _, c := range []struct {
			name        string
			subscribers float64
			groups      []string
			dst         int
		}{
			{"large", 50000, nil, 0},
			{"small", 300, nil, 0},
			{"tiny", 40, nil, 0},
			{"groups", 5000, []string{"internet", "wap", "iot"}, 0},
			{"daylight saving", 20000, nil, 25*perDay + 24},
		} {
			tr := trial{net: newNetwork(1000+seed, c.subscribers, c.groups...), days: 28}
			tr.net.dst = c.dst
			tr.run()
			for i := range tr.everything {
				t.Errorf("%s, seed %d: %s", c.name, seed, describe(&tr.everything[i]))
			}
		}
	}
}

// TestRestart: a state that is saved and loaded in the middle of an outage goes
// on to the same events as one that was not.
func TestRestart(t *testing.T) {
	from := 16*float64(perDay) + 18.5*12
	run := func(transform func(d **Detector, s *Step)) []Event {
		n := newNetwork(7, 3000)
		d := New()
		var events []Event
		for bin := range 20 * perDay {
			part := 0.0
			if float64(bin) >= from && float64(bin) < from+60 {
				part = 1
			}
			s := n.step(bin, &outage2014, part, 0)
			transform(&d, s)
			events = append(events, d.Step(s)...)
		}
		return events
	}
	want := run(func(**Detector, *Step) {})
	saves := 0
	got := run(func(d **Detector, s *Step) {
		if (s.Start-epoch)/int64(Width)%101 != 0 {
			return
		}
		saves++
		b, err := json.Marshal(*d)
		if err != nil {
			t.Fatal(err)
		}
		*d = New()
		if err := json.Unmarshal(b, *d); err != nil {
			t.Fatal(err)
		}
		again, _ := json.Marshal(*d)
		if !bytes.Equal(b, again) {
			t.Fatal("a loaded state is saved differently")
		}
	})
	if saves < 10 || len(want) < 2 || !reflect.DeepEqual(got, want) {
		t.Errorf("%d saves: got %d events, want %d\n%+v\n%+v", saves, len(got), len(want), got, want)
	}
}

// TestGap: a pause of the capture, like a restart of the daemon, is no event.
func TestGap(t *testing.T) {
	tr := trial{net: newNetwork(5, 5000), days: 20}
	tr.transform = func(s *Step) *Step {
		if bin := int((s.Start - epoch) / int64(Width)); bin%500 > 480 {
			return nil
		}
		return s
	}
	tr.run()
	for i := range tr.everything {
		t.Errorf("%s", describe(&tr.everything[i]))
	}
}

// TestAdopted: what stays different becomes how things are.
func TestAdopted(t *testing.T) {
	f := failure{apps: "whatsapp", attempts: 1, success: 0.6, answered: 1, bytes: 1}
	tr := trial{net: newNetwork(5, 5000), days: 14, fail: &f, from: 7 * float64(perDay), to: 99 * float64(perDay)}
	tr.run()
	if len(tr.opened) != 1 || len(tr.finished) != 1 {
		t.Fatalf("%d opened, %d finished", len(tr.opened), len(tr.finished))
	}
	e := tr.finished[0]
	if got := time.Duration(e.End - e.Start); got < 72*time.Hour || got > 73*time.Hour {
		t.Errorf("lasted %v", got)
	}
}

func TestRecoveryStormIsTold(t *testing.T) {
	tr := trial{net: newNetwork(9, 20000), days: 18, fail: &outage2014, from: 16 * float64(perDay), to: 16*float64(perDay) + 36}
	tr.run()
	last := tr.everything[len(tr.everything)-1]
	if len(tr.opened) != 1 || last.RecoveryEnd <= last.End || last.RecoveryEnd > last.End+int64(2*time.Hour)+1 {
		t.Errorf("%d opened; last: %s, recovery %v", len(tr.opened), describe(&last), time.Duration(last.RecoveryEnd-last.End))
	}
}

func TestBadState(t *testing.T) {
	good, err := json.Marshal(New())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		``, `{`, `{"version":2}`, `{"version":1,"series":[{"app":"x"}]}`, `{"version":1,"incidents":[null]}`,
		`{"version":1,"series":[{"app":"x","state":{"history":{"recent":"AA=="}}}]}`,
		`{"version":1,"series":[{"app":"x","state":{"history":{"recent":"!","learned":-1}}}]}`,
	} {
		d := New()
		if err := d.UnmarshalJSON([]byte(text)); err == nil {
			t.Errorf("%s: loaded", text)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than a line: %v", text, err)
		}
		if b, _ := json.Marshal(d); !bytes.Equal(b, good) {
			t.Errorf("%s: changed the detector", text)
		}
	}
}

func TestSeriesAreBounded(t *testing.T) {
	d := New()
	for i := range 1000 {
		s := &Step{Start: int64(i+1) * int64(Width), Samples: []Sample{{Key: Key{App: "a", Class: "c", Group: fmt.Sprint(i)}, Bin: Bin{Flows: 1}}}}
		d.Step(s)
	}
	if len(d.series) > maxSeries || d.Refused == 0 {
		t.Errorf("%d series, %d refused", len(d.series), d.Refused)
	}
}

// TestOldStep: a step that was given before changes nothing.
func TestOldStep(t *testing.T) {
	d := New()
	n := newNetwork(3, 1000)
	s := n.step(0, nil, 0, 0)
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
	d := New()
	steps := make([]*Step, 22*perDay)
	for i := range steps {
		steps[i] = n.step(i, nil, 0, 0)
	}
	for _, s := range steps[:21*perDay] {
		d.Step(s)
	}
	b.ResetTimer()
	for i := range b.N {
		s := *steps[21*perDay+i%perDay]
		s.Start = epoch + int64(21*perDay+i)*int64(Width)
		d.Step(&s)
	}
}
