package flows

import (
	"testing"

	"github.com/nametap/nametap/capture/decode"
)

type episode struct {
	name string
	play func(s *scene)
	want []string
}

func runEpisodes(t *testing.T, episodes []episode) {
	t.Helper()
	for i := range 2 * len(episodes) {
		e, short := episodes[i/2], i%2 != 0
		name := e.name
		if short {
			name += ", the short way"
		}
		t.Run(name, func(t *testing.T) {
			s := newScene(t, 64)
			s.short = short
			e.play(s)
			s.want(e.want...)
			// Whatever the episode, its flows end and add up.
			s.onEnd = func(r uint32, f Flow) { s.tab.Settle(r, media) }
			s.tab.Shutdown(0)
			s.check()
			if s.tab.Len() != 0 {
				t.Errorf("%d flows left after Shutdown", s.tab.Len())
			}
		})
	}
}

// Life, from the first segment to the last (RFC 9293 sections 3.5 and 3.6).
func TestLife(t *testing.T) {
	runEpisodes(t, []episode{
		{
			"handshake", func(s *scene) { s.open() },
			[]string{"open seen=1 est=1 syn=1 synack=1 up=2 down=1 ms=50"},
		},
		{
			"SYN alone", func(s *scene) { s.syn(Up, 1) },
			[]string{"half-open seen=1 est=0 syn=1 up=1"},
		},
		{
			"SYN and SYN/ACK", func(s *scene) { s.syn(Up, 1).at(9).synack(Down, 2) },
			[]string{"half-open seen=1 est=0 syn=1 synack=1 up=1 down=1"},
		},
		{
			"one way, up only", func(s *scene) { s.syn(Up, 1).at(9).ack(Up, acks(8)).data(Up, 10).fin(Up) },
			[]string{"open seen=1 est=1 syn=1 synack=0 fin=1 up=4 down=0 up.payload=10"},
		},
		{
			"one way, down only", func(s *scene) { s.synack(Down, 5, acks(2)).at(9).data(Down, 10) },
			[]string{"open seen=0 est=0 syn=0 synack=1 up=0 down=2"},
		},
		{
			"the server opens", func(s *scene) { s.syn(Down, 5).synack(Up, 9).ack(Down) },
			[]string{"open seen=1 est=1 syn=1 synack=1 up=1 down=2"},
		},
		{
			"the responder's ACK does not establish", func(s *scene) { s.syn(Up, 5).synack(Down, 9).ack(Down) },
			[]string{"open seen=1 est=0 up=1 down=2"},
		},

		{
			"SYN repeated", func(s *scene) { s.syn(Up, 7).at(1000).syn(Up, 7).at(3000).syn(Up, 7) },
			[]string{"half-open seen=1 syn=3 up=3 up.rtx=2 ms=3000"},
		},
		{
			"SYN/ACK repeated", func(s *scene) { s.syn(Up, 7).synack(Down, 9).at(1000).synack(Down, 9) },
			[]string{"half-open seen=1 syn=1 synack=2 down.rtx=1"},
		},
		{
			"SYN repeated after the close", func(s *scene) { s.open().rst(Down).syn(Up, 1000) },
			[]string{"rst syn=2 up.rtx=1"},
		},
		{
			"SYN with another number", func(s *scene) { s.syn(Up, 7).at(1000).syn(Up, 8) },
			[]string{"reused seen=1 syn=1 ms=0", "half-open seen=1 syn=1"},
		},
		{
			"SYN with another number on an open flow", func(s *scene) { s.open().data(Up, 5).syn(Up, 7) },
			[]string{"reused syn=1 up=3", "half-open syn=1 up=1"},
		},
		{
			"SYN with another number after FINs", func(s *scene) { s.open().fin(Up).fin(Down).syn(Up, 7) },
			[]string{"fin syn=1 fin=2", "half-open syn=1"},
		},
		{
			"SYN with another number after a RST", func(s *scene) { s.open().rst(Up).syn(Up, 7) },
			[]string{"rst syn=1 rst=1", "half-open syn=1"},
		},
		{
			"a server's SYN with another number", func(s *scene) { s.syn(Down, 5).synack(Up, 9).ack(Down).syn(Down, 77) },
			[]string{"reused syn=1", "half-open syn=1 down=1"},
		},
		{"the ends change roles", func(s *scene) {
			s.syn(Down, 5).ack(Up, seq(2000)).data(Up, 10).syn(Up, 900_000)
		}, []string{"reused syn=1", "half-open seen=1 syn=1 up=1"}},

		{
			"SYN/ACK before SYN", func(s *scene) { s.synack(Down, 9, acks(8)).at(1).syn(Up, 7).at(2).ack(Up, acks(10)).data(Up, 5) },
			[]string{"open seen=1 est=1 syn=1 synack=1 up=3 down=1"},
		},
		{"SYN/ACK of a new connection before its SYN", func(s *scene) {
			s.open().rst(Up).synack(Down, 99, acks(78)).syn(Up, 77).ack(Up, acks(100))
		}, []string{"rst syn=1 synack=1", "open seen=1 est=1 syn=1 synack=1"}},
		{"SYN and SYN/ACK in reverse with another SYN pending", func(s *scene) {
			s.syn(Up, 7).syn(Up, 70).synack(Down, 9, acks(8)) // answers the first
		}, []string{"reused syn=1", "half-open syn=1 synack=1"}},
		{
			"late SYN after the ACK", func(s *scene) { s.ack(Up, seq(8), acks(10)).at(1).syn(Up, 7).data(Up, 5, seq(8), acks(10)) },
			[]string{"open seen=1 est=1 syn=1 up=3 up.payload=5"},
		},
		{
			"late SYN after data", func(s *scene) {
				s.data(Up, 100, seq(8), acks(10)).at(1).syn(Up, 7).at(2).data(Up, 5, seq(108), acks(10))
			},
			[]string{"open seen=1 est=1 syn=1 up=3 up.payload=105"},
		},
		{"late SYN after data that came out of order", func(s *scene) {
			s.data(Up, 100, seq(108), acks(10)).data(Up, 100, seq(8)).at(1).syn(Up, 7)
		}, []string{"open seen=1 syn=1 up=3 up.ooo=1"}},
		{"late SYN after acknowledgments of its data", func(s *scene) {
			s.synack(Down, 9, acks(8)).data(Down, 50, acks(1500)).at(5).syn(Up, 7)
		}, []string{"open seen=1 syn=1 up=1 down=2"}},
		{
			"late SYN after the RST that answers it", func(s *scene) { s.rst(Down, seq(0), acks(8)).at(1).syn(Up, 7) },
			[]string{"rst seen=1 syn=1 rst=1"},
		},
		{
			"SYN in mid-stream with another number", func(s *scene) { s.data(Up, 100, seq(8), acks(10)).at(10).syn(Up, 900_000) },
			[]string{"reused seen=0 syn=0", "half-open seen=1 syn=1"},
		},
		{"SYN in mid-stream where only answers were seen", func(s *scene) {
			s.data(Down, 100, seq(8), acks(10)).at(10).syn(Up, 900_000)
		}, []string{"reused seen=0", "half-open seen=1"}},
		{"SYN in mid-stream, number close by, far too late", func(s *scene) {
			s.data(Up, 100, seq(8), acks(10)).at(20_000).syn(Up, 7)
		}, []string{"reused seen=0 up=1", "half-open seen=1"}},
		{"SYN with another number after the close of a flow met in mid-stream", func(s *scene) {
			s.data(Up, 100, seq(8), acks(10)).rst(Up).at(2000).syn(Up, 50)
		}, []string{"rst seen=0", "half-open seen=1"}},
		{
			"SYN after a lone RST", func(s *scene) { s.rst(Down, seq(70)).syn(Up, 7) },
			[]string{"rst seen=0 rst=1", "half-open seen=1"},
		},
		{"SYN/ACK in mid-stream of the other direction", func(s *scene) {
			s.data(Down, 100, seq(8), acks(10)).at(5000).synack(Down, 500_000, acks(99_000))
		}, []string{"reused synack=0", "half-open synack=1"}},
		{
			"late SYN/ACK after data", func(s *scene) { s.syn(Up, 7).data(Down, 100, seq(10), acks(8)).synack(Down, 9, acks(8)) },
			[]string{"open synack=1 down=2"},
		},
		{"down only: next connection's SYN/ACK", func(s *scene) {
			s.synack(Down, 9, acks(8)).data(Down, 10).at(900).synack(Down, 90_000, acks(70_008))
		}, []string{"reused synack=1 down=2", "half-open synack=1 down=1"}},
		{
			"down only: cookie of another minute", func(s *scene) { s.synack(Down, 9, acks(8)).at(1000).synack(Down, 5_000, acks(8)) },
			[]string{"half-open synack=2"},
		},
		{
			"down only: next connection's SYN/ACK, at once", func(s *scene) { s.synack(Down, 9, acks(8)).synack(Down, 90_000, acks(70_008)) },
			[]string{"reused synack=1 down=1", "half-open synack=1 down=1"},
		},
		{"SYN/ACKs with two numbers to one SYN", func(s *scene) {
			s.syn(Up, 7).synack(Down, 9).at(1000).synack(Down, 70_000, acks(8)).ack(Up, acks(10))
		}, []string{"open est=1 syn=1 synack=2 up=2 down=2"}},
		{
			"old SYN/ACK on an open flow", func(s *scene) { s.open().synack(Down, 70_000, acks(800_000)).data(Down, 10, seq(5001)) },
			[]string{"open synack=2 down=3"},
		},

		{"simultaneous open", func(s *scene) {
			s.syn(Up, 7).at(1).syn(Down, 70).at(2).synack(Up, 7).at(3).synack(Down, 70).data(Up, 5)
		}, []string{"open seen=1 est=1 syn=2 synack=2 up=3 down=2"}},
		{"simultaneous open, SYN/ACK repeated", func(s *scene) {
			s.syn(Up, 7).syn(Down, 70).synack(Up, 7).synack(Up, 7).synack(Down, 70)
		}, []string{"half-open syn=2 synack=3 up.rtx=1"}},

		{
			"FIN by the subscriber first", func(s *scene) { s.open().data(Up, 5).fin(Up).at(80).ack(Down).fin(Down).at(90).ack(Up) },
			[]string{"fin seen=1 est=1 fin=2 up=5 down=3 ms=90"},
		},
		{
			"FIN by the server first", func(s *scene) { s.open().fin(Down).at(80).ack(Up).fin(Up).at(90).ack(Down) },
			[]string{"fin fin=2 up=4 down=3 ms=90"},
		},
		{
			"FIN repeated is one close", func(s *scene) { s.open().fin(Up).at(300).fin(Up, seq(1001)) },
			[]string{"open fin=2 up.rtx=1"},
		},
		{
			"half-close", func(s *scene) { s.open().fin(Up).at(1000).data(Down, 500).at(2000).data(Down, 500) },
			[]string{"open fin=1 down.payload=1000 ms=2000"},
		},
		{
			"half-close, then FIN", func(s *scene) { s.open().fin(Up).at(1000).data(Down, 500).fin(Down).ack(Up) },
			[]string{"fin fin=2 down.payload=500"},
		},
		{
			"half-close, then silence", func(s *scene) { s.open().fin(Up).at(301_100).advance().at(302_100).advance() },
			[]string{"idle fin=1 ms=50"},
		},
		{
			"data with FIN", func(s *scene) { s.open().fin(Up).send(Down, decode.FIN, 77).ack(Up) },
			[]string{"fin fin=2 down.payload=77"},
		},
		{
			"RST", func(s *scene) { s.open().data(Up, 7).at(70).rst(Down) },
			[]string{"rst rst=1 ms=70"},
		},
		{
			"RST to a SYN", func(s *scene) { s.syn(Up, 7).at(30).rst(Down, acks(8)) },
			[]string{"rst seen=1 est=0 syn=1 synack=0 rst=1 ms=30"},
		},
		{
			"RST to a SYN/ACK", func(s *scene) { s.syn(Up, 7).synack(Down, 9).rst(Up, seq(8)) },
			[]string{"rst seen=1 est=0 rst=1"},
		},
		{
			"RST after one FIN", func(s *scene) { s.open().fin(Up).rst(Down) },
			[]string{"rst fin=1 rst=1"},
		},
		{
			"RST after both FINs", func(s *scene) { s.open().fin(Up).fin(Down).rst(Up) },
			[]string{"fin fin=2 rst=1"},
		},

		{
			"late ACK", func(s *scene) { s.open().fin(Up).fin(Down).at(9000).ack(Up) },
			[]string{"fin ms=9000 up=4"},
		},
		{
			"late FIN", func(s *scene) { s.open().rst(Up).at(9000).fin(Down) },
			[]string{"rst fin=1 ms=9000"},
		},
		{
			"late RST", func(s *scene) { s.open().rst(Up).at(9000).rst(Down).at(9001).rst(Down) },
			[]string{"rst rst=3 ms=9001"},
		},
		{
			"late data", func(s *scene) { s.open().rst(Up).at(9000).data(Down, 500) },
			[]string{"rst ms=9000 down.payload=500"},
		},
		{
			"late SYN/ACK after the subscriber gave up", func(s *scene) { s.syn(Up, 7).at(100).rst(Up).at(300).synack(Down, 9, acks(8)) },
			[]string{"rst syn=1 synack=1 ms=300"},
		},
		{"late segments keep the place", func(s *scene) {
			s.open().rst(Up).at(200_000).rst(Down).advance().at(400_000).rst(Down).advance()
		}, []string{"rst rst=3"}},
		{"after the place is given up, a stray is a new flow", func(s *scene) {
			s.open().rst(Up).at(241_000).advance().at(250_000).ack(Down)
		}, []string{"rst rst=1", "open seen=0"}},

		{
			"met in mid-stream by an ACK", func(s *scene) { s.ack(Down, seq(77), acks(5)) },
			[]string{"open seen=0 est=0 down=1"},
		},
		{
			"met in mid-stream by data", func(s *scene) { s.data(Up, 9, seq(77), acks(5)).ack(Down).fin(Up).fin(Down) },
			[]string{"fin seen=0 est=0 fin=2"},
		},
		{
			"met at the FIN", func(s *scene) { s.fin(Down, seq(77), acks(5)) },
			[]string{"open seen=0 fin=1"},
		},
		{
			"met at the RST", func(s *scene) { s.rst(Down, seq(77), acks(5)) },
			[]string{"rst seen=0 rst=1"},
		},
		{
			"SYN and RST at once opens and closes", func(s *scene) { s.send(Up, decode.SYN|decode.RST, 0, seq(5)).syn(Up, 900) },
			[]string{"rst seen=0 syn=1 rst=1", "half-open seen=1 syn=1"},
		},
		{
			"SYN and RST at once on an open flow", func(s *scene) { s.open().send(Up, decode.SYN|decode.RST, 0, seq(90_000)) },
			[]string{"rst syn=2 rst=1"},
		},
		{
			"SYN and FIN at once", func(s *scene) { s.send(Up, decode.SYN|decode.FIN, 0, seq(5)).ack(Down) },
			[]string{"open seen=1 syn=1 fin=1"},
		},

		{
			"data in the SYN", func(s *scene) { s.send(Up, decode.SYN, 50, seq(7)).synack(Down, 9).ack(Up).data(Up, 50) },
			[]string{"open seen=1 est=1 up.payload=100"},
		},
		{"data in the SYN refused", func(s *scene) {
			s.send(Up, decode.SYN, 50, seq(7)).synack(Down, 9, acks(8)).ack(Up).data(Up, 50, seq(8))
		}, []string{"open est=1 up.payload=100 up.rtx=1"}},
	})
}

