package capture

import (
	"encoding/binary"
	"encoding/hex"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/capture/fanout"
)

func fromHex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

func word(v int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(v)) }

func ethernetFrame(etherType int, payload []byte) []byte {
	return slices.Concat(fromHex("020000000001 020000000002"), word(etherType), payload)
}

// packet is an IP packet of either family; id is the IPv4 identification.
func packet(src, dst netip.Addr, protocol byte, id int, payload []byte) []byte {
	if src.Is4() {
		return slices.Concat(fromHex("4500"), word(20+len(payload)), word(id), fromHex("4000 40"), []byte{protocol, 0, 0},
			src.AsSlice(), dst.AsSlice(), payload)
	}
	return slices.Concat(fromHex("60000000"), word(len(payload)), []byte{protocol, 64}, src.AsSlice(), dst.AsSlice(), payload)
}

func datagram(src, dst int, payload []byte) []byte {
	return slices.Concat(word(src), word(dst), word(8+len(payload)), word(0), payload)
}

// segment has a number as its sequence number.
func segment(src, dst, number int, flags byte) []byte {
	return slices.Concat(word(src), word(dst), binary.BigEndian.AppendUint32(nil, uint32(number)),
		fromHex("00000000 50"), []byte{flags}, fromHex("0200 0000 0000"), []byte("some payload"))
}

var (
	gateways4 = [2]netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("10.255.0.1")}
	gateways6 = [2]netip.Addr{netip.MustParseAddr("2001:db8:ffff::1"), netip.MustParseAddr("fd00:ffff::1")}
	testNets  = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fc00::/7")}
	server4   = netip.MustParseAddr("203.0.113.5")
	server6   = netip.MustParseAddr("2001:db8::5")
)

// wraps are the ways in which the tests' packets travel.
var wraps = []func(p []byte) []byte{
	func(p []byte) []byte { return ethernetFrame(typeOf(p), p) },
	func(p []byte) []byte { return ethernetFrame(0x8100, slices.Concat(word(42), word(typeOf(p)), p)) },
	func(p []byte) []byte {
		return ethernetFrame(0x88a8, slices.Concat(word(42), fromHex("8100 0007"), word(typeOf(p)), p))
	},
	func(p []byte) []byte { return ethernetFrame(0x8847, slices.Concat(fromHex("00010040 00020140"), p)) },
	func(p []byte) []byte {
		return ethernetFrame(0x800, packet(gateways4[0], gateways4[1], 17, 1, datagram(2152, 2152,
			slices.Concat(fromHex("30ff"), word(len(p)), fromHex("00000001"), p))))
	},
	func(p []byte) []byte {
		return ethernetFrame(0x86dd, packet(gateways6[0], gateways6[1], 17, 1, datagram(2152, 2152,
			slices.Concat(fromHex("34ff"), word(8+len(p)), fromHex("00000001 00000085 01000900"), p))))
	},
	func(p []byte) []byte {
		ppp := 0x21
		if p[0]>>4 == 6 {
			ppp = 0x57
		}
		return ethernetFrame(0x8100, slices.Concat(word(42), fromHex("8864 1100 0001"), word(len(p)+2), word(ppp), p))
	},
}

func typeOf(p []byte) int {
	if p[0]>>4 == 6 {
		return 0x86dd
	}
	return 0x800
}

// visits is what subscriber i sends (interface 0) and receives (1), in order.
type visit struct {
	iface int
	frame []byte
}

// visits of subscriber i: it asks, gets an answer, opens a connection.
func visits(i int) []visit {
	subscriber, server := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), server4
	if i%3 == 0 {
		a := netip.MustParseAddr("fd00::1").As16()
		a[2], a[3] = byte(i>>8), byte(i)
		subscriber, server = netip.AddrFrom16(a), server6
	}
	wrap := wraps[i%len(wraps)]
	up := func(protocol byte, payload []byte) visit {
		return visit{0, wrap(packet(subscriber, server, protocol, 1, payload))}
	}
	down := func(protocol byte, payload []byte) visit {
		return visit{1, wrap(packet(server, subscriber, protocol, 1, payload))}
	}
	return []visit{
		up(17, datagram(30000+i, 53, fromHex("beef 0100 0001 0000 0000 0000 0000"))),
		down(17, datagram(53, 30000+i, fromHex("beef 8180 0001 0001 0000 0000 0000"))),
		up(6, segment(40000, 443, 2, decode.SYN)),
		down(6, segment(443, 40000, 3, decode.SYN|decode.ACK)),
		up(6, segment(40000, 443, 4, decode.ACK)),
		down(6, segment(443, 40000, 5, decode.PSH|decode.ACK)),
	}
}

