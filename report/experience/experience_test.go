package experience

import (
	"math"
	"testing"
	"time"
)

func TestRating(t *testing.T) {
	m := DefaultMarks()
	for _, c := range []struct {
		took time.Duration
		want Rating
	}{
		{0, Good}, {20 * time.Second, Good}, {20*time.Second + 1, Acceptable}, {40 * time.Second, Acceptable}, {40*time.Second + 1, Bad}, {time.Hour, Bad},
	} {
		if got := m.Rate(c.took); got != c.want {
			t.Errorf("%v: %v, want %v", c.took, got, c.want)
		}
	}
	for _, c := range []struct{ t, mos float64 }{{0, 5}, {1, 5}, {20, 4}, {40, 3}, {1000, 1}} {
		if got := MOS(c.t); math.Abs(got-c.mos) > 0.005 {
			t.Errorf("MOS of %v s: %v, want %v", c.t, got, c.mos)
		}
	}
	for mos, want := range map[float64]string{1: "bad", 1.6: "poor", 3: "fair", 4.4: "good", 5: "excellent"} {
		if Word(mos) != want {
			t.Errorf("%v is %s", mos, Word(mos))
		}
	}
	for _, m := range []Marks{{0, 1}, {2, 1}, {-1, 5}} {
		if m.Check() == nil {
			t.Errorf("%v passes", m)
		}
	}
}

func TestScored(t *testing.T) {
	for _, c := range []struct {
		syn      bool
		end      string
		up, down uint64
		want     bool
	}{
		{true, "fin", 1, 1, true},
		{true, "rst", 1, 1, true},
		{true, "idle", 1, 1, true},
		{true, "reused", 1, 1, true},
		{false, "fin", 1, 1, false},
		{true, "shutdown", 1, 1, false},
		{true, "evicted", 1, 1, false},
		{true, "fin", 0, 1, false},
		{true, "fin", 1, 0, false},
	} {
		if Scored(c.syn, c.end, c.up, c.down) != c.want {
			t.Errorf("%+v", c)
		}
	}
}
