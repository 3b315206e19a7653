// Package score holds what the analyser says of a trace against the truth that
// the trace was made from. It is the project's accuracy page.
package score

import (
	"fmt"
	"io"
	"math"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/synth"
)

// tuple names a flow as both sides know it: two flows never begin on one 5-tuple
// at the same nanosecond.
type tuple struct {
	subscriber, server netip.AddrPort
	start              int64
}

// Share is a number of cases and how many of them were right.
type Share struct {
	Right int `json:"right"`
	Of    int `json:"of"`
}

func (s *Share) add(right bool) {
	s.Of++
	if right {
		s.Right++
	}
}

// Value is the share, 1 of no cases at all.
func (s Share) Value() float64 {
	if s.Of == 0 {
		return 1
	}
	return float64(s.Right) / float64(s.Of)
}

// Named is how well one kind of evidence, or one class, was named.
type Named struct {
	Key string `json:"key"`
	// Precision: of the flows that were given a name, those whose name is
	// what the subscriber connected to. Class: those whose class is right.
	Precision Share `json:"precision"`
	Class     Share `json:"class"`
	// Recall: of the flows of which the tap had seen the answer before they
	// began, those that were given the right name. By class only.
	Recall Share `json:"recall"`
}

// Score is the result.
type Score struct {
	// Flows in the truth; Missed has no record, Extra no truth.
	Flows  int `json:"flows"`
	Missed int `json:"missed"`
	Extra  int `json:"extra"`

	Naming     Named   `json:"naming"`
	ByEvidence []Named `json:"by_evidence"`
	ByClass    []Named `json:"by_class"`
	// AsTheContractSays counts flows whose name, evidence and class are what
	// the rules of naming give for what the tap could see.
	AsTheContractSays Share `json:"as_the_contract_says"`

	// Exact counts flows whose bytes, packets, payload and flags are all
	// exact; Inexact how often each of them was not.
	Exact   Share          `json:"exact"`
	Inexact map[string]int `json:"inexact"`

	// Handshakes within 1 ms; round-trip times (least and mean, both sides)
	// within 10 % or 5 ms; retransmissions within 10 % or 2 segments.
	Handshakes Share `json:"handshakes"`
	RTTMin     Share `json:"rtt_min"`
	RTTMean    Share `json:"rtt_mean"`
	Loss       Share `json:"loss"`
	Reordering Share `json:"reordering"`
	EndReason  Share `json:"end_reason"`
	OS         Share `json:"os"`

	// Differences are the first few cases of each kind, for a developer.
	Differences []string `json:"differences,omitempty"`

	truth    map[tuple]*synth.FlowTruth
	evidence map[string]*Named
	classes  map[string]*Named
	shown    map[string]int
}

// New returns an empty score.
func New() *Score {
	return &Score{
		Inexact: map[string]int{}, truth: map[tuple]*synth.FlowTruth{},
		evidence: map[string]*Named{}, classes: map[string]*Named{}, shown: map[string]int{},
	}
}

// Truth adds one flow as it was. All of them come before the first Record.
func (s *Score) Truth(t *synth.FlowTruth) error {
	c := *t
	key := tuple{netip.AddrPortFrom(t.Subscriber, t.SubscriberPort), netip.AddrPortFrom(t.Server, t.ServerPort), t.Start.UnixNano()}
	if s.truth[key] != nil {
		return fmt.Errorf("two flows of %v to %v begin at %v", key.subscriber, key.server, t.Start)
	}
	s.truth[key] = &c
	s.Flows++
	return nil
}

// Record adds one flow as the analyser saw it.
func (s *Score) Record(r *flows.Record) {
	key := tuple{
		netip.AddrPortFrom(r.Key.Subscriber.Netip(), r.Key.SubscriberPort),
		netip.AddrPortFrom(r.Key.Server.Netip(), r.Key.ServerPort), r.Start,
	}
	t := s.truth[key]
	if t == nil {
		s.Extra++
		s.show("extra", "%v to %v at %s has no truth", key.subscriber, key.server, when(r.Start))
		return
	}
	delete(s.truth, key)
	s.naming(r, t)
	s.counters(r, t)
	s.times(r, t)
	s.EndReason.add(r.Reason.String() == t.EndReason)
	if r.Reason.String() != t.EndReason {
		s.show("end", "%v to %v: ended by %s, truth %s", key.subscriber, key.server, r.Reason, t.EndReason)
	}
	if t.OS != "" && t.SYNSeen {
		s.OS.add(r.OS.String() == string(t.OS))
	}
}

