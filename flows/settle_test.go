package flows

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/nametap/nametap/capture/decode"
)

// step plays one random segment or event of a scene with few connections. It
// is what the invariant test and the fuzz target are made of.
func (s *scene) step(op, a, b byte) {
	d := Direction(a >> 7)
	s.key.SubscriberPort = uint16(a & 31)
	if op&0x80 != 0 { // time moves for most segments a little
		s.now += int64(b) * 1e6
	}
	from := &s.ends[d]
	near := from.nxt + uint32(int32(int8(b)))*7
	switch op & 15 {
	case 0:
		s.syn(d, uint32(b)<<24)
	case 1:
		s.synack(d, uint32(b)<<24)
	case 2:
		s.ack(d)
	case 3, 4:
		s.data(d, uint32(b)*11)
	case 5:
		s.data(d, uint32(b), seq(near))
	case 6:
		s.fin(d)
	case 7:
		s.rst(d)
	case 8:
		s.ack(d, acks(near), window(uint16(b&1)))
	case 9:
		s.data(d, 1, seq(from.nxt-1))
	case 10:
		s.send(d, b, uint32(a&3)*500, seq(uint32(op)*0x0f00_0000+uint32(b)))
	case 11:
		if r := s.record(); r != 0 {
			s.tab.Settle(r, 1+b%3)
		}
	case 12:
		s.now += int64(b) * second
		s.advance()
	case 13:
		s.now -= int64(b) * 1e6
		s.stamps = b&1 != 0
	case 14:
		s.data(d, uint32(b), ts(uint32(a)*uint32(op>>4), uint32(b)))
	case 15:
		if b == 255 {
			s.tab.Shutdown(0)
		} else {
			s.advance()
		}
	}
}

// Over any trace and any times of settling, the classes add up to what passed,
// and what is open is what is counted as active.
func TestBooksBalance(t *testing.T) {
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		s := newScene(t, 16+rnd.IntN(8)) // fewer than there are keys: some must go
		if seed%2 == 0 {
			s.onEnd = func(r uint32, f Flow) {
				if f.Reason == NotEnded {
					t.Error("a flow ends without a reason")
				}
				s.tab.Settle(r, 1+uint8(rnd.IntN(3)))
			}
		}
		for i := range 5000 {
			op := byte(rnd.Uint32())
			if op&15 == 12 && i%10 != 0 {
				continue // or few flows would live long enough to fill the table
			}
			s.step(op, byte(rnd.Uint32()), byte(rnd.Uint32()))
			if i%50 == 0 {
				s.check()
			}
		}
		s.tab.Shutdown(0)
		s.check()
		if seed%2 == 0 {
			s.nothingHeld()
		}
		if s.tab.Evicted == 0 {
			t.Error("nothing was evicted: the test does not test what it should")
		}
	}
}

// nothingHeld checks that class 0 is empty, and that with every flow settled the
// classes have seen them all.
func (s *scene) nothingHeld() {
	s.t.Helper()
	if s.classes[0] != (Counters{}) {
		s.t.Errorf("class 0 still holds %+v", s.classes[0])
	}
	var sum Counters
	for i := range s.classes {
		sum.Add(&s.classes[i])
	}
	if sum.Opened != s.fed.Opened || s.closed != int(s.fed.Opened) {
		s.t.Errorf("%d flows opened, %d counted, %d ended", s.fed.Opened, sum.Opened, s.closed)
	}
	if sum.Active != 0 {
		s.t.Errorf("%d active after the end", sum.Active)
	}
}

