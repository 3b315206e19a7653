package watch

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/detect"
	"github.com/nametap/nametap/flows"
)

// Status is what metrics say.
type Status struct {
	Healthy  bool
	Problems [Reasons]bool
	// Measured are what the reasons are told by, in the terms of Check.Value;
	// 0 where there was too little to tell.
	Measured [Reasons]float64
	// Open are the events that last.
	Open []Event
	// Begun counts events by app and verdict as they were found.
	Begun map[string]map[detect.Verdict]uint64
}

// Status returns the state of health and outages.
func (w *Watcher) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := Status{Healthy: true, Begun: map[string]map[detect.Verdict]uint64{}}
	for r := range w.problems {
		s.Problems[r], s.Measured[r] = w.problems[r].active, w.problems[r].value
		s.Healthy = s.Healthy && !s.Problems[r]
	}
	for i := range w.events {
		if w.events[i].End == 0 {
			s.Open = append(s.Open, w.events[i])
		}
	}
	for t, n := range w.begun {
		if s.Begun[t.App] == nil {
			s.Begun[t.App] = map[detect.Verdict]uint64{}
		}
		s.Begun[t.App][t.Verdict] = n
	}
	return s
}

// Health is whether what the tap delivers can be trusted, and why not.
type Health struct {
	Time    *string `json:"time"`
	Healthy bool    `json:"healthy"`
	// Source is how the traffic comes; Until is nil but for one that is
	// catching up.
	Source string  `json:"source"`
	Until  *string `json:"until"`
	// Checks are all reasons, active or not.
	Checks []Check `json:"checks"`
}

// Check is one reason.
type Check struct {
	Reason  string   `json:"reason"`
	Active  bool     `json:"active"`
	Value   *float64 `json:"value"` // nil where there was too little to tell
	Limit   float64  `json:"limit"`
	Since   *string  `json:"since"`
	Meaning string   `json:"meaning"`
}

// Health returns the state of the tap.
func (w *Watcher) Health() Health {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := Health{Time: stampOrNil(w.now), Healthy: true, Source: w.source.String(), Until: stampOrNil(w.until), Checks: []Check{}}
	for r, p := range w.problems {
		c := Check{Reason: criteria[r].name, Active: p.active, Limit: criteria[r].limit, Meaning: criteria[r].text, Since: nil}
		if p.measured {
			v := round(p.value)
			c.Value = &v
		}
		if p.active {
			c.Since = stampOrNil(p.since)
			h.Healthy = false
		}
		h.Checks = append(h.Checks, c)
	}
	return h
}

// Events is what failed, newest first.
type Events struct {
	Time   *string `json:"time"`
	Events []Event `json:"events"`
}

// Events returns the last events.
func (w *Watcher) Events() Events {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := slices.Clone(w.events)
	slices.Reverse(list)
	if list == nil {
		list = []Event{}
	}
	return Events{Time: stampOrNil(w.now), Events: list}
}

// Summary is what is on the tap now: rates over the last five minutes, as far as
// they were watched, and levels at their end.
type Summary struct {
	Time     *string  `json:"time"`
	Since    *string  `json:"since"`
	Source   string   `json:"source"`
	Until    *string  `json:"until"`
	Window   float64  `json:"window_s"`
	Healthy  bool     `json:"healthy"`
	Problems []string `json:"problems"`
	// Outages are the ids of events that last.
	Outages []string   `json:"outages"`
	Tap     TapSummary `json:"tap"`
	// Interfaces in the order in which they were named.
	Interfaces []Port         `json:"interfaces"`
	Classes    []ClassSummary `json:"classes"`
}

// TapSummary is about all traffic.
type TapSummary struct {
	FramesPerSecond     float64 `json:"frames_per_s"`
	BitsPerSecond       float64 `json:"bits_per_s"`
	DropsPerSecond      float64 `json:"drops_per_s"`
	DNSAnswersPerSecond float64 `json:"dns_answers_per_s"`
	FlowsPerMinute      float64 `json:"flows_per_min"`
	// Subscribers of the class that has most, seen in the last five minutes or
	// up to one before them, as those of the classes.
	Subscribers   int     `json:"subscribers"`
	FlowsOpen     int     `json:"flows_open"`
	FlowTableUsed float64 `json:"flow_table_used"`
	DNSMapUsed    float64 `json:"dns_map_used"`
	GTPSessions   int     `json:"gtp_sessions"`
}

