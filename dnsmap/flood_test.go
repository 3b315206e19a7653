package dnsmap

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestFloodSparesTheProven holds that answers which no connection follows push
// out one another, however many come, and not what flows have used.
func TestFloodSparesTheProven(t *testing.T) {
	for _, c := range []struct {
		what   string
		proven int // of 1000
		prove  func(m *Map, id NameID, i int)
		kept   bool
	}{
		{"used once", 700, func(m *Map, _ NameID, i int) { m.Lookup(key(i), t0) }, true},
		{"answered twice", 700, func(m *Map, id NameID, i int) { m.Insert(key(i), id, t0+second, 3600) }, true},
		{"nothing", 700, func(*Map, NameID, int) {}, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			m, names := newTestMap(t, 1000)
			id := intern(t, names, "a")
			for i := range c.proven {
				m.Insert(key(i), id, t0, 3600)
				c.prove(m, id, i)
			}
			r := rand.New(rand.NewPCG(1, 2))
			for range 100_000 {
				m.Insert(key(1_000_000+r.IntN(1<<40)), id, t0+2*second, 3600)
			}
			kept := 0
			for i := range c.proven {
				if _, _, s := m.Lookup(key(i), t0+2*second); s == Valid {
					kept++
				}
			}
			if c.kept && kept != c.proven || !c.kept && kept != 0 {
				t.Errorf("%d of %d are left", kept, c.proven)
			}
			s := m.Stats()
			if s.Entries > 1000 || s.Refused > s.Inserts/20 || s.Evictions+s.Refused < 99_000 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestProvenHaveTheirShare holds that a map full of entries that were used once
// still learns: beyond three quarters they too have to go, the used ones last.
func TestProvenHaveTheirShare(t *testing.T) {
	m, names := newTestMap(t, 1000)
	id := intern(t, names, "a")
	for i := range 1000 {
		m.Insert(key(i), id, t0, 3600)
		m.Lookup(key(i), t0)
	}
	for i := range 5000 {
		k := key(10_000 + i)
		m.Insert(k, id, t0+second, 3600)
		if _, _, s := m.Lookup(k, t0+second); s != Valid {
			t.Fatalf("the %d-th new answer was not taken in: %+v", i, m.Stats())
		}
	}
	if s := m.Stats(); s.Evictions != 5000 || s.Entries != 1000 || s.Refused != 0 || m.proven != 1000 {
		t.Errorf("%+v, %d proven", s, m.proven)
	}
}

// TestProvenAreCounted compares the count that eviction goes by with the entries.
func TestProvenAreCounted(t *testing.T) {
	m, names := newTestMap(t, 200)
	a, b := intern(t, names, "a"), intern(t, names, "b")
	r := rand.New(rand.NewPCG(3, 4))
	for step := range 50_000 {
		now := t0 + int64(step)*second/10
		k := key(r.IntN(600))
		switch r.IntN(5) {
		case 0:
			m.Lookup(k, now)
		case 1:
			m.Insert(k, 0, now, 0) // ends what there was
		case 2:
			m.Insert(k, b, now, uint32(r.IntN(200)))
		case 3:
			m.Insert(k, a, now, uint32(r.IntN(200)))
		case 4:
			m.Sweep(now, 3)
		}
	}
	proved, entries := 0, 0
	for i := range m.entries {
		if m.entries[i].name == 0 {
			continue
		}
		entries++
		if m.entries[i].name&proven != 0 {
			proved++
		}
	}
	if proved != m.proven || entries != m.Stats().Entries {
		t.Errorf("%d proven of %d entries, counted as %d of %d", proved, entries, m.proven, m.Stats().Entries)
	}
}

// TestRelieve holds that a name's place can be had back from an answer that
// nothing has used, and from no other.
func TestRelieve(t *testing.T) {
	names := newTestNames(t, 10*nameCost)
	m, err := New(Config{Entries: 1000, Grace: testGrace, Stale: testStale}, names)
	if err != nil {
		t.Fatal(err)
	}
	full := 0
	for i := 0; ; i++ {
		id, ok := names.TryIntern(fmt.Appendf(nil, "name%d", i))
		if !ok {
			full = i
			break
		}
		m.Insert(key(i), id, t0, 60)
		names.Release(id)
		if i%2 == 0 {
			m.Lookup(key(i), t0)
		}
	}
	for i := range full / 2 {
		if !m.Relieve(t0) {
			t.Fatalf("nothing found to give up at %d of %d", i, full)
		}
		if _, ok := names.TryIntern(fmt.Appendf(nil, "another%d", i)); !ok {
			t.Fatal("no room for a name after one was given up")
		}
	}
	if m.Relieve(t0) {
		t.Error("a proven entry was given up")
	}
	if s := names.Stats(); s.Refused != 0 {
		t.Errorf("%d refusals were counted: there was room in the end", s.Refused)
	}
	if _, ok := names.Intern([]byte("one too many")); ok || names.Stats().Refused != 1 {
		t.Errorf("a refusal was not counted: %+v", names.Stats())
	}
}

// TestHashesAreIndependent holds that what stands for a key in an entry tells
// apart keys that differ in one part only, whatever the seed.
func TestHashesAreIndependent(t *testing.T) {
	for seed := range uint64(20) {
		s := newSeeds(seed)
		seen, checks := map[[2]uint64]Key{}, map[uint32]int{}
		for i := range 4000 {
			n := uint64(i)
			for _, k := range []Key{
				{Subscriber: n},
				{Subscriber: 0xffff<<32 | n, Server: Addr{0, 0xffff << 32}},
				{Server: Addr{0, n + 1}},
				{Server: Addr{n + 1, 0}},
				{Scope: uint32(n + 1)},
			} {
				h := [2]uint64{s.key(k), uint64(s.check(k))}
				if o, ok := seen[h]; ok && o != k {
					t.Fatalf("seed %d: %+v and %+v have one hash", seed, o, k)
				}
				seen[h] = k
				checks[s.check(k)]++
			}
		}
		if len(checks) < 20_000-10 { // 0.05 collisions are to be expected
			t.Errorf("seed %d: 20000 keys have %d checks", seed, len(checks))
		}
	}
}
