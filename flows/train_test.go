package flows

import (
	"math"
	"testing"

	"github.com/nametap/nametap/capture/decode"
)

// TestTrain: segments of one flight, and the answers to them.
func TestTrain(t *testing.T) {
	runEpisodes(t, []episode{
		{"every other of a flight waits", func(s *scene) {
			s.open().at(100).data(Up, 9).data(Up, 9).data(Up, 9).
				at(140).ack(Down, acks(1010)).at(150).ack(Down, acks(1019)).at(160).ack(Down, acks(1028))
		}, []string{"open up.rtts=3 up.sum=120000"}},
		{"an answer to all is one to the last that waits", func(s *scene) {
			s.open().at(100).data(Up, 9).at(110).data(Up, 9).at(120).data(Up, 9).at(160).ack(Down)
		}, []string{"open up.rtts=2 up.sum=80000"}},
		{"the next flight begins while the train waits", func(s *scene) {
			s.open().at(100).data(Up, 9).data(Up, 9).at(140).ack(Down, acks(1010)).at(141).data(Up, 9).
				at(150).ack(Down, acks(1019)).at(190).ack(Down, acks(1028))
		}, []string{"open up.rtts=4 up.sum=169000"}},
		{"both directions have one", func(s *scene) {
			s.open().at(100).data(Up, 9).data(Up, 9).data(Down, 9, acks(1001)).data(Down, 9, acks(1001)).data(Down, 9, acks(1001)).
				at(140).ack(Down, acks(1010)).at(150).ack(Down, acks(1019)).
				at(160).ack(Up, acks(5010)).at(170).ack(Up, acks(5028))
		}, []string{"open up.rtts=3 up.sum=120000 down.rtts=3 down.sum=150000"}},
		{"Karn: a repeat spoils all that waits", func(s *scene) {
			s.open().at(100).data(Up, 9).data(Up, 9).data(Up, 9).at(400).data(Up, 9, seq(1001)).at(440).ack(Down)
		}, []string{"open up.rtx=1 up.rtts=1"}},
		{"a leap spoils all that waits", func(s *scene) {
			s.open().at(100).data(Up, 9).data(Up, 9).data(Up, 9, seq(0x9000_0000)).at(140).ack(Down, acks(0x9000_0009))
		}, []string{"open up.rtts=2 up.sum=70000"}},
		{"a reset answers none", func(s *scene) {
			s.open().at(100).data(Up, 9).data(Up, 9).at(140).rst(Down, acks(1019))
		}, []string{"rst up.rtts=1"}},
		{"an answer without time stamps is none to a stamp", func(s *scene) {
			s.stamps = true
			s.open().at(100).data(Up, 9).at(102).data(Up, 9).at(140).ack(Down, noTS)
		}, []string{"open up.rtts=1"}},
		{"older than 10 s", func(s *scene) {
			s.open().at(100).data(Up, 9).data(Up, 9).at(10_101).ack(Down)
		}, []string{"open up.rtts=1"}},
		{"data behind a SYN wait for its answer", func(s *scene) {
			s.syn(Up, 7).data(Up, 9).data(Up, 9).at(30).synack(Down, 9, acks(26)).at(70).ack(Down, acks(26))
		}, []string{"open up.rtts=1 up.hs=30001"}},
	})
}

// TestTrainMean: a flight that queues at the access side. Each acknowledgment
// answers two segments of 1 ms at the bottleneck; the truth is the mean over
// them, as the tap sees it. Whether the flight carries one time stamp, many, or
// none is the sender's affair.
func TestTrainMean(t *testing.T) {
	for _, segments := range []int{2, 6, 10, 40, 200} {
		for name, stamp := range map[string]func(i int) with{
			"none": func(int) with { return noTS },
			"one":  func(int) with { return ts(9000, 1) },
			"many": func(i int) with { return ts(uint32(9000+i/3), 1) },
		} {
			s := newScene(t, 16)
			s.stamps = name != "none"
			s.open()
			before := s.tab.Flow(1).Half[Down]
			for i := range segments {
				s.at(100+0.01*float64(i)).data(Down, 1000, stamp(i))
			}
			sum := 0.0
			for i := 1; i < segments; i += 2 {
				now := 120 + float64(i)
				echo := ts(1, 9000)
				if name == "many" {
					echo = ts(1, uint32(9000+(i-1)/3))
				}
				if name == "none" {
					echo = noTS
				}
				s.at(now).ack(Up, acks(uint32(5001+1000*(i+1))), echo)
				sum += now - 100 - 0.01*float64(i)
			}
			h := &s.tab.Flow(1).Half[Down]
			got := float64(h.RTTSum-before.RTTSum) / float64(h.RTTCount-before.RTTCount) / 1000
			if want := sum / float64(segments/2); math.Abs(got-want) > max(5, want/10) {
				t.Errorf("%d segments, %s: mean %.1f ms over %d samples, want %.1f", segments, name, got, h.RTTCount-before.RTTCount, want)
			}
		}
	}
}

// TestTrainPlaces: two directions with the same place. The later one goes
// without, until nothing has been heard of the first for a second.
func TestTrainPlaces(t *testing.T) {
	s := newScene(t, 16)
	one, two, key := Hot{hash: s.tab.Hash(&s.key)}, Hot{}, s.key
	place, tag := s.tab.train(&one, Up)
	for {
		key.SubscriberPort++
		two.hash = s.tab.Hash(&key)
		if c, other := s.tab.train(&two, Up); c == place && other != tag {
			break
		}
	}
	if c, _ := s.tab.train(&one, Down); c == place {
		t.Error("both directions of a flow have one place")
	}
	join := func(f *Hot, at uint32) {
		s.tab.follow(f, &f.Half[Up], Up, wait{probe: at, time: at})
	}
	answered := func(f *Hot, at, ack uint32) bool {
		p := decode.Packet{Time: int64(at) * 1000, Ack: ack}
		return f.Half[Up].bits&halfTrain != 0 && s.tab.arrive(f, &f.Half[Up], &p, Up)
	}
	join(&one, 1000)
	join(&two, 2000)
	if answered(&two, 3000, 2000) || !answered(&one, 3000, 1000) {
		t.Error("the later direction took the place of the earlier one")
	}
	join(&one, 10_000)
	join(&two, 10_000+trainAge)
	if answered(&one, 11_000+trainAge, 10_000) || !answered(&two, 11_000+trainAge, 10_000+trainAge) {
		t.Error("the place of one that was not heard of for a second was not given away")
	}
	if one.Half[Up].RTTSum != 2000 || two.Half[Up].RTTSum != 1000 {
		t.Errorf("samples of %d and %d us, want 2000 and 1000", one.Half[Up].RTTSum, two.Half[Up].RTTSum)
	}
}

// TestTrainOfAnotherFlow: a connection on the same 5-tuple does not hear of the
// segments of the one before.
func TestTrainOfAnotherFlow(t *testing.T) {
	s := newScene(t, 16)
	s.open().at(100).data(Up, 9).data(Up, 9).rst(Down)
	s.at(300).syn(Up, 900).at(330).synack(Down, 5000).at(350).ack(Up).at(360).ack(Down, acks(1019))
	s.want("rst up.rtts=1", "open up.rtts=1 up.sum=30000")
}
