package flows

import (
	"fmt"
	"testing"
	"unsafe"

	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/internal/arena"
)

// liveTable holds n established flows, and tells the key of each.
func liveTable(b *testing.B, n int) (*Table, func(i uint32) Key) {
	b.Helper()
	classes := new(Classes)
	idle := new([MaxClasses]int64)
	for i := range idle {
		idle[i] = 300 * second
	}
	t, err := New(Config{Flows: n + n/8 + MinFlows, HoleLists: n / 16, Seed: 1, IdleTimeout: idle, Classes: classes, OnEnd: func(uint32, *Flow) {}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := t.Free(); err != nil {
			b.Error(err)
		}
	})
	arena.AdviseHuge(t.recs)
	key := func(i uint32) Key {
		return Key{Subscriber: addr(0x0a000000 + i>>3), Server: addr(0x9df00000 + i*7%4096), SubscriberPort: 32768 + uint16(i&7), ServerPort: 443}
	}
	p := benchPacket()
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
	b.ReportAllocs()
	return t, key
}

func benchPacket() decode.Packet {
	return decode.Packet{
		Time: epoch, Transport: make([]byte, 32), HeaderLen: 32, IPBytes: 1400, PayloadLen: 1348,
		Flags: decode.ACK, Window: 500, HasTimestamps: true, TSval: 1, TSecr: 1,
	}
}

// BenchmarkSegment is the cost of a segment of one of n flows, each as likely as
// any other: data in sequence down, and an acknowledgment up now and then. It
// includes making the key and the hash.
func BenchmarkSegment(b *testing.B) {
	for _, n := range []int{1_000, 1_000_000, 10_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			if n > 1_000_000 && testing.Short() {
				b.Skip("3 GB; not with -short")
			}
			t, key := liveTable(b, n)
			b.Run("one", func(b *testing.B) { benchOne(b, t, key, uint32(n)) })
			b.Run("batch", func(b *testing.B) { benchBatch(b, t, key, uint32(n)) })
			b.ReportMetric(float64(unsafe.Sizeof(Flow{})), "B/flow")
		})
	}
}

// next is a sequence of pseudo-random numbers below n.
func next(x *uint64, n uint32) uint32 {
	*x = *x*6364136223846793005 + 1442695040888963407
	return uint32((*x >> 32) * uint64(n) >> 32)
}

// prepare writes the fields that make p the next segment of its flow.
func prepare(p *decode.Packet, x uint64) Direction {
	p.Time += 1000
	p.TSval = uint32(p.Time / 1e6)
	p.TSecr = p.TSval - 30
	if x>>60 < 5 { // a third are acknowledgments
		p.PayloadLen, p.IPBytes = 0, 52
		return Up
	}
	p.Seq += 1348
	p.PayloadLen, p.IPBytes = 1348, 1400
	return Down
}

func benchOne(b *testing.B, t *Table, key func(uint32) Key, n uint32) {
	p := benchPacket()
	p.Seq = 1
	x := uint64(1)
	for b.Loop() {
		k := key(next(&x, n))
		d := prepare(&p, x)
		t.Segment(&p, &k, d, t.Hash(&k))
	}
	b.ReportMetric(float64(t.HolesDropped), "holes-dropped")
}

const batch = 32

var sink uint64 // keeps the loads of Touch

func benchBatch(b *testing.B, t *Table, key func(uint32) Key, n uint32) {
	var ps [batch]decode.Packet
	for i := range ps {
		ps[i] = benchPacket()
		ps[i].Seq = 1
	}
	var keys [batch]Key
	var hashes [batch]uint64
	var at [batch]uint32
	var dirs [batch]Direction
	x := uint64(1)
	for i := 0; b.Loop(); i++ {
		j := i % batch
		keys[j] = key(next(&x, n))
		dirs[j] = prepare(&ps[j], x)
		hashes[j] = t.Hash(&keys[j])
		if j != batch-1 {
			continue
		}
		for j := range at {
			at[j] = t.Touch(hashes[j])
		}
		for j := range at {
			sink += t.TouchRecord(at[j])
		}
		for j := range ps {
			t.Segment(&ps[j], &keys[j], dirs[j], hashes[j])
		}
	}
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
			t.recs[r].Last, t.recs[r].spoke = now, uint32(now/second)
		}
		t.Advance(now)
	}
}
