package probe

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/flows"
)

// rush is flows that make room for others, all in one step of packet time, then
// a pause after which all that are left have timed out, and a few steps more.
func rush(t *testing.T, n int) []capture.Frame {
	t.Helper()
	forge, r := synFlood(0x0a000000, 0xc6120000, 0x7fff, decode.SYN), rand.New(rand.NewPCG(1, 2))
	var list []capture.Frame
	add := func(at int64) {
		b := slices.Clone(forge(r, len(list), make([]byte, 64)))
		list = append(list, capture.Frame{Time: at, Data: b, WireLen: uint32(len(b)), Link: decode.LinkRaw})
	}
	for i := range n {
		add(second + int64(i))
	}
	for i := range int64(50) {
		add(100*second + i*step)
	}
	return list
}

// TestRecordsAreBounded: however many flows end at once, few of their records
// wait, none is lost, and their order does not hang on the number of shards.
func TestRecordsAreBounded(t *testing.T) {
	count := 250_000
	if testing.Short() {
		count = 50_000
	}
	list := rush(t, count)
	run := func(shards int, seen func(*Engine)) (out []byte) {
		cfg := config(shards)
		cfg.Memory = MinMemory
		var e *Engine
		n := 0
		cfg.Records = func(batch []flows.Record) {
			if len(batch) > mostHanded {
				t.Errorf("%d records at once", len(batch))
			}
			n += len(batch)
			for i := range batch {
				line, _ := json.Marshal(&batch[i])
				out = append(out, line...)
			}
			seen(e)
		}
		e = newEngine(t, cfg)
		if err := e.Run(context.Background(), &memory{frames: list, batch: 300}); err != nil {
			t.Fatal(err)
		}
		opened := 0
		for i := range e.Snapshot().Classes {
			opened += int(e.Snapshot().Classes[i].Opened)
		}
		if n != opened || n < count/5*4 {
			t.Errorf("%d shards: %d records of %d flows", shards, n, opened)
		}
		for _, a := range e.parts {
			if len(a.ended[0])+len(a.ended[1]) > 0 {
				t.Errorf("%d shards: records are left", shards)
			}
		}
		return out
	}
	most := 0
	want := run(1, func(e *Engine) { most = max(most, waitingRecords(e)) })
	if bound := MinMemory / 100 * recordsShare / 400; most > bound {
		t.Errorf("room for %d records, want %d at most", most, bound)
	}
	for _, shards := range []int{2, 7} {
		if string(run(shards, func(*Engine) {})) != string(want) {
			t.Errorf("%d shards: other records, or in another order, than with one", shards)
		}
	}
}

// TestSightingsOfManyAreBounded: flows that time out all at once, or that have all
// waited in vain for an answer, leave few sightings at a time, and each counts.
func TestSightingsOfManyAreBounded(t *testing.T) {
	const count = 50_000
	silent, spoken := rush(t, count), rush(t, count)
	data := newGn(t).tcp("10.0.0.1", "198.18.0.1", 40000, 443, "A", 1, 1, "hello")
	for i := range spoken {
		b := slices.Clone(data)
		copy(b[12:20], spoken[i].Data[12:20])
		spoken[i].Data, spoken[i].WireLen = b, uint32(len(b))
		if i >= count { // a second's wait, not a time-out's
			spoken[i].Time -= 97 * second
		}
	}
	for name, list := range map[string][]capture.Frame{"timed out": silent, "waited": spoken} {
		t.Run(name, func(t *testing.T) {
			var want string
			for _, shards := range []int{1, 3} {
				cfg := config(shards)
				cfg.Memory, cfg.Dedup = MinMemory, 0
				var e *Engine
				most := 0
				cfg.WatchEvery = step * time.Nanosecond
				cfg.Watch = func(*Snapshot) { // at the end of each step, before its sightings are taken
					if shards > 1 {
						return
					}
					n := 0
					for _, s := range e.shards {
						n += len(s.sightings[0].list) + len(s.sightings[1].list)
					}
					most = max(most, n)
				}
				e = newEngine(t, cfg)
				if err := e.Run(t.Context(), &memory{frames: list, batch: 300}); err != nil {
					t.Fatal(err)
				}
				s := e.Snapshot()
				if bound := 2 * partitions * max(e.budget.timedOut, e.budget.late/lateShare); shards == 1 && (most < 500 || most > bound) {
					t.Errorf("%d sightings were waiting, want %d at most", most, bound)
				}
				if opened, servers := s.Classes[0].Opened, s.Classes[0].Servers; opened != count+50 || servers < e.budget.allServer/2 {
					t.Errorf("%d flows, %d servers", opened, servers)
				}
				text, _ := json.Marshal(s)
				if want == "" {
					want = string(text)
				}
				if string(text) != want {
					t.Errorf("%d shards: another outcome than with one", shards)
				}
			}
		})
	}
}

