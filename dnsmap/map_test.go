package dnsmap

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"testing"
)

const (
	testGrace = 10 * second
	testStale = 100 * second
	t0        = 1_400_000_000 * second
)

func newTestMap(t testing.TB, entries int) (*Map, *Names) {
	t.Helper()
	names := newTestNames(t, 1<<20)
	m, err := New(Config{Entries: entries, Grace: testGrace, Stale: testStale, Seed: 1}, names)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m, names
}

func key(i int) Key {
	return Key{Subscriber: mappedPrefix | 0x0a000000 | uint64(i>>4), Server: Addr{0, mappedPrefix | 0x9df00000 | uint64(i&15)}}
}

func expect(t *testing.T, m *Map, what string, k Key, at int64, name NameID, answered int64, state State) {
	t.Helper()
	n, a, s := m.Lookup(k, at)
	if n != name || a != answered || s != state {
		t.Errorf("%s: name %d, answered %+d, state %d; want %d, %+d, %d", what, n, a-t0, s, name, answered-t0, state)
	}
}

func TestValidity(t *testing.T) {
	const ttl = 60
	for _, c := range []struct {
		what  string
		ttl   uint32
		after int64
		want  State
	}{
		{"before the answer", ttl, -1, None},
		{"long before the answer", ttl, -t0, None},
		{"at the answer", ttl, 0, Valid},
		{"at the end of TTL", ttl, 60 * second, Valid},
		{"at the end of grace", ttl, 70 * second, Valid},
		{"just behind grace", ttl, 70*second + 1, Stale},
		{"at the end of stale", ttl, 170 * second, Stale},
		{"just behind stale", ttl, 170*second + 1, None},
		{"TTL 0 at the end of grace", 0, 10 * second, Valid},
		{"TTL 0 just behind grace", 0, 10*second + 1, Stale},
		{"largest TTL, 68 years on", maxTTL, maxTTL*second + 10*second, Valid},
		{"largest TTL, just behind", maxTTL, maxTTL*second + 10*second + 1, Stale},
		{"TTL with the top bit is 0", 1 << 31, 10*second + 1, Stale},
		{"largest of all TTLs is 0", math.MaxUint32, 10 * second, Valid},
		{"end of time", ttl, math.MaxInt64 - t0, None},
	} {
		m, names := newTestMap(t, 10)
		id := intern(t, names, "e5.whatsapp.net")
		m.Insert(key(1), id, t0, c.ttl)
		name, answered, state := m.Lookup(key(1), t0+c.after)
		if state != c.want {
			t.Errorf("%s: state %d, want %d", c.what, state, c.want)
		}
		if state == None && (name != 0 || answered != 0) || state != None && (name != id || answered != t0) {
			t.Errorf("%s: name %d, answered %d with state %d", c.what, name, answered, state)
		}
		if s := m.Stats(); s.Lookups != 1 || (s.Hits == 1) != (c.want != None) {
			t.Errorf("%s: %d lookups, %d hits", c.what, s.Lookups, s.Hits)
		}
	}
}

