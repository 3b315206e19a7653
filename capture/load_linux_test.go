package capture

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/capture/xdp"
)

// load is what happened to the packets of a load test.
type load struct {
	sent, received, drops, elsewhere int
	elapsed                          time.Duration
	user, system                     time.Duration // of the readers alone
}

func (l load) String() string {
	return fmt.Sprintf("%d sent at %.2f M/s, %d received, %d dropped by the ring, %d before it; the reader: %.0f ns user, %.0f ns system a packet",
		l.sent, float64(l.sent)/l.elapsed.Seconds()/1e6, l.received, l.drops, l.elsewhere,
		float64(l.user.Nanoseconds())/float64(max(l.received, 1)), float64(l.system.Nanoseconds())/float64(max(l.received, 1)))
}

// run has each source read and its frames decoded by a thread of its own while
// send sends.
func run(t *testing.T, sources []Source, send func() int) load {
	t.Helper()
	var l load
	var mu sync.Mutex
	var readers sync.WaitGroup
	var sending atomic.Bool
	sending.Store(true)
	for _, s := range sources {
		readers.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			received := 0
			d := decode.New(decode.Config{})
			var p decode.Packet
			var b Batch
			var before, after unix.Rusage
			if err := unix.Getrusage(unix.RUSAGE_THREAD, &before); err != nil {
				t.Error(err)
			}
			for again := sending.Load(); ; again = sending.Load() {
				if err := s.Next(&b); err != nil {
					t.Error(err)
					break
				}
				got := len(b.Frames)
				for i := range b.Frames {
					f := &b.Frames[i]
					if d.Decode(f.Data, f.WireLen, f.Link, f.VLAN, &p) == decode.TCP {
						received++
					}
				}
				s.Release(&b)
				if got == 0 && !again {
					break
				}
			}
			if err := unix.Getrusage(unix.RUSAGE_THREAD, &after); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			l.received += received
			l.user += time.Duration(after.Utime.Nano() - before.Utime.Nano())
			l.system += time.Duration(after.Stime.Nano() - before.Stime.Nano())
		})
	}
	start := time.Now()
	l.sent = send()
	l.elapsed = time.Since(start)
	sending.Store(false)
	readers.Wait()
	for _, s := range sources {
		for _, i := range s.Stats().Interfaces {
			l.drops += int(i.Drops[DropRingFull])
		}
	}
	return l
}

// lostBefore returns what interfaces of the test's namespace have dropped: on
// its way to a veth's other end a packet can find a queue full.
func lostBefore(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/net/dev")
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for _, line := range strings.Split(string(text), "\n")[2:] {
		for i, field := range strings.Fields(line) {
			if i == 4 || i == 12 { // drop, of those received and those sent
				n, _ := strconv.Atoi(field)
				lost += n
			}
		}
	}
	return lost
}

// Every packet that a sender can offer is received, or counted as lost. What the
// readers take for it is logged; no time makes the test fail.
func TestLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("a load test takes a while")
	}
	const size = 700
	n := 100_000 // for figures that mean something, some millions
	if s := os.Getenv("NAMETAP_LOAD_PACKETS"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	frames := loadFrames(2048, size)
	mmsg := func(t *testing.T) int { return sendMany(t, "far0", frames, n) }
	ring := func(t *testing.T) int { return sendRing(t, "far0", frames, n) }
	replay := func(t *testing.T) int { return tcpreplay(t, "far0", frames, n) }
	pass := func(t *testing.T) int { return injectXDP(t, "tap0", xdpPass, frames[0], n) }
	transmit := func(t *testing.T) int { return injectXDP(t, "far0", xdpTx, frames[0], n) }
	packet := func(workers int) func(t *testing.T) []Source {
		return func(t *testing.T) []Source {
			sources, info, err := OpenLiveWorkers(LiveConfig{
				Interfaces: []string{"tap0"}, Workers: workers, Subscribers: testNets, Seed: workersSeed,
			})
			if err != nil {
				t.Fatal(err)
			}
			if workers > 1 && info.Method != FanoutEBPF {
				t.Logf("%+v", info)
			}
			return sources
		}
	}
	xsk := func(mode xdp.Mode) func(t *testing.T) []Source {
		return func(t *testing.T) []Source { return []Source{openXDPTest(t, mode, 0, "tap0")} }
	}
	for _, test := range []struct {
		name string
		open func(t *testing.T) []Source
		send func(t *testing.T) int
	}{
		{"packet, sendmmsg", packet(1), mmsg},
		{"packet, TX ring", packet(1), ring},
		{"packet, tcpreplay", packet(1), replay},
		{"packet, XDP injector", packet(1), pass},
		{"packet, 2 workers, sendmmsg", packet(2), mmsg},
		{"packet, 2 workers, XDP injector", packet(2), pass},
		{"xdp generic, sendmmsg", xsk(xdp.Generic), mmsg},
		{"xdp generic, XDP injector", xsk(xdp.Generic), pass},
		{"xdp native, sendmmsg", xsk(xdp.Native), mmsg},
		{"xdp native, XDP injector", xsk(xdp.Native), transmit},
	} {
		t.Run(test.name, func(t *testing.T) {
			inNamespace(t)
			veth(t, "tap0", "far0")
			sources := test.open(t)
			for _, s := range sources {
				defer s.Close()
			}
			connect(t, sources[0], 0, "far0")
			before := lostBefore(t)
			l := run(t, sources, func() int { return test.send(t) })
			l.elsewhere = lostBefore(t) - before
			t.Log(l)
			if l.received+l.drops < l.sent-l.elsewhere || l.received > l.sent {
				t.Errorf("%d of %d are unaccounted for", l.sent-l.elsewhere-l.received-l.drops, l.sent)
			}
		})
	}
}

