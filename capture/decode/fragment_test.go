package decode

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

// data is a UDP datagram of 72 bytes; none of its 8-byte parts are alike.
func data() []byte {
	b := make([]byte, 64)
	for i := range b {
		b[i] = byte(i)
	}
	return udp(53, 1000, b)
}

// cut is the part from..to of data.
type cut struct{ from, to int }

// feed decodes fragments of data, as IPv4 and as IPv6, and returns what became
// of each, one letter a fragment: h held, u datagram, b bad, f table full.
func feed(t *testing.T, d *Decoder, v6 bool, now int64, id int, cuts ...cut) string {
	t.Helper()
	var s strings.Builder
	for _, c := range cuts {
		frame, whole := fragment4(id, 17, c.from, c.to, data()), 20+72
		if v6 {
			frame, whole = fragment6(id, 17, c.from, c.to, data()), 40+8+72
		}
		p := Packet{Time: now}
		o := decodeOne(d, frame, len(frame), LinkRaw, &p)
		checkTable(t, &d.fragments)
		switch o {
		case Held:
			s.WriteByte('h')
		case BadFragment:
			s.WriteByte('b')
		case FragmentTable:
			s.WriteByte('f')
		case UDP:
			s.WriteByte('u')
			if !bytes.Equal(p.Transport, data()) || !p.Fragmented || int(p.IPBytes) < whole || p.PayloadLen != 64 {
				t.Errorf("put together wrongly: %+v", p)
			}
		default:
			t.Errorf("%v: %v", c, o)
		}
	}
	return s.String()
}

func TestFragments(t *testing.T) {
	for _, s := range []struct {
		name string
		cuts []cut
		want string
	}{
		{"in order", []cut{{0, 24}, {24, 48}, {48, 72}}, "hhu"},
		{"last first", []cut{{48, 72}, {24, 48}, {0, 24}}, "hhu"},
		{"middle last", []cut{{0, 24}, {48, 72}, {24, 48}}, "hhu"},
		{"middle first", []cut{{24, 48}, {48, 72}, {0, 24}}, "hhu"},
		{"repeats", []cut{{0, 24}, {0, 24}, {48, 72}, {48, 72}, {0, 24}, {24, 48}}, "hhhhhu"},
		{"repeat of the end, which is shorter", []cut{{64, 72}, {64, 72}, {0, 64}}, "hhu"},
		{"every fragment twice", []cut{{0, 24}, {0, 24}, {24, 72}, {24, 72}}, "hhuh"},
		{"everything twice", []cut{{0, 24}, {24, 72}, {0, 24}, {24, 72}}, "huhh"},
		{"overlap at the end", []cut{{0, 24}, {16, 48}, {48, 72}}, "hbb"},
		{"overlap at the start", []cut{{24, 48}, {16, 32}, {0, 24}}, "hbb"},
		{"overlap from within", []cut{{0, 48}, {8, 16}}, "hb"},
		{"overlap all around", []cut{{8, 16}, {0, 48}}, "hb"},
		{"same start, shorter", []cut{{0, 48}, {0, 24}}, "hb"},
		{"same start, longer", []cut{{0, 24}, {0, 48}}, "hb"},
		{"same end", []cut{{0, 48}, {24, 48}}, "hb"},
		{"overlap with the last", []cut{{48, 72}, {40, 64}}, "hb"},
		{"every 8 bytes, backwards", []cut{{64, 72}, {56, 64}, {48, 56}, {40, 48}, {32, 40}, {24, 32}, {16, 24}, {8, 16}, {0, 8}}, "hhhhhhhhu"},
	} {
		for _, v6 := range []bool{false, true} {
			d := New(Config{FragmentBytes: 1 << 16})
			if got := feed(t, d, v6, 0, 1, s.cuts...); got != s.want {
				t.Errorf("%s (IPv6 %v): got %s, want %s", s.name, v6, got, s.want)
			}
			if n := d.FragmentStats(); n.Expired != 0 || n.Evicted != 0 {
				t.Errorf("%s: %+v", s.name, n)
			}
		}
	}
}