// ClassSummary is about one class. Shares and round-trip times are nil where
// there was nothing to take them from.
type ClassSummary struct {
	App                   string     `json:"app"`
	Class                 string     `json:"class"`
	Kind                  string     `json:"kind"`
	UplinkBitsPerSecond   float64    `json:"uplink_bits_per_s"`
	DownlinkBitsPerSecond float64    `json:"downlink_bits_per_s"`
	FlowsPerMinute        float64    `json:"flows_per_min"`
	AttemptsPerMinute     float64    `json:"attempts_per_min"`
	Answered              *float64   `json:"answered"` // SYN/ACK of SYN segments
	Carried               *float64   `json:"carried"`  // flows with payload both ways
	ResetsPerFlow         *float64   `json:"resets_per_flow"`
	Retransmitted         *float64   `json:"retransmitted"` // downlink, of packets
	ServerRTT             *float64   `json:"server_rtt_s"`
	AccessRTT             *float64   `json:"access_rtt_s"`
	Experience            Experience `json:"experience"`
	Subscribers           int        `json:"subscribers"`
	Servers               int        `json:"servers"`
	FlowsOpen             int        `json:"flows_open"`
}

// Experience counts transfers by how long they took.
type Experience struct {
	Good       uint64 `json:"good"`
	Acceptable uint64 `json:"acceptable"`
	Bad        uint64 `json:"bad"`
}

// Summary returns what is on the tap now.
func (w *Watcher) Summary() Summary {
	w.mu.Lock()
	defer w.mu.Unlock()
	tap, cells, got := w.fine.sum(int64(window))
	s := Summary{
		Time: stampOrNil(w.now), Since: stampOrNil(w.began), Source: w.source.String(), Until: stampOrNil(w.until), Window: seconds(got), Healthy: true,
		Problems: []string{}, Outages: []string{}, Interfaces: []Port{}, Classes: []ClassSummary{},
	}
	for i := range w.ports {
		s.Interfaces = append(s.Interfaces, w.ports[i].show(w.now, got))
	}
	for r := range w.problems {
		if w.problems[r].active {
			s.Healthy = false
			s.Problems = append(s.Problems, criteria[r].name)
		}
	}
	for i := range w.events {
		if w.events[i].End == 0 {
			s.Outages = append(s.Outages, w.events[i].ID())
		}
	}
	per := func(n uint64, span time.Duration) float64 {
		if got == 0 {
			return 0
		}
		return round(float64(n) * float64(span) / float64(got))
	}
	s.Tap = TapSummary{
		FramesPerSecond: per(tap.Frames, time.Second), BitsPerSecond: per(8*tap.Bytes, time.Second),
		DropsPerSecond: per(tap.Dropped, time.Second), DNSAnswersPerSecond: per(tap.Responses, time.Second),
		FlowTableUsed: used(w.levels.flows, w.levels.flowsCap), DNSMapUsed: used(w.levels.entries, w.levels.entriesCap),
		GTPSessions: w.levels.sessions,
	}
	for _, i := range w.order() {
		info, c := w.classes[i], Cell{}
		if i < len(cells) {
			c = cells[i]
		}
		c.Subscribers, c.Servers = w.fine.present(i)
		s.Tap.FlowsPerMinute += per(c.Opened, time.Minute)
		s.Tap.FlowsOpen += c.Active
		s.Tap.Subscribers = max(s.Tap.Subscribers, c.Subscribers)
		s.Classes = append(s.Classes, ClassSummary{
			App: info.App, Class: info.Class, Kind: info.Kind.String(),
			UplinkBitsPerSecond: per(8*c.Bytes[flows.Up], time.Second), DownlinkBitsPerSecond: per(8*c.Bytes[flows.Down], time.Second),
			FlowsPerMinute: per(c.Opened, time.Minute), AttemptsPerMinute: per(c.Attempts, time.Minute),
			Answered: ratio(c.SYNACK, c.SYN), Carried: ratio(c.Carried, c.Opened), ResetsPerFlow: ratio(c.RST, c.Opened),
			Retransmitted: ratio(c.Retransmitted[flows.Down], c.Packets[flows.Down]),
			ServerRTT:     sampled(&c, flows.Up), AccessRTT: sampled(&c, flows.Down),
			Experience:  Experience{c.Experience[flows.Good], c.Experience[flows.Acceptable], c.Experience[flows.Bad]},
			Subscribers: c.Subscribers, Servers: c.Servers, FlowsOpen: c.Active,
		})
	}
	s.Tap.FlowsPerMinute = round(s.Tap.FlowsPerMinute)
	return s
}

