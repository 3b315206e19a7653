package flows

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unsafe"

	"github.com/nametap/nametap/capture/decode"
)

// A model of the table in as few words as can be: a map, no lists, no wheel, and
// a walk over everything for whatever is asked.
type model struct {
	flows map[Key]*modelFlow
	idle  *[MaxClasses]int64
	ended map[string]int
	clock int64 // second of the newest advance
}

type modelFlow struct {
	start, last, segments int64
	spoke                 int64 // second
	state                 state
	reason                EndReason
	class                 uint8
	isn                   [2]uint32
	synSeen, finSeen      [2]bool
	known                 [2]bool // something is known of the direction's numbers
}

func (m *model) timeout(f *modelFlow) int64 {
	switch f.state {
	case stateHalfOpen:
		return HalfOpenTimeout
	case stateClosed:
		return ClosedTimeout
	}
	return m.idle[f.class]
}

// epitaph is what both sides say of a flow that ended.
func epitaph(k Key, start, last, segments int64, reason EndReason) string {
	return fmt.Sprintf("%d/%d %d..%d %d %v", k.Subscriber.Lo, k.SubscriberPort, start-epoch, last-epoch, segments, reason)
}

func (m *model) end(k Key, why EndReason) {
	f := m.flows[k]
	if f.reason == NotEnded {
		f.reason = why
	}
	m.ended[epitaph(k, f.start, f.last, f.segments, f.reason)]++
	delete(m.flows, k)
}

func (m *model) segment(k Key, now int64, d Direction, flags uint8, seq uint32) {
	f := m.flows[k]
	switch {
	case f == nil:
	case now-f.last > m.timeout(f):
		m.end(k, EndIdle)
	case flags&decode.SYN == 0 || f.synSeen[d] && f.isn[d] == seq:
	case f.synSeen[d] || f.known[d] || f.state == stateClosed:
		m.end(k, EndReused)
	}
	if f = m.flows[k]; f == nil {
		f = &modelFlow{start: now, last: now, state: stateOpen}
		if flags&decode.SYN != 0 {
			f.state = stateHalfOpen
		}
		m.flows[k] = f
	}
	f.last = max(f.last, now)
	f.spoke = min(max(now/second, m.clock), m.clock+60)
	f.segments++
	if flags&decode.SYN != 0 {
		f.synSeen[d], f.isn[d] = true, seq
	}
	f.known[d] = f.known[d] || flags&decode.RST == 0
	f.known[d.Reverse()] = f.known[d.Reverse()] || flags&decode.ACK != 0
	if f.state == stateClosed {
		return
	}
	f.finSeen[d] = f.finSeen[d] || flags&decode.FIN != 0
	switch {
	case flags&decode.RST != 0:
		f.state, f.reason = stateClosed, EndRST
	case f.finSeen[Up] && f.finSeen[Down]:
		f.state, f.reason = stateClosed, EndFIN
	case flags&decode.SYN == 0:
		f.state = stateOpen
	}
}

func (m *model) advance(now int64) {
	m.clock = max(m.clock, now/second)
	for k, f := range m.flows {
		if m.clock-f.spoke > m.timeout(f)/second {
			m.end(k, EndIdle)
		}
	}
}

