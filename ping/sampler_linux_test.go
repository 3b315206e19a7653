package ping

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestOffsets holds ours against those that x/sys has from the kernel's header.
func TestOffsets(t *testing.T) {
	var i unix.TCPInfo
	for _, f := range []struct {
		name       string
		ours, want uintptr
	}{
		{"last_data_sent", offSinceDataSent, unsafe.Offsetof(i.Last_data_sent)},
		{"last_data_recv", offSinceDataRecv, unsafe.Offsetof(i.Last_data_recv)},
		{"last_ack_recv", offSinceAck, unsafe.Offsetof(i.Last_ack_recv)},
		{"rtt", offRTT, unsafe.Offsetof(i.Rtt)},
		{"rttvar", offRTTVar, unsafe.Offsetof(i.Rttvar)},
		{"reordering", offReordering, unsafe.Offsetof(i.Reordering)},
		{"total_retrans", offRetransmitted, unsafe.Offsetof(i.Total_retrans)},
		{"bytes_acked", offBytesAcked, unsafe.Offsetof(i.Bytes_acked)},
		{"bytes_received", offBytesReceived, unsafe.Offsetof(i.Bytes_received)},
		{"segs_out", offSegmentsOut, unsafe.Offsetof(i.Segs_out)},
		{"segs_in", offSegmentsIn, unsafe.Offsetof(i.Segs_in)},
		{"min_rtt", offMinRTT, unsafe.Offsetof(i.Min_rtt)},
		{"data_segs_in", offDataSegmentsIn, unsafe.Offsetof(i.Data_segs_in)},
		{"data_segs_out", offDataSegmentsOut, unsafe.Offsetof(i.Data_segs_out)},
		{"dsack_dups", offSpurious, unsafe.Offsetof(i.Dsack_dups)},
		{"reord_seen", offReordered, unsafe.Offsetof(i.Reord_seen)},
		{"rcv_ooopack", offOutOfOrder, unsafe.Offsetof(i.Rcv_ooopack)},
	} {
		if f.ours != f.want {
			t.Errorf("%s: at %d, the kernel has it at %d", f.name, f.ours, f.want)
		}
	}
}

