package flows

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"

	"github.com/nametap/nametap/capture/decode"
)

// twins are two scenes in which the same is played: one by the rules alone, the
// other with the short way. Nothing may tell them apart.
type twins struct{ rules, short *scene }

func newTwins(t *testing.T, flows int) twins {
	t.Helper()
	w := twins{newScene(t, flows), newScene(t, flows)}
	w.short.short = true
	for _, s := range []*scene{w.rules, w.short} {
		s.onEnd = func(r uint32, _ Flow) { s.tab.Settle(r, media) }
	}
	return w
}

func (w twins) play(what func(s *scene)) {
	w.rules.t.Helper()
	what(w.rules)
	what(w.short)
	w.compare()
}

func (w twins) compare() {
	t, a, b := w.rules.t, w.rules.tab, w.short.tab
	t.Helper()
	switch {
	case w.rules.ev != w.short.ev:
		t.Fatalf("events %b by the rules, %b the short way", w.rules.ev, w.short.ev)
	case !slices.Equal(w.rules.ended, w.short.ended):
		t.Fatal("other flows ended")
	case w.rules.classes != w.short.classes:
		t.Fatal("the classes hold something else")
	case !slices.Equal(a.index, b.index):
		t.Fatal("the index is another")
	case *a.trains != *b.trains:
		t.Fatal("the trains hold something else")
	case a.used != b.used || *a.wheel != *b.wheel || a.wheelNow != b.wheelNow || a.halfOpen != b.halfOpen || a.closed != b.closed:
		t.Fatal("the lists hold something else")
	case a.Evicted != b.Evicted || a.HolesDropped != b.HolesDropped || !slices.Equal(a.holes, b.holes):
		t.Fatal("the holes are others")
	}
	for r := range a.used {
		if a.slab.hot[r] != b.slab.hot[r] || a.slab.cold[r] != b.slab.cold[r] || a.slab.lost[r] != b.slab.lost[r] {
			t.Fatalf("record %d\n%+v %+v by the rules\n%+v %+v the short way, after\n%+v", r, a.slab.hot[r], a.slab.cold[r], b.slab.hot[r], b.slab.cold[r], w.rules.last)
		}
	}
}

// Connections that mostly go on, with all that can come between.
func TestContinue(t *testing.T) {
	segments, carried := 0, 0
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 11))
		w := newTwins(t, 16)
		stamps := seed%3 == 0
		for range 1500 {
			op, a, b := byte(rnd.Uint32()), byte(rnd.Uint32()), byte(rnd.Uint32())
			a &= 0x83 // few connections
			if rnd.IntN(30) != 0 {
				op = op&0x80 | []byte{2, 3, 4, 14}[rnd.IntN(4)]
			}
			ahead := rnd.IntN(100) == 0
			w.play(func(s *scene) {
				s.stamps = stamps
				if s.step(op, a, b); ahead { // segments from the past will come
					s.tab.Advance(s.now + 3*second)
				}
			})
		}
		w.short.check()
		segments += int(w.short.fed.Packets[Up] + w.short.fed.Packets[Down])
		carried += w.short.carried
	}
	if carried < segments/4 {
		t.Errorf("only %d of %d segments went the short way", carried, segments)
	}
}

