package probe

import (
	"slices"
	"testing"

	"github.com/nametap/nametap/flows"
)

// TestBatchesDoNotMatter: what waits is taken early after the same frames, however
// a pipe has cut them. What is given out with it, and which servers still find a
// place, hangs on that.
func TestBatchesDoNotMatter(t *testing.T) {
	g := newGn(t)
	for i := range 20_000 {
		g.frame(g.tcp("10.0.0.1", "203.0.113.9", 40000, 443, "S", uint32(i)<<20, 0, "")) // the port is used again
		g.list[i].Time = g.list[0].Time + int64(i)                                       // all of it in a step
	}
	var want []uint64
	for _, batch := range []int{1, 31, 300, 1001} {
		cfg := config(1)
		cfg.Memory = MinMemory
		cfg.Dedup = 0
		var e *Engine
		var taken []uint64 // after how many frames
		cfg.Records = func([]flows.Record) {
			if n := e.counts.frames; n < uint64(len(g.list)) && !slices.Contains(taken, n) {
				taken = append(taken, n)
			}
		}
		e = newEngine(t, cfg)
		if err := e.Run(t.Context(), &memory{frames: g.list, batch: batch}); err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = taken
		}
		if len(taken) == 0 || !slices.Equal(taken, want) {
			t.Errorf("in batches of %d frames: taken after %d, want %d", batch, taken, want)
		}
	}
}