// order returns the classes' indexes by app, other last, in the order of the
// rules.
func (w *Watcher) order() []int {
	order := make([]int, len(w.classes))
	for i := range order {
		order[i] = i
	}
	rank := func(c classify.ClassInfo) int {
		switch {
		case c.App == otherApp:
			return 2
		case c.Class == otherApp:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := w.classes[a], w.classes[b]
		if x.App == y.App {
			return cmp.Compare(rank(x), rank(y))
		}
		return cmp.Or(cmp.Compare(rank(x)/2, rank(y)/2), cmp.Compare(x.App, y.App))
	})
	return order
}

// Series are the bins of the last hours, oldest first. Every list has as many
// values as Times has.
type Series struct {
	Time  *string `json:"time"`
	Start *string `json:"start"`
	Step  float64 `json:"step_s"`
	Bins  int     `json:"bins"`
	// Apps are the apps as wholes, their class empty.
	Apps    []ClassSeries `json:"apps"`
	Classes []ClassSeries `json:"classes"`
}

// ClassSeries are one class's bins. A nil is a bin that was not watched, or in
// which there was nothing to take the value from.
type ClassSeries struct {
	App           string   `json:"app"`
	Class         string   `json:"class"`
	Kind          string   `json:"kind"`
	UplinkBytes   []*Value `json:"uplink_bytes"`
	DownlinkBytes []*Value `json:"downlink_bytes"`
	Flows         []*Value `json:"flows"`
	Attempts      []*Value `json:"attempts"`
	Carried       []*Value `json:"carried"`
	SYN           []*Value `json:"syn"`
	SYNACK        []*Value `json:"syn_ack"`
	RST           []*Value `json:"rst"`
	ServerRTT     []*Value `json:"server_rtt_s"`
	AccessRTT     []*Value `json:"access_rtt_s"`
	ServerLoss    []*Value `json:"server_loss"`
	AccessLoss    []*Value `json:"access_loss"`
	GoodTransfers []*Value `json:"transfers_good"`
	FairTransfers []*Value `json:"transfers_acceptable"`
	BadTransfers  []*Value `json:"transfers_bad"`
	Subscribers   []*Value `json:"subscribers"`
	Servers       []*Value `json:"servers"`
	FlowsOpen     []*Value `json:"flows_open"`
}

// Watched returns how long there has been a look at the tap, in packet time.
func (w *Watcher) Watched() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Duration(w.now - w.opened)
}

// Reach returns how far back the bins reach that were watched as a whole: over a
// restart too, where the state was kept. It is 0 where there is none.
func (w *Watcher) Reach() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	oldest := w.now
	for _, r := range []*ring{&w.fine, &w.coarse} {
		for i := range r.bins {
			b := &r.bins[i]
			if b.Cells != nil && b.Known && w.now-b.Start <= int64(len(r.bins)+1)*r.width {
				oldest = min(oldest, b.Start)
			}
		}
	}
	return time.Duration(w.now - oldest)
}

// Pending returns the width of the bins that a series of the span has, and when
// the one ends that is the next to have been watched as a whole. It is the zero
// time before there is anything to watch.
func (w *Watcher) Pending(span time.Duration) (step time.Duration, end time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.ring(span)
	step = time.Duration(r.width)
	if r.before == nil {
		return step, time.Time{}
	}
	next := r.open + 1
	if r.partial {
		next++
	}
	return step, time.Unix(0, next*r.width)
}

// ring returns the bins that a series of the span is made of.
func (w *Watcher) ring(span time.Duration) *ring {
	if span <= fineBins*Fine {
		return &w.fine
	}
	return &w.coarse
}

// Value is a number in a series.
type Value = float64

// Series returns the last bins of the span, of all classes or of those of one
// app. Up to an hour the bins are those of Fine, beyond it those of Coarse.
func (w *Watcher) Series(span time.Duration, app string) Series {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.ring(span)
	n := min(int(int64(span)/r.width), len(r.bins))
	s := Series{Time: stampOrNil(w.now), Step: seconds(r.width), Bins: n, Apps: []ClassSeries{}, Classes: []ClassSeries{}}
	first := r.last - int64(n-1)*r.width
	if r.last == 0 {
		s.Bins = 0
		return s
	}
	s.Start = stampOrNil(first)
	whole := map[string][]int{}
	for _, i := range w.order() {
		info := w.classes[i]
		if app != "" && info.App != app {
			continue
		}
		if whole[info.App] == nil {
			s.Apps = append(s.Apps, ClassSeries{App: info.App})
		}
		whole[info.App] = append(whole[info.App], i)
		s.Classes = append(s.Classes, r.series(info, []int{i}, first, n))
	}
	for i := range s.Apps {
		app := s.Apps[i].App
		s.Apps[i] = r.series(classify.ClassInfo{App: app}, whole[app], first, n)
		s.Apps[i].Kind = ""
	}
	return s
}

