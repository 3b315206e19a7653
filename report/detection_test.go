package report

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/nametap/nametap/probe"
)

// TestNewestAreKept: a timeline that cannot put bins together keeps the newest of
// them, whatever the order of what comes.
func TestNewestAreKept(t *testing.T) {
	const most = 100
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 3))
		var spans [][2]int64
		for range 300 {
			from := r.Int64N(400)
			if r.IntN(50) == 0 {
				from += 10_000 * r.Int64N(2) // far ahead, now and then
			}
			spans = append(spans, [2]int64{from, from + r.Int64N(130)})
		}
		run := func() string {
			l := newTimeline[int](time.Duration(1), most, nil)
			for _, s := range spans {
				l.reach(s[0], s[1])
				l.span(s[0], s[1], func(b *int, _, _ int64) { *b++ })
				if b := l.at(s[0]); b != nil {
					*b += 1000
				}
			}
			if len(l.bins) > most {
				t.Fatalf("seed %d: %d bins", seed, len(l.bins))
			}
			text := fmt.Sprint(l.low, l.high)
			for n := l.low; n <= l.high; n++ {
				if b := l.bins[n]; b != nil {
					text += fmt.Sprint(" ", n, ":", *b)
				}
			}
			return text
		}
		want := run()
		for range 3 {
			r.Shuffle(len(spans), func(i, j int) { spans[i], spans[j] = spans[j], spans[i] })
			if got := run(); got != want {
				t.Fatalf("seed %d: another order, another result\n%s\n%s", seed, got, want)
			}
		}
	}
}

// steady gives c the flows of an app and of everything else, evenly from one time
// to another: each a second long, to and from.
func steady(c *Collector, r *rand.Rand, from, to time.Time, each time.Duration) {
	for at := from; at.Before(to); at = at.Add(each) {
		for _, k := range []classKey{{"whatsapp", "chat"}, {"other", "other"}} {
			start := at.UnixNano() + r.Int64N(int64(each))
			c.Add(&Record{
				Start: start, End: start + int64(time.Second), Subscriber: netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(100))}),
				Server: netip.AddrFrom4([4]byte{50, 22, 0, byte(r.IntN(9))}), ServerPort: 443, Evidence: "dns", App: k.App, Class: k.Class,
				SYNSeen: true, EndReason: "fin", Bytes: [2]uint64{2000, 9000}, Packets: [2]uint64{9, 9}, Payload: [2]uint64{1000, 8000},
				SYN: 1, SYNACK: 1, FIN: 2,
			})
		}
	}
}

// TestResolverFails: for half an hour no name is resolved, and next to nothing is
// tried. Where the queries were counted that is told as what it is.
func TestResolverFails(t *testing.T) {
	begin := time.Date(2014, 2, 22, 9, 0, 0, 0, time.UTC)
	fails, mended, end := begin.Add(3*time.Hour), begin.Add(3*time.Hour+30*time.Minute), begin.Add(5*time.Hour)
	for _, tt := range []struct {
		name          string
		counted       bool
		rcode         int // of the answers while it fails; -1: none
		verdict, said string
	}{
		{"failures counted", true, 2, "dns-failure", ""},
		{"no answers", true, -1, "dns-failure", ""},
		{"flow records", false, 0, "tap", "cannot be told from"},
	} {
		c := NewCollector(Options{})
		r := rand.New(rand.NewPCG(1, 1))
		steady(c, r, begin, fails, 4*time.Second)
		steady(c, r, fails, mended, 4*time.Minute)
		steady(c, r, mended, end, 4*time.Second)
		s := probe.Snapshot{First: begin.UnixNano()}
		for at := begin; tt.counted && !at.After(end); at = at.Add(ResolutionEvery) {
			s.Time = at.UnixNano()
			c.Resolved(&s)
			s.DNS.Queries += 200
			switch failing := !at.Before(fails) && at.Before(mended); {
			case !failing:
				s.DNS.Responses += 200
				s.DNS.Rcodes[0] += 198
				s.DNS.Rcodes[3] += 2
			case tt.rcode > 0:
				s.DNS.Responses += 200
				s.DNS.Rcodes[tt.rcode] += 200
			}
		}
		near := func(ns int64, at time.Time) bool { return time.Unix(0, ns).Sub(at).Abs() < 5*time.Minute }
		o := c.Report().Outage
		if len(o.Events) != 1 || o.Events[0].Verdict != tt.verdict {
			t.Errorf("%s: events %+v, want one, %s", tt.name, o.Events, tt.verdict)
			continue
		}
		if e := o.Events[0]; !near(e.start, fails) || !near(e.end, mended) {
			t.Errorf("%s: from %s to %s", tt.name, e.Start, e.End)
		}
		if said := strings.Join(o.Remarks, " "); tt.said == "" && said != "" || !strings.Contains(said, tt.said) {
			t.Errorf("%s: remarks %q", tt.name, said)
		}
	}
}

// TestLongerThanTheDetectorKeeps: of ten weeks the newest eight are looked at, and
// the report says so.
func TestLongerThanTheDetectorKeeps(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	begin := time.Date(2014, 1, 6, 0, 0, 0, 0, time.UTC)
	day := func(n int) time.Time { return begin.AddDate(0, 0, n) }
	c := NewCollector(Options{})
	r := rand.New(rand.NewPCG(1, 1))
	const each = 20 * time.Second
	steady(c, r, day(60).Add(5*time.Hour), day(70), each)
	steady(c, r, day(10).Add(5*time.Hour), day(60), each) // with a hole of five hours at its end
	steady(c, r, day(0), day(10), each)                   // and one that is no longer kept
	o := c.Report().Outage
	if len(o.Events) != 1 || o.Events[0].start != day(60).UnixNano() || o.Events[0].end != day(60).Add(5*time.Hour).UnixNano() {
		t.Errorf("events %+v", o.Events)
	}
	if said := strings.Join(o.Remarks, " "); !strings.Contains(said, "from 20 January 2014, 00:00 on") || !strings.Contains(said, "newest 8 weeks") {
		t.Errorf("remarks %q", said)
	}
}

// TestFarEnds: a flow, or a DNS query, that is far from everything else leaves
// nothing to judge, and a report.
func TestFarEnds(t *testing.T) {
	begin := time.Date(2014, 2, 22, 9, 0, 0, 0, time.UTC)
	far := begin.AddDate(1, 0, 0)
	query := &probe.Snapshot{First: far.UnixNano(), Time: far.UnixNano(), DNS: probe.DNSSnapshot{Queries: 1}}
	for name, add := range map[string]func(c *Collector){
		"a flow that ends far away": func(c *Collector) {
			c.Add(&Record{Start: begin.UnixNano(), End: far.UnixNano(), Evidence: "none", App: "other", Class: "other"})
		},
		"a query":            func(c *Collector) { c.Resolved(query) },
		"a query before all": func(c *Collector) { c.Resolved(&probe.Snapshot{First: 1, Time: 1, DNS: probe.DNSSnapshot{Queries: 1}}) },
	} {
		for _, flows := range []bool{true, false} {
			c := NewCollector(Options{})
			if flows {
				steady(c, rand.New(rand.NewPCG(1, 1)), begin, begin.Add(2*time.Hour), time.Minute)
			}
			add(c)
			if r := c.Report(); len(r.Outage.Events) > 0 {
				t.Errorf("%s: %+v", name, r.Outage.Events)
			}
		}
	}
}