// Close counts what was missed and fixes the order of the tables. The error says that
// the truth has none of the flows that were seen: it is of another trace.
func (s *Score) Close() error {
	s.Missed = len(s.truth)
	for key := range s.truth {
		s.show("missed", "%v to %v at %s has no record", key.subscriber, key.server, when(key.start))
	}
	s.ByEvidence, s.ByClass = sorted(s.evidence), sorted(s.classes)
	slices.Sort(s.Differences)
	if s.Extra > 0 && s.Missed == s.Flows {
		return fmt.Errorf("none of the %d flows of the trace is among the %d of the truth: they do not belong together; name the truth that was written with the trace", s.Extra, s.Flows)
	}
	return nil
}

func sorted(m map[string]*Named) []Named {
	var list []Named
	for _, n := range m {
		list = append(list, *n)
	}
	slices.SortFunc(list, func(a, b Named) int { return strings.Compare(a.Key, b.Key) })
	return list
}

const shownOfEach = 5

func (s *Score) show(kind, format string, args ...any) {
	if s.shown[kind]++; s.shown[kind] <= shownOfEach {
		s.Differences = append(s.Differences, kind+": "+fmt.Sprintf(format, args...))
	}
}

func when(at int64) string { return time.Unix(0, at).UTC().Format(time.RFC3339Nano) }

// duration is for people; a time that was not measured is none.
func duration(s synth.Seconds) string {
	if !s.Known() {
		return "none"
	}
	return fmt.Sprintf("%.6f s", float64(s))
}

func entry(m map[string]*Named, key string) *Named {
	n := m[key]
	if n == nil {
		n = &Named{Key: key}
		m[key] = n
	}
	return n
}

func (s *Score) naming(r *flows.Record, t *synth.FlowTruth) {
	rightName := r.Name == string(t.TrueName)
	rightClass := r.App == t.TrueApp && r.Class == t.TrueClass
	ev, class := entry(s.evidence, r.Evidence), entry(s.classes, t.TrueApp+"/"+t.TrueClass)
	for _, n := range []*Named{&s.Naming, ev, class} {
		n.Class.add(rightClass)
		if r.Name != "" {
			n.Precision.add(rightName)
		}
		if t.TrueAnswerSeen {
			n.Recall.add(rightName)
		}
	}
	agree := r.Evidence == t.Evidence && r.Name == string(t.Name) && r.App == t.App && r.Class == t.Class
	s.AsTheContractSays.add(agree)
	if !agree {
		s.show("contract", "%v:%d to %v at %s: %s %q %s/%s, the rules say %s %q %s/%s", t.Subscriber, t.SubscriberPort, t.Server, when(r.Start),
			r.Evidence, r.Name, r.App, r.Class, t.Evidence, t.Name, t.App, t.Class)
	}
}

func (s *Score) counters(r *flows.Record, t *synth.FlowTruth) {
	const up, down = flows.Up, flows.Down
	exact := true
	check := func(what string, got, want uint64) {
		if got == want {
			return
		}
		exact = false
		s.Inexact[what]++
		s.show(what, "%v:%d to %v at %s: %d, truth %d", t.Subscriber, t.SubscriberPort, t.Server, when(r.Start), got, want)
	}
	check("uplink_bytes", r.Bytes[up], t.UplinkBytes)
	check("downlink_bytes", r.Bytes[down], t.DownlinkBytes)
	check("uplink_packets", r.Packets[up], t.UplinkPackets)
	check("downlink_packets", r.Packets[down], t.DownlinkPackets)
	check("uplink_payload_bytes", r.Payload[up], t.UplinkPayloadBytes)
	check("downlink_payload_bytes", r.Payload[down], t.DownlinkPayloadBytes)
	check("syn", uint64(r.SYN), t.SYN)
	check("syn_ack", uint64(r.SYNACK), t.SYNACK)
	check("fin", uint64(r.FIN), t.FIN)
	check("rst", uint64(r.RST), t.RST)
	s.Exact.add(exact)
	// A repeated SYN is a retransmission; the truth has it apart.
	s.loss(&s.Loss, "uplink_retransmitted", r, uint64(r.Retransmitted[up]), t.UplinkRetransmitted+t.SYNRepeated)
	s.loss(&s.Loss, "downlink_retransmitted", r, uint64(r.Retransmitted[down]), t.DownlinkRetransmitted+t.SYNACKRepeated)
	s.loss(&s.Reordering, "uplink_out_of_order", r, uint64(r.OutOfOrder[up]), t.UplinkOutOfOrder)
	s.loss(&s.Reordering, "downlink_out_of_order", r, uint64(r.OutOfOrder[down]), t.DownlinkOutOfOrder)
}

