package flows

import (
	"fmt"
	"math/bits"
	"testing"

	"github.com/nametap/nametap/capture/decode"
)

// liveTable holds n established flows, and tells the key of each.
func liveTable(b *testing.B, n int) (*Table, func(i uint32) Key) {
	b.Helper()
	classes := new(Classes)
	idle := new([MaxClasses]int64)
	for i := range idle {
		idle[i] = 300 * second
	}
	t, err := New(Config{Flows: n + n/8 + MinFlows, HoleLists: n / 16, Seed: 1, IdleTimeout: idle, Classes: classes, OnEnd: func(uint32, Flow) {}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := t.Free(); err != nil {
			b.Error(err)
		}
	})
	key := func(i uint32) Key {
		return Key{Subscriber: addr(0x0a000000 + i>>3), Server: addr(0x9df00000 + i*7%4096), SubscriberPort: 32768 + uint16(i&7), ServerPort: 443}
	}
	p := benchPacket()
	p.PayloadLen = 0
	for i := range uint32(n) {
		k := key(i)
		hash := t.Hash(&k)
		p.Flags, p.Seq = decode.SYN, 0
		r, _ := t.Segment(&p, &k, Up, hash)
		p.Flags, p.Seq = decode.SYN|decode.ACK, 0
		t.Segment(&p, &k, Down, hash)
		p.Flags, p.Seq, p.Ack = decode.ACK, 1, 1
		t.Segment(&p, &k, Up, hash)
		t.Settle(r, 1+uint8(i%10))
	}
	return t, key
}

func benchPacket() decode.Packet {
	return decode.Packet{
		Time: epoch, Transport: make([]byte, 32), HeaderLen: 32, IPBytes: 1400, PayloadLen: 1348,
		Flags: decode.ACK, Window: 500, HasTimestamps: true, TSval: 1, TSecr: 1,
	}
}

// BenchmarkSegment is the cost of an ordinary segment of one of n flows. It
// includes making the segment, its key and the hash.
func BenchmarkSegment(b *testing.B) {
	for _, n := range []int{1_000, 1_000_000, 10_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			if n > 1_000_000 && testing.Short() {
				b.Skip("3 GB; not with -short")
			}
			t, key := liveTable(b, n)
			v := newVisits(n)
			b.Run("one", func(b *testing.B) { benchOne(b, t, key, v) })
			b.Run("batch", func(b *testing.B) { benchBatch(b, t, key, v) })
			var all Counters
			for c := range t.cfg.Classes {
				all.Add(&t.cfg.Classes[c])
			}
			if all.Retransmitted[Down] != 0 || all.OutOfOrder[Down] != 0 || t.holes[1].n != 0 {
				b.Errorf("the segments were not in sequence: %d repeated, %d out of order, %d holes", all.Retransmitted[Down], all.OutOfOrder[Down], t.holes[1].n)
			}
		})
	}
}

// visits goes over all flows again and again, in an order that no cache knows:
// of each three visits two bring data in sequence down, and one an
// acknowledgment up.
type visits struct {
	n, mask, i, round uint32
}

func newVisits(n int) *visits { return &visits{n: uint32(n), mask: 1<<bits.Len(uint(n-1)) - 1} }

// next writes the fields that make p the next segment, and returns its flow.
func (v *visits) next(p *decode.Packet) (uint32, Direction) {
	flow, round := v.n, v.round
	for flow >= v.n {
		round = v.round
		flow = v.i * 0x9e3779b1 & v.mask
		flow ^= flow >> 9
		v.i++
		if v.i > v.mask {
			v.i = 0
			v.round++
		}
	}
	p.Time += 1000
	p.TSval = uint32(p.Time / 1e6)
	p.TSecr = p.TSval - 30
	data := round - (round+flow%3)/3 // segments so far
	if (flow+round)%3 == 2 {
		p.Seq, p.Ack = 1, 1+1348*data
		p.PayloadLen, p.IPBytes = 0, 52
		return flow, Up
	}
	p.Seq, p.Ack = 1+1348*data, 1
	p.PayloadLen, p.IPBytes = 1348, 1400
	return flow, Down
}

func benchOne(b *testing.B, t *Table, key func(uint32) Key, v *visits) {
	p := benchPacket()
	for b.Loop() {
		flow, d := v.next(&p)
		k := key(flow)
		t.Segment(&p, &k, d, t.Hash(&k))
	}
}

const batch = 32

var sink uint64 // keeps the loads of Touch

func benchBatch(b *testing.B, t *Table, key func(uint32) Key, v *visits) {
	var ps [batch]decode.Packet
	for i := range ps {
		ps[i] = benchPacket()
	}
	var keys [batch]Key
	var hashes [batch]uint64
	var at [batch]uint32
	var dirs [batch]Direction
	n := 0
	send := func() {
		for j := range n {
			sink += uint64(t.Touch(hashes[j]))
		}
		for j := range n {
			at[j] = t.Seek(hashes[j])
		}
		for j := range n {
			sink += t.Hot(at[j]).Touch()
		}
		for j := range n {
			if _, ok := t.Continue(t.Hot(at[j]), &ps[j], dirs[j], hashes[j]); !ok {
				t.Segment(&ps[j], &keys[j], dirs[j], hashes[j])
			}
		}
		n = 0
	}
	for b.Loop() {
		flow, d := v.next(&ps[n])
		keys[n], dirs[n] = key(flow), d
		address(&ps[n], &keys[n], d)
		hashes[n] = t.HashOf(&ps[n], keys[n].Scope, d)
		if n++; n == batch {
			send()
		}
	}
	send()
}

// BenchmarkOpen is the cost of a flow from its SYN to its eviction, in a full
// table: a flood.
func BenchmarkOpen(b *testing.B) {
	t, _ := liveTable(b, 100_000)
	p := benchPacket()
	p.Flags = decode.SYN
	i := uint32(1 << 24)
	for b.Loop() {
		i++
		k := Key{Subscriber: addr(i), Server: addr(1), SubscriberPort: 1, ServerPort: 443}
		t.Segment(&p, &k, Up, t.Hash(&k))
	}
}

// BenchmarkOpenMidstream is the same with flows that are open at once: the one
// that is due soonest has to be found.
func BenchmarkOpenMidstream(b *testing.B) {
	t, _ := liveTable(b, 100_000)
	p := benchPacket()
	i := uint32(1 << 24)
	for b.Loop() {
		i++
		p.Time += 10_000
		if i%100_000 == 0 {
			t.Advance(p.Time)
		}
		k := Key{Subscriber: addr(i), Server: addr(1), SubscriberPort: 1, ServerPort: 443}
		t.Segment(&p, &k, Up, t.Hash(&k))
	}
}

// BenchmarkAdvance is the cost of a second in a table of a million flows that
// are put back now and then: what the wheel adds to each packet.
func BenchmarkAdvance(b *testing.B) {
	t, _ := liveTable(b, 1_000_000)
	now := epoch
	for b.Loop() {
		now += second
		for r := uint32(1 + now/second%300); r < t.used; r += 300 {
			t.slab.hot[r].Last, t.slab.hot[r].spoke = now, uint32(now/second)
		}
		t.Advance(now)
	}
}
