package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nametap/nametap/capture"
)

// TestReplay: behind tcpreplay, which sends a trace from another network namespace
// as fast as it can, the daemon loses nothing, and its counts and records are what
// analyze makes of the same file.
//
// The times of packets are those of their arrival, twenty seconds in a tenth of
// one. So the traces are shorter than every time-out, answers are made to stay
// valid, and what is left of time is not compared: see ageless and timeless.
// Evidence "server" is left out, for what others have learned is shared in steps
// of packet time, and so are copies, which are told by milliseconds.
//
// NAMETAP_LOAD_PACKETS is about how many packets to send; for figures that mean
// something, some hundred thousands.
func TestReplay(t *testing.T) {
	if testing.Short() {
		t.Skip("a load test takes a while")
	}
	if _, err := exec.LookPath("tcpreplay"); err != nil {
		t.Skip("no tcpreplay: ", err)
	}
	taps(t) // or skip, before the traces are made
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	gi, gn := newTrace(t, "none"), newTrace(t, "gtpu")
	ports := newTrace(t, "gtpu", "--split")
	top, paced := []string{"--preload-pcap", "--topspeed"}, []string{"--preload-pcap", "--mbps", "500"}
	both := []string{"--topspeed", "--dualfile"} // which cannot be loaded before
	packet := func(flags ...string) []string { return append(flags, "--ring", "128M") }
	xdp := func(flags ...string) []string { return append(flags, "--ring", "512M", "--capture", "xdp") }
	for _, test := range []struct {
		name  string
		trace *trace
		speed []string
		flags []string
		more  bool // for figures only
	}{
		{"Gi, 500 Mbit per s", gi, paced, packet("--shards", "1"), false},
		{"Gi", gi, top, packet("--shards", "1"), true},
		{"Gn, 2 shards", gn, top, packet("--shards", "2"), true},
		{"Gn, 2 workers", gn, top, packet("--workers", "2"), false},
		{"2 ports, 2 shards", ports, both, packet("--shards", "2"), false},
		{"2 ports, 2 workers", ports, both, packet("--workers", "2"), true},
		{"Gi, AF_XDP", gi, top, xdp("--shards", "1"), false},
		{"Gn, AF_XDP, 2 shards", gn, top, xdp("--shards", "2"), false},
		{"Gn, AF_XDP, 500 Mbit per s", gn, paced, xdp("--shards", "2"), true},
	} {
		if test.more && os.Getenv("NAMETAP_LOAD_PACKETS") == "" {
			continue
		}
		t.Run(test.name, func(t *testing.T) { test.trace.replay(t, test.speed, test.flags) })
	}
}

// ageless are flags of both, with which answers do not grow old.
var ageless = append([]string{"--dns-grace", "24h", "--dedup", "0"}, shared...)

// trace is a trace, and what analyze makes of it.
type trace struct {
	files           []string // one a port
	packets, bytes  uint64
	counts, records []string
}

func newTrace(t *testing.T, encapsulation string, flags ...string) *trace {
	t.Helper()
	subscribers := 3000 // some 44,000 packets
	if s := os.Getenv("NAMETAP_LOAD_PACKETS"); s != "" {
		n, _ := strconv.Atoi(s)
		subscribers = max(n/13, 1)
	}
	dir := t.TempDir()
	said(t, append([]string{
		"synth", "--scenario", "mixed-2026", "--subscribers-count", strconv.Itoa(subscribers), "--duration", "20s",
		"--seed", "7", "--encapsulation", encapsulation, "-o", filepath.Join(dir, "trace.pcap"),
	}, flags...))
	r := &trace{}
	r.files, _ = filepath.Glob(filepath.Join(dir, "*.pcap"))
	frames := r.read(t)
	r.counts = timeless(expected(t, ageless, frames))
	r.records = timelessRecords(t, said(t, slices.Concat([]string{"analyze", "--flows", "-"}, ageless, r.files)))
	if len(r.records) < 100 || !strings.Contains(strings.Join(r.records, ""), `"evidence":"dns"`) {
		t.Fatal("the trace proves too little")
	}
	return r
}

