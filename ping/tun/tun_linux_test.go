package tun

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
)

func TestTable(t *testing.T) {
	var table table[*int]
	table.init(2)
	k := key{1, netip.MustParseAddrPort("192.0.2.1:443")}
	older, newer := new(1), new(2)
	for place, want := range []bool{true, true, false} {
		if table.reserve() != want {
			t.Fatalf("place %d of a table for two: want %v", place, want)
		}
	}
	table.put(k, older)
	table.put(k, newer) // of another source address
	table.end(k, older)
	if live := table.all(); len(live) != 1 || live[0] != newer {
		t.Errorf("the end of the older took %v away", live)
	}
	table.end(k, newer)
	table.end(k, new(3))
	if gone, shed := table.takeGone(); len(gone) != 2 || shed != 1 || len(table.all()) != 0 {
		t.Errorf("%d gone, %d shed", len(gone), shed)
	}
	if gone, shed := table.takeGone(); len(gone) != 0 || shed != 0 {
		t.Error("taken twice")
	}
	table.release()
	if !table.reserve() {
		t.Error("a place given back is not free")
	}
}

// TestBindable: gomobile leaves out what it cannot bind, without a word.
func TestBindable(t *testing.T) {
	good := map[reflect.Kind]bool{reflect.Int: true, reflect.Int64: true, reflect.Float64: true, reflect.String: true, reflect.Bool: true}
	sink, protector := reflect.TypeFor[Sink](), reflect.TypeFor[Protector]()
	bindable := func(x reflect.Type) bool {
		return good[x.Kind()] || x == sink || x == protector || x == reflect.TypeFor[error]() ||
			x.Kind() == reflect.Pointer && x.Elem().Kind() == reflect.Struct && x.Elem().PkgPath() == reflect.TypeFor[Config]().PkgPath()
	}
	for _, s := range []reflect.Type{reflect.TypeFor[Config](), reflect.TypeFor[Connection](), reflect.TypeFor[Period]()} {
		for f := range s.Fields() {
			if !bindable(f.Type) {
				t.Errorf("%s.%s is %s", s.Name(), f.Name, f.Type)
			}
		}
	}
	signature := func(name string, f reflect.Type, from int) {
		for i := from; i < f.NumIn(); i++ {
			if !bindable(f.In(i)) {
				t.Errorf("%s takes %s", name, f.In(i))
			}
		}
		for i := range f.NumOut() {
			if !bindable(f.Out(i)) {
				t.Errorf("%s gives %s", name, f.Out(i))
			}
		}
		if f.NumOut() > 2 || f.NumOut() == 2 && f.Out(1) != reflect.TypeFor[error]() {
			t.Errorf("%s gives %d values", name, f.NumOut())
		}
	}
	for _, i := range []reflect.Type{sink, protector} {
		for m := range i.Methods() {
			signature(m.Name, m.Type, 0)
		}
	}
	signature("Start", reflect.TypeOf(Start), 0)
	signature("StartConfig", reflect.TypeOf(StartConfig), 0)
	signature("NewConfig", reflect.TypeOf(NewConfig), 0)
	stop, _ := reflect.TypeFor[*Engine]().MethodByName("Stop")
	signature("Stop", stop.Type, 1)
}

func TestStartErrors(t *testing.T) {
	pipe := func() int {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(p[1]) })
		return p[0]
	}
	tests := []struct {
		what   string
		fd     int
		change func(*Config)
		want   string
	}{
		{"no file", 1 << 20, func(*Config) {}, "SetNonblock"},
		{"MTU below IPv6's", pipe(), func(c *Config) { c.MTU = 576 }, "1280"},
		{"MTU beyond IP's", pipe(), func(c *Config) { c.MTU = 1 << 16 }, "65535"},
		{"no period", pipe(), func(c *Config) { c.IntervalMillis = 0 }, "period"},
		{"no room", pipe(), func(c *Config) { c.MaxConnections = 0 }, "room"},
	}
	for _, test := range tests {
		c := NewConfig()
		test.change(c)
		e, err := StartConfig(test.fd, nil, c)
		if err == nil {
			e.Stop()
			t.Errorf("%s: no error", test.what)
			continue
		}
		if !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", test.what, err)
		}
		if _, err := unix.FcntlInt(uintptr(test.fd), unix.F_GETFD, 0); err == nil {
			t.Errorf("%s: the file descriptor is still open", test.what)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	for _, name := range []string{"a-name-that-is-too-long", "a/b"} {
		if fd, err := Open(name, 1500); err == nil {
			_ = unix.Close(fd)
			t.Errorf("%q: no error", name)
		} else if !strings.Contains(err.Error(), name) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestInterfaceGoes: somebody takes the interface away.
func TestInterfaceGoes(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("making TUN interfaces needs root")
	}
	const name = "nttest-goes"
	fd, err := Open(name, 1500)
	if err != nil {
		t.Skip("no TUN interfaces here:", err)
	}
	sink := &recorder{}
	e, err := Start(fd, sink)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Stop()
	if out, err := exec.Command("ip", "link", "del", name).CombinedOutput(); err != nil {
		t.Skipf("ip link del: %s", out)
	}
	<-e.Done()
	e.Stop()
	if len(sink.ended) != 1 || sink.ended[0] == "" {
		t.Errorf("ended %q, want a reason", sink.ended)
	}
}

// TestEchoUnanswered: an echo reply of ours would pass for the server's.
func TestEchoUnanswered(t *testing.T) {
	v4 := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: net.IP{10, 0, 0, 1}, DstIP: net.IP{192, 0, 2, 1}}
	v6 := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolICMPv6, SrcIP: net.ParseIP("fd00::1"), DstIP: net.ParseIP("2001:db8::1")}
	echo6 := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoRequest, 0)}
	_ = echo6.SetNetworkLayerForChecksum(v6)
	tests := []struct {
		what     string
		packet   []gopacket.SerializableLayer
		received func(tcpip.ICMPStats) uint64
	}{
		{
			"IPv4",
			[]gopacket.SerializableLayer{v4, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 1, Seq: 1}, gopacket.Payload("12345678")},
			func(s tcpip.ICMPStats) uint64 { return s.V4.PacketsReceived.EchoRequest.Value() },
		},
		{
			"IPv6",
			[]gopacket.SerializableLayer{v6, echo6, &layers.ICMPv6Echo{Identifier: 1, SeqNumber: 1}, gopacket.Payload("12345678")},
			func(s tcpip.ICMPStats) uint64 { return s.V6.PacketsReceived.EchoRequest.Value() },
		},
	}
	for _, test := range tests {
		// A pair of sockets is as good an interface as any.
		ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		e, err := Start(ends[0], &recorder{})
		if err != nil {
			t.Fatal(err)
		}
		b := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, test.packet...); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Write(ends[1], b.Bytes()); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); test.received(e.stack.Stats().ICMP) == 0; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("%s: the request never came in", test.what)
			}
		}
		e.Stop()
		buf := make([]byte, 2000)
		for {
			n, err := unix.Read(ends[1], buf)
			if n <= 0 || err != nil {
				break
			}
			p := gopacket.NewPacket(buf[:n], layers.LayerTypeIPv4, gopacket.Default)
			if buf[0]>>4 == 6 {
				p = gopacket.NewPacket(buf[:n], layers.LayerTypeIPv6, gopacket.Default)
			}
			if p.Layer(layers.LayerTypeICMPv4) != nil || p.Layer(layers.LayerTypeICMPv6Echo) != nil {
				t.Errorf("%s: answered with %v", test.what, p)
			}
		}
		_ = unix.Close(ends[1])
	}
}
