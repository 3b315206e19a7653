package arena

import (
	"math/rand/v2"
	"sync"
	"testing"
	"unsafe"
)

// piece is a table of words that all say whose they are.
type piece struct {
	words []uint64
	owner uint64
}

func newPiece(t *testing.T, bytes int, owner uint64) piece {
	t.Helper()
	words, err := MakeDense[uint64](bytes / 8)
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range words {
		if w != 0 {
			t.Fatalf("word %d of %d bytes is %#x, want zero", i, bytes, w)
		}
		words[i] = owner
	}
	return piece{words, owner}
}

func (p piece) free(t *testing.T) {
	t.Helper()
	for i, w := range p.words {
		if w != p.owner {
			t.Errorf("word %d of %d bytes of owner %d is %d", i, 8*len(p.words), p.owner, w)
			break
		}
	}
	if err := Free(p.words); err != nil {
		t.Error(err)
	}
}

// slabsHeld is how many bytes the pool has of the system.
func slabsHeld() int {
	pieces.mu.Lock()
	defer pieces.mu.Unlock()
	return len(pieces.slabs) * HugePage
}

// TestMakeDense takes and frees pieces of all sizes at random: each is zero when
// it is taken, nobody else's while it is held, and all go back in the end.
func TestMakeDense(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	before, held := Reserved(), slabsHeld()
	var live []piece
	bytes := 0
	for i := range 3000 {
		if len(live) > 0 && rnd.IntN(100) < 45 {
			at := rnd.IntN(len(live))
			bytes -= 8 * len(live[at].words)
			live[at].free(t)
			live[at] = live[len(live)-1]
			live = live[:len(live)-1]
		} else {
			p := newPiece(t, 8<<rnd.IntN(17)+8*rnd.IntN(3), uint64(i+1))
			if uintptr(unsafe.Pointer(&p.words[0]))%64 != 0 {
				t.Fatalf("%d bytes do not begin at a line of the cache", 8*len(p.words))
			}
			bytes += 8 * len(p.words)
			live = append(live, p)
		}
		if got := Reserved() - before; got != int64(bytes) {
			t.Fatalf("%d bytes reserved, %d in use", got, bytes)
		}
	}
	for _, p := range live {
		p.free(t)
	}
	if Reserved() != before || slabsHeld() != held {
		t.Errorf("%d bytes reserved and %d held after all was freed", Reserved()-before, slabsHeld()-held)
	}
}

// TestMakeDenseSizes holds that Free knows what is a piece and what is not, at the
// sizes where that changes.
func TestMakeDenseSizes(t *testing.T) {
	before, held := Reserved(), slabsHeld()
	for _, bytes := range []int{8, pieceUnit, pieceUnit + 8, largestPiece, largestPiece + 8, HugePage - 8, HugePage, 3 * HugePage} {
		a, b := newPiece(t, bytes, 1), newPiece(t, bytes, 2)
		whole, err := Make[uint64](bytes / 8)
		if err != nil {
			t.Fatal(err)
		}
		a.free(t)
		if err := Free(whole); err != nil {
			t.Error(err)
		}
		b.free(t)
	}
	for _, n := range []int{-1, int(^uint(0) >> 1)} {
		if _, err := MakeDense[uint64](n); err == nil {
			t.Errorf("MakeDense of %d: no error", n)
		}
	}
	if _, err := MakeDense[*int](1); err == nil {
		t.Error("MakeDense of pointers: no error")
	}
	if s, err := MakeDense[uint64](0); err != nil || len(s) != 0 || Free(s) != nil {
		t.Errorf("MakeDense(0) = %d records, %v", len(s), err)
	}
	if Reserved() != before || slabsHeld() != held {
		t.Errorf("%d bytes reserved and %d held after all was freed", Reserved()-before, slabsHeld()-held)
	}
}

// TestPoolWastesLittle doubles tables as an engine's do, at random times but all
// in step: what the pool holds beyond them stays small.
func TestPoolWastesLittle(t *testing.T) {
	const tables, most = 256, 512 << 10
	rnd := rand.New(rand.NewPCG(5, 6))
	held := slabsHeld()
	list := make([]piece, tables)
	for i := range list {
		list[i] = newPiece(t, 1<<10, uint64(i+1))
	}
	live, worst := tables*pieceUnit, 0.0
	for size := 2 << 10; size <= most; size *= 2 {
		for _, i := range rnd.Perm(tables) {
			next := newPiece(t, size, list[i].owner)
			list[i].free(t)
			list[i] = next
			live += max(size, pieceUnit) - max(size/2, pieceUnit)
			if spare := slabsHeld() - held - live; spare > 4*HugePage {
				worst = max(worst, float64(spare)/float64(live))
			}
		}
		if spare := slabsHeld() - held - live; spare > live/16+2*HugePage {
			t.Errorf("all tables have %d bytes: the pool holds %d, and %d to spare", size, live, spare)
		}
	}
	if worst > 0.5 {
		t.Errorf("while tables double, the pool holds up to %.2f of them to spare", worst)
	}
	t.Logf("up to %.2f to spare", worst)
	for _, p := range list {
		p.free(t)
	}
}

// TestPoolOfMany lets several goroutines take and free pieces at once.
func TestPoolOfMany(t *testing.T) {
	before := Reserved()
	var wait sync.WaitGroup
	for owner := range uint64(4) {
		wait.Go(func() {
			rnd := rand.New(rand.NewPCG(owner, 7))
			for range 300 {
				words, err := MakeDense[uint64](1 << rnd.IntN(14))
				if err != nil {
					t.Error(err)
					return
				}
				p := piece{words, owner + 1}
				for i := range words {
					words[i] += p.owner
				}
				p.free(t)
			}
		})
	}
	wait.Wait()
	if Reserved() != before {
		t.Errorf("%d bytes reserved after all was freed", Reserved()-before)
	}
}
