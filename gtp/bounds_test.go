package gtp

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
)

// index against the obvious: a list of pairs.
func TestIndexAgainstList(t *testing.T) {
	const sessions, size = 20, 60
	var x index
	if err := x.init(size, sessions, 1); err != nil {
		t.Fatal(err)
	}
	defer x.close()
	type pair struct {
		k key
		s uint32
	}
	var list []pair
	rnd := rand.New(rand.NewPCG(1, 2))
	for step := range 200_000 {
		k := key{rnd.Uint64N(2), rnd.Uint64N(3), rnd.Uint64N(8)}
		s := uint32(rnd.Uint64N(sessions)) + 1
		switch op := rnd.Uint64N(100); {
		case op < 55 && !x.full():
			x.insert(k, s)
			list = append(list, pair{k, s})
		case op < 95:
			i := x.findOf(k, s)
			n := slices.Index(list, pair{k, s})
			if (i >= 0) != (n >= 0) {
				t.Fatalf("step %d: place %d, list %d", step, i, n)
			}
			if i >= 0 {
				x.delete(i)
				list = slices.Delete(list, n, n+1)
			}
		case op < 98:
			x.deleteAll(s)
			list = slices.DeleteFunc(list, func(p pair) bool { return p.s == s })
		default:
			to := uint32(rnd.Uint64N(sessions)) + 1
			if to == s {
				continue
			}
			x.giveAll(s, to)
			for i := range list {
				if list[i].s == s {
					list[i].s = to
				}
			}
		}
		if x.n != len(list) {
			t.Fatalf("step %d: %d entries, %d in the list", step, x.n, len(list))
		}
		found := 0
		for i := x.find(k); i >= 0; i = x.next(i, k) {
			found++
		}
		want := 0
		for _, p := range list {
			if p.k == k {
				want++
			}
		}
		if found != want {
			t.Fatalf("step %d: key found %d times, want %d", step, found, want)
		}
	}
}

func TestExchangesAgainstMap(t *testing.T) {
	const size = 32
	var x exchanges
	if err := x.init(size, 1); err != nil {
		t.Fatal(err)
	}
	defer x.close()
	rnd := rand.New(rand.NewPCG(3, 4))
	truth := map[exchangeKey]int64{}
	for step := range int64(100_000) {
		k := exchangeKey{initiator: Addr{0, rnd.Uint64N(4)}, seq: uint32(rnd.Uint64N(16))}
		e := x.find(&k)
		born, ok := truth[k]
		if (e != nil) != ok || ok && e.born != born {
			t.Fatalf("step %d: %v, want %v %d", step, e != nil, ok, born)
		}
		switch {
		case e != nil && rnd.Uint64N(2) == 0:
			x.forget(e)
			delete(truth, k)
		case e == nil:
			if x.full() {
				if o := x.oldest(); o.state != exchangeGone {
					delete(truth, o.key)
				}
				x.shift()
			}
			e = x.add(&k)
			e.born, e.state = step, exchangeAsked
			truth[k] = step
		}
	}
}

// flood sends creates that nobody ever deletes.
type flood struct {
	tab      *Table
	now      int64
	n        uint64
	ask, say []byte
}

func newFlood(tab *Table) *flood {
	u := anna()
	return &flood{tab: tab, now: 1_700_000_000 * second, ask: u.s5Request(1), say: u.s5Response(1)}
}

func (f *flood) create() {
	f.n++
	f.now += 100_000
	for _, b := range [2][]byte{f.ask, f.say} {
		binary.BigEndian.PutUint32(b[8:], uint32(f.n)<<8)
		// Every TEID and the user's address are this one's own.
		for i := 12; i+4 <= len(b); {
			n := int(binary.BigEndian.Uint16(b[i+1:]))
			switch b[i] {
			case v2FTEID:
				binary.BigEndian.PutUint32(b[i+5:], uint32(f.n))
			case v2PAA:
				if b[i+5] != 0 {
					binary.BigEndian.PutUint32(b[i+5:], 0x0a000000|uint32(f.n)&0xffffff)
				}
			case v2IMSI:
				for k := range 7 {
					b[i+4+k] = byte(f.n/pow100[k]%10) | byte(f.n/pow100[k]/10%10)<<4
				}
			case v2BearerContext:
				i += 4
				continue
			}
			i += 4 + n
		}
	}
	binary.BigEndian.PutUint32(f.say[4:], uint32(f.n))
	f.tab.Control(f.ask, ip4(10, 0, 0, 2), ip4(10, 0, 0, 3), PortGTPC, PortGTPC, f.now)
	f.tab.Control(f.say, ip4(10, 0, 0, 3), ip4(10, 0, 0, 2), PortGTPC, PortGTPC, f.now+1000)
}

