package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/metrics"
	"github.com/nametap/nametap/probe"
	"github.com/nametap/nametap/synth"
)

// The tests in this file run the daemon between network namespaces: a sender
// plays a trace into one end of two veth pairs, nametap run captures at the other
// ends, and so does a recorder. What the daemon counts and writes has to be what
// analyze makes of the recording.

// taps makes two pairs of interfaces in a network namespace of the test's own,
// which goes away with the test's thread.
func taps(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("live capture needs root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("live capture needs the ip command to make interfaces: ", err)
	}
	runtime.LockOSThread() // and never unlock: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip("no network namespace to be had: ", err)
	}
	commands := []string{"link set lo up"}
	for _, n := range []string{"0", "1"} {
		commands = append(commands, "link add tap"+n+" type veth peer name far"+n)
		for _, name := range []string{"tap", "far"} {
			// Without addresses of its own, the kernel says nothing by itself.
			commands = append(commands, "link set "+name+n+" mtu 9000 addrgenmode none up")
		}
	}
	for _, command := range commands {
		ip(t, command)
	}
	// From here on the kernel stamps a frame once, when it arrives, and not
	// each time that a socket gets it: all see the same time.
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMP, 1); err != nil {
		t.Fatal(err)
	}
}

func ip(t *testing.T, command string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", command, err, out)
	}
}

// senders are packet sockets on the far ends.
func senders(t *testing.T) (fds [2]int) {
	t.Helper()
	for i := range fds {
		link, err := net.InterfaceByName(fmt.Sprintf("far%d", i))
		if err != nil {
			t.Fatal(err)
		}
		if fds[i], err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fds[i]) })
		if err := unix.Bind(fds[i], &unix.SockaddrLinklayer{Ifindex: link.Index}); err != nil {
			t.Fatal(err)
		}
	}
	return fds
}

// recorder keeps all frames that arrive.
type recorder struct {
	source capture.Source
	mu     sync.Mutex
	frames []capture.Frame
	done   chan struct{}
}

func record(t *testing.T) *recorder {
	t.Helper()
	source, err := capture.OpenLive(capture.LiveConfig{Interfaces: []string{"tap0", "tap1"}, Promiscuous: true})
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{source: source, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		var b capture.Batch
		for source.Next(&b) == nil {
			r.mu.Lock()
			for _, f := range b.Frames {
				f.Data = bytes.Clone(f.Data)
				r.frames = append(r.frames, f)
			}
			r.mu.Unlock()
			source.Release(&b)
		}
	}()
	t.Cleanup(func() {
		_ = source.Close()
		<-r.done
	})
	return r
}

func (r *recorder) all() []capture.Frame {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.frames)
}

// save writes a capture file for each interface.
func (r *recorder) save(t *testing.T) []string {
	t.Helper()
	var files []string
	for i := range uint16(2) {
		var b bytes.Buffer
		w := pcapgo.NewWriterNanos(&b)
		if err := w.WriteFileHeader(1<<18, layers.LinkTypeEthernet); err != nil {
			t.Fatal(err)
		}
		for _, f := range r.all() {
			if f.Interface != i {
				continue
			}
			info := gopacket.CaptureInfo{Timestamp: time.Unix(0, f.Time), CaptureLength: len(f.Data), Length: int(f.WireLen)}
			if err := w.WritePacket(info, f.Data); err != nil {
				t.Fatal(err)
			}
		}
		name := filepath.Join(t.TempDir(), fmt.Sprintf("tap%d.pcap", i))
		if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, name)
	}
	return files
}

// lines of the metrics page that say what was counted of packets.
func counts(page string) []string {
	var list []string
	for line := range strings.Lines(page) {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "nametap_"), " ")
		name, _, _ = strings.Cut(name, "{")
		switch {
		case !strings.HasPrefix(line, "nametap_"):
		case strings.HasPrefix(name, "capture_"), strings.HasPrefix(name, "config_"), strings.HasPrefix(name, "tap_"),
			strings.HasPrefix(name, "outage_"), strings.Contains(name, "forecast"), strings.HasSuffix(name, "_sum"),
			strings.Contains(name, "_rtt_"), strings.HasSuffix(name, "_limit"),
			name == "build_info", name == "names_interned", name == "naming_drift_total",
			name == "duplicate_window_cut_total":
			// Of the machine, the daemon, or of how many tables there are. Sums
			// of fractions end in other digits in another order, and which
			// segments of a flight are timed hangs on the daemon's secret seed.
		default:
			list = append(list, strings.TrimSpace(line))
		}
	}
	return list
}

