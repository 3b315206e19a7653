package report

import (
	"time"

	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/detect"
	"github.com/nametap/nametap/report/chart"
)

// OutageSection is connections over time, and what went wrong.
type OutageSection struct {
	Notes
	Events       []EventEntry  `json:"events"`
	Classes      []SignalLine  `json:"classes"`
	Over         Times         `json:"times"`
	Outside      *OutsideLine  `json:"outside"`
	Correlations []Correlation `json:"correlations"`
	// Judged is how many bins the detector could judge, Width how long they
	// are in seconds.
	Judged int     `json:"bins_judged"`
	Width  float64 `json:"detector_width_s"`
}

// EventEntry is an event of the detector in the report's terms.
type EventEntry struct {
	App           string   `json:"app"`
	Group         string   `json:"access_point"`
	Classes       []string `json:"classes"`
	Start         string   `json:"start"`
	End           string   `json:"end"` // empty: it lasts to the end of the input
	Minutes       float64  `json:"minutes"`
	Verdict       string   `json:"verdict"`
	Confidence    float64  `json:"confidence"`
	Calibrated    bool     `json:"calibrated"`
	Depth         float64  `json:"depth"`
	ResidueUp     float64  `json:"residue_up"`
	ResidueDown   float64  `json:"residue_down"`
	Attempts      float64  `json:"attempts_factor"`
	SuccessBefore float64  `json:"success_before"`
	SuccessDuring float64  `json:"success_during"`
	RecoveryEnd   string   `json:"recovery_end"`
	Reasons       []string `json:"reasons"`
	ReasonsFrom   string   `json:"reasons_from"` // the five minutes that their figures are of; empty: they have none
	start, end    int64
}

// SignalLine is one class over time.
type SignalLine struct {
	App      string   `json:"app"`
	Class    string   `json:"class"`
	Uplink   []uint64 `json:"uplink_bytes"`
	Downlink []uint64 `json:"downlink_bytes"`
	Flows    []uint64 `json:"flows"`
	SYN      []uint64 `json:"syn"`
	SYNACK   []uint64 `json:"syn_ack"`
	FIN      []uint64 `json:"fin"`
	RST      []uint64 `json:"rst"`
}

// OutsideLine is the series from outside in the same bins.
type OutsideLine struct {
	Name   string    `json:"name"`
	Counts []float64 `json:"counts"`
}

func (c *Collector) outageSection() OutageSection {
	s := OutageSection{
		Notes: Notes{
			Shows:   "Volume, connections and their ends over time, and the times at which an app failed.",
			How:     "The detector judges each five minutes, in steps of half of that, by three signals: attempts per active subscriber up, success down (payload both ways, SYN/ACKs, resets), bytes per flow down. It expects what the same time of earlier weeks had, or the last two hours where there is no such week (“uncalibrated”). Three steps in a row that alarm make an event.",
			Unknown: "Why something failed. A residue is what is left of the volume that was to be expected, and that expectation is an estimate. SYN and flows stand where a flow began, FIN and RST where it ended, bytes are spread over it evenly.",
			Remarks: []string{},
		},
		Events: []EventEntry{}, Classes: []SignalLine{}, Correlations: []Correlation{}, Width: detect.Width.Seconds(),
	}
	c.detectEvents(&s)
	var row []*displayBin
	s.Over, row = c.times()
	for _, id := range c.sorted() {
		s.Classes = append(s.Classes, signalLine(c.list[id].key, id, row))
	}
	c.outside(&s, len(row))
	return s
}

func signalLine(key classKey, id int, row []*displayBin) SignalLine {
	n := len(row)
	l := SignalLine{App: key.App, Class: key.Class}
	for _, p := range []*[]uint64{&l.Uplink, &l.Downlink, &l.Flows, &l.SYN, &l.SYNACK, &l.FIN, &l.RST} {
		*p = make([]uint64, n)
	}
	for i, b := range row {
		if x := b.peek(id); x != nil {
			l.Uplink[i], l.Downlink[i] = x.bytes[0], x.bytes[1]
			l.Flows[i], l.SYN[i], l.SYNACK[i], l.FIN[i], l.RST[i] = x.flows, x.syn, x.synack, x.fin, x.rst
		}
	}
	return l
}

// detectEvents runs the detector over the bins.
func (c *Collector) detectEvents(s *OutageSection) {
	first, row := c.detect.row()
	if len(row) == 0 || c.flows == 0 {
		return
	}
	if from := c.detect.low * c.detect.width; c.first < from {
		s.remark("Outages were looked for from %s on: of a longer input the newest %d weeks are kept. Give what came before by itself.",
			time.Unix(0, from).UTC().Format("2 January 2006, 15:04"), time.Duration(detectHops)*detect.Hop/(7*24*time.Hour))
	}
	if !c.resolution.known {
		s.remark("%s: that names were not resolved (dns-failure) cannot be told from an app that fails, or from a tap that sees nothing.", c.whyNoDNS())
	}
	d := detect.New()
	var events []detect.Event
	note := func(e detect.Event) {
		for i := range events {
			if events[i].App == e.App && events[i].Group == e.Group && events[i].Start == e.Start {
				events[i] = e
				return
			}
		}
		events = append(events, e)
	}
	// After the last flow has begun there are only ends: what was selected by
	// its start would look like traffic that stops.
	row = row[:max(0, min(int64(len(row)), c.lastStart/c.detect.width-first/c.detect.width+1))]
	for i, b := range row {
		for _, e := range d.Step(c.step(first+int64(i)*c.detect.width, b)) {
			note(e)
		}
	}
	for _, e := range d.Open() {
		note(e)
	}
	learned := int(time.Hour / detect.Width)
	s.Judged = max(0, int(int64(len(row))*int64(detect.Hop)/int64(detect.Width))-learned)
	if s.Judged == 0 {
		s.remark("The detector needs an hour to learn what is usual; the input lasts %s.", chart.Duration(round(time.Duration(c.last-c.first).Seconds())))
	}
	for i := range events {
		s.Events = append(s.Events, c.event(&events[i]))
	}
}

