package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nametap/nametap/capture/decode"
)

// The frames of these tests have an EtherType for experiments (IEEE 802, local
// experimental 1 and 2), so that nothing the kernel sends by itself is counted.
const (
	experimental = 0x88b5
	probing      = 0x88b6
)

// inNamespace runs the rest of the test in a network namespace of its own,
// which goes away with the test's thread.
func inNamespace(t *testing.T) {
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
}

func ip(t *testing.T, arguments string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(arguments)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", arguments, err, out)
	}
}

// veth makes a pair of interfaces that are up. Without addresses of its own, the
// kernel says nothing by itself.
func veth(t *testing.T, tap, far string) {
	t.Helper()
	ip(t, "link add "+tap+" type veth peer name "+far)
	ip(t, "link set "+tap+" addrgenmode none up")
	ip(t, "link set "+far+" addrgenmode none up")
}

// sender sends frames on an interface.
type sender struct {
	t  *testing.T
	fd int
}

func newSender(t *testing.T, name string) sender {
	t.Helper()
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	request, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: int(request.Uint32())}); err != nil {
		t.Fatal(err)
	}
	return sender{t, fd}
}

// send sends n numbered frames of size bytes, with the VLAN tags given.
func (s sender) send(n, size int, tags ...uint32) {
	s.t.Helper()
	for i := range n {
		frame := append([]byte(nil), "\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02"...)
		for _, tag := range tags {
			frame = binary.BigEndian.AppendUint32(frame, tag)
		}
		frame = binary.BigEndian.AppendUint16(frame, experimental)
		frame = binary.BigEndian.AppendUint32(frame, uint32(i))
		frame = append(frame, make([]byte, size-len(frame))...)
		if _, err := unix.Write(s.fd, frame); err != nil {
			s.t.Fatalf("send: %v", err)
		}
	}
}

// experiment returns the frame's number, if it is one of ours.
func experiment(f *Frame) (uint32, bool) {
	d := f.Data
	if f.Link != decode.LinkEthernet || len(d) < 18 {
		return 0, false
	}
	if binary.BigEndian.Uint16(d[12:]) == unix.ETH_P_8021Q { // a second tag stays in the frame
		d = d[4:]
	}
	return binary.BigEndian.Uint32(d[14:]), binary.BigEndian.Uint16(d[12:]) == experimental
}

// connect sends probes until one arrives: an interface that was just set up
// loses frames until the kernel has noticed that it has a carrier.
func connect(t *testing.T, s Source, tap uint16, far string) sender {
	t.Helper()
	sender := newSender(t, far)
	probe := binary.BigEndian.AppendUint16([]byte("\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02"), probing)
	probe = append(probe, make([]byte, 50)...)
	var b Batch
	for range mostIdle {
		if _, err := unix.Write(sender.fd, probe); err != nil && !errors.Is(err, unix.ENETDOWN) {
			t.Fatalf("send: %v", err)
		}
		if err := s.Next(&b); err != nil {
			t.Fatal(err)
		}
		for i := range b.Frames {
			f := &b.Frames[i]
			if f.Interface == tap && len(f.Data) > 14 && binary.BigEndian.Uint16(f.Data[12:]) == probing {
				s.Release(&b)
				return sender
			}
		}
		s.Release(&b)
	}
	t.Fatal("no probe has come through")
	return sender
}

// mostIdle is how many empty batches in a row a test waits for something.
const mostIdle = 100

// receive reads until each frame of want has come, and calls look for each.
func receive(t *testing.T, s Source, want int, look func(number uint32, f Frame)) {
	t.Helper()
	var b Batch
	idle := 0
	for got := 0; got < want; {
		if err := s.Next(&b); err != nil {
			t.Fatal(err)
		}
		if idle++; len(b.Frames) > 0 {
			idle = 0
		}
		if idle == mostIdle {
			t.Fatalf("%d frames have come of %d", got, want)
		}
		for _, f := range b.Frames {
			if number, ok := experiment(&f); ok {
				got++
				look(number, f)
			}
		}
		s.Release(&b)
	}
	// Nothing more than that.
	if err := s.Next(&b); err != nil {
		t.Fatal(err)
	}
	for i := range b.Frames {
		if _, ok := experiment(&b.Frames[i]); ok {
			t.Error("a frame too many")
		}
	}
	s.Release(&b)
}