func differing(got, want []string) string {
	var list []string
	for _, line := range want {
		if !slices.Contains(got, line) {
			list = append(list, "want "+line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			list = append(list, "got  "+line)
		}
	}
	return strings.Join(list, "\n")
}

// replayed is a source of recorded frames, and of silence after them.
type replayed struct {
	frames []capture.Frame
	quiet  int
	page   func()
}

func (r *replayed) Next(b *capture.Batch) error {
	n := min(len(r.frames), 100)
	b.Frames = append(b.Frames[:0], r.frames[:n]...)
	r.frames = r.frames[n:]
	if n > 0 {
		return nil
	}
	if r.quiet--; r.quiet < 0 {
		r.page()
		return io.EOF
	}
	return nil
}
func (r *replayed) Release(*capture.Batch) {}
func (r *replayed) Interfaces() []string   { return []string{"tap0", "tap1"} }
func (r *replayed) Stats() capture.Stats   { return capture.Stats{} }
func (r *replayed) Close() error           { return nil }

// shared are the flags of both. Evidence "server" is left out: how soon it
// reaches other subscribers is another matter where there are several workers.
var shared = []string{"--evidence", "sni,dns,dns-stale", "--subscriber-ids", "address", "--memory", "4G", "--apn", "internet"}

// expected returns the counts that one engine with those flags has after the
// frames, when a few seconds have passed.
func expected(t *testing.T, flags []string, list []capture.Frame) []string {
	t.Helper()
	s, cmd := &settings{}, &cobra.Command{}
	s.register(cmd)
	if err := cmd.ParseFlags(flags); err != nil {
		t.Fatal(err)
	}
	rules, err := s.loadRules()
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := s.engine(rules, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Shards = 1
	now := list[len(list)-1].Time
	cfg.Clock = func() int64 { now += 1e9; return now }
	e, err := probe.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var page string
	source := &replayed{frames: list, quiet: 10, page: func() {
		h := metrics.Handler(metrics.New(e.Snapshot, metrics.Config{}), nil)
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		page = answer.Body.String()
	}}
	if err := e.Run(context.Background(), source); err != nil {
		t.Fatal(err)
	}
	return counts(page)
}

// buffer is a writer that can be read meanwhile.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// inside returns a function that asks the daemon in this thread's network
// namespace for a page, from any other thread.
func inside(t *testing.T) func(address, path string) string {
	t.Helper()
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return func(address, path string) string {
		got := make(chan string)
		go func() {
			defer close(got)
			runtime.LockOSThread() // and never unlock: the thread is of no more use
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return
			}
			c, err := net.Dial("tcp", address)
			if err != nil {
				return
			}
			defer func() { _ = c.Close() }()
			_, _ = fmt.Fprintf(c, "GET %s HTTP/1.0\r\n\r\n", path)
			text, _ := io.ReadAll(c)
			got <- string(text)
		}()
		return <-got
	}
}

// TestWorkersGiveWhatOneGives: whatever the number of workers, every count of the
// daemon and each of its records is what analyze gives for the same packets, on
// Gi and in tunnels whose sessions only the control plane tells of.
func TestWorkersGiveWhatOneGives(t *testing.T) {
	scenarios, workers := []string{"busy-hour", "mixed-2026"}, []string{"1", "2", "4"}
	if testing.Short() { // enough for the race detector
		scenarios, workers = scenarios[1:], workers[1:2]
	}
	for _, scenario := range scenarios {
		for _, workers := range workers {
			t.Run(scenario+", "+workers, func(t *testing.T) { againstAnalyze(t, scenario, workers) })
		}
	}
}

func againstAnalyze(t *testing.T, scenario, workers string) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	taps(t)
	x := &session{fds: senders(t), tape: record(t), ask: inside(t)}
	if err := x.load(scenario); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "flows.jsonl")
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	problem := make(chan error, 1)
	go func() {
		defer stop()
		problem <- x.play(ctx, func() []string { return expected(t, shared, x.tape.all()) })
	}()
	code := execute(ctx, append([]string{
		"run", "--interface", "tap0,tap1", "--listen", "127.0.0.1:0", "--workers", workers, "--flows", file, "--ring", "64M",
	}, shared...), io.Discard, &x.log)
	stop()
	if err := <-problem; err != nil || code != 0 {
		t.Errorf("exit status %d, %v\n%s", code, err, x.log.String())
	}
	if !strings.Contains(x.log.String(), "workers="+workers+" method=") {
		t.Errorf("not %s workers:\n%s", workers, x.log.String())
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var want, errs buffer
	args := slices.Concat([]string{"analyze", "--flows", "-"}, shared, x.tape.save(t))
	if code := execute(context.Background(), args, &want, &errs); code != 0 {
		t.Fatalf("analyze: exit status %d: %s", code, errs.String())
	}
	compareRecords(t, string(got), want.String())
}

