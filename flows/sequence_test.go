package flows

import (
	"testing"

	"github.com/nametap/nametap/capture/decode"
)

// Losses and what is none (facts: a repeat of what the tap saw was lost after
// it; a hole filled late was lost before it; a hole that was acknowledged and
// never filled was lost by the capture). Every episode is played at several
// places of the sequence space, the wrap through 2^32 among them: it must not
// matter.
func TestSequence(t *testing.T) {
	const rtt = 50.0 // of open(): 30 ms and 20 ms
	episodes := []struct {
		name string
		play func(s *scene, n uint32) // n is the subscriber's next sequence number
		want string
	}{
		{
			"in order", func(s *scene, n uint32) { s.data(Up, 100).data(Up, 100).ack(Down).data(Down, 9).ack(Up) },
			"open up.payload=200",
		},

		// Repeats.
		{
			"sent again", func(s *scene, n uint32) { s.data(Up, 100).at(300).data(Up, 100, seq(n)) },
			"open up.payload=200 up.rtx=1",
		},
		{"sent again and again", func(s *scene, n uint32) {
			s.data(Up, 100).at(300).data(Up, 100, seq(n)).at(900).data(Up, 100, seq(n))
		}, "open up.rtx=2"},
		{
			"sent again at once", func(s *scene, n uint32) { s.data(Up, 100).data(Up, 100, seq(n)) },
			"open up.rtx=1",
		},
		{"an older one sent again", func(s *scene, n uint32) {
			s.data(Up, 100).data(Up, 100).data(Up, 100).at(300).data(Up, 100, seq(n))
		}, "open up.rtx=1"},
		{
			"sent again after it was acknowledged", func(s *scene, n uint32) { s.data(Up, 100).ack(Down).at(300).data(Up, 100, seq(n)) },
			"open up.rtx=1",
		},
		{
			"two sent again as one", func(s *scene, n uint32) { s.data(Up, 100).data(Up, 100).at(300).data(Up, 200, seq(n)) },
			"open up.rtx=1",
		},
		{"sent again with new data", func(s *scene, n uint32) {
			s.data(Up, 100).at(300).data(Up, 150, seq(n)).data(Up, 10, seq(n+150)).ack(Down, acks(n+160))
		}, "open up.rtx=1"},
		{"the end of one sent again with new data", func(s *scene, n uint32) {
			s.data(Up, 100).at(300).data(Up, 100, seq(n+50)).data(Up, 10, seq(n+150))
		}, "open up.rtx=1"},
		{
			"FIN sent again", func(s *scene, n uint32) { s.fin(Up).at(300).fin(Up, seq(n)) },
			"open fin=2 up.rtx=1",
		},
		{
			"data sent again with FIN", func(s *scene, n uint32) { s.data(Up, 100).at(300).send(Up, decode.FIN, 100, seq(n)) },
			"open fin=1 up.rtx=1",
		},
		{"server sends again", func(s *scene, n uint32) {
			s.data(Down, 100).at(300).data(Down, 100, seq(s.ends[Down].nxt-100))
		}, "open down.rtx=1"},
		{
			"pure acknowledgments repeat nothing", func(s *scene, n uint32) { s.data(Down, 100).ack(Up).ack(Up).ack(Up).ack(Up) },
			"open",
		},
		{
			"RST repeats nothing", func(s *scene, n uint32) { s.data(Up, 100).rst(Up, seq(n)).rst(Up, seq(n)) },
			"rst rst=2",
		},

		// Holes.
		{
			"swapped on the way", func(s *scene, n uint32) { s.data(Up, 100, seq(n+100)).at(51).data(Up, 100, seq(n)) },
			"open up.ooo=1",
		},
		{
			"swapped, just in time", func(s *scene, n uint32) { s.data(Up, 100, seq(n+100)).at(50+0.75*rtt-0.001).data(Up, 100, seq(n)) },
			"open up.ooo=1",
		},
		{"hole filled after a round trip: lost before the tap", func(s *scene, n uint32) {
			s.data(Up, 100, seq(n+100)).at(50+0.75*rtt).data(Up, 100, seq(n))
		}, "open up.rtx=1 up.lost=1"},
		{"hole filled in two halves", func(s *scene, n uint32) {
			s.data(Up, 100, seq(n+200)).at(300).data(Up, 100, seq(n)).data(Up, 100, seq(n+100)).at(600).data(Up, 100, seq(n+100))
		}, "open up.rtx=3 up.lost=2"},
		{"hole filled back to front", func(s *scene, n uint32) {
			s.data(Up, 100, seq(n+200)).at(300).data(Up, 100, seq(n+100)).data(Up, 100, seq(n)).at(600).data(Up, 100, seq(n))
		}, "open up.rtx=3 up.lost=2"},
		{"hole split by its middle, the rest lost by the capture", func(s *scene, n uint32) {
			s.data(Up, 100, seq(n+300)).at(300).data(Up, 100, seq(n+100)).ack(Down, acks(n+400))
		}, "open up.rtx=1 up.lost=1 up.unseen=200"},
		{"hole split, then filled", func(s *scene, n uint32) {
			s.data(Up, 100, seq(n+300)).at(300).data(Up, 100, seq(n+100)).data(Up, 100, seq(n)).data(Up, 100, seq(n+200)).ack(Down, acks(n+400))
		}, "open up.rtx=3 up.lost=3"},
		{"three holes filled by one segment", func(s *scene, n uint32) {
			s.data(Up, 10, seq(n+10)).data(Up, 10, seq(n+30)).data(Up, 10, seq(n+50)).
				at(300).data(Up, 60, seq(n)).ack(Down, acks(n+60))
		}, "open up.rtx=1 up.lost=1"},
		{"partial overlap with the start of a hole", func(s *scene, n uint32) {
			s.data(Up, 100).data(Up, 100, seq(n+200)).at(300).data(Up, 100, seq(n+50)).ack(Down, acks(n+300))
		}, "open up.rtx=1 up.lost=1 up.unseen=50"},
		{"partial overlap with the end of a hole", func(s *scene, n uint32) {
			s.data(Up, 100).data(Up, 100, seq(n+200)).at(300).data(Up, 100, seq(n+150)).ack(Down, acks(n+300))
		}, "open up.rtx=1 up.lost=1 up.unseen=50"},
		{"segment up to the start of a hole repeats", func(s *scene, n uint32) {
			s.data(Up, 100).data(Up, 100, seq(n+200)).at(300).data(Up, 100, seq(n)).ack(Down, acks(n+300))
		}, "open up.rtx=1 up.unseen=100"},
		{"segment from the end of a hole repeats", func(s *scene, n uint32) {
			s.data(Up, 100).data(Up, 100, seq(n+200)).at(300).data(Up, 100, seq(n+200)).ack(Down, acks(n+300))
		}, "open up.rtx=1 up.unseen=100"},
		{"hole, repeat and new data at once", func(s *scene, n uint32) {
			s.data(Up, 100, seq(n+100)).at(300).data(Up, 300, seq(n)).data(Up, 10, seq(n+300)).ack(Down, acks(n+310))
		}, "open up.rtx=1 up.lost=1"},
		{"filled twice is sent twice", func(s *scene, n uint32) {
			s.data(Up, 100, seq(n+100)).at(51).data(Up, 100, seq(n)).at(52).data(Up, 100, seq(n))
		}, "open up.ooo=1 up.rtx=1"},
		{
			"hole at the FIN", func(s *scene, n uint32) { s.fin(Up, seq(n+100)).at(51).data(Up, 100, seq(n)) },
			"open up.ooo=1",
		},
		{"server's hole", func(s *scene, n uint32) {
			m := s.ends[Down].nxt
			s.data(Down, 100, seq(m+100)).at(300).data(Down, 100, seq(m))
		}, "open down.rtx=1 down.lost=1"},

		// Lost by the capture.
		{
			"hole acknowledged and never filled", func(s *scene, n uint32) { s.data(Up, 100, seq(n+100)).at(80).ack(Down, acks(n+200)) },
			"open up.unseen=100",
		},
		{
			"hole not yet acknowledged", func(s *scene, n uint32) { s.data(Up, 100, seq(n+100)).at(80).ack(Down, acks(n)) },
			"open",
		},
		{
			"hole acknowledged in part", func(s *scene, n uint32) { s.data(Up, 100, seq(n+100)).at(80).ack(Down, acks(n+99)) },
			"open",
		},
		{"acknowledged, then sent again", func(s *scene, n uint32) {
			s.data(Up, 100, seq(n+100)).at(80).ack(Down, acks(n+200)).at(90).data(Up, 100, seq(n))
		}, "open up.unseen=100 up.rtx=1"},
		{"the last one missed shows when the next comes", func(s *scene, n uint32) {
			s.data(Up, 100).ack(Down, acks(n+300)).data(Up, 100, seq(n+300)).ack(Down, acks(n+400))
		}, "open up.unseen=200"},
		{
			"acknowledgment before the data, which then comes", func(s *scene, n uint32) { s.ack(Down, acks(n+100)).data(Up, 100).data(Up, 100) },
			"open",
		},
		{"server's hole acknowledged", func(s *scene, n uint32) {
			m := s.ends[Down].nxt
			s.data(Down, 100, seq(m+1000)).ack(Up, acks(m+1100))
		}, "open down.unseen=1000"},
		{
			"a RST's acknowledgment is no word of what arrived", func(s *scene, n uint32) { s.data(Up, 100, seq(n+100)).rst(Down, acks(n+200)) },
			"rst rst=1",
		},
		{"a wild acknowledgment", func(s *scene, n uint32) {
			s.data(Up, 100, seq(n+100)).ack(Down, acks(n+0x7000_0000)).ack(Down, acks(n)).at(300).data(Up, 100, seq(n))
		}, "open up.rtx=1 up.lost=1"},

		// Neither loss nor disorder.
		{"keep-alive without data", func(s *scene, n uint32) {
			s.data(Up, 100).ack(Down).at(60_000).ack(Up, seq(n+99)).ack(Down).at(120_000).ack(Up, seq(n+99)).ack(Down).data(Up, 5)
		}, "open up.payload=105"},
		{"keep-alive with one byte", func(s *scene, n uint32) {
			s.data(Up, 100).ack(Down).at(60_000).data(Up, 1, seq(n+99)).ack(Down).at(120_000).data(Up, 1, seq(n+99)).data(Up, 5)
		}, "open up.payload=107"},
		{"keep-alive of the server", func(s *scene, n uint32) {
			m := s.ends[Down].nxt
			s.data(Down, 100).ack(Up).at(60_000).data(Down, 1, seq(m+99)).ack(Up)
		}, "open"},
		{
			"keep-alive right after the handshake", func(s *scene, n uint32) { s.at(60_000).data(Up, 1, seq(n-1)).ack(Down) },
			"open",
		},
		{
			"keep-alive, one way", func(s *scene, n uint32) { s.data(Up, 100).at(60_000).data(Up, 1, seq(n+99)) },
			"open up.rtx=1",
		}, // una is known from the SYN/ACK: not acknowledged
		{
			"one byte sent again before its acknowledgment", func(s *scene, n uint32) { s.data(Up, 1).at(300).data(Up, 1, seq(n)) },
			"open up.rtx=1",
		},
		{
			"one byte in the middle sent again", func(s *scene, n uint32) { s.data(Up, 100).ack(Down).at(300).data(Up, 1, seq(n+50)) },
			"open up.rtx=1",
		},
		{"zero window, probes without data", func(s *scene, n uint32) {
			s.data(Up, 100).ack(Down, window(0)).at(300).ack(Up, seq(n+99)).ack(Down, window(0)).at(900).ack(Up, seq(n+99)).ack(Down).data(Up, 50)
		}, "open up.payload=150"},
		{"zero window, probes with the next byte, refused", func(s *scene, n uint32) {
			s.data(Up, 100).ack(Down, window(0)).at(300).data(Up, 1, seq(n+100)).ack(Down, window(0), acks(n+100)).
				at(900).data(Up, 1, seq(n+100)).ack(Down, window(0), acks(n+100)).
				at(2000).ack(Down, acks(n+100)).data(Up, 50, seq(n+100)).data(Up, 50, seq(n+150)).ack(Down, acks(n+200))
		}, "open up.payload=202"},
		{"zero window, probe taken as the window opens", func(s *scene, n uint32) {
			s.data(Up, 100).ack(Down, window(0)).at(300).data(Up, 1, seq(n+100)).ack(Down, acks(n+101)).data(Up, 50, seq(n+101)).ack(Down, acks(n+151))
		}, "open up.payload=151"},
		{"zero window, probes with the last byte", func(s *scene, n uint32) {
			s.data(Up, 100).ack(Down, window(0)).at(300).data(Up, 1, seq(n+99)).ack(Down, window(0)).at(900).data(Up, 1, seq(n+99)).ack(Down)
		}, "open"},
		{"zero window, probe taken, the rest sent again from its end", func(s *scene, n uint32) {
			s.data(Up, 100).ack(Down, window(0)).at(300).data(Up, 1, seq(n+100)).ack(Down, acks(n+101)).data(Up, 50, seq(n+101)).
				at(800).data(Up, 50, seq(n+150)).data(Up, 50, seq(n+200))
		}, "open up.rtx=1"},
		{"zero window, probe taken, and sent again all the same", func(s *scene, n uint32) {
			s.data(Up, 100).ack(Down, window(0)).at(300).data(Up, 1, seq(n+100)).ack(Down, acks(n+101)).data(Up, 50, seq(n+100))
		}, "open up.rtx=1"},
		{"zero window, probe refused, then one byte too many sent again", func(s *scene, n uint32) {
			s.data(Up, 100).ack(Down, window(0)).at(300).data(Up, 1, seq(n+100)).ack(Down, acks(n+100)).
				data(Up, 50, seq(n+100)).data(Up, 50, seq(n+149))
		}, "open up.rtx=1"},
		{"one byte sent again with new data after its acknowledgment", func(s *scene, n uint32) {
			s.data(Up, 100).ack(Down).at(300).data(Up, 50, seq(n+99)).data(Up, 50, seq(n+149))
		}, "open up.rtx=1"},
		{"a probed byte sent twice after the window opened", func(s *scene, n uint32) {
			s.data(Up, 100).ack(Down, window(0)).at(300).data(Up, 1, seq(n+100)).ack(Down, acks(n+100)).
				data(Up, 50, seq(n+100)).at(800).data(Up, 50, seq(n+100))
		}, "open up.rtx=1"},

		// Out of every window.
		{"a stray far ahead", func(s *scene, n uint32) {
			s.data(Up, 100).data(Up, 9, seq(n+0x5000_0000)).data(Up, 100, seq(n+100)).data(Up, 100, seq(n+200)).ack(Down, acks(n+300))
		}, "open up.payload=309"},
		{"a leap ahead, acknowledged", func(s *scene, n uint32) {
			s.data(Up, 100).data(Up, 9, seq(n+0x5000_0000)).ack(Down, acks(n+0x5000_0009)).data(Up, 9).ack(Down, acks(n+0x5000_0012))
		}, "open"},
		{"more missed than can be told", func(s *scene, n uint32) {
			s.data(Up, 100).data(Up, 9, seq(n+0x9000_0000)).data(Up, 100, seq(n+0x9000_0009))
		}, "open"},
	}
	for _, isn := range []uint32{1000, 0xffff_ffff, 0xffff_fffe, 0xffff_ff9b, 0xffff_ff38, 0x7fff_ff9b, 0x8000_0000} {
		for _, e := range episodes {
			t.Run(e.name, func(t *testing.T) {
				s := newScene(t, 16)
				s.syn(Up, isn).at(30).synack(Down, isn+0x1234).at(50).ack(Up)
				e.play(s, isn+1)
				s.want(e.want)
			})
			t.Run(e.name+"/settled", func(t *testing.T) {
				s := newScene(t, 16)
				s.syn(Up, isn).at(30).synack(Down, isn+0x1234).settle(media).at(50).ack(Up)
				e.play(s, isn+1)
				s.want(e.want)
				s.lossesIn(media)
			})
			if t.Failed() {
				t.Fatalf("with initial sequence number %#x", isn)
			}
		}
	}
}

