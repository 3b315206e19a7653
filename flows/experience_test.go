package flows

import "testing"

// What a class's flows achieved: payload both ways, one end only, and what a
// user thinks of a transfer.
func TestAchieved(t *testing.T) {
	transfer := func(ms float64) func(s *scene) {
		return func(s *scene) {
			s.open().data(Up, 100).data(Down, 1000).at(ms).fin(Up).fin(Down)
		}
	}
	tests := []struct {
		name              string
		play              func(s *scene)
		carried, oneSided uint64
		experience        [Ratings]uint64
	}{
		{"refused", func(s *scene) { s.syn(Up, 1000).rst(Down) }, 0, 0, [Ratings]uint64{}},
		{"unanswered", func(s *scene) { s.syn(Up, 1000).at(1000).syn(Up, 1000) }, 0, 0, [Ratings]uint64{}},
		{"accepted, then silence", func(s *scene) { s.open().data(Up, 100).fin(Up).fin(Down) }, 0, 0, [Ratings]uint64{}},
		{"only the server speaks", func(s *scene) { s.open().data(Down, 100).fin(Up).fin(Down) }, 0, 0, [Ratings]uint64{}},
		{"quick", transfer(20_000), 1, 0, [Ratings]uint64{Good: 1}},
		{"a while", transfer(20_001), 1, 0, [Ratings]uint64{Acceptable: 1}},
		{"long", transfer(40_001), 1, 0, [Ratings]uint64{Bad: 1}},
		{"many segments count once", func(s *scene) {
			s.open().data(Up, 100).data(Down, 100).data(Up, 100).data(Down, 100).fin(Up).fin(Down)
		}, 1, 0, [Ratings]uint64{Good: 1}},
		{"met in mid-stream", func(s *scene) { s.data(Up, 100, seq(9)).data(Down, 100, seq(9)).fin(Up).fin(Down) }, 1, 0, [Ratings]uint64{}},
		{"one mirror port is missing", func(s *scene) { s.syn(Up, 1000).at(50).ack(Up, acks(5001)).data(Up, 100) }, 0, 1, [Ratings]uint64{}},
		{"the subscriber's too", func(s *scene) { s.synack(Down, 5000).data(Down, 100) }, 0, 0, [Ratings]uint64{}},
		{"cut by the end of the trace", func(s *scene) { s.open().data(Up, 100).data(Down, 100) }, 1, 0, [Ratings]uint64{}},
	}
	transfers := [MaxClasses]bool{media: true}
	for _, tt := range tests {
		for _, late := range []bool{false, true} {
			s := newScene(t, 64)
			s.tab.cfg.Transfers = &transfers
			s.onEnd = func(r uint32, _ Flow) { s.tab.Settle(r, media) }
			tt.play(s)
			if !late && s.record() != 0 {
				s.settle(media)
			}
			s.tab.Shutdown(0)
			s.nothingHeld()
			c := &s.classes[media]
			if c.Carried != tt.carried || c.OneSided != tt.oneSided || c.Experience != tt.experience {
				t.Errorf("%s (late %v): carried %d, one-sided %d, experience %v; want %d, %d, %v",
					tt.name, late, c.Carried, c.OneSided, c.Experience, tt.carried, tt.oneSided, tt.experience)
			}
		}
	}
}

// A session is not rated however long it lasts.
func TestSessionsAreNotRated(t *testing.T) {
	s := newScene(t, 64)
	s.tab.cfg.Transfers = &[MaxClasses]bool{media: true}
	s.open().data(Up, 100).data(Down, 100).settle(chat).fin(Up).fin(Down)
	if got := s.classes[chat].Experience; got != ([Ratings]uint64{}) {
		t.Errorf("rated %v", got)
	}
}