var pow100 = [7]uint64{1, 100, 10_000, 1_000_000, 100_000_000, 10_000_000_000, 1_000_000_000_000}

func ip4(a, b, c, d byte) Addr { return addrFrom4([]byte{a, b, c, d}) }

// resident is the process's memory in octets, 0 where the system does not say.
func resident() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, pages int64
	if _, err := fmt.Sscan(string(b), &size, &pages); err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// Creates without deletes stay within the configured memory. The benchmark
// CreateFlood does the same with -benchtime 10000000x.
func TestFloodOfCreates(t *testing.T) {
	n := 400_000
	if testing.Short() {
		n = 60_000
	}
	config := Config{Sessions: 20_000}
	tab, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Close()
	f := newFlood(tab)
	before := resident()
	for range n {
		f.create()
	}
	if grown := resident() - before; before > 0 && grown > config.Bytes()+8<<20 {
		t.Errorf("%d MiB more, %d MiB configured", grown>>20, config.Bytes()>>20)
	}
	if err := tab.invariants(); err != "" {
		t.Fatal(err)
	}
	c := tab.Counters()
	if tab.Active() != 20_000 || c.Created != uint64(n) || c.Evicted != uint64(n-20_000) {
		t.Errorf("active %d, created %d, evicted %d", tab.Active(), c.Created, c.Evicted)
	}
	if r, _, ok := tab.ByTEID(ip4(10, 0, 3, 1), uint32(n)); !ok || tab.Session(r).UEv4 != ip4(10, byte(n>>16), byte(n>>8), byte(n)) {
		t.Error("the latest session is not found")
	}
}