// TestPeriods holds that settings beyond reason do not overflow.
func TestPeriods(t *testing.T) {
	for _, c := range []struct {
		grace, stale int64
		at           int64
		want         State
	}{
		{math.MaxInt64, math.MaxInt64, t0 + 1e18, Valid},
		{-5, -5, t0, Valid},
		{-5, -5, t0 + 1, None},
		{0, math.MaxInt64, t0 + 1e18, Stale},
	} {
		names := newTestNames(t, 0)
		m, err := New(Config{Entries: 1, Grace: c.grace, Stale: c.stale}, names)
		if err != nil {
			t.Fatal(err)
		}
		m.Insert(key(1), intern(t, names, "a"), t0, 0)
		if _, _, s := m.Lookup(key(1), c.at); s != c.want {
			t.Errorf("grace %d, stale %d, after %d: state %d, want %d", c.grace, c.stale, c.at-t0, s, c.want)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestKeyFields(t *testing.T) {
	m, names := newTestMap(t, 10)
	base := Key{Subscriber: 1, Scope: 2, Server: Addr{3, 4}}
	id := intern(t, names, "a")
	m.Insert(base, id, t0, 60)
	expect(t, m, "the key itself", base, t0, id, t0, Valid)
	for what, k := range map[string]Key{
		"subscriber":  {Subscriber: 9, Scope: 2, Server: Addr{3, 4}},
		"scope":       {Subscriber: 1, Scope: 9, Server: Addr{3, 4}},
		"server high": {Subscriber: 1, Scope: 2, Server: Addr{9, 4}},
		"server low":  {Subscriber: 1, Scope: 2, Server: Addr{3, 9}},
		"nothing":     {},
	} {
		if n, _, s := m.Lookup(k, t0); s != None {
			t.Errorf("another %s has name %d", what, n)
		}
		// Even where the hash is the same, the key decides.
		if n, _, s := m.LookupHash(k, m.Hash(base), t0); s != None {
			t.Errorf("another %s with the same hash has name %d", what, n)
		}
		if m.Hash(k) == m.Hash(base) {
			t.Errorf("another %s has the same hash", what)
		}
	}
}

func TestReplace(t *testing.T) {
	m, names := newTestMap(t, 10)
	k := key(1)
	a, b := intern(t, names, "a.example"), intern(t, names, "b.example")

	m.Insert(k, a, t0, 60)
	m.Insert(k, b, t0+30*second, 5)
	expect(t, m, "before the newer answer", k, t0+30*second-1, 0, 0, None)
	expect(t, m, "from the newer answer on", k, t0+30*second, b, t0+30*second, Valid)
	expect(t, m, "the newer TTL counts", k, t0+46*second, b, t0+30*second, Stale)

	m.Insert(k, a, t0+29*second, 600)
	expect(t, m, "a late answer changes nothing", k, t0+46*second, b, t0+30*second, Stale)

	m.Insert(k, a, t0+30*second, 60)
	expect(t, m, "of two at one time the last counts", k, t0+30*second, a, t0+30*second, Valid)

	m.Insert(k, 0, t0+20*second, 60)
	expect(t, m, "a late answer with no name changes nothing", k, t0+30*second, a, t0+30*second, Valid)
	m.Insert(k, 0, t0+40*second, 60)
	expect(t, m, "an answer with no name ends it", k, t0+40*second, 0, 0, None)
	m.Insert(k, 0, t0+41*second, 60)
	expect(t, m, "no name where there is none", k, t0+41*second, 0, 0, None)

	s := m.Stats()
	if s.Inserts != 7 || s.Replaced != 3 || s.Late != 2 || s.Entries != 0 {
		t.Errorf("%+v", s)
	}
	names.Release(a)
	names.Release(b)
	if n := names.Stats().Names; n != 0 {
		t.Errorf("%d names held with no entry left", n)
	}
}

// TestRepeated holds that a flow between two copies of an answer finds its name.
func TestRepeated(t *testing.T) {
	const ms = second / 1000
	for _, c := range []struct {
		what     string
		answers  []int64 // after t0, as they are inserted
		ttl      uint32
		at       int64
		answered int64
		want     State
	}{
		{"between two copies", []int64{0, 5 * ms}, 60, 3 * ms, 0, Valid},
		{"after both", []int64{0, 5 * ms}, 60, 6 * ms, 5 * ms, Valid},
		{"before both", []int64{0, 5 * ms}, 60, -1, 0, None},
		{"between, of three", []int64{0, 5 * ms, 7 * ms}, 60, 1 * ms, 0, Valid},
		{"copies out of order", []int64{5 * ms, 0}, 60, 3 * ms, 0, Valid},
		{"three out of order", []int64{5 * ms, 0, 2 * ms}, 60, 1 * ms, 0, Valid},
		{"asked again 4 s later", []int64{0, 4 * second}, 60, 2 * second, 0, Valid},
		{"asked again 5 s later: beyond memory", []int64{0, 5 * second}, 60, 2 * second, 0, None},
		{"a third time: the first beyond memory", []int64{0, 3 * second, 6 * second}, 60, 4 * second, 3 * second, Valid},
		{"a third time: before the second", []int64{0, 3 * second, 6 * second}, 60, 2 * second, 0, None},
	} {
		m, names := newTestMap(t, 10)
		id := intern(t, names, "a.example")
		for _, a := range c.answers {
			m.Insert(key(1), id, t0+a, c.ttl)
		}
		answered := t0 + c.answered
		if c.want == None {
			id, answered = 0, 0
		}
		expect(t, m, c.what, key(1), t0+c.at, id, answered, c.want)
	}

	// Without grace there can be a gap between the answers.
	names := newTestNames(t, 0)
	m, err := New(Config{Entries: 1, Grace: 0, Stale: testStale}, names)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close() //nolint:errcheck // memory of a test
	id := intern(t, names, "a.example")
	m.Insert(key(1), id, t0, 1)
	m.Insert(key(1), id, t0+2*second, 1)
	expect(t, m, "in a gap of validity", key(1), t0+second+1, 0, 0, None)
	m.Insert(key(1), id, t0+second/2, 1)
	expect(t, m, "late, with a gap", key(1), t0+second, 0, 0, None)
	m.Insert(key(1), id, t0+second, 1)
	expect(t, m, "late, joining up", key(1), t0+second, id, t0+second, Valid)
}

type modelAnswer struct {
	name NameID
	at   int64
	ttl  uint32
}

// TestMapModel compares with a Go map under random answers and look-ups, time
// going mostly forward, with nothing evicted.
func TestMapModel(t *testing.T) {
	m, names := newTestMap(t, 5000)
	r := rand.New(rand.NewPCG(5, 6))
	ids := make([]NameID, 50)
	for i := range ids {
		ids[i] = intern(t, names, fmt.Sprintf("n%d.example", i))
	}
	model := map[Key]modelAnswer{}
	now := int64(t0)
	states := [3]int{}
	for range 300_000 {
		now += r.Int64N(second / 10)
		k := key(r.IntN(4000))
		k.Scope = r.Uint32N(2)
		at := now
		if r.IntN(20) == 0 {
			at -= r.Int64N(second)
		}
		if r.IntN(10) == 0 {
			m.Sweep(now, r.IntN(20))
		}
		if r.IntN(2) == 0 {
			a := modelAnswer{ids[r.IntN(len(ids))], at, r.Uint32N(300)}
			m.Insert(k, a.name, a.at, a.ttl)
			if a.at >= model[k].at {
				model[k] = a
			}
			continue
		}
		name, answered, state := m.Lookup(k, at)
		want, ok := model[k]
		wantState := None
		switch age := at - want.at; {
		case !ok || age < 0:
			if state == Valid && name == want.name {
				continue // answered twice with one name: TestRepeated
			}
		case age <= int64(want.ttl)*second+testGrace:
			wantState = Valid
		case age <= int64(want.ttl)*second+testGrace+testStale:
			wantState = Stale
		}
		states[wantState]++
		if state != wantState || state != None && (name != want.name || answered != want.at) {
			t.Fatalf("%+v at %d: name %d, answered %d, state %d; model %+v, state %d", k, at, name, answered, state, want, wantState)
		}
	}
	if states[None] < 1000 || states[Valid] < 1000 || states[Stale] < 1000 {
		t.Errorf("too few of some state met: %v", states)
	}
	s := m.Stats()
	if s.Evictions != 0 || s.Expired == 0 {
		t.Errorf("%+v", s)
	}
	checkIndex(t, &m.index)

	// All let go: only the test's own references are left.
	for _, id := range ids {
		names.Release(id)
	}
	if n := names.Stats().Names; n == 0 {
		t.Error("names gone while entries hold them")
	}
	m.Sweep(now+1e6*second, math.MaxInt)
	if m.Stats().Entries != 0 || m.index.used != 0 || names.Stats().Names != 0 {
		t.Errorf("all gone: %+v, %+v", m.Stats(), names.Stats())
	}
}

func TestSweep(t *testing.T) {
	m, names := newTestMap(t, 100)
	id := intern(t, names, "a")
	for i := range 100 {
		m.Insert(key(i), id, t0, uint32(i%2)*1000)
	}
	gone := int64(t0 + 10*second + 100*second)
	if n := m.Sweep(gone, 1000); n != 0 {
		t.Errorf("%d reclaimed at the last instant of stale", n)
	}
	if n := m.Sweep(gone+1, 10); n != 5 {
		t.Errorf("%d reclaimed with a budget of 10, every other one gone", n)
	}
	if n := m.Sweep(gone+1, 0) + m.Sweep(gone+1, -1); n != 0 {
		t.Errorf("%d reclaimed with no budget", n)
	}
	for range 9 {
		m.Sweep(gone+1, 10)
	}
	if s := m.Stats(); s.Entries != 50 || s.Expired != 50 || s.Evictions != 0 {
		t.Errorf("%+v", s)
	}
	for i := range 100 {
		if _, _, s := m.Lookup(key(i), t0); (s == Valid) != (i%2 == 1) {
			t.Errorf("entry %d has state %d", i, s)
		}
	}
	empty, _ := newTestMap(t, 1)
	if n := empty.Sweep(gone, 10); n != 0 {
		t.Errorf("%d reclaimed from nothing", n)
	}
}

func TestEvictOldest(t *testing.T) {
	m, names := newTestMap(t, 100)
	id := intern(t, names, "a")
	for i := range 100 {
		m.Insert(key(i), id, t0+int64(i)*second/100, 3600)
	}
	if s := m.Stats(); s.Evictions != 0 || s.Entries != 100 || s.LastEvictedAge != 0 {
		t.Fatalf("full: %+v", s)
	}
	// Entries 0 to 9 are used, 10 to 19 are answered again: the next to go
	// is 20.
	for i := range 10 {
		m.Lookup(key(i), t0+second)
		m.Insert(key(10+i), id, t0+second, 3600)
	}
	m.Insert(key(1000), id, t0+2*second, 3600)
	if s := m.Stats(); s.Evictions != 1 || s.Entries != 100 || s.LastEvictedAge != 2*second-20*second/100 {
		t.Errorf("one too many: %+v", s)
	}
	if _, _, s := m.Lookup(key(20), t0+2*second); s != None {
		t.Error("the oldest that was not used is still there")
	}
	for i := range 79 {
		m.Insert(key(2000+i), id, t0+2*second, 3600)
	}
	for _, i := range []int{0, 9, 10, 19, 1000, 2000, 2078} {
		if _, _, s := m.Lookup(key(i), t0+2*second); s != Valid {
			t.Errorf("entry %d was evicted before its turn", i)
		}
	}
	if s := m.Stats(); s.Evictions != 80 || s.Expired != 0 {
		t.Errorf("%+v", s)
	}
}

// TestEvictAllUsed holds that entries all in use end the search, not the
// program: a flood may look everything up.
func TestEvictAllUsed(t *testing.T) {
	m, names := newTestMap(t, 1000)
	id := intern(t, names, "a")
	for i := range 1000 {
		m.Insert(key(i), id, t0, 3600)
		m.Lookup(key(i), t0)
	}
	m.Insert(key(5000), id, t0, 3600)
	if s := m.Stats(); s.Evictions != 1 || s.Entries != 1000 {
		t.Errorf("%+v", s)
	}
	if _, _, s := m.Lookup(key(5000), t0); s != Valid {
		t.Error("the new entry is not there")
	}
	if m.hand != maxPasses+1 {
		t.Errorf("the hand went on to %d", m.hand)
	}
}

func TestExpiredGoFirst(t *testing.T) {
	m, names := newTestMap(t, 100)
	short, long := intern(t, names, "short"), intern(t, names, "long")
	for i := range 100 {
		if i%10 == 5 {
			m.Insert(key(i), short, t0, 1)
		} else {
			m.Insert(key(i), long, t0, 86400)
		}
	}
	names.Release(short)
	now := int64(t0 + 3600*second)
	for i := range 5 {
		m.Insert(key(1000+i), long, now, 60)
		m.Sweep(now, 3) // as its caller would, between answers
	}
	if s := m.Stats(); s.Expired < 5 || s.Evictions != 0 || s.Entries > 100 {
		t.Errorf("%+v", s)
	}
	for range 10 {
		m.Sweep(now, 10)
	}
	if s := m.Stats(); s.Expired != 10 || names.Stats().Names != 1 {
		t.Errorf("%+v, %+v", s, names.Stats())
	}
}

// TestChurn fills a map ten times over. The index must stay as good as a fresh
// one, memory where it was, and the books right.
func TestChurn(t *testing.T) {
	const entries = 20_000
	m, names := newTestMap(t, entries)
	r := rand.New(rand.NewPCG(7, 8))
	now := int64(t0)
	insert := func(n int) {
		for range n {
			now += second / 1000
			id := intern(t, names, fmt.Sprintf("n%d.example", r.IntN(5000)))
			m.Insert(Key{Subscriber: r.Uint64(), Server: Addr{r.Uint64(), r.Uint64()}}, id, now, 3600)
			names.Release(id)
		}
	}
	insert(entries)
	fresh, _ := checkIndex(t, &m.index)
	insert(10 * entries)
	churned, longest := checkIndex(t, &m.index)
	if churned > 1.5*fresh+1 || longest > 100 {
		t.Errorf("mean distance %.2f when fresh, %.2f after churn, longest %d", fresh, churned, longest)
	}
	s := m.Stats()
	if s.Entries != entries || s.Evictions != 10*entries || m.index.used != entries {
		t.Errorf("%+v, %d slots in use", s, m.index.used)
	}
	if want := int64(entries) * second / 1000; s.LastEvictedAge != want {
		t.Errorf("evicted at an age of %d ns, want the age of the whole map, %d", s.LastEvictedAge, want)
	}
	if int(m.top)-1 > entries {
		t.Errorf("%d entries touched of %d", m.top-1, entries)
	}
}

// TestIndexCannotGrow holds what happens where the system gives no more memory:
// the map stays as large as it is.
func TestIndexCannotGrow(t *testing.T) {
	m, names := newTestMap(t, 100_000)
	m.index.max = len(m.index.slots)
	id := intern(t, names, "a")
	for i := range 10_000 {
		m.Insert(key(i), id, t0+int64(i), 3600)
		if _, _, s := m.Lookup(key(i), t0+int64(i)); s != Valid {
			t.Fatalf("entry %d is not there", i)
		}
	}
	s := m.Stats()
	if s.Entries != m.index.limit || s.Evictions != uint64(10_000-s.Entries) {
		t.Errorf("%+v with a limit of %d", s, m.index.limit)
	}
	checkIndex(t, &m.index)
}

// TestSeedDoesNotMatter holds that the hash seed changes no result, not even
// what is evicted.
func TestSeedDoesNotMatter(t *testing.T) {
	run := func(seed uint64) (out []NameID, s Stats) {
		names, err := NewNames(NamesConfig{Bytes: 1 << 16, Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		defer names.Close() //nolint:errcheck // memory of a test
		m, err := New(Config{Entries: 500, Grace: testGrace, Stale: testStale, Seed: seed}, names)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close() //nolint:errcheck // memory of a test
		r := rand.New(rand.NewPCG(9, 10))
		now := int64(t0)
		for range 20_000 {
			now += r.Int64N(second)
			id, _ := names.Intern(fmt.Appendf(nil, "n%d.example", r.IntN(3000)))
			m.Insert(key(r.IntN(2000)), id, now, r.Uint32N(600))
			names.Release(id)
			name, _, _ := m.Lookup(key(r.IntN(2000)), now)
			out = append(out, id, name)
			m.Sweep(now, 1)
		}
		return out, m.Stats()
	}
	a, sa := run(1)
	b, sb := run(0xdeadbeef)
	if sa != sb {
		t.Errorf("%+v with one seed, %+v with another", sa, sb)
	}
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("step %d: name %d with one seed, %d with another", i/2, a[i], b[i])
		}
	}
	if sa.Evictions == 0 || sa.Expired == 0 || sa.Hits == 0 {
		t.Errorf("not everything was tried: %+v", sa)
	}
}

func TestMapAllocs(t *testing.T) {
	m, names := newTestMap(t, 2000)
	a, b := intern(t, names, "a.example"), intern(t, names, "b.example")
	for i := range 2000 {
		m.Insert(key(i), a, t0, 60)
	}
	i := 0
	got := testing.AllocsPerRun(1000, func() {
		i++
		k := key(i) // half of them new, in a full map
		h := m.Hash(k)
		m.Touch([]uint64{h, h + 1<<40})
		m.InsertHash(k, h, b, t0+int64(i), 60)
		m.LookupHash(k, h, t0+int64(i))
		m.Lookup(key(-i), t0)
		m.Insert(key(100_000+i), a, t0+int64(i), 60)
		m.Sweep(t0+int64(i), 4)
	})
	if got != 0 {
		t.Errorf("%v allocations", got)
	}
	if m.Stats().Evictions == 0 {
		t.Error("nothing was evicted")
	}
}

// TestHashSpread holds that keys as they come, sequential addresses, spread
// over the tags as random ones would.
func TestHashSpread(t *testing.T) {
	m, _ := newTestMap(t, 1)
	var buckets [256]int
	const n = 256 * 1000
	for i := range n {
		buckets[m.Hash(Key{Subscriber: mappedPrefix | uint64(i>>4), Server: Addr{0, mappedPrefix | uint64(i&15)<<8}})>>56]++
	}
	for i, got := range buckets {
		if got < 800 || got > 1200 { // six standard deviations are 190
			t.Errorf("bucket %d of 256 has %d of %d keys", i, got, n)
		}
	}
}

func benchmarkMap(b *testing.B, entries int) (*Map, []Key) {
	if testing.Short() && entries > 1_000_000 {
		b.Skip("large")
	}
	names := newTestNames(b, 1<<20)
	m, err := New(Config{Entries: entries, Grace: testGrace, Stale: 6 * 3600 * second, Seed: 1}, names)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = m.Close() })
	id := intern(b, names, "e5.whatsapp.net")
	r := rand.New(rand.NewPCG(11, 12))
	keys := make([]Key, 1<<16)
	for i := range entries {
		k := Key{Subscriber: r.Uint64(), Server: Addr{0, r.Uint64()}}
		m.Insert(k, id, t0, 60)
		if i%(entries/len(keys)) == 0 && i/(entries/len(keys)) < len(keys) {
			keys[i/(entries/len(keys))] = k
		}
	}
	r.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	runtime.GC()
	return m, keys
}

func BenchmarkLookup(b *testing.B) {
	for _, entries := range []int{1_000_000, 10_000_000} {
		b.Run(fmt.Sprintf("entries=%d/single", entries), func(b *testing.B) {
			m, keys := benchmarkMap(b, entries)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if _, _, s := m.Lookup(keys[i&(len(keys)-1)], t0); s != Valid {
					b.Fatal("missed")
				}
				i++
			}
		})
		b.Run(fmt.Sprintf("entries=%d/batch32", entries), func(b *testing.B) {
			m, keys := benchmarkMap(b, entries)
			b.ReportAllocs()
			var hashes [32]uint64
			i := 0
			for b.Loop() {
				if i&31 == 0 {
					batch := keys[i&(len(keys)-1):][:32]
					for j := range batch {
						hashes[j] = m.Hash(batch[j])
					}
					m.Touch(hashes[:])
				}
				if _, _, s := m.LookupHash(keys[i&(len(keys)-1)], hashes[i&31], t0); s != Valid {
					b.Fatal("missed")
				}
				i++
			}
		})
		b.Run(fmt.Sprintf("entries=%d/absent", entries), func(b *testing.B) {
			m, keys := benchmarkMap(b, entries)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				k := keys[i&(len(keys)-1)]
				k.Scope = 1
				if _, _, s := m.Lookup(k, t0); s != None {
					b.Fatal("found")
				}
				i++
			}
		})
	}
}

func BenchmarkInsertFull(b *testing.B) {
	m, _ := benchmarkMap(b, 1_000_000)
	r := rand.New(rand.NewPCG(13, 14))
	id, _ := m.names.Intern([]byte("e6.whatsapp.net"))
	now := int64(t0)
	b.ReportAllocs()
	for b.Loop() {
		now += 1000
		m.Insert(Key{Subscriber: r.Uint64(), Server: Addr{0, r.Uint64()}}, id, now, 60)
	}
}
