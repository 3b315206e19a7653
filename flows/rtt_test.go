package flows

import (
	"math"
	"testing"

	"github.com/nametap/nametap/capture/decode"
)

// Round-trip times, in microseconds. up is the server side, down the access
// side; hs is the handshake's sample plus one.
func TestRTT(t *testing.T) {
	// noSamples is said of a direction that must have none.
	const upNone, downNone = " up.rtts=0 up.hs=0", " down.rtts=0 down.hs=0"
	stamped := func(play func(s *scene)) func(s *scene) {
		return func(s *scene) {
			s.stamps = true
			play(s)
		}
	}
	runEpisodes(t, []episode{
		{
			"handshake, both sides", func(s *scene) { s.open() },
			[]string{"open up.hs=30001 up.rtts=1 up.min=30000 up.sum=30000 down.hs=20001 down.rtts=1 down.sum=20000"},
		},
		{
			"handshake, both sides, with time stamps", stamped(func(s *scene) { s.open() }),
			[]string{"open up.hs=30001 up.rtts=1 up.sum=30000 down.hs=20001 down.rtts=1 down.sum=20000"},
		},
		{
			"handshake, the server opens", func(s *scene) { s.syn(Down, 1).at(20).synack(Up, 2).at(50).ack(Down) },
			[]string{"open down.hs=20001 up.hs=30001"},
		},
		{
			"handshake ends with data", func(s *scene) { s.syn(Up, 1).at(30).synack(Down, 2).at(50).data(Up, 5) },
			[]string{"open up.hs=30001 down.hs=20001"},
		},
		{
			"nanoseconds are cut", func(s *scene) { s.syn(Up, 1).at(0.0019).synack(Down, 2).at(0.0021).ack(Up) },
			[]string{"open up.hs=2 up.sum=1 down.hs=2 down.sum=1"},
		},
		{
			"at once", func(s *scene) { s.syn(Up, 1).synack(Down, 2).ack(Up) },
			[]string{"open up.hs=1 up.rtts=1 up.sum=0 down.hs=1"},
		},

		// One way: no sample, ever.
		{
			"up only", func(s *scene) { s.syn(Up, 1).at(30).ack(Up, acks(5)).data(Up, 9).at(60).data(Up, 9).at(90).fin(Up) },
			[]string{"open" + upNone + downNone},
		},
		{
			"up only, with time stamps", stamped(func(s *scene) { s.syn(Up, 1).at(30).ack(Up, acks(5)).data(Up, 9).at(60).data(Up, 9) }),
			[]string{"open" + upNone + downNone},
		},
		{
			"down only", func(s *scene) { s.synack(Down, 1, acks(7)).at(30).data(Down, 9).at(60).data(Down, 9) },
			[]string{"open" + upNone + downNone},
		},

		// SYN repeated.
		{
			"SYN repeated, without time stamps", func(s *scene) { s.syn(Up, 1).at(1000).syn(Up, 1).at(1030).synack(Down, 2).at(1050).ack(Up) },
			[]string{"open up.rtx=1" + upNone + " down.hs=20001"},
		},
		{
			"SYN repeated, with time stamps", stamped(func(s *scene) {
				s.syn(Up, 1).at(1000).syn(Up, 1, ts(1010, 0)).at(1030).synack(Down, 2, ts(500, 1010)).at(1050).ack(Up)
			}),
			[]string{"open up.rtx=1 up.hs=30001 up.rtts=1 down.hs=20001"},
		},
		{"SYN repeated, the first one answered", stamped(func(s *scene) {
			s.syn(Up, 1, ts(10, 0)).at(1000).syn(Up, 1, ts(1010, 0)).at(1001).synack(Down, 2, ts(500, 10)).at(1021).ack(Up, ts(1031, 500))
		}), []string{"open up.rtx=1" + upNone + " down.hs=20001"}},
		{"SYN repeated with the same time stamp", stamped(func(s *scene) {
			s.syn(Up, 1, ts(10, 0)).at(1000).syn(Up, 1, ts(10, 0)).at(1030).synack(Down, 2, ts(500, 10)).at(1050).ack(Up, ts(11, 500))
		}), []string{"open up.rtx=1" + upNone + " down.hs=20001"}},
		{"SYN repeated without its time stamp", stamped(func(s *scene) {
			s.syn(Up, 1, ts(10, 0)).at(1000).syn(Up, 1, noTS).at(1030).synack(Down, 2, noTS).at(1050).ack(Up, noTS)
		}), []string{"open up.rtx=1" + upNone + " down.hs=20001"}},
		{"SYN/ACK repeated, without time stamps", func(s *scene) {
			s.syn(Up, 1).at(30).synack(Down, 2).at(1030).synack(Down, 2).at(1050).ack(Up)
		}, []string{"open down.rtx=1 up.hs=30001 up.rtts=1" + downNone}},
		{"SYN/ACK repeated, with time stamps", stamped(func(s *scene) {
			s.syn(Up, 1).at(30).synack(Down, 2).at(1030).synack(Down, 2, ts(8000, 1)).at(1050).ack(Up, ts(1050, 8000))
		}), []string{"open down.rtx=1 up.hs=30001 up.rtts=1 down.hs=20001 down.rtts=1"}},
		{"a server without time stamps", stamped(func(s *scene) {
			s.syn(Up, 1).at(30).synack(Down, 2, noTS).at(50).ack(Up, noTS).data(Up, 9, noTS).at(81).ack(Down, noTS)
		}), []string{"open up.hs=30001 up.rtts=2 up.sum=61000 down.hs=20001"}},
		{"a server without time stamps answers another SYN", stamped(func(s *scene) {
			s.syn(Up, 1).at(30).synack(Down, 2, acks(77), noTS)
		}), []string{"half-open" + upNone}},
		{
			"data in the SYN refused", func(s *scene) { s.send(Up, decode.SYN, 50, seq(7)).at(30).synack(Down, 9, acks(8)) },
			[]string{"half-open up.hs=30001"},
		},
		{
			"data in the SYN taken", func(s *scene) { s.send(Up, decode.SYN, 50, seq(7)).at(30).synack(Down, 9) },
			[]string{"half-open up.hs=30001"},
		},

		// Out of step.
		{"SYN/ACK before SYN", func(s *scene) {
			s.synack(Down, 2, acks(2)).at(1).syn(Up, 1).at(20).ack(Up, acks(3)).at(500).data(Down, 9, acks(2)).at(520).ack(Up)
		}, []string{"open" + upNone + " down.hs=20001 down.rtts=2"}},
		{"SYN/ACK before SYN, with time stamps", stamped(func(s *scene) {
			s.synack(Down, 2, acks(2), ts(70, 10)).at(1).syn(Up, 1, ts(10, 0)).at(20).ack(Up, acks(3), ts(30, 70)).
				at(500).data(Down, 9, acks(2), ts(90, 30)).at(520).ack(Up, ts(600, 90))
		}), []string{"open" + upNone + " down.hs=20001 down.rtts=2"}},
		{
			"SYN/ACK missed", func(s *scene) { s.syn(Up, 1).at(50).ack(Up, acks(3)).at(900).data(Down, 9, seq(3), acks(2)) },
			[]string{"open" + upNone},
		},
		{"acknowledgment before its data", func(s *scene) {
			s.open().at(100).ack(Down, acks(1101)).at(101).data(Up, 100).at(700).data(Down, 5, acks(1101))
		}, []string{"open up.rtts=1 up.hs=30001"}},
		{
			"RST answers the SYN", func(s *scene) { s.syn(Up, 1).at(30).rst(Down, acks(2)) },
			[]string{"rst" + upNone},
		},
		{
			"RST acknowledges data", func(s *scene) { s.open().data(Up, 9).at(900).rst(Down, acks(1010)) },
			[]string{"rst up.rtts=1 up.hs=30001"},
		},

		// Without time stamps: sequence and acknowledgment numbers, and Karn.
		{
			"data and its acknowledgment", func(s *scene) { s.open().at(100).data(Up, 9).at(140).ack(Down) },
			[]string{"open up.rtts=2 up.min=30000 up.sum=70000"},
		},
		{
			"data and a greater acknowledgment", func(s *scene) { s.open().at(100).data(Up, 9).at(101).data(Up, 9).at(140).ack(Down) },
			[]string{"open up.rtts=2 up.sum=69000"}, // it answers the later one
		},
		{
			"a lesser acknowledgment is none", func(s *scene) { s.open().at(100).data(Up, 9).at(110).ack(Down, acks(1009)).at(140).ack(Down) },
			[]string{"open up.rtts=2 up.sum=70000"},
		},
		{"several wait at a time", func(s *scene) {
			s.open().at(100).data(Up, 9).at(120).data(Up, 9).at(140).ack(Down, acks(1010)).at(160).ack(Down).at(200).data(Up, 9).at(235).ack(Down)
		}, []string{"open up.rtts=4 up.sum=145000"}},
		{
			"downlink data", func(s *scene) { s.open().at(100).data(Down, 9).at(125).ack(Up) },
			[]string{"open down.rtts=2 down.sum=45000 up.rtts=1"},
		},
		{
			"FIN counts as data", func(s *scene) { s.open().at(100).fin(Up).at(140).ack(Down) },
			[]string{"open up.rtts=2 up.sum=70000"},
		},
		{
			"Karn: sent again", func(s *scene) { s.open().at(100).data(Up, 9).at(400).data(Up, 9, seq(1001)).at(430).ack(Down) },
			[]string{"open up.rtx=1 up.rtts=1"},
		},
		{"Karn: what lies before was sent again", func(s *scene) {
			s.open().at(90).data(Up, 9).ack(Down, acks(1010)).at(91).data(Up, 9).data(Up, 9).at(92).data(Up, 9).
				at(400).data(Up, 9, seq(1010)).at(430).ack(Down)
		}, []string{"open up.rtx=1 up.rtts=2 up.sum=30000"}},
		{"Karn: what lies behind was sent again", func(s *scene) {
			s.open().at(100).data(Up, 9).data(Up, 9).at(110).data(Up, 9, seq(1010)).at(140).ack(Down)
		}, []string{"open up.rtx=1 up.rtts=2 up.sum=70000"}},
		{"Karn: a hole before it was filled late", func(s *scene) {
			s.open().at(100).data(Up, 9, seq(1010)).at(400).data(Up, 9, seq(1001)).at(430).ack(Down, acks(1019))
		}, []string{"open up.rtx=1 up.lost=1 up.rtts=1"}},
		{"after Karn the next is measured", func(s *scene) {
			s.open().at(100).data(Up, 9).at(400).data(Up, 9, seq(1001)).at(430).ack(Down).at(500).data(Up, 9).at(540).ack(Down)
		}, []string{"open up.rtx=1 up.rtts=2 up.sum=70000"}},
		{
			"10 s old", func(s *scene) { s.open().at(100).data(Up, 9).at(10_100).ack(Down) },
			[]string{"open up.rtts=2 up.sum=10030000"},
		},
		{
			"10 s old, with another one behind", func(s *scene) { s.open().at(100).data(Up, 9).at(10_100).data(Up, 9).at(10_140).ack(Down) },
			[]string{"open up.rtts=2 up.sum=70000"},
		},
		{
			"older than 10 s", func(s *scene) { s.open().at(100).data(Up, 9).at(10_100.001).ack(Down) },
			[]string{"open up.rtts=1"},
		},
		{
			"handshake older than 10 s", func(s *scene) { s.syn(Up, 1).at(10_001).synack(Down, 2) },
			[]string{"half-open" + upNone},
		},
		{
			"a probe older than 10 s makes room", func(s *scene) { s.open().at(100).data(Up, 9).at(20_000).data(Up, 9).at(20_040).ack(Down) },
			[]string{"open up.rtts=2 up.sum=70000"},
		},
		{
			"one that is 71 minutes old", func(s *scene) { s.open().settle(slow).data(Up, 9).at(4_295_000).ack(Down) },
			[]string{"open up.rtts=1"},
		},
		{
			"back in time", func(s *scene) { s.open().at(100).data(Up, 9).at(99).ack(Down) },
			[]string{"open up.rtts=1"},
		},
		{"keep-alives measure nothing", func(s *scene) {
			s.open().data(Up, 9).at(80).ack(Down).at(60_000).data(Up, 1, seq(1009)).at(60_500).ack(Down).at(90_000).ack(Up, seq(1009)).at(90_500).ack(Down)
		}, []string{"open up.rtts=2 up.sum=60000"}},
		{"zero-window probes measure nothing", func(s *scene) {
			s.open().data(Up, 9).at(80).ack(Down, window(0)).at(300).data(Up, 1).at(2000).ack(Down)
		}, []string{"open up.rtts=2 up.sum=60000"}},

		// With time stamps: the first sight of a TSval, the first equal TSecr.
		{
			"data and its echo", stamped(func(s *scene) { s.open().at(100).data(Up, 9).at(140).ack(Down) }),
			[]string{"open up.rtts=2 up.sum=70000"},
		},
		{"an acknowledgment is not an echo", stamped(func(s *scene) {
			s.open().data(Up, 9, ts(9000, 1)).at(100).ack(Down, ts(501, 8999)).at(140).ack(Down, ts(502, 9000))
		}), []string{"open up.rtts=2 up.sum=120000"}},
		{"each value once", stamped(func(s *scene) {
			s.open().at(100).data(Up, 9, ts(9000, 1)).at(140).ack(Down, ts(501, 9000)).at(150).data(Up, 9, ts(9000, 1)).at(200).ack(Down, ts(501, 9000))
		}), []string{"open up.rtts=2 up.sum=70000"}},
		{"a coarse clock: the number tells which one is answered", stamped(func(s *scene) {
			s.open().at(100).data(Up, 9, ts(9000, 1)).at(130).data(Up, 9, ts(9000, 1)).at(140).ack(Down, ts(501, 9000)).
				at(200).data(Up, 9, ts(9001, 1)).at(240).ack(Down, ts(501, 9001))
		}), []string{"open up.rtts=3 up.sum=80000"}},
		{"a coarse clock: seen while another waited", stamped(func(s *scene) {
			s.open().at(100).data(Up, 9, ts(9000, 1)).at(120).data(Up, 9, ts(9001, 1)).at(140).ack(Down, acks(1010), ts(501, 9000)).
				at(145).data(Up, 9, ts(9001, 1)).at(160).ack(Down, ts(501, 9001))
		}), []string{"open up.rtts=3 up.sum=110000"}}, // of the second; the third shows its stamp again
		{"a coarse clock: sent again in the same tick", stamped(func(s *scene) {
			s.open().at(100).data(Up, 9, ts(9000, 1)).at(400).data(Up, 9, seq(1001), ts(9000, 1)).at(430).ack(Down, ts(501, 9000))
		}), []string{"open up.rtx=1 up.rtts=1"}},
		{"sent again with a new stamp: first one waits no more", stamped(func(s *scene) {
			s.open().at(100).data(Up, 9, ts(9000, 1)).at(400).data(Up, 9, seq(1001), ts(9300, 1)).at(430).ack(Down, ts(501, 9300)).
				at(500).data(Up, 9, ts(9400, 1)).at(540).ack(Down, ts(601, 9400))
		}), []string{"open up.rtx=1 up.rtts=2 up.sum=70000"}},
		{"sent again with a new stamp, the first one answered", stamped(func(s *scene) {
			s.open().at(100).data(Up, 9, ts(9000, 1)).at(400).data(Up, 9, seq(1001), ts(9300, 1)).at(430).ack(Down, ts(501, 9000))
		}), []string{"open up.rtx=1 up.rtts=2 up.sum=360000"}},
		{"a repeat's new stamp is a first sight", stamped(func(s *scene) {
			s.open().at(100).data(Up, 9, ts(9000, 1)).at(10_200).data(Up, 9, seq(1001), ts(19_100, 1)).at(10_240).ack(Down, ts(501, 19_100))
		}), []string{"open up.rtx=1 up.rtts=2 up.sum=70000"}},
		{"a new stamp that a repeat has shown is known", stamped(func(s *scene) {
			s.open().at(100).data(Up, 9, ts(9000, 1)).at(110).data(Up, 9, seq(1001), ts(9010, 1)).at(140).ack(Down, ts(501, 9000)).
				at(141).data(Up, 9, ts(9010, 1)).at(150).ack(Down, ts(502, 9010))
		}), []string{"open up.rtx=1 up.rtts=2 up.sum=70000"}},
		{"an old stamp out of order does not make new ones of known ones", stamped(func(s *scene) {
			s.open().at(100).data(Up, 9, seq(1010), ts(9001, 1)).at(101).data(Up, 9, seq(1001), ts(9000, 1)).at(140).ack(Down, acks(1019), ts(501, 9001)).
				at(141).data(Up, 9, ts(9001, 1)).at(150).ack(Down, ts(502, 9001))
		}), []string{"open up.ooo=1 up.rtts=2 up.sum=70000"}},
		{"an old acknowledgment out of order does not either", stamped(func(s *scene) {
			s.open().at(100).data(Up, 9, ts(9001, 1)).at(140).ack(Down, ts(501, 9001)).at(141).ack(Up, ts(9000, 1)).
				at(142).data(Up, 9, ts(9001, 1)).at(150).ack(Down, ts(502, 9001))
		}), []string{"open up.rtts=2 up.sum=70000"}},
		{"an old segment a second time measures nothing", stamped(func(s *scene) {
			s.open().at(100).data(Up, 9, ts(9000, 1)).data(Up, 9, ts(9001, 1)).at(140).ack(Down, acks(1001), ts(501, 9001)).
				at(141).data(Up, 9, seq(1001), ts(9000, 1)).at(150).ack(Down, ts(502, 9000))
		}), []string{"open up.rtx=1 up.rtts=2 up.sum=70000"}},
		{"a later echo ends the wait", stamped(func(s *scene) {
			s.open().at(100).data(Up, 9, ts(9000, 1)).at(101).data(Up, 9, ts(9001, 1)).at(140).ack(Down, ts(501, 9001)).at(150).ack(Down, ts(502, 9000))
		}), []string{"open up.rtts=2 up.sum=69000"}},
		{"time stamps over the wrap", stamped(func(s *scene) {
			s.syn(Up, 1, ts(0xffff_ffff, 0)).at(30).synack(Down, 2, ts(0xffff_fff0, 0xffff_ffff)).at(50).ack(Up, ts(19, 0xffff_fff0)).
				at(60).data(Up, 9, ts(29, 0xffff_fff0)).at(100).ack(Down, ts(54, 29))
		}), []string{"open up.hs=30001 up.rtts=2 up.sum=70000 down.hs=20001"}},
		{"TSval 0 is no time stamp", stamped(func(s *scene) {
			s.syn(Up, 1, ts(0, 0)).at(30).synack(Down, 2, ts(0, 0)).at(50).ack(Up, ts(0, 0)).at(60).data(Up, 9, ts(0, 0)).at(100).ack(Down, ts(0, 0))
		}), []string{"open" + upNone + downNone}},
		{"a pure acknowledgment has no answer", stamped(func(s *scene) {
			s.open().at(100).ack(Up, ts(9000, 1)).at(900).data(Down, 9, ts(501, 9000))
		}), []string{"open up.rtts=1"}},
		{"data with the stamp of a pure acknowledgment: its number counts", stamped(func(s *scene) {
			s.open().at(100).ack(Up, ts(9000, 1)).at(101).data(Up, 9, ts(9000, 1)).at(105).data(Down, 9, acks(1001), ts(501, 9000)).
				at(141).ack(Down, acks(1010), ts(502, 9000))
		}), []string{"open up.rtts=2 up.sum=70000"}},
		{"the same, once", stamped(func(s *scene) {
			s.open().at(100).ack(Up, ts(9000, 1)).at(101).data(Up, 9, ts(9000, 1)).at(141).ack(Down, ts(502, 9000)).
				at(142).data(Up, 9, ts(9000, 1)).at(190).ack(Down, ts(502, 9000))
		}), []string{"open up.rtts=2 up.sum=70000"}},
		{"data with a keep-alive's stamp: its number counts", stamped(func(s *scene) {
			s.open().at(60_000).data(Up, 1, seq(1000), ts(9000, 1)).at(60_001).data(Up, 9, seq(1001), ts(9000, 1)).
				at(60_030).ack(Down, acks(1001), ts(501, 9000)).at(60_041).ack(Down, acks(1010), ts(502, 9000))
		}), []string{"open up.rtts=2 up.sum=70000"}},
		{"an echo without ACK counts for nothing", stamped(func(s *scene) {
			s.open().at(100).data(Up, 9, ts(9000, 1)).at(140).data(Down, 9, noAck, ts(501, 9000))
		}), []string{"open up.rtts=1"}},
		{
			"an answer without time stamps", stamped(func(s *scene) { s.open().at(100).data(Up, 9).at(140).ack(Down, noTS) }),
			[]string{"open up.rtts=1"},
		},
		{"echo older than 10 s", stamped(func(s *scene) {
			s.open().at(100).data(Up, 9, ts(9000, 1)).at(10_101).ack(Down, ts(501, 9000)).at(10_102).ack(Down, ts(501, 9000))
		}), []string{"open up.rtts=1"}},
		{
			"met in mid-stream", stamped(func(s *scene) { s.data(Up, 9, seq(50)).at(40).ack(Down, seq(70)).data(Down, 9).at(55).ack(Up) }),
			[]string{"open up.rtts=1 up.hs=0 up.sum=40000 down.rtts=1 down.hs=0 down.sum=15000"},
		},
		{
			"met in mid-stream, without time stamps", func(s *scene) { s.data(Up, 9, seq(50)).at(40).ack(Down, seq(70)).data(Down, 9).at(55).ack(Up) },
			[]string{"open up.rtts=1 up.hs=0 up.sum=40000 down.rtts=1 down.hs=0 down.sum=15000"},
		},
		{"after a leap of the stream what waits is spoilt", func(s *scene) {
			s.open().at(100).data(Up, 9).data(Up, 9, seq(0x9000_0000)).at(140).ack(Down, acks(0x9000_0009)).at(200).data(Up, 9).at(240).ack(Down)
		}, []string{"open up.rtts=3"}},
	})
}

