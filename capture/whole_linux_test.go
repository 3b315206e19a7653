package capture_test

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/probe"
)

// TestWholeLoad: with the whole engine behind it, a live capture receives every
// packet that a sender offers or counts it as lost, and the engine counts each of
// them where it belongs. What it loses at which rate,
// and what the engine takes for a packet, is logged; no time makes it fail. The
// sender has the same processors.
//
// NAMETAP_LOAD_PACKETS is how many packets to send; for figures that mean
// something, some millions.
func TestWholeLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("a load test takes a while")
	}
	const size = 700
	n, figures := 100_000, false
	if s := os.Getenv("NAMETAP_LOAD_PACKETS"); s != "" {
		n, _ = strconv.Atoi(s)
		figures = true
	}
	frames := capture.LoadFrames(1<<15, size)
	paced := func(rate int) func(t *testing.T) int {
		return func(t *testing.T) int { return capture.SendPaced(t, "far0", frames, n, rate) }
	}
	inject := func(t *testing.T) int { return capture.InjectFrames(t, "tap0", frames[0], n) }
	transmit := func(t *testing.T) int { return capture.TransmitFrames(t, "far0", frames[0], n) }
	packet := func(workers int) func(t *testing.T) []capture.Source {
		return func(t *testing.T) []capture.Source { return openWorkers(t, workers) }
	}
	xdp := func(t *testing.T) []capture.Source { return []capture.Source{capture.OpenNativeXDP(t, "tap0")} }
	for _, engine := range []struct {
		name   string
		open   func(t *testing.T) []capture.Source
		shards int
		inject func(t *testing.T) int
	}{
		{"1 worker", packet(1), 1, inject},
		{"1 worker, 2 shards", packet(1), 2, inject},
		{"2 workers", packet(2), 1, inject},
		{"AF_XDP", xdp, 1, transmit},
		{"AF_XDP, 2 shards", xdp, 2, transmit},
	} {
		for _, load := range []struct {
			name string
			send func(t *testing.T) int
			// connections that the sender has.
			connections int
			rate        bool // tells at which rate losses begin, nothing else
		}{
			{"200k", paced(200_000), len(frames), true},
			{"400k", paced(400_000), len(frames), true},
			{"500k", paced(500_000), len(frames), true},
			{"600k", paced(600_000), len(frames), true},
			{"sendmmsg", paced(0), len(frames), false},
			{"XDP injector", engine.inject, capture.Injected, false},
		} {
			if load.rate && !figures {
				continue
			}
			t.Run(engine.name+", "+load.name, func(t *testing.T) { whole(t, engine.open, engine.shards, load.send, size, load.connections) })
		}
	}
}

func openWorkers(t *testing.T, workers int) []capture.Source {
	t.Helper()
	sources, info, err := capture.OpenLiveWorkers(capture.LiveConfig{
		Interfaces: []string{"tap0"}, Workers: workers, Subscribers: probe.DefaultSubscribers(), Seed: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	if workers > 1 && info.Method != capture.FanoutEBPF {
		t.Skipf("no eBPF: %+v", info)
	}
	return sources
}

// cpu is what threads have taken, in nanoseconds.
type cpu struct{ user, system int64 }

// cpuBesides is what the process has taken but for this thread, which sends. What
// getrusage(2) says of the whole process is no use: it has one division into user
// and system time for all, and the sender's work is that of interrupts, too.
func cpuBesides(t *testing.T) (c cpu) {
	t.Helper()
	const tick = 10_000_000 // USER_HZ, see proc(5)
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		if thread.Name() == strconv.Itoa(unix.Gettid()) {
			continue
		}
		text, err := os.ReadFile("/proc/self/task/" + thread.Name() + "/stat")
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(rest)
		user, _ := strconv.ParseInt(fields[14-3], 10, 64)
		system, _ := strconv.ParseInt(fields[15-3], 10, 64)
		c.user += user * tick
		c.system += system * tick
	}
	return c
}

func (c cpu) minus(o cpu) cpu { return cpu{c.user - o.user, c.system - o.system} }

func whole(t *testing.T, open func(t *testing.T) []capture.Source, shards int, send func(t *testing.T) int, size, connections int) {
	capture.InNamespace(t)
	capture.Veth(t, "tap0", "far0")
	sources := open(t)
	engines, err := probe.NewWorkers(len(sources), probe.Config{
		Shards: shards, Memory: 1 << 30, Subscribers: probe.DefaultSubscribers(), Cascade: classify.DefaultCascade(),
		DNSGrace: 10 * time.Second, DNSStale: 6 * time.Hour, Dedup: 10 * time.Millisecond, Rules: classify.Builtin(),
		Seed: 2, Clock: func() int64 { return time.Now().UnixNano() },
	})
	if err != nil {
		t.Fatal(err)
	}
	capture.Connect(t, sources[0], "far0")
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- engines.Run(ctx, sources) }()

	lost, before := capture.LostBefore(t), cpuBesides(t)
	start := time.Now()
	sent := send(t)
	elapsed := time.Since(start)
	received, last := uint64(0), uint64(1)
	for received != last { // until nothing more comes
		last = received
		time.Sleep(300 * time.Millisecond)
		received = engines.Snapshot().Frames
	}
	took := cpuBesides(t).minus(before)
	lost = capture.LostBefore(t) - lost
	s := engines.Snapshot()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, source := range sources {
		_ = source.Close()
	}
	drops := 0
	for _, i := range s.Source.Interfaces {
		drops += int(i.Drops[capture.DropRingFull])
	}
	t.Logf("%d sent at %.2f M/s, %d received, %d dropped by the rings, %d before them; %d ns of user and %d of system time a packet beside the sender; %d processors",
		sent, float64(sent)/elapsed.Seconds()/1e6, received, drops, lost,
		took.user/int64(max(received, 1)), took.system/int64(max(received, 1)), runtime.NumCPU())
	if int(received)+drops < sent-lost {
		t.Errorf("%d of %d are unaccounted for", sent-lost-int(received)-drops, sent)
	}
	if lost == 0 && drops == 0 {
		exact(t, engines.Snapshot(), uint64(sent), size, connections)
	}
}

// exact: of packets of which none was lost, every one counts once, in its
// connection and in its place there.
func exact(t *testing.T, s *probe.Snapshot, sent uint64, size, connections int) {
	t.Helper()
	var got flows.Counters
	for i := range s.Classes {
		c := &s.Classes[i].Counters
		got.Packets[flows.Down] += c.Packets[flows.Down]
		got.Bytes[flows.Down] += c.Bytes[flows.Down]
		got.Opened += c.Opened
		got.Retransmitted[flows.Down] += c.Retransmitted[flows.Down] + c.OutOfOrder[flows.Down] + c.Unseen[flows.Down]
	}
	want := flows.Counters{Opened: min(sent, uint64(connections))}
	want.Packets[flows.Down], want.Bytes[flows.Down] = sent, sent*uint64(size-14)
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