func TestControlDoesNotAllocate(t *testing.T) {
	c := newCore(t, Config{Sessions: 1000})
	u, v := anna(), bert()
	c.attach(u)
	c.activate(v)
	f := newFlood(c.tab)
	f.now = c.now + second
	f.create() // the APN's first sight
	for name, do := range map[string]func(){
		"create": f.create,
		"flood beyond the cap": func() {
			for range 100 {
				f.create()
			}
		},
		"handover": nil,
	} {
		if do == nil { // built before, because the builders allocate
			ask, say := modifyRequest(u.sgwC(), 1, 5, enb2, 0x77), modifyResponse(u.mmeC(), 1, 5, 16)
			seq := uint32(0)
			do = func() {
				seq++
				f.now += second
				binary.BigEndian.PutUint32(ask[8:], seq<<8)
				binary.BigEndian.PutUint32(say[8:], seq<<8)
				c.tab.Control(ask, ip4(10, 0, 0, 1), ip4(10, 0, 0, 2), PortGTPC, PortGTPC, f.now)
				c.tab.Control(say, ip4(10, 0, 0, 2), ip4(10, 0, 0, 1), PortGTPC, PortGTPC, f.now)
			}
		}
		if n := testing.AllocsPerRun(50, do); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	for _, row := range parseRows {
		if n := testing.AllocsPerRun(5, func() {
			port := uint16(PortGTPC)
			if row.pfcp {
				port = PortPFCP
			}
			f.now++
			c.tab.Control(row.b, ip4(10, 0, 0, 9), ip4(10, 0, 0, 8), port, port, f.now)
		}); n != 0 {
			t.Errorf("%s: %v allocations", row.name, n)
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		c.tab.ByTEID(ip4(10, 0, 3, 1), u.pgwU())
		c.tab.ByTEID(ip4(10, 0, 3, 1), 0xdead)
		c.tab.ByUE(ip4(10, 45, 0, 2), NoAPN)
	}); n != 0 {
		t.Errorf("look-ups: %v allocations", n)
	}
}

// replay of what a fuzzer made: from, to, family, length, octets.
func replay(tab *Table, b []byte) {
	now := int64(1)
	for len(b) >= 5 {
		n := int(binary.BigEndian.Uint16(b[3:]))
		from, to := ip4(10, 0, 0, b[0]&7), ip4(10, 0, 0, b[1]&7)
		if b[2]&2 != 0 {
			from.Hi, to.Hi = 0xfd00<<48, 0xfd00<<48
		}
		port := uint16(PortGTPC)
		if b[2]&1 != 0 {
			port = PortPFCP
		}
		now += int64(b[2]>>2) * second / 4
		b = b[5:]
		n = min(n, len(b))
		tab.Control(b[:n], from, to, port, port, now)
		b = b[n:]
	}
}

func datagrams(list ...any) (b []byte) {
	for i := 0; i < len(list); i += 3 {
		from, to, p := byte(list[i].(int)), byte(list[i+1].(int)), list[i+2].([]byte)
		family := byte(4)
		if len(p) > 0 && p[0]>>4 == 2 {
			family |= 1
		}
		b = append(b, from, to, family)
		b = append(append(b, be16(len(p))...), p...)
	}
	return b
}

func FuzzControl(f *testing.F) {
	u, v := anna(), bert()
	f.Add(datagrams(1, 2, u.s11Request(1), 2, 3, u.s5Request(2), 3, 2, u.s5Response(2), 2, 1, u.s11Response(1),
		1, 2, modifyRequest(u.sgwC(), 3, 5, enb, 9), 2, 1, modifyResponse(u.mmeC(), 3, 5, 16),
		3, 2, v2msg(95, u.s5C(), 4, ie(73, 5), bearer(0, 0, fteid(1, 5, 99, pgwu))),
		2, 3, v2msg(96, u.pgwC(), 4, cause2(16), bearer(0, 6, cause2(16), fteid(2, 4, 98, sgwu), fteid(3, 5, 99, pgwu))),
		1, 2, v2msg(170, u.sgwC(), 5), 2, 1, v2msg(171, u.mmeC(), 5, cause2(16)),
		2, 3, v2msg(99, u.pgwC(), 6, ie(73, 5)), 3, 2, v2msg(100, u.s5C(), 6, cause2(16), ie(73, 5))))
	f.Add(datagrams(4, 5, v.v1Request(1), 5, 4, v.v1Response(1),
		4, 5, v1msg(16, v.pgwC(), 2, v1teid(16, 97), tv(20, 6), tv(20, 5)), 5, 4, v1msg(17, v.mmeC(), 2, tv(1, 128), v1teid(16, 96)),
		4, 5, v1msg(18, v.pgwC(), 3, v1teid(16, 95), v1teid(17, 94), tv(20, 5)), 5, 4, v1msg(19, 94, 3, tv(1, 128)),
		4, 5, v1msg(20, v.pgwC(), 4, tv(19, 1), tv(20, 5)), 5, 4, v1msg(21, 94, 4, tv(1, 128))))
	f.Add(datagrams(6, 7, pfcpmsg(50, 0, 1, fseid(5, "10.0.0.6"), pdr(1, 1, 0, pchoose(), pue("10.60.0.1")), far(3, 2, 0)),
		7, 6, pfcpmsg(51, 5, 1, pie(19, []byte{1}), fseid(9, "10.0.0.7"), pie(8, pie(56, be16(1)), pfteid(3, upf))),
		6, 7, pfcpmsg(52, 9, 2, far(10, 2, pfcpNone, outer(4, gnb))), 7, 6, pfcpmsg(53, 5, 2, pie(19, []byte{1})),
		6, 7, pfcpmsg(54, 9, 3), 7, 6, pfcpmsg(55, 5, 3, pie(19, []byte{1}))))
	config := Config{Sessions: 12, Endpoints: 30, Exchanges: 8, APNs: 4}
	tab, err := New(config)
	if err != nil {
		f.Fatal(err)
	}
	tab.Close()
	f.Fuzz(func(t *testing.T, b []byte) {
		tab, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		defer tab.Close()
		replay(tab, b)
		if err := tab.invariants(); err != "" {
			t.Fatal(err)
		}
		if tab.Active() > config.Sessions || tab.Endpoints() > config.Endpoints {
			t.Fatalf("%d sessions, %d endpoints", tab.Active(), tab.Endpoints())
		}
		if len(tab.apnNames) > config.APNs+2 {
			t.Fatalf("%d APNs", len(tab.apnNames))
		}
		tab.Advance(tab.now + int64(config.withDefaults().Answer) + second)
		if !tab.exchanges.empty() {
			t.Fatal("an exchange waits for ever")
		}
	})
}

// Mutated scenarios of several subscribers, in any order: no order of messages
// may break an invariant.
func TestScenariosInAnyOrder(t *testing.T) {
	rounds := 300
	if testing.Short() {
		rounds = 30
	}
	for round := range rounds {
		rnd := rand.New(rand.NewPCG(uint64(round), 9))
		tab, err := New(Config{Sessions: 10, Endpoints: 28, Exchanges: 12, APNs: 3, Seed: uint64(round)})
		if err != nil {
			t.Fatal(err)
		}
		now := int64(1)
		for range 200 {
			u := anna()
			u.base = uint32(rnd.Uint64N(6)) * 4 // TEIDs of subscribers overlap
			u.imsi = fmt.Sprintf("26201000000000%d", rnd.Uint64N(4))
			u.v4 = fmt.Sprintf("10.45.0.%d", 1+rnd.Uint64N(3))
			u.apn = string(rune('a' + rnd.Uint64N(5)))
			u.ebi = byte(5 + rnd.Uint64N(2))
			seq := uint32(rnd.Uint64N(5))
			seid := 1 + rnd.Uint64N(4)
			menu := [][]byte{
				u.s11Request(seq), u.s11Response(seq), u.s5Request(seq), u.s5Response(seq),
				modifyRequest(u.sgwC(), seq, u.ebi, enb, u.base+9), modifyResponse(u.mmeC(), seq, u.ebi, 16), modifyResponse(u.mmeC(), seq, u.ebi, 72),
				v2msg(36, u.sgwC(), seq, ie(73, u.ebi)), v2msg(37, u.mmeC(), seq, cause2(16)),
				v2msg(170, u.sgwC(), seq), v2msg(171, u.mmeC(), seq, cause2(16)),
				v2msg(95, u.mmeC(), seq, ie(73, u.ebi), bearer(0, 0, fteid(0, 1, u.base+10, sgwu))),
				v2msg(96, u.sgwC(), seq, cause2(16), bearer(0, 7, cause2(16), fteid(0, 0, u.base+11, enb), fteid(1, 1, u.base+10, sgwu))),
				v2msg(99, u.mmeC(), seq, iei(73, 1, 7)), v2msg(100, u.sgwC(), seq, cause2(16), bearer(0, 7, cause2(16))),
				u.v1Request(int(seq)), u.v1Response(int(seq)),
				v1msg(18, u.pgwC(), int(seq), v1teid(16, u.base+12), v1teid(17, u.base+13), tv(20, u.ebi)), v1msg(19, u.mmeC(), int(seq), tv(1, 128)),
				v1msg(20, u.pgwC(), int(seq), tv(20, u.ebi)), v1msg(21, u.mmeC(), int(seq), tv(1, 128)),
				pfcpmsg(50, 0, seq, fseid(seid, sgw), pdr(1, 1, 1, pchoose()), pdr(1, 2, 0, pchoose()), far(3, 1, 0, outer(u.base+9, enb)), far(3, 2, 1, outer(u.pgwU(), pgwu))),
				pfcpmsg(51, seid, seq, pie(19, []byte{1}), fseid(seid, sgwu), pie(8, pie(56, be16(1)), pfteid(u.s5U(), sgwu)), pie(8, pie(56, be16(2)), pfteid(u.sgwU(), sgwu))),
				pfcpmsg(52, seid, seq, far(10, 1, pfcpNone, outer(u.base+14, enb2))), pfcpmsg(53, seid, seq, pie(19, []byte{1})),
				pfcpmsg(54, seid, seq), pfcpmsg(55, seid, seq, pie(19, []byte{1})),
			}
			nodes := [][2]string{{mme, sgw}, {sgw, pgw}, {sgsn, ggsn}, {sgw, sgwu}}
			b := menu[rnd.IntN(len(menu))]
			pair := nodes[rnd.IntN(len(nodes))]
			port := uint16(PortGTPC)
			if b[0] == 0x21 {
				port = PortPFCP
			}
			if rnd.IntN(2) == 0 {
				pair[0], pair[1] = pair[1], pair[0]
			}
			now += int64(rnd.Uint64N(uint64(second)))
			tab.Control(b, ip(pair[0]), ip(pair[1]), port, port, now)
			tab.ByTEID(ip(sgwu), uint32(rnd.Uint64N(40)))
			if err := tab.invariants(); err != "" {
				t.Fatalf("round %d: %s", round, err)
			}
		}
		tab.Close()
	}
}

func BenchmarkCreateFlood(b *testing.B) {
	config := Config{Sessions: 100_000}
	tab, err := New(config)
	if err != nil {
		b.Fatal(err)
	}
	defer tab.Close()
	f := newFlood(tab)
	before := resident()
	b.ReportAllocs()
	for b.Loop() {
		f.create()
	}
	b.ReportMetric(float64(resident()-before)/(1<<20), "MiB-grown")
	b.ReportMetric(float64(config.Bytes())/(1<<20), "MiB-configured")
}

func BenchmarkParseCreateSession(b *testing.B) {
	u := anna()
	msg := u.s11Request(1)
	var m Message
	b.ReportAllocs()
	for b.Loop() {
		m.Parse(msg, false)
	}
}

// fill makes n sessions with two endpoints each.
func fill(b *testing.B, n int) *Table {
	b.Helper()
	tab, err := New(Config{Sessions: n})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(tab.Close)
	f := newFlood(tab)
	for range n {
		f.create()
	}
	if tab.Active() != n {
		b.Fatalf("%d sessions", tab.Active())
	}
	return tab
}

func BenchmarkByTEID(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprintf("sessions=%d", n), func(b *testing.B) {
			tab := fill(b, n)
			b.Run("hot", func(b *testing.B) { // a few subscribers, in cache
				teid := uint32(0)
				for b.Loop() {
					teid = teid&63 + 1
					if _, _, ok := tab.ByTEID(ip4(10, 0, 3, 1), teid); !ok {
						b.Fatal("not found")
					}
				}
			})
			b.Run("random", func(b *testing.B) {
				x := uint64(1)
				for b.Loop() {
					x = x*6364136223846793005 + 1442695040888963407
					if _, _, ok := tab.ByTEID(ip4(10, 0, 3, 1), uint32((x>>33)%uint64(n))+1); !ok {
						b.Fatal("not found")
					}
				}
			})
			b.Run("unknown", func(b *testing.B) {
				x := uint64(1)
				for b.Loop() {
					x = x*6364136223846793005 + 1442695040888963407
					if _, _, ok := tab.ByTEID(ip4(10, 0, 9, 9), uint32(x>>33)); ok {
						b.Fatal("found")
					}
				}
			})
		})
	}
}