// TestContradictoryFragments has what feed cannot cut.
func TestContradictoryFragments(t *testing.T) {
	raw := func(offset int, more bool, payload []byte) []byte {
		p := ip4(17, payload)
		word := offset / 8
		if more {
			word |= moreFragments
		}
		return patch(p, 6, byte(word>>8), byte(word))
	}
	a, b := bytes.Repeat(hx("aa"), 16), bytes.Repeat(hx("bb"), 16)
	for _, s := range []struct {
		name   string
		frames [][]byte
		want   []Outcome
	}{
		{"same place, other bytes", [][]byte{raw(0, true, a), raw(0, true, b)}, []Outcome{Held, BadFragment}},
		{"beyond the last", [][]byte{raw(16, false, a), raw(32, true, a)}, []Outcome{Held, BadFragment}},
		{"two ends, second sooner", [][]byte{raw(32, false, a), raw(16, false, a)}, []Outcome{Held, BadFragment}},
		{"two ends, second later", [][]byte{raw(16, false, a), raw(32, false, a)}, []Outcome{Held, BadFragment}},
		{"end before what is there", [][]byte{raw(48, true, a), raw(16, false, a)}, []Outcome{Held, BadFragment}},
		{"spoilt ones stay so", [][]byte{raw(0, true, a), raw(0, true, b), raw(0, true, a), raw(16, false, a)}, []Outcome{Held, BadFragment, BadFragment, BadFragment}},
	} {
		d := New(Config{FragmentBytes: 1 << 16})
		for i, frame := range s.frames {
			var p Packet
			if o := decodeOne(d, frame, len(frame), LinkRaw, &p); o != s.want[i] {
				t.Errorf("%s, fragment %d: %v, want %v", s.name, i, o, s.want[i])
			}
			checkTable(t, &d.fragments)
		}
		if n := d.FragmentStats().Unfinished; n != 0 {
			t.Errorf("%s: %d unfinished", s.name, n)
		}
	}
}

// TestManyPieces has packets of too many fragments, and of just as many as may
// be.
func TestManyPieces(t *testing.T) {
	for _, n := range []int{maxPieces, maxPieces + 1} {
		d := New(Config{FragmentBytes: 1 << 20})
		payload := udp(53, 1000, make([]byte, 8*n-8))
		var o Outcome
		for i := range n {
			frame := fragment4(1, 17, 8*i, 8*i+8, payload)
			var p Packet
			o = decodeOne(d, frame, len(frame), LinkRaw, &p)
			checkTable(t, &d.fragments)
		}
		want := UDP
		if n > maxPieces {
			want = BadFragment
		}
		if o != want {
			t.Errorf("%d fragments: %v, want %v", n, o, want)
		}
	}
}

// TestFragmentIdentity has packets whose fragments must not be mixed up.
func TestFragmentIdentity(t *testing.T) {
	payload := data()
	first, second := fragment4(1, 17, 0, 40, payload), fragment4(1, 17, 40, 72, payload)
	inGTP := func(teid int, src, dst string, inner []byte) []byte {
		g := gtp(0, nil, inner)
		copy(g[4:], be32(teid))
		return ip4between(src, dst, 17, udp(2152, 2152, g))
	}
	for _, s := range []struct {
		name          string
		first, second []byte
		vlan          [2]uint16
		want          Outcome
	}{
		{"same", first, second, [2]uint16{}, UDP},
		{"other identification", first, fragment4(2, 17, 40, 72, payload), [2]uint16{}, Held},
		{"other protocol", first, fragment4(1, 18, 40, 72, payload), [2]uint16{}, Held},
		{"other source", first, patch(second, 15, 9), [2]uint16{}, Held},
		{"other destination", first, patch(second, 19, 9), [2]uint16{}, Held},
		{"same vlan", first, second, [2]uint16{7, 7}, UDP},
		{"other vlan", first, second, [2]uint16{7, 8}, Held},
		{"same tunnel", inGTP(1, g4, h4, first), inGTP(1, g4, h4, second), [2]uint16{}, UDP},
		{"other tunnel", inGTP(1, g4, h4, first), inGTP(2, g4, h4, second), [2]uint16{}, Held},
		{"other gateway", inGTP(1, g4, h4, first), inGTP(1, g4, a4, second), [2]uint16{}, Held},
		{"inside and outside", inGTP(1, g4, h4, first), second, [2]uint16{}, Held},
		{"ipv6, next header of the first counts", fragment6(1, 17, 0, 40, payload), fragment6(1, 99, 40, 72, payload), [2]uint16{}, UDP},
		{"ipv6, other identification", fragment6(1, 17, 0, 40, payload), fragment6(1<<16+1, 17, 40, 72, payload), [2]uint16{}, Held},
	} {
		d := New(Config{FragmentBytes: 1 << 16})
		var p Packet
		if o := d.Decode(s.first, uint32(len(s.first)), LinkRaw, s.vlan[0], &p); o != Held {
			t.Errorf("%s: first fragment %v", s.name, o)
		}
		if o := d.Decode(s.second, uint32(len(s.second)), LinkRaw, s.vlan[1], &p); o != s.want {
			t.Errorf("%s: %v, want %v", s.name, o, s.want)
		}
	}
}