// Samples from before the name are credited with it, each once.
func TestRTTSettled(t *testing.T) {
	for _, c := range []struct {
		name string
		play func(s *scene)
	}{
		{"settled at the SYN", func(s *scene) { s.syn(Up, 1).settle(media).at(30).synack(Down, 2).at(50).ack(Up) }},
		{"settled in between", func(s *scene) { s.syn(Up, 1).at(30).synack(Down, 2).settle(media).at(50).ack(Up) }},
		{"settled after", func(s *scene) { s.open().settle(media) }},
		{"settled after, twice", func(s *scene) { s.open().settle(media).settle(chat) }},
		{"settled at the end", func(s *scene) {
			s.onEnd = func(r uint32, _ Flow) { s.tab.Settle(r, media) }
			s.open().tab.Shutdown(0)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, 16)
			c.play(s)
			for d, want := range [2]float64{0.030, 0.020} {
				if h := &s.classes[media].RTT[d]; h.Count != 1 || h.Sum < want-0.5e-6 || h.Sum > want+0.5e-6 {
					t.Errorf("side %d: %d samples of %v s, want one of %v", d, h.Count, h.Sum, want)
				}
			}
			s.check()
		})
	}
	s := newScene(t, 16)
	s.open().at(100).data(Up, 9).at(150).ack(Down).at(200).data(Up, 9).at(240).ack(Down).settle(media)
	if h := &s.classes[media].RTT[Up]; h.Count != 3 || h.Sum < 0.1199 || h.Sum > 0.1201 {
		t.Errorf("%d samples of %v s together, want 3 of 0.12", h.Count, h.Sum)
	}
}