// Time-outs: chat 60 minutes, the rest 5; half-open 60 s; closed 240 s.
func TestTimeouts(t *testing.T) {
	runEpisodes(t, []episode{
		{
			"half-open, at the limit", func(s *scene) { s.syn(Up, 7).at(60_999).advance() },
			[]string{"half-open"},
		},
		{
			"half-open, over it", func(s *scene) { s.syn(Up, 7).at(61_000).advance() },
			[]string{"idle syn=1 ms=0"},
		},
		{
			"half-open, settled", func(s *scene) { s.syn(Up, 7).settle(chat).at(61_000).advance() },
			[]string{"idle syn=1"},
		},
		{
			"half-open, SYN repeated", func(s *scene) { s.syn(Up, 7).at(31_000).syn(Up, 7).at(90_000).advance() },
			[]string{"half-open syn=2 up.rtx=1"},
		},
		{"half-open order follows the last SYN", func(s *scene) {
			s.syn(Up, 7).port(2).at(100).syn(Up, 7).port(40000).at(2000).syn(Up, 7).at(61_000).advance()
		}, []string{"idle syn=1", "half-open syn=2 up.rtx=1"}},
		{
			"unsettled, at the limit", func(s *scene) { s.open().at(300_050).advance() },
			[]string{"open"},
		},
		{
			"unsettled, over it", func(s *scene) { s.open().at(301_100).advance() },
			[]string{"idle ms=50"},
		},
		{
			"media", func(s *scene) { s.open().settle(media).at(301_100).advance() },
			[]string{"idle"},
		},
		{
			"chat is silent for long", func(s *scene) { s.open().settle(chat).at(3_599_000).advance().at(3_600_050).advance() },
			[]string{"open"},
		},
		{
			"chat is over after an hour", func(s *scene) { s.open().settle(chat).at(3_601_100).advance() },
			[]string{"idle ms=50"},
		},
		{"longer than the wheel", func(s *scene) {
			s.open().settle(slow)
			for m := 1; m < 180; m++ {
				s.at(float64(m) * 60_000).advance()
			}
		}, []string{"open"}},
		{"longer than the wheel, over", func(s *scene) {
			s.open().settle(slow)
			for m := 1; m <= 181; m++ {
				s.at(float64(m) * 60_000).advance()
			}
		}, []string{"idle ms=50"}},
		{"spoken in between", func(s *scene) {
			s.open().at(200_000).advance().data(Up, 5).at(301_100).advance().at(499_000).advance()
		}, []string{"open ms=200000"}},
		{"spoken in between, then over", func(s *scene) {
			s.open().at(200_000).advance().data(Up, 5).at(301_100).advance().at(501_000).advance()
		}, []string{"idle ms=200000"}},
		{
			"closed, at the limit", func(s *scene) { s.open().rst(Up).at(240_999).advance() },
			[]string{"rst"},
		},
		{
			"closed, over it", func(s *scene) { s.open().rst(Up).at(241_000).advance() },
			[]string{"rst ms=50"},
		},
		{"jump of a day", func(s *scene) {
			s.syn(Up, 1).port(2).open().port(3).open().settle(chat).port(4).open().rst(Up).at(86_400_000).advance()
		}, []string{"idle", "rst", "idle", "idle"}},
		{
			"jump of a turn of the wheel", func(s *scene) { s.open().settle(slow).at(4096_000).advance().at(8192_000).advance() },
			[]string{"open"},
		},
		{
			"jump of a turn and one", func(s *scene) { s.open().settle(slow).at(4097_000).advance().at(8194_000).advance() },
			[]string{"open"},
		},

		// Without Advance, a flow is not continued over its time-out either.
		{
			"half-open, next segment too late", func(s *scene) { s.syn(Up, 7).at(60_001).ack(Up, acks(1)) },
			[]string{"idle seen=1", "open seen=0"},
		},
		{
			"half-open, next segment just in time", func(s *scene) { s.syn(Up, 7).at(60_000).ack(Up, acks(1)) },
			[]string{"open seen=1 est=1"},
		},
		{
			"open, next segment too late", func(s *scene) { s.open().at(300_051).data(Up, 1) },
			[]string{"idle seen=1", "open seen=0"},
		},
		{
			"open, next segment just in time", func(s *scene) { s.open().at(300_050).data(Up, 1) },
			[]string{"open seen=1 up=3"},
		},
		{
			"chat, next segment within the hour", func(s *scene) { s.open().settle(chat).at(3_600_050).data(Up, 1) },
			[]string{"open seen=1 up=3"},
		},
		{
			"chat, next segment too late", func(s *scene) { s.open().settle(chat).at(3_600_051).data(Up, 1) },
			[]string{"idle seen=1 up=2", "open seen=0 up=1"},
		},
		{
			"closed, stray too late", func(s *scene) { s.open().rst(Up).at(240_051).rst(Up) },
			[]string{"rst rst=1", "rst rst=1 seen=0"},
		},
		{
			"SYN after the time-out", func(s *scene) { s.open().at(300_051).syn(Up, 9) },
			[]string{"idle", "half-open"},
		},
		{
			"same SYN after the time-out", func(s *scene) { s.syn(Up, 7).at(60_001).syn(Up, 7) },
			[]string{"idle", "half-open"},
		},

		{
			"a little back in time", func(s *scene) { s.open().at(40).data(Up, 5).at(49).data(Down, 5) },
			[]string{"open up=3 down=2 ms=50"},
		},
		{
			"back before the start", func(s *scene) { s.open().at(-5).data(Up, 5) },
			[]string{"open up=3 ms=50"},
		},
		{
			"Advance back in time", func(s *scene) { s.open().at(100_000).advance().at(1000).advance().data(Up, 5) },
			[]string{"open up=3 ms=1000"},
		},
		// A capture need not be in order: what it holds of the past is news.
		{"a flow from before the clock", func(s *scene) {
			s.at(100_000).advance().at(1000).syn(Up, 1).at(100_100).advance().at(1030).synack(Down, 2).at(1050).ack(Up).at(100_200).advance()
		}, []string{"open est=1 ms=50"}},
		{
			"a flow from before the clock, over", func(s *scene) { s.at(100_000).advance().at(1000).open().at(401_000).advance() },
			[]string{"idle ms=50"},
		},
		{
			"a flow from before the clock, half-open, over", func(s *scene) { s.at(100_000).advance().at(1000).syn(Up, 1).at(161_000).advance() },
			[]string{"idle"},
		},
		{"a segment from the far future holds up nobody", func(s *scene) {
			s.at(1e12).syn(Up, 1).at(1000).port(2).syn(Up, 1).at(125_000).advance()
		}, []string{"idle", "idle"}},
		{
			"a flow from the far future goes", func(s *scene) { s.at(1e12).open().at(1000).advance().at(362_000).advance() },
			[]string{"idle"},
		},
		{
			"time-out of a fraction, at the limit", func(s *scene) { s.idle[media] = 1500e6; s.open().settle(media).at(2_999).advance() },
			[]string{"open"},
		},
		{
			"time-out of a fraction, over it", func(s *scene) { s.idle[media] = 1500e6; s.open().settle(media).at(3_000).advance() },
			[]string{"idle"},
		},
		{"settled into a time-out that is over", func(s *scene) {
			s.idle[media] = 10 * second
			s.open().at(200_000).advance().settle(media).at(202_000).advance()
		}, []string{"idle"}},
		{
			"spoken in between, looked at in its last second", func(s *scene) { s.open().at(10_000).data(Up, 5).at(310_999).advance() },
			[]string{"open"},
		},
		{
			"jump onto the slot's own place", func(s *scene) { s.open().settle(media).at((300 + 4096) * 1000).advance() },
			[]string{"idle"},
		},
	})
}