// TestFragmentedTunnels fragments at several levels and adds up the lengths.
func TestFragmentedTunnels(t *testing.T) {
	segment := tcpTS(strings.Repeat("x", 1400))
	inner := ip4(6, segment)
	g := gtpu(0, nil, inner)
	inner6 := ip6(6, segment)
	outer := func(id int, payload []byte, at int) [][]byte {
		return [][]byte{fragment4(id, 17, 0, at, payload), fragment4(id, 17, at, len(payload), payload)}
	}
	halves := func(segment []byte, at int) [][]byte {
		return [][]byte{fragment4(9, 6, 0, at, segment), fragment4(9, 6, at, len(segment), segment)}
	}
	wrap := func(frames [][]byte) (wrapped [][]byte) {
		for _, f := range frames {
			wrapped = append(wrapped, outer4(17, gtpu(0, nil, f)))
		}
		return wrapped
	}
	both := [][]byte{}
	for i, f := range halves(segment, 800) {
		both = append(both, outer(20+i, gtpu(0, nil, f), 400)...)
	}
	const ends = "10.0.0.1:1000>192.0.2.2:443"
	for _, s := range []struct {
		name   string
		frames [][]byte
		want   string
	}{
		{"ipv4", halves(segment, 1000), "tcp " + ends + " ip 1472 payload 1400 ts 1/2 fragmented"},
		{"ipv6", [][]byte{fragment6(5, 6, 0, 1000, segment), fragment6(5, 6, 1000, 1432, segment)}, "tcp [2001:db8::1]:1000>[2001:db8::2]:443 ip 1528 payload 1400 ts 1/2 fragmented"},
		{"outside of gtp", outer(3, g, 1440), "tcp " + ends + " ip 1452 payload 1400 ts 1/2 gtp 0xabcd 10.0.0.1>192.0.2.2 fragmented"},
		{"outside of gtp, cut in the gtp header", outer(3, g, 8), "tcp " + ends + " ip 1452 payload 1400 ts 1/2 gtp 0xabcd 10.0.0.1>192.0.2.2 fragmented"},
		{"outside of gtp, ipv6 inside", outer(3, gtpu(0, nil, inner6), 1400), "tcp [2001:db8::1]:1000>[2001:db8::2]:443 ip 1472 payload 1400 ts 1/2 gtp 0xabcd 10.0.0.1>192.0.2.2 fragmented"},
		{"inside of gtp", wrap(halves(segment, 1000)), "tcp " + ends + " ip 1472 payload 1400 ts 1/2 gtp 0xabcd 198.51.100.1>198.51.100.2 fragmented"},
		{"inside and outside", both, "tcp " + ends + " ip 1472 payload 1400 ts 1/2 gtp 0xabcd 10.0.0.1>192.0.2.2 fragmented"},
		{"tcp header split", halves(segment, 8), "tcp " + ends + " ip 1472 payload 1400 ts 1/2 fragmented"},
		{"tcp header too short when whole", halves(tcp("")[:16], 8), "bad_transport"},
		{"unknown protocol", [][]byte{fragment4(1, 132, 0, 800, segment), fragment4(1, 132, 800, 1432, segment)}, "other_ip 132 10.0.0.1>192.0.2.2 ip 1472 fragmented"},
	} {
		for _, backwards := range []bool{false, true} {
			d := New(Config{FragmentBytes: 1 << 16})
			frames := slices.Clone(s.frames)
			if backwards {
				slices.Reverse(frames)
			}
			var p Packet
			for i, f := range frames {
				o := decodeOne(d, f, len(f), LinkRaw, &p)
				checkTable(t, &d.fragments)
				if i < len(frames)-1 {
					if o != Held {
						t.Errorf("%s: fragment %d: %v", s.name, i, o)
					}
					continue
				}
				if got := describe(o, &p); got != s.want {
					t.Errorf("%s, backwards %v:\ngot  %s\nwant %s", s.name, backwards, got, s.want)
				}
				if o == TCP && !bytes.Equal(p.Transport, segment) {
					t.Errorf("%s, backwards %v: other bytes", s.name, backwards)
				}
			}
		}
	}
}

