package probe

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/flows"
)

// lookedUp is a Source after each frame of which every flow that waits is one for
// which the map held something: it is looked up whenever it may be.
type lookedUp struct {
	memory
	e *Engine
}

func (s *lookedUp) Next(b *capture.Batch) error {
	for _, a := range s.e.parts {
		for at := a.late.head; at != a.late.tail; at++ {
			if f, ok := a.waiting(a.late.at(at)); ok {
				f.Naming |= namingHeld
			}
		}
		a.late.held = a.late.tail
	}
	return s.memory.Next(b)
}

// TestAnswersOutOfStep: that a flow which waits is not looked up again without need
// names no flow otherwise. Frames come in another order than their times are in.
func TestAnswersOutOfStep(t *testing.T) {
	const client, resolver = "10.0.0.1", "9.9.9.9"
	for _, cascade := range []classify.Cascade{
		classify.DefaultCascade(),
		{classify.EvidenceDNS},
		{classify.EvidenceDNSStale, classify.EvidenceDNS},
	} {
		seen := map[string]int{}
		for seed := range uint64(8) {
			r := rand.New(rand.NewPCG(seed, 1))
			g := newGn(t)
			at := func(packet []byte) {
				now := g.now
				g.now += int64(r.IntN(3000)-1500) * int64(time.Millisecond)
				g.frame(packet)
				g.now = now
			}
			for port := range 150 {
				server, port := fmt.Sprintf("192.0.2.%d", r.IntN(12)), 20_000+port
				var events []func()
				for range r.IntN(3) {
					events = append(events, func() {
						at(g.answer(resolver, client, fmt.Sprintf("n%d.example", r.IntN(3)), server, uint32(r.IntN(3))))
					})
				}
				events = append(events, func() { at(g.tcp(client, server, port, 443, "S", 99, 0, "")) })
				if r.IntN(3) > 0 {
					events = append(events, func() { at(g.tcp(client, server, port, 443, "A", 100, 1, "x")) })
				}
				r.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
				for _, event := range events {
					event()
					g.wait(time.Duration(r.IntN(700)) * time.Millisecond)
				}
			}
			names := func(source func(*Engine) capture.Source) (list []string) {
				cfg := config(1)
				cfg.Cascade, cfg.DNSGrace, cfg.DNSStale = cascade, 0, 10*time.Second
				cfg.Records = func(records []flows.Record) {
					for i := range records {
						list = append(list, fmt.Sprint(says(&records[i]), " ", records[i].DNSName))
						seen[records[i].Evidence]++
					}
				}
				e := newEngine(t, cfg)
				if err := e.Run(context.Background(), source(e)); err != nil {
					t.Fatal(err)
				}
				slices.Sort(list)
				return list
			}
			all := memory{frames: g.list, batch: 1}
			got := names(func(*Engine) capture.Source { m := all; return &m })
			want := names(func(e *Engine) capture.Source { return &lookedUp{all, e} })
			if !slices.Equal(got, want) {
				t.Fatalf("cascade %v, seed %d:\n%q\nwant:\n%q", cascade, seed, got, want)
			}
		}
		for _, e := range cascade {
			if name := e.String(); e != classify.EvidenceSNI && e != classify.EvidenceServer && seen[name] < 20 {
				t.Errorf("cascade %v: %d flows named by %s", cascade, seen[name], name)
			}
		}
	}
}

// TestLateMarks: an answer concerns every flow of its key that waits, however the
// queue grows and turns, and few of the others.
func TestLateMarks(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, most := range []int{1, 3, 100, 300} {
		q := lateQueue{most: 1 << 10}
		var waiting []uint64
		others := 0
		for range 20_000 {
			if hash := r.Uint64(); len(waiting) == 0 || len(waiting) < most && r.IntN(3) > 0 {
				q.push(lateFlow{}, hash)
				waiting = append(waiting, hash)
			} else {
				q.head++
				waiting = waiting[1:]
			}
			for _, hash := range waiting {
				if !q.concerns(hash) {
					t.Fatalf("%d wait, of which one is not known", len(waiting))
				}
			}
			if q.concerns(r.Uint64()) {
				others++
			}
		}
		if others > 20_000/4 {
			t.Errorf("with %d flows that wait, %d of 20,000 keys that do not seem to", most, others)
		}
	}
	q := lateQueue{most: 1 << 10}
	q.push(lateFlow{}, 1)
	q.held = q.tail
	if !q.concerns(2) {
		t.Error("an answer does not concern a flow for which something was held")
	}
	if q.head++; q.concerns(2) {
		t.Error("an answer concerns a flow that waits no longer")
	}
}

// TestServersOfManyClasses: that the roster is not asked again of a server with too many
// classes names no flow otherwise.
func TestServersOfManyClasses(t *testing.T) {
	names := []string{"e1.whatsapp.net", "mmi1.whatsapp.net", "mms1.whatsapp.net", "mmv1.whatsapp.net", "pps.whatsapp.net", "www.example"}
	r := rand.New(rand.NewPCG(3, 4))
	g := newGn(t)
	for i := range 3000 {
		server := fmt.Sprintf("192.0.2.%d", r.IntN(60))
		if r.IntN(3) == 0 {
			g.frame(g.answer("9.9.9.9", fmt.Sprintf("10.0.1.%d", r.IntN(200)), names[r.IntN(len(names))], server, 60))
		} else {
			client := fmt.Sprintf("10.0.2.%d", r.IntN(200))
			g.frame(g.tcp(client, server, 10_000+i, 443, "S", 99, 0, ""))
			g.frame(g.tcp(client, server, 10_000+i, 443, "A", 100, 1, "x"))
		}
		g.wait(time.Duration(r.IntN(60)) * time.Millisecond)
	}
	seen := map[string]int{}
	named := func(evicted uint64, shards int) (list []string) {
		cfg := config(shards)
		cfg.Records = func(records []flows.Record) {
			for i := range records {
				list = append(list, says(&records[i]))
				seen[records[i].Evidence]++
			}
		}
		e := newEngine(t, cfg)
		for _, r := range e.rosters {
			r.Evicted = evicted // of one that has forgotten servers, nothing is relied on
		}
		if err := e.Run(context.Background(), &memory{frames: g.list, batch: 100}); err != nil {
			t.Fatal(err)
		}
		slices.Sort(list)
		return list
	}
	want := named(1, 1)
	for _, shards := range []int{1, 3} {
		if got := named(0, shards); !slices.Equal(got, want) {
			t.Errorf("%d shards: %d flows are named otherwise than where the roster is asked again", shards, len(got))
		}
	}
	if seen["server"] < 100 || seen["none"] < 100 {
		t.Errorf("flows by their evidence: %v", seen)
	}
}