// TestModel plays the same random life of thousands of connections to the table
// and to the model: what is found, what ends, when and why must agree.
func TestModel(t *testing.T) {
	const keys = 4000
	for seed := range uint64(3) {
		rnd := rand.New(rand.NewPCG(seed, 9))
		s := newScene(t, keys)
		m := &model{flows: map[Key]*modelFlow{}, idle: &s.idle, ended: map[string]int{}, clock: epoch / second}
		ended := map[string]int{}
		s.onEnd = func(_ uint32, f Flow) {
			ended[epitaph(f.Key, f.Start, f.Last, int64(f.Half[Up].Packets+f.Half[Down].Packets), f.Reason)]++
			s.ended = nil
		}
		for i := range 60_000 {
			k := Key{
				Subscriber: addr(uint32(rnd.IntN(40))), Server: addr(1), ServerPort: 443,
				SubscriberPort: uint16(rnd.IntN(keys / 40 * (1 + i/20_000) / 3)),
			}
			s.now += rnd.Int64N(20e6)
			back := rnd.Int64N(3) * 1e6
			switch n := rnd.IntN(100); {
			case n == 0:
				s.now += rnd.Int64N(90) * second
			case n < 5:
				s.advance()
				m.advance(s.now)
			case n < 15:
				if r := s.tab.find(&k, s.tab.Hash(&k)); r != 0 && !s.tab.Flow(r).Settled() {
					class := uint8(1 + rnd.IntN(3))
					s.tab.Settle(r, class)
					m.flows[k].class = class
				}
			default:
				flags := []uint8{
					decode.SYN, decode.SYN, decode.ACK, decode.ACK, decode.ACK, decode.PSH,
					decode.FIN | decode.ACK, decode.FIN, decode.RST, decode.RST | decode.ACK,
				}[rnd.IntN(10)]
				d := Direction(rnd.IntN(2))
				p := decode.Packet{
					Time: s.now - back, Flags: flags, Transport: make([]byte, 20), HeaderLen: 20, Window: 1,
					// Numbers far apart, so that no SYN passes for a late one.
					Seq: uint32(rnd.IntN(2))*0x2000_0000 + uint32(flags&decode.SYN)*0x1800_0000, Ack: 0x9000_0000,
				}
				s.key = k
				r := s.segment(&p, d)
				m.segment(k, p.Time, d, flags, p.Seq)
				mf, f := m.flows[k], s.tab.Flow(r)
				if f.Key != k || f.Start != mf.start || f.Last != mf.last || f.state != mf.state || f.Reason != mf.reason {
					t.Fatalf("step %d: table has %s, model %+v", i, describe(f), *mf)
				}
			}
			if i%5000 == 0 {
				s.check()
			}
		}
		s.now += 4 * 3600 * second
		s.advance()
		m.advance(s.now)
		s.check()
		if s.tab.Len() != 0 || len(m.flows) != 0 {
			t.Errorf("%d flows left, %d in the model", s.tab.Len(), len(m.flows))
		}
		for e, n := range m.ended {
			if ended[e] != n {
				t.Fatalf("%q ended %d times, %d in the model", e, ended[e], n)
			}
		}
		if len(ended) != len(m.ended) {
			t.Errorf("%d different ends, %d in the model", len(ended), len(m.ended))
		}
		for _, reason := range []string{"fin", "rst", "idle", "reused"} {
			n := 0
			for e := range ended {
				n += strings.Count(e, " "+reason)
			}
			if n < 20 {
				t.Errorf("only %d flows ended %q: the test is too tame", n, reason)
			}
		}
		if s.tab.Evicted != 0 {
			t.Error("the table was too small for this test")
		}
	}
}

// TestIndex holds find, insert and remove against a map while the index grows
// through several sizes, with tags that share their runs.
func TestIndex(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 5))
	s := newScene(t, 20_000)
	tab := s.tab
	// A poor hash: 512 different ones, so that runs are long and wrap.
	poor := func(k *Key) uint64 { return uint64(0xffff_ff00+uint32(k.SubscriberPort%512)) << 32 }
	in := map[uint16]uint32{}
	put := func(p uint16) {
		k := Key{SubscriberPort: p}
		if in[p] != 0 {
			return
		}
		r := tab.insert(&k, poor(&k))
		tab.slab.hot[r].state = stateHalfOpen
		tab.link(r, tab.Hot(r))
		in[p] = r
	}
	drop := func(p uint16) {
		r := in[p]
		if r == 0 {
			return
		}
		delete(in, p)
		k := Key{SubscriberPort: p}
		at := uint32(poor(&k)>>32) & tab.mask
		for uint32(tab.index[at]) != r {
			at = (at + 1) & tab.mask
		}
		tab.unplace(at)
		tab.unlink(r, tab.Hot(r))
		tab.slab.hot[r].state = stateFree
		tab.slab.links[r].next = tab.free
		tab.free = r
		tab.entries--
	}
	verify := func() {
		t.Helper()
		for p := range uint16(1100) {
			k := Key{SubscriberPort: p}
			if got := tab.find(&k, poor(&k)); got != in[p] {
				t.Fatalf("find(%d) is %d, want %d", p, got, in[p])
			}
			if got, want := tab.Seek(poor(&k)), tab.seek(uint32(poor(&k)>>32), uint32(poor(&k)>>32)&tab.mask); got != want {
				t.Fatalf("Seek(%d) is %d, want %d", p, got, want)
			}
		}
		if tab.Len() != len(in) {
			t.Fatalf("Len is %d, want %d", tab.Len(), len(in))
		}
	}
	for i := range 30_000 {
		p := uint16(rnd.IntN(1000))
		if rnd.IntN(5) < 3 {
			put(p)
		} else {
			drop(p)
		}
		if i%500 == 0 {
			verify()
		}
	}
	if len(tab.index) < 8*firstIndex {
		t.Errorf("the index grew to %d only", len(tab.index))
	}
	for p := range uint16(1000) {
		drop(p)
	}
	verify()
	for i, w := range tab.index {
		if w != 0 {
			t.Fatalf("index word %d is left", i)
		}
	}
}

