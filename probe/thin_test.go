package probe

import (
	"fmt"
	"testing"
	"time"

	"github.com/nametap/nametap/capture"
)

// uneven is a trace of busy and of quiet steps, and of bursts in the middle of quiet
// ones: each subscriber asks for nothing, and opens connection after connection.
func uneven(t *testing.T, perStep ...int) []capture.Frame {
	t.Helper()
	g := newGn(t)
	begin := g.list
	for i, n := range perStep {
		for k := range n {
			user := fmt.Sprintf("10.0.%d.%d", k%7, 1+k%200)
			g.frame(g.tcp(user, "203.0.113.9", 1024+k%60_000, 443, "S", uint32(i*1000+k)<<8, 0, ""))
			g.list[len(g.list)-1].Time = 1e18 + int64(i)*step + int64(k)*(step/int64(2*n))
		}
	}
	return g.list[len(begin):]
}

// TestThinSteps: where a step has less than a chunk, the dispatcher works it for all
// shards, because to wait for them would take many times as long, and where it has
// more, it does not. The outcome is the same.
func TestThinSteps(t *testing.T) {
	cases := []struct {
		name    string
		perStep []int
		thin    []bool // after each step
	}{
		{"thin", []int{3, 0, 1, 255, 20, 7}, []bool{true, true, true, true}},
		{"thick", []int{300, 1000, 256, 700}, []bool{false, false, false}},
		{"by turns", []int{1000, 10, 600, 600, 5, 5, 2000, 1}, []bool{false, true, false, false, true, true, false}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			list := uneven(t, c.perStep...)
			want := digest(t, config(1), list, 64)
			for _, shards := range []int{2, 5, 64} {
				cfg := config(shards)
				for _, batch := range []int{1, 64, 5000} {
					if got := digest(t, cfg, list, batch); got != want {
						t.Errorf("%d shards, batches of %d: another outcome than with one shard", shards, batch)
					}
				}
				if got := thinSteps(t, cfg, list); fmt.Sprint(got) != fmt.Sprint(c.thin) {
					t.Errorf("%d shards: thin after each step %v, want %v", shards, got, c.thin)
				}
			}
		})
	}
}

// thinSteps says of each step that ended, but for a pause, whether it was thin.
func thinSteps(t *testing.T, cfg Config, list []capture.Frame) (thin []bool) {
	t.Helper()
	var e *Engine
	cfg.WatchEvery = time.Duration(step)
	cfg.Watch = func(*Snapshot) {
		if e.counts.frames > 0 {
			thin = append(thin, e.thin)
		}
	}
	e = newEngine(t, cfg)
	if err := e.Run(t.Context(), &memory{frames: list, batch: 64}); err != nil {
		t.Fatal(err)
	}
	return thin
}
