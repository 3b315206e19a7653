package capture

import (
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRingPressure fills a ring as the kernel does, block after block, and asks
// how full it is before and behind a reader that has gone round once.
func TestRingPressure(t *testing.T) {
	const size = 4096
	for _, c := range []struct {
		blocks, next, full int
		want               uint8
	}{
		{32, 0, 0, 0},
		{32, 0, 1, 0},
		{32, 0, 7, 0},
		{32, 0, 8, 25},
		{32, 0, 15, 25},
		{32, 0, 16, 50},
		{32, 0, 23, 50},
		{32, 0, 24, 75},
		{32, 0, 32, 75},
		{32, 20, 15, 25},
		{32, 20, 16, 50},
		{32, 31, 24, 75},
		{2, 0, 0, 0},
		{2, 1, 2, 0}, // a ring of two says nothing
		{4, 3, 2, 50},
		{4, 3, 1, 0},
		{4, 3, 3, 75},
	} {
		r := &ring{config: &LiveConfig{BlockBytes: size}, memory: make([]byte, c.blocks*size), uses: make([]atomic.Int32, c.blocks)}
		seen := uint64(c.blocks + c.next)
		for i := range c.blocks { // read already, and lent to somebody
			h := r.header(i)
			h.Block_status, h.Seq_num = unix.TP_STATUS_USER, seen-uint64((c.next-1-i+c.blocks)%c.blocks)
		}
		for i := range c.full {
			h := r.header((c.next + i) % c.blocks)
			h.Block_status, h.Seq_num = unix.TP_STATUS_USER, seen+1+uint64(i)
		}
		if got := r.pressure(cursor{c.next, seen}); got != c.want {
			t.Errorf("%d of %d blocks wait from %d on: %d %%, want %d", c.full, c.blocks, c.next, got, c.want)
		}
	}
}