// TestFirstFragmentRules takes TTL and protocol from the first fragment.
func TestFirstFragmentRules(t *testing.T) {
	d := New(Config{FragmentBytes: 1 << 16})
	var p Packet
	first, second := patch(fragment4(1, 17, 0, 40, data()), 8, 50), patch(fragment4(1, 17, 40, 72, data()), 8, 60)
	decodeOne(d, first, len(first), LinkRaw, &p)
	if o := decodeOne(d, second, len(second), LinkRaw, &p); o != UDP || p.TTL != 50 || p.IPID != 1 {
		t.Errorf("%v, ttl %d, id %d", o, p.TTL, p.IPID)
	}
}

// TestCutFragments cuts fragments by a snap length: the packet counts whole as
// long as its headers are there, with the bytes up to the first gap.
func TestCutFragments(t *testing.T) {
	segment := tcpTS(strings.Repeat("abcdefgh", 100)) // 832 bytes
	first, second := fragment4(9, 6, 0, 400, segment), fragment4(9, 6, 400, 832, segment)
	for _, s := range []struct {
		first, second int // bytes captured of each
		want          string
		there         int
	}{
		{420, 452, "tcp", 832},
		{420, 420, "tcp", 800},
		{420, 20, "tcp", 400},
		{60, 452, "tcp", 40},
		{60, 60, "tcp", 40},
		{40, 60, "tcp", 20},
		{39, 60, "cut_frame", 0},
		{20, 20, "cut_frame", 0},
	} {
		for _, backwards := range []bool{false, true} {
			d := New(Config{FragmentBytes: 1 << 16})
			var p Packet
			a, b, aCut, bCut := first, second, s.first, s.second
			if backwards {
				a, b, aCut, bCut = b, a, bCut, aCut
			}
			if o := decodeOne(d, a[:aCut], len(a), LinkRaw, &p); o != Held {
				t.Errorf("%+v: %v", s, o)
			}
			o := decodeOne(d, b[:bCut], len(b), LinkRaw, &p)
			if o.String() != s.want {
				t.Errorf("%+v: %v", s, o)
			}
			if o == TCP && (p.PayloadLen != 800 || p.IPBytes != 872 || !bytes.Equal(p.Transport, segment[:s.there])) {
				t.Errorf("%+v: %d payload in %d, %d bytes there", s, p.PayloadLen, p.IPBytes, len(p.Transport))
			}
			checkTable(t, &d.fragments)
		}
	}
}

func TestExpiry(t *testing.T) {
	const second = int64(1e9)
	for _, s := range []struct {
		name          string
		first, second int64
		want          string
		expired       uint64
	}{
		{"in time", 0, 30 * second, "u", 0},
		{"too late", 0, 30*second + 1, "h", 1},
		{"a step back", 10 * second, 0, "u", 0},
		{"wild time stamp first", 1e18, 1, "h", 1},
		{"wild time stamp before it", 1e9, -1e18, "h", 1},
	} {
		d := New(Config{FragmentBytes: 1 << 16})
		feed(t, d, false, s.first, 1, cut{0, 40})
		if got := feed(t, d, false, s.second, 1, cut{40, 72}); got != s.want {
			t.Errorf("%s: got %s, want %s", s.name, got, s.want)
		}
		if n := d.FragmentStats(); n.Expired != s.expired || n.Evicted != 0 {
			t.Errorf("%s: %+v", s.name, n)
		}
	}
}

// TestWildTimeStamp lets one frame come from far in the future: of a hundred
// packets that wait, it may cost two.
func TestWildTimeStamp(t *testing.T) {
	d := New(Config{FragmentBytes: 1 << 20})
	for id := range 100 {
		feed(t, d, false, int64(id), id, cut{0, 40})
	}
	feed(t, d, false, 1e18, 1000, cut{0, 40})
	whole := 0
	for id := range 100 {
		if feed(t, d, false, 1000, id, cut{40, 72}) == "u" {
			whole++
		}
	}
	if n := d.FragmentStats(); whole != 98 || n.Expired != 2 || n.Unfinished != 3 {
		t.Errorf("%d whole, %+v", whole, n)
	}
}

