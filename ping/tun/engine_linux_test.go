package tun

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/nametap/nametap/ping"
)

// The network of these tests: namespace A has the TUN interface as its default
// route, and a veth pair to namespace B, which has the servers behind an address
// that A's main table knows no other way to. The engine's sockets carry a mark,
// and a rule sends what is marked over the veth pair.
//
// An engine dials on any thread, so that its whole process must be in A: the
// parent sets things up and serves, the child, the same program once more, has
// the engine and the applications.
const (
	childVariable  = "NAMETAP_TUN_CHILD" // echo, discard and refused port
	secondsVariale = "NAMETAP_TUN_SECONDS"
	interfaceName  = "nt0"
	mark           = 77
	serverAddress  = "10.98.2.2"
	serverAddress6 = "fd98:2::2"
)

func setUp(t testing.TB) (a, b string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("no iproute2 on this machine")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skip("no TUN interfaces here:", err)
	}
	a, b = fmt.Sprintf("tun-a-%d", os.Getpid()), fmt.Sprintf("tun-b-%d", os.Getpid())
	for _, name := range []string{a, b} {
		if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
			t.Skipf("network namespaces cannot be made here: %s", out)
		}
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	}
	for _, line := range []string{
		"link add name va netns " + a + " type veth peer name vb netns " + b,
		"-n " + a + " addr add 10.98.1.1/24 dev va",
		"-n " + a + " addr add fd98:1::1/64 dev va nodad",
		"-n " + b + " addr add 10.98.1.2/24 dev vb",
		"-n " + b + " addr add fd98:1::2/64 dev vb nodad",
		"-n " + b + " addr add " + serverAddress + "/32 dev lo",
		"-n " + b + " addr add " + serverAddress6 + "/128 dev lo nodad",
		"-n " + a + " link set lo up", "-n " + a + " link set va up",
		"-n " + b + " link set lo up", "-n " + b + " link set vb up",
		"-n " + a + " rule add fwmark " + strconv.Itoa(mark) + " lookup 100",
		"-n " + a + " -6 rule add fwmark " + strconv.Itoa(mark) + " lookup 100",
		"-n " + a + " route add default via 10.98.1.2 table 100",
		"-n " + a + " -6 route add default via fd98:1::2 table 100",
		"-n " + a + " tuntap add dev " + interfaceName + " mode tun",
		"-n " + a + " addr add 10.98.9.1/24 dev " + interfaceName,
		"-n " + a + " addr add fd98:9::1/64 dev " + interfaceName + " nodad",
		"-n " + a + " link set " + interfaceName + " up",
		"-n " + a + " route add default dev " + interfaceName,
		"-n " + a + " -6 route add default dev " + interfaceName,
	} {
		if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %s", line, out)
		}
	}
	return a, b
}

// inside runs f in a network namespace; its sockets stay there.
func inside(t testing.TB, name string, f func() error) {
	t.Helper()
	fd, err := unix.Open(filepath.Join("/run/netns", name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	onLostThread(func() {
		if err = unix.Setns(fd, unix.CLONE_NEWNET); err == nil {
			err = f()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// onLostThread runs f on a thread that ends with it. The first thread cannot
// end, and would stay in the namespace.
func onLostThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			onLostThread(f)
			runtime.UnlockOSThread()
			return
		}
		f()
	}()
	<-done
}

// serve starts the servers in namespace B and returns what the child must know.
func serve(t testing.TB, b string) string {
	t.Helper()
	var echo, discard, reset net.Listener
	var udp, resolver net.PacketConn
	inside(t, b, func() error {
		var err error
		listen := func() (l net.Listener) {
			if err == nil {
				l, err = net.Listen("tcp", "[::]:0")
			}
			return l
		}
		echo, discard, reset = listen(), listen(), listen()
		if err == nil {
			udp, err = net.ListenPacket("udp4", serverAddress+":0")
		}
		if err == nil {
			resolver, err = net.ListenPacket("udp4", serverAddress+":53")
		}
		return err
	})
	t.Cleanup(func() {
		for _, c := range []io.Closer{echo, discard, reset, udp, resolver} {
			_ = c.Close()
		}
	})
	each := func(l net.Listener, f func(c *net.TCPConn)) {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f(c.(*net.TCPConn))
		}
	}
	go each(echo, func(c *net.TCPConn) { _, _ = io.Copy(c, c); _ = c.Close() })
	go each(discard, func(c *net.TCPConn) { n, _ := io.Copy(io.Discard, c); fmt.Fprintln(c, n); _ = c.Close() })
	go each(reset, func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 1)); _ = c.SetLinger(0); _ = c.Close() })
	packets := func(l net.PacketConn, f func(b []byte) []byte) {
		b := make([]byte, 65536)
		for {
			n, from, err := l.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = l.WriteTo(f(b[:n]), from)
		}
	}
	go packets(udp, func(b []byte) []byte { return b })
	go packets(resolver, answer)
	return strings.Join([]string{port(echo.Addr()), port(discard.Addr()), port(reset.Addr()), port(udp.LocalAddr())}, ",")
}

