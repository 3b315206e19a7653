package probe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/synth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config(shards int) Config {
	return Config{
		Shards: shards, Memory: 256 << 20, Subscribers: DefaultSubscribers(), Cascade: classify.DefaultCascade(),
		DNSGrace: 10 * time.Second, DNSStale: 6 * time.Hour, Rules: classify.Builtin(),
	}
}

func newEngine(t testing.TB, cfg Config) *Engine {
	t.Helper()
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// frames are a trace in memory.
func frames(t testing.TB, scenario string, options synth.Options) []capture.Frame {
	t.Helper()
	sc, err := synth.LoadScenario(scenario)
	if err != nil {
		t.Fatal(err)
	}
	g, err := synth.New(sc, options)
	if err != nil {
		t.Fatal(err)
	}
	var list []capture.Frame
	var f synth.Frame
	for g.Next(&f) {
		list = append(list, capture.Frame{
			Data: bytes.Clone(f.Data), Time: f.Time, WireLen: uint32(len(f.Data)), Link: decode.LinkEthernet,
		})
	}
	return list
}

// memory is a Source of frames in memory.
type memory struct {
	frames []capture.Frame
	batch  int
	err    error // at the end, instead of io.EOF
}

func (m *memory) Next(b *capture.Batch) error {
	if len(m.frames) == 0 {
		if m.err != nil {
			return m.err
		}
		return io.EOF
	}
	n := min(m.batch, len(m.frames))
	b.Frames = append(b.Frames[:0], m.frames[:n]...)
	m.frames = m.frames[n:]
	return nil
}
func (m *memory) Release(*capture.Batch) {}
func (m *memory) Interfaces() []string   { return []string{"memory"} }
func (m *memory) Stats() capture.Stats   { return capture.Stats{} }
func (m *memory) Close() error           { return nil }

// digest is everything that a run over the frames gives.
func digest(t testing.TB, cfg Config, list []capture.Frame, batch int) string {
	t.Helper()
	var records []flows.Record
	cfg.Records = func(r []flows.Record) { records = append(records, r...) }
	e := newEngine(t, cfg)
	if err := e.Run(context.Background(), &memory{frames: list, batch: batch}); err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(records, func(a, b flows.Record) int {
		x, y := a.Order(), b.Order()
		return x.Compare(&y)
	})
	s := e.Snapshot()
	text, err := json.Marshal([]any{records, s})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestShardsDoNotMatter(t *testing.T) {
	for _, scenario := range []string{"hostile-dns", "mixed-2026"} {
		t.Run(scenario, func(t *testing.T) {
			list := frames(t, scenario, synth.Options{Seed: 4, Subscribers: 150, Duration: 3 * time.Minute})
			for _, memory := range []int64{256 << 20, MinMemory} {
				cfg := config(1)
				cfg.Memory = memory
				want := digest(t, cfg, list, 300)
				for _, shards := range []int{1, 2, 3, 7, 64, 100} {
					cfg.Shards = shards
					if got := digest(t, cfg, list, 100*shards); got != want {
						t.Errorf("%d MiB, %d shards: another outcome than with one", memory>>20, shards)
					}
				}
			}
		})
	}
}

func TestClassesAddUpToAllTCP(t *testing.T) {
	list := frames(t, "hostile-dns", synth.Options{Seed: 5, Subscribers: 200, Duration: 2 * time.Minute})
	var packets, octets uint64
	d := decode.New(decode.Config{FragmentBytes: 1 << 20})
	for i := range list {
		p := decode.Packet{Time: list[i].Time}
		if d.Decode(list[i].Data, list[i].WireLen, list[i].Link, 0, &p) == decode.TCP {
			packets++
			octets += uint64(p.IPBytes)
		}
	}
	cfg := config(2)
	e := newEngine(t, cfg)
	if err := e.Run(context.Background(), &memory{frames: list, batch: 256}); err != nil {
		t.Fatal(err)
	}
	var gotPackets, gotOctets, opened, named uint64
	for _, c := range e.Snapshot().Classes {
		gotPackets += c.Packets[0] + c.Packets[1]
		gotOctets += c.Bytes[0] + c.Bytes[1]
		opened += c.Opened
		for _, n := range c.Named {
			named += n
		}
	}
	if gotPackets != packets || gotOctets != octets {
		t.Errorf("classes hold %d packets and %d bytes, the trace %d and %d", gotPackets, gotOctets, packets, octets)
	}
	if opened != named || opened == 0 {
		t.Errorf("%d flows, %d of them named by something or nothing", opened, named)
	}
}

// A snapshot while packets are worked sees counters that only grow.
func TestSnapshotsWhileRunning(t *testing.T) {
	list := frames(t, "busy-hour", synth.Options{Seed: 6, Subscribers: 300, Duration: time.Minute})
	cfg := config(3)
	e := newEngine(t, cfg)
	done := make(chan error)
	go func() { done <- e.Run(context.Background(), &memory{frames: list, batch: 64}) }()
	var last *Snapshot
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			running = false
		default:
		}
		s := e.Snapshot()
		if last != nil {
			if s.Frames < last.Frames || s.DNS.Responses < last.DNS.Responses || s.Time < last.Time {
				t.Fatal("a counter went down")
			}
			for i := range last.Classes {
				if s.Classes[i].Bytes[0] < last.Classes[i].Bytes[0] || s.Classes[i].Opened < last.Classes[i].Opened {
					t.Fatalf("class %s: a counter went down", s.Classes[i].Class)
				}
			}
		}
		last = s
	}
	if int(last.Frames) != len(list) {
		t.Errorf("%d frames of %d", last.Frames, len(list))
	}
}