// A first Advance may come late, or never.
func TestAdvanceFirstTime(t *testing.T) {
	s := newScene(t, 16)
	s.tab.wheelNow, s.tab.wheelMin = 0, 0
	s.open().settle(chat).port(2).open().at(301_200).advance()
	s.want("idle", "open")
}

// TestSettledFlowKeepsItsCount: a SYN behind the data of a flow that has been
// counted as one met in mid-stream takes nothing back.
func TestSettledFlowKeepsItsCount(t *testing.T) {
	s := newScene(t, 16)
	s.data(Up, 100, seq(8), acks(10)).settle(media).at(1).syn(Up, 7).at(2).data(Up, 5, seq(108))
	s.want("open seen=0 est=0 syn=1 up=3")
	c := &s.classes[media]
	if c.Opened != 1 || c.Midstream != 1 || c.Attempts != 0 || c.SYN != 1 {
		t.Errorf("opened %d, midstream %d, attempts %d, SYN %d; want 1, 1, 0, 1", c.Opened, c.Midstream, c.Attempts, c.SYN)
	}
}

func TestEvents(t *testing.T) {
	s := newScene(t, 16)
	for _, c := range []struct {
		name string
		play func()
		want Event
	}{
		{"SYN", func() { s.syn(Up, 7) }, Opened},
		{"SYN/ACK", func() { s.synack(Down, 9) }, 0},
		{"ACK", func() { s.ack(Up) }, 0},
		{"request", func() { s.data(Up, 5) }, SubscriberPayload},
		{"answer", func() { s.data(Down, 5) }, NowCarried},
		{"more of it", func() { s.data(Down, 5) }, 0},
		{"FIN with data", func() { s.send(Up, decode.FIN, 5) }, SubscriberPayload},
		{"other flow, met at data", func() { s.port(9).data(Up, 5) }, Opened | SubscriberPayload},
		{"the same reused", func() { s.send(Up, decode.SYN, 5, seq(70_000)) }, Opened | SubscriberPayload},
	} {
		if c.play(); s.ev != c.want {
			t.Errorf("%s: event %b, want %b", c.name, s.ev, c.want)
		}
	}
}