func port(a net.Addr) string {
	_, p, _ := net.SplitHostPort(a.String())
	return p
}

// answer gives every name a chain of aliases that ends at the server.
func answer(query []byte) []byte {
	var m dns.Msg
	if m.Unpack(query) != nil {
		return query
	}
	reply := new(dns.Msg).SetReply(&m)
	alias, _ := dns.NewRR(m.Question[0].Name + " 60 IN CNAME cdn.example.")
	a, _ := dns.NewRR("cdn.example. 60 IN A " + serverAddress)
	reply.Answer = []dns.RR{alias, a}
	b, _ := reply.Pack()
	return b
}

// child runs a test or benchmark of this program in namespace A.
func child(t testing.TB, args ...string) string {
	t.Helper()
	a, b := setUp(t)
	ports := serve(t, b)
	cmd := exec.Command("ip", append([]string{"netns", "exec", a, os.Args[0], "-test.v"}, args...)...)
	cmd.Env = append(os.Environ(), childVariable+"="+ports)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("in the namespace: %v\n%s", err, out)
	}
	return string(out)
}

func TestEngine(t *testing.T) {
	out := child(t, "-test.run=^TestInside$")
	if !strings.Contains(out, "--- PASS: TestInside/ended") {
		t.Fatalf("nothing was tested:\n%s", out)
	}
	if testing.Verbose() {
		t.Log(out)
	}
}

func BenchmarkThroughput(b *testing.B) {
	out := child(b, "-test.run=^$", "-test.bench=^BenchmarkInside$", "-test.benchtime="+strconv.Itoa(max(b.N, 1))+"x")
	for _, m := range regexp.MustCompile(`BenchmarkInside/(\S+)\s.*?([\d.]+) MB/s`).FindAllStringSubmatch(out, -1) {
		speed, _ := strconv.ParseFloat(m[2], 64)
		b.ReportMetric(speed, m[1]+"-MB/s")
	}
}

// ports of the servers, as the child knows them.
type ports struct{ echo, discard, reset, udp string }

func childPorts(t testing.TB) ports {
	t.Helper()
	p := strings.Split(os.Getenv(childVariable), ",")
	if len(p) != 4 {
		t.Skip("runs in a namespace that TestEngine makes")
	}
	return ports{p[0], p[1], p[2], p[3]}
}

// recorder is a Sink.
type recorder struct {
	mu          sync.Mutex
	connections []*Connection
	periods     []*Period
	ended       []string
}

func (r *recorder) Connection(c *Connection) {
	r.mu.Lock()
	r.connections = append(r.connections, c)
	r.mu.Unlock()
}

func (r *recorder) Period(p *Period) {
	r.mu.Lock()
	r.periods = append(r.periods, p)
	r.mu.Unlock()
}

func (r *recorder) Ended(reason string) {
	r.mu.Lock()
	r.ended = append(r.ended, reason)
	r.mu.Unlock()
}

func (r *recorder) last() Period {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.periods) == 0 {
		return Period{}
	}
	return *r.periods[len(r.periods)-1]
}

// start runs an engine whose periods end only when the test says so.
func start(t testing.TB, sink Sink, sampled func(*ping.Sample)) *Engine {
	t.Helper()
	config := NewConfig()
	config.Mark = mark
	config.IntervalMillis = 3_600_000
	fd, err := Open(interfaceName, config.MTU)
	if err != nil {
		t.Fatal(err)
	}
	e, err := StartWith(fd, *config, Outputs{Sink: sink, Sampled: sampled})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Stop)
	return e
}