// lossesIn compares the class's counts with those of the scene's only flow.
func (s *scene) lossesIn(class int) {
	s.t.Helper()
	f, c := s.tab.Flow(1), &s.classes[class]
	for d := range f.Loss {
		h := &f.Loss[d]
		if c.Retransmitted[d] != uint64(h.Retransmitted) || c.LostBefore[d] != uint64(h.LostBefore) ||
			c.OutOfOrder[d] != uint64(h.OutOfOrder) || c.Unseen[d] != uint64(f.Unseen[d]) {
			s.t.Errorf("direction %d: class has %d, %d, %d, %d", d, c.Retransmitted[d], c.LostBefore[d], c.OutOfOrder[d], c.Unseen[d])
		}
	}
}

// Without a handshake the round-trip time is not known, and without answers
// neither is what has arrived.
func TestSequenceOneWay(t *testing.T) {
	runEpisodes(t, []episode{
		{
			"swapped within 20 ms", func(s *scene) { s.data(Up, 9, seq(1)).data(Up, 9, seq(19)).at(19.9).data(Up, 9, seq(10)) },
			[]string{"open up.ooo=1"},
		},
		{
			"filled after 20 ms", func(s *scene) { s.data(Up, 9, seq(1)).data(Up, 9, seq(19)).at(20).data(Up, 9, seq(10)) },
			[]string{"open up.rtx=1 up.lost=1"},
		},
		{
			"before the first byte seen, soon", func(s *scene) { s.data(Up, 9, seq(100)).at(1).data(Up, 9, seq(91)) },
			[]string{"open up.ooo=1"},
		},
		{
			"before the first byte seen, late", func(s *scene) { s.data(Up, 9, seq(100)).at(300).data(Up, 9, seq(91)) },
			[]string{"open up.rtx=1"},
		},
		{
			"keep-alive", func(s *scene) { s.data(Up, 9, seq(1)).at(60_000).data(Up, 1, seq(9)) },
			[]string{"open"},
		},
		{
			"met at a keep-alive", func(s *scene) {
				s.ack(Up, seq(99)).ack(Down, seq(7), acks(100)).data(Up, 9, seq(100)).ack(Down, seq(7), acks(109))
			},
			[]string{"open"},
		},
		{
			"met at an acknowledgment, then sent again", func(s *scene) { s.ack(Up, seq(100)).data(Up, 9, seq(100)).at(300).data(Up, 9, seq(100)) },
			[]string{"open up.rtx=1"},
		},
		{"half of the round-trip time is not enough to judge by", func(s *scene) {
			s.syn(Up, 1000).at(30).synack(Down, 1).data(Up, 9, seq(1010), noAck).at(51).data(Up, 9, seq(1001), noAck)
		}, []string{"open up.rtx=1 up.lost=1"}},
		{
			"met at an old acknowledgment", func(s *scene) { s.ack(Up, seq(100)).ack(Up, seq(90)).data(Up, 9, seq(90)).data(Up, 9, seq(99)) },
			[]string{"open"},
		},
		{
			"acknowledgments alone", func(s *scene) { s.ack(Up, seq(100)).ack(Up, seq(100)).ack(Up, seq(500)) },
			[]string{"open up=3"},
		},
	})
}