// TestContinueCorners: what the short way leaves to the rules, or does as they do,
// and seldom meets.
func TestContinueCorners(t *testing.T) {
	half := func(s *scene) *Half { return &s.tab.Hot(s.record()).Half[Down] }
	wait := func(d int64) func(s *scene) { return func(s *scene) { s.now += d } }
	data := func(s *scene) { s.data(Down, 100) }
	ack := func(s *scene) { s.ack(Up) }
	for name, steps := range map[string][]func(s *scene){
		"an answer that nobody listens to":  {data, func(s *scene) { s.tab.SkipRTT(true) }, func(s *scene) { s.ack(Up, ts(7, 1)) }, func(s *scene) { s.tab.SkipRTT(false) }, data, ack},
		"a later answer than its own":       {data, func(s *scene) { s.ack(Up, ts(7, 1<<30)) }, data, ack},
		"an answer to something before":     {data, func(s *scene) { s.ack(Up, ts(7, 1)) }, ack},
		"an answer without a time stamp":    {data, func(s *scene) { s.ack(Up, noTS) }, ack},
		"data without a time stamp":         {data, func(s *scene) { s.data(Down, 100, noTS).data(Down, 100, noTS) }, ack},
		"data with the time stamp 0":        {func(s *scene) { s.data(Down, 100, ts(0, 1)).data(Down, 100, ts(0, 1)) }, ack},
		"data whose time stamp is known":    {data, data, data, data, ack, data, data},
		"data after a bare acknowledgment":  {func(s *scene) { s.ack(Down) }, data, ack, wait(1e6), func(s *scene) { s.ack(Down) }, wait(1e6), data, ack},
		"a flight":                          {data, wait(1e6), data, wait(1e6), data, wait(1e6), data, wait(1e6), data, wait(1e6), ack, data},
		"a probe as old as can be":          {data, wait(maxRTT * 1000), data, data},
		"a probe that is too old":           {data, wait((maxRTT + 1) * 1000), data, data},
		"a probed window, and data":         {func(s *scene) { s.ack(Up, window(0)) }, func(s *scene) { s.data(Down, 1, noTS) }, func(s *scene) { s.ack(Up, window(9)) }, data, ack},
		"bytes that begin anew":             {func(s *scene) { half(s).bytes = math.MaxUint32 - 39 }, func(s *scene) { s.ack(Down) }, data},
		"payload that begins anew":          {func(s *scene) { half(s).payload = math.MaxUint32 - 99 }, data, data},
		"a pause of the time-out":           {wait(300 * second), ack, wait(300 * second), data},
		"a pause beyond it":                 {wait(300*second + 1), ack},
		"a pause beyond the shortest":       {func(s *scene) { s.settle(chat) }, wait(301 * second), ack, wait(3600 * second), data, wait(3600*second + 1), ack},
		"a pause, and other time-outs":      {ack, func(s *scene) { s.idle[0] = second / 4; s.tab.NewTimeouts() }, wait(second / 2), ack},
		"a pause, and longer time-outs":     {ack, func(s *scene) { s.idle[0] = 900 * second; s.tab.NewTimeouts() }, wait(600 * second), ack},
		"a second before the one of before": {wait(5 * second), ack, wait(-2 * second), data, wait(second), ack},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTwins(t, 16)
			w.play(func(s *scene) {
				s.stamps = true
				s.at(10_000).open().at(10_020).data(Up, 10).at(10_040).data(Down, 10).at(10_060).ack(Up).at(10_100)
			})
			before := w.short.carried
			for _, step := range steps {
				w.play(step)
			}
			for range 3 {
				w.play(func(s *scene) { s.now += second / 10; s.ack(Up) })
				w.play(func(s *scene) { s.data(Down, 10) })
			}
			if w.short.carried == before {
				t.Error("none went the short way")
			}
			if name != "bytes that begin anew" && name != "payload that begins anew" { // the books are not about those
				w.short.check()
			}
		})
	}
}

