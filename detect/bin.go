package detect

import "time"

// Bin is what was seen of one series in one bin of time.
type Bin struct {
	// Attempts are connections that a SYN opened.
	Attempts uint64 `json:"attempts"`
	// SYN, SYNACK and RST are segments.
	SYN    uint64 `json:"syn"`
	SYNACK uint64 `json:"syn_ack"`
	RST    uint64 `json:"rst"`
	// Flows are those that began in the bin. Carried of them had payload in
	// both directions; OneSided had packets in one direction only, and more
	// than a connection attempt.
	Flows    uint64 `json:"flows"`
	Carried  uint64 `json:"carried"`
	OneSided uint64 `json:"one_sided"`
	// Bytes of IP packets.
	BytesUp   uint64 `json:"uplink_bytes"`
	BytesDown uint64 `json:"downlink_bytes"`
	// Subscribers with a flow in the bin. It may be left 0 for a class: its
	// app's number is used.
	Subscribers uint64 `json:"subscribers"`
}

func (b *Bin) add(o *Bin) {
	b.Attempts += o.Attempts
	b.SYN += o.SYN
	b.SYNACK += o.SYNACK
	b.RST += o.RST
	b.Flows += o.Flows
	b.Carried += o.Carried
	b.OneSided += o.OneSided
	b.BytesUp += o.BytesUp
	b.BytesDown += o.BytesDown
	b.Subscribers = max(b.Subscribers, o.Subscribers)
}

// OtherApp is the app of all traffic that no rule names. It never has an event
// of its own; what happens to it tells a failing app from a failing network.
const OtherApp = "other"

// Key names a series. An empty Class is the whole app, an empty Group all of
// the network; a Group is one gateway's or access point's part (an APN).
type Key struct {
	App   string `json:"app"`
	Class string `json:"class,omitempty"`
	Group string `json:"group,omitempty"`
}

// Sample is one series' bin.
type Sample struct {
	Key
	Bin
}

// double is the bin as if it had gone on for as long again.
func (b *Bin) double() Bin {
	d := *b
	d.add(b)
	return d
}

// DNS is what was seen of name resolution in a step.
type DNS struct {
	// Known says that the other fields were counted.
	Known bool `json:"known"`
	// Asked and Answered are queries and responses, Failed the responses with
	// SERVFAIL, REFUSED or NXDOMAIN.
	Asked    uint64 `json:"asked"`
	Answered uint64 `json:"answered"`
	Failed   uint64 `json:"failed"`
}

func (d DNS) plus(o DNS) DNS {
	return DNS{d.Known || o.Known, d.Asked + o.Asked, d.Answered + o.Answered, d.Failed + o.Failed}
}

// Tap is the health of the capture in a step.
type Tap struct {
	Known   bool   `json:"known"`
	Frames  uint64 `json:"frames"`
	Dropped uint64 `json:"dropped"`
}

func (t Tap) plus(o Tap) Tap {
	return Tap{t.Known || o.Known, t.Frames + o.Frames, t.Dropped + o.Dropped}
}

// Step is half a bin of all series: Hop of packet time. Series that are missing
// had no traffic. The sum over an app's classes is made where there is no sample
// of the whole app.
type Step struct {
	// Start in packet time, nanoseconds, a multiple of Hop. A step that does
	// not follow the one before it at that distance opens a gap: nothing is
	// learned or concluded across it.
	Start   int64
	Samples []Sample
	DNS     DNS
	Tap     Tap
}

// Verdict says what failed.
type Verdict string

// Verdicts.
const (
	AppFailure  Verdict = "app-failure" // servers accept connections and fail above them
	Unreachable Verdict = "unreachable" // connections are tried and not accepted, or not even tried
	DNSFailure  Verdict = "dns-failure" // names are asked and not answered
	OurNetwork  Verdict = "our-network" // other apps fail as well, or the app fails behind one gateway only
	TapFailure  Verdict = "tap"         // the tap is blind; nothing is known of the apps
)

// Verdicts lists all of them, for closed label sets.
func Verdicts() []Verdict {
	return []Verdict{AppFailure, Unreachable, DNSFailure, OurNetwork, TapFailure}
}

// Event is something that failed for a time. Start and End are packet time in
// nanoseconds, the beginnings of steps; End is 0 while it lasts.
type Event struct {
	App   string `json:"app"` // empty for the tap
	Group string `json:"group,omitempty"`
	// Classes that failed; empty where only the app as a whole shows it.
	Classes []string `json:"classes"`
	Start   int64    `json:"start_ns"`
	End     int64    `json:"end_ns"`
	Verdict Verdict  `json:"verdict"`
	// Confidence is between 0 and 1: how many of the signals agree, and
	// whether there was a season to hold them against. It is a grade, not a
	// probability.
	Confidence float64 `json:"confidence"`
	// Calibrated says that the baseline was the same time of earlier weeks.
	Calibrated bool `json:"calibrated"`
	// Means over the event. The residues are the share of the expected bytes
	// that still passed, Attempts the attempts against what was expected, and
	// Success the share of flows that carried payload both ways, before and
	// during it.
	ResidueUp     float64 `json:"residue_up"`
	ResidueDown   float64 `json:"residue_down"`
	Attempts      float64 `json:"attempts_factor"`
	SuccessBefore float64 `json:"success_before"`
	Success       float64 `json:"success_during"`
	// RecoveryEnd is when the storm of reconnects after the event was over; 0
	// without one.
	RecoveryEnd int64 `json:"recovery_end_ns"`
	// Reasons are the signals that spoke, in words. Their figures are those of
	// the bin of the length Width in which most of them spoke, which is not how
	// things stand later; ReasonsFrom is when it began, 0 for the tap's events,
	// whose reasons have no figures.
	Reasons     []string `json:"reasons"`
	ReasonsFrom int64    `json:"reasons_from_ns"`
}

// Depth is the share of the expected downlink bytes that was missing.
func (e *Event) Depth() float64 { return max(0, 1-e.ResidueDown) }

// Width is how long the bins are that are judged: long enough to hold flows. Each
// half of it, a Hop, ends a bin, so that each bin shares a half with the next: an
// outage must be found within ten minutes, wherever in a bin it begins, and that
// is less than it takes to wait for the end of one bin and for two more.
const (
	Width = 5 * time.Minute
	Hop   = Width / 2
)
