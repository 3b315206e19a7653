package flows

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/nametap/nametap/capture/decode"
)

// sharers are tables and what their flows were when they ended, in order.
type sharers struct {
	tables []*Table
	ended  [][]string
}

// newSharers returns tables with these caps in one slab, or each in its own.
func newSharers(t *testing.T, slab *Slab, caps []int) *sharers {
	t.Helper()
	idle := new([MaxClasses]int64)
	for i := range idle {
		idle[i] = 300 * second
	}
	s := &sharers{ended: make([][]string, len(caps))}
	for i, most := range caps {
		tab, err := New(Config{
			Flows: most, Slab: slab, HoleLists: 8, Seed: 7, IdleTimeout: idle, Classes: new(Classes),
			OnEnd: func(_ uint32, f Flow) {
				s.ended[i] = append(s.ended[i], fmt.Sprintf("%d %v %s", f.Start, f.Key, describe(f)))
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := tab.Free(); err != nil {
				t.Error(err)
			}
		})
		s.tables = append(s.tables, tab)
	}
	return s
}

// TestSlab holds that a table cannot tell whether others lie in its slab: what is
// evicted when, and in which order flows end at the end, stay the same.
func TestSlab(t *testing.T) {
	caps := []int{MinFlows, run - 1, run, 3*run + 7, 1000}
	total := 0
	for _, most := range caps {
		total += most
	}
	slab, err := NewSlab(total)
	if err != nil {
		t.Fatal(err)
	}
	together, alone := newSharers(t, slab, caps), newSharers(t, nil, caps)
	rnd := rand.New(rand.NewPCG(3, 4))
	now := epoch
	for i := range 40_000 {
		now += rnd.Int64N(int64(10e6))
		k := Key{Subscriber: addr(uint32(rnd.IntN(2000))), Server: addr(1), ServerPort: 443}
		p := decode.Packet{
			Time: now, Transport: make([]byte, 20), HeaderLen: 20, Window: 1, Seq: rnd.Uint32N(9),
			Flags: []uint8{decode.SYN, decode.ACK, decode.ACK, decode.FIN | decode.ACK, decode.RST}[rnd.IntN(5)],
		}
		at, dir := rnd.IntN(len(caps)), Direction(rnd.IntN(2))
		for _, s := range []*sharers{together, alone} {
			tab := s.tables[at]
			tab.Segment(&p, &k, dir, tab.Hash(&k))
			if i%500 == 0 {
				tab.Advance(now)
			}
			if i == 20_000 {
				tab.Shutdown(now)
			}
		}
	}
	for i := range caps {
		a, b := together.tables[i], alone.tables[i]
		a.Shutdown(now)
		b.Shutdown(now)
		if a.Evicted != b.Evicted || a.used != b.used || a.Cap() != caps[i] {
			t.Errorf("a table of %d: %d evicted and %d records used in a slab with others, %d and %d alone", a.Cap(), a.Evicted, a.used-1, b.Evicted, b.used-1)
		}
		if !slices.Equal(together.ended[i], alone.ended[i]) {
			t.Errorf("a table of %d: %d flows ended in a slab with others, %d alone, or not in the same order", caps[i], len(together.ended[i]), len(alone.ended[i]))
		}
	}
	if alone.tables[0].Evicted == 0 || alone.tables[len(caps)-2].used != uint32(caps[len(caps)-2]+1) {
		t.Error("no table was full: the test is too tame")
	}
	if int(slab.used-1) > total {
		t.Errorf("%d records taken of %d", slab.used-1, total)
	}
	if err := slab.Free(); err != nil {
		t.Error(err)
	}
}

func TestSlabRefuses(t *testing.T) {
	for _, n := range []int{-1, 1 << 32, 1 << 40} {
		if s, err := NewSlab(n); err == nil || s != nil {
			t.Errorf("NewSlab of %d flows: %v, %v", n, s, err)
		}
	}
	slab, err := NewSlab(2*MinFlows + 1)
	if err != nil {
		t.Fatal(err)
	}
	tab, err := New(Config{Flows: MinFlows, Slab: slab})
	if err != nil {
		t.Fatal(err)
	}
	if late, err := New(Config{Flows: MinFlows + 2, Slab: slab}); err == nil || late != nil {
		t.Errorf("a table for which there is no room in the slab: %v, %v", late, err)
	}
	if err := tab.Free(); err != nil {
		t.Error(err)
	}
	if err := slab.Free(); err != nil {
		t.Error(err)
	}
}
