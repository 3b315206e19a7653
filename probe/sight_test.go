package probe

import (
	"encoding/binary"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/capture/decode"
)

// TestSee: what see makes of a segment is what segment does with it.
func TestSee(t *testing.T) {
	e := newEngine(t, config(3))
	rnd := rand.New(rand.NewPCG(1, 2))
	plain := 0
	for range 20_000 {
		address := func() decode.Addr {
			first := []uint32{10, 172, 192, 100, 203, 8}[rnd.IntN(6)]
			return decode.Addr{Lo: 0xffff<<32 | uint64(first<<24|rnd.Uint32()>>8)}
		}
		p := decode.Packet{
			Src: address(), Dst: address(), SrcPort: uint16(rnd.Uint32()), DstPort: uint16(rnd.Uint32()), Protocol: decode.ProtocolTCP,
			Time: rnd.Int64N(1 << 60), IPID: uint16(rnd.Uint32()), IPBytes: rnd.Uint32N(1500), TTL: uint8(rnd.Uint32()), VLAN: uint16(rnd.IntN(3)),
			TSval: rnd.Uint32(), TSecr: rnd.Uint32(), Transport: make([]byte, 20),
		}
		for i := range p.Transport {
			p.Transport[i] = byte(rnd.Uint32())
		}
		port, at := uint16(rnd.IntN(4)), rnd.IntN(chunkPackets)
		var s sight
		e.see(&p, (*[tcpHeader]byte)(p.Transport), port, at, &s)
		if want := e.dedup.mark(&p); s.mark != want {
			t.Fatalf("mark %x, want %x", s.mark, want)
		}
		if want := placeOf(&p, port); s.place != want {
			t.Fatalf("place %x, want %x", s.place, want)
		}
		if !s.plain {
			continue
		}
		plain++
		c := e.newChunk()
		e.segment(c, &p, uint8(at), s.mark, port)
		for i := range c.items {
			list := c.items[i].list()
			if mine := e.shardOf[s.item.partition()] == i; mine != slices.Equal(list, []item{s.item}) || !mine && len(list) != 0 {
				t.Fatalf("%+v: shard %d has %x, want %x", p, i, list, s.item)
			}
		}
	}
	if plain < 1000 {
		t.Errorf("%d were plain", plain)
	}
}

// TestFresh: with fresh before it, copied finds and remembers the same.
func TestFresh(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, window := range []int64{0, 5_000_000} {
		long, short := newDedup(window, 1), newDedup(window, 1)
		var past [64]decode.Packet
		fresh := 0
		for i := range 200_000 {
			p := decode.Packet{Time: second + int64(i)*300, Protocol: decode.ProtocolTCP, Transport: make([]byte, 20), IPID: uint16(rnd.IntN(9)), IPBytes: 40}
			binary.LittleEndian.PutUint64(p.Transport, rnd.Uint64())
			if old := past[rnd.IntN(len(past))]; rnd.IntN(3) == 0 && len(old.Transport) > 0 {
				now := p.Time
				p = old
				p.Time = now
			}
			past[i%len(past)] = p
			port := uint16(rnd.IntN(2))
			mark := long.mark(&p)
			_, want := long.copied(&p, mark, port, 0)
			if short.fresh(mark, barePlace(&p, port), p.Time) {
				fresh++
				if want {
					t.Fatalf("packet %d is a copy", i)
				}
			} else if _, got := short.copied(&p, mark, port, 0); got != want {
				t.Fatalf("packet %d: copied %v, want %v", i, got, want)
			}
		}
		if !reflect.DeepEqual(long, short) {
			t.Errorf("a window of %d: the tables differ", window)
		}
		if fresh < 100_000 {
			t.Errorf("a window of %d: %d were fresh", window, fresh)
		}
	}
}

// TestPlainLoops: frames of all kinds become the same items and counts whether the
// loops for plain ones are there or not.
func TestPlainLoops(t *testing.T) {
	g := newGn(t)
	rnd := rand.New(rand.NewPCG(5, 6))
	for i := range 3000 {
		seq := uint32(i) * 1000
		switch rnd.IntN(12) {
		case 0:
			g.frame(g.tcp("10.0.0.1", server, 40000+i, 443, "S", seq, 0, ""))
		case 1:
			g.frame(g.udp("10.0.0.1", "8.8.8.8", 5000, 53, []byte("a query of some length")))
		case 2:
			g.frame(g.answer("8.8.8.8", "10.0.0.1", "e1.whatsapp.net", server, 60))
		case 3:
			g.tunnel("192.0.2.1", "192.0.2.2", 7, g.tcp("10.0.0.2", server, 40000, 443, "A", seq, 1, "in a tunnel"))
		case 4:
			g.frame(g.tcp("10.0.0.3", "10.0.0.4", 40000, 443, "A", seq, 1, "both inside"))
		case 5:
			g.frame(g.tcp("2001:db8::1", "fd00::1", 443, 40000, "A", seq, 1, "IPv6"))
		case 6:
			g.frame([]byte{1, 2, 3})
		case 7:
			if i > 0 { // a copy on another interface
				f := g.list[len(g.list)-1]
				f.Interface ^= 1
				g.list = append(g.list, f)
			}
		default:
			g.frame(g.tcp("10.0.0.1", server, 40000, 443, "A", seq, 1, "a piece of data"))
		}
	}
	for i := range g.list {
		f := &g.list[i]
		if len(f.Data) > 20 && f.Link == decode.LinkRaw {
			t := []byte{0x08, 0}
			if f.Data[0]>>4 == 6 {
				t = []byte{0x86, 0xdd}
			}
			f.Data, f.Link = slices.Concat(make([]byte, 12), t, f.Data), decode.LinkEthernet
		}
	}
	cfg := config(2)
	cfg.Dedup = 10 * time.Millisecond
	for _, tunnels := range []bool{false, true} {
		frames := slices.DeleteFunc(slices.Clone(g.list), func(f capture.Frame) bool {
			return !tunnels && len(f.Data) > 24 && f.Data[23] == decode.ProtocolUDP && f.Data[26] == 192
		})
		with, without := newEngine(t, cfg), newEngine(t, cfg)
		plain := 0
		for len(frames) > 0 {
			list := frames[:min(len(frames), 1+rnd.IntN(group))]
			frames = frames[len(list):]
			a, b := with.newChunk(), without.newChunk()
			with.scoped, without.scoped = with.gateways.any(), without.gateways.any()
			with.decode(list, a.packets[:len(list)], 0)
			with.sort(a, list, a.packets[:len(list)])
			for i := 0; i < len(list); {
				i = without.decodeOther(list, b.packets[:len(list)], i, 0)
			}
			for i := range without.sights[:len(list)] {
				if without.sights[i].plain && !without.scoped {
					plain++
				}
				without.sights[i].plain = false
			}
			without.sortOther(b, list, b.packets[:len(list)], 0)
			for i := range a.items {
				if !slices.Equal(a.items[i].list(), b.items[i].list()) {
					t.Fatalf("tunnels %v: %x, without the loops %x", tunnels, a.items[i].list(), b.items[i].list())
				}
			}
		}
		if with.counts != without.counts || !reflect.DeepEqual(with.dedup, without.dedup) {
			t.Errorf("tunnels %v: %+v, without the loops %+v", tunnels, with.counts, without.counts)
		}
		if with.dedup.Packets == 0 || !tunnels && plain < 1000 {
			t.Errorf("tunnels %v: %d copies, %d plain", tunnels, with.dedup.Packets, plain)
		}
	}
}
