package trial

import (
	"time"

	"github.com/nametap/nametap/detect"
)

// Scenario is what happens to a simulated network, and what the detector should
// make of it.
type Scenario struct {
	// Name is how it is called for, Text what it is.
	Name, Text string
	// Expect is the verdict to be found, once; empty where nothing is to be.
	Expect detect.Verdict
	// Within is how soon after its start the event must be told of.
	Within time.Duration

	fail        failure
	lasts       time.Duration
	everyMinute bool // of a bin, it begins once
	networks    []kind
	summerTime  bool
	restarts    bool
}

// kind is a network by its size and its access points.
type kind struct {
	subscribers float64
	groups      []string
}

var (
	city     = []kind{{20000, nil}}
	gateways = []kind{{20000, []string{"internet", "wap", "iot"}}}
	all      = []kind{{50000, nil}, {300, nil}, {40, nil}, {5000, []string{"internet", "wap", "iot"}}}
)

// Scenarios lists all of them.
func Scenarios() []Scenario {
	outage := failure{apps: "whatsapp", attempts: 2.4, success: 0.03, answered: 1, bytes: 2, recoverFrom: 2.5}
	storm := failure{apps: "whatsapp", attempts: 2.4, success: 0.03, answered: 1, bytes: 2, recoverFrom: 5}
	return []Scenario{
		{
			Name: "quiet", Text: "nothing: days and nights, weekends, noise and spikes; networks of 50,000, 300 and 40 subscribers, and of three gateways",
			networks: all,
		},
		{
			Name: "summer-time", Text: "nothing: the clocks are put an hour on", networks: city, summerTime: true,
		},
		{
			Name: "feast", Text: "nothing: for two hours everybody writes 2.5 times as much", networks: city,
			fail:  failure{apps: "whatsapp", attempts: 2.5, success: 1, answered: 1, bytes: 1},
			lasts: 2 * time.Hour,
		},
		{
			Name: "outage-2014", Text: "22 February 2014: servers accept, then fail; clients try again; begins at each minute of a bin", networks: city,
			Expect: detect.AppFailure, Within: 10 * time.Minute, fail: outage, lasts: 5 * time.Hour, everyMinute: true,
		},
		{
			Name: "partial", Text: "30 % of the flows fail", networks: city,
			Expect: detect.AppFailure, Within: 2 * time.Hour, lasts: 5 * time.Hour,
			fail: failure{apps: "whatsapp", attempts: 1.3, success: 0.7, answered: 1, bytes: 2},
		},
		{
			Name: "to-zero", Text: "the app is not even tried any more", networks: city,
			Expect: detect.Unreachable, Within: 15 * time.Minute, lasts: 5 * time.Hour,
			fail: failure{apps: "whatsapp"},
		},
		{
			Name: "silent-servers", Text: "SYNs are not answered", networks: city,
			Expect: detect.Unreachable, Within: 10 * time.Minute, lasts: 2 * time.Hour,
			fail: failure{apps: "whatsapp", attempts: 3, success: 0.02, answered: 0.02, bytes: 0.3},
		},
		{
			Name: "dns", Text: "names are asked for and not answered", networks: city,
			Expect: detect.DNSFailure, Within: 15 * time.Minute, lasts: 2 * time.Hour,
			fail: failure{apps: "whatsapp", attempts: 0.1, success: 0.9, answered: 1, bytes: 1, dns: 0.9},
		},
		{
			Name: "uplink", Text: "all apps fail alike", networks: city,
			Expect: detect.OurNetwork, Within: 15 * time.Minute, lasts: 2 * time.Hour,
			fail: failure{apps: "all", attempts: 2, success: 0.05, answered: 0.05, bytes: 0.3},
		},
		{
			Name: "one-gateway", Text: "the app fails behind one access point name of three", networks: gateways,
			Expect: detect.OurNetwork, Within: 15 * time.Minute, lasts: 2 * time.Hour,
			fail: failure{apps: "whatsapp", group: "internet", attempts: 2, success: 0.05, answered: 0.1, bytes: 0.3},
		},
		{
			Name: "tap-cut", Text: "the tap delivers nothing", networks: city,
			Expect: detect.TapFailure, Within: 15 * time.Minute, lasts: 2 * time.Hour,
			fail: failure{apps: "all", tap: true},
		},
		{
			Name: "tap-one-way", Text: "the downlink port is unplugged", networks: city,
			Expect: detect.TapFailure, Within: 15 * time.Minute, lasts: 2 * time.Hour,
			fail: failure{apps: "all", attempts: 1, bytes: 1, downOnly: true},
		},
		{
			Name: "tap-drops", Text: "capture drops three packets of ten", networks: city,
			Expect: detect.TapFailure, Within: 15 * time.Minute, lasts: 2 * time.Hour,
			fail: failure{apps: "all", attempts: 0.8, success: 0.7, answered: 0.8, bytes: 1, droppedTap: true},
		},
		{
			Name: "recovery-storm", Text: "an outage, and then five times the connections as everybody comes back", networks: city,
			Expect: detect.AppFailure, Within: 10 * time.Minute, fail: storm, lasts: 3 * time.Hour,
		},
		{
			Name: "restart", Text: "the outage of 2014, and every nine hours, and in its midst, the state is saved, loaded, and 20 minutes are missed", networks: city,
			Expect: detect.AppFailure, Within: 10 * time.Minute, fail: outage, lasts: 5 * time.Hour, restarts: true,
		},
	}
}

// start is when something begins, from the trial's own beginning.
type start struct {
	day       int
	hour, min time.Duration
}

func (s start) at() time.Duration {
	return time.Duration(s.day)*24*time.Hour + s.hour*time.Hour + s.min*time.Minute
}

// starts: an early evening with no season yet, one with two weeks of it, a night
// and a morning rise with three.
var starts = []start{{1, 18, 30}, {16, 18, 30}, {21, 3, 10}, {23, 8, 0}}

// begins are the times at which the scenario begins, as far as they and what
// follows lie within the days.
func (s *Scenario) begins(days int) (out []time.Duration) {
	if s.lasts == 0 {
		return []time.Duration{0}
	}
	for i, at := range starts {
		into := []time.Duration{time.Duration(i) * 80 * time.Second}
		if s.everyMinute {
			into = into[:0]
			for m := time.Duration(0); m < detect.Width; m += time.Minute {
				into = append(into, m, m+50*time.Second)
			}
		}
		for _, into := range into {
			if at := at.at() + into; at+s.lasts+2*time.Hour < time.Duration(days)*24*time.Hour {
				out = append(out, at)
			}
		}
	}
	return out
}