func TestErrorOfTheSourceComesAfterItsFrames(t *testing.T) {
	list := frames(t, "quiet-hour", synth.Options{Seed: 1, Subscribers: 20, Duration: time.Minute})
	broken := errors.New("broken")
	for _, shards := range []int{1, 2} {
		e := newEngine(t, config(shards))
		if err := e.Run(context.Background(), &memory{frames: list, batch: 50, err: broken}); !errors.Is(err, broken) {
			t.Errorf("%d shards: %v", shards, err)
		}
		if n := e.Snapshot().Frames; int(n) != len(list) {
			t.Errorf("%d shards: %d frames of %d", shards, n, len(list))
		}
	}
}

// stopping stops its run after a few batches.
type stopping struct {
	memory
	stop context.CancelFunc
	left int
}

func (s *stopping) Next(b *capture.Batch) error {
	if s.left--; s.left == 0 {
		s.stop()
	}
	return s.memory.Next(b)
}

// TestStopsAndRunsOn: wherever a run is stopped, whatever was read ahead, the next
// one has all chunks and batches again, and works all it is given.
func TestStopsAndRunsOn(t *testing.T) {
	list := frames(t, "mixed-2026", synth.Options{Seed: 2, Subscribers: 20, Duration: 20 * time.Second})
	e := newEngine(t, config(3))
	for left := 1; left < 40; left++ {
		ctx, stop := context.WithCancel(t.Context())
		if err := e.Run(ctx, &stopping{memory{frames: list, batch: 50}, stop, left}); err != nil {
			t.Fatal(err)
		}
		if len(e.leasePool) != leases || len(e.chunkPool) != chunksAhead {
			t.Fatalf("stopped in batch %d: %d of %d batches are there again, and %d of %d chunks",
				left, len(e.leasePool), leases, len(e.chunkPool), chunksAhead)
		}
	}
	before := e.Snapshot().Frames
	if err := e.Run(t.Context(), &memory{frames: list, batch: 50}); err != nil {
		t.Fatal(err)
	}
	if n := e.Snapshot().Frames - before; n != uint64(len(list)) {
		t.Errorf("%d frames of %d were worked after that", n, len(list))
	}
}

func TestStopsWithItsContext(t *testing.T) {
	list := frames(t, "quiet-hour", synth.Options{Seed: 1, Subscribers: 20, Duration: time.Minute})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	e := newEngine(t, config(2))
	if err := e.Run(ctx, &memory{frames: list, batch: 50}); err != nil {
		t.Error(err)
	}
}

func TestIdleTapMovesOn(t *testing.T) {
	list := frames(t, "quiet-hour", synth.Options{Seed: 1, Subscribers: 50, Duration: 2 * time.Minute})
	end := list[len(list)-1].Time
	clock := end
	cfg := config(1)
	cfg.Clock = func() int64 { clock += 30 * second; return clock }
	e := newEngine(t, cfg)
	silent := &silence{memory: memory{frames: list, batch: 100}, batches: 400}
	var active int64 = -1
	silent.before = func() {
		active = 0
		for _, c := range e.Snapshot().Classes {
			active += c.Active
		}
	}
	if err := e.Run(context.Background(), silent); err != nil {
		t.Fatal(err)
	}
	if active != 0 {
		t.Errorf("after three hours of silence %d flows are active", active)
	}
}

