package probe

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/synth"
)

// TestServings: what the servers' connections met adds up, period by period, to
// what the classes have counted.
func TestServings(t *testing.T) {
	scenario, err := synth.LoadScenario("busy-hour")
	if err != nil {
		t.Fatal(err)
	}
	g, err := synth.New(scenario, synth.Options{Seed: 9, Duration: 3 * time.Minute, Subscribers: 300})
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/trace.pcap"
	trace, err := synth.CreateTrace(path, synth.TraceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := synth.Write(context.Background(), g, trace, nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := trace.Close(); err != nil {
		t.Fatal(err)
	}
	source, err := capture.Open([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	var last *Snapshot
	periods, several := 0, false
	cfg := Config{
		Shards: 2, Memory: MinMemory, Subscribers: DefaultSubscribers(), Cascade: classify.DefaultCascade(), Rules: classify.Builtin(),
		DNSGrace: 10 * time.Second, DNSStale: 6 * time.Hour, Servings: true, WatchEvery: 10 * time.Second,
	}
	cfg.Watch = func(s *Snapshot) {
		if last != nil {
			periods++
			several = several || len(s.Servings) > 20
			compareServings(t, last, s)
		}
		last = s
	}
	engine, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Run(context.Background(), source); err != nil {
		t.Fatal(err)
	}
	compareServings(t, last, engine.Snapshot())
	if periods < 15 || !several {
		t.Errorf("%d periods, many servers: %v", periods, several)
	}
}

func compareServings(t *testing.T, before, now *Snapshot) {
	t.Helper()
	sums := make([]Serving, len(now.Classes))
	for i := range now.Servings {
		s := &now.Servings[i]
		to := &sums[s.Class]
		for d := range 2 {
			to.Segments[d] += s.Segments[d]
			to.Retransmitted[d] += s.Retransmitted[d]
			to.LostBefore[d] += s.LostBefore[d]
			to.OutOfOrder[d] += s.OutOfOrder[d]
			to.Samples[d] += s.Samples[d]
			in := uint64(0)
			for _, n := range s.Buckets[d] {
				in += uint64(n)
			}
			if in != s.Samples[d] || s.Samples[d] > 0 && (s.Least[d] == 0 || s.Sum[d] < uint64(s.Least[d])*s.Samples[d]) {
				t.Errorf("%d samples, %d in buckets, least %d, sum %d", s.Samples[d], in, s.Least[d], s.Sum[d])
			}
		}
	}
	for i := range now.Classes {
		var was flows.Counters
		if i < len(before.Classes) {
			was = before.Classes[i].Counters
		}
		c, s := &now.Classes[i], &sums[i]
		for d := range 2 {
			for _, x := range []struct {
				what      string
				got, want uint64
			}{
				{"segments", s.Segments[d], c.Packets[d] - was.Packets[d]},
				{"retransmitted", s.Retransmitted[d], c.Retransmitted[d] - was.Retransmitted[d]},
				{"lost before", s.LostBefore[d], c.LostBefore[d] - was.LostBefore[d]},
				{"out of order", s.OutOfOrder[d], c.OutOfOrder[d] - was.OutOfOrder[d]},
				{"samples", s.Samples[d], c.RTT[d].Count - was.RTT[d].Count},
			} {
				if x.got != x.want {
					t.Errorf("at %d, %s/%s, direction %d: %d %s by server, %d by class", now.Time, c.App, c.Class, d, x.got, x.what, x.want)
				}
			}
		}
	}
}

// TestServingsResume: a connection that was silent for minutes comes back with a
// segment that was sent again, or out of order; that counts for its server too.
func TestServingsResume(t *testing.T) {
	const user, host = "10.0.0.1", "203.0.113.9"
	for name, back := range map[string]func(g *gn){
		"sent again": func(g *gn) { g.frame(g.tcp(user, host, 40000, 443, "A", 2, 2, "hello")) },
		"in a hole":  func(g *gn) { g.frame(g.tcp(user, host, 40000, 443, "A", 7, 2, "missing")) },
		"plainly":    func(g *gn) { g.frame(g.tcp(user, host, 40000, 443, "A", 18, 2, "more")) },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGn(t)
			g.frame(g.tcp(user, host, 40000, 443, "S", 1, 0, ""))
			g.frame(g.tcp(host, user, 443, 40000, "SA", 1, 2, ""))
			g.frame(g.tcp(user, host, 40000, 443, "A", 2, 2, "hello"))
			g.wait(2 * time.Second).frame(g.tcp(user, host, 40000, 443, "A", 14, 2, "last"))
			for range 12 { // others go on
				g.wait(7 * time.Second).frame(g.answer("9.9.9.9", "10.0.0.2", "example.com", "192.0.2.9", 60))
			}
			back(g)
			g.wait(time.Second).frame(g.tcp(host, user, 443, 40000, "A", 2, 7, ""))
			cfg := config(1)
			cfg.Servings, cfg.WatchEvery = true, 10*time.Second
			last := &Snapshot{}
			cfg.Watch = func(s *Snapshot) {
				if last.Time != 0 {
					compareServings(t, last, s)
				}
				last = s
			}
			e := newEngine(t, cfg)
			if err := e.Run(context.Background(), &memory{frames: g.list, batch: 1}); err != nil {
				t.Fatal(err)
			}
			compareServings(t, last, e.Snapshot())
			if now := e.Snapshot().Classes[0]; now.Packets[flows.Up] != 4 || last.Classes[0].Packets[flows.Up] != 3 {
				t.Errorf("%d segments, %d before the silence", now.Packets[flows.Up], last.Classes[0].Packets[flows.Up])
			}
		})
	}
}

func TestServingBounds(t *testing.T) {
	const mostServed, servers = 100, 40
	s, err := newServing(&budget{served: mostServed, servers: servers}, make([]uint32, 1001))
	if err != nil {
		t.Fatal(err)
	}
	for r := range uint32(mostServed + 10) {
		s.follow(r+1, classify.Other+1)
		s.follow(r+1, classify.Other+1)
	}
	if len(s.flows) != mostServed || cap(s.flows) != mostServed || s.place[mostServed] != mostServed || s.place[mostServed+1] != 0 {
		t.Errorf("%d flows followed, want %d", len(s.flows), mostServed)
	}
	if n := s.missed[classify.Other+1]; n != 20 {
		t.Errorf("%d times a flow was missed, want 20", n)
	}
	const own = servers - otherServers
	for i := range own + 10 {
		s.of(decode.AddrFrom4([]byte{203, 0, byte(i >> 8), byte(i)}), classify.Other).Flows++
	}
	if len(s.list) != own+1 {
		t.Errorf("%d servers, want %d and one for the others", len(s.list), own)
	}
	if rest := &s.list[own]; rest.Flows != 10 || rest.Server.Netip().String() != "::" {
		t.Errorf("%d connections of the others, at %s", rest.Flows, rest.Server.Netip())
	}
	for class := range uint8(20) { // more than have a place
		s.of(decode.AddrFrom4([]byte{198, 51, 100, class}), classify.Other+10+class).Flows++
	}
	if s.missed[classify.Other+29] != 1 || s.missed[classify.Other+10] != 0 || cap(s.list) != servers {
		t.Errorf("%d places of %d, missed %v", len(s.list), servers, s.missed)
	}
	s.begin()
	if len(s.list) != 0 || len(s.at) != 0 || len(s.flows) != mostServed {
		t.Error("the next period does not begin with nothing")
	}
	s.drop(0)
	if last := s.flows[0].record; s.place[last] != 1 || s.place[1] != 0 || len(s.flows) != mostServed-1 {
		t.Errorf("flow %d is said to be at %d", last, s.place[last])
	}
	for us, want := range map[float64]int{0: 0, 64: 0, 80: 1, 128: 4, 1e9: ServingBuckets - 1} {
		if got := servingBucket(us); got != want {
			t.Errorf("%g us: bucket %d, want %d", us, got, want)
		}
	}
	for _, v := range []float64{0, 0.00001, 0.001, 0.106, 1.5, 9.9} {
		if low, high := ServingBounds(servingBucket(v * 1e6)); v < low || v > high || v > 0.0001 && v < 4 && high > 1.2*low {
			t.Errorf("the bucket of %g s is from %g to %g", v, low, high)
		}
	}
}

// TestServingsOfWorkers: a worker's snapshot that is ahead of the others' counts
// for its counters more than once, and for its servings once.
func TestServingsOfWorkers(t *testing.T) {
	every := int64(10 * time.Second)
	told := 0
	l := &lookout{every: every, most: mostBehind, waiting: make([][]*Snapshot, 2)}
	l.watch = func(s *Snapshot) { told += len(s.Servings) }
	give := func(worker int, period int64) {
		l.give(worker, &Snapshot{Time: period * every, Servings: make([]Serving, 1)})
	}
	give(0, 1)
	give(1, 3) // it had nothing to count in between
	give(0, 2)
	give(0, 3)
	if told != 4 {
		t.Errorf("%d servings told, want each of 4 once", told)
	}
}

// TestServingsMissed: what was not followed for want of room is counted, by class.
func TestServingsMissed(t *testing.T) {
	g := newGn(t)
	data := g.tcp("10.0.0.1", "203.0.113.9", 40000, 443, "A", 1, 1, "hello")
	const n = 60_000
	var list []capture.Frame
	add := func(at int64, host int) {
		b := slices.Clone(data)
		put(b[12:], 10<<24, uint32(host)) // the source address
		list = append(list, capture.Frame{Time: at, Data: b, WireLen: uint32(len(b)), Link: decode.LinkRaw})
	}
	for i := range n {
		add(120*second+int64(i)*100_000, i+1) // six seconds of a minute
	}
	others := g.answer("9.9.9.9", "10.255.255.1", "example.com", "192.0.2.9", 60)
	for i := range int64(2 * lateShare) { // flows that waited for an answer are not settled all at once
		list = append(list, capture.Frame{Time: 190*second + i*step, Data: others, WireLen: uint32(len(others)), Link: decode.LinkRaw})
	}
	list = append(list, capture.Frame{Time: 250 * second, Data: others, WireLen: uint32(len(others)), Link: decode.LinkRaw})
	cfg := config(2)
	cfg.Memory, cfg.Dedup = MinMemory, 0
	cfg.Servings, cfg.WatchEvery = true, time.Minute
	followed := uint64(0)
	cfg.Watch = func(s *Snapshot) {
		for i := range s.Servings {
			followed += s.Servings[i].Flows
		}
	}
	e := newEngine(t, cfg)
	if err := e.Run(context.Background(), &memory{frames: list, batch: 300}); err != nil {
		t.Fatal(err)
	}
	missed := uint64(0)
	for _, c := range e.Snapshot().Classes {
		missed += c.ServingsMissed
	}
	if missed == 0 || followed == 0 || followed+missed != n {
		t.Errorf("%d connections were followed and %d missed, want %d in all", followed, missed, n)
	}
	if room := uint64(e.budget.served * partitions); followed > room {
		t.Errorf("%d connections were followed, there is room for %d", followed, room)
	}
}
