package flows

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/nametap/nametap/capture/decode"
)

// A scene is one table, a clock, and the two ends of connections, each of which
// writes its segments as a TCP of its own would: in sequence, acknowledging what
// has come from the other end, unless told otherwise.
type scene struct {
	t       *testing.T
	tab     *Table
	classes Classes
	idle    [MaxClasses]int64
	now     int64
	key     Key
	ends    [2]endpoint
	stamps  bool // segments carry time stamps, of a clock of milliseconds
	short   bool // segments go by Continue first
	carried int  // segments that went no further

	last   decode.Packet // the newest segment
	ev     Event
	ended  []string // what OnEnd saw, in order
	onEnd  func(r uint32, f Flow)
	fed    Counters // what the table must have counted
	closed int      // flows that OnEnd saw
}

type endpoint struct {
	nxt, una uint32 // what this end sends next; what it acknowledges
	acks     bool   // it has something to acknowledge
	recent   uint32 // TSval to echo
}

const (
	chat  = 1 // class with a time-out of 60 minutes
	media = 2 // class with a time-out of 5 minutes
	slow  = 3 // class with a time-out beyond the wheel's turn

	epoch = 1_700_000_000 * second
)

func addr(s uint32) decode.Addr { return decode.Addr{Lo: 0xffff<<32 | uint64(s)} }