// whyNoDNS says why no DNS was counted.
func (c *Collector) whyNoDNS() string {
	if c.facts == nil {
		return "Flow records do not tell of DNS queries without an answer"
	}
	return "No DNS query is in the input"
}

// step is a bin as the detector wants it.
func (c *Collector) step(start int64, b *detectBin) *detect.Step {
	s := &detect.Step{Start: start}
	if b == nil {
		return s
	}
	s.DNS = b.dns
	apps, order := map[string]*detect.Bin{}, []string{}
	for id := range b.classes {
		k, x := c.list[id].key, b.classes[id]
		if x == (detect.Bin{}) {
			continue
		}
		s.Samples = append(s.Samples, detect.Sample{Key: detect.Key{App: k.App, Class: k.Class}, Bin: x})
		if apps[k.App] == nil {
			apps[k.App] = &detect.Bin{}
			order = append(order, k.App)
		}
		add(apps[k.App], &x)
	}
	for _, app := range order {
		if u := b.users[app]; u != nil {
			apps[app].Subscribers, _ = u.count()
		}
		s.Samples = append(s.Samples, detect.Sample{Key: detect.Key{App: app}, Bin: *apps[app]})
	}
	for k, g := range b.groups {
		x := *g
		x.Subscribers = x.Attempts // per access point they are not counted apart
		s.Samples = append(s.Samples, detect.Sample{Key: k, Bin: x})
	}
	return s
}

func add(x, y *detect.Bin) {
	x.Attempts, x.SYN, x.SYNACK, x.RST = x.Attempts+y.Attempts, x.SYN+y.SYN, x.SYNACK+y.SYNACK, x.RST+y.RST
	x.Flows, x.Carried, x.OneSided = x.Flows+y.Flows, x.Carried+y.Carried, x.OneSided+y.OneSided
	x.BytesUp, x.BytesDown = x.BytesUp+y.BytesUp, x.BytesDown+y.BytesDown
}

func (c *Collector) event(e *detect.Event) EventEntry {
	out := EventEntry{
		App: e.App, Group: e.Group, Classes: e.Classes, Start: stamp(e.Start), Verdict: string(e.Verdict),
		Confidence: round(e.Confidence), Calibrated: e.Calibrated, Depth: round(e.Depth()),
		ResidueUp: round(e.ResidueUp), ResidueDown: round(e.ResidueDown), Attempts: round(e.Attempts),
		SuccessBefore: round(e.SuccessBefore), SuccessDuring: round(e.Success), Reasons: e.Reasons,
		start: e.Start, end: e.End,
	}
	end := c.last
	if e.End != 0 {
		end = e.End
		out.End = stamp(e.End)
	}
	out.end = end
	out.Minutes = round(time.Duration(end - e.Start).Minutes())
	if e.ReasonsFrom != 0 {
		out.ReasonsFrom = stamp(e.ReasonsFrom)
	}
	if e.RecoveryEnd != 0 {
		out.RecoveryEnd = stamp(e.RecoveryEnd)
	}
	return out
}

// outside overlays and correlates the series from outside.
func (c *Collector) outside(s *OutageSection, n int) {
	o := c.opt.Events
	if o == nil || n == 0 {
		return
	}
	width := time.Duration(c.display.width)
	line := &OutsideLine{Name: o.Name, Counts: o.binned(s.Over.first, int64(width), n)}
	s.Outside = line
	sum := 0.0
	for _, v := range line.Counts {
		sum += v
	}
	if sum == 0 {
		s.remark("None of the events of %q lie within the input.", o.Name)
		return
	}
	ours := map[string][]float64{}
	for _, l := range s.Classes {
		if l.App == classify.OtherName {
			continue
		}
		for i := range n {
			for name, v := range map[string]uint64{"connection attempts (SYN)": l.SYN[i], "resets (RST)": l.RST[i]} {
				if ours[name] == nil {
					ours[name] = make([]float64, n)
				}
				ours[name][i] += float64(v)
			}
		}
	}
	for _, name := range []string{"connection attempts (SYN)", "resets (RST)"} {
		if x, ok := correlate(name, ours[name], line.Counts, width); ok {
			s.Correlations = append(s.Correlations, x)
		}
	}
	if len(s.Correlations) == 0 {
		s.remark("The input is too short, or too even, to correlate anything with %q.", o.Name)
	}
}