// message wraps a body in a netlink header.
func message(kind uint16, seq uint32, body []byte) []byte {
	b := make([]byte, headerLength, headerLength+len(body)+3)
	binary.NativeEndian.PutUint32(b, uint32(headerLength+len(body)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint32(b[8:], seq)
	b = append(b, body...)
	return append(b, make([]byte, (4-len(b)&3)&3)...)
}

func attribute(kind uint16, body []byte) []byte {
	b := make([]byte, 4, 4+len(body)+3)
	binary.NativeEndian.PutUint16(b, uint16(4+len(body)))
	binary.NativeEndian.PutUint16(b[2:], kind)
	b = append(b, body...)
	return append(b, make([]byte, (4-len(b)&3)&3)...)
}

func diag(family byte, attributes ...[]byte) []byte {
	b := make([]byte, messageLength)
	b[0] = family
	return append(b, bytes.Join(attributes, nil)...)
}

func TestParseDump(t *testing.T) {
	info := attribute(inetDiagInfo, tcpInfo(232))
	short := message(sockDiagByFamily, 1, nil)
	binary.NativeEndian.PutUint32(short, 8)
	tests := []struct {
		what  string
		b     []byte
		conns int
		bad   int
		done  bool
		fails bool
	}{
		{"nothing", nil, 0, 0, false, false},
		{"both families", append(message(sockDiagByFamily, 1, diag(unix.AF_INET, info)), message(sockDiagByFamily, 1, diag(unix.AF_INET6, attribute(9, []byte{1}), info))...), 2, 0, false, false},
		{"the end", message(unix.NLMSG_DONE, 1, []byte{0, 0, 0, 0}), 0, 0, true, false},
		{"permission", message(unix.NLMSG_ERROR, 1, binary.NativeEndian.AppendUint32(nil, uint32(0xffffffff))), 0, 0, true, true},
		{"an older request's answer", message(sockDiagByFamily, 0, diag(unix.AF_INET, info)), 0, 0, false, false},
		{"no tcp_info (TIME_WAIT)", message(sockDiagByFamily, 1, diag(unix.AF_INET)), 0, 0, false, false},
		{"another family", message(sockDiagByFamily, 1, diag(17, info)), 0, 1, false, false},
		{"cut message", message(sockDiagByFamily, 1, diag(unix.AF_INET)[:40]), 0, 1, false, false},
		{"attribute longer than the message", message(sockDiagByFamily, 1, diag(unix.AF_INET, []byte{200, 0, 2, 0})), 0, 1, false, false},
		{"attribute without length", message(sockDiagByFamily, 1, diag(unix.AF_INET, []byte{0, 0, 2, 0})), 0, 1, false, false},
		{"tcp_info too short", message(sockDiagByFamily, 1, diag(unix.AF_INET, attribute(inetDiagInfo, tcpInfo(50)))), 0, 1, false, false},
		{"length below the header's", short, 0, 0, false, true},
		{"length beyond the buffer", message(sockDiagByFamily, 1, diag(unix.AF_INET, info))[:100], 0, 0, false, true},
	}
	for _, test := range tests {
		conns := 0
		done, bad, err := parseDump(test.b, 1, func(*diagMessage) { conns++ })
		if conns != test.conns || bad != test.bad || done != test.done || (err != nil) != test.fails {
			t.Errorf("%s: %d connections, %d bad, done %v, %v", test.what, conns, bad, done, err)
		}
	}
}

func FuzzParseDump(f *testing.F) {
	f.Add(message(sockDiagByFamily, 1, diag(unix.AF_INET6, attribute(inetDiagInfo, tcpInfo(232)))))
	f.Add(message(unix.NLMSG_DONE, 1, []byte{1, 2}))
	f.Add(message(sockDiagByFamily, 1, diag(unix.AF_INET, []byte{5, 0, 2, 0, 0})))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, _ = parseDump(b, 1, func(m *diagMessage) {
			if m.info.Known&KnowsSpurious == 0 && m.info.Spurious != 0 {
				t.Error("a figure out of nowhere")
			}
		})
	})
}

func TestUnits(t *testing.T) {
	tests := []struct{ text, path, unit string }{
		{"0::/system.slice/nginx.service\n", "/system.slice/nginx.service", "nginx.service"},
		{"0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox.scope\n", "/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox.scope", "app-firefox.scope"},
		{"9:name=systemd:/system.slice/a.service\n5:memory:/x\n0::/\n", "/system.slice/a.service", "a.service"},
		{"0::/a:b\n", "/a:b", ""},
		{"0::/\n", "/", ""},
		{"", "", ""},
		{"nonsense\n", "", ""},
	}
	for _, test := range tests {
		path := cgroupPath(test.text)
		if path != test.path || unitOf(path) != test.unit {
			t.Errorf("%q: %q %q", test.text, path, unitOf(path))
		}
	}
}

func TestSocketInode(t *testing.T) {
	for text, want := range map[string]uint32{
		"socket:[12345]": 12345, "socket:[4294967295]": 1<<32 - 1, "socket:[4294967296]": 0, "socket:[]": 0,
		"socket:[1": 0, "pipe:[3]": 0, "socket:[1x]": 0, "": 0,
	} {
		got, ok := socketInode([]byte(text))
		if ok != (want != 0) || ok && got != want {
			t.Errorf("%q: %d %v", text, got, ok)
		}
	}
}

// pair is a TCP connection on an address of this machine.
func pair(t testing.TB, address string) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Skip("no such address here:", err)
	}
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := l.Accept()
		accepted <- c
	}()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	server = <-accepted
	t.Cleanup(func() { _ = client.Close(); _ = server.Close() })
	return client, server
}

