package decode

import (
	"bytes"
	"strings"
	"testing"
)

// walker returns a Decoder that knows no straight ways.
func walker(config Config) *Decoder {
	d := New(config)
	d.straightLink = noLink
	return d
}

// same reports whether all fields that are valid after the outcome o agree.
func same(o Outcome, a, b *Packet) bool {
	if o > OtherIP {
		return true
	}
	ok := a.Src == b.Src && a.Dst == b.Dst && bytes.Equal(a.Transport, b.Transport) && a.IPBytes == b.IPBytes &&
		a.Protocol == b.Protocol && a.TTL == b.TTL && a.IPID == b.IPID && a.VLAN == b.VLAN &&
		a.Tunnel == b.Tunnel && a.Fragmented == b.Fragmented
	if a.Tunnel == TunnelGTP {
		ok = ok && a.TEID == b.TEID && a.OuterSrc == b.OuterSrc && a.OuterDst == b.OuterDst
	}
	if o == TCP || o == UDP {
		ok = ok && a.SrcPort == b.SrcPort && a.DstPort == b.DstPort && a.HeaderLen == b.HeaderLen && a.PayloadLen == b.PayloadLen
	}
	if o == TCP {
		ok = ok && a.Seq == b.Seq && a.Ack == b.Ack && a.Window == b.Window && a.Flags == b.Flags && a.HasTimestamps == b.HasTimestamps
		ok = ok && (!a.HasTimestamps || a.TSval == b.TSval && a.TSecr == b.TSecr)
	}
	if len(a.Transport) > 0 && len(b.Transport) > 0 {
		ok = ok && &a.Transport[0] == &b.Transport[0] // the same place in the frame
	}
	return ok
}

// compareWays decodes a frame by the straight ways and by the walk alone.
func compareWays(t *testing.T, config Config, frame []byte, wireLen uint32, vlan uint16) {
	t.Helper()
	// What an earlier frame has left behind differs, so that a field which is
	// not written shows.
	straight := Packet{Tunnel: TunnelGTP, VLAN: 77, Fragmented: true, HasTimestamps: true, IPID: 1, TTL: 1, Protocol: 1, HeaderLen: 1, Flags: 1}
	walked := Packet{}
	got := New(config).Decode(frame, wireLen, LinkEthernet, vlan, &straight)
	want := walker(config).Decode(frame, wireLen, LinkEthernet, vlan, &walked)
	if got != want || !same(got, &straight, &walked) {
		t.Fatalf("%x, %d on the wire, %+v:\nstraight %v %+v\nwalk     %v %+v", frame, wireLen, config, got, straight, want, walked)
	}
}

// straightFrames are frames that the straight ways read, in all their shapes.
func straightFrames() []sample {
	t4, t6 := ip4(6, tcpTS("hello")), ip6(6, tcpTS("hello"))
	u4, u6 := ip4(17, udp(53, 1000, []byte("a dns message"))), ip6(17, udp(53, 1000, []byte("a dns message")))
	inner := []sample{
		{"ipv4 tcp", 0, t4, "tcp"},
		{"ipv4 tcp without options", 0, ip4(6, tcp("hello there")), "tcp"},
		{"ipv4 syn", 0, ip4(6, tcpOptions(hx("020405b4 0402 080a 00000001 00000002 01 030307"), nil)), "tcp"},
		{"ipv4 ack with gaps", 0, ip4(6, tcpOptions(hx("0101080a 00000001 00000002 0101050a 00000001 00000002"), nil)), "tcp"},
		{"ipv4 tcp, may be fragmented", 0, patch(t4, 6, 0), "tcp"},
		{"ipv4 tcp, padded", 0, cat(t4, make([]byte, 6)), "tcp"},
		{"ipv4 udp", 0, u4, "udp"},
		{"ipv4 udp, padded", 0, cat(u4, make([]byte, 6)), "udp"},
		{"ipv4 udp shorter than ip", 0, ip4(17, cat(udp(53, 1000, []byte("data")), make([]byte, 20))), "udp"},
		{"ipv6 tcp", 0, t6, "tcp"},
		{"ipv6 tcp, padded", 0, cat(t6, make([]byte, 6)), "tcp"},
		{"ipv6 syn", 0, ip6(6, tcpOptions(hx("020405a0 0402 080a 00000001 00000002 01 030307"), nil)), "tcp"},
		{"ipv6 udp", 0, u6, "udp"},
	}
	var frames []sample
	for _, s := range inner {
		t := 0x0800
		if strings.HasPrefix(s.name, "ipv6") {
			t = 0x86dd
		}
		packets := []sample{
			{s.name, LinkRaw, s.frame, s.want},
			{s.name + " in gtp", LinkIPv4, outer4(17, gtpu(0, nil, s.frame)), s.want},
			{s.name + " in gtp with a sequence number", LinkIPv4, outer4(17, gtpu(2, hx("0001 00 00"), s.frame)), s.want},
			{s.name + " in gtp with an n-pdu number", LinkIPv4, outer4(17, gtpu(1, hx("ffff 05 85"), s.frame)), s.want},
			{s.name + " in gtp with no extension", LinkIPv4, outer4(17, gtpu(4, hx("0000 00 00"), s.frame)), s.want},
			{s.name + " in gtp with a pdu session container", LinkIPv4, outer4(17, gtpu(4, hx("0000 00 85 01 10 09 00"), s.frame)), s.want},
			{s.name + " in gtp with a long extension", LinkIPv4, outer4(17, gtpu(7, hx("0001 02 c0 02 0000000000 00 00"), s.frame)), s.want},
			{s.name + " in gtp from another port", LinkIPv4, outer4(17, udp(40000, 2152, gtp(0, nil, s.frame))), s.want},
			{s.name + " in gtp to another port", LinkIPv4, outer4(17, udp(2152, 40000, gtp(0, nil, s.frame))), s.want},
			{s.name + " in gtp with trailing bytes", LinkIPv4, outer4(17, udp(2152, 2152, cat(gtp(0, nil, s.frame), hx("0000")))), s.want},
		}
		for _, p := range packets {
			t := t
			if p.link == LinkIPv4 {
				t = 0x0800
			}
			frames = append(frames,
				sample{p.name, LinkEthernet, eth(t, p.frame), p.want},
				sample{p.name + " in a vlan", LinkEthernet, eth(0x8100, vlan(7, t, p.frame)), p.want},
				sample{p.name + " in two vlans", LinkEthernet, eth(0x88a8, vlan(421, 0x8100, vlan(785, t, p.frame))), p.want},
				sample{p.name + " with a priority in a vlan", LinkEthernet, eth(0x8100, vlan(5, 0x8100, vlan(0xe000, t, p.frame))), p.want},
			)
		}
	}
	return frames
}

