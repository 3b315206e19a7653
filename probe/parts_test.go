package probe

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/flows"
)

func addr(s string) decode.Addr { return decode.AddrFrom(netip.MustParseAddr(s)) }

func TestPrefixes(t *testing.T) {
	for _, c := range []struct {
		prefix, addr string
		want         bool
	}{
		{"10.0.0.0/8", "10.255.0.1", true},
		{"10.0.0.0/8", "11.0.0.1", false},
		{"100.64.0.0/10", "100.127.255.255", true},
		{"100.64.0.0/10", "100.128.0.0", false},
		{"192.0.2.7/32", "192.0.2.7", true},
		{"192.0.2.7/32", "192.0.2.6", false},
		{"0.0.0.0/0", "8.8.8.8", true},
		{"0.0.0.0/0", "2001:db8::1", false},
		{"::/0", "8.8.8.8", true},
		{"::ffff:10.0.0.0/104", "10.1.2.3", true},
		{"::ffff:10.0.0.0/104", "11.1.2.3", false},
		{"fc00::/7", "fdff::1", true},
		{"fc00::/7", "fe00::1", false},
		{"2001:db8::/64", "2001:db8::ffff", true},
		{"2001:db8::/65", "2001:db8:0:0:8000::", false},
		{"2001:db8::1/128", "2001:db8::1", true},
		{"::/0", "2001:db8::1", true},
	} {
		s, err := newSides([]netip.Prefix{netip.MustParsePrefix(c.prefix)}, 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.inside(addr(c.addr)); got != c.want {
			t.Errorf("%s contains %s: %v, want %v", c.prefix, c.addr, got, c.want)
		}
	}
}

func TestSides(t *testing.T) {
	type seg struct {
		src, dst     string
		sport, dport uint16
		flags        uint8
		want         flows.Direction
	}
	const a, b, in, in2 = "198.51.100.1", "203.0.113.9", "10.0.0.1", "10.0.0.2"
	for _, c := range []struct {
		name  string
		asked []string
		segs  []seg
	}{
		{"a prefix decides alone, against SYN and port", nil, []seg{
			{in, a, 80, 40000, decode.SYN | decode.ACK, flows.Up}, {a, in, 40000, 80, decode.SYN, flows.Down},
		}},
		{"both outside: who sent the SYN, even from the lower port", nil, []seg{
			{a, b, 1024, 5222, decode.SYN, flows.Up},
			{b, a, 5222, 1024, decode.SYN | decode.ACK, flows.Down},
			{a, b, 1024, 5222, decode.ACK, flows.Up},
			{b, a, 5222, 1024, decode.ACK, flows.Down},
		}},
		{"both inside: likewise", nil, []seg{
			{in, in2, 1024, 5222, decode.SYN, flows.Up}, {in2, in, 5222, 1024, decode.ACK, flows.Down},
		}},
		{"only the SYN/ACK was seen", nil, []seg{
			{b, a, 5222, 1024, decode.SYN | decode.ACK, flows.Down}, {a, b, 1024, 5222, decode.ACK, flows.Up},
		}},
		{"mid-stream: who asked DNS", []string{a}, []seg{
			{a, b, 1024, 5222, decode.ACK, flows.Up}, {b, a, 5222, 1024, decode.ACK, flows.Down},
		}},
		{"mid-stream, both asked: the higher port", []string{a, b}, []seg{
			{a, b, 1024, 5222, decode.ACK, flows.Down}, {b, a, 5222, 1024, decode.ACK, flows.Up},
		}},
		{"mid-stream, equal ports: the higher address, from both ends alike", nil, []seg{
			{a, b, 500, 500, decode.ACK, flows.Down}, {b, a, 500, 500, decode.ACK, flows.Up},
		}},
		{"what was decided once stays until a SYN says otherwise", []string{a}, []seg{
			{b, a, 40000, 1024, decode.ACK, flows.Down},
			{b, a, 40000, 1024, decode.SYN, flows.Up},
			{a, b, 1024, 40000, decode.ACK, flows.Down},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := newSides(DefaultSubscribers(), 1000, 7)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range c.asked {
				s.answered(addr(x))
			}
			for i, x := range c.segs {
				p := &decode.Packet{Protocol: decode.ProtocolTCP, Src: addr(x.src), Dst: addr(x.dst), SrcPort: x.sport, DstPort: x.dport, Flags: x.flags}
				if got := s.direction(p); got != x.want {
					t.Errorf("segment %d: direction %d, want %d", i, got, x.want)
				}
			}
		})
	}
}

// TestSubscriber: what the first octets tell is what the prefixes do, and the
// prefix is that of the end which the direction makes the subscriber's.
func TestSubscriber(t *testing.T) {
	prefixes := append(DefaultSubscribers(), netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8::/32"))
	list := []string{"10.1.2.3", "100.64.0.1", "100.128.0.1", "192.168.7.7", "198.51.100.9", "198.51.101.9", "8.8.8.8", "::", "::a", "fc00::1", "2001:db8::2", "2a00::3"}
	for _, src := range list {
		for _, dst := range list {
			if src == dst {
				continue
			}
			s, err := newSides(prefixes, 1000, 7)
			if err != nil {
				t.Fatal(err)
			}
			p := &decode.Packet{Protocol: decode.ProtocolTCP, Src: addr(src), Dst: addr(dst), SrcPort: 40000, DstPort: 443, Flags: decode.SYN}
			dir, prefix := s.subscriber(p)
			if want := s.byPrefix(p); dir != want {
				t.Errorf("%s > %s: direction %d, want %d", src, dst, dir, want)
			}
			if want := subscriberOf(p, dir).Prefix(); prefix != want {
				t.Errorf("%s > %s: prefix %#x, want %#x", src, dst, prefix, want)
			}
		}
	}
}

func TestGenerations(t *testing.T) {
	var g generations
	if err := g.init(1000); err != nil {
		t.Fatal(err)
	}
	key := func(i int) uint64 { return mix(uint64(i), 1) &^ 1 }
	const n = 100_000
	for i := range n {
		g.put(key(i), i%3 == 0)
		if i%100 == 0 {
			if _, ok := g.get(key(0)); !ok {
				t.Fatalf("a key in use was forgotten after %d others", i)
			}
		}
	}
	if len(g.young) > 1024 || len(g.old) > 1024 {
		t.Errorf("grew to %d and %d slots, the cap is 1024", len(g.young), len(g.old))
	}
	for i := n - 100; i < n; i++ {
		if bit, ok := g.get(key(i)); !ok || bit != (i%3 == 0) {
			t.Fatalf("key %d: bit %v, known %v", i, bit, ok)
		}
	}
	if _, ok := g.get(key(n / 2)); ok {
		t.Error("an old unused key is still there: nothing is ever forgotten")
	}
}

func TestPresence(t *testing.T) {
	s, err := newPresence(1000)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, ever, active int) {
		t.Helper()
		if s.Ever[1] != ever || s.Active[1] != active {
			t.Errorf("%s: ever %d, active %d; want %d, %d", what, s.Ever[1], s.Active[1], ever, active)
		}
	}
	if !s.seen(1, 1, 10) || s.seen(1, 1, 10) || !s.seen(1, 1, 11) {
		t.Error("only the first sighting of a minute counts as one")
	}
	s.seen(1, 2, 11)
	check("one address, two classes", 1, 1)
	s.seen(2, 1, 12)
	check("two addresses", 2, 2)
	s.turn(15)
	check("minute 15", 2, 2)
	s.turn(16)
	check("five minutes after the first was seen last", 2, 1)
	s.seen(1, 1, 16)
	check("the first is back", 2, 2)
	s.turn(100)
	check("long after", 2, 0)
	s.seen(2, 1, 100)
	check("back after long", 2, 1)
}

func TestPresenceAcrossTheWrapOfMinutes(t *testing.T) {
	s, err := newPresence(100)
	if err != nil {
		t.Fatal(err)
	}
	s.seen(1, 1, 1<<16-2)
	s.turn(1<<16 + 1)
	if s.Active[1] != 1 {
		t.Error("three minutes on, across the wrap of 16 bits, the address is not active")
	}
	s.turn(1<<16 + 4)
	if s.Active[1] != 0 {
		t.Error("six minutes on, the address is still active")
	}
	if s.turn(1<<17 - 1); s.Active[1] != 0 {
		t.Error("45 days on, the address is active again")
	}
	if s.seen(1, 1, 1<<17-1); s.Active[1] != 1 {
		t.Error("45 days on, the address does not count as one that is back")
	}
	var r recent
	if !r.first(1, 1, 5) || r.first(1, 1, 5) || !r.first(1, 1, 1<<16+5) {
		t.Error("only the first sighting of a minute is one, 45 days on too")
	}
}

// TestPresenceOfTheSilent: addresses that get no answer have half of a set, but
// those that are known are known, and those of long ago make room for them.
func TestPresenceOfTheSilent(t *testing.T) {
	s, err := newPresence(1000)
	if err != nil {
		t.Fatal(err)
	}
	silent := func(mark uint64, minute uint32) bool {
		took := s.takes(mark, 1, minute)
		if took {
			s.seen(mark, 1, minute)
		}
		return took
	}
	full := uint64(s.most / 2)
	for mark := range full {
		s.seen(mark, 1, 10)
	}
	if silent(full, 14) || !silent(0, 14) {
		t.Error("minute 14: one that is unknown was taken into a set that is half full, or one that is known was not")
	}
	if !silent(full, 15) || s.Active[1] != int(full)+1 {
		t.Errorf("minute 15: those of five minutes ago kept a newcomer out; %d are active", s.Active[1])
	}
	if s.turn(15); s.Active[1] != 2 || s.n != 2 {
		t.Errorf("minute 15: %d are left and %d active, want the two of the last five minutes", s.n, s.Active[1])
	}
	// Of a flood, only the first of a minute is worth a look for room.
	for mark := range full {
		silent(1<<32+mark, 20)
	}
	s.seen(1<<33, 1, 10) // would have to go
	held := s.n
	for mark := range full {
		silent(1<<34+mark, 20)
		silent(1<<35+mark, 19) // of another engine, which is a little behind
	}
	if s.n != held {
		t.Errorf("%d are held, want the %d that a minute began with", s.n, held)
	}
}

func TestPresenceFull(t *testing.T) {
	const entries = 3000
	s, err := newPresence(entries)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(10 * entries) {
		s.seen(i, 1, 10)
	}
	if s.n < entries || s.n > len(s.slots) || s.Refused == 0 {
		t.Errorf("%d held of %d slots, %d refused", s.n, len(s.slots), s.Refused)
	}
	held := s.n
	s.seen(1<<40, 1, 20)
	if s.n >= held || s.Active[1] == 0 {
		t.Errorf("%d held after those of ten minutes ago could go", s.n)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	alive := map[uint64]uint32{}
	for m := uint32(21); m < 60; m++ {
		for range 400 {
			x := rng.Uint64N(5000)
			s.seen(x, 1, m)
			alive[x] = m
		}
	}
	for x, m := range alive {
		if m == 59 && s.seen(x, 1, 59) {
			t.Fatalf("address %d of this minute is not found again", x)
		}
	}
}

// rosterSteps are answers of a roster and what it says after them.
func TestRoster(t *testing.T) {
	const chat, photo, third, fourth, fifth = 2, 3, 4, 5, 6
	type answer struct {
		at, until  int64
		subscriber uint32
		class      uint8
		name       string
	}
	type ask struct {
		at         int64
		subscriber uint32
		want       string
	}
	for _, c := range []struct {
		name    string
		answers []answer
		asks    []ask
	}{
		{"nobody asked", nil, []ask{{5, 9, ""}}},
		{"another subscriber asked", []answer{{1, 10, 1, chat, "e1"}}, []ask{{5, 9, "e1"}, {1, 9, "e1"}, {10, 9, "e1"}}},
		{"too early and too late", []answer{{1, 10, 1, chat, "e1"}}, []ask{{0, 9, ""}, {11, 9, ""}}},
		{"one's own answer is no other's", []answer{{1, 10, 1, chat, "e1"}}, []ask{{5, 1, ""}}},
		{"one's own beside another's", []answer{{1, 10, 1, chat, "e1"}, {2, 10, 2, chat, "e2"}}, []ask{{5, 1, "e2"}}},
		{"classes that agree: the newest name", []answer{{1, 10, 1, chat, "e1"}, {3, 12, 2, chat, "e2"}, {2, 11, 3, chat, "e3"}}, []ask{{5, 9, "e2"}}},
		{"classes that differ", []answer{{1, 10, 1, chat, "e1"}, {3, 12, 2, photo, "m1"}}, []ask{{5, 9, ""}}},
		{"… only the recent ones count", []answer{{1, 10, 1, chat, "e1"}, {3, 20, 2, photo, "m1"}}, []ask{{11, 9, "m1"}}},
		{"… and one's own does not contradict", []answer{{1, 10, 1, chat, "e1"}, {3, 20, 2, photo, "m1"}}, []ask{{5, 1, "m1"}, {5, 2, "e1"}}},
		{"a claim renewed after a pause starts anew", []answer{{1, 10, 1, chat, "e1"}, {20, 30, 2, chat, "e2"}}, []ask{{15, 9, ""}, {25, 9, "e2"}}},
		{
			"more classes than there is room for",
			[]answer{
				{1, 10, 1, chat, "a"},
				{1, 10, 1, photo, "b"},
				{1, 10, 1, third, "c"},
				{1, 10, 1, fourth, "d"},
				{1, 40, 1, fifth, "e"},
				{20, 50, 1, chat, "f"},
			},
			[]ask{{5, 9, ""}, {30, 9, ""}, {45, 9, "f"}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := newRoster(100, 3)
			if err != nil {
				t.Fatal(err)
			}
			server := addr("31.13.86.51")
			var l facts
			for _, x := range c.answers {
				l.keep([]byte(x.name))
				l.add(fact{server: server, answered: x.at, until: x.until, subscriber: x.subscriber, class: x.class})
			}
			r.learn(&l)
			for _, x := range c.asks {
				if got := string(r.lookup(nil, server, x.at, x.subscriber)); got != x.want {
					t.Errorf("at %d for subscriber %d: %q, want %q", x.at, x.subscriber, got, x.want)
				}
			}
		})
	}
}

func TestRosterEvicts(t *testing.T) {
	const servers = 500
	r, err := newRoster(servers, 3)
	if err != nil {
		t.Fatal(err)
	}
	at := func(i int) decode.Addr { return decode.Addr{Lo: 0xffff<<32 | uint64(i)} }
	for i := range 20 * servers {
		var l facts
		l.keep(fmt.Appendf(nil, "e%d.whatsapp.net", i))
		l.add(fact{server: at(i), answered: 1, until: 10, subscriber: 1, class: 2})
		r.learn(&l)
	}
	if r.Evicted != 19*servers {
		t.Errorf("%d evicted, want %d", r.Evicted, 19*servers)
	}
	found := 0
	for i := range 20 * servers {
		name := string(r.lookup(nil, at(i), 5, 9))
		if name != "" && name != fmt.Sprintf("e%d.whatsapp.net", i) {
			t.Fatalf("server %d has the name %s", i, name)
		}
		if name != "" {
			found++
		}
	}
	if found != servers {
		t.Errorf("%d servers found, want %d", found, servers)
	}
	if stats := r.names.Stats(); stats.Names > servers {
		t.Errorf("%d names held for %d servers", stats.Names, servers)
	}
}

func TestClassLimitsAgree(t *testing.T) {
	if classify.MaxIDs != flows.MaxClasses {
		t.Errorf("classify has %d ids, flows %d classes", classify.MaxIDs, flows.MaxClasses)
	}
}