// tcpreplay sends with the program of that name.
func tcpreplay(t *testing.T, name string, frames [][]byte, n int) int {
	t.Helper()
	if _, err := exec.LookPath("tcpreplay"); err != nil {
		t.Skip("no tcpreplay: ", err)
	}
	stay(t)
	w := little().pcap(magicNano, 65535, 1)
	for i, f := range frames {
		w.record(uint32(i), 0, string(f), uint32(len(f)))
	}
	file := filepath.Join(t.TempDir(), "load.pcap")
	if err := os.WriteFile(file, w.b, 0o600); err != nil {
		t.Fatal(err)
	}
	loops := max(n/len(frames), 1)
	out, err := exec.Command("tcpreplay", "-q", "-K", "--topspeed", "--loop", strconv.Itoa(loops), "-i", name, file).CombinedOutput()
	if err != nil {
		t.Fatalf("tcpreplay: %v: %s", err, out)
	}
	return loops * len(frames)
}

// With what LiveConfig leaves open, the kernel keeps all that comes while nobody
// reads for 300 ms: half a million packets a second, of 700 bytes.
func TestStall(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 100 MB of packets and a while")
	}
	const n, size = 150_000, 700
	for _, mode := range []Mode{ModePacket, ModeXDP} {
		t.Run(string(mode), func(t *testing.T) {
			inNamespace(t)
			veth(t, "tap0", "far0")
			// The time-out is out of the way: on a busy machine the packets may
			// take longer to come, and blocks would go unfilled.
			s, err := OpenLive(LiveConfig{Interfaces: []string{"tap0"}, Mode: mode, BlockTimeout: time.Second})
			if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.ENOMEM) {
				t.Skip("not to be had here: ", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			connect(t, s, 0, "far0")
			sent := sendMany(t, "far0", loadFrames(1024, size), n)
			l := run(t, []Source{s}, func() int { return sent })
			missing := n - l.received - lostBefore(t)
			if missing > n/100 || l.drops != 0 {
				t.Errorf("%+v", l)
			} else if missing > 0 {
				t.Skipf("%d of %d packets were lost on their way to the ring, which dropped none: the machine is too busy to tell", missing, n)
			}
		})
	}
}

func TestLiveShares(t *testing.T) {
	for _, test := range []struct {
		mode                Mode
		workers, ring       int
		wantRing, wantBlock int
	}{
		{ModePacket, 1, 0, 128 << 20, 1 << 20},
		{ModePacket, 4, 0, 48 << 20, 1 << 20},
		{ModePacket, 16, 0, 12 << 20, 512 << 10},
		{ModePacket, 2, 64 << 20, 32 << 20, 1 << 20},
		{ModeXDP, 4, 0, 512 << 20, 1 << 20},
	} {
		c, err := LiveConfig{Interfaces: []string{"x"}, Mode: test.mode, Workers: test.workers, RingBytes: test.ring}.withDefaults()
		if err != nil || c.RingBytes != test.wantRing || c.BlockBytes != test.wantBlock {
			t.Errorf("%+v: %+v, %v", test, c, err)
		}
	}
}