// TestStraightIsStraight sees that the frames do not need the walk: it is given
// no depth at all.
func TestStraightIsStraight(t *testing.T) {
	for _, s := range straightFrames() {
		d := New(Config{MaxDepth: straightDepth})
		d.maxDepth = 0
		var p Packet
		if got := decodeOne(d, s.frame, len(s.frame), s.link, &p).String(); got != s.want {
			t.Errorf("%s: %s, want %s", s.name, got, s.want)
		}
	}
}

// TestStraightAgainstWalk decodes frames that the straight ways know, and such
// as they must not take for these, by both ways: whole, cut at every length, with
// every bit of their headers turned over, and at every depth.
func TestStraightAgainstWalk(t *testing.T) {
	others := append(wellFormed(), malformed()...)
	frames := straightFrames()
	for _, s := range others {
		t := 0x0800
		if len(s.frame) > 0 && s.frame[0]>>4 == 6 {
			t = 0x86dd
		}
		switch s.link {
		case LinkRaw:
			gtp := outer4(17, gtpu(2, hx("0001 00 00"), s.frame))
			frames = append(frames, sample{s.name, LinkEthernet, eth(t, s.frame), ""},
				sample{s.name + " in gtp", LinkEthernet, eth(0x0800, gtp), ""})
		case LinkEthernet:
			frames = append(frames, s)
		}
	}
	for _, s := range frames {
		t.Run(s.name, func(t *testing.T) {
			wire := uint32(len(s.frame))
			for depth := range 10 {
				compareWays(t, Config{MaxDepth: depth}, s.frame, wire, 0)
			}
			for n := range len(s.frame) {
				compareWays(t, Config{}, s.frame[:n:n], wire, 0)
				compareWays(t, Config{}, s.frame[:n], uint32(n), 0xe064)
			}
			frame := bytes.Clone(s.frame[:min(len(s.frame), 160)])
			for i := range 8 * len(frame) {
				frame[i/8] ^= 1 << (i % 8)
				compareWays(t, Config{}, frame, wire, 100)
				frame[i/8] ^= 1 << (i % 8)
			}
		})
	}
}

// TestStraightLinks sees that only Ethernet frames go a straight way, and none
// where there is no room for it.
func TestStraightLinks(t *testing.T) {
	frame := eth(0x0800, ip4(6, tcp("")))
	for _, depth := range []int{1, straightDepth} {
		d, w := New(Config{MaxDepth: depth}), walker(Config{MaxDepth: depth})
		for link := range 1 << 16 {
			var p, q Packet
			got, want := decodeOne(d, frame, len(frame), Link(link), &p), decodeOne(w, frame, len(frame), Link(link), &q)
			if got != want || !same(got, &p, &q) {
				t.Fatalf("link type %d, depth %d: %v, want %v", link, depth, got, want)
			}
		}
	}
}

// FuzzStraight decodes any Ethernet frame by both ways.
func FuzzStraight(f *testing.F) {
	for _, s := range append(append(straightFrames(), wellFormed()...), malformed()...) {
		if s.link == LinkEthernet {
			f.Add(s.frame, uint8(0), uint16(0), uint8(0))
			f.Add(s.frame, uint8(200), uint16(0xe064), uint8(straightDepth))
		} else {
			f.Add(eth(0x0800, s.frame), uint8(0), uint16(0), uint8(0))
		}
	}
	for _, s := range hotFrames() {
		for _, frame := range s.frames {
			f.Add(frame[:min(len(frame), 150)], uint8(0), uint16(0), uint8(0))
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte, cut uint8, vlan uint16, depth uint8) {
		compareWays(t, Config{MaxDepth: int(depth)}, frame, uint32(len(frame))+uint32(cut), vlan)
	})
}
