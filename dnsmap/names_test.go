package dnsmap

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unsafe"
)

func newTestNames(t testing.TB, size uint64) *Names {
	t.Helper()
	n, err := NewNames(NamesConfig{Bytes: size, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func intern(t testing.TB, n *Names, s string) NameID {
	t.Helper()
	id, ok := n.Intern([]byte(s))
	if !ok {
		t.Fatalf("%q refused", s)
	}
	return id
}

func TestIntern(t *testing.T) {
	n := newTestNames(t, 1<<20)
	a := intern(t, n, "e5.whatsapp.net")
	b := intern(t, n, "e6.whatsapp.net")
	if a == 0 || b == 0 || a == b {
		t.Fatalf("IDs %d and %d", a, b)
	}
	if again := intern(t, n, "e5.whatsapp.net"); again != a {
		t.Errorf("the same name is %d, then %d", a, again)
	}
	if n.String(a) != "e5.whatsapp.net" || n.String(b) != "e6.whatsapp.net" || n.String(0) != "" {
		t.Errorf("%q, %q, %q", n.String(a), n.String(b), n.String(0))
	}
	n.SetClass(a, 1<<63|7)
	if n.Class(a) != 1<<63|7 || n.Class(b) != 0 {
		t.Errorf("classes %#x, %#x", n.Class(a), n.Class(b))
	}
	n.Release(a)
	n.Retain(a)
	n.Release(a)
	if n.Stats().Names != 2 {
		t.Errorf("%d names while both are held", n.Stats().Names)
	}
	n.Release(a)
	n.Release(0)
	n.Retain(0)
	if s := n.Stats(); s != (NamesStats{Names: 1, Bytes: 64}) {
		t.Errorf("after the last release of one of two: %+v", s)
	}
	if again := intern(t, n, "e5.whatsapp.net"); n.Class(again) != 0 || n.String(again) != "e5.whatsapp.net" {
		t.Errorf("a name that came back has class %#x and is %q", n.Class(again), n.String(again))
	}
}

func TestInternLengths(t *testing.T) {
	n := newTestNames(t, 1<<20)
	var ids []NameID
	lengths := []int{1, textLen - 1, textLen, textLen + 1, 2 * textLen, 2*textLen + 1, 255, MaxName - 1, MaxName}
	for _, length := range lengths {
		ids = append(ids, intern(t, n, strings.Repeat("x", length-1)+"y"))
	}
	for i, length := range lengths {
		if want := strings.Repeat("x", length-1) + "y"; n.String(ids[i]) != want {
			t.Errorf("%d characters read back as %d: %q", length, len(n.String(ids[i])), n.String(ids[i]))
		}
		if got := string(n.Append([]byte("> "), ids[i])); got != "> "+n.String(ids[i]) {
			t.Errorf("%d characters appended as %q", length, got)
		}
		// One character off, at the end and at the start.
		other := intern(t, n, strings.Repeat("x", length-1)+"z")
		if other == ids[i] {
			t.Errorf("%d characters: another end, same ID", length)
		}
		n.Release(other)
		n.Release(ids[i])
	}
	if s := n.Stats(); s.Names != 0 || s.Bytes != 0 {
		t.Errorf("all released: %+v", s)
	}
	for _, s := range []string{"", strings.Repeat("x", MaxName+1)} {
		if id, ok := n.Intern([]byte(s)); ok || id != 0 {
			t.Errorf("%d characters interned as %d", len(s), id)
		}
	}
	if n.Stats().Refused != 0 {
		t.Error("a name out of bounds counts as refused for want of room")
	}
}

func TestNamesFull(t *testing.T) {
	n := newTestNames(t, 100*nameCost)
	var ids []NameID
	for i := range 100 {
		ids = append(ids, intern(t, n, fmt.Sprintf("n%d.example", i)))
	}
	if id, ok := n.Intern([]byte("one.too.many")); ok || id != 0 {
		t.Errorf("name 101 of 100 interned as %d", id)
	}
	if id, ok := n.Intern([]byte("n42.example")); !ok || id != ids[42] {
		t.Errorf("a name that is there is refused by a full table")
	}
	n.Release(ids[42])
	n.Release(ids[7])
	if _, ok := n.Intern([]byte(strings.Repeat("x", textLen+1))); ok {
		t.Error("a name of two records interned into one")
	}
	if s := n.Stats(); s.Refused != 2 || s.Names != 99 || s.Bytes != 99*64 {
		t.Errorf("%+v", s)
	}
	intern(t, n, "one.too.many")
	for i, id := range ids {
		if want := fmt.Sprintf("n%d.example", i); i != 7 && n.String(id) != want {
			t.Errorf("%s became %q", want, n.String(id))
		}
	}
}

// TestNamesSmallest holds that even the smallest table takes the longest name.
func TestNamesSmallest(t *testing.T) {
	n := newTestNames(t, 0)
	long := bytes.Repeat([]byte("x"), MaxName)
	id, ok := n.Intern(long)
	if !ok || !bytes.Equal(n.Bytes(id), long) {
		t.Error("the longest name does not fit the smallest table")
	}
}

// TestNamesChurn interns and releases random names of all lengths and compares
// with a Go map. Memory must not grow beyond what was once in use.
func TestNamesChurn(t *testing.T) {
	n := newTestNames(t, 4000*nameCost)
	r := rand.New(rand.NewPCG(1, 2))
	refs := map[string]int{}
	ids := map[string]NameID{}
	var held []string
	peak, refused := 0, uint64(0)
	for range 100_000 {
		if len(held) > 0 && r.IntN(100) < 48 {
			at := r.IntN(len(held))
			s := held[at]
			held[at] = held[len(held)-1]
			held = held[:len(held)-1]
			if got := n.String(ids[s]); got != s {
				t.Fatalf("%q became %q", s, got)
			}
			n.Release(ids[s])
			if refs[s]--; refs[s] == 0 {
				delete(refs, s)
				delete(ids, s)
			}
			continue
		}
		s := randomName(r)
		id, ok := n.Intern([]byte(s))
		if !ok {
			refused++
			continue
		}
		if old := ids[s]; old != 0 && old != id {
			t.Fatalf("%q is %d and %d", s, old, id)
		}
		refs[s]++
		ids[s] = id
		held = append(held, s)
		peak = max(peak, n.inUse)
	}
	if s := n.Stats(); s.Names != len(refs) || s.Refused != refused || refused == 0 {
		t.Errorf("%+v, want %d names and %d refused", s, len(refs), refused)
	}
	if int(n.top)-1 > peak {
		t.Errorf("%d records touched, never more than %d in use", n.top-1, peak)
	}
	checkIndex(t, &n.index)
	for _, s := range held {
		n.Release(ids[s])
	}
	if s := n.Stats(); s.Names != 0 || s.Bytes != 0 || n.index.used != 0 {
		t.Errorf("all released: %+v, %d slots in use", s, n.index.used)
	}
	// After a flood of short names, long ones must still find room.
	for range 4000 / 24 {
		s := fmt.Sprintf("%0*d", MaxName, r.Uint64())
		intern(t, n, s)
	}
}

func randomName(r *rand.Rand) string {
	length := 1 + r.IntN(60)
	if r.IntN(50) == 0 {
		length = 1 + r.IntN(MaxName)
	}
	if length < 3 {
		return strings.Repeat(string(rune('a'+r.IntN(26))), length)
	}
	return fmt.Sprintf("%0*d", length, r.Uint64N(1000))[:length]
}

func TestNamesAllocs(t *testing.T) {
	n := newTestNames(t, 1<<20)
	short, long := []byte("e5.whatsapp.net"), bytes.Repeat([]byte("x"), 300)
	got := testing.AllocsPerRun(100, func() {
		a, _ := n.Intern(short)
		b, _ := n.Intern(long)
		n.Retain(a)
		n.SetClass(a, uint64(len(n.Bytes(b))))
		n.Release(a)
		n.Release(a)
		n.Release(b)
	})
	if got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func TestRecordSizes(t *testing.T) {
	if s := unsafe.Sizeof(nameRecord{}); s != 64 {
		t.Errorf("a name record is %d bytes", s)
	}
	if s := unsafe.Sizeof(entry{}); s != 32 {
		t.Errorf("an entry is %d bytes", s)
	}
}

func BenchmarkIntern(b *testing.B) {
	n := newTestNames(b, 64<<20)
	r := rand.New(rand.NewPCG(1, 2))
	names := make([][]byte, 1<<16)
	for i := range names {
		names[i] = fmt.Appendf(nil, "e%d.node%d.whatsapp.example.net", r.IntN(100), i)
		if _, ok := n.Intern(names[i]); !ok {
			b.Fatal("full")
		}
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		id, _ := n.Intern(names[r.IntN(len(names))])
		n.Release(id)
		i++
	}
}

func TestNamesIs(t *testing.T) {
	n, err := NewNames(NamesConfig{Bytes: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	long := strings.Repeat("a", textLen) + strings.Repeat("b", textLen) + "c"
	for _, name := range []string{"a", strings.Repeat("a", textLen), long} {
		id, ok := n.Intern([]byte(name))
		if !ok {
			t.Fatalf("%q is not taken", name)
		}
		for _, other := range []string{"a", "b", "ab", strings.Repeat("a", textLen), long, long[:len(long)-1], long[:len(long)-1] + "d"} {
			if got := n.Is(id, []byte(other)); got != (name == other) {
				t.Errorf("%q is %q: %v", name, other, got)
			}
		}
	}
}