// Settled early, late or never before its end: a flow's class ends up with the
// same counts.
func TestSettleAtAnyTime(t *testing.T) {
	plays := []func(s *scene){
		func(s *scene) { s.syn(Up, 1000) },
		func(s *scene) { s.at(30).synack(Down, 5000) },
		func(s *scene) { s.at(50).ack(Up) },
		func(s *scene) { s.data(Up, 700) },
		func(s *scene) { s.data(Up, 700, seq(2401)) },
		func(s *scene) { s.at(55).data(Up, 700, seq(1701)) },
		func(s *scene) { s.at(200).data(Up, 700, seq(1701)) },
		func(s *scene) { s.at(230).ack(Down) },
		func(s *scene) { s.data(Down, 1400, seq(9000)) },
		func(s *scene) { s.at(250).ack(Up, acks(10_400)) },
		func(s *scene) { s.fin(Down, seq(10_400)) },
		func(s *scene) { s.at(300).fin(Up) },
		func(s *scene) { s.at(310).rst(Down) },
	}
	var want *Counters
	for when := 1; when <= len(plays)+1; when++ {
		s := newScene(t, 16)
		s.onEnd = func(r uint32, _ Flow) { s.tab.Settle(r, media) }
		for i, play := range plays {
			play(s)
			if i+1 == when {
				s.settle(media)
			}
		}
		s.tab.Shutdown(0)
		s.check()
		s.nothingHeld()
		got := s.classes[media]
		// Only what the histograms can tell apart may differ: the time of the
		// close is that of the second FIN, and samples before the name are
		// credited by their mean.
		for d := range got.RTT {
			got.RTT[d] = Histogram{Count: got.RTT[d].Count}
			got.Size[d] = Histogram{Count: got.Size[d].Count}
		}
		got.Duration = Histogram{Count: got.Duration.Count}
		if want == nil {
			want = &got
			if got.Opened != 1 || got.Attempts != 1 || got.Established != 1 || got.Closed[EndFIN] != 1 ||
				got.SYN != 1 || got.SYNACK != 1 || got.FIN != 2 || got.RST != 1 || got.Active != 0 ||
				got.Retransmitted[Up] != 1 || got.OutOfOrder[Up] != 1 || got.Unseen[Down] != 3999 {
				t.Errorf("counts %+v", got)
			}
			continue
		}
		if got != *want {
			t.Errorf("settled after %d segments: %+v, want %+v", when, got, *want)
		}
	}
}

func TestSettleOnce(t *testing.T) {
	s := newScene(t, 16)
	s.open().settle(media)
	before := s.classes
	s.settle(chat).settle(media)
	if s.classes != before || s.tab.Flow(1).Class != media {
		t.Error("a second Settle changed something")
	}
	s.check()
}

// Settle at the close counts the close, and with it what a class knows of the
// whole flow.
func TestClose(t *testing.T) {
	for _, c := range []struct {
		name string
		play func(s *scene)
		want func(c *Counters) bool
	}{
		{
			"fin", func(s *scene) { s.open().settle(media).fin(Up).fin(Down) },
			func(c *Counters) bool { return c.Closed[EndFIN] == 1 && c.Active == 0 },
		},
		{
			"fin before the name", func(s *scene) { s.open().fin(Up).fin(Down).settle(media) },
			func(c *Counters) bool { return c.Closed[EndFIN] == 1 && c.Active == 0 },
		},
		{
			"rst", func(s *scene) { s.open().settle(media).rst(Up).rst(Down) },
			func(c *Counters) bool { return c.Closed[EndRST] == 1 },
		},
		{
			"idle", func(s *scene) { s.open().settle(media).at(400_000).advance() },
			func(c *Counters) bool { return c.Closed[EndIdle] == 1 },
		},
		{
			"closed, then its place given up", func(s *scene) { s.open().settle(media).rst(Up).at(400_000).advance() },
			func(c *Counters) bool { return c.Closed[EndIdle] == 0 && c.Closed[EndRST] == 1 },
		},
		{
			"reused", func(s *scene) { s.open().settle(media).syn(Up, 7) },
			func(c *Counters) bool { return c.Closed[EndReused] == 1 },
		},
		{
			"shutdown", func(s *scene) { s.open().settle(media).tab.Shutdown(0) },
			func(c *Counters) bool { return c.Closed[EndShutdown] == 1 },
		},
		{
			"both ways", func(s *scene) { s.open().settle(media).rst(Up) },
			func(c *Counters) bool { return c.OneWay == 0 },
		},
		{
			"one way up", func(s *scene) { s.syn(Up, 1).settle(media).rst(Up) },
			func(c *Counters) bool { return c.OneWay == 1 },
		},
		{
			"one way down", func(s *scene) { s.synack(Down, 1).settle(media).rst(Down) },
			func(c *Counters) bool { return c.OneWay == 1 },
		},
		{
			"duration and sizes", func(s *scene) { s.open().settle(media).at(2000).data(Up, 960).rst(Up) },
			func(c *Counters) bool {
				return c.Duration.Count == 1 && c.Duration.Sum == 2 && c.Size[Up].Sum == 3*40+1000 && c.Size[Down].Sum == 40
			},
		},
		{
			"no throughput at the floor", func(s *scene) { s.open().settle(media).at(2000).data(Down, 1_000_000-80).rst(Up) },
			func(c *Counters) bool { return c.Throughput[Down].Count == 0 && c.Size[Down].Sum == 1_000_000 },
		},
		{
			"throughput above it", func(s *scene) { s.open().settle(media).at(2000).data(Down, 1_000_001-80).rst(Up) },
			func(c *Counters) bool {
				return c.Throughput[Down].Count == 1 && c.Throughput[Down].Sum == 500_000.5 && c.Throughput[Up].Count == 0
			},
		},
		{
			"no throughput in no time", func(s *scene) { s.data(Down, 2_000_000).settle(media).rst(Up) },
			func(c *Counters) bool { return c.Throughput[Down].Count == 0 && c.Duration.Count == 1 },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, 16)
			c.play(s)
			if !c.want(&s.classes[media]) {
				t.Errorf("class has %+v", s.classes[media])
			}
			s.check()
		})
	}
}

