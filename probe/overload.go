package probe

// Work is what an engine leaves out first when it cannot keep up.
type Work uint8

// Works, in the order in which they are left out.
const (
	// WorkSNI is to look for a server name in the first bytes of flows.
	WorkSNI Work = iota
	// WorkRTT is to take samples of round-trip times.
	WorkRTT

	// Works is their number.
	Works
)

var workNames = [Works]string{"sni", "rtt"}

// String returns the work's name in metrics.
func (w Work) String() string { return workNames[w] }

// The rule, in percent of the ring that the kernel has filled and nobody has
// read (capture.Batch.Pressure). At half of it, server names are left out: flows
// that begin then are named by DNS, and ClientHellos that are being put together
// go on. At three quarters, round-trip times are, too. Below a quarter
// everything is done again; in between, things stay as they are, because each
// change costs comparability. Traffic is counted and named by DNS all the time.
const (
	pressureSNI  = 50
	pressureRTT  = 75
	pressureNone = 25
)

// shedding is how many works are left out: the first ones.
type shedding uint8

// under returns what to leave out from now on.
func (s shedding) under(pressure uint8) shedding {
	switch {
	case pressure >= pressureRTT:
		return shedding(WorkRTT) + 1
	case pressure >= pressureSNI:
		return max(s, shedding(WorkSNI)+1)
	case pressure < pressureNone:
		return 0
	}
	return s
}

func (s shedding) leavesOut(w Work) bool { return s > shedding(w) }

// OverloadSnapshot is what was left out.
type OverloadSnapshot struct {
	// Pressure is how full the fullest ring was when it was last looked at, in
	// percent.
	Pressure uint8
	// Shedding says which work is left out now.
	Shedding [Works]bool
	// Segments are those of TCP that passed while the work was left out: of all
	// segments, the share that its results do not cover.
	Segments [Works]uint64
	// Unexamined are flows in whose first bytes no server name was looked for.
	Unexamined uint64
}

func (o *OverloadSnapshot) merge(from *OverloadSnapshot) {
	o.Pressure = max(o.Pressure, from.Pressure)
	for w := range o.Shedding {
		o.Shedding[w] = o.Shedding[w] || from.Shedding[w]
	}
	addAll(o.Segments[:], from.Segments[:])
	o.Unexamined += from.Unexamined
}

// shedWork takes over what is left out with a chunk and counts its segments.
func (s *shard) shedWork(to shedding, items []item) {
	if to != s.shedding {
		s.shedding = to
		for _, a := range s.own {
			a.flows.SkipRTT(to.leavesOut(WorkRTT))
		}
	}
	if to == 0 {
		return
	}
	segments := uint64(0)
	for i := range items {
		if items[i].work() != workDNS {
			segments++
		}
	}
	for w := range s.shed {
		if to.leavesOut(Work(w)) {
			s.shed[w] += segments
		}
	}
}