// A new flow stands where a look-up of it begins, however many that have gone are left.
func TestIndexYoungestFirst(t *testing.T) {
	s := newScene(t, 1000)
	for i := range 1000 {
		s.port(uint16(i)).syn(Up, 1).rst(Down)
		if got := s.tab.Touch(s.tab.Hash(&s.key)); got != s.record() {
			t.Fatalf("flow %d: record %d stands where its look-up begins, not its own, %d", i, got, s.record())
		}
	}
	s.check()
}

// Growth that the system refuses costs flows, not the table.
func TestIndexCannotGrow(t *testing.T) {
	s := newScene(t, 1000)
	s.tab.reserve = func(int) ([]uint64, error) { return nil, errors.New("no memory") }
	for i := range 500 {
		s.port(uint16(i)).open()
	}
	if s.tab.Len() != 48 || s.tab.Evicted != 452 {
		t.Errorf("%d flows, %d evicted; want 48 and 452", s.tab.Len(), s.tab.Evicted)
	}
	s.check()
}

func TestNewRefuses(t *testing.T) {
	for _, n := range []int{-1, 0, MinFlows - 1, 1 << 40} {
		if tab, err := New(Config{Flows: n}); err == nil || tab != nil {
			t.Errorf("New with %d flows: %v, %v", n, tab, err)
		}
	}
	tab, err := New(Config{Flows: MinFlows, HoleLists: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	// Every list there is can be had, none twice.
	last := uint16(0)
	for i := tab.takeHoles(); i != 0; i = tab.takeHoles() {
		if i != last+1 {
			t.Fatalf("list %d after %d", i, last)
		}
		last = i
	}
	if last != 65534 {
		t.Errorf("the pool holds %d lists, want 65534", last)
	}
	if err := tab.Free(); err != nil {
		t.Error(err)
	}
}

func TestHash(t *testing.T) {
	s := newScene(t, 16)
	base := Key{Subscriber: addr(0x0a000001), Server: addr(0x9df00001), SubscriberPort: 1, ServerPort: 443}
	// Every part of the key counts.
	for name, k := range map[string]Key{
		"subscriber":      {addr(0x0a000002), base.Server, 0, 1, 443},
		"subscriber Hi":   {decode.Addr{Hi: 1, Lo: base.Subscriber.Lo}, base.Server, 0, 1, 443},
		"server":          {base.Subscriber, addr(0x9df00002), 0, 1, 443},
		"server Hi":       {base.Subscriber, decode.Addr{Hi: 1, Lo: base.Server.Lo}, 0, 1, 443},
		"scope":           {base.Subscriber, base.Server, 1, 1, 443},
		"subscriber port": {base.Subscriber, base.Server, 0, 2, 443},
		"server port":     {base.Subscriber, base.Server, 0, 1, 444},
	} {
		if s.tab.Hash(&k)>>32 == s.tab.Hash(&base)>>32 {
			t.Errorf("another %s has the same hash", name)
		}
	}
	other := *s.tab
	other.hasher = newHasher(s.tab.cfg.Seed + 1)
	if other.Hash(&base) == s.tab.Hash(&base) {
		t.Error("another seed has the same hash")
	}
	// Consecutive addresses and ports fill a table no worse than random
	// numbers: of n balls in n boxes 63 % of the boxes hold one or more.
	const n = 1 << 14
	for name, key := range map[string]func(i uint32) Key{
		"ports":        func(i uint32) Key { k := base; k.SubscriberPort = uint16(i); return k },
		"subscribers":  func(i uint32) Key { k := base; k.Subscriber = addr(0x0a000000 + i); return k },
		"servers":      func(i uint32) Key { k := base; k.Server = addr(0x9df00000 + i); return k },
		"both":         func(i uint32) Key { k := base; k.Subscriber, k.Server = addr(i), addr(i); return k },
		"IPv6 subnets": func(i uint32) Key { k := base; k.Subscriber = decode.Addr{Hi: uint64(i) << 16, Lo: 1}; return k },
		"ports and subscribers": func(i uint32) Key {
			k := base
			k.SubscriberPort, k.Subscriber = uint16(i&127)*2+32768, addr(i>>7<<8)
			return k
		},
		"ports and servers": func(i uint32) Key {
			k := base
			k.SubscriberPort, k.Server = uint16(i&127)+32768, addr(0x9df00000+i>>7)
			return k
		},
		"ports, subscribers and servers": func(i uint32) Key {
			k := base
			k.SubscriberPort, k.Server, k.Subscriber = uint16(i&15)+32768, addr(0x9df00000+i>>4&31), addr(0x0a000000+i>>9)
			return k
		},
		"scopes":           func(i uint32) Key { k := base; k.Scope = i; return k },
		"scopes and ports": func(i uint32) Key { k := base; k.Scope, k.SubscriberPort = i>>7, uint16(i&127)+32768; return k },
		"scopes of one address": func(i uint32) Key {
			k := base
			k.Scope, k.Server, k.SubscriberPort = i>>6, addr(0x9df00000+i&7), uint16(i>>3&7)+32768
			return k
		},
		"IPv6 ports": func(i uint32) Key {
			k := base
			k.Subscriber.Hi, k.Server.Hi, k.SubscriberPort = 1, 2, uint16(i)
			return k
		},
		"IPv6 hosts": func(i uint32) Key { k := base; k.Server = decode.Addr{Hi: 0x20010db8 << 32, Lo: uint64(i)}; return k },
		"IPv6 hosts and subnets": func(i uint32) Key {
			k := base
			k.Subscriber, k.Server = decode.Addr{Hi: 0x20010db8<<32 | uint64(i>>6), Lo: 1}, decode.Addr{Hi: 1, Lo: uint64(i & 63)}
			return k
		},
	} {
		var box [n]bool
		filled := 0
		for i := range uint32(n) {
			k := key(i)
			at := uint32(s.tab.Hash(&k)>>32) % n
			if !box[at] {
				filled++
			}
			box[at] = true
		}
		if share := float64(filled) / n; share < 0.61 {
			t.Errorf("%s: %.3f of the boxes are filled, want 0.632 or more", name, share)
		}
	}
}

// Full: closed flows go first, then half-open ones, then what is due soonest.
func TestEvictionOrder(t *testing.T) {
	s := newScene(t, 16)
	for i := range 16 {
		s.at(float64(i*1000)).port(uint16(i)).syn(Up, 1)
		switch {
		case i < 10: // open, the later the sooner due: 0 to 4 are chat
			s.at(float64(i*1000+1)).synack(Down, 9).ack(Up)
			if i < 5 {
				s.settle(chat)
			}
		case i < 13:
			// half-open
		default:
			s.rst(Up)
		}
	}
	s.advance()
	gone := func() string {
		var left [16]bool
		for r := uint32(1); r < s.tab.used; r++ {
			if p := s.tab.slab.cold[r].Key.SubscriberPort; p < 16 {
				left[p] = true
			}
		}
		var b strings.Builder
		for p, l := range left {
			if !l {
				fmt.Fprintf(&b, "%d ", p)
			}
		}
		return strings.TrimSpace(b.String())
	}
	for i, want := range []string{
		"13", "13 14", "13 14 15", // closed
		"10 13 14 15", "10 11 13 14 15", "10 11 12 13 14 15", // half-open
		"5 10 11 12 13 14 15", "5 6 10 11 12 13 14 15", // due in 5 minutes
		"5 6 7 10 11 12 13 14 15", "5 6 7 8 10 11 12 13 14 15", "5 6 7 8 9 10 11 12 13 14 15",
		"0 5 6 7 8 9 10 11 12 13 14 15", // due in an hour
		"0 1 5 6 7 8 9 10 11 12 13 14 15",
	} {
		// Newcomers in mid-stream of a later time are open and due last.
		s.at(float64(100_000+1000*i)).port(uint16(100+i)).data(Up, 5).settle(slow)
		if got := gone(); got != want {
			t.Fatalf("newcomer %d: %q are gone, want %q", i, got, want)
		}
		s.check()
	}
	// Who comes now and is due before the chats goes before them.
	s.port(200).data(Up, 5).port(201).data(Up, 5).settle(slow)
	if s.port(200).record() != 0 || s.port(4).record() == 0 {
		t.Error("a chat had to go before a newer flow that was due before it")
	}
	reasons := strings.Join(s.ended, "\n")
	for want, n := range map[string]int{"rst": 3, "evicted": 12} {
		if got := strings.Count(reasons, want+" "); got < n {
			t.Errorf("%d flows ended %q, want %d:\n%s", got, want, n, reasons)
		}
	}
	if s.tab.Evicted != 15 || s.tab.Len() != 16 {
		t.Errorf("%d evicted, %d left", s.tab.Evicted, s.tab.Len())
	}
}

// A flow that has spoken since it was put into the wheel is not the one that is
// due soonest, wherever the wheel still has it.
func TestEvictionSparesTheBusy(t *testing.T) {
	s := newScene(t, 16)
	for i := range 16 {
		s.at(float64(i*1000)).port(uint16(i)).data(Up, 5, seq(1))
	}
	for i := range 8 { // the older half goes on talking
		s.at(200_000).port(uint16(i)).data(Up, 5, seq(6))
	}
	for i := range 8 {
		s.at(201_000).port(uint16(100+i)).data(Up, 5, seq(1))
	}
	for i := range 8 {
		if s.port(uint16(i)).record() == 0 {
			t.Errorf("flow %d was busy and had to go", i)
		}
		if s.port(uint16(8+i)).record() != 0 {
			t.Errorf("flow %d was silent and stayed", 8+i)
		}
	}
	s.check()
}

// More busy flows than are worth looking at: one goes, and quickly.
func TestEvictionAmongTheBusy(t *testing.T) {
	s := newScene(t, 100)
	for i := range 100 {
		s.port(uint16(i)).data(Up, 5, seq(1))
	}
	s.at(100_000)
	for i := range 100 {
		s.port(uint16(i)).data(Up, 5, seq(6))
	}
	slot := s.tab.slab.cold[1].slot
	s.port(1000).data(Up, 5, seq(1))
	moved := 0
	for r := uint32(1); r < s.tab.used; r++ {
		if s.tab.slab.cold[r].slot != slot {
			moved++
		}
	}
	if moved != 17 { // 16 and the newcomer
		t.Errorf("%d flows were moved to make room for one, want 17", moved)
	}
	if s.tab.Len() != 100 || s.tab.Evicted != 1 {
		t.Errorf("%d flows, %d evicted", s.tab.Len(), s.tab.Evicted)
	}
	s.check()
}

// A flood of SYNs pushes out itself: what is established stays.
func TestFlood(t *testing.T) {
	s := newScene(t, 100)
	for i := range 50 {
		s.port(uint16(i)).open().settle(chat)
	}
	s.at(100)
	for i := range 10_000 {
		s.key.Subscriber = addr(uint32(0x0b000000 + i))
		s.syn(Up, 1)
	}
	s.key.Subscriber = addr(0x0a000001)
	for i := range 50 {
		r := s.port(uint16(i)).record()
		if r == 0 || s.tab.Flow(r).state != stateOpen {
			t.Fatalf("flow %d was pushed out", i)
		}
	}
	if s.tab.Len() != 100 || s.tab.used != 101 || s.tab.Evicted != 10_000-50 {
		t.Errorf("%d flows in %d records, %d evicted", s.tab.Len(), s.tab.used-1, s.tab.Evicted)
	}
	s.check()
	if c := s.classes[chat]; c.Active != 50 {
		t.Errorf("%d active chats, want 50", c.Active)
	}
}

// TestSize pins what a flow costs. Larger is slower and dearer for every user;
// who needs another field should look for one to give up.
func TestSize(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want uintptr
	}{
		{"what every segment needs", unsafe.Sizeof(Hot{}), 128},
		{"what opening and closing need", unsafe.Sizeof(Cold{}), 128},
		{"all", uintptr(FlowBytes), 288},
		{"Half", unsafe.Sizeof(Half{}), 48},
		{"holeList", unsafe.Sizeof(holeList{}), 136},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d bytes, want %d", c.name, c.got, c.want)
		}
	}
}