// series adds the classes of the indexes up, over n bins from first on.
func (r *ring) series(info classify.ClassInfo, of []int, first int64, n int) ClassSeries {
	sums := make([]*Cell, n)
	for at := range sums {
		b := r.at(first + int64(at)*r.width)
		if b == nil || !b.Known {
			continue
		}
		sums[at] = &Cell{}
		for _, i := range of {
			if i < len(b.Cells) {
				subscribers := max(sums[at].Subscribers, b.Cells[i].Subscribers)
				active, servers := sums[at].Active+b.Cells[i].Active, sums[at].Servers+b.Cells[i].Servers
				sums[at].add(&b.Cells[i])
				sums[at].Subscribers, sums[at].Active, sums[at].Servers = subscribers, active, servers
			}
		}
	}
	column := func(get func(c *Cell) *float64) []*Value {
		out := make([]*Value, n)
		for at, c := range sums {
			if c != nil {
				out[at] = get(c)
			}
		}
		return out
	}
	count := func(get func(c *Cell) uint64) []*Value {
		return column(func(c *Cell) *float64 {
			v := float64(get(c))
			return &v
		})
	}
	return ClassSeries{
		App: info.App, Class: info.Class, Kind: info.Kind.String(),
		UplinkBytes:   count(func(c *Cell) uint64 { return c.Bytes[flows.Up] }),
		DownlinkBytes: count(func(c *Cell) uint64 { return c.Bytes[flows.Down] }),
		Flows:         count(func(c *Cell) uint64 { return c.Opened }),
		Attempts:      count(func(c *Cell) uint64 { return c.Attempts }),
		Carried:       count(func(c *Cell) uint64 { return c.Carried }),
		SYN:           count(func(c *Cell) uint64 { return c.SYN }),
		SYNACK:        count(func(c *Cell) uint64 { return c.SYNACK }),
		RST:           count(func(c *Cell) uint64 { return c.RST }),
		ServerRTT:     column(func(c *Cell) *float64 { return sampled(c, flows.Up) }),
		AccessRTT:     column(func(c *Cell) *float64 { return sampled(c, flows.Down) }),
		ServerLoss:    column(func(c *Cell) *float64 { return lost(c, flows.Up) }),
		AccessLoss:    column(func(c *Cell) *float64 { return lost(c, flows.Down) }),
		GoodTransfers: count(func(c *Cell) uint64 { return c.Experience[flows.Good] }),
		FairTransfers: count(func(c *Cell) uint64 { return c.Experience[flows.Acceptable] }),
		BadTransfers:  count(func(c *Cell) uint64 { return c.Experience[flows.Bad] }),
		Subscribers:   count(func(c *Cell) uint64 { return uint64(max(c.Subscribers, 0)) }),
		Servers:       count(func(c *Cell) uint64 { return uint64(max(c.Servers, 0)) }),
		FlowsOpen:     count(func(c *Cell) uint64 { return uint64(max(c.Active, 0)) }),
	}
}

func ratio(of, all uint64) *float64 {
	if all == 0 {
		return nil
	}
	v := round(float64(of) / float64(all))
	return &v
}

func sampled(c *Cell, d flows.Direction) *float64 {
	if c.Samples[d] == 0 {
		return nil
	}
	v := round(c.RTT[d])
	return &v
}

// lost is the share of all segments that were lost between the tap and the end to
// which direction d leads: on the way there, and on the way back before they
// reached the tap.
func lost(c *Cell, d flows.Direction) *float64 {
	back := d.Reverse()
	after := c.Retransmitted[d] - min(c.Retransmitted[d], c.LostBefore[d])
	return ratio(after+c.LostBefore[back], c.Packets[d]+c.Packets[back])
}

func used(n, limit int) float64 {
	if limit == 0 {
		return 0
	}
	return round(float64(n) / float64(limit))
}

// round keeps four significant digits: more are noise, and make the JSON long.
func round(v float64) float64 {
	if v == 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return 0
	}
	unit := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*unit) / unit
}
