package stream

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

type add struct {
	offset uint32
	data   string
}

func TestAssemble(t *testing.T) {
	for _, tt := range []struct {
		name string
		adds []add
		want string
		lost int // Adds that returned false
	}{
		{"nothing", nil, "", 0},
		{"empty segment", []add{{0, ""}}, "", 0},
		{"in order", []add{{0, "ab"}, {2, "cd"}}, "abcd", 0},
		{"swapped", []add{{2, "cd"}, {0, "ab"}}, "abcd", 0},
		{"hole stays", []add{{0, "ab"}, {3, "d"}}, "ab", 0},
		{"hole filled exactly", []add{{0, "ab"}, {3, "d"}, {2, "c"}}, "abcd", 0},
		{"first hole filled, second stays", []add{{2, "c"}, {4, "e"}, {0, "ab"}}, "abc", 0},
		{"repeat", []add{{0, "ab"}, {0, "ab"}}, "ab", 0},
		{"repeat with more", []add{{0, "ab"}, {0, "abcd"}}, "abcd", 0},
		{"repeat inside", []add{{0, "abcd"}, {1, "XX"}}, "abcd", 0},
		{"first copy stays", []add{{0, "ab"}, {1, "XY"}}, "abY", 0},
		{"first copy stays in an island", []add{{2, "cd"}, {0, "WXYZe"}}, "WXcde", 0},
		{"first copy stays in islands", []add{{1, "b"}, {3, "d"}, {5, "f"}, {0, "UVWXYZ"}}, "UbWdYf", 0},
		{"island grows to the left", []add{{3, "de"}, {1, "bX"}, {2, "cX"}, {0, "a"}}, "abXde", 0},
		{"island grows to the right", []add{{2, "cd"}, {3, "Xef"}, {0, "ab"}}, "abcdef", 0},
		{"islands bridged", []add{{2, "c"}, {5, "f"}, {1, "WXYZVUg"}, {0, "a"}}, "aWcYZfUg", 0},
		{"touching islands join", []add{{2, "cd"}, {4, "ef"}, {0, "ab"}}, "abcdef", 0},
		{"window full", []add{{0, "0123456789abcdef"}, {16, "g"}}, "0123456789abcdef", 1},
		{"window overrun is cut", []add{{0, "0123456789abcdefgh"}}, "0123456789abcdef", 1},
		{"beyond the window", []add{{16, "x"}, {0, "a"}}, "a", 1},
		{"far beyond the window", []add{{1 << 30, "x"}, {0, "a"}}, "a", 1},
		{"keep-alive one byte before the start", []add{{^uint32(0), "x"}, {0, "ab"}}, "ab", 0},
		{"straddles the start", []add{{^uint32(0), "xab"}}, "ab", 0},
		{"seven islands filled in", []add{
			{2, "c"},
			{4, "e"},
			{6, "g"},
			{8, "i"},
			{10, "k"},
			{12, "m"},
			{14, "o"},
			{15, "p"},
			{0, "a"},
			{1, "b"},
			{3, "d"},
			{5, "f"},
			{7, "h"},
			{9, "j"},
			{11, "l"},
			{13, "n"},
		}, "abcdefghijklmnop", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := New(16, 16)
			id, ok := a.Get()
			if !ok {
				t.Fatal("no slot")
			}
			lost := 0
			for _, s := range tt.adds {
				if !a.Add(id, s.offset, []byte(s.data)) {
					lost++
				}
			}
			if got := string(a.Contiguous(id)); got != tt.want || lost != tt.lost {
				t.Errorf("got %q, %d lost; want %q, %d", got, lost, tt.want, tt.lost)
			}
		})
	}
}

func TestIslandLimit(t *testing.T) {
	a := New(64, 64)
	id, _ := a.Get()
	for i := range uint32(MaxIslands) {
		if !a.Add(id, 2+2*i, []byte{'x'}) {
			t.Fatalf("island %d refused", i)
		}
	}
	if a.Add(id, 40, []byte{'x'}) {
		t.Error("an island too many was kept")
	}
	if !a.Add(id, 3, []byte{'y'}) {
		t.Error("a segment that joins two islands was refused")
	}
	if !a.Add(id, 40, []byte{'z'}) {
		t.Error("an island was refused after two had joined")
	}
	if !a.Add(id, 0, []byte("ab")) {
		t.Error("the first bytes were refused")
	}
	if got := string(a.Contiguous(id)); got != "abxyx" {
		t.Errorf("got %q", got)
	}
}