func TestStreamOffset(t *testing.T) {
	type q struct {
		d   Direction
		seq uint32
		off uint32
		ok  bool
	}
	for _, c := range []struct {
		name string
		play func(s *scene)
		ask  []q
	}{
		{
			"SYN seen", func(s *scene) { s.syn(Up, 1000).synack(Down, 5000).ack(Up).data(Up, 10) },
			[]q{{Up, 1001, 0, true}, {Up, 1011, 10, true}, {Up, 1000, 0, false}, {Down, 5001, 0, true}},
		},
		{
			"over the wrap", func(s *scene) { s.syn(Up, 0xffff_fff0).ack(Up).data(Up, 100) },
			[]q{{Up, 0xffff_fff1, 0, true}, {Up, 5, 20, true}, {Up, 0xffff_fff0, 0, false}},
		},
		{
			"met at data", func(s *scene) { s.data(Up, 10, seq(500)) },
			[]q{{Up, 500, 0, true}, {Up, 510, 10, true}, {Up, 499, 0, false}},
		},
		{
			"met at an ACK", func(s *scene) { s.ack(Up, seq(500)).data(Up, 10, seq(500)) },
			[]q{{Up, 500, 0, true}, {Up, 510, 10, true}},
		},
		{
			"met at a keep-alive", func(s *scene) { s.ack(Up, seq(499)).data(Up, 10, seq(500)) },
			[]q{{Up, 500, 0, true}, {Up, 510, 10, true}},
		},
		{
			"met at an ACK, what follows it missed", func(s *scene) { s.ack(Up, seq(500)).data(Up, 10, seq(700)) },
			[]q{{Up, 700, 0, true}, {Up, 710, 10, true}},
		},
		{
			"late SYN", func(s *scene) { s.ack(Up, seq(500)).syn(Up, 499).data(Up, 10, seq(500)) },
			[]q{{Up, 500, 0, true}, {Up, 510, 10, true}},
		},
		{
			"late SYN after the second segment", func(s *scene) { s.data(Up, 10, seq(510)).syn(Up, 499) },
			[]q{{Up, 500, 0, true}, {Up, 510, 10, true}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, 16)
			c.play(s)
			f := s.tab.Flow(s.record())
			for _, q := range c.ask {
				if off, ok := f.StreamOffset(q.d, q.seq); ok != q.ok || ok && off != q.off {
					t.Errorf("offset of %d in direction %d is %d, %v; want %d, %v", q.seq, q.d, off, ok, q.off, q.ok)
				}
			}
			s.check()
		})
	}
}

// The flow record's words.
func TestNames(t *testing.T) {
	want := []string{"", "fin", "rst", "idle", "reused", "evicted", "shutdown"}
	for r := NotEnded; r < EndReasons; r++ {
		if r.String() != want[r] {
			t.Errorf("reason %d is %q, want %q", r, r, want[r])
		}
	}
	for o, want := range []string{"", "android", "ios", "windows-phone", "blackberry", "ambiguous"} {
		if OS(o).String() != want {
			t.Errorf("system %d is %q, want %q", o, OS(o), want)
		}
	}
	if Up.Reverse() != Down || Down.Reverse() != Up {
		t.Error("Reverse does not reverse")
	}
}

// Shutdown ends what lives, and the table goes on.
func TestShutdown(t *testing.T) {
	s := newScene(t, 16)
	s.open().settle(chat).port(2).syn(Up, 1).port(3).open().rst(Up).port(4).open().fin(Up).fin(Down)
	s.tab.Shutdown(0)
	s.want("shutdown", "shutdown", "rst", "fin")
	if s.tab.Len() != 0 {
		t.Errorf("Len is %d after Shutdown", s.tab.Len())
	}
	s.ended = nil
	s.port(40000).open()
	s.want("open seen=1 est=1")
}