func dial(t testing.TB, address, port string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", net.JoinHostPort(address, port))
	if err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// TestInside is the child of TestEngine.
func TestInside(t *testing.T) {
	p := childPorts(t)
	before := goleak.IgnoreCurrent()
	sink := &recorder{}
	var mu sync.Mutex
	var samples []*ping.Sample
	e := start(t, sink, func(s *ping.Sample) {
		mu.Lock()
		samples = append(samples, s)
		mu.Unlock()
	})
	lookup(t) // the names of what follows
	t.Run("hundred", func(t *testing.T) { hundred(t, p) })
	t.Run("half close", func(t *testing.T) { halfClose(t, p) })
	t.Run("refused", func(t *testing.T) { refused(t) })
	t.Run("reset", func(t *testing.T) { resets(t, p) })
	t.Run("udp", func(t *testing.T) { datagrams(t, p) })
	t.Run("as the kernel has it", func(t *testing.T) { asKernel(t, e, p) })
	t.Run("stop", func(t *testing.T) {
		open := dial(t, serverAddress, p.echo)
		defer open.Close()
		if _, err := open.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := open.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		e.Stop()
		e.Stop()
		if _, err := open.Read(make([]byte, 1)); err == nil {
			t.Error("a connection outlives the engine")
		}
		if err := goleak.Find(before); err != nil {
			t.Error(err)
		}
	})
	t.Run("ended", func(t *testing.T) { results(t, sink, samples) })
}

// hundred: connections that talk at the same time, and not one error.
func hundred(t *testing.T, p ports) {
	duration := time.Duration(0) // three rounds
	if s := os.Getenv(secondsVariale); s != "" {
		n, _ := strconv.Atoi(s)
		duration = time.Duration(n) * time.Second
	}
	until := time.Now().Add(duration)
	var group sync.WaitGroup
	for i := range 100 {
		address := serverAddress
		if i%4 == 0 {
			address = serverAddress6
		}
		group.Go(func() {
			c, err := net.Dial("tcp", net.JoinHostPort(address, p.echo))
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			sent, got := bytes.Repeat([]byte{byte(i)}, 20_000), make([]byte, 20_000)
			for round := 0; round < 3 || time.Now().Before(until); round++ {
				if _, err := c.Write(sent); err != nil {
					t.Error(err)
					return
				}
				if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(sent, got) {
					t.Errorf("round %d: %v, or other bytes", round, err)
					return
				}
			}
		})
	}
	group.Wait()
}

func halfClose(t *testing.T, p ports) {
	c := dial(t, serverAddress, p.discard)
	defer c.Close()
	if _, err := c.Write(make([]byte, 123_456)); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); string(b) != "123456\n" || err != nil {
		t.Errorf("%q %v", b, err)
	}
}

func refused(t *testing.T) {
	if _, err := net.Dial("tcp", net.JoinHostPort(serverAddress, "1")); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v, want what the server says: refused", err)
	}
}

func resets(t *testing.T, p ports) {
	c := dial(t, serverAddress, p.reset)
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%v, want the server's reset", err)
	}
}

func datagrams(t *testing.T, p ports) {
	c, err := net.Dial("udp", net.JoinHostPort(serverAddress, p.udp))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	for n := range 1200 { // up to a QUIC packet
		b := bytes.Repeat([]byte{7}, n+1)
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 2000)
		if n, err := c.Read(got); err != nil || !bytes.Equal(got[:n], b) {
			t.Fatalf("%d bytes of %d, %v", n, len(b), err)
		}
	}
}

// lookup asks again where the first query is lost: the kernel takes a moment to
// put the interface's queue to work after somebody has opened it.
func lookup(t *testing.T) {
	t.Helper()
	var r *dns.Msg
	var err error
	for range 10 {
		q := new(dns.Msg).SetQuestion("E5.whatsapp.net.", dns.TypeA)
		if r, err = dns.Exchange(q, serverAddress+":53"); err == nil && len(r.Answer) == 2 {
			return
		}
	}
	t.Fatalf("%v %v", r, err)
}