// No allocation a segment, whatever it does.
func TestAllocs(t *testing.T) {
	s := newScene(t, 64)
	s.tab.cfg.OnEnd = func(r uint32, _ Flow) { s.tab.Settle(r, media) }
	p := decode.Packet{Transport: make([]byte, 40), HeaderLen: 40, IPBytes: 100, Window: 1}
	n := uint32(0)
	segment := func(flags uint8, payload uint32) {
		p.Flags, p.PayloadLen, p.Time = flags, payload, s.now
		s.tab.Segment(&p, &s.key, Up, s.tab.Hash(&s.key))
	}
	for _, c := range []struct {
		name string
		play func()
	}{
		{"existing", func() { p.Seq += 10; segment(decode.ACK, 10) }},
		{"existing, time stamps", func() { p.Seq += 10; p.HasTimestamps = true; p.TSval++; segment(decode.ACK, 10) }},
		{"hole", func() { p.Seq += 20; segment(decode.ACK, 10) }},
		{"repeat", func() { p.Seq -= 10; segment(decode.ACK, 10); segment(decode.ACK, 10) }},
		{"reused", func() { p.Seq += 1 << 20; segment(decode.SYN, 0) }},
		{"new", func() { n++; s.key.Server = addr(n); segment(decode.SYN, 0) }},
		{"new in mid-stream", func() { n++; s.key.Server = addr(n); segment(decode.ACK, 9) }},
		{"closed", func() { n++; s.key.Server = addr(n); segment(decode.RST, 0) }},
		{"Advance", func() { s.now += second; segment(decode.ACK, 9); s.tab.Advance(s.now) }},
		{"Advance far", func() { s.now += 5000 * second; segment(decode.ACK, 9); s.tab.Advance(s.now) }},
		{"Settle", func() { n++; s.key.Server = addr(n); segment(decode.SYN, 0); s.tab.Settle(s.record(), media) }},
		{"Touch", func() { h := s.tab.Hash(&s.key); s.tab.Touch(h); s.tab.Hot(s.tab.Seek(h)).Touch() }},
	} {
		if got := testing.AllocsPerRun(500, c.play); got != 0 {
			t.Errorf("%s: %v allocations", c.name, got)
		}
	}
	if err := checkTable(s.tab); err != nil {
		t.Error(err)
	}
}