// A connection with DNS over TCP carries message after message: the window must
// follow, whatever the order, and past the 4 GiB where offsets wrap.
func TestConsumeFollowsTheStream(t *testing.T) {
	const size = 64
	a := New(size, size)
	id, _ := a.Get()
	rng := rand.New(rand.NewPCG(1, 2))
	var sent, got uint32
	start := ^uint32(0) - 500 // so that offsets wrap on the way
	a.slots[id].base = start
	value := func(i uint32) byte { return byte(i * 167 >> 3) }
	for got < 5000 {
		var segments []add
		for range 3 {
			n := uint32(rng.IntN(15) + 1)
			if sent+n > got+size {
				break
			}
			b := make([]byte, n)
			for k := range b {
				b[k] = value(sent + uint32(k))
			}
			segments = append(segments, add{start + sent, string(b)})
			sent += n
		}
		rng.Shuffle(len(segments), func(i, j int) { segments[i], segments[j] = segments[j], segments[i] })
		for _, s := range segments {
			if !a.Add(id, s.offset, []byte(s.data)) {
				t.Fatalf("segment at %d lost", s.offset-start)
			}
		}
		c := a.Contiguous(id)
		if uint32(len(c)) != sent-got {
			t.Fatalf("%d bytes contiguous at %d, want %d", len(c), got, sent-got)
		}
		for k, v := range c {
			if v != value(got+uint32(k)) {
				t.Fatalf("byte %d is wrong", got+uint32(k))
			}
		}
		n := rng.IntN(len(c) + 1)
		a.Consume(id, n)
		got += uint32(n)
	}
}

func TestPool(t *testing.T) {
	a := New(16<<10, 20*16<<10)
	if a.Committed() != 0 || a.InUse() != 0 || a.Slots() != 20 {
		t.Fatalf("new: committed %d, in use %d, slots %d", a.Committed(), a.InUse(), a.Slots())
	}
	seen := map[uint32]bool{}
	for i := range 20 {
		id, ok := a.Get()
		if !ok || seen[id] {
			t.Fatalf("slot %d: %d, %v", i, id, ok)
		}
		seen[id] = true
		a.Add(id, 0, []byte{byte(i)})
	}
	if _, ok := a.Get(); ok {
		t.Error("more slots than the budget")
	}
	if a.Committed() != 20*16<<10 || a.InUse() != 20 {
		t.Errorf("full: committed %d, in use %d", a.Committed(), a.InUse())
	}
	a.Put(7)
	id, ok := a.Get()
	if !ok || id != 7 || len(a.Contiguous(id)) != 0 {
		t.Errorf("a slot put back came as %d, %v with %d bytes", id, ok, len(a.Contiguous(id)))
	}
	for id := range seen {
		if id != 7 && len(a.Contiguous(id)) != 1 {
			t.Errorf("slot %d lost its byte", id)
		}
	}
}

func TestPoolCommitsInSteps(t *testing.T) {
	a := New(68<<10, 100*68<<10)
	a.Get()
	if got := a.Committed(); got > chunkBytes || got < 68<<10 {
		t.Errorf("the first slot committed %d bytes", got)
	}
	if _, ok := New(16, 15).Get(); ok {
		t.Error("a slot beyond the budget")
	}
	if _, ok := New(16, -1).Get(); ok {
		t.Error("a slot of a negative budget")
	}
}

