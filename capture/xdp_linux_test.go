package capture

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/nametap/nametap/capture/xdp"
)

// openXDPTest takes over tap interfaces, or skips where that is not allowed.
func openXDPTest(t *testing.T, mode xdp.Mode, bytes int, interfaces ...string) *xdpLive {
	t.Helper()
	config, err := LiveConfig{Interfaces: interfaces, Mode: ModeXDP, RingBytes: bytes}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	s, err := openXDPBy(config, mode)
	if errors.Is(err, os.ErrPermission) || errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EAFNOSUPPORT) {
		t.Skip("no AF_XDP here: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Every frame comes once, whole, in the order of its time, and no one else sees
// it; after the end the interface is as it was.
func TestXDP(t *testing.T) {
	for _, mode := range []xdp.Mode{xdp.Native, xdp.Generic} {
		t.Run(mode.String(), func(t *testing.T) {
			inNamespace(t)
			veth(t, "tap0", "far0")
			veth(t, "tap1", "far1")
			plain := openLive(t, LiveConfig{Interfaces: []string{"tap0"}})
			connect(t, plain, 0, "far0")
			s := openXDPTest(t, mode, 32<<20, "tap0", "tap1")
			far0, far1 := connect(t, s, 0, "far0"), connect(t, s, 1, "far1")
			idle(t, plain) // takes what it got before
			const rounds, n0, n1, size = 20, 1000, 250, 668
			for range rounds {
				start := time.Now().UnixNano()
				far0.send(n0, size)
				far1.send(n1, size)
				end := time.Now().UnixNano()
				next, latest := [2]uint32{}, int64(0)
				receive(t, s, n0+n1, func(number uint32, f Frame) {
					if number != next[f.Interface] {
						t.Fatalf("interface %d: frame %d, want %d", f.Interface, number, next[f.Interface])
					}
					next[f.Interface]++
					if len(f.Data) != size || f.WireLen != size {
						t.Fatalf("%d bytes of %d", len(f.Data), f.WireLen)
					}
					if f.Time < start-second || f.Time > end+second || f.Time < latest {
						t.Fatalf("time %d is not between %d and %d, or before %d", f.Time, start, end, latest)
					}
					latest = f.Time
				})
			}
			var b Batch
			if err := plain.Next(&b); err != nil {
				t.Fatal(err)
			}
			for i := range b.Frames {
				if _, ok := experiment(&b.Frames[i]); ok {
					t.Fatal("a packet socket sees our frames")
				}
			}
			plain.Release(&b)
			for i, want := range []uint64{rounds * n0, rounds * n1} {
				got := s.Stats().Interfaces[i]
				if got.Packets < want || got.Packets > want+200 || got.Drops != [DropReasons]uint64{} || got.Path != mode.String() {
					t.Errorf("%+v, want %d packets and what the kernel sends", got, want)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := s.Next(&b); err != io.EOF {
				t.Errorf("Next after Close: %v", err)
			}
			far0.send(10, size)
			receive(t, plain, 10, func(uint32, Frame) {})
		})
	}
}

// What finds no chunk is lost, and counted; what is held is not overwritten.
func TestXDPFull(t *testing.T) {
	inNamespace(t)
	veth(t, "tap0", "far0")
	s := openXDPTest(t, xdp.Generic, 1, "tap0") // the least: 4096 chunks
	far0 := connect(t, s, 0, "far0")
	before := s.Stats().Interfaces[0].Packets
	const n, size = 6000, 200
	far0.send(n, size)
	var held []*Batch
	got := uint64(0)
	for idle := 0; idle < 3; {
		b := new(Batch)
		if err := s.Next(b); err != nil {
			t.Fatal(err)
		}
		if idle++; len(b.Frames) > 0 {
			idle = 0
		}
		got += uint64(len(b.Frames))
		held = append(held, b)
	}
	stats := s.Stats().Interfaces[0]
	if got > 4096 || stats.Packets != before+got || stats.Drops[DropRingFull] == 0 {
		t.Errorf("%d frames: %+v", got, stats)
	}
	if sum := got + stats.Drops[DropRingFull]; sum < n || sum > n+100 {
		t.Errorf("%d frames and drops, %d sent: %+v", sum, n, stats)
	}
	want := uint32(0)
	for _, b := range held {
		for i := range b.Frames {
			if number, ok := experiment(&b.Frames[i]); ok && number != want {
				t.Fatalf("frame %d, want %d", number, want)
			} else if ok {
				want++
			}
		}
		s.Release(b)
	}
	far0.send(50, size)
	receive(t, s, 50, func(uint32, Frame) {})
}

// An interface that goes down is waited for, and so is a new one of its name;
// packets of the old one stay readable.
func TestXDPDownAndUp(t *testing.T) {
	inNamespace(t)
	veth(t, "tap0", "far0")
	s := openXDPTest(t, xdp.Generic, 16<<20, "tap0")
	var told []LinkChange
	s.config.Notify = func(_ string, change LinkChange) { told = append(told, change) }
	connect(t, s, 0, "far0")
	ip(t, "link set tap0 down")
	untilDown(t, s, true)
	ip(t, "link set tap0 up")
	untilDown(t, s, false)
	connect(t, s, 0, "far0").send(10, 100)
	var kept Batch
	for len(kept.Frames) < 10 { // a batch with frames of the old interface
		s.Release(&kept)
		if err := s.Next(&kept); err != nil {
			t.Fatal(err)
		}
	}
	for again := range uint64(2) {
		ip(t, "link del tap0")
		untilDown(t, s, true)
		veth(t, "tap0", "far0")
		untilRebound(t, s, again+1)
		untilDown(t, s, false)
		connect(t, s, 0, "far0").send(30, 100)
		receive(t, s, 30, func(uint32, Frame) {})
	}
	if want := []LinkChange{LinkDown, LinkRebound, LinkDown, LinkRebound}; !slices.Equal(told, want) {
		t.Errorf("told of %v, want %v", told, want)
	}
	idle(t, s)
	for i := range kept.Frames {
		if number, ok := experiment(&kept.Frames[i]); ok && number >= 10 {
			t.Errorf("frame %d: overwritten", number)
		}
	}
	if len(s.retired) != 1 {
		t.Errorf("%d old interfaces are kept, want the one whose packets we have", len(s.retired))
	}
	s.Release(&kept)
	idle(t, s)
	if len(s.retired) != 0 {
		t.Error("the old interface is still kept")
	}
}

// Close wakes a waiting Next, and takes no memory from who still holds a batch.
func TestXDPClose(t *testing.T) {
	inNamespace(t)
	veth(t, "tap0", "far0")
	s := openXDPTest(t, xdp.Generic, 16<<20, "tap0")
	far0 := connect(t, s, 0, "far0")
	far0.send(5, 100)
	kept := new(Batch)
	for len(kept.Frames) == 0 {
		if err := s.Next(kept); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Next(kept); err == nil || err == io.EOF {
		t.Errorf("Next with a batch that is not released: %v", err)
	}
	ended := make(chan error)
	go func() {
		for {
			var b Batch
			if err := s.Next(&b); err != nil {
				ended <- err
				return
			}
			s.Release(&b)
		}
	}()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != io.EOF {
		t.Errorf("Next after Close: %v", err)
	}
	if got := s.Stats().Interfaces[0].Packets; got < 5 {
		t.Errorf("%d packets after Close", got)
	}
	s.Release(kept)
	if enter(&s.users) {
		t.Error("not freed")
	}
}

func TestXDPNoAllocation(t *testing.T) {
	inNamespace(t)
	veth(t, "tap0", "far0")
	s := openXDPTest(t, xdp.Generic, 16<<20, "tap0")
	far0 := connect(t, s, 0, "far0")
	frame := make([]byte, 100)
	b := Batch{Frames: make([]Frame, 0, 100)}
	exchange := func() {
		if _, err := unix.Write(far0.fd, frame); err != nil {
			t.Fatal(err)
		}
		for range mostIdle {
			if err := s.Next(&b); err != nil {
				t.Fatal(err)
			}
			got := len(b.Frames)
			s.Release(&b)
			if got > 0 {
				return
			}
		}
		t.Fatal("no frame has come")
	}
	if n := testing.AllocsPerRun(20, exchange); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

func TestXDPErrors(t *testing.T) {
	inNamespace(t)
	veth(t, "tap0", "far0")
	veth(t, "tap1", "far1")
	ip(t, "addr add 192.0.2.1/24 dev tap0")
	ip(t, "link set tap1 mtu 9000")
	for name, want := range map[string]string{
		"tap0":  "capture on tap0: the interface has the address 192.0.2.1, ",
		"tap1":  "capture on tap1: frames of 9000 bytes: AF_XDP takes 3818: ",
		"none0": "capture on none0: find the interface: ",
	} {
		s, err := OpenLive(LiveConfig{Interfaces: []string{name}, Mode: ModeXDP})
		if err == nil {
			_ = s.Close()
		}
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want %q…", err, want)
		}
	}
	for _, config := range []LiveConfig{
		{Interfaces: []string{"lo"}, Mode: "xpd"},
		{Interfaces: []string{"lo"}, Mode: ModeXDP, Filter: "tcp"},
	} {
		if _, err := OpenLive(config); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v", config, err)
		}
	}
	if ModeXDP.Notice() == "" || ModePacket.Notice() != "" {
		t.Error("the wrong mode comes with a notice")
	}
}

// By itself it finds a mode that goes, and with workers it says that it is one.
func TestXDPWorkers(t *testing.T) {
	inNamespace(t)
	veth(t, "tap0", "far0")
	sources, info, err := OpenLiveWorkers(LiveConfig{Interfaces: []string{"tap0"}, Mode: ModeXDP, Workers: 4, RingBytes: 16 << 20})
	if errors.Is(err, os.ErrPermission) {
		t.Skip("no AF_XDP here: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := sources[0]
	defer s.Close()
	if len(sources) != 1 || info.Method != FanoutNone || info.Consequence == "" || info.Reason == "" {
		t.Errorf("%d sources, %+v", len(sources), info)
	}
	connect(t, s, 0, "far0").send(20, 100)
	receive(t, s, 20, func(_ uint32, f Frame) {
		if binary.BigEndian.Uint16(f.Data[12:]) != experimental {
			t.Errorf("% x", f.Data)
		}
	})
}