// TestRepeatWindow sends fragments of a whole packet again, soon and later.
func TestRepeatWindow(t *testing.T) {
	d := New(Config{FragmentBytes: 1 << 16})
	steps := []struct {
		now  int64
		cuts []cut
		want string
	}{
		{0, []cut{{0, 40}, {40, 72}}, "hu"},
		{repeatWindow, []cut{{0, 40}, {40, 72}}, "hh"},       // repeats
		{repeatWindow + 1, []cut{{0, 40}, {40, 72}}, "hu"},   // the identification came round
		{3 * repeatWindow, []cut{{40, 72}}, "h"},             // a late repeat begins anew
		{4 * repeatWindow, []cut{{0, 40}}, "u"},              // and serves the next packet of that number
		{4*repeatWindow + 1, []cut{{0, 40}, {40, 72}}, "hh"}, // again repeats
	}
	for i, s := range steps {
		if got := feed(t, d, false, s.now, 1, s.cuts...); got != s.want {
			t.Errorf("step %d: got %s, want %s", i, got, s.want)
		}
	}
	if n := d.FragmentStats(); n != (FragmentStats{}) {
		t.Errorf("%+v", n)
	}
}

// TestEviction floods the table with packets that never become whole.
func TestEviction(t *testing.T) {
	d := New(Config{FragmentBytes: 64 << 10})
	const flood = 10000
	for id := range flood {
		feed(t, d, true, int64(id), id, cut{0, 40})
	}
	n := d.FragmentStats()
	if n.Evicted == 0 || n.Unfinished == 0 || n.Evicted+uint64(n.Unfinished) != flood || n.Expired != 0 {
		t.Fatalf("%+v", n)
	}
	if got := feed(t, d, true, flood, flood-1, cut{40, 72}); got != "u" {
		t.Errorf("the newest packet: got %s", got)
	}
	if got := feed(t, d, true, flood, 0, cut{40, 72}); got != "h" {
		t.Errorf("the oldest packet: got %s", got)
	}
}

// TestBlockEviction fills the blocks before the entries: one big packet pushes
// out older ones, and what does not fit at all is refused.
func TestBlockEviction(t *testing.T) {
	d := New(Config{FragmentBytes: 16 << 10})
	blocks := len(d.fragments.blocks) - 1
	payload := udp(53, 1000, make([]byte, 40000))
	step := 4 * blockLen
	var outcomes []Outcome
	feed(t, d, false, 0, 99, cut{0, 40})
	for from := 0; from < blocks*blockLen+step; from += step {
		frame := fragment4(1, 17, from, from+step, payload)
		var p Packet
		outcomes = append(outcomes, decodeOne(d, frame, len(frame), LinkRaw, &p))
		checkTable(t, &d.fragments)
	}
	fit := blocks * blockLen / step
	for i, o := range outcomes {
		want := Held
		if i >= fit {
			want = FragmentTable
		}
		if o != want {
			t.Errorf("fragment %d of %d: %v, want %v", i, len(outcomes), o, want)
		}
	}
	if n := d.FragmentStats(); n.Evicted != 1 || n.Unfinished != 1 {
		t.Errorf("%+v", n)
	}
	// A fragment larger than the table leaves nothing behind.
	d = New(Config{FragmentBytes: 16 << 10})
	frame := fragment4(1, 17, 0, 20000, payload)
	var p Packet
	if o := decodeOne(d, frame, len(frame), LinkRaw, &p); o != FragmentTable {
		t.Errorf("%v, want %v", o, FragmentTable)
	}
	checkTable(t, &d.fragments)
	if n := d.FragmentStats(); n != (FragmentStats{}) {
		t.Errorf("%+v", n)
	}
}

func TestNoTable(t *testing.T) {
	for _, budget := range []int{-1, 0, 100} {
		d := New(Config{FragmentBytes: budget})
		if got := feed(t, d, false, 0, 1, cut{0, 40}, cut{40, 72}); got != "ff" {
			t.Errorf("%d bytes: %s", budget, got)
		}
	}
}