// Touch and Seek name what a look-up will read.
func TestTouch(t *testing.T) {
	s := newScene(t, 64)
	s.open()
	hash := s.tab.Hash(&s.key)
	if got := s.tab.Touch(hash); got != s.record() {
		t.Errorf("Touch names record %d, want %d", got, s.record())
	}
	if got := s.tab.Seek(hash); got != s.record() {
		t.Errorf("Seek names record %d, want %d", got, s.record())
	}
	s.tab.Hot(s.tab.Seek(hash)).Touch()
	s.tab.Hot(s.tab.Seek(^hash)).Touch() // whatever lies there
}

// TestIndexBytes: the index of a table that has been full is as long as whoever
// plans the memory is told.
func TestIndexBytes(t *testing.T) {
	for _, flows := range []int{16, 32, 33, 1000, 16_384, 16_385, 24_577, 49_152, 49_153} {
		s := newScene(t, flows)
		for i := range flows + flows/4 {
			s.key.Server = addr(uint32(i))
			s.tab.Segment(&decode.Packet{Time: s.now, Flags: decode.SYN, HeaderLen: 20}, &s.key, Up, s.tab.Hash(&s.key))
		}
		if got, want := int64(len(s.tab.index))*8, IndexBytes(flows); s.tab.Len() != flows || got != want {
			t.Errorf("%d flows: an index of %d bytes, planned %d", s.tab.Len(), got, want)
		}
	}
}
