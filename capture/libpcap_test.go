//go:build libpcap && linux

package capture

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Frames for filters: Ethernet and raw IP, TCP and UDP.
const (
	ethernetHeader = "\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02\x08\x00"
	tcpPacket      = "\x45\x00\x00\x28\x00\x01\x00\x00\x40\x06\x00\x00\x0a\x00\x00\x01\x0a\x00\x00\x02" +
		"\x14\x66\x00\x50\x00\x00\x00\x00\x00\x00\x00\x00\x50\x02\x00\x00\x00\x00\x00\x00"
	udpPacket = "\x45\x00\x00\x1c\x00\x01\x00\x00\x40\x11\x00\x00\x0a\x00\x00\x01\x0a\x00\x00\x02" +
		"\x00\x35\x00\x50\x00\x08\x00\x00"
)

func TestFilter(t *testing.T) {
	data := little().section().iface(1, 0, nil).iface(101, 0, nil).
		enhanced(0, 1, ethernetHeader+tcpPacket, 54).
		enhanced(0, 2, ethernetHeader+udpPacket, 42).
		enhanced(1, 3, tcpPacket, 2000).
		enhanced(1, 4, udpPacket, 28).
		enhanced(1, 5, "", 60).b
	for _, test := range []struct {
		expr   string
		want   string // the times of what is left
		counts [2]uint64
	}{
		{"tcp", "13", [2]uint64{1, 1}},
		{"udp port 53", "24", [2]uint64{1, 1}},
		{"tcp port 5222 and host 10.0.0.2", "13", [2]uint64{1, 1}},
		{"greater 1000", "3", [2]uint64{0, 1}}, // the length on the wire
		{"not ip", "", [2]uint64{0, 0}},
		{"ip", "1234", [2]uint64{2, 2}},
	} {
		for _, size := range []int{batchBytes, 40} {
			s, err := Filter(source(data, size, nil), test.expr)
			if err != nil {
				t.Fatal(err)
			}
			frames, err := drain(t, s)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, f := range frames {
				got += string(rune('0' + f.time/1000))
			}
			if got != test.want {
				t.Errorf("%s: frames %q, want %q", test.expr, got, test.want)
			}
			stats := s.Stats()
			for i, want := range test.counts {
				if stats.Interfaces[i].Packets != want {
					t.Errorf("%s: interface %d: %d packets, want %d", test.expr, i, stats.Interfaces[i].Packets, want)
				}
			}
			if stats.Filtered != uint64(5-len(test.want)) {
				t.Errorf("%s: %d filtered", test.expr, stats.Filtered)
			}
		}
	}
}

func TestFilterErrors(t *testing.T) {
	if _, err := Filter(source(nil, batchBytes, nil), "tcp prot 80"); err == nil ||
		!strings.HasPrefix(err.Error(), `filter "tcp prot 80": `) || !strings.Contains(err.Error(), "pcap-filter(7)") || strings.Contains(err.Error(), "\n") {
		t.Errorf("bad expression: %v", err)
	}
	data := little().pcap(magicMicro, 0, 276).record(1, 0, "a", 1).record(1, 0, "b", 1).b
	s, err := Filter(source(data, batchBytes, nil), "tcp")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := drain(t, s); err == nil || !strings.Contains(err.Error(), "link type 276") {
		t.Errorf("link type out of gopacket's range: %v", err)
	}
	// An error of the file comes through.
	s, err = Filter(source(twoRecords(little()).b[:50], batchBytes, nil), "tcp")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := drain(t, s); !Truncated(err) {
		t.Errorf("truncated file: %v", err)
	}
}

func TestLiveLibpcap(t *testing.T) {
	inNamespace(t)
	veth(t, "tap0", "far0")
	veth(t, "tap1", "far1")
	// Frames 0x100 to 0x1ff by their number, and the probes.
	s := openLive(t, LiveConfig{
		Interfaces: []string{"tap0", "tap1"}, Promiscuous: true, RingBytes: 32 << 20,
		Filter: "ether proto 0x88b6 or (ether proto 0x88b5 and ether[16] = 1)",
	})
	if _, ok := s.(*libpcapSource); !ok {
		t.Fatalf("a filter opened %T", s)
	}
	far0, far1 := connect(t, s, 0, "far0"), connect(t, s, 1, "far1")
	far0.send(1000, 668)
	far1.send(400, 668)
	newSender(t, "tap0").send(1000, 668)
	next := [2]uint32{256, 256}
	receive(t, s, 256+144, func(number uint32, f Frame) {
		if number != next[f.Interface] || len(f.Data) != 668 || f.WireLen != 668 || f.Time < second {
			t.Fatalf("interface %d: frame %d, want %d, %d bytes at %d", f.Interface, number, next[f.Interface], len(f.Data), f.Time)
		}
		next[f.Interface]++
	})
	if want := [2]uint32{512, 400}; next != want {
		t.Errorf("got up to %d, want %d", next, want)
	}
}

// libpcap gives up when an interface is taken away; we open it again. This runs
// in the machine's own namespace, with names of its own: the goroutine that
// opens the interface is not on the test's thread.
func TestLiveLibpcapReopen(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("live capture needs root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("live capture needs the ip command to make interfaces: ", err)
	}
	tap, far := fmt.Sprintf("nt%da", os.Getpid()), fmt.Sprintf("nt%db", os.Getpid())
	veth(t, tap, far)
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", tap).Run() })
	told := make(chan LinkChange, 64)
	s, err := openLibpcap(LiveConfig{
		Interfaces: []string{tap}, RingBytes: 4 << 20, BlockTimeout: defaultBlockTimeout,
		Notify: func(_ string, change LinkChange) { told <- change },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	look := func(uint32, Frame) {}
	connect(t, s, 0, far).send(10, 100)
	receive(t, s, 10, look)
	ip(t, "link set "+tap+" down")
	idle(t, s)
	ip(t, "link set "+tap+" up")
	connect(t, s, 0, far).send(20, 100)
	receive(t, s, 20, look)
	ip(t, "link del "+tap)
	untilDown(t, s, true)
	before := s.Stats().Interfaces[0].Rebinds
	veth(t, tap, far)
	untilRebound(t, s, before+1)
	untilDown(t, s, false)
	connect(t, s, 0, far).send(30, 100)
	receive(t, s, 30, look)
	for range before + 1 {
		if down, again := <-told, <-told; down != LinkDown || again != LinkRebound {
			t.Errorf("told of %v, then %v", down, again)
		}
	}
}

func TestLiveLibpcapErrors(t *testing.T) {
	inNamespace(t)
	ip(t, "link set lo up")
	for _, test := range []struct {
		config LiveConfig
		want   string
	}{
		{LiveConfig{Interfaces: []string{"lo", "none0"}, Filter: "tcp"}, "capture on none0 with libpcap: "},
		{LiveConfig{Interfaces: []string{"lo"}, Filter: "tcp prot"}, `filter "tcp prot": `},
	} {
		s, err := OpenLive(test.config)
		if err == nil {
			_ = s.Close()
		}
		if err == nil || !strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: %v, want %q…", test.config, err, test.want)
		}
	}
}