// session is one run of the daemon and what is around it.
type session struct {
	fds   [2]int
	tape  *recorder
	ask   func(address, path string) string
	log   buffer // of the daemon
	trace []sent
}

type sent struct {
	port  int
	frame []byte
}

func (x *session) load(scenario string) error {
	sc, err := synth.LoadScenario(scenario)
	if err != nil {
		return err
	}
	g, err := synth.New(sc, synth.Options{Seed: 11, Subscribers: 300, Duration: 3 * time.Minute})
	if err != nil {
		return err
	}
	var f synth.Frame
	for g.Next(&f) {
		x.trace = append(x.trace, sent{f.Interface(), bytes.Clone(f.Data)})
	}
	return nil
}

// eventually asks until the answer is nil, for as long as a busy machine may
// take.
func eventually(ctx context.Context, ask func() error) error {
	var err error
	for range 500 {
		if err = ask(); err == nil || ctx.Err() != nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

var pageAddress = regexp.MustCompile(`page=http://([0-9.:]+)/`)

// play sends the trace to the daemon, and waits until the daemon has counted what
// it should have.
func (x *session) play(ctx context.Context, expected func() []string) error {
	address := ""
	err := eventually(ctx, func() error {
		m := pageAddress.FindStringSubmatch(x.log.String())
		if m == nil {
			return errors.New("the daemon does not capture")
		}
		address = m[1]
		return nil
	})
	if err != nil {
		return err
	}
	if err := eventually(ctx, x.connect); err != nil {
		return err
	}
	if err := x.send(); err != nil {
		return err
	}
	err = eventually(ctx, func() error {
		list := slices.DeleteFunc(x.tape.all(), func(f capture.Frame) bool { return bytes.Equal(f.Data, probeFrame) })
		if len(list) != len(x.trace) {
			return fmt.Errorf("%d frames have arrived of %d", len(list), len(x.trace))
		}
		return nil
	})
	if err != nil {
		return err
	}
	want := expected()
	return eventually(ctx, func() error {
		if difference := differing(counts(x.ask(address, "/metrics")), want); difference != "" {
			return errors.New(difference)
		}
		return nil
	})
}

// probeFrame is of an EtherType for experiments (IEEE 802).
var probeFrame = append([]byte("\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02\x88\xb6"), make([]byte, 50)...)

// connect sends a frame to each interface: one that was just set up loses frames
// until the kernel has noticed that it has a carrier.
func (x *session) connect() error {
	seen := [2]bool{}
	for _, f := range x.tape.all() {
		seen[f.Interface] = true
	}
	for i, fd := range x.fds {
		if seen[i] {
			continue
		}
		if _, err := unix.Write(fd, probeFrame); err != nil {
			return err
		}
	}
	if seen != [2]bool{true, true} {
		return errors.New("no probe has come through")
	}
	return nil
}

// sentAtOnce frames are sent each millisecond: more, and a packet's copies are
// told in tables that are too small for so many, which hangs on the seed.
const sentAtOnce = 20

// send sends the trace from one processor, so that no frame overtakes another.
func (x *session) send() error {
	runtime.LockOSThread() // and never unlock: the thread is bound
	var one unix.CPUSet
	one.Set(runtime.NumCPU() - 1)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return err
	}
	for i, f := range x.trace {
		if i%sentAtOnce == 0 {
			time.Sleep(time.Millisecond)
		}
		if _, err := unix.Write(x.fds[f.port], f.frame); err != nil {
			return fmt.Errorf("send: %w", err)
		}
	}
	return nil
}

// seeded are the fields of a record that hang on the seed of the hashes, of which
// the daemon's is secret: flights share a small table for the segments that are
// timed.
var seeded = regexp.MustCompile(`"(server|access)_rtt_(min_s|mean_s|samples)":[^,}]+,?`)

func compareRecords(t *testing.T, got, want string) {
	t.Helper()
	lines := func(text string) []string {
		list := strings.Split(strings.TrimSpace(seeded.ReplaceAllString(text, "")), "\n")
		slices.Sort(list)
		return list
	}
	a, b := lines(got), lines(want)
	if len(a) < 100 || len(a) != len(b) {
		t.Fatalf("%d records, want %d, and many", len(a), len(b))
	}
	for i := range b {
		if a[i] != b[i] {
			t.Fatalf("record\n%s\nwant\n%s", a[i], b[i])
		}
	}
	if !strings.Contains(want, `"evidence":"dns"`) {
		t.Error("no flow is named by DNS: the trace proves too little")
	}
}