func openLive(t *testing.T, config LiveConfig) Source {
	t.Helper()
	if config.RingBytes == 0 {
		config.RingBytes = 4 << 20
	}
	s, err := OpenLive(config)
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

// Every frame comes once, in order, whole, with a time; several interfaces keep
// apart; what this machine sends does not come.
func TestLive(t *testing.T) {
	inNamespace(t)
	veth(t, "tap0", "far0")
	veth(t, "tap1", "far1")
	s := openLive(t, LiveConfig{Interfaces: []string{"tap0", "tap1"}, Promiscuous: true, RingBytes: 32 << 20})
	far0, far1 := connect(t, s, 0, "far0"), connect(t, s, 1, "far1")
	const rounds, n0, n1, size = 20, 1000, 250, 668
	counts := [2]uint64{}
	for range rounds {
		start := time.Now().UnixNano()
		far0.send(n0, size)
		far1.send(n1, size)
		newSender(t, "tap0").send(100, size)
		end := time.Now().UnixNano()
		next := [2]uint32{}
		receive(t, s, n0+n1, func(number uint32, f Frame) {
			if number != next[f.Interface] {
				t.Fatalf("interface %d: frame %d, want %d", f.Interface, number, next[f.Interface])
			}
			next[f.Interface]++
			counts[f.Interface]++
			if len(f.Data) != size || f.WireLen != size || f.VLAN != 0 {
				t.Fatalf("%d bytes of %d, VLAN %#x", len(f.Data), f.WireLen, f.VLAN)
			}
			if f.Time < start-second || f.Time > end+second {
				t.Fatalf("time %d is not between %d and %d", f.Time, start, end)
			}
		})
	}
	if want := [2]uint64{rounds * n0, rounds * n1}; counts != want {
		t.Errorf("%d frames, want %d", counts, want)
	}
	stats := s.Stats().Interfaces
	for i, want := range []InterfaceStats{
		{Name: "tap0", Packets: rounds * n0, Bytes: rounds * n0 * size},
		{Name: "tap1", Packets: rounds * n1, Bytes: rounds * n1 * size},
	} {
		got := stats[i]
		if got.Name != want.Name || got.Packets < want.Packets || got.Bytes < want.Bytes || got.Drops != want.Drops || got.Freezes != 0 || got.Rebinds != 0 {
			t.Errorf("got %+v, want %+v and what the kernel sends", got, want)
		}
		if name := s.Interfaces()[i]; name != want.Name {
			t.Errorf("interface %d is called %s", i, name)
		}
	}
}

func TestLiveVLAN(t *testing.T) {
	inNamespace(t)
	veth(t, "tap0", "far0")
	s := openLive(t, LiveConfig{Interfaces: []string{"tap0"}, SnapLen: 64})
	far0 := connect(t, s, 0, "far0")
	for _, test := range []struct {
		name string
		tags []uint32
		vlan uint16
		data int // bytes left in the frame
		wire uint32
	}{
		{"untagged, cut", nil, 0, 64, 100},
		{"customer tag with priority", []uint32{0x8100<<16 | 0x6123}, 0x6123, 64, 100},
		{"VLAN 0", []uint32{0x8100 << 16}, 0, 64, 100},
		{"service tag", []uint32{0x88a8<<16 | 42}, 42, 64, 100},
		{"two tags: the inner one stays", []uint32{0x88a8<<16 | 42, 0x8100<<16 | 7}, 42, 64, 100},
	} {
		far0.send(3, 100, test.tags...)
		receive(t, s, 3, func(_ uint32, f Frame) {
			if f.VLAN != test.vlan || len(f.Data) != test.data || f.WireLen != test.wire {
				t.Errorf("%s: VLAN %#x, %d bytes of %d", test.name, f.VLAN, len(f.Data), f.WireLen)
			}
		})
	}
}

// untilRebound calls Next until stats say so, or it has waited long enough.
func untilRebound(t *testing.T, s Source, rebinds uint64) {
	t.Helper()
	var b Batch
	for range mostIdle {
		if s.Stats().Interfaces[0].Rebinds == rebinds {
			return
		}
		if err := s.Next(&b); err != nil {
			t.Fatal(err)
		}
		s.Release(&b)
	}
	t.Fatalf("not bound again: %+v", s.Stats().Interfaces[0])
}

// untilDown calls Next until stats say that the first interface is down, or not, or
// it has waited long enough.
func untilDown(t *testing.T, s Source, down bool) {
	t.Helper()
	var b Batch
	for range mostIdle {
		if s.Stats().Interfaces[0].Down == down {
			return
		}
		if err := s.Next(&b); err != nil {
			t.Fatal(err)
		}
		s.Release(&b)
	}
	t.Fatalf("down is not %v: %+v", down, s.Stats().Interfaces[0])
}

// idle calls Next a few times: more than what it takes to look at interfaces.
func idle(t *testing.T, s Source) {
	t.Helper()
	var b Batch
	for range 6 {
		if err := s.Next(&b); err != nil {
			t.Fatal(err)
		}
		s.Release(&b)
	}
}

func TestLiveDownAndUp(t *testing.T) {
	inNamespace(t)
	ip(t, "link add tap0 type veth peer name far0")
	ip(t, "link set far0 up")
	s := openLive(t, LiveConfig{Interfaces: []string{"tap0"}, Promiscuous: true}) // still down
	look := func(uint32, Frame) {}
	idle(t, s)
	untilDown(t, s, true)
	ip(t, "link set tap0 up")
	connect(t, s, 0, "far0").send(10, 100)
	receive(t, s, 10, look)
	untilDown(t, s, false)

	ip(t, "link set tap0 down")
	idle(t, s)
	ip(t, "link set tap0 up")
	connect(t, s, 0, "far0").send(20, 100)
	receive(t, s, 20, look)

	for again := range uint64(2) {
		ip(t, "link del tap0")
		if again == 0 {
			idle(t, s) // once with a look in between, once without
			untilDown(t, s, true)
		}
		veth(t, "tap0", "far0")
		untilRebound(t, s, again+1)
		connect(t, s, 0, "far0").send(30, 100)
		receive(t, s, 30, look)
		untilDown(t, s, false)
	}
	out, err := exec.Command("ip", "-d", "link", "show", "tap0").Output()
	if err != nil || !strings.Contains(string(out), "promiscuity 1") {
		t.Errorf("the new interface is not promiscuous: %v %s", err, out)
	}
}

// A consumer that keeps everything loses what does not fit, and every loss is
// counted: delivered and dropped together are what was sent.
func TestLiveRingFull(t *testing.T) {
	inNamespace(t)
	veth(t, "tap0", "far0")
	s := openLive(t, LiveConfig{Interfaces: []string{"tap0"}, RingBytes: 1, BlockBytes: 1}) // the least: 2 of 256 KiB
	far0 := connect(t, s, 0, "far0")
	const n, size = 5000, 1000
	before := s.Stats().Interfaces[0].Packets
	far0.send(n, size)
	var held []*Batch
	got := before
	for range 5 {
		b := new(Batch)
		if err := s.Next(b); err != nil {
			t.Fatal(err)
		}
		got += uint64(len(b.Frames))
		held = append(held, b)
	}
	stats := s.Stats().Interfaces[0]
	if stats.Packets != got || stats.Drops[DropRingFull] == 0 || stats.Freezes == 0 {
		t.Errorf("%d delivered, no drop or freeze: %+v", got, stats)
	}
	if sum := stats.Packets - before + stats.Drops[DropRingFull]; sum < n || sum > n+50 { // the kernel sends some itself
		t.Errorf("%d delivered and dropped, %d sent: %+v", sum, n, stats)
	}
	// What is held was not overwritten.
	want := uint32(0)
	for _, b := range held {
		for i := range b.Frames {
			number, ok := experiment(&b.Frames[i])
			if !ok {
				continue
			}
			if number != want {
				t.Fatalf("frame %d, want %d", number, want)
			}
			want++
		}
		s.Release(b)
	}
	// Once released, it goes on; what is dropped while it thaws is counted.
	before = s.Stats().Interfaces[0].Drops[DropRingFull]
	far0.send(50, size)
	var b Batch
	for got, idle := uint64(0), 0; got == 0 || got+s.Stats().Interfaces[0].Drops[DropRingFull]-before < 50; idle++ {
		if idle == mostIdle {
			t.Fatalf("%d frames have come of 50, the others are not counted as dropped", got)
		}
		if err := s.Next(&b); err != nil {
			t.Fatal(err)
		}
		for i := range b.Frames {
			if _, ok := experiment(&b.Frames[i]); ok {
				got++
			}
		}
		s.Release(&b)
	}
	// From then on nothing is lost.
	far0.send(50, size)
	receive(t, s, 50, func(uint32, Frame) {})
}

// Close wakes a waiting Next, and takes no memory from who still holds a batch.
func TestLiveClose(t *testing.T) {
	inNamespace(t)
	veth(t, "tap0", "far0")
	s := openLive(t, LiveConfig{Interfaces: []string{"tap0"}})
	connect(t, s, 0, "far0").send(5, 100)
	kept := new(Batch)
	for len(kept.Frames) == 0 {
		s.Release(kept)
		if err := s.Next(kept); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Next(kept); err == nil || err == io.EOF {
		t.Errorf("Next with a batch that is not released: %v", err)
	}
	if err := s.Next(kept); err == nil {
		t.Error("no error")
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
	if before := s.Stats().Interfaces[0]; before.Packets < 5 {
		t.Errorf("counters after Close: %+v", before)
	}
	s.Release(kept) // the last user: frees
	if s.(*live).enter() {
		t.Error("not freed")
	}
	if stats := s.Stats().Interfaces[0]; stats.Packets < 5 {
		t.Errorf("counters after the end: %+v", stats)
	}
}

// A Next that finds nothing comes back after a while with nothing.
func TestLiveIdle(t *testing.T) {
	inNamespace(t)
	ip(t, "link set lo up")
	s := openLive(t, LiveConfig{Interfaces: []string{"lo"}})
	var b Batch
	if err := s.Next(&b); err != nil || len(b.Frames) != 0 {
		t.Errorf("%d frames, %v", len(b.Frames), err)
	}
}

// A TUN interface has no link header: its frames are IP packets.
func TestLiveTUN(t *testing.T) {
	inNamespace(t)
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("no TUN device: ", err)
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("tun0")
	if err != nil {
		t.Fatal(err)
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		t.Skip("no TUN interface: ", err)
	}
	ip(t, "link set tun0 up")
	s := openLive(t, LiveConfig{Interfaces: []string{"tun0"}})
	packet := "\x45\x00\x00\x1c\x00\x01\x00\x00\x40\x11\x00\x00\x0a\x00\x00\x01\x0a\x00\x00\x02\x00\x01\x00\x02\x00\x08\x00\x00"
	if _, err := unix.Write(fd, []byte(packet)); err != nil {
		t.Fatal(err)
	}
	var b Batch
	for range mostIdle {
		if err := s.Next(&b); err != nil {
			t.Fatal(err)
		}
		for _, f := range b.Frames {
			if string(f.Data) == packet && f.Link == decode.LinkRaw && f.WireLen == uint32(len(packet)) {
				s.Release(&b)
				return
			}
			t.Errorf("unexpected frame % x, link type %d, %d bytes", f.Data, f.Link, f.WireLen)
		}
		s.Release(&b)
	}
	t.Error("the packet has not come")
}

func TestLiveErrors(t *testing.T) {
	inNamespace(t)
	ip(t, "link set lo up")
	for _, test := range []struct {
		config LiveConfig
		want   string
	}{
		{LiveConfig{}, "no interface named: "},
		{LiveConfig{Interfaces: []string{"lo", "lo"}}, "interface lo: named twice: "},
		{LiveConfig{Interfaces: []string{"lo", "none0"}, RingBytes: 1}, "capture on none0: find the interface: no such device: see ip link for the names"},
		{LiveConfig{Interfaces: []string{"a name that is much too long"}}, "capture on a name that is much too long: find the interface: invalid argument: the name"},
	} {
		s, err := OpenLive(test.config)
		if err == nil {
			_ = s.Close()
		}
		if err == nil || !strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: %v, want %q…", test.config, err, test.want)
		}
	}
	r := &ring{config: &LiveConfig{RingBytes: 1 << 20}}
	for errno, want := range map[unix.Errno]string{unix.EPERM: "CAP_NET_RAW", unix.ENOMEM: "smaller ring", unix.EINVAL: "ring: invalid"} {
		if err := r.explain("ring", errno); !strings.Contains(err.Error(), want) || !errors.Is(err, errno) {
			t.Errorf("%v: %v, want %q", errno, err, want)
		}
	}
}

func TestLiveDefaults(t *testing.T) {
	for _, test := range []struct{ ring, block, wantRing, wantBlock int }{
		{0, 0, defaultRingBytes, defaultBlockBytes},
		{1, 1, 512 << 10, 256 << 10},
		{10<<20 + 5, 3 << 20, 8 << 20, 4 << 20},
		{1 << 30, 1 << 30, 1 << 30, 16 << 20},
	} {
		c, err := LiveConfig{Interfaces: []string{"x"}, RingBytes: test.ring, BlockBytes: test.block}.withDefaults()
		if err != nil || c.RingBytes != test.wantRing || c.BlockBytes != test.wantBlock || c.BlockTimeout <= 0 {
			t.Errorf("%+v: %+v, %v", test, c, err)
		}
	}
}

func TestLinkOf(t *testing.T) {
	for hardware, want := range map[uint16]string{
		unix.ARPHRD_ETHER: "1 false true", unix.ARPHRD_LOOPBACK: "1 false true",
		unix.ARPHRD_NONE: "101 true true", unix.ARPHRD_PPP: "101 true true", unix.ARPHRD_IPGRE: "101 true true",
		unix.ARPHRD_IEEE80211_RADIOTAP: "0 false false",
	} {
		link, noLink, ok := linkOf(hardware)
		if got := fmt.Sprint(link, noLink, ok); got != want {
			t.Errorf("hardware type %d: %s, want %s", hardware, got, want)
		}
	}
}

// A block that contradicts itself ends the walk, inside its bounds.
func TestWalkDamagedBlock(t *testing.T) {
	const size = 4096
	build := func(packets, first uint32, records ...[4]uint32) *ring {
		r := &ring{config: &LiveConfig{BlockBytes: size}, memory: make([]byte, size), uses: make([]atomic.Int32, 1), link: decode.LinkEthernet}
		h := r.header(0)
		h.Num_pkts, h.Offset_to_first_pkt = packets, first
		for _, record := range records {
			at := record[0]
			binary.NativeEndian.PutUint32(r.memory[at:], record[1])    // next
			binary.NativeEndian.PutUint32(r.memory[at+12:], record[2]) // captured
			binary.NativeEndian.PutUint32(r.memory[at+16:], record[2])
			binary.NativeEndian.PutUint16(r.memory[at+24:], uint16(record[3])) // offset of the frame
		}
		return r
	}
	for _, test := range []struct {
		name string
		ring *ring
		want int
	}{
		{"two packets", build(2, 48, [4]uint32{48, 200, 60, 82}, [4]uint32{248, 0, 60, 82}), 2},
		{"an end before the count", build(9, 48, [4]uint32{48, 200, 60, 82}, [4]uint32{248, 0, 60, 82}), 2},
		{"first packet outside", build(1, size-67), 0},
		{"first packet far outside", build(1, 0x80000000), 0},
		{"next packet outside", build(2, 48, [4]uint32{48, size, 60, 82}), 1},
		{"frame ends outside", build(1, 48, [4]uint32{48, 0, size, 82}), 0},
		{"frame of 4 GiB", build(1, 48, [4]uint32{48, 0, 0xffffffff, 82}), 0},
		{"frame begins outside", build(1, 48, [4]uint32{48, 0, 0, 0xffff}), 0},
	} {
		w := test.ring.walk(new(cursor))
		if frames, _ := w.take(nil, 0, math.MaxInt64); len(frames) != test.want || w.left != 0 {
			t.Errorf("%s: %d frames, want %d", test.name, len(frames), test.want)
		}
	}
}

// Reading the ring allocates nothing once a batch has its frames.
func TestLiveNoAllocation(t *testing.T) {
	inNamespace(t)
	veth(t, "tap0", "far0")
	s := openLive(t, LiveConfig{Interfaces: []string{"tap0"}})
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