// TestBudget holds the memory against what was asked for.
func TestBudget(t *testing.T) {
	if n := unsafe.Sizeof(entry{}); n > entrySize {
		t.Errorf("an entry has %d bytes", n)
	}
	if n := unsafe.Sizeof(block{}); n > blockSize {
		t.Errorf("a block has %d bytes", n)
	}
	for _, budget := range []int{1 << 12, 1 << 16, 1<<20 - 1, 1 << 20, 1<<20 + 1} {
		table := &New(Config{FragmentBytes: budget}).fragments
		got := (len(table.entries)-1)*int(unsafe.Sizeof(entry{})) + (len(table.blocks)-1)*int(unsafe.Sizeof(block{})+blockLen) +
			4*len(table.buckets)
		if got > budget || got < budget*3/4-2000 {
			t.Errorf("%d bytes of %d", got, budget)
		}
	}
}

// TestScratch decodes more packets than the scratch space holds; those decoded
// before stay as they were until the caller resets it.
func TestScratch(t *testing.T) {
	d := New(Config{FragmentBytes: 1 << 16})
	batch := make([]byte, 0, 200) // two packets of 72 bytes
	d.Scratch = batch
	var packets []Packet
	for id := range 2000 {
		for _, c := range []cut{{0, 40}, {40, 72}} {
			frame := fragment4(id, 17, c.from, c.to, data())
			if c.from == 40 {
				frame[51] = byte(id) // data of its own
			}
			p := Packet{Time: 1}
			if decodeOne(d, frame, len(frame), LinkRaw, &p) == UDP {
				packets = append(packets, p)
			}
		}
	}
	if len(packets) != 2000 {
		t.Fatalf("%d packets", len(packets))
	}
	for id, p := range packets {
		if p.Transport[71] != byte(id) || cap(p.Transport) != 72 {
			t.Errorf("packet %d has %x, capacity %d", id, p.Transport[71], cap(p.Transport))
		}
	}
	if &batch[:1][0] != &packets[0].Transport[0] || &batch[:73][72] != &packets[1].Transport[0] {
		t.Error("the caller's space was not used")
	}
	if len(d.Scratch) > maxIPLen || cap(d.Scratch) > maxIPLen {
		t.Errorf("the space grew to %d of %d bytes", len(d.Scratch), cap(d.Scratch))
	}
}

// TestRandomFragments compares with a plain map: packets of random sizes, cut at
// random, shuffled and repeated. Nothing may be lost, and all be as it was sent.
func TestRandomFragments(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	d := New(Config{FragmentBytes: 4 << 20})
	now := int64(0)
	for round := range 200 {
		type fragment struct {
			frame []byte
			id    int
		}
		var frames []fragment
		sent := map[int][]byte{}
		counted := map[int]int{}
		for i := range 20 {
			id := round*20 + i
			payload := make([]byte, 9+r.IntN(5000))
			for j := range payload {
				payload[j] = byte(r.Uint32())
			}
			copy(payload, udp(53, 1000, payload[8:])[:8])
			sent[id] = payload
			for from := 0; from < len(payload); {
				to := min(from+8*(1+r.IntN(100)), len(payload))
				if from == 0 && to == len(payload) {
					to = 8
				}
				f := fragment{fragment6(id, 17, from, to, payload), id}
				frames = append(frames, f)
				counted[id] += len(f.frame)
				for r.IntN(4) == 0 {
					frames = append(frames, f)
				}
				from = to
			}
		}
		r.Shuffle(len(frames), func(i, j int) { frames[i], frames[j] = frames[j], frames[i] })
		d.Scratch = d.Scratch[:0]
		for _, f := range frames {
			p := Packet{Time: now}
			o := decodeOne(d, f.frame, len(f.frame), LinkRaw, &p)
			switch {
			case o == Held:
			case o == UDP && bytes.Equal(p.Transport, sent[f.id]) && int(p.IPBytes) == counted[f.id]:
				delete(sent, f.id)
			default:
				t.Fatalf("packet %d: %v, %d bytes", f.id, o, p.IPBytes)
			}
		}
		if len(sent) != 0 {
			t.Fatalf("round %d: %d packets are missing", round, len(sent))
		}
		checkTable(t, &d.fragments)
		now += 1e9
	}
	if n := d.FragmentStats(); n != (FragmentStats{}) {
		t.Errorf("%+v", n)
	}
}

