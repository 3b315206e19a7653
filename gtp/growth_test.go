package gtp

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/nametap/nametap/internal/arena"
)

// nthIMSI is the IMSI of the n-th create of a flood.
func nthIMSI(n uint64) Digits {
	b := make([]byte, 8)
	b[7] = 0xf0 | (anna().imsi[14] - '0')
	for k := range 7 {
		b[k] = byte(n/pow100[k]%10) | byte(n/pow100[k]/10%10)<<4
	}
	return digitsFromTBCD(b)
}

// TestGrowthKeepsEverySessionFindable holds that while the table grows, through
// many splits of its chains, each session is found by its tunnels, its address,
// its identity and its scope.
func TestGrowthKeepsEverySessionFindable(t *testing.T) {
	const most = 5000
	tab, err := New(Config{Sessions: most, Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Close()
	f := newFlood(tab)
	check := func() {
		t.Helper()
		for n := uint64(1); n <= f.n; n++ {
			r, _, ok := tab.ByTEID(ip4(10, 0, 3, 1), uint32(n))
			down, _, okDown := tab.ByTEID(ip4(10, 0, 2, 1), uint32(n))
			ue := Addr{0, v4Prefix | 0x0a000000 | n}
			by, okUE := tab.ByUE(ue, NoAPN)
			if !ok || !okDown || !okUE || down != r || by != r {
				t.Fatalf("session %d of %d: %v %v, %v %v, %v %v", n, f.n, r, ok, down, okDown, by, okUE)
			}
			s := tab.Session(r)
			if s.UEv4 != ue || s.IMSI != nthIMSI(n) || s.Gateway != ip(pgw) {
				t.Fatalf("session %d is another", n)
			}
			if o, ok := tab.Owner(r.Scope); !ok || o.IMSI != s.IMSI || tab.APNName(o.APN) != "internet" {
				t.Fatalf("session %d has no owner", n)
			}
		}
	}
	for f.n < most {
		f.create()
		if f.n < 200 || f.n%977 == 0 {
			check()
		}
	}
	check()
	if err := tab.invariants(); err != "" {
		t.Fatal(err)
	}
	if tab.user.chains.size != 2*most || tab.scopes.size != most {
		t.Errorf("%d chains of %d endpoints, %d of %d scopes", tab.user.chains.size, tab.user.n, tab.scopes.size, tab.scopes.n)
	}
}

// TestFewSessionsTakeLittle holds that a table laid out for millions costs what
// its few sessions take.
func TestFewSessionsTakeLittle(t *testing.T) {
	before := resident()
	if before == 0 {
		t.Skip("the system does not say how much memory is in use")
	}
	reserved := arena.Reserved()
	config := Config{Sessions: 4_000_000}
	tab, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Close()
	// What lies in Go's heap, the names of APNs and gateways, is planned too.
	heap := int64(1024*2*maxAPN + maxGateways*2*unsafe.Sizeof(Addr{}))
	if got, want := arena.Reserved()-reserved, config.Bytes()-heap; got > want || got < want-64<<10 {
		t.Errorf("%d bytes reserved, %d planned", got, want)
	}
	f := newFlood(tab)
	for range 1000 {
		f.create()
	}
	if grown := resident() - before; grown > 4<<20 {
		t.Errorf("a thousand sessions made the process grow by %d KiB", grown>>10)
	}
}

// TestKeysOfAllKinds holds the index against a list, with narrow and wide keys of
// equal parts.
func TestKeysOfAllKinds(t *testing.T) {
	var x index
	if err := x.init(400, 3, 5); err != nil {
		t.Fatal(err)
	}
	defer x.close()
	var keys []key
	for _, a := range []Addr{
		ip("10.0.0.1"), ip("239.255.255.255"), ip("240.0.0.1"), ip("255.255.255.255"), ip("0.0.0.1"),
		ip("2001:db8::1"), ip("2001:db8::a00:1"),
		{0, 0x0a000001},
		{^uint64(0), ^ip("10.0.0.1").Lo},
		{1 << 32, 1},
	} {
		for _, id := range []uint64{1, 2, 1<<32 - 1, 1 << 32, 1<<32 | 1, 1<<63 | 1, 0} {
			keys = append(keys, key{a.Hi, a.Lo, id})
		}
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	in := map[key]bool{}
	for step := range 50_000 {
		k := keys[rnd.IntN(len(keys))]
		switch i := x.find(k); {
		case (i >= 0) != in[k]:
			t.Fatalf("step %d: %x is at %d, want it there: %v", step, k, i, in[k])
		case i < 0:
			x.insert(k, 1+uint32(rnd.IntN(3)))
			in[k] = true
		case x.key(i) != k:
			t.Fatalf("step %d: %x is at the place of %x", step, x.key(i), k)
		default:
			x.delete(i)
			delete(in, k)
		}
		if x.n != len(in) {
			t.Fatalf("step %d: %d entries, want %d", step, x.n, len(in))
		}
	}
	for s := uint32(1); s <= 3; s++ {
		x.deleteAll(s)
	}
	if x.n != 0 || x.vacant != 401 {
		t.Errorf("%d entries and %d free places are left of 401", x.n, x.vacant)
	}
}

// FuzzByTEID holds that the short way of a G-PDU finds exactly
// what the long way finds, whatever stands in the table.
func FuzzByTEID(f *testing.F) {
	f.Add(uint64(0), uint64(0xffff0a000001), uint32(1), uint64(0), uint64(0xffff0a000001), uint64(1))
	f.Add(uint64(0), uint64(0xfffff0000001), uint32(1), uint64(0), uint64(0xfffff0000001), uint64(1))
	f.Add(uint64(0), uint64(0xfffff0000002), uint32(1), uint64(1), uint64(1), uint64(1))
	f.Add(uint64(0x20010db8<<32), uint64(1), uint32(7), uint64(0x20010db8<<32), uint64(1), uint64(7))
	f.Fuzz(func(t *testing.T, hi, lo uint64, teid uint32, keyHi, keyLo, id uint64) {
		tab, err := New(Config{Sessions: 2})
		if err != nil {
			t.Fatal(err)
		}
		defer tab.Close()
		tab.Advance(1)
		s := tab.create(V2)
		tab.user.insert(key{keyHi, keyLo, id}, s)
		_, _, ok := tab.ByTEID(Addr{hi, lo}, teid)
		if want := (key{hi, lo, uint64(teid)}) == (key{keyHi, keyLo, id}); ok != want {
			t.Errorf("found: %v, want %v", ok, want)
		}
		if want := tab.user.find(key{hi, lo, uint64(teid)}) >= 0; ok != want {
			t.Errorf("found: %v, and the long way %v", ok, want)
		}
		tab.Touch(Addr{hi, lo}, teid)
	})
}

// TestOwnersOfEndedSessions holds that of sessions that had a note, and of no
// others, the owner is remembered, until as many later ones have ended as there
// is room for.
func TestOwnersOfEndedSessions(t *testing.T) {
	config := Config{Sessions: 64}
	c := newCore(t, config)
	type ended struct {
		scope uint32
		imsi  string
	}
	var noted []ended
	for i := range pastPlaces(64) + 100 {
		u := &ue{imsi: fmt.Sprintf("26203%010d", i), apn: fmt.Sprintf("apn%d", i%3), v4: fmt.Sprintf("10.50.%d.%d", i/250, 1+i%250), ebi: 5, base: uint32(0x1000 * (i + 1))}
		c.attachS5(u)
		r, _, _ := c.tab.ByTEID(ip(pgwu), u.pgwU())
		c.want("no note at first", c.tab.Note(r), uint8(0))
		if i%10 != 0 {
			c.tab.SetNote(r, 7)
			c.want("note", c.tab.Note(r), uint8(7))
			noted = append(noted, ended{r.Scope, u.imsi})
		}
		o, ok := c.tab.Owner(r.Scope)
		c.want("owner while it lives", ok && clearDigits(o.IMSI) == u.imsi, true)
		c.detach(u)
		c.wait(2.1)
		o, ok = c.tab.Owner(r.Scope)
		c.want("owner after its end", ok && clearDigits(o.IMSI) == u.imsi && c.tab.APNName(o.APN) == u.apn, i%10 != 0)
	}
	room := pastPlaces(64)
	for i, e := range noted {
		o, ok := c.tab.Owner(e.scope)
		if want := i >= len(noted)-room; ok != want || ok && clearDigits(o.IMSI) != e.imsi {
			t.Fatalf("the %d. of %d: known %v, want %v", i, len(noted), ok, want)
		}
	}
	c.check()
}

// TestScopesStayInTheirRange holds that the serial number begins anew before it
// could be taken for another kind of scope.
func TestScopesStayInTheirRange(t *testing.T) {
	c := newCore(t, Config{})
	c.tab.serial = MaxScope - 1
	u, v := anna(), bert()
	c.attachS5(u)
	c.attachS5(v)
	c.want("the last", c.scope(pgwu, u.pgwU()), uint32(MaxScope))
	c.want("the first", c.scope(pgwu, v.pgwU()), uint32(1))
	c.check()
}

// TestOneWayControlPlane holds that requests whose answers are not on the tap push
// out each other and nothing else, and that all their room comes back.
func TestOneWayControlPlane(t *testing.T) {
	c := newCore(t, Config{Exchanges: 40_000}) // messages for 2500
	x := &c.tab.exchanges
	u := anna()
	const n = 6000
	for i := range n {
		c.send(sgw, pgw, u.s5Request(uint32(i)))
	}
	room := messagesFor(40_000)
	c.want("evicted", c.tab.counters.ExchangesEvicted, uint64(n-room))
	c.want("waiting", int(x.last-x.first), room)
	c.send(pgw, sgw, u.s5Response(n-1))
	c.want("the latest is there", clearDigits(c.session(pgwu, u.pgwU()).IMSI), u.imsi)
	c.wait(40)
	c.want("all is over", x.empty() && x.idles == int(x.used), true)
}