func newScene(t *testing.T, flows int) *scene {
	t.Helper()
	s := &scene{t: t, now: epoch}
	for i := range s.idle {
		s.idle[i] = 300 * second
	}
	s.idle[chat] = 3600 * second
	s.idle[slow] = 3 * 3600 * second
	s.key = Key{Subscriber: addr(0x0a000001), Server: addr(0x9df00001), SubscriberPort: 40000, ServerPort: 443}
	tab, err := New(Config{
		Flows: flows, HoleLists: 8, Seed: 7,
		IdleTimeout: &s.idle, Classes: &s.classes,
		OnEnd: func(r uint32, f Flow) {
			if f != s.tab.Flow(r) {
				t.Errorf("OnEnd(%d): not the record of that index", r)
			}
			if s.onEnd != nil {
				s.onEnd(r, f)
			}
			s.closed++
			s.ended = append(s.ended, describe(f))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.tab = tab
	tab.Advance(s.now)
	t.Cleanup(func() {
		if err := tab.Free(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// at sets the clock to milliseconds after the start.
func (s *scene) at(ms float64) *scene {
	s.now = epoch + int64(math.Round(ms*1e6))
	return s
}

// port changes to another connection of the same two hosts.
func (s *scene) port(p uint16) *scene {
	s.key.SubscriberPort = p
	s.ends = [2]endpoint{}
	return s
}

type with func(p *decode.Packet)

func seq(n uint32) with      { return func(p *decode.Packet) { p.Seq = n } }
func acks(n uint32) with     { return func(p *decode.Packet) { p.Ack = n; p.Flags |= decode.ACK } }
func noAck(p *decode.Packet) { p.Flags &^= decode.ACK; p.Ack = 0 }
func window(n uint16) with   { return func(p *decode.Packet) { p.Window = n } }
func ts(val, ecr uint32) with {
	return func(p *decode.Packet) { p.HasTimestamps, p.TSval, p.TSecr = true, val, ecr }
}
func noTS(p *decode.Packet) { p.HasTimestamps = false }

// send passes a segment by the tap.
func (s *scene) send(d Direction, flags uint8, payload uint32, opts ...with) *scene {
	from, to := &s.ends[d], &s.ends[d.Reverse()]
	p := decode.Packet{
		Time: s.now, Flags: flags, PayloadLen: payload, Seq: from.nxt, Window: 1000, TTL: 64,
		IPBytes: 40 + payload, Transport: make([]byte, 20), HeaderLen: 20, Protocol: decode.ProtocolTCP,
	}
	if flags&decode.SYN == 0 && flags&decode.RST == 0 && from.acks {
		p.Flags |= decode.ACK
	}
	if p.Flags&decode.ACK != 0 {
		p.Ack = from.una
	}
	if s.stamps {
		p.HasTimestamps, p.TSval, p.TSecr = true, uint32((s.now-epoch)/1e6)+1, from.recent
	}
	for _, o := range opts {
		o(&p)
	}
	end := p.Seq + payload + uint32(p.Flags&decode.SYN>>1) + uint32(p.Flags&decode.FIN)
	if int32(end-from.nxt) > 0 || flags&decode.SYN != 0 {
		from.nxt = end
	}
	if p.Seq == to.una || !to.acks {
		to.una = end
		to.acks = true
		to.recent = p.TSval
	}
	s.segment(&p, d)
	return s
}

// segment feeds p and keeps the books.
func (s *scene) segment(p *decode.Packet, d Direction) uint32 {
	address(p, &s.key, d)
	hash := s.tab.HashOf(p, s.key.Scope, d)
	r, ev := s.pass(p, d, hash)
	s.last, s.ev = *p, ev
	s.fed.Packets[d]++
	s.fed.Bytes[d] += uint64(p.IPBytes)
	s.fed.Payload[d] += uint64(p.PayloadLen)
	s.fed.SYN += b2u(p.Flags&(decode.SYN|decode.ACK) == decode.SYN)
	s.fed.SYNACK += b2u(p.Flags&(decode.SYN|decode.ACK) == decode.SYN|decode.ACK)
	s.fed.FIN += b2u(p.Flags&decode.FIN != 0)
	s.fed.RST += b2u(p.Flags&decode.RST != 0)
	s.fed.Opened += b2u(ev&Opened != 0)
	return r
}

// address gives p the ends of the connection.
func address(p *decode.Packet, k *Key, d Direction) {
	p.Src, p.SrcPort, p.Dst, p.DstPort = k.Subscriber, k.SubscriberPort, k.Server, k.ServerPort
	if d == Down {
		p.Src, p.SrcPort, p.Dst, p.DstPort = p.Dst, p.DstPort, p.Src, p.SrcPort
	}
}

func (s *scene) pass(p *decode.Packet, d Direction, hash uint64) (uint32, Event) {
	if s.short {
		r := s.tab.Seek(hash)
		ev, ok := s.tab.Continue(s.tab.Hot(r), p, d, hash)
		if ok {
			if r != s.record() {
				s.t.Errorf("Continue took record %d for %d", r, s.record())
			}
			s.carried++
			return r, ev
		}
		if ev != Known {
			r = 0
		}
		return s.tab.Take(r, p, s.key.Scope, d, hash)
	}
	return s.tab.Segment(p, &s.key, d, hash)
}

func b2u(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// The segments of the protocol's own vocabulary.

func (s *scene) syn(d Direction, isn uint32, opts ...with) *scene {
	return s.send(d, decode.SYN, 0, append([]with{seq(isn)}, opts...)...)
}

func (s *scene) synack(d Direction, isn uint32, opts ...with) *scene {
	return s.send(d, decode.SYN|decode.ACK, 0, append([]with{seq(isn)}, opts...)...)
}

func (s *scene) ack(d Direction, opts ...with) *scene {
	return s.send(d, decode.ACK, 0, opts...)
}

func (s *scene) data(d Direction, n uint32, opts ...with) *scene {
	return s.send(d, decode.PSH, n, opts...)
}

func (s *scene) fin(d Direction, opts ...with) *scene { return s.send(d, decode.FIN, 0, opts...) }
func (s *scene) rst(d Direction, opts ...with) *scene { return s.send(d, decode.RST, 0, opts...) }

// open is the handshake, subscriber first: server 30 ms, access 20 ms.
func (s *scene) open() *scene {
	start := float64(s.now-epoch) / 1e6
	return s.syn(Up, 1000).at(start+30).synack(Down, 5000).at(start + 50).ack(Up)
}

// record returns the index of the live record of the scene's key, 0 without.
func (s *scene) record() uint32 { return s.tab.find(&s.key, s.tab.Hash(&s.key)) }

func (s *scene) settle(class uint8) *scene {
	s.t.Helper()
	r := s.record()
	if r == 0 {
		s.t.Fatal("no flow to settle")
	}
	s.tab.Settle(r, class)
	return s
}

func (s *scene) advance() *scene {
	s.tab.Advance(s.now)
	return s
}

// describe puts a flow into words: what it is, then every count that is not 0.
func describe(f Flow) string {
	var b strings.Builder
	what := map[state]string{stateHalfOpen: "half-open", stateOpen: "open", stateClosed: "closed"}[f.state]
	if f.Reason != NotEnded {
		what = f.Reason.String()
	}
	b.WriteString(what)
	put := func(name string, n uint64) {
		if n != 0 {
			fmt.Fprintf(&b, " %s=%d", name, n)
		}
	}
	put("seen", b2u(f.SYNSeen()))
	put("est", b2u(f.Established()))
	put("syn", uint64(f.SYNs))
	put("synack", uint64(f.SYNACKs))
	put("fin", uint64(f.FINs))
	put("rst", uint64(f.RSTs))
	put("ms", uint64((f.Last-f.Start)/1e6))
	for d, name := range [2]string{"up", "down"} {
		h := &f.Half[d]
		put(name, uint64(h.Packets))
		put(name+".payload", f.Payload(Direction(d)))
		put(name+".rtx", uint64(f.Loss[d].Retransmitted))
		put(name+".lost", uint64(f.Loss[d].LostBefore))
		put(name+".ooo", uint64(f.Loss[d].OutOfOrder))
		put(name+".unseen", uint64(f.Unseen[d]))
		put(name+".hs", uint64(f.Handshake[d]))
		put(name+".rtts", uint64(h.RTTCount))
		put(name+".min", uint64(h.RTTMin))
		put(name+".sum", uint64(h.RTTSum))
	}
	return b.String()
}

// optional are the words that a wish need not mention. What it does not mention
// of the rest must be 0.
var optional = map[string]bool{
	"est": true, "seen": true, "syn": true, "synack": true, "fin": true, "rst": true, "ms": true,
	"up": true, "down": true, "up.payload": true, "down.payload": true,
	"up.hs": true, "down.hs": true, "up.rtts": true, "down.rtts": true,
	"up.min": true, "down.min": true, "up.sum": true, "down.sum": true,
}

// like reports how got differs from the wish, "" if it does not.
func like(got, wish string) string {
	have := map[string]string{}
	words := strings.Fields(got)
	for _, w := range words[1:] {
		k, v, _ := strings.Cut(w, "=")
		have[k] = v
	}
	wishes := strings.Fields(wish)
	if words[0] != wishes[0] {
		return fmt.Sprintf("is %q, want %q", words[0], wishes[0])
	}
	named := map[string]bool{}
	for _, w := range wishes[1:] {
		k, v, _ := strings.Cut(w, "=")
		named[k] = true
		if have[k] == "" {
			have[k] = "0"
		}
		if have[k] != v {
			return fmt.Sprintf("%s is %s, want %s", k, have[k], v)
		}
	}
	for k, v := range have {
		if !named[k] && !optional[k] && v != "0" {
			return fmt.Sprintf("%s is %s, want none", k, v)
		}
	}
	return ""
}

// want compares the flows, the ended ones first, with wishes, and checks that
// the table and its books are in order.
func (s *scene) want(wishes ...string) {
	s.t.Helper()
	got := append([]string(nil), s.ended...)
	for r := uint32(1); r < s.tab.used; r++ {
		if f := s.tab.Flow(r); f.state != stateFree {
			got = append(got, describe(f))
		}
	}
	if len(got) != len(wishes) {
		s.t.Fatalf("%d flows, want %d:\n%s", len(got), len(wishes), strings.Join(got, "\n"))
	}
	for i := range wishes {
		if diff := like(got[i], wishes[i]); diff != "" {
			s.t.Errorf("flow %d: %s\n got  %s\n want %s", i, diff, got[i], wishes[i])
		}
	}
	s.check()
}

// check holds everything that is always true of a table.
func (s *scene) check() {
	s.t.Helper()
	if err := checkTable(s.tab); err != nil {
		s.t.Fatal(err)
	}
	if err := checkBooks(s.tab, &s.classes, &s.fed); err != nil {
		s.t.Fatal(err)
	}
}

// checkBooks compares what the classes hold, class 0 included, with what was
// fed, and the live flows with the gauges.
func checkBooks(t *Table, classes *Classes, fed *Counters) error {
	var sum Counters
	var open, half, attempts, midstream, established [MaxClasses]uint64
	for c := range classes {
		sum.Add(&classes[c])
	}
	opened := sum.Opened
	for r := uint32(1); r < t.used; r++ {
		f := t.Flow(r)
		if f.state == stateFree {
			continue
		}
		if f.flags&flagSettled == 0 {
			half[0]++
			opened++
			established[0] += b2u(f.Established())
			continue
		}
		open[f.Class] += b2u(f.state != stateClosed)
	}
	for c := range classes {
		k := &classes[c]
		if k.Active < 0 || uint64(k.Active) != open[c] {
			return fmt.Errorf("class %d: active %d, live settled flows %d", c, k.Active, open[c])
		}
		var ends uint64
		for _, n := range k.Closed {
			ends += n
		}
		if k.Opened != k.Attempts+k.Midstream || k.Opened != ends+open[c] {
			return fmt.Errorf("class %d: opened %d, attempts %d, midstream %d, ended %d, open %d",
				c, k.Opened, k.Attempts, k.Midstream, ends, open[c])
		}
		if k.Duration.Count != ends || k.Size[Up].Count != ends || k.Size[Down].Count != ends {
			return fmt.Errorf("class %d: %d ends, %d durations, %d and %d sizes",
				c, ends, k.Duration.Count, k.Size[Up].Count, k.Size[Down].Count)
		}
		if k.Established > k.Attempts && c != 0 {
			return fmt.Errorf("class %d: %d of %d attempts established", c, k.Established, k.Attempts)
		}
		attempts[c], midstream[c] = k.Attempts, k.Midstream
	}
	if k := &classes[0]; k.Opened != 0 || k.Attempts != 0 || k.Midstream != 0 || k.Active != 0 {
		return fmt.Errorf("class 0 counts flows: %d opened", k.Opened)
	}
	if opened > fed.Opened {
		return fmt.Errorf("%d flows, but %d were opened", opened, fed.Opened)
	}
	if sum.Bytes != fed.Bytes || sum.Packets != fed.Packets || sum.Payload != fed.Payload {
		return fmt.Errorf("bytes %v of %v, packets %v of %v, payload %v of %v",
			sum.Bytes, fed.Bytes, sum.Packets, fed.Packets, sum.Payload, fed.Payload)
	}
	if sum.SYN != fed.SYN || sum.SYNACK != fed.SYNACK || sum.FIN != fed.FIN || sum.RST != fed.RST {
		return fmt.Errorf("SYN %d of %d, SYN/ACK %d of %d, FIN %d of %d, RST %d of %d",
			sum.SYN, fed.SYN, sum.SYNACK, fed.SYNACK, sum.FIN, fed.FIN, sum.RST, fed.RST)
	}
	return nil
}

// checkTable holds the structure: every live record is in exactly one list and
// once in the index, links agree, nothing is lost.
func checkTable(t *Table) error {
	seen := make(map[uint32]string, t.entries)
	walk := func(name string, head uint32, tail *uint32, want state) error {
		prev := uint32(0)
		for r := head; r != 0; r = t.slab.links[r].next {
			f := t.Flow(r)
			if old, ok := seen[r]; ok {
				return fmt.Errorf("record %d is in %s and in %s", r, old, name)
			}
			seen[r] = name
			if f.state != want {
				return fmt.Errorf("record %d in %s has state %d", r, name, f.state)
			}
			if got := t.slab.links[r].prev; got != prev {
				return fmt.Errorf("record %d in %s: prev %d, want %d", r, name, got, prev)
			}
			prev = r
		}
		if tail != nil && *tail != prev {
			return fmt.Errorf("%s: tail %d, want %d", name, *tail, prev)
		}
		return nil
	}
	if err := walk("the half-open list", t.halfOpen.head, &t.halfOpen.tail, stateHalfOpen); err != nil {
		return err
	}
	if err := walk("the closed list", t.closed.head, &t.closed.tail, stateClosed); err != nil {
		return err
	}
	for i, head := range t.wheel {
		if head == 0 {
			continue
		}
		if err := walk("slot "+strconv.Itoa(i), head, nil, stateOpen); err != nil {
			return err
		}
		for r := head; r != 0; r = t.slab.links[r].next {
			if int(t.slab.cold[r].slot) != i {
				return fmt.Errorf("record %d in slot %d thinks it is in %d", r, i, t.slab.cold[r].slot)
			}
		}
	}
	if len(seen) != t.entries {
		return fmt.Errorf("%d records in lists, %d entries", len(seen), t.entries)
	}
	free := 0
	for r := t.free; r != 0; r = t.slab.links[r].next {
		if t.slab.hot[r].state != stateFree || seen[r] != "" {
			return fmt.Errorf("record %d on the free list has state %d", r, t.slab.hot[r].state)
		}
		free++
		if free > int(t.used) {
			return fmt.Errorf("the free list runs in a circle")
		}
	}
	if free+t.entries != int(t.used)-1 {
		return fmt.Errorf("%d free and %d live of %d records", free, t.entries, t.used-1)
	}
	words := 0
	for _, w := range t.index {
		if w == 0 {
			continue
		}
		words++
		r := uint32(w)
		hash := t.Hash(&t.slab.cold[r].Key)
		if seen[r] == "" || uint32(hash>>32) != uint32(w>>32) || t.find(&t.slab.cold[r].Key, hash) != r {
			return fmt.Errorf("index word %x: record %d is not found by its key", w, r)
		}
	}
	if words != t.entries {
		return fmt.Errorf("%d index words, %d entries", words, t.entries)
	}
	return checkHoles(t, seen)
}

func checkHoles(t *Table, live map[uint32]string) error {
	owner := map[uint16]uint32{}
	for r := range live {
		for d := range t.slab.hot[r].Half {
			h := &t.slab.hot[r].Half[d]
			if h.holes == 0 {
				continue
			}
			if o, ok := owner[h.holes]; ok {
				return fmt.Errorf("records %d and %d share hole list %d", o, r, h.holes)
			}
			owner[h.holes] = r
			l := &t.holes[h.holes]
			if l.n == 0 || l.n > maxHoles {
				return fmt.Errorf("record %d has a list of %d holes", r, l.n)
			}
			for i := range l.n {
				g := l.hole[i]
				if h.nxt-g.start > maxWindow {
					continue // out of reach, to be forgotten when next looked at
				}
				if int32(g.end-g.start) <= 0 || int32(h.nxt-g.end) < 0 {
					return fmt.Errorf("record %d: hole [%d, %d), nxt %d", r, g.start, g.end, h.nxt)
				}
				if i > 0 && int32(g.start-l.hole[i-1].end) < 0 {
					return fmt.Errorf("record %d: holes out of order: %v", r, l.hole[:l.n])
				}
			}
		}
	}
	free := 0
	for i := t.freeHoles; i != 0; i = t.holes[i].next {
		if _, ok := owner[i]; ok {
			return fmt.Errorf("hole list %d is used and free", i)
		}
		if t.holes[i].n != 0 {
			return fmt.Errorf("hole list %d is free and holds %d", i, t.holes[i].n)
		}
		free++
	}
	if free+len(owner) != int(t.usedHoles)-1 {
		return fmt.Errorf("%d free and %d used of %d hole lists", free, len(owner), t.usedHoles-1)
	}
	return nil
}
