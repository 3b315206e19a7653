package bench

import (
	"context"
	"flag"
	"math"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/gtp"
	"github.com/nametap/nametap/probe"
)

var (
	flowsFlag   = flag.Int("flows", 20_000, "live flows of BenchmarkState")
	entriesFlag = flag.Int("entries", 100_000, "DNS entries of BenchmarkState")
	memoryFlag  = flag.Int64("memory", 256, "budget of BenchmarkState, in MiB")
)

// BenchmarkState measures packets of random live flows. At the scale of a
// country: -flows 10000000 -entries 50000000 -memory 6144 -benchtime 40000000x.
func BenchmarkState(b *testing.B) {
	r, err := Run(context.Background(), State{
		Subscribers: max(*flowsFlag/2, 1), Flows: *flowsFlag, Entries: *entriesFlag, Names: 1000, IPv6: 0.3,
		Packets: b.N, Memory: *memoryFlag << 20, Shards: 1, Seed: 1,
	}, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(0, "ns/op") // the filling is in it
	b.ReportMetric(r.Full.Nanoseconds, "ns/packet")
	b.ReportMetric(r.PerFlow, "B/flow")
	b.ReportMetric(r.PerEntry, "B/entry")
	b.ReportMetric(r.Pauses.Max*1e6, "µs/pause")
}

func small() State {
	return State{
		Subscribers: 1000, Flows: 2500, Entries: 10_000, Names: 300, IPv6: 0.3,
		Packets: 20_000, Collections: 3, Memory: 256 << 20, Shards: 2, Seed: 3,
	}
}

// TestState holds that the state is what was asked for.
func TestState(t *testing.T) {
	for _, change := range []func(*State){
		func(*State) {},
		func(s *State) { s.Shards = 1 },
		func(s *State) { s.IPv6 = 0 },
		func(s *State) { s.IPv6 = 1 },
		func(s *State) { s.Subscribers, s.Names, s.Entries = 1, 5000, 4000 },
		func(s *State) { s.Flows = 700 },  // fewer than subscribers
		func(s *State) { s.Flows = 1024 }, // a power of two
		func(s *State) { s.Packets = 0 },
		func(s *State) { s.Sessions = s.Subscribers },
		func(s *State) { s.Sessions = s.Subscribers / 3 },
	} {
		s := small()
		change(&s)
		var phases int
		r, err := Run(context.Background(), s, func(string) { phases++ })
		if err != nil {
			t.Fatal(err)
		}
		if r.Flows != s.Flows || r.Entries != s.Entries || r.Named != uint64(s.Flows) || r.Evictions+r.Refusals+r.Forgotten != 0 {
			t.Errorf("%+v: %d flows, %d entries, %d named, %d evictions, %d refusals, %d forgotten", s, r.Flows, r.Entries, r.Named, r.Evictions, r.Refusals, r.Forgotten)
		}
		if r.Sessions != s.Sessions || r.Identified != uint64(s.Sessions) || r.SessionsEvicted != 0 || r.Attaching.Packets != 2*s.Sessions {
			t.Errorf("%+v: %d sessions, %d packets identified, %d evicted, %d messages", s, r.Sessions, r.Identified, r.SessionsEvicted, r.Attaching.Packets)
		}
		want := 3
		if s.Sessions > 0 {
			want++
		}
		if phases != want {
			t.Errorf("%+v: %d phases were announced, want %d", s, phases, want)
		}
		if r.Answers.Nanoseconds <= 0 || r.Opening.Nanoseconds <= 0 || s.Packets > 0 && r.Full.Nanoseconds <= 0 {
			t.Errorf("%+v: a phase took no time: %+v %+v %+v", s, r.Answers, r.Opening, r.Full)
		}
		if r.Opening.Packets != openingSegments*s.Flows || r.Full.Packets != s.Packets {
			t.Errorf("%+v: %d and %d packets", s, r.Opening.Packets, r.Full.Packets)
		}
	}
}

// TestStopped holds that a run that is stopped says so.
func TestStopped(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if r, err := Run(ctx, small(), nil); err == nil || r != nil {
		t.Errorf("%v, %v", r, err)
	}
}

// TestOverfull holds that what does not fit is counted.
func TestOverfull(t *testing.T) {
	s := small()
	s.Memory, s.Subscribers, s.Flows, s.Entries, s.Names = probe.MinMemory, 20_000, 150_000, 10_000, 2000
	r, err := Run(context.Background(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Evictions == 0 || r.Flows > r.FlowsLimit {
		t.Errorf("%d evictions, %d flows of %d", r.Evictions, r.Flows, r.FlowsLimit)
	}
}

// TestTrafficIsSound holds that what is forged looks like real connections: they
// are established, nothing is missing, repeated or out of order, and round-trip
// times are to be had.
func TestTrafficIsSound(t *testing.T) {
	s := small()
	e, err := probe.New(probe.Config{
		Shards: 1, Memory: s.Memory, Subscribers: probe.DefaultSubscribers(), Cascade: classify.DefaultCascade(),
		DNSGrace: time.Second, DNSStale: time.Hour, Rules: classify.Builtin(), Dedup: 10 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	l := newLoad(s, func(phase) {}, func() time.Duration { return 0 })
	if err := e.Run(context.Background(), l); err != nil {
		t.Fatal(err)
	}
	snapshot := e.Snapshot()
	var all flows.Counters
	for i := range snapshot.Classes {
		all.Add(&snapshot.Classes[i].Counters)
	}
	packets := all.Packets[flows.Up] + all.Packets[flows.Down]
	if want := uint64(openingSegments*s.Flows + s.Packets); packets != want || snapshot.Duplicates != 0 {
		t.Errorf("%d packets and %d copies, want %d", packets, snapshot.Duplicates, want)
	}
	if all.Opened != uint64(s.Flows) || all.Established != uint64(s.Flows) || all.Carried != uint64(s.Flows) {
		t.Errorf("%d opened, %d established, %d carried of %d", all.Opened, all.Established, all.Carried, s.Flows)
	}
	for d := range all.Retransmitted {
		if n := all.Retransmitted[d] + all.OutOfOrder[d] + all.Unseen[d] + all.LostBefore[d]; n != 0 {
			t.Errorf("direction %d: %d segments or bytes went wrong", d, n)
		}
		if all.RTT[d].Count < uint64(s.Flows) {
			t.Errorf("direction %d: %d round-trip times of %d flows", d, all.RTT[d].Count, s.Flows)
		}
	}
	for o, n := range snapshot.Outcomes {
		if n != 0 && o > 1 {
			t.Errorf("outcome %d: %d frames", o, n)
		}
	}
}

// TestLoadAllocatesNothing holds that the garbage that is measured is the
// engine's.
func TestLoadAllocatesNothing(t *testing.T) {
	s := small()
	s.Entries, s.Flows, s.Packets = 4_000_000, 1_000_000, 10_000_000
	s.Names = 1 << 20
	s.Sessions, s.Subscribers = 1_000_000, 1_000_000
	var b capture.Batch
	for p := attaching; p < over; p++ {
		l := newLoad(s, func(phase) {}, func() time.Duration { return 0 })
		for l.at < p {
			l.turn()
		}
		if err := l.Next(&b); err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { _ = l.Next(&b) }); n != 0 {
			t.Errorf("phase %d: %v allocations a batch", p, n)
		}
	}
}

// TestPermutation holds that a round visits every flow once, in another order
// each time.
func TestPermutation(t *testing.T) {
	for _, n := range []int{1, 2, 3, 7, 64, 1000, 4097} {
		p := newPermutation(n, 5)
		var first []int
		for round := range 3 {
			seen := make([]bool, n)
			var order []int
			for i := range n {
				at := p.at(i, round)
				if at < 0 || at >= n || seen[at] {
					t.Fatalf("n %d, round %d: %d comes again or is out of range", n, round, at)
				}
				seen[at] = true
				order = append(order, at)
			}
			same, next := 0, 0
			for i := range order {
				if round > 0 && order[i] == first[i] {
					same++
				}
				if i > 0 && order[i] == order[i-1]+1 {
					next++
				}
			}
			if n >= 64 && (same > n/4 || next > n/4) {
				t.Errorf("n %d, round %d: %d in the same place, %d one after the other", n, round, same, next)
			}
			if round == 0 {
				first = order
			}
		}
	}
}

func TestCheck(t *testing.T) {
	for _, change := range []func(*State){
		func(s *State) { s.Subscribers = 0 }, func(s *State) { s.Subscribers = MaxSubscribers + 1 },
		func(s *State) { s.Flows = 0 }, func(s *State) { s.Flows = 60_000_000 },
		func(s *State) { s.Entries = -1 }, func(s *State) { s.Names = 0 }, func(s *State) { s.Names = 2 },
		func(s *State) { s.IPv6 = 1.1 }, func(s *State) { s.Sessions = -1 }, func(s *State) { s.Sessions = s.Subscribers + 1 }, func(s *State) { s.Packets = -1 }, func(s *State) { s.Collections = -1 },
	} {
		s := small()
		change(&s)
		if err := s.Check(); err == nil {
			t.Errorf("%+v was accepted", s)
		}
	}
}

func TestPauses(t *testing.T) {
	h := func(counts ...uint64) *metrics.Float64Histogram {
		return &metrics.Float64Histogram{Counts: counts, Buckets: []float64{0, 1, 2, 3, math.Inf(1)}}
	}
	for _, c := range []struct {
		before, now *metrics.Float64Histogram
		want        Pauses
	}{
		{h(), h(0, 0, 0, 0), Pauses{}},
		{h(5, 5, 5, 5), h(5, 5, 5, 5), Pauses{}},
		{h(5, 0, 0, 0), h(5, 1, 0, 0), Pauses{1, 2, 2}},
		{h(), h(99, 0, 1, 0), Pauses{100, 3, 1}},
		{h(), h(98, 0, 2, 0), Pauses{100, 3, 3}},
		{h(), h(0, 0, 0, 1), Pauses{1, 3, 3}},
	} {
		if got := pausesBetween(c.before, c.now); got != c.want {
			t.Errorf("%v to %v: %+v, want %+v", c.before.Counts, c.now.Counts, got, c.want)
		}
	}
}

// TestSessionsAreSound holds that every subscriber's session is the one that the
// control plane spoke of: a flow of a subscriber outside of tunnels has it too.
func TestSessionsAreSound(t *testing.T) {
	s := small()
	s.Sessions = s.Subscribers
	var records, owned int
	owners := map[string]bool{}
	e, err := probe.New(probe.Config{
		Shards: 1, Memory: s.Memory, Subscribers: probe.DefaultSubscribers(), Cascade: classify.DefaultCascade(),
		DNSGrace: time.Second, DNSStale: time.Hour, Rules: classify.Builtin(), Dedup: 10 * time.Millisecond,
		Hash: func(d gtp.Digits) string { return string(d.AppendDigits(nil)) },
		Records: func(list []flows.Record) {
			for i := range list {
				records++
				if r := &list[i]; r.APN == "internet" && len(r.IMSI) == 15 && len(r.TAC) == 8 {
					owned++
					owners[r.IMSI] = true
				}
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	l := newLoad(s, func(phase) {}, func() time.Duration { return 0 })
	if err := e.Run(context.Background(), l); err != nil {
		t.Fatal(err)
	}
	if records < s.Flows || owned != records || len(owners) != s.Subscribers {
		t.Errorf("%d of %d records have an owner, %d different of %d", owned, records, len(owners), s.Subscribers)
	}
	for v, n := range e.Snapshot().GTP.Malformed {
		if (n != 0) != (gtp.Verdict(v) == gtp.OK) {
			t.Errorf("%d messages are %v", n, gtp.Verdict(v))
		}
	}
}