// Two sessions that turn out to be one, with more endpoints together than one may
// have: the endpoint that showed it may be among those that go.
func TestMergeOfTwoThatAreFull(t *testing.T) {
	c := newCore(t, Config{})
	const k = 0x1000
	var first, created [][]byte
	for i := range 31 {
		first = append(first, pdr(1, i+1, 1, pfteid(uint32(k+i), sgwu)))
		created = append(created, pie(8, pie(56, be16(i+1)), pfteid(uint32(k+0x100+i), sgwu)))
	}
	c.n4(sgw, sgwu, pfcpmsg(50, 0, 1, append([][]byte{fseid(1, sgw)}, first...)...))
	c.n4(sgwu, sgw, pfcpmsg(51, 1, 1, append([][]byte{pie(19, []byte{1}), fseid(1, sgwu)}, created...)...))
	var second [][]byte
	for i := range 30 {
		second = append(second, pdr(1, i+1, 1, pfteid(uint32(k+0x200+i), pgwu)))
	}
	second = append(second, far(3, 1, 0, outer(k, sgwu)))
	c.n4(pgw, pgwu, pfcpmsg(50, 0, 1, append([][]byte{fseid(2, pgw)}, second...)...))
	c.n4(pgwu, pgw, pfcpmsg(51, 2, 1, pie(19, []byte{1}), fseid(2, pgwu)))
	c.want("merged", c.tab.counters.Merged, uint64(1))
	c.want("active", c.tab.Active(), 1)
	c.want("endpoints", c.tab.Endpoints(), maxUserEndpoints)
	c.want("dropped", c.tab.counters.EndpointsDropped > 0, true)
	c.want("the endpoint that showed it", c.scope(sgwu, k), c.scope(pgwu, k+0x200))
}