// loss judges a count of segments where there was something to count.
func (s *Score) loss(share *Share, what string, r *flows.Record, got, want uint64) {
	if got == 0 && want == 0 {
		return
	}
	off := math.Abs(float64(got) - float64(want))
	right := off <= math.Max(2, float64(want)/10)
	share.add(right)
	if !right {
		s.show(what, "flow at %s: %d, truth %d", when(r.Start), got, want)
	}
}

func (s *Score) times(r *flows.Record, t *synth.FlowTruth) {
	const up, down = flows.Up, flows.Down
	handshake := func(us int64, want synth.Seconds) {
		if want.Known() || us >= 0 {
			right := want.Known() == (us >= 0) && (us < 0 || math.Abs(float64(us)/1e6-float64(want)) <= 0.001)
			s.Handshakes.add(right)
			if !right {
				got := synth.Seconds(math.NaN())
				if us >= 0 {
					got = synth.Seconds(float64(us) / 1e6)
				}
				s.show("handshake", "flow at %s: %s, truth %s", when(r.Start), duration(got), duration(want))
			}
		}
	}
	handshake(r.RTTHandshake[up], t.ServerRTTHandshake)
	handshake(r.RTTHandshake[down], t.AccessRTTHandshake)
	near := func(share *Share, us float64, want synth.Seconds) {
		if want.Known() || us >= 0 {
			off := math.Abs(us/1e6 - float64(want))
			share.add(want.Known() && us >= 0 && off <= math.Max(0.005, float64(want)/10))
		}
	}
	near(&s.RTTMin, float64(r.RTTMin[up]), t.ServerRTTMin)
	near(&s.RTTMin, float64(r.RTTMin[down]), t.AccessRTTMin)
	near(&s.RTTMean, r.RTTMean[up], t.ServerRTTMean)
	near(&s.RTTMean, r.RTTMean[down], t.AccessRTTMean)
}

// WriteTable writes the score for a person.
func (s *Score) WriteTable(w io.Writer) error {
	b := &strings.Builder{}
	fmt.Fprintf(b, "%d flows, %d missed, %d that never were\n\n", s.Flows, s.Missed, s.Extra)
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(n *Named) {
		_, _ = fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t\n", n.Key, n.Class.Of, percent(n.Precision), percent(n.Recall), percent(n.Class))
	}
	_, _ = fmt.Fprintln(t, "naming\tflows\tname right, of those named\tof those after an answer\tclass right\t")
	all := s.Naming
	all.Key = "all"
	row(&all)
	for i := range s.ByEvidence {
		row(&s.ByEvidence[i])
	}
	for i := range s.ByClass {
		row(&s.ByClass[i])
	}
	_ = t.Flush() // a strings.Builder takes everything
	b.WriteString("\n")
	t = tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, l := range []struct {
		what  string
		share Share
	}{
		{"named as the rules say for what the tap saw", s.AsTheContractSays},
		{"bytes, packets, payload and flags all exact", s.Exact},
		{"handshake round-trip times within 1 ms", s.Handshakes},
		{"least round-trip times within 10 % or 5 ms", s.RTTMin},
		{"mean round-trip times within 10 % or 5 ms", s.RTTMean},
		{"retransmissions within 10 % or 2 segments", s.Loss},
		{"reordered segments within 10 % or 2 segments", s.Reordering},
		{"reason of the end", s.EndReason},
		{"operating system", s.OS},
	} {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%d of %d\n", l.what, percent(l.share), l.share.Right, l.share.Of)
	}
	_ = t.Flush()
	_, err := io.WriteString(w, b.String())
	return err
}

func percent(s Share) string {
	if s.Of == 0 {
		return "–"
	}
	return fmt.Sprintf("%.3f %%", 100*s.Value())
}