// said returns what a command writes to its standard output.
func said(t *testing.T, args []string) string {
	t.Helper()
	var out, errs buffer
	if code := execute(context.Background(), args, &out, &errs); code != 0 {
		t.Fatalf("%s: exit status %d: %s", args[0], code, errs.String())
	}
	return out.String()
}

func (r *trace) read(t *testing.T) (frames []capture.Frame) {
	t.Helper()
	source, err := capture.Open(r.files)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = source.Close() }()
	var b capture.Batch
	for err = source.Next(&b); err == nil; err = source.Next(&b) {
		for _, f := range b.Frames {
			f.Data = bytes.Clone(f.Data)
			frames = append(frames, f)
			r.bytes += uint64(f.WireLen)
		}
		source.Release(&b)
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	r.packets = uint64(len(frames))
	return frames
}

func (r *trace) replay(t *testing.T, speed, flags []string) {
	taps(t)
	// Frames that would not fit into AF_XDP's chunks could not be sent either.
	ip(t, "link set tap0 mtu 1600")
	ip(t, "link set tap1 mtu 1600")
	far := elsewhere(t)
	send := slices.Concat([]string{"-q"}, speed, []string{"-i", "far0"}, r.files)
	records := filepath.Join(t.TempDir(), "flows.jsonl")
	args := slices.Concat([]string{"--flows", records}, ageless, flags)
	if len(r.files) > 1 {
		send = slices.Concat([]string{"-q"}, speed, []string{"-i", "far0", "-I", "far1"}, r.files)
		args = append(args, "--interface", "tap1")
	}
	d := inTaps(t, args...)
	ask := inside(t)
	far.enter(t)
	up(t)
	t.Log(tcpreplay(t, send...))
	address := pageAddress.FindStringSubmatch(d.log.String())[1]
	err := eventually(context.Background(), func() error {
		page := ask(address, "/metrics")
		if err := r.captured(page); err != nil {
			return err
		}
		if difference := differing(timeless(counts(page)), r.counts); difference != "" {
			return errors.New(difference)
		}
		return nil
	})
	if lost := lostOnTheWay(t); err != nil && lost > 0 {
		t.Skipf("%d packets were lost between the interfaces, before the capture: the machine is too busy to tell", lost)
	}
	if err != nil {
		t.Error(err)
	}
	if code := d.end(); code != 0 {
		t.Errorf("exit status %d:\n%s", code, d.log.String())
	}
	text, err := os.ReadFile(records)
	if err != nil {
		t.Fatal(err)
	}
	if difference := differing(timelessRecords(t, string(text)), r.records); difference != "" {
		t.Errorf("records: %s", difference)
	}
}

// captured says what the daemon's capture has lost, or has not received yet.
func (r *trace) captured(page string) error {
	sums := map[string]float64{}
	for line := range strings.Lines(page) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, _, _ = strings.Cut(name, "{")
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			sums[name] += n
		}
	}
	got := [...]float64{
		sums["nametap_capture_packets_total"], sums["nametap_capture_bytes_total"],
		sums["nametap_capture_drops_total"], sums["nametap_capture_ring_freezes_total"],
	}
	if want := [...]float64{float64(r.packets), float64(r.bytes), 0, 0}; got != want {
		return fmt.Errorf("packets, bytes, drops and freezes: %.0f, want %.0f", got, want)
	}
	return nil
}

// namespace is a network namespace in which nobody is.
type namespace struct{ file *os.File }

// elsewhere moves the far ends to a namespace of their own, which goes away with
// the test.
func elsewhere(t *testing.T) namespace {
	t.Helper()
	made := make(chan error)
	var n namespace
	go func() {
		runtime.LockOSThread() // and never unlock: the thread is of no more use
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			n.file, err = os.Open("/proc/thread-self/ns/net")
		}
		made <- err
	}()
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.file.Close() })
	for _, name := range []string{"far0", "far1"} {
		ip(t, fmt.Sprintf("link set %s netns /proc/%d/fd/%d", name, os.Getpid(), n.file.Fd()))
	}
	return n
}