func TestMoreHolesThanAListHolds(t *testing.T) {
	s := newScene(t, 16)
	s.open()
	const n = 1001
	for i := range uint32(maxHoles + 3) {
		s.data(Up, 10, seq(n+20*i+10))
	}
	if s.tab.HolesDropped != 3 {
		t.Errorf("%d holes dropped, want 3", s.tab.HolesDropped)
	}
	// The three oldest are forgotten, so that filling them looks like a
	// repeat; the others are known.
	s.at(51)
	for i := range uint32(maxHoles + 3) {
		s.data(Up, 10, seq(n+20*i))
		if i == 2 {
			s.want("open up.rtx=3")
		}
	}
	s.want("open up.rtx=3 up.ooo=8")
	if f := s.tab.Flow(1); f.Half[Up].holes != 0 {
		t.Error("an empty list is kept")
	}
}

func TestSplitInAFullList(t *testing.T) {
	s := newScene(t, 16)
	s.open()
	const n = 1001
	for i := range uint32(maxHoles) {
		s.data(Up, 10, seq(n+100*i+90))
	}
	s.at(51).data(Up, 10, seq(n+40)) // splits the first of eight holes
	if s.tab.HolesDropped != 1 {
		t.Errorf("%d holes dropped, want 1", s.tab.HolesDropped)
	}
	s.ack(Down, acks(n+800))
	s.want("open up.ooo=1 up.unseen=670") // 8×90 − 10 that came − 40 that were forgotten
}