func TestMisusePanics(t *testing.T) {
	a := New(16, 16)
	id, _ := a.Get()
	for name, f := range map[string]func(){
		"Put twice":        func() { a.Put(id); a.Put(id) },
		"Consume too much": func() { a.Consume(id, 1) },
		"window of zero":   func() { New(0, 1) },
		"window too large": func() { New(1<<31, 1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

// model is the plain form of a slot: a byte and a mark for each offset.
type model struct {
	size, consumed int
	data           map[int]byte
}

func (m *model) islands() int {
	n := 0
	for i := m.consumed; i < m.consumed+m.size; i++ {
		_, have := m.data[i]
		if _, next := m.data[i+1]; have && !next {
			n++
		}
	}
	if _, ok := m.data[m.consumed]; ok {
		n-- // the stretch without a gap is no island
	}
	return n
}

func (m *model) add(offset int, payload []byte) bool {
	whole := true
	var added []int
	for i, v := range payload {
		at := offset + i
		switch _, have := m.data[at]; {
		case at < m.consumed, have:
		case at >= m.consumed+m.size:
			whole = false
		default:
			m.data[at] = v
			added = append(added, at)
		}
	}
	if m.islands() > MaxIslands {
		for _, at := range added {
			delete(m.data, at)
		}
		return false
	}
	return whole
}

func (m *model) contiguous() []byte {
	var b []byte
	for i := m.consumed; ; i++ {
		v, ok := m.data[i]
		if !ok {
			return b
		}
		b = append(b, v)
	}
}

// FuzzAssembler runs any sequence of Add and Consume against the model.
func FuzzAssembler(f *testing.F) {
	f.Add([]byte{2, 4, 0, 4, 9, 9, 1, 1})
	f.Add([]byte{10, 3, 20, 3, 0, 10, 10, 10, 255, 4, 30, 12})
	f.Add([]byte{2, 1, 4, 1, 6, 1, 8, 1, 10, 1, 12, 1, 14, 1, 16, 1, 18, 1, 3, 1, 18, 1, 0, 30})
	f.Add([]byte{0, 40, 255, 20, 40, 30, 255, 9, 35, 40})
	f.Fuzz(func(t *testing.T, ops []byte) {
		const size = 48
		a := New(size, size)
		id, _ := a.Get()
		m := &model{size: size, data: map[int]byte{}}
		for i := 0; i+1 < len(ops) && i < 128; i += 2 {
			if ops[i] == 255 {
				n := min(int(ops[i+1]), len(a.Contiguous(id)))
				a.Consume(id, n)
				m.consumed += n
				continue
			}
			// Offsets near what is consumed, before and beyond.
			offset := m.consumed + int(ops[i])%80 - 16
			payload := bytes.Repeat([]byte{byte(i)}, int(ops[i+1])%56)
			if got, want := a.Add(id, uint32(offset), payload), m.add(offset, payload); got != want {
				t.Fatalf("op %d: Add returned %v, want %v", i, got, want)
			}
			if got, want := a.Contiguous(id), m.contiguous(); !bytes.Equal(got, want) {
				t.Fatalf("op %d: got %v, want %v", i, got, want)
			}
		}
	})
}

func TestModelAgainstRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		const n = 2000
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		var cuts []int
		for range 6 {
			cuts = append(cuts, rng.IntN(n))
		}
		cuts = append(cuts, 0, n)
		slices.Sort(cuts)
		order := rng.Perm(len(cuts) - 1)
		a := New(n, n)
		id, _ := a.Get()
		for _, k := range order {
			if !a.Add(id, uint32(cuts[k]), data[cuts[k]:cuts[k+1]]) {
				t.Fatal("a segment was lost")
			}
		}
		if !bytes.Equal(a.Contiguous(id), data) {
			t.Fatalf("order %v of cuts %v: not the stream", order, cuts)
		}
	}
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	a := New(16<<10, 1<<20)
	payload := make([]byte, 1400)
	round := func() {
		var ids [10]uint32
		for i := range ids {
			ids[i], _ = a.Get()
		}
		for _, id := range ids {
			a.Add(id, 2800, payload)
			a.Add(id, 5600, payload)
			a.Add(id, 1400, payload)
			a.Add(id, 0, payload)
			a.Consume(id, len(a.Contiguous(id)))
			a.Add(id, 4200, payload)
			a.Add(id, 20000, payload)
			a.Put(id)
		}
	}
	round()
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations a round", n)
	}
}

func BenchmarkAddInOrder(b *testing.B) {
	a := New(16<<10, 16<<10)
	payload := make([]byte, 1400)
	b.SetBytes(3 * 1400)
	b.ReportAllocs()
	for b.Loop() {
		id, _ := a.Get()
		a.Add(id, 0, payload)
		a.Add(id, 1400, payload)
		a.Add(id, 2800, payload)
		a.Put(id)
	}
}

// TestBase: what one window holds can go on in another.
func TestBase(t *testing.T) {
	small, large := New(8, 8), New(64, 64)
	from, _ := small.Get()
	small.Add(from, 0, []byte("abcdef"))
	small.Consume(from, 4)
	base := small.Base(from)
	to, ok := large.GetAt(base)
	if !ok || base != 4 {
		t.Fatalf("base %d, %v", base, ok)
	}
	large.Add(to, base, small.Contiguous(from))
	large.Add(to, 6, []byte("ghijklmnop"))
	large.Add(to, 0, []byte("abcd")) // old
	if got := string(large.Contiguous(to)); got != "efghijklmnop" || large.Base(to) != 4 {
		t.Errorf("%q from %d on", got, large.Base(to))
	}
}