// enter takes the test's thread there, and binds it to one processor: what it
// starts sends from there, so that no frame overtakes another.
func (n namespace) enter(t *testing.T) {
	t.Helper()
	if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	var one unix.CPUSet
	one.Set(runtime.NumCPU() - 1)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"far0", "far1"} {
		ip(t, "link set "+name+" mtu 1600 addrgenmode none up")
	}
}

// up waits until the kernel has noticed that the far ends have a carrier: it drops
// what is sent before.
func up(t *testing.T) {
	t.Helper()
	for _, name := range []string{"far0", "far1"} {
		err := eventually(context.Background(), func() error {
			out, err := exec.Command("ip", "-o", "link", "show", name).CombinedOutput()
			if err != nil || !strings.Contains(string(out), " state UP ") {
				return fmt.Errorf("%v: %s", err, out)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// tcpreplay sends, and returns at what rate.
func tcpreplay(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("tcpreplay", args...).CombinedOutput()
	if err != nil || regexp.MustCompile(`(Failed|Truncated) packets: +[1-9]`).Match(out) {
		t.Fatalf("tcpreplay: %v: %s", err, out)
	}
	return strings.Join(regexp.MustCompile(`(?m)^(Actual|Rated): .*`).FindAllString(string(out), -1), "; ")
}

// lostOnTheWay returns what the far ends have dropped of what was sent: the other
// ends have queues, which can be full.
func lostOnTheWay(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/net/dev")
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); strings.HasPrefix(fields[0], "far") {
			n, _ := strconv.Atoi(fields[12]) // sent: dropped
			lost += n
		}
	}
	return lost
}

// timeless leaves out of counts what hangs on how long something took. A segment
// that fills a gap was sent again or was overtaken by others, by how late it comes:
// the two are added up.
func timeless(counts []string) []string {
	var list []string
	filled := map[string]uint64{}
	for _, line := range counts {
		family, _, _ := strings.Cut(strings.TrimPrefix(line, "nametap_"), "{")
		repeats := strings.NewReplacer("out_of_order", "repeated", "retransmitted", "repeated").Replace(line)
		switch {
		case strings.HasPrefix(family, "flow_duration_"), strings.Contains(family, "_throughput_"),
			strings.HasPrefix(family, "transfer_experience_"), strings.Contains(family, "_lost_before_tap_"),
			// A flow without a name asks for one again, for a second; one that
			// ends meanwhile is counted when the second is over, with the size
			// that it has then.
			strings.HasPrefix(family, "dnsmap_lookups_"), strings.HasSuffix(family, "_size_bytes_bucket"):
		case repeats != line:
			series, value, _ := strings.Cut(repeats, "} ")
			n, _ := strconv.ParseUint(value, 10, 64)
			filled[series] += n
		default:
			list = append(list, line)
		}
	}
	for series, n := range filled {
		list = append(list, fmt.Sprintf("%s} %d", series, n))
	}
	slices.Sort(list)
	return list
}

// timelessRecords does the same with records, which come in no order that matters.
func timelessRecords(t *testing.T, text string) []string {
	t.Helper()
	var list []string
	for line := range strings.Lines(text) {
		record := map[string]any{}
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		for _, way := range []string{"uplink", "downlink"} {
			record[way+"_retransmitted"] = record[way+"_retransmitted"].(float64) + record[way+"_out_of_order"].(float64)
			delete(record, way+"_out_of_order")
			delete(record, way+"_lost_before_tap")
		}
		for key := range record {
			if slices.Contains([]string{"start", "end", "duration_s", "dns_age_s"}, key) || strings.Contains(key, "_rtt_") {
				delete(record, key)
			}
		}
		one, err := json.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, string(one))
	}
	slices.Sort(list)
	return list
}
