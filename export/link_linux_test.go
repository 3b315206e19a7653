package export

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"golang.org/x/sys/unix"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/ping/tun"
	"github.com/nametap/nametap/probe"
)

// Directions of a link, and its two legs: between subscriber and tap, between tap
// and server.
const (
	linkUp, linkDown = 0, 1
	access, server   = 0, 1
)

// link joins two TUN interfaces, with a tap in the middle, and keeps a ledger of
// what it does to the packets of TCP that pass.
type link struct {
	end   [2]*os.File      // subscriber's, server's
	delay [2]time.Duration // of each leg, one way
	lose  float64          // share of segments with payload lost on each leg

	mu   sync.Mutex
	rng  *rand.Rand
	tap  *pcapgo.Writer
	lost [2][2]uint64 // by direction and leg, segments with payload
	// A repeat that is lost before the tap is nothing to the tap, which has the
	// segment or a hole already: these are not in lost.
	unseen [2]uint64
	known  map[uint64]bool // segments that the tap has seen, or misses
	data   [2]uint64       // by direction, segments with payload at the tap
	wait   sync.WaitGroup
}

type transit struct {
	packet []byte
	due    time.Time
}

// run carries packets until the interfaces are closed.
func (l *link) run() {
	for d := range 2 {
		from, to := l.end[d], l.end[1-d]
		first, second := make(chan transit, 4096), make(chan transit, 4096)
		legs := [2]int{access, server}
		if d == linkDown {
			legs = [2]int{server, access}
		}
		l.wait.Go(func() {
			defer close(first)
			b := make([]byte, 65536)
			for {
				n, err := from.Read(b)
				if err != nil {
					return
				}
				l.enter(first, d, legs[0], bytes.Clone(b[:n]))
			}
		})
		l.wait.Go(func() {
			defer close(second)
			for t := range first {
				time.Sleep(time.Until(t.due))
				l.pass(d, t.packet)
				l.enter(second, d, legs[1], t.packet)
			}
		})
		l.wait.Go(func() {
			for t := range second {
				time.Sleep(time.Until(t.due))
				_, _ = to.Write(t.packet) // the interface may be closed
			}
		})
	}
}

// payload is the length of a segment's payload, of an IPv4 packet; -1 if it is
// none of TCP.
func payload(b []byte) int {
	if len(b) < 40 || b[0]>>4 != 4 || b[9] != unix.IPPROTO_TCP {
		return -1
	}
	header := int(b[0]&15) * 4
	return int(binary.BigEndian.Uint16(b[2:])) - header - int(b[header+12]>>4)*4
}

// enter puts a packet on a leg, or loses it.
func (l *link) enter(c chan<- transit, d, leg int, b []byte) {
	l.mu.Lock()
	gone := payload(b) > 0 && l.rng.Float64() < l.lose
	if gone {
		l.note(d, leg, b)
	}
	l.mu.Unlock()
	if !gone {
		c <- transit{b, time.Now().Add(l.delay[leg])}
	}
}

// note keeps the ledger. l.mu is held.
func (l *link) note(d, leg int, b []byte) {
	if leg == d { // before the tap: uplink the access leg comes first
		segment := segmentOf(d, b)
		if l.known[segment] {
			l.unseen[d]++
			return
		}
		l.known[segment] = true
	}
	l.lost[d][leg]++
}

// segmentOf names a segment: its ports, direction and sequence number.
func segmentOf(d int, b []byte) uint64 {
	return uint64(binary.BigEndian.Uint16(b[20:])^binary.BigEndian.Uint16(b[22:]))<<33 | uint64(d)<<32 | uint64(binary.BigEndian.Uint32(b[24:]))
}