func TestMoreListsThanThePoolHolds(t *testing.T) {
	s := newScene(t, 64)
	for i := range 9 { // the pool holds 8
		s.port(uint16(1000+i)).open().data(Up, 10, seq(1011))
	}
	if s.tab.HolesDropped != 1 {
		t.Errorf("%d holes dropped, want 1", s.tab.HolesDropped)
	}
	s.check()
	// A list that is given back serves again.
	s.port(1000).rst(Down, seq(1)).at(300_000).advance()
	s.port(2000).open().data(Up, 10, seq(1011)).at(300_051).data(Up, 10, seq(1001))
	if f := s.tab.Flow(s.record()); f.Loss[Up].OutOfOrder != 1 {
		t.Errorf("out of order %d, want 1", f.Loss[Up].OutOfOrder)
	}
	s.check()
}

// Where acknowledgments are not seen holes stay open. They must not be found
// again when the sequence numbers come round.
func TestOldHolesAreForgotten(t *testing.T) {
	const gb = 1 << 30
	for _, c := range []struct {
		name string
		move func(s *scene)
		want string
	}{
		{"young", func(s *scene) {}, "open up.ooo=1"},
		{"by age", func(s *scene) { s.at(120_001).data(Up, 10, seq(1021)) }, "open up.rtx=1"},
		{"by distance", func(s *scene) {
			q := uint32(1021)
			for i := range 16 { // once round
				if i == 5 {
					s.send(Up, 0, gb/4-10, seq(q+10)) // another hole, out of reach of the first
				} else {
					s.send(Up, 0, gb/4, seq(q))
				}
				q += gb / 4
			}
		}, "open up.rtx=1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, 16)
			s.syn(Up, 1000).data(Up, 10, seq(1011))
			c.move(s)
			s.data(Up, 10, seq(1001))
			s.want(c.want)
		})
	}
}

func TestUnseenDoesNotWrap(t *testing.T) {
	s := newScene(t, 16)
	s.open()
	n := uint32(1001)
	for range 6 {
		n += 1<<30 - 100
		s.data(Up, 10, seq(n)).ack(Down, acks(n+10))
		n += 10
	}
	if got := s.tab.Flow(1).Unseen[Up]; got != 1<<32-1 {
		t.Errorf("unseen is %d, want all ones", got)
	}
	s.settle(media)
	s.check()
	s.lossesIn(media)
}