// TestModifyMakesRoom: where a Modify Bearer that is about two connections of one UE
// needs room for an endpoint of the second, the first, which the message is about
// too, does not make it; where nobody else can, nothing is left of it.
func TestModifyMakesRoom(t *testing.T) {
	mme, sgw := Addr{0, v4Prefix | 1}, Addr{0, v4Prefix | 2}
	for _, c := range []struct {
		name    string
		others  int  // sessions that could make room
		carried bool // packets of the second's user were seen: it goes last
		evicted bool // the first has to go
	}{{"another makes it", 1, false, false}, {"the first has to", 0, true, true}} {
		t.Run(c.name, func(t *testing.T) {
			tab, err := New(Config{Sessions: 8})
			if err != nil {
				t.Fatal(err)
			}
			defer tab.Close()
			tab.Advance(1_700_000_000e9)
			connection := func(imsi Digits, ebi uint8, id uint64) uint32 {
				s := tab.create(V2)
				tab.sessions[s].IMSI, tab.sessions[s].EBI = imsi, ebi
				tab.setControl(s, &Endpoint{Addr: sgw, ID: id, slot: slotCtlSGWAccess})
				tab.setControl(s, &Endpoint{Addr: mme, ID: id + 1, slot: slotCtlAccess})
				tab.claim(s, &Endpoint{Addr: sgw, ID: id + uint64(ebi), slot: slotSGWAccess, Bearer: ebi})
				return s
			}
			first, second := connection(7, 5, 100), connection(7, 6, 100)
			tab.Advance(tab.now + 1e9)
			for range c.others {
				connection(8, 5, 500)
			}
			tab.sessions[second].set(flagCarried, c.carried)
			tab.control.max = tab.control.n
			tab.Advance(tab.now + 1e9)
			ask := &Message{Version: V2, Type: 34, Seq: 1, TEID: 100, NumBearers: 3, NumEndpoints: 1, RAT: 6}
			ask.Bearers[1], ask.Bearers[2] = Bearer{EBI: 5}, Bearer{EBI: 6}
			ask.Endpoints[0] = Endpoint{Addr: mme, ID: 300, slot: slotCtlPGW, Bearer: 6, context: 2}
			tab.handle(ask, &packet{src: mme, dst: sgw, sport: 2123, dport: 2123, sum: 1})
			tab.handle(&Message{Version: V2, Type: 35, Seq: 1, TEID: 101, Cause: 16, NumBearers: 1}, &packet{src: sgw, dst: mme, sport: 2123, dport: 2123, sum: 2})
			if bad := tab.invariants(); bad != "" {
				t.Error(bad)
			}
			if gone := tab.sessions[first].state == stateFree; gone != c.evicted || !gone && tab.sessions[first].RAT != 6 {
				t.Errorf("the first is gone: %v, want %v; %+v", gone, c.evicted, tab.sessions[first])
			}
			if tab.counters.Evicted != 1 || tab.sessions[second].state != stateActive || tab.control.counts[second] != 3 {
				t.Errorf("%d evicted; the second has %d endpoints", tab.counters.Evicted, tab.control.counts[second])
			}
		})
	}
}