// TestHostileFragments throws nonsense at a small table, which must stay in
// order.
func TestHostileFragments(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	d := New(Config{FragmentBytes: 32 << 10})
	var outcomes [Outcomes]int
	now := int64(0)
	for range 100000 {
		n := r.IntN(40) * 8
		if r.IntN(4) == 0 {
			n += r.IntN(8)
		}
		if r.IntN(100) == 0 {
			n = r.IntN(3000)
		}
		p := ip4(17, make([]byte, n))
		binary.BigEndian.PutUint16(p[4:], uint16(r.IntN(40)))
		binary.BigEndian.PutUint16(p[6:], uint16(r.IntN(2)*moreFragments|r.IntN(20)))
		now += int64(r.IntN(1e8))
		d.Scratch = d.Scratch[:0]
		packet := Packet{Time: now}
		o := decodeOne(d, p[:20+r.IntN(n+1)], len(p), LinkRaw, &packet)
		outcomes[o]++
		checkPacket(t, o, &packet)
		checkTable(t, &d.fragments)
	}
	t.Log(outcomes)
	for _, o := range []Outcome{Held, BadFragment, BadTransport} {
		if outcomes[o] == 0 {
			t.Errorf("never %v", o)
		}
	}
}

// checkTable counts everything in the table.
func checkTable(t *testing.T, f *fragments) {
	t.Helper()
	if len(f.entries) == 0 {
		return
	}
	free := 0
	for i := f.freeBlock; i != 0; i = f.blocks[i].next {
		free++
	}
	free += len(f.blocks) - int(f.usedBlocks)
	held, unfinished, finished := 0, 0, 0
	for i := f.unfinished.oldest; i != 0; i = f.entries[i].newer {
		unfinished++
		e := &f.entries[i]
		if e.state != waiting || f.find(&e.key, f.bucket(&e.key)) != i {
			t.Fatalf("entry %d is lost, or in the wrong list", i)
		}
		pieces, end, last, have := 0, -1, int32(0), 0
		for j := e.first; j != 0; j = f.blocks[j].piece {
			b := f.blocks[j]
			if int(b.start) < end || b.end <= b.start || b.captured > b.end-b.start {
				t.Fatalf("piece %+v after %d", b, end)
			}
			pieces++
			have += int(b.end - b.start)
			end, last = int(b.end), j
			blocks := 0
			for k := j; k != 0; k = f.blocks[k].next {
				blocks++
			}
			if blocks != max(1, (int(b.captured)+blockLen-1)/blockLen) {
				t.Fatalf("%d blocks for %d bytes", blocks, b.captured)
			}
			held += blocks
		}
		if pieces == 0 || pieces != int(e.pieces) || last != e.last || have != int(e.have) {
			t.Fatalf("entry %d: %d pieces to %d, %d bytes: %+v", i, pieces, last, have, e)
		}
	}
	for i := f.finished.oldest; i != 0; i = f.entries[i].newer {
		finished++
		if f.entries[i].state == waiting || f.entries[i].first != 0 {
			t.Fatalf("entry %d is in the wrong list", i)
		}
	}
	freeEntries := len(f.entries) - int(f.usedEntries)
	for i := f.freeEntry; i != 0; i = f.entries[i].chain {
		freeEntries++
	}
	if free != f.freeBlocks || free+held != len(f.blocks)-1 {
		t.Fatalf("%d blocks free, counted as %d, %d held, of %d", free, f.freeBlocks, held, len(f.blocks)-1)
	}
	if unfinished != f.waiting || unfinished+finished+freeEntries != len(f.entries)-1 {
		t.Fatalf("%d unfinished, counted as %d, %d finished, %d free, of %d", unfinished, f.waiting, finished, freeEntries, len(f.entries)-1)
	}
}

func ExampleDecoder_Decode() {
	d := New(Config{FragmentBytes: 1 << 20})
	d.Scratch = make([]byte, 0, 1<<16)
	frame := eth(typeIPv4, ip4(ProtocolTCP, tcp("hello")))
	p := Packet{Time: 1}
	if d.Decode(frame, uint32(len(frame)), LinkEthernet, 0, &p) == TCP {
		fmt.Println(p.Src.Netip(), p.SrcPort, p.IPBytes, string(p.Payload()))
	}
	// Output: 10.0.0.1 1000 45 hello
}