// Segments with any field, at any time.
func TestContinueAnySegment(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	w := newTwins(t, 32)
	edge := []int64{0, 1, -1, second - 1, second, 1 << 62, -1 << 62, 1<<63 - 1, 1<<63 - 1 - 5*second, -1 << 63, epoch, epoch + 1}
	number := func() uint32 { return []uint32{0, 1, 1 << 31, 1<<31 - 1, 1<<32 - 1, rnd.Uint32()}[rnd.IntN(6)] }
	var seen [2]struct{ nxt uint32 }
	now := edge[0]
	for i := range 30_000 {
		d := Direction(rnd.IntN(2))
		if rnd.IntN(40) == 0 {
			now = edge[rnd.IntN(len(edge))]
		}
		p := decode.Packet{
			Time: now, Flags: decode.ACK, Seq: seen[d].nxt, Ack: seen[d^1].nxt,
			Window: uint16(rnd.IntN(20)), PayloadLen: []uint32{0, 1, 1400, 1 << 30}[rnd.IntN(4)], IPBytes: 40,
			HasTimestamps: rnd.IntN(2) == 0, TSval: number(), TSecr: number(),
			Transport: make([]byte, 20), HeaderLen: 20,
		}
		if rnd.IntN(20) == 0 {
			p.Flags, p.Seq, p.Ack = uint8(rnd.Uint32()), number(), number()
		}
		seen[d].nxt = p.Seq + p.PayloadLen
		port, advance := uint16(rnd.IntN(3)), rnd.IntN(200) == 0
		w.play(func(s *scene) {
			s.key.SubscriberPort = port
			s.segment(&p, d)
			if advance {
				s.tab.Advance(now)
			}
			if i%100 == 0 {
				s.check()
			}
		})
	}
	if w.short.carried < 1000 {
		t.Errorf("only %d segments went the short way", w.short.carried)
	}
}

// TestContinueLeaves: what looks like an ordinary segment, and is not one of the
// flow at the index.
func TestContinueLeaves(t *testing.T) {
	s := newScene(t, 16)
	s.open().data(Up, 10).data(Down, 10)
	r, p, hash := s.record(), s.last, s.tab.Hash(&s.key)
	p.Seq, p.PayloadLen = s.ends[Down].nxt, 0
	for _, c := range []struct {
		name  string
		other func(k *Key)
	}{
		{"subscriber", func(k *Key) { k.Subscriber.Lo++ }},
		{"subscriber's network", func(k *Key) { k.Subscriber.Hi++ }},
		{"server", func(k *Key) { k.Server.Lo++ }},
		{"server's network", func(k *Key) { k.Server.Hi++ }},
		{"scope", func(k *Key) { k.Scope++ }},
		{"subscriber's port", func(k *Key) { k.SubscriberPort++ }},
		{"server's port", func(k *Key) { k.ServerPort++ }},
	} {
		k := s.key
		c.other(&k)
		for d := range Direction(2) {
			q := p
			address(&q, &k, d)
			if _, ok := s.tab.Continue(s.tab.Hot(r), &q, d, s.tab.Hash(&k)); ok {
				t.Errorf("another %s, direction %d: taken for the flow's", c.name, d)
			}
		}
	}
	if _, ok := s.tab.Continue(s.tab.Hot(r), &p, Up, s.tab.HashOf(&p, s.key.Scope, Up)); ok {
		t.Error("the other direction: taken for the flow's")
	}
	if _, ok := s.tab.Continue(s.tab.Hot(0), &p, Down, 0); ok {
		t.Error("no flow: one found")
	}
	if _, ok := s.tab.Continue(s.tab.Hot(r), &p, Down, hash); !ok {
		t.Error("the flow's own: not taken")
	}
	s.tab.Shutdown(s.now)
	if _, ok := s.tab.Continue(s.tab.Hot(r), &p, Down, hash); ok {
		t.Error("a free record: taken for the flow it held")
	}
}