// silence is a live source that goes on with empty batches.
type silence struct {
	memory
	batches int
	before  func()
}

func (s *silence) Next(b *capture.Batch) error {
	if len(s.frames) > 0 {
		return s.memory.Next(b)
	}
	b.Frames = b.Frames[:0]
	if s.batches--; s.batches == 0 {
		s.before()
		return io.EOF
	}
	return nil
}

func TestReloadKeepsFlows(t *testing.T) {
	rules, err := classify.Parse("new.yaml", []byte(`apps:
  - app: whatsapp
    domains: [whatsapp.net]
    classes:
      - class: everything
        names: ['.']
        kind: session
        idle_timeout: 1m
        examples: {match: [e1.whatsapp.net]}
`))
	if err != nil {
		t.Fatal(err)
	}
	list := frames(t, "busy-hour", synth.Options{Seed: 2, Subscribers: 100, Duration: 2 * time.Minute})
	e := newEngine(t, config(2))
	half := len(list) / 2
	source := &memory{frames: list[:half], batch: 100}
	reloaded := &then{memory: source, rest: list[half:], do: func() {
		if err := e.Reload(rules); err != nil {
			t.Error(err)
		}
	}}
	if err := e.Run(context.Background(), reloaded); err != nil {
		t.Fatal(err)
	}
	var chat, everything, total uint64
	for _, c := range e.Snapshot().Classes {
		switch c.Class {
		case "chat":
			chat = c.Opened
		case "everything":
			everything = c.Opened
		}
		total += c.Opened
	}
	if chat == 0 || everything == 0 || total < chat+everything {
		t.Errorf("chat %d flows before, everything %d after, %d in all", chat, everything, total)
	}
}

// then is a source that does something in the middle.
type then struct {
	*memory
	rest []capture.Frame
	do   func()
}

func (s *then) Next(b *capture.Batch) error {
	if len(s.frames) == 0 && s.do != nil {
		s.do()
		s.do = nil
		s.frames = s.rest
	}
	return s.memory.Next(b)
}

// The packet path allocates nothing, whatever it is fed.
func TestNoAllocations(t *testing.T) {
	good := frames(t, "mixed-2026", synth.Options{Seed: 3, Subscribers: 60, Duration: time.Minute})
	rng := rand.New(rand.NewPCG(1, 2))
	bad := make([]capture.Frame, 0, 5000)
	for i := range min(5000, len(good)) {
		f := good[i]
		f.Data = bytes.Clone(f.Data)
		for range 3 {
			f.Data[rng.IntN(len(f.Data))] ^= byte(1 + rng.IntN(255))
		}
		bad = append(bad, f)
	}
	for _, c := range []struct {
		name string
		list []capture.Frame
	}{{"good", good[:min(20000, len(good))]}, {"malformed", bad}} {
		t.Run(c.name, func(t *testing.T) {
			e := newEngine(t, config(1))
			e.source = &memory{}
			l := &lease{}
			l.batch.Scratch = make([]byte, 0, 1<<20)
			span := c.list[len(c.list)-1].Time - c.list[0].Time + second
			run := func() {
				for i := range c.list {
					c.list[i].Time += span
				}
				for at := 0; at < len(c.list); at += 500 {
					l.batch.Frames = c.list[at:min(at+500, len(c.list))]
					l.holders.Store(1 << 30)
					e.batch(l)
				}
			}
			for range 8 { // tables grow to what this input needs
				run()
			}
			if n := testing.AllocsPerRun(5, run); n > 2 {
				t.Errorf("%v allocations for %d frames", n, len(c.list))
			}
		})
	}
}

func BenchmarkEngine(b *testing.B) {
	for _, c := range []struct {
		name    string
		options synth.Options
	}{
		{"gi", synth.Options{Seed: 1, Subscribers: 3000, Duration: 90 * time.Second}},
		{"gtp", synth.Options{Seed: 1, Subscribers: 3000, Duration: 90 * time.Second, Encapsulation: "gtpu"}},
	} {
		list := frames(b, "busy-hour", c.options)
		for _, shards := range []int{1, runtime.GOMAXPROCS(0)} {
			b.Run(fmt.Sprintf("%s/shards=%d", c.name, shards), func(b *testing.B) {
				cfg := config(shards)
				cfg.Memory = 2 << 30
				for b.Loop() {
					e := newEngine(b, cfg)
					if err := e.Run(context.Background(), &memory{frames: list, batch: 400}); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(list)), "ns/packet")
			})
		}
	}
}