const visitSteps = 6

// step says which subscriber's packet a frame is, and which of its visits.
func step(d *decode.Decoder, f *Frame) (decode.Addr, int, bool) {
	var p decode.Packet
	subscriber := func() decode.Addr {
		for _, prefix := range testNets {
			if prefix.Contains(p.Src.Netip()) {
				return p.Src
			}
		}
		return p.Dst
	}
	switch d.Decode(f.Data, f.WireLen, f.Link, f.VLAN, &p) {
	case decode.TCP:
		return subscriber(), int(p.Seq), true
	case decode.UDP:
		if p.SrcPort == 53 {
			return subscriber(), 1, true
		}
		return subscriber(), 0, p.DstPort == 53
	}
	return decode.Addr{}, 0, false
}

const workersSeed = 0xfeedface

// checkWorkers sends visits of many subscribers, and checks that each arrives
// once, at its worker, in order.
func checkWorkers(t *testing.T, sources []Source, far [2]sender, wrong func(wrap int) bool) {
	t.Helper()
	const subscribers = 300
	number := map[decode.Addr]int{}
	for i := range subscribers {
		all := visits(i)
		var p decode.Packet
		f := Frame{Data: all[0].frame, WireLen: uint32(len(all[0].frame)), Link: decode.LinkEthernet}
		decode.New(decode.Config{}).Decode(f.Data, f.WireLen, f.Link, 0, &p)
		number[p.Src] = i
		for _, v := range all {
			if _, err := unix.Write(far[v.iface].fd, v.frame); err != nil {
				t.Fatal(err)
			}
		}
	}
	steps, at := map[decode.Addr]int{}, map[decode.Addr]int{}
	total := 0
	for w, s := range sources {
		d := decode.New(decode.Config{})
		var b Batch
		latest := int64(0)
		for idle := 0; idle < 3; {
			if err := s.Next(&b); err != nil {
				t.Fatal(err)
			}
			if idle++; len(b.Frames) > 0 {
				idle = 0
			}
			for i := range b.Frames {
				f := &b.Frames[i]
				// The kernel stamps a frame before it has the ring's lock: two
				// processors can put theirs in the other way round.
				if early := latest - f.Time; early > int64(50*time.Microsecond) {
					t.Fatalf("worker %d: a frame is %d ns earlier than the one before it", w, early)
				}
				latest = max(latest, f.Time)
				a, n, ok := step(d, f)
				i, known := number[a]
				if !ok || !known {
					continue
				}
				total++
				at[a] = w
				if wrong != nil && wrong(i%len(wraps)) {
					continue
				}
				if want := fanout.Partition(workersSeed, a.Prefix()) % len(sources); want != w {
					t.Fatalf("%v, packet %d (wrap %d): worker %d, want %d", a.Netip(), n, i%len(wraps), w, want)
				}
				if steps[a] != n {
					t.Fatalf("%v: packet %d, want %d", a.Netip(), n, steps[a])
				}
				steps[a] = n + 1
			}
			s.Release(&b)
		}
	}
	if total != subscribers*visitSteps {
		t.Errorf("%d packets, want %d", total, subscribers*visitSteps)
	}
	busy := map[int]bool{}
	for _, w := range at {
		busy[w] = true
	}
	if len(busy) != len(sources) {
		t.Errorf("only %d of %d workers got something", len(busy), len(sources))
	}
}