// TestRTTOfALongTransfer: the samples of more than 71 minutes together have all been
// counted, and their mean is one of all of them.
func TestRTTOfALongTransfer(t *testing.T) {
	s := newScene(t, 16)
	s.open().settle(media)
	const samples, rtt = 1000, 9_900_000 // a queue of ten seconds: 165 minutes
	for range samples {
		s.data(Up, 100)
		s.now += rtt * 1000
		s.advance().ack(Down)
	}
	f := s.tab.Flow(s.record())
	want := (30_000 + samples*float64(rtt)) / (samples + 1)
	if r := f.Record(); r.RTTSamples[Up] != samples+1 || r.RTTMean[Up] != want {
		t.Errorf("%d samples with a mean of %.0f us, want %d with %.0f", r.RTTSamples[Up], r.RTTMean[Up], samples+1, want)
	}
	if n := s.classes[media].RTT[Up].Count; n != samples+1 {
		t.Errorf("the class has %d samples", n)
	}
	// Settled only now, the class would get them all at their mean.
	s.tab.Flow(s.record()).flags &^= flagSettled
	s.tab.Settle(s.record(), chat)
	if h := &s.classes[chat].RTT[Up]; h.Count != samples+1 || math.Abs(h.Sum*1e6/want-samples-1) > 1 {
		t.Errorf("the class has %d samples with a sum of %g s", h.Count, h.Sum)
	}
}

// TestProbeOfLongAgo: what answers a segment 71 minutes and a moment later, when the
// time in microseconds has come round, is no sample. With and without a clock that
// moved on in between.
func TestProbeOfLongAgo(t *testing.T) {
	const round, moment = 1 << 32 * 1000, 50_000_000
	for name, steps := range map[string]int64{"each second": round / second, "twice": 2, "at once": 1} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, 16)
			s.short = true
			s.open().settle(slow).at(3000).data(Up, 100).data(Up, 100).data(Up, 100)
			start := s.now
			for i := range steps {
				s.now = start + (round+moment)/steps*(i+1)
				s.advance()
			}
			s.ack(Down)
			if s.carried == 0 {
				t.Error("the acknowledgment was not plain")
			}
			s.want("open up.rtts=1 up.sum=30000 down.rtts=1")
			s.data(Up, 100)
			s.now += 40_000_000
			s.ack(Down).want("open up.rtts=2 up.sum=70000 down.rtts=1")
		})
	}
}