// Every field of a Counters is added.
func TestCountersAdd(t *testing.T) {
	fill := func(c *Counters, n uint64) {
		var set func(v reflect.Value)
		set = func(v reflect.Value) {
			switch v.Kind() {
			case reflect.Struct:
				for i := range v.NumField() {
					set(v.Field(i))
				}
			case reflect.Array:
				for i := range v.Len() {
					set(v.Index(i))
				}
			case reflect.Uint64:
				v.SetUint(n)
			case reflect.Int64:
				v.SetInt(int64(n))
			case reflect.Float64:
				v.SetFloat(float64(n))
			default:
				t.Fatalf("a field of kind %v", v.Kind())
			}
		}
		set(reflect.ValueOf(c).Elem())
	}
	var a, b, want Counters
	fill(&a, 5)
	fill(&b, 8)
	fill(&want, 13)
	if a.Add(&b); a != want {
		t.Error("a field is not added")
	}
	a.Add(&Counters{})
	if a != want {
		t.Error("adding nothing changed something")
	}
}

func FuzzTable(f *testing.F) {
	f.Add([]byte{0, 1, 2, 1, 129, 3, 2, 1, 0, 3, 1, 100, 11, 1, 2, 6, 1, 0, 6, 129, 0, 2, 1, 0})
	f.Add([]byte{0, 1, 2, 0, 1, 3, 0, 1, 2, 7, 129, 0, 12, 0, 250, 3, 1, 9})
	f.Add([]byte{3, 1, 9, 5, 1, 200, 5, 1, 60, 8, 129, 250, 9, 1, 0, 11, 1, 1, 15, 0, 255, 3, 1, 1})
	f.Add([]byte{10, 1, 255, 10, 129, 7, 14, 2, 9, 13, 0, 9, 12, 0, 255, 12, 0, 255, 2, 3, 4})
	var flood []byte
	for i := range 64 {
		flood = append(flood, 3, byte(i), 9, 0, byte(i+1), byte(i))
	}
	f.Add(flood)
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newScene(t, 16)
		s.onEnd = func(r uint32, _ Flow) { s.tab.Settle(r, media) }
		b = b[:min(len(b), 600)] // 200 steps, enough for any state there is
		for ; len(b) >= 3; b = b[3:] {
			s.step(b[0], b[1], b[2])
			if err := checkTable(s.tab); err != nil {
				t.Fatal(err)
			}
		}
		s.check()
		s.tab.Shutdown(0)
		s.check()
		s.nothingHeld()
	})
}

// Segments from anywhere, at any time, with any field: the table survives.
func TestAnySegment(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	s := newScene(t, 32)
	s.onEnd = func(r uint32, _ Flow) { s.tab.Settle(r, media) }
	edge := []int64{0, 1, -1, 1 << 62, -1 << 62, 1<<63 - 1, -1 << 63, epoch, epoch + 1}
	number := func() uint32 { return []uint32{0, 1, 1 << 31, 1<<31 - 1, 1<<32 - 1, rnd.Uint32()}[rnd.IntN(6)] }
	for range 50_000 {
		p := decode.Packet{
			Time: edge[rnd.IntN(len(edge))], Flags: uint8(rnd.Uint32()), Seq: number(), Ack: number(),
			Window: uint16(rnd.IntN(2)), PayloadLen: []uint32{0, 1, 1400, 1 << 30}[rnd.IntN(4)], IPBytes: 40,
			HasTimestamps: rnd.IntN(2) == 0, TSval: number(), TSecr: number(),
			Transport: make([]byte, 20), HeaderLen: 20,
		}
		s.key.SubscriberPort = uint16(rnd.IntN(60))
		s.segment(&p, Direction(rnd.IntN(2)))
		switch rnd.IntN(60) {
		case 0:
			s.tab.Advance(edge[rnd.IntN(len(edge))])
		case 1:
			s.check()
		}
	}
	s.check()
}