// TestTake: a segment that Continue leaves is counted in its own flow, whatever has
// become of the record in which the group's look-up found that.
func TestTake(t *testing.T) {
	for _, c := range []struct {
		name   string
		before func(s *scene)
		want   Event // of Continue
		moved  bool
	}{
		{"is still there", func(s *scene) {}, Known, false},
		{"is closed", func(s *scene) { s.rst(Down) }, Known, false},
		{"was ended, and begins anew", func(s *scene) { s.tab.Shutdown(s.now) }, Known, false},
		{"has another record by now", func(s *scene) { s.port(2).open().tab.Shutdown(s.now); s.port(1).open() }, Known, true},
		{"has left its record to another", func(s *scene) { s.tab.Shutdown(s.now); s.port(2).open().port(1) }, 0, true},
	} {
		s := newScene(t, 16).port(1).open().data(Up, 10)
		r, p, hash := s.record(), s.last, s.tab.Hash(&s.key)
		p.Flags |= decode.FIN
		c.before(s)
		ev, ok := s.tab.Continue(s.tab.Hot(r), &p, Up, hash)
		if ok || ev != c.want {
			t.Errorf("the flow %s: Continue says %v, %v", c.name, ev, ok)
		}
		found := r
		if ev != Known {
			found = 0
		}
		got, _ := s.tab.Take(found, &p, s.key.Scope, Up, hash)
		if got != s.record() || (got != r) != c.moved || s.tab.Flow(got).FINs != 1 {
			t.Errorf("the flow %s: counted in record %d, its own is %d, was %d", c.name, got, s.record(), r)
		}
	}
}

// The short way is a shortcut, whatever is played.
func FuzzContinue(f *testing.F) {
	f.Add([]byte{0, 1, 2, 1, 129, 3, 2, 1, 0, 3, 1, 100, 3, 129, 90, 131, 1, 1, 2, 129, 0, 6, 1, 0, 6, 129, 0})
	f.Add([]byte{3, 1, 9, 3, 129, 9, 3, 1, 9, 3, 129, 9, 8, 1, 0, 3, 129, 1, 12, 0, 250, 3, 1, 9, 12, 0, 250, 3, 1, 9})
	f.Add([]byte{3, 1, 9, 3, 129, 9, 5, 1, 60, 3, 1, 9, 2, 129, 0, 2, 129, 0, 11, 1, 1, 13, 1, 9, 14, 1, 1, 14, 129, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		w := newTwins(t, 16)
		b = b[:min(len(b), 600)]
		for ; len(b) >= 3; b = b[3:] {
			w.play(func(s *scene) { s.step(b[0], b[1], b[2]) })
		}
		w.play(func(s *scene) { s.tab.Shutdown(0) })
		w.short.check()
	})
}

