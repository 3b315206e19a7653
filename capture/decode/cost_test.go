package decode

import (
	"bytes"
	"strings"
	"testing"
)

// hotFrames are the frames whose cost matters.
func hotFrames() []struct {
	name   string
	frames [][]byte
} {
	segment := tcpTS(strings.Repeat("x", 1448))
	t4, t6 := ip4(6, segment), ip6(6, segment[:1440])
	small := ip4(6, tcpTS(strings.Repeat("x", 1348)))
	outer := gtpu(0, nil, t4)
	one := func(b []byte) [][]byte { return [][]byte{b} }
	return []struct {
		name   string
		frames [][]byte
	}{
		{"ipv4-tcp", one(eth(0x0800, t4))},
		{"ipv4-ack", one(eth(0x0800, ip4(6, tcpTS(""))))},
		{"ipv4-syn", one(eth(0x0800, ip4(6, tcpOptions(hx("020405b4 0402 080a 00000001 00000002 01 030307"), nil))))},
		{"ipv4-udp", one(eth(0x0800, ip4(17, udp(53, 1000, make([]byte, 100)))))},
		{"vlan", one(eth(0x8100, vlan(7, 0x0800, t4)))},
		{"qinq-pppoe", one(eth(0x8100, vlan(421, 0x8100, vlan(785, 0x8864, cat(hx("11 00 0007"), be16(len(t4)+2), hx("0021"), t4)))))},
		{"ipv6-tcp", one(eth(0x86dd, t6))},
		{"gtpu", one(eth(0x0800, outer4(17, gtpu(0, nil, small))))},
		{"gtpu-vlan-sequence", one(eth(0x8100, vlan(7, 0x0800, outer4(17, gtpu(2, hx("0001 00 00"), small)))))},
		{"gtpu-extension", one(eth(0x0800, outer4(17, gtpu(4, hx("0000 00 85 01 10 09 00"), small))))},
		{"fragments", [][]byte{eth(0x0800, fragment4(1, 17, 0, 1440, outer)), eth(0x0800, fragment4(1, 17, 1440, len(outer), outer))}},
		{"bad-ip", one(eth(0x0800, patch(t4, 2, 0, 19)))},
		{"bad-tcp", one(eth(0x0800, ip4(6, patch(segment, 12, 0x10))))},
		{"bad-gtp", one(eth(0x0800, outer4(17, gtpu(4, hx("0000 00 85 00 000000"), t4))))},
	}
}

// TestNoAllocation is the gate for the hot path: not one allocation for a frame,
// well-formed, malformed or a fragment.
func TestNoAllocation(t *testing.T) {
	gate := func(name string, run func()) {
		if n := testing.AllocsPerRun(200, run); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	var p Packet
	d := New(Config{FragmentBytes: 1 << 20})
	d.Scratch = make([]byte, 0, 1<<16)
	for _, s := range append(wellFormed(), malformed()...) {
		gate(s.name, func() { d.Decode(s.frame, uint32(len(s.frame)), s.link, 0, &p) })
	}
	for _, s := range hotFrames() {
		gate(s.name, func() {
			d.Scratch = d.Scratch[:0]
			for _, f := range s.frames {
				d.Decode(f, uint32(len(f)), LinkEthernet, 0, &p)
			}
			p.Time += 1e9
		})
	}
	// Fragments that never become whole, in a table that is full.
	frame := fragment6(0, 17, 0, 64, data())
	id := 0
	gate("flood", func() {
		for range 100 {
			id++
			copy(frame[44:], be32Fixed(id))
			d.Decode(frame, uint32(len(frame)), LinkRaw, 0, &p)
		}
	})
	for range 100000 {
		id++
		copy(frame[44:], be32Fixed(id))
		d.Decode(frame, uint32(len(frame)), LinkRaw, 0, &p)
	}
	if d.FragmentStats().Evicted == 0 {
		t.Error("the table was never full")
	}
}

// be32Fixed is be32 without a slice on the heap.
func be32Fixed(v int) []byte {
	return []byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)}
}

func BenchmarkDecode(b *testing.B) {
	for _, s := range hotFrames() {
		b.Run(s.name, func(b *testing.B) {
			d := New(Config{FragmentBytes: 1 << 20})
			d.Scratch = make([]byte, 0, 1<<16)
			p := Packet{}
			b.ReportAllocs()
			for b.Loop() {
				d.Scratch = d.Scratch[:0]
				for _, f := range s.frames {
					d.Decode(f, uint32(len(f)), LinkEthernet, 0, &p)
				}
				p.Time += 1e8
			}
		})
	}
}

// FuzzDecode decodes anything as any link type, cut by up to some hundred bytes:
// one outcome, no panic, and nothing in the packet that was not there.
func FuzzDecode(f *testing.F) {
	for _, s := range append(wellFormed(), malformed()...) {
		f.Add(s.frame, uint16(s.link), uint8(0))
		f.Add(s.frame, uint16(s.link), uint8(200))
	}
	for _, s := range hotFrames() {
		for _, frame := range s.frames {
			for _, link := range []Link{
				LinkNull, LinkEthernet, LinkPPP, LinkRawBSD, LinkRawBSDI, LinkPPPHDLC, LinkRaw,
				LinkCHDLC, LinkLoop, LinkSLL, LinkIPv4, LinkIPv6, LinkSLL2,
			} {
				f.Add(frame[:min(len(frame), 150)], uint16(link), uint8(0))
			}
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte, link uint16, cut uint8) {
		d := New(Config{FragmentBytes: 8 << 10})
		wire := uint32(len(frame) + int(cut))
		before := bytes.Clone(frame)
		var first, second Packet
		o := d.Decode(frame, wire, Link(link), 0, &first)
		checkPacket(t, o, &first)
		checkTable(t, &d.fragments)
		again := d.Decode(frame, wire, Link(link), 0, &second)
		checkPacket(t, again, &second)
		checkTable(t, &d.fragments)
		if o != again && o != Held {
			t.Fatalf("%v, then %v", o, again)
		}
		if a, b := describe(o, &first), describe(o, &second); o <= OtherIP && a != b {
			t.Fatalf("%s, then %s", a, b)
		}
		if !bytes.Equal(frame, before) {
			t.Fatal("the frame was changed")
		}
	})
}
