package demo

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/synth"
)

func generator(t *testing.T) *synth.Generator {
	t.Helper()
	sc, err := synth.LoadScenario("outage-2014")
	if err != nil {
		t.Fatal(err)
	}
	g, err := synth.New(sc, synth.Options{Seed: 1, Subscribers: 20, Duration: 20 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestCaughtUp: it is told that the first part has been played when the first frame
// after it is delivered, not before.
func TestCaughtUp(t *testing.T) {
	const skip = 10 * time.Minute
	g := generator(t)
	s := NewSource(g, 1e6, skip)
	defer s.Close()
	caughtUp := func() bool {
		select {
		case <-s.CaughtUp():
			return true
		default:
			return false
		}
	}
	from := g.Start().Add(skip).UnixNano()
	n, last := 0, int64(0)
	for b := (capture.Batch{}); ; {
		err := s.Next(&b)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		for i := range b.Frames {
			f := &b.Frames[i]
			if f.Time < last {
				t.Fatalf("frame %d is before the one before it", n)
			}
			n, last = n+1, f.Time
		}
		if len(b.Frames) > 0 && caughtUp() != (last >= from) {
			t.Fatalf("caught up: %v, with frames up to %v of %v", caughtUp(), time.Unix(0, last).UTC(), time.Unix(0, from).UTC())
		}
		s.Release(&b)
	}
	if !caughtUp() || n == 0 {
		t.Errorf("after %d frames: caught up: %v", n, caughtUp())
	}
	stats := s.Stats()
	if got := stats.Interfaces[0].Packets + stats.Interfaces[1].Packets; got != uint64(n) {
		t.Errorf("%d packets are counted, %d were delivered", got, n)
	}
}
