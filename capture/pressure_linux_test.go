package capture

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nametap/nametap/capture/xdp"
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

// within waits for something that the kernel is about to do.
func within(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 5 s", what)
		}
	}
}

// drainUnder reads until nothing is left and returns the pressures that batches came
// with, each of which must be what there is at that moment: nobody sends.
func drainUnder(t *testing.T, s Source, pressure func() uint8) (seen []uint8) {
	t.Helper()
	var b Batch
	for empty := 0; empty < 3; {
		if err := s.Next(&b); err != nil {
			t.Fatal(err)
		}
		if empty++; len(b.Frames) > 0 {
			empty = 0
			seen = append(seen, b.Pressure)
		}
		if now := pressure(); b.Pressure > now+1 || now > b.Pressure+1 { // the kernel says a word now and then
			t.Errorf("a batch says %d %%, the rings %d", b.Pressure, now)
		}
		s.Release(&b)
	}
	return seen
}

// TestXDPPressure fills the rings of real sockets, over and above what they hold.
func TestXDPPressure(t *testing.T) {
	for _, mode := range []xdp.Mode{xdp.Native, xdp.Generic} {
		t.Run(mode.String(), func(t *testing.T) {
			inNamespace(t)
			veth(t, "tap0", "far0")
			veth(t, "tap1", "far1")
			s := openXDPTest(t, mode, 1, "tap0", "tap1") // the least: 4096 chunks each
			far0, far1 := connect(t, s, 0, "far0"), connect(t, s, 1, "far1")
			idle(t, s)
			waits := func(n, size int) func() bool {
				return func() bool { return s.lanes[0].socket.Available() >= n && s.lanes[1].socket.Available() >= size }
			}
			// The fullest counts; what the kernel itself sends is a hundredth at most.
			for _, step := range []struct {
				more0, more1, all0, all1 int
				want                     uint8
			}{
				{0, 0, 0, 0, 0},
				{1024, 400, 1024, 400, 25},
				{1024, 0, 2048, 400, 50},
				{0, 2600, 2048, 3000, 73},
				{1100, 0, 3148, 3000, 76},
				{2000, 0, 4096, 3000, 100},
			} {
				far0.send(step.more0, 100)
				far1.send(step.more1, 100)
				within(t, "frames in the rings", waits(step.all0, step.all1))
				if got := s.pressure(); got < step.want || got > step.want+1 {
					t.Errorf("%d and %d of 4096 chunks are full: %d %%, want %d", step.all0, step.all1, got, step.want)
				}
			}
			within(t, "drops", func() bool { return s.Stats().Interfaces[0].Drops[DropRingFull] > 0 })
			seen := drainUnder(t, s, s.pressure)
			if first, last := seen[0], seen[len(seen)-1]; first < 50 || last != 0 || !slices.IsSortedFunc(seen, func(a, b uint8) int { return int(b) - int(a) }) {
				t.Errorf("batches came with %v %%, want from most of the ring down to nothing", seen)
			}
		})
	}
}

// TestXDPPressureOfHeld: a ring of which all chunks are lent is full, however few
// packets wait in it: the kernel has nowhere to put the next.
func TestXDPPressureOfHeld(t *testing.T) {
	inNamespace(t)
	veth(t, "tap0", "far0")
	s := openXDPTest(t, xdp.Generic, 1, "tap0")
	far0 := connect(t, s, 0, "far0")
	idle(t, s)
	far0.send(4200, 100)
	within(t, "a full ring", func() bool { return s.lanes[0].socket.Available() == 4096 })
	var held []*Batch
	for s.lanes[0].socket.Available() > 0 {
		b := new(Batch)
		if err := s.Next(b); err != nil {
			t.Fatal(err)
		}
		held = append(held, b)
		if b.Pressure != 100 {
			t.Errorf("%d batches are held: %d %%, want 100", len(held), b.Pressure)
		}
	}
	for _, b := range held {
		s.Release(b)
	}
	if got := s.pressure(); got != 0 {
		t.Errorf("all is given back: %d %%", got)
	}
}

// TestLivePressure does the same with a packet socket's ring, whose blocks the
// kernel may close before they are full.
func TestLivePressure(t *testing.T) {
	inNamespace(t)
	veth(t, "tap0", "far0")
	source := openLive(t, LiveConfig{Interfaces: []string{"tap0"}, Promiscuous: true, RingBytes: 32 * leastBlockBytes, BlockBytes: leastBlockBytes})
	s, ok := source.(*live)
	if !ok {
		t.Fatalf("%T", source)
	}
	far0 := connect(t, source, 0, "far0")
	idle(t, source)
	if got := s.pressure(); got != 0 {
		t.Errorf("an empty ring: %d %%", got)
	}
	const size = 1400
	for _, want := range []uint8{25, 50, 75} {
		far0.send(8*leastBlockBytes/size, size)
		within(t, "blocks in the ring", func() bool { return s.pressure() >= want })
	}
	seen := drainUnder(t, source, s.pressure)
	if seen[0] < 50 || seen[len(seen)-1] != 0 {
		t.Errorf("batches came with %v %%", seen)
	}
}