func openWorkers(t *testing.T, workers int, methods ...FanoutMethod) ([]Source, FanoutInfo) {
	t.Helper()
	config, err := LiveConfig{
		Interfaces: []string{"tap0", "tap1"}, Workers: workers, Seed: workersSeed, Subscribers: testNets,
		RingBytes: workers * 4 << 20, Promiscuous: true,
	}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if len(methods) == 0 {
		methods = fanoutMethodsOf(workers)
	}
	sources, info, err := openRingsBy(config, methods...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, s := range sources {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return sources, info
}

// connectWorkers waits until both interfaces deliver.
func connectWorkers(t *testing.T, sources []Source) [2]sender {
	t.Helper()
	// Probes are no IP packets, and go to worker 0.
	return [2]sender{connect(t, sources[0], 0, "far0"), connect(t, sources[0], 1, "far1")}
}

// Each subscriber's packets come from one source in the order of their times:
// DNS and TCP, both directions, on two interfaces, in any tunnel.
func TestWorkers(t *testing.T) {
	inNamespace(t)
	veth(t, "tap0", "far0")
	veth(t, "tap1", "far1")
	for _, workers := range []int{1, 2, 5} {
		sources, info := openWorkers(t, workers)
		if len(sources) != workers {
			t.Fatalf("%d sources, want %d", len(sources), workers)
		}
		if workers > 1 && info.Method != FanoutEBPF {
			t.Skipf("no eBPF: %+v", info)
		}
		checkWorkers(t, sources, connectWorkers(t, sources), nil)
		packets := uint64(0)
		for _, s := range sources {
			for _, i := range s.Stats().Interfaces {
				packets += i.Packets
				if i.Drops != [DropReasons]uint64{} {
					t.Errorf("%+v", i)
				}
			}
		}
		if packets < 300*visitSteps {
			t.Errorf("the counters add up to %d packets", packets)
		}
		if counts := info.Counts(); workers > 1 && (counts.NotIP == 0 || counts.Stray != 0) {
			t.Errorf("%+v", counts)
		}
		for _, s := range sources {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if err := s.Next(new(Batch)); err != io.EOF {
				t.Errorf("Next after Close: %v", err)
			}
		}
		if counts := info.Counts(); workers > 1 && counts.NotIP == 0 {
			t.Errorf("after the end: %+v", counts)
		}
	}
}

// Workers keep their subscribers when an interface goes down and up, and when a
// new one takes its place.
func TestWorkersDownAndUp(t *testing.T) {
	inNamespace(t)
	veth(t, "tap0", "far0")
	veth(t, "tap1", "far1")
	sources, info := openWorkers(t, 3)
	if info.Method != FanoutEBPF {
		t.Skipf("no eBPF: %+v", info)
	}
	checkWorkers(t, sources, connectWorkers(t, sources), nil)
	ip(t, "link set tap0 down")
	idle(t, sources[1])
	if !sources[0].Stats().Interfaces[0].Down || sources[0].Stats().Interfaces[1].Down {
		t.Errorf("tap0 alone is down: %+v", sources[0].Stats().Interfaces)
	}
	ip(t, "link set tap0 up")
	checkWorkers(t, sources, connectWorkers(t, sources), nil)
	for again := range uint64(2) {
		ip(t, "link del tap0")
		if again == 0 {
			idle(t, sources[2]) // once with a look in between, once without
		}
		veth(t, "tap0", "far0")
		untilRebound(t, sources[0], again+1)
		checkWorkers(t, sources, connectWorkers(t, sources), nil)
		untilDown(t, sources[0], false)
	}
	if n := sources[1].Stats().Interfaces[0].Rebinds; n != 0 {
		t.Errorf("a second worker counts %d rebinds as well", n)
	}
}

// signalFrame is a numbered message of the control plane between two gateways.
func signalFrame(number int) []byte {
	payload := binary.BigEndian.AppendUint32(fromHex("48200010 00000000"), uint32(number))
	return ethernetFrame(0x800, packet(gateways4[0], gateways4[1], 17, number, datagram(2123, 2123, payload)))
}

// checkSignals sends signals, and checks that every source gets each once, in
// order, and one of them each as a frame besides; and that what was sent before a
// signal comes before it.
func checkSignals(t *testing.T, sources []Source, far [2]sender) {
	t.Helper()
	const n = 200
	user := func(number int) []byte {
		subscriber := netip.AddrFrom4([4]byte{10, 9, byte(number >> 8), byte(number)})
		return ethernetFrame(0x800, packet(subscriber, server4, 6, number, segment(40000, 443, number, decode.ACK)))
	}
	for i := range n {
		for k, frame := range [][]byte{user(i), signalFrame(i)} {
			if _, err := unix.Write(far[(i+k)%2].fd, frame); err != nil {
				t.Fatal(err)
			}
		}
	}
	frames, users := 0, 0
	for w, s := range sources {
		var b Batch
		next := 0
		number := func(f *Frame) int { return int(binary.BigEndian.Uint32(f.Data[14+20+8+8:])) }
		isSignal := func(f *Frame) bool {
			return len(f.Data) >= 14+20+8+12 && f.Data[14+9] == 17 && f.Data[14+21] == 2123&0xff
		}
		for idle := 0; idle < 3; {
			if err := s.Next(&b); err != nil {
				t.Fatal(err)
			}
			if idle++; len(b.Frames) > 0 || len(b.Signals) > 0 {
				idle = 0
			}
			done := 0
			see := func(list []Frame) {
				for i := range list {
					f := &list[i]
					switch {
					case isSignal(f):
						frames++
					case f.Data[14+9] == 6:
						users++
						if i := int(binary.BigEndian.Uint32(f.Data[14+20+4:])); i < next {
							t.Fatalf("worker %d: user packet %d comes after signal %d", w, i, next-1)
						}
					}
				}
			}
			for i := range b.Signals {
				signal := &b.Signals[i]
				see(b.Frames[done:signal.Before])
				done = signal.Before
				if got := number(&signal.Frame); got != next || signal.Interface != uint16(next+1)%2 {
					t.Fatalf("worker %d: signal %d on interface %d, want %d", w, got, signal.Interface, next)
				}
				next++
			}
			see(b.Frames[done:])
			s.Release(&b)
		}
		if next != n {
			t.Errorf("worker %d: %d signals, want %d", w, next, n)
		}
	}
	if frames != n || users != n {
		t.Errorf("%d signals came as frames, and %d packets, want %d each", frames, users, n)
	}
}

// Every worker is shown the control plane, in its place among its frames, also
// when an interface is replaced and when the ring of signals has gone round.
func TestWorkersSignals(t *testing.T) {
	inNamespace(t)
	veth(t, "tap0", "far0")
	veth(t, "tap1", "far1")
	sources, info := openWorkers(t, 3)
	if info.Method != FanoutEBPF {
		t.Skipf("no eBPF: %+v", info)
	}
	far := connectWorkers(t, sources)
	for range 3 {
		checkSignals(t, sources, far)
	}
	ip(t, "link del tap0")
	idle(t, sources[2])
	veth(t, "tap0", "far0")
	untilRebound(t, sources[0], 1)
	checkSignals(t, sources, connectWorkers(t, sources))
	packets := uint64(0)
	for _, s := range sources {
		for _, i := range s.Stats().Interfaces {
			packets += i.Packets
			if i.Drops[DropRingFull] != 0 {
				t.Errorf("%+v", i)
			}
		}
	}
	if packets > 4*2*200+100 { // and a few probes
		t.Errorf("%d packets were counted: signals count where they are frames", packets)
	}
}

// What no worker could be shown is counted as lost.
func TestWorkersSignalsLost(t *testing.T) {
	inNamespace(t)
	veth(t, "tap0", "far0")
	veth(t, "tap1", "far1")
	sources, info, err := OpenLiveWorkers(LiveConfig{
		Interfaces: []string{"tap0", "tap1"}, Workers: 2, Seed: workersSeed, Subscribers: testNets,
		RingBytes: 2 * 8 * signalRingBytes, // frames all find room
	})
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(t, sources)
	if info.Method != FanoutEBPF {
		t.Skipf("no eBPF: %+v", info)
	}
	far := connectWorkers(t, sources)
	large := slices.Concat(signalFrame(0)[:14+20+8], make([]byte, 1400))
	binary.BigEndian.PutUint16(large[14+2:], uint16(len(large)-14))
	binary.BigEndian.PutUint16(large[14+20+4:], uint16(len(large)-14-20))
	for range 3 * signalRingBytes / len(large) {
		if _, err := unix.Write(far[0].fd, large); err != nil {
			t.Fatal(err)
		}
	}
	if first, second := sources[0].Stats().Interfaces[0], sources[1].Stats().Interfaces[0]; first.Drops[DropRingFull] == 0 || second.Drops[DropRingFull] != 0 {
		t.Errorf("%+v and %+v", first, second)
	}
}

// Where the best method is refused, nothing is divided if that is to be exact.
func TestWorkersExact(t *testing.T) {
	inNamespace(t) // the thread's, and so are the rights it drops
	ip(t, "link set lo up")
	config := LiveConfig{Interfaces: []string{"lo"}, Workers: 2, Subscribers: testNets, RingBytes: 4 << 20, Exact: true}
	if sources, info, err := OpenLiveWorkers(config); err != nil || len(sources) != 2 {
		t.Skipf("no eBPF: %v, %+v", err, info)
	} else {
		closeAll(t, sources)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var rights [2]unix.CapUserData
	if err := unix.Capget(&header, &rights[0]); err != nil {
		t.Fatal(err)
	}
	rights[0].Effective &^= 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_NET_ADMIN
	rights[1].Effective &^= 1 << (unix.CAP_BPF - 32)
	if err := unix.Capset(&header, &rights[0]); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		exact  bool
		want   int
		method FanoutMethod
	}{{true, 1, FanoutNone}, {false, 2, FanoutClassic}} {
		config.Exact = test.exact
		sources, info, err := OpenLiveWorkers(config)
		if err != nil {
			t.Fatal(err)
		}
		if len(sources) != test.want || info.Method != test.method || info.Reason == "" || info.Consequence == "" {
			t.Errorf("exact %v: %d sources, %+v", test.exact, len(sources), info)
		}
		closeAll(t, sources)
	}
}

func closeAll(t *testing.T, sources []Source) {
	t.Helper()
	for _, s := range sources {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Without eBPF, simple packets reach their worker, and all reach one.
func TestWorkersClassic(t *testing.T) {
	inNamespace(t)
	veth(t, "tap0", "far0")
	veth(t, "tap1", "far1")
	for _, test := range []struct {
		method FanoutMethod
		wrong  []int
	}{
		{FanoutClassic, []int{3, 5, 6}}, // MPLS, extension header, PPPoE
		{FanoutHash, []int{0, 1, 2, 3, 4, 5, 6}},
	} {
		sources, info := openWorkers(t, 3, test.method)
		if info.Method != test.method || info.Consequence == "" || info.Reason != "" {
			t.Errorf("%+v", info)
		}
		checkWorkers(t, sources, connectWorkers(t, sources), func(wrap int) bool { return slices.Contains(test.wrong, wrap) })
		for _, s := range sources {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// What is not allowed is done in a lesser way, which says so.
func TestWorkersFallBack(t *testing.T) {
	inNamespace(t)
	ip(t, "link set lo up")
	many := make([]netip.Prefix, 70) // more than the classic program has room for
	for i := range many {
		many[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i)}), 16)
	}
	config, err := LiveConfig{Interfaces: []string{"lo"}, Workers: 2, Subscribers: many, RingBytes: 1}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	sources, info, err := openRingsBy(config, FanoutClassic, FanoutHash)
	if err != nil {
		t.Fatal(err)
	}
	if info.Method != FanoutHash || !strings.Contains(info.Reason, "70 subscriber prefixes") || info.Counts() != (fanout.Counts{}) {
		t.Errorf("%+v", info)
	}
	for _, s := range sources {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := openRingsBy(config, FanoutClassic); err == nil || !strings.Contains(err.Error(), "2 workers") {
		t.Errorf("nothing left: %v", err)
	}
	config.Workers = fanout.Partitions + 1
	if _, _, err := OpenLiveWorkers(config); err == nil {
		t.Error("65 workers: no error")
	}
}