// exchange sends n messages each way, so that no acknowledgment is outstanding
// but the last one, which the final read of one byte fetches.
func exchange(t testing.TB, client, server net.Conn, n int) {
	t.Helper()
	b := make([]byte, 1000)
	for range n {
		for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
			if _, err := way[0].Write(b); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(way[1], b); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func sampler(t testing.TB) *Sampler {
	t.Helper()
	s, err := NewSampler(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func sample(t testing.TB, s *Sampler, at time.Time) *Sample {
	t.Helper()
	out, err := s.Sample(at)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func find(s *Sample, local, remote string) *Connection {
	for i := range s.Connections {
		c := &s.Connections[i]
		if c.Local == netip.MustParseAddrPort(local) && c.Remote == netip.MustParseAddrPort(remote) {
			return c
		}
	}
	return nil
}

// ssValues is what ss -ti prints of one connection, by its own names.
type ssValues map[string]string

var ssWord = regexp.MustCompile(`^([a-z_]+):(\S+)$`)

func ss(t testing.TB, netns, local, remote string) ssValues {
	t.Helper()
	args := []string{"ss", "-tinHO", "src", local, "dst", remote}
	if netns != "" {
		args = append([]string{"ip", "netns", "exec", netns}, args...)
	}
	if _, err := exec.LookPath(args[0]); err != nil {
		t.Skip("no iproute2 on this machine")
	}
	out, err := exec.Command(args[0], args[1:]...).Output()
	if err != nil || len(out) == 0 {
		t.Fatalf("%v: %v %q", args, err, out)
	}
	v := ssValues{}
	for _, word := range strings.Fields(string(out)) {
		if m := ssWord.FindStringSubmatch(word); m != nil {
			v[m[1]] = m[2]
		}
	}
	return v
}

// compare holds all that ss prints against what was sampled. ss leaves out
// zeros. Times since an event move on between the two looks and are left out.
func compare(t testing.TB, c *Connection, v ssValues) {
	t.Helper()
	number := func(name string) uint64 {
		n, _ := strconv.ParseUint(v[name], 10, 64)
		return n
	}
	micro := func(text string) time.Duration {
		ms, _ := strconv.ParseFloat(text, 64)
		return time.Duration(ms*1000+0.5) * time.Microsecond
	}
	rtt, variation, _ := strings.Cut(v["rtt"], "/")
	_, again, _ := strings.Cut(v["retrans"], "/")
	retransmitted, _ := strconv.ParseUint(again, 10, 64)
	reordering := number("reordering")
	if reordering == 0 {
		reordering = 3 // ss does not print the default
	}
	i := &c.Info
	for _, f := range []struct {
		name      string
		got, want any
	}{
		{"rtt", i.RTT, micro(rtt)},
		{"rttvar", i.RTTVar, micro(variation)},
		{"minrtt", i.MinRTT, micro(v["minrtt"])},
		{"retrans", uint64(i.Retransmitted), retransmitted},
		{"reordering", uint64(i.Reordering), reordering},
		{"segs_out", uint64(i.SegmentsOut), number("segs_out")},
		{"segs_in", uint64(i.SegmentsIn), number("segs_in")},
		{"data_segs_out", uint64(i.DataSegmentsOut), number("data_segs_out")},
		{"data_segs_in", uint64(i.DataSegmentsIn), number("data_segs_in")},
		{"bytes_acked", i.BytesAcked, number("bytes_acked")},
		{"bytes_received", i.BytesReceived, number("bytes_received")},
		{"dsack_dups", uint64(i.Spurious), number("dsack_dups")},
		{"reord_seen", uint64(i.Reordered), number("reord_seen")},
		{"rcv_ooopack", uint64(i.OutOfOrder), number("rcv_ooopack")},
	} {
		if f.got != f.want {
			t.Errorf("%s > %s: %s is %v, ss has %v", c.Local, c.Remote, f.name, f.got, f.want)
		}
	}
}

func TestEqualsSS(t *testing.T) {
	s := sampler(t)
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		client, server := pair(t, address)
		exchange(t, client, server, 20)
		local, remote := client.LocalAddr().String(), client.RemoteAddr().String()
		c := equalsSS(t, s, "", local, remote)
		if c.PID != os.Getpid() || c.UID != int64(os.Getuid()) || c.Command == "" {
			t.Errorf("owner: %+v uid %d", c.Process, c.UID)
		}
	}
}

// equalsSS holds a sampled connection against ss. The delayed acknowledgment of
// the last segment may come between the two; then ss says so, and we look again.
func equalsSS(t testing.TB, s *Sampler, netns, local, remote string) *Connection {
	t.Helper()
	for range 100 {
		before := ss(t, netns, local, remote)
		at := time.Now()
		if !s.last.IsZero() {
			at = s.last.Add(time.Hour) // what moved a while ago is active in this period
		}
		c := find(sample(t, s, at), local, remote)
		if c == nil {
			t.Fatalf("%s > %s: not in the sample", local, remote)
		}
		after := ss(t, netns, local, remote)
		if before["segs_in"] == after["segs_in"] && before["segs_out"] == after["segs_out"] && before["retrans"] == after["retrans"] {
			compare(t, c, after)
			return c
		}
	}
	t.Fatalf("%s > %s never rests", local, remote)
	return nil
}

// TestOnlyActive follows one connection over samples: new, idle, moving, gone.
func TestOnlyActive(t *testing.T) {
	s := sampler(t)
	at := time.Now()
	sample(t, s, at)
	client, server := pair(t, "127.0.0.1:0")
	exchange(t, client, server, 3)
	local, remote := client.LocalAddr().String(), client.RemoteAddr().String()

	c := find(sample(t, s, at.Add(10*time.Second)), local, remote)
	if c == nil || c.WholeLife || c.Counts.DataSegments != 3 || c.Counts.BytesAcked != 3001 { // the SYN counts as one
		t.Fatalf("new connection: %+v", c)
	}
	// With a period of a millisecond, whatever happened was earlier than that
	// as soon as the last acknowledgment is a moment ago.
	for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		at = at.Add(time.Millisecond)
		out := sample(t, s, at.Add(10*time.Second))
		if find(out, local, remote) == nil {
			if out.Open == 0 {
				t.Error("an idle connection is still an open one")
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("an idle connection stays in the sample")
		}
	}
	exchange(t, client, server, 2)
	c = find(sample(t, s, at.Add(time.Minute)), local, remote)
	if c == nil || c.Counts.DataSegments != 2 || c.Counts.DataSegmentsReceived != 2 {
		t.Fatalf("moving connection: %+v", c)
	}
	_ = client.Close()
	_ = server.Close()
	if c = find(sample(t, s, at.Add(2*time.Minute)), local, remote); c != nil {
		t.Errorf("closed connection: %+v", c)
	}
}

// run is a command of the machine's set-up.
func run(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
}

// newNamespace makes a network namespace with loopback up.
func newNamespace(t testing.TB, name string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("making network namespaces needs root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("no iproute2 on this machine")
	}
	name = fmt.Sprintf("%s-%d", name, os.Getpid())
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Skipf("network namespaces cannot be made here: %s", out)
	}
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	run(t, "ip", "-n", name, "link", "set", "lo", "up")
	return name
}

// inside runs f in a network namespace. Sockets that f opens stay there.
func inside(t testing.TB, name string, f func()) {
	t.Helper()
	fd, err := unix.Open(filepath.Join("/run/netns", name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	onLostThread(func() {
		if err = unix.Setns(fd, unix.CLONE_NEWNET); err == nil {
			f()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// listenDial opens a connection between two namespaces.
func listenDial(t testing.TB, clientNS, serverNS, address string) (client, server *net.TCPConn) {
	t.Helper()
	var l net.Listener
	var err error
	inside(t, serverNS, func() { l, err = net.Listen("tcp", address) })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	inside(t, clientNS, func() {
		var c net.Conn
		if c, err = net.DialTimeout("tcp", l.Addr().String(), 5*time.Second); err == nil {
			client = c.(*net.TCPConn)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	server = c.(*net.TCPConn)
	t.Cleanup(func() { _ = client.Close(); _ = server.Close() })
	return client, server
}

// TestNamespaces: connections of other namespaces are seen, and repeats on a
// broken link counted as ss counts them.
func TestNamespaces(t *testing.T) {
	a, b := newNamespace(t, "ping-a"), newNamespace(t, "ping-b")
	run(t, "ip", "link", "add", "name", "pa", "netns", a, "type", "veth", "peer", "name", "pb", "netns", b)
	run(t, "ip", "-n", a, "addr", "add", "10.99.1.1/24", "dev", "pa")
	run(t, "ip", "-n", b, "addr", "add", "10.99.1.2/24", "dev", "pb")
	run(t, "ip", "-n", a, "link", "set", "pa", "up")
	run(t, "ip", "-n", b, "link", "set", "pb", "up")
	s := sampler(t)
	at := time.Now()
	sample(t, s, at)
	client, server := listenDial(t, a, b, "10.99.1.2:0")
	exchange(t, client, server, 10)
	local, remote := client.LocalAddr().String(), client.RemoteAddr().String()

	c := find(sample(t, s, at.Add(10*time.Second)), local, remote)
	if c == nil || c.NamespaceName != a || c.PID != os.Getpid() {
		t.Fatalf("%+v", c)
	}
	equalsSS(t, s, a, local, remote)

	// Nothing arrives any more; the kernel sends again and again.
	run(t, "ip", "-n", b, "addr", "del", "10.99.1.2/24", "dev", "pb")
	if _, err := client.Write(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); c.Info.Retransmitted < 2; {
		if time.Now().After(deadline) {
			t.Fatalf("no repeats: %+v", c)
		}
		c = equalsSS(t, s, a, local, remote)
	}
	if c.Counts.Lost() > uint64(c.Info.Retransmitted) {
		t.Errorf("%+v", c)
	}
}

// TestNamespaceGoes: a namespace that only our socket still holds is let go.
func TestNamespaceGoes(t *testing.T) {
	name := newNamespace(t, "ping-c")
	inode, ok := mountedNamespace(filepath.Join("/run/netns", name))
	if !ok {
		t.Fatal("not a namespace")
	}
	s := sampler(t)
	sample(t, s, time.Now())
	if ns := s.namespaces.known[inode]; ns == nil || ns.diag == nil || ns.name != name {
		t.Fatalf("not found: %+v", ns)
	}
	run(t, "ip", "netns", "del", name)
	sample(t, s, time.Now())
	if s.namespaces.known[inode] != nil {
		t.Error("it is still held")
	}
}

// BenchmarkSample reads 10,000 sockets: both ends of 5,000 connections. The first sample looks for the owners of all, which later ones know.
func BenchmarkSample(b *testing.B) {
	const connections = 5_000
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Max < 3*connections {
		b.Skipf("cannot open that many files: the limit is %d", limit.Max)
	}
	limit.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		b.Skip("cannot open that many files:", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	for range connections {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		d, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Write([]byte("x")); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = c.Close(); _ = d.Close() })
	}
	for _, first := range []bool{true, false} {
		b.Run(fmt.Sprintf("first=%v", first), func(b *testing.B) {
			s := sampler(b)
			at := time.Now()
			out := sample(b, s, at)
			before := processorTime(b)
			for b.Loop() {
				if first {
					s.owners = newOwners()
				}
				at = at.Add(time.Hour)
				out = sample(b, s, at)
			}
			b.ReportMetric(float64(len(out.Connections)), "sockets")
			b.ReportMetric(float64((processorTime(b)-before).Microseconds())/1e3/float64(b.N), "cpu-ms/op")
		})
	}
}

// processorTime is what this process has used, user and system: on a busy machine
// the wall clock says little.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