// TestFactsAreBounded: what a flood of answers teaches takes the room it was
// given, and what found none is counted, whatever the number of shards.
func TestFactsAreBounded(t *testing.T) {
	g := newGn(t)
	forge, r := dnsFlood(g), rand.New(rand.NewPCG(1, 2))
	var list []capture.Frame
	for i := range 50_000 { // half a step's
		b := slices.Clone(forge(r, i, make([]byte, 512)))
		list = append(list, capture.Frame{Time: second + int64(i), Data: b, WireLen: uint32(len(b)), Link: decode.LinkRaw})
	}
	var want uint64
	for _, shards := range []int{1, 2, 7} {
		cfg := config(shards)
		cfg.Memory = MinMemory
		answers := uint64(0)
		cfg.Answers = func(name []byte, _ uint8, _ decode.Addr, _ int64) {
			if len(name) == 0 {
				t.Error("a fact without its name")
			}
			answers++
		}
		e := newEngine(t, cfg)
		if err := e.Run(context.Background(), &memory{frames: list, batch: 300}); err != nil {
			t.Fatal(err)
		}
		s := e.Snapshot()
		if answers == 0 || answers > uint64(e.budget.learned()) || answers+s.Tables.FactsRefused != s.DNS.Addresses {
			t.Errorf("%d of %d addresses were told, %d refused, room for %d", answers, s.DNS.Addresses, s.Tables.FactsRefused, e.budget.learned())
		}
		if want == 0 {
			want = answers
		}
		if answers != want {
			t.Errorf("%d shards: %d addresses were told, with one %d", shards, answers, want)
		}
		for _, s := range e.shards {
			for phase := range 2 {
				if cap(s.learned[phase].list) != len(s.own)*e.budget.facts {
					t.Fatal("a list grew beyond its room")
				}
			}
		}
	}
}

// TestRosterEvictedAndShards: how many servers made room for others does not hang
// on how many copies of the roster there are.
func TestRosterEvictedAndShards(t *testing.T) {
	g := newGn(t)
	forge, r := dnsFlood(g), rand.New(rand.NewPCG(1, 2))
	var list []capture.Frame
	for i := range 20_000 { // two seconds of them
		b := slices.Clone(forge(r, i, make([]byte, 512)))
		list = append(list, capture.Frame{Time: second + int64(i)*100_000, Data: b, WireLen: uint32(len(b)), Link: decode.LinkRaw})
	}
	for _, n := range []int{len(list), len(list) - 1001} { // an even and an odd number of steps
		var want uint64
		for _, shards := range []int{1, 3} {
			cfg := config(shards)
			cfg.Memory = MinMemory
			e := newEngine(t, cfg)
			if err := e.Run(t.Context(), &memory{frames: list[:n], batch: 300}); err != nil {
				t.Fatal(err)
			}
			got := e.Snapshot().Tables.RosterEvicted
			if want == 0 {
				want = got
			}
			if got != want || want < 1000 {
				t.Errorf("%d shards, %d frames: %d servers were evicted, want %d", shards, n, got, want)
			}
		}
	}
}

// TestAnswersAreToldOnce: each is told, in the order of steps, in whichever run it
// came; what it taught is known in the next.
func TestAnswersAreToldOnce(t *testing.T) {
	for _, shards := range []int{1, 2} {
		g := newGn(t)
		var told, want []string
		cfg := config(shards)
		cfg.Answers = func(name []byte, _ uint8, _ decode.Addr, _ int64) { told = append(told, string(name)) }
		var named uint64
		e := newEngine(t, cfg)
		for i := range 5 {
			first := len(g.list)
			for step := range 2 + i%2 {
				want = append(want, fmt.Sprintf("e%d%d.whatsapp.net", i, step))
				g.wait(100 * time.Millisecond).frame(g.answer("9.9.9.9", fmt.Sprintf("10.0.%d.%d", step, i), want[len(want)-1], "203.0.113.9", 600))
			}
			if i == 4 {
				g.frame(g.tcp("10.0.9.9", "203.0.113.9", 40000, 443, "A", 1, 1, "hello"))
			}
			if err := e.Run(t.Context(), &memory{frames: g.list[first:], batch: 1}); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(told, want) {
				t.Fatalf("%d shards, run %d: told\n%v, want\n%v", shards, i, told, want)
			}
		}
		for _, c := range e.Snapshot().Classes {
			named += c.Named[classify.EvidenceServer]
		}
		if named != 1 {
			t.Errorf("%d shards: %d flows named by what others were told in runs before, want 1", shards, named)
		}
	}
}

// watched is a source that calls look before each batch.
type watched struct {
	memory
	look func()
}

func (w *watched) Next(b *capture.Batch) error {
	w.look()
	return w.memory.Next(b)
}

// TestSightingsAreBounded: where packet time stands still, sightings of servers do
// not pile up, and each counts.
func TestSightingsAreBounded(t *testing.T) {
	g, r := newGn(t), rand.New(rand.NewPCG(1, 2))
	data := g.tcp("10.0.0.1", "198.18.0.1", 40000, 443, "A", 1, 1, "hello")
	servers := map[string]bool{}
	var list []capture.Frame
	for range 60_000 {
		b := slices.Clone(data)
		put(b[12:], 10<<24, r.Uint32()&0xffffff)
		put(b[16:], 198<<24|18<<16, r.Uint32()&0x7ff)
		servers[string(b[16:20])] = true
		list = append(list, capture.Frame{Time: second, Data: b, WireLen: uint32(len(b)), Link: decode.LinkRaw})
	}
	var want string
	for _, shards := range []int{1, 3} {
		cfg := config(shards)
		cfg.Memory, cfg.Dedup = MinMemory, 0
		e := newEngine(t, cfg)
		most := 0
		source := &watched{memory{frames: list, batch: 300}, func() {
			n := 0
			for _, s := range e.shards {
				if shards == 1 {
					n += len(s.sightings[0].list) + len(s.sightings[1].list)
				}
			}
			most = max(most, n)
		}}
		if err := e.Run(context.Background(), source); err != nil {
			t.Fatal(err)
		}
		if shards == 1 && (most == 0 || most > e.budget.ahead) {
			t.Errorf("%d sightings were waiting, want %d at most", most, e.budget.ahead)
		}
		s := e.Snapshot()
		if got := s.Classes[0].Servers; got != len(servers) {
			t.Errorf("%d shards: %d servers of %d", shards, got, len(servers))
		}
		text, _ := json.Marshal(s)
		if want == "" {
			want = string(text)
		}
		if string(text) != want {
			t.Errorf("%d shards: another outcome than with one", shards)
		}
	}
}