// asKernel holds a sample against ss for the engine's own socket.
func asKernel(t *testing.T, e *Engine, p ports) {
	c := dial(t, serverAddress, p.echo)
	defer c.Close()
	b := make([]byte, 1000)
	for range 50 {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
	}
	k := key{uint16(c.LocalAddr().(*net.TCPAddr).Port), c.RemoteAddr().(*net.TCPAddr).AddrPort()}
	e.tcp.mu.Lock()
	outer := e.tcp.byKey[k]
	e.tcp.mu.Unlock()
	if outer == nil {
		t.Fatalf("no connection under %v", k)
	}
	word := regexp.MustCompile(`\brtt:([\d.]+)/([\d.]+) .*?segs_out:(\d+) segs_in:(\d+).*?minrtt:([\d.]+)`)
	for range 100 {
		info, ok := tcpInfo(outer.raw)
		if !ok {
			t.Fatal("the socket tells nothing")
		}
		out, err := exec.Command("ss", "-tinHO", "src", outer.outside.LocalAddr().String(), "dst", k.destination.String()).Output()
		if err != nil {
			t.Fatal(err)
		}
		m := word.FindStringSubmatch(string(out))
		if m == nil {
			t.Fatalf("ss says %q", out)
		}
		ours := []string{
			fmt.Sprint(float64(info.RTT.Microseconds()) / 1000), fmt.Sprint(float64(info.RTTVar.Microseconds()) / 1000),
			fmt.Sprint(info.SegmentsOut), fmt.Sprint(info.SegmentsIn), fmt.Sprint(float64(info.MinRTT.Microseconds()) / 1000),
		}
		if reflect.DeepEqual(ours, m[1:]) {
			return
		}
		if again, _ := tcpInfo(outer.raw); again.SegmentsIn == info.SegmentsIn && again.SegmentsOut == info.SegmentsOut {
			t.Fatalf("rtt, rttvar, segments out and in, minrtt: %v, ss has %v", ours, m[1:])
		}
	}
	t.Fatal("the connection never rests")
}

// results looks at what the engine told its sink.
func results(t *testing.T, sink *recorder, samples []*ping.Sample) {
	last := sink.last()
	if last.Failed != 1 || last.Refused != 0 || last.Opened < 105 {
		t.Errorf("%+v", last)
	}
	if !reflect.DeepEqual(sink.ended, []string{""}) {
		t.Errorf("ended %q", sink.ended)
	}
	var tcp, udp, rtts int
	var bytesSent, datagrams int64
	for _, c := range sink.connections {
		switch c.Protocol {
		case "tcp":
			tcp++
			bytesSent += c.BytesSent
			if c.RTTMicros > 0 && c.MinRTTMicros > 0 && c.AgeMillis >= 0 {
				rtts++
			}
			if c.Destination == serverAddress && c.Name != "e5.whatsapp.net" {
				t.Errorf("%s goes by %q", c.Destination, c.Name)
			}
		case "udp":
			udp++
			datagrams += c.DatagramsSent
			if c.RTTMicros != -1 || c.DataSegments != -1 {
				t.Errorf("UDP has no round-trip time: %+v", c)
			}
		}
	}
	// A hundred, the half-closed, the reset, the kernel's and the last one.
	if tcp != 104 || rtts != tcp || bytesSent < 100*60_000 {
		t.Errorf("%d TCP connections, %d with RTT, %d bytes", tcp, rtts, bytesSent)
	}
	if udp < 2 || datagrams < 1201 {
		t.Errorf("%d UDP associations, %d datagrams", udp, datagrams)
	}
	inSamples := 0
	for _, s := range samples {
		inSamples += len(s.Connections)
	}
	if inSamples != tcp {
		t.Errorf("%d connections in samples, %d in the sink", inSamples, tcp)
	}
}

// BenchmarkInside is the child of BenchmarkThroughput: 64 MB a turn.
func BenchmarkInside(b *testing.B) {
	p := childPorts(b)
	start(b, nil, nil)
	const size = 64 << 20
	chunk := make([]byte, 256<<10)
	b.Run("up", func(b *testing.B) {
		b.SetBytes(size)
		for range b.N {
			c := dial(b, serverAddress, p.discard)
			for range size / len(chunk) {
				if _, err := c.Write(chunk); err != nil {
					b.Fatal(err)
				}
			}
			_ = c.CloseWrite()
			if _, err := io.ReadAll(c); err != nil {
				b.Fatal(err)
			}
			_ = c.Close()
		}
	})
	b.Run("echo", func(b *testing.B) {
		b.SetBytes(2 * size)
		for range b.N {
			c := dial(b, serverAddress, p.echo)
			go func() {
				for range size / len(chunk) {
					_, _ = c.Write(chunk)
				}
				_ = c.CloseWrite()
			}()
			if n, err := io.Copy(io.Discard, c); n != size || err != nil {
				b.Fatal(n, err)
			}
			_ = c.Close()
		}
	})
}
