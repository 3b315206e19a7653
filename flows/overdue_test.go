package flows

import (
	"slices"
	"testing"
)

// crowd is connections of all states that are all silent from the first second on.
func crowd(s *scene, n uint16) {
	for p := range n {
		s.at(float64(p)).port(p + 1)
		switch p % 3 {
		case 0:
			s.syn(Up, 1)
		case 1:
			s.syn(Up, 1).synack(Down, 2).ack(Up).settle(media)
		case 2:
			s.syn(Up, 1).synack(Down, 2).ack(Up).settle(media).rst(Down)
		}
	}
}

// TestMostTimedOut: however many flows are due, an Advance ends no more than it
// may, the next ones go on, and each flow ends as it would have without a limit.
func TestMostTimedOut(t *testing.T) {
	free := newScene(t, 64)
	crowd(free, 40)
	free.at(400_000).advance()
	s := newScene(t, 64)
	s.tab.cfg.MostTimedOut = 7
	crowd(s, 40)
	for step := range 6 {
		s.at(400_000 + float64(step)*100).advance()
		if want := min(7*(step+1), 40); s.closed != want {
			t.Errorf("step %d: %d flows have ended, want %d", step, s.closed, want)
		}
		s.check()
	}
	slices.Sort(free.ended)
	slices.Sort(s.ended)
	if len(s.ended) != 40 || !slices.Equal(free.ended, s.ended) {
		t.Errorf("with a limit:\n%v\nwithout:\n%v", s.ended, free.ended)
	}
	if s.advance(); s.closed != 40 || s.tab.Len() != 0 {
		t.Errorf("%d flows are left", s.tab.Len())
	}
}

// TestOverdue: a flow that waits for its end is over, whatever comes.
func TestOverdue(t *testing.T) {
	s := newScene(t, 16)
	s.tab.cfg.MostTimedOut = 1
	for p := range uint16(16) {
		s.at(0).port(p+1).syn(Up, 1).synack(Down, 2).ack(Up).settle(media)
	}
	s.at(400_000).advance()
	if s.closed != 1 || s.tab.wheel[overdue] == 0 {
		t.Fatalf("%d flows have ended, want 1", s.closed)
	}
	// The same connection speaks: its flow ends, another begins.
	s.port(1)
	if s.record() == 0 {
		s.port(2)
	}
	if s.data(Up, 10, seq(2)); s.closed != 2 || s.ev&Opened == 0 {
		t.Errorf("a segment went on with a flow that was overdue: %v", s.ended)
	}
	s.check()
	// A full table gives up those first.
	s.port(100).data(Up, 1).port(101).data(Up, 1)
	if s.port(1); s.record() == 0 {
		s.port(2)
	}
	if r := s.record(); s.tab.Len() != 16 || r == 0 || s.tab.slab.hot[r].Half[Up].Packets != 1 {
		t.Errorf("the flow that is not overdue had to go")
	}
	s.check()
	for range 16 {
		s.now += second / 10
		s.advance()
	}
	if s.tab.wheel[overdue] != 0 || s.tab.Len() != 3 {
		t.Errorf("%d flows are left, want the three new ones", s.tab.Len())
	}
}