func TestContinueAllocs(t *testing.T) {
	s := newScene(t, 16)
	s.open().data(Up, 10).data(Down, 10)
	r, hash, p := s.record(), s.tab.Hash(&s.key), s.last
	p.HasTimestamps = true
	n := testing.AllocsPerRun(500, func() {
		p.Seq += p.PayloadLen
		p.Time += second / 3
		p.TSval++
		if _, ok := s.tab.Continue(s.tab.Hot(r), &p, Down, hash); !ok {
			t.Error("not taken")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestLines: what segments of many tables read lies in as few lines of the cache
// as can be.
func TestLines(t *testing.T) {
	tab := newScene(t, 16).tab
	const line = 64
	if n := unsafe.Sizeof(*tab); n%line != 0 {
		t.Errorf("a table is %d bytes", n)
	}
	first, last := uintptr(unsafe.Pointer(&tab.cfg.IdleTimeout)), uintptr(unsafe.Pointer(&tab.trains))
	if first%line != 0 || last-first >= 2*line {
		t.Errorf("what every segment reads begins %d bytes into a line and ends %d further", first%line, last-first)
	}
	if at := uintptr(unsafe.Pointer(tab.trains)) % line; at != 0 || unsafe.Sizeof(train{}) != line {
		t.Errorf("trains begin %d bytes into a line, and are %d bytes", at, unsafe.Sizeof(train{}))
	}
}

// TestHandshakes: each step of a plain connection goes its short way, and brings about
// what the rules do; a step that is not plain is left to them.
func TestHandshakes(t *testing.T) {
	type step struct {
		name  string
		play  func(s *scene)
		short bool // it goes the short way
	}
	open := func(s *scene) { s.syn(Up, 100).at(40).synack(Down, 900).at(60).ack(Up) }
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"the subscriber connects and finishes", []step{
			{"SYN", func(s *scene) { s.syn(Up, 100) }, true},
			{"SYN/ACK", func(s *scene) { s.at(40).synack(Down, 900) }, true},
			{"ACK", func(s *scene) { s.at(60).ack(Up) }, true},
			{"data", func(s *scene) { s.at(61).data(Up, 300).at(100).data(Down, 1200).settle(media) }, true},
			{"FIN", func(s *scene) { s.at(120).fin(Up) }, true},
			{"the other FIN", func(s *scene) { s.at(160).fin(Down) }, true},
			{"last ACK", func(s *scene) { s.at(180).ack(Up) }, true},
			{"a keep-alive", func(s *scene) { s.at(200).ack(Up, seq(s.ends[Up].nxt-1)) }, false},
			{"SYN anew", func(s *scene) { s.at(900).syn(Up, 7000) }, false},
		}},
		{"the server connects and finishes", []step{
			{"SYN", func(s *scene) { s.syn(Down, 100, window(0)) }, true},
			{"SYN/ACK", func(s *scene) { s.at(40).synack(Up, 900, window(0)) }, true},
			{"ACK", func(s *scene) { s.at(60).ack(Down, window(9)) }, false}, // its window was closed
		}},
		{"not the flow's numbers", []step{
			{"SYN", func(s *scene) { s.syn(Up, 100) }, true},
			{"SYN again", func(s *scene) { s.at(1000).syn(Up, 100) }, false},
			{"another SYN/ACK", func(s *scene) { s.at(1040).synack(Down, 900, acks(7)) }, false},
			{"SYN/ACK", func(s *scene) { s.at(1041).synack(Down, 900, acks(101)) }, false}, // the other was first
			{"ACK", func(s *scene) { s.at(1060).ack(Up, seq(102)) }, false},
		}},
		{"the initiator speaks first", []step{
			{"SYN", func(s *scene) { s.syn(Up, 100) }, true},
			{"SYN/ACK", func(s *scene) { s.at(40).synack(Down, 900) }, true},
			{"data", func(s *scene) { s.at(60).data(Up, 300) }, false},
		}},
		{"silence", []step{
			{"SYN", func(s *scene) { s.syn(Up, 100) }, true},
			{"SYN/ACK too late", func(s *scene) { s.at(60_001).synack(Down, 900) }, false},
		}},
		{"silence after the SYN/ACK", []step{
			{"SYN", func(s *scene) { s.syn(Up, 100) }, true},
			{"SYN/ACK", func(s *scene) { s.at(40).synack(Down, 900) }, true},
			{"ACK too late", func(s *scene) { s.at(60_041).ack(Up) }, false},
		}},
		{"FINs that are not plain", []step{
			{"opening", func(s *scene) { open(s); s.data(Up, 10).data(Down, 10) }, true},
			{"beyond a hole", func(s *scene) { s.fin(Up, seq(s.ends[Up].nxt+5)) }, false},
			{"with data", func(s *scene) { s.send(Down, decode.FIN, 7) }, false},
		}},
		{"an ACK too late", []step{
			{"opening", func(s *scene) { open(s); s.data(Up, 10).data(Down, 10).fin(Up).fin(Down).settle(media) }, true},
			{"ACK", func(s *scene) { s.at(240_061).ack(Up) }, false},
		}},
		{"a FIN too late", []step{
			{"opening", func(s *scene) { open(s); s.data(Up, 10).data(Down, 10).settle(media) }, true},
			{"FIN", func(s *scene) { s.at(301_000).fin(Up) }, false},
		}},
	} {
		for _, stamps := range []bool{false, true} {
			w := newTwins(t, 16)
			for _, step := range c.steps {
				const untouched = 1 << 7 // the long way begins with loss anew
				w.short.tab.loss = untouched
				w.play(func(s *scene) { s.stamps = stamps; step.play(s) })
				if short := w.short.tab.loss == untouched; short != step.short {
					t.Errorf("%s: %s went the short way: %v, stamps %v", c.name, step.name, short, stamps)
				}
			}
			w.short.check()
		}
	}
}