// pass lets the tap see a packet.
func (l *link) pass(d int, b []byte) {
	n := payload(b)
	if n < 0 {
		return // not the test's
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if n > 0 {
		l.known[segmentOf(d, b)] = true
		l.data[d]++
	}
	info := gopacket.CaptureInfo{Timestamp: time.Now(), CaptureLength: len(b), Length: len(b)}
	_ = l.tap.WritePacket(info, b) // to a file in memory
}

// within runs f in a network namespace of its own, on a thread that ends with it.
func within(t *testing.T, name string, f func() error) {
	t.Helper()
	fd, err := unix.Open(filepath.Join("/run/netns", name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends here
		err := unix.Setns(fd, unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// host makes a network namespace with an address behind a TUN interface, whose
// other end it returns.
func host(t *testing.T, name, address string) *os.File {
	t.Helper()
	ip := func(args ...string) error {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %v: %s", args, out)
		}
		return nil
	}
	if err := ip("netns", "add", name); err != nil {
		t.Skip("network namespaces cannot be made here:", err)
	}
	t.Cleanup(func() { _ = ip("netns", "del", name) })
	fd := -1
	within(t, name, func() (err error) {
		fd, err = tun.Open("link0", 1500)
		return err
	})
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-n", name, "addr", "add", address, "dev", "link0"},
		{"-n", name, "route", "add", "default", "dev", "link0"},
	} {
		if err := ip(args...); err != nil {
			t.Fatal(err)
		}
	}
	return os.NewFile(uintptr(fd), name)
}

// kernelInfo is what the kernel says of a connection.
func kernelInfo(t *testing.T, c net.Conn) (info *unix.TCPInfo) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) { info, failed = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if err = errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
	return info
}

// talk opens connections across the link, each of which sends so much each way,
// and returns what the ends' kernels have counted: segments sent again, by
// direction, and the least round-trip time of the whole path.
func talk(t *testing.T, names [2]string, connections, up, down int) (again [2]uint64, least time.Duration) {
	t.Helper()
	var listener net.Listener
	within(t, names[1], func() (err error) {
		listener, err = net.Listen("tcp4", "203.0.113.2:7000")
		return err
	})
	defer listener.Close()
	var ends [2][]net.Conn
	for range connections {
		within(t, names[0], func() error {
			c, err := net.DialTimeout("tcp4", "203.0.113.2:7000", 5*time.Second)
			ends[0] = append(ends[0], c)
			return err
		})
		c, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		ends[1] = append(ends[1], c)
	}
	limit := time.Now().Add(15 * time.Second)
	// One way after the other: where both ends send at once, acknowledged
	// blocks (RFC 2018) take room in segments of data, a repeat does not fit in
	// one, and one loss is two segments sent again.
	for d, n := range [2]int{up, down} {
		var work sync.WaitGroup
		failed := make(chan error, 2*connections)
		for i := range connections {
			out, in := ends[d][i], ends[1-d][i]
			_, _ = out.SetDeadline(limit), in.SetDeadline(limit)
			work.Go(func() {
				_, err := out.Write(make([]byte, n))
				failed <- err
			})
			work.Go(func() {
				_, err := io.ReadFull(in, make([]byte, n))
				failed <- err
			})
		}
		work.Wait()
		close(failed)
		for err := range failed {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	least = time.Hour
	for d := range 2 {
		for _, c := range ends[d] {
			info := kernelInfo(t, c)
			for info.Unacked > 0 && time.Now().Before(limit) {
				runtime.Gosched() // the last acknowledgments cross the link
				info = kernelInfo(t, c)
			}
			again[d] += uint64(info.Total_retrans)
			least = min(least, time.Duration(info.Min_rtt)*time.Microsecond)
			_ = c.Close()
		}
	}
	return again, least
}

// TestLink: two network namespaces, the kernel's own TCP in both, and a link of
// known delay and loss between them. What the passive ping says is held against
// the link's ledger and the kernels' own figures.
func TestLink(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("no iproute2 on this machine")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skip("no TUN device:", err)
	}
	for _, c := range []struct {
		name  string
		delay [2]time.Duration
		lose  float64
	}{
		{"clean", [2]time.Duration{40 * time.Millisecond, 25 * time.Millisecond}, 0},
		{"lossy", [2]time.Duration{15 * time.Millisecond, 40 * time.Millisecond}, 0.02},
	} {
		t.Run(c.name, func(t *testing.T) { testLink(t, c.delay, c.lose) })
	}
}

func testLink(t *testing.T, delay [2]time.Duration, lose float64) {
	names := [2]string{fmt.Sprintf("link-a-%d", os.Getpid()), fmt.Sprintf("link-b-%d", os.Getpid())}
	var trace bytes.Buffer
	l := &link{delay: delay, lose: lose, rng: rand.New(rand.NewPCG(7, 8)), known: map[uint64]bool{}, tap: pcapgo.NewWriterNanos(&trace)}
	if err := l.tap.WriteFileHeader(65536, layers.LinkTypeRaw); err != nil {
		t.Fatal(err)
	}
	l.end[0] = host(t, names[0], "10.66.0.2/24")
	l.end[1] = host(t, names[1], "203.0.113.2/24")
	l.run()
	again, least := talk(t, names, 8, 150_000, 600_000)
	for _, f := range l.end {
		_ = f.Close()
	}
	l.wait.Wait()
	lines := pingOf(t, trace.Bytes())
	got := map[string]float64{}
	for _, m := range lines {
		for k, v := range m {
			n, ok := v.(float64)
			switch {
			case !ok:
			case k == "server_rtt_least_s" || k == "access_rtt_least_s":
				if got[k] == 0 || n < got[k] {
					got[k] = n
				}
			default:
				got[k] += n
			}
		}
	}
	// Jiang and Dovrolis 2002: within 10 % or 5 ms.
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > max(0.005, want/10) {
			t.Errorf("%s: %.1f ms, want %.1f", what, 1e3*got, 1e3*want)
		}
	}
	near("least on the server side", got["server_rtt_least_s"], 2*delay[server].Seconds())
	near("least on the access side", got["access_rtt_least_s"], 2*delay[access].Seconds())
	near("least of both sides, against the kernel's", got["server_rtt_least_s"]+got["access_rtt_least_s"], least.Seconds())
	count := func(what string, got float64, want uint64) {
		t.Helper()
		if off := math.Abs(got - float64(want)); off > max(2, float64(want)/10) {
			t.Errorf("%s: %.0f, want %d", what, got, want)
		}
	}
	for d, name := range []string{"uplink", "downlink"} {
		legs := [2]int{access, server}
		if d == linkDown {
			legs = [2]int{server, access}
		}
		// A repeat that is needless is not told from a needed one at the tap:
		// the kernels know how many they sent, and the link how many of these
		// the tap did not see.
		before, after := got[name+"_lost_before_tap"], got[name+"_lost_after_tap"]
		count(name+" lost before the tap", before, l.lost[d][legs[0]])
		count(name+" lost before and after", before+after, again[d]-l.unseen[d])
		if needless := float64(again[d]-l.unseen[d]) - float64(l.lost[d][access]+l.lost[d][server]); needless < 3 {
			count(name+" lost after the tap", after, l.lost[d][legs[1]])
		}
		t.Logf("%s: %d segments with payload; lost before the tap %d (said %.0f), after it %d (said %.0f); sent again %d",
			name, l.data[d], l.lost[d][legs[0]], before, l.lost[d][legs[1]], after, again[d])
	}
	t.Logf("least: server %.1f ms, access %.1f ms, kernel %.1f ms", 1e3*got["server_rtt_least_s"], 1e3*got["access_rtt_least_s"], 1e3*least.Seconds())
}

// pingOf is what the passive ping says of a trace.
func pingOf(t *testing.T, trace []byte) (lines []map[string]any) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "link.pcap")
	if err := os.WriteFile(path, trace, 0o600); err != nil {
		t.Fatal(err)
	}
	source, err := capture.Open([]string{path})
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	var out bytes.Buffer
	p := NewPing(&out, false)
	engine, err := probe.New(probe.Config{
		Shards: 1, Memory: probe.MinMemory, Subscribers: probe.DefaultSubscribers(), Cascade: classify.DefaultCascade(), Rules: classify.Builtin(),
		WatchEvery: PingPeriod, Watch: func(s *probe.Snapshot) { err = p.Observe(s) }, Records: func([]flows.Record) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.Run(context.Background(), source); err != nil {
		t.Fatal(err)
	}
	if err == nil {
		err = p.Observe(engine.Snapshot())
	}
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(out.Bytes()) {
		var m map[string]any
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, m)
	}
	return lines
}
