package detect

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

const (
	// confirmSteps is how many bins in a row must alarm: the first and the
	// last of them have no time in common.
	confirmSteps  = int(Width/Hop) + 1
	recoverySteps = int(2 * time.Hour / Hop)
	// adoptAfter is when a changed state of things is no event any more but
	// how things are.
	adoptAfter = 3 * 24 * time.Hour
	// maxSeries bounds the memory: 160 KB a series and week-season.
	maxSeries = 256
)

// Detector judges one step after the other. It is not safe for concurrent use.
type Detector struct {
	series    map[Key]*series
	incidents map[incidentKey]*incident
	last      int64 // start of the last step, 0 before the first
	dns       DNS   // of the last step
	tapped    Tap   // of the last step
	judged    bool  // the bin that ended with the last step was judged
	// Refused counts samples of series beyond the most that are kept.
	Refused uint64
}

// series is the memory of one series.
type series struct {
	History  *history `json:"history"`
	Slow     slow     `json:"slow"`
	Run      int      `json:"run"`       // alarms in a row
	RunStart int64    `json:"run_start"` // when the first of them began
	Recovery int      `json:"recovery"`  // steps left in which a storm of reconnects is one
	Half     Bin      `json:"half"`      // of the last step

	now   Bin // the bin that ends with the step
	j     judgement
	newer judgement // of the step alone
}

// lasts says that what the bin alarms of is not over: its newer half does not
// look well, or is too small to tell.
func (x *series) lasts() bool {
	return x.Half.Flows < leastFlows || x.newer.stays()
}

// incidentKey: one incident at a time for an app, or for one group of it.
type incidentKey struct{ App, Group string }

// incident is an event in the making.
type incident struct {
	Event Event `json:"event"`
	// Quiet is how many bins in a row were without an alarm, QuietStart when the
	// first of them began.
	Quiet      int   `json:"quiet"`
	QuietStart int64 `json:"quiet_start"`
	// Calm and CalmStart are the same of bins without a storm, since the first
	// without an alarm. Stormy says that there was one with.
	Calm      int   `json:"calm"`
	CalmStart int64 `json:"calm_start"`
	Stormy    bool  `json:"stormy"`
	Bins      int   `json:"bins"`
	// Sums over the event's bins.
	Up, Down, ExpectedUp, ExpectedDown    float64
	Attempts, ExpectedAttempts            float64
	Flows, Carried, ExpectedSuccess       float64
	Unanswered, AppLevel, OtherFails, DNS int // bins that speak for a verdict
	Gone                                  int // bins in which nothing was tried
	Signals                               int
	Recovering                            bool `json:"recovering"`
}

// New returns a Detector that has seen nothing.
func New() *Detector {
	return &Detector{series: map[Key]*series{}, incidents: map[incidentKey]*incident{}}
}

// Step takes half a bin, judges the bin that ends with it, and returns the events
// that it opened, or ended, or whose recovery it ended, in a fixed order.
func (d *Detector) Step(s *Step) []Event {
	if d.last != 0 && s.Start <= d.last {
		return nil // seen
	}
	whole := d.last != 0 && s.Start-d.last == int64(Hop)
	if !whole {
		d.gap()
	}
	d.last = s.Start
	d.fill(s)
	dns, tap := d.dns.plus(s.DNS), d.tapped.plus(s.Tap)
	d.dns, d.tapped = s.DNS, s.Tap
	if !whole {
		return nil
	}
	b := bin{start: s.Start - int64(Hop), newer: s.Start, dns: dns, tap: tap, follows: d.judged}
	d.judged = true
	keys := d.keys()
	for _, k := range keys {
		x := d.series[k]
		x.j, x.newer = x.History.judge(b.start, &x.now, &x.Half, k.Class == "" && k.Group == "")
	}
	blind, why := d.blind(&b)
	changed := d.tap(&b, blind, why, nil)
	if blind {
		for _, k := range keys {
			d.series[k].Run = 0
		}
		d.judged = false
		return changed
	}
	d.count(&b, keys)
	changed = d.apps(&b, keys, changed)
	d.learn(&b, keys)
	return changed
}

// bin is what is judged: a step and the one before it.
type bin struct {
	start, newer int64 // when it and its newer half begin
	dns          DNS
	tap          Tap
	follows      bool // on a bin that was judged
}

// aligned says that the bin is one of those that the baseline is made of, which
// have no time in common.
func (b *bin) aligned() bool { return b.start%int64(Width) == 0 }

// began is when what the bin is the first to show began: in its newer half, for
// the older one was in the bin before.
func (b *bin) began() int64 {
	if b.follows {
		return b.newer
	}
	return b.start
}

// Open returns the events that last.
func (d *Detector) Open() []Event {
	var out []Event
	for _, k := range d.incidentKeys() {
		if i := d.incidents[k]; i.Event.End == 0 {
			out = append(out, i.result())
		}
	}
	return out
}

// total is the series of everything.
var total = Key{}

// fill puts the step's samples into the series.
func (d *Detector) fill(s *Step) {
	for _, x := range d.series {
		x.now, x.Half = x.Half, Bin{}
	}
	whole := map[Key]bool{}
	for i := range s.Samples {
		if k := s.Samples[i].Key; k.Class == "" {
			whole[k] = true
		}
	}
	for i := range s.Samples {
		k, b := s.Samples[i].Key, &s.Samples[i].Bin
		d.put(k, b)
		app := Key{App: k.App, Group: k.Group}
		if k.Class != "" && !whole[app] {
			d.put(app, b)
		}
		if k.Group == "" && (k.Class == "" || !whole[app]) {
			d.put(total, b)
		}
	}
	for k, x := range d.series {
		if app := d.series[Key{App: k.App, Group: k.Group}]; k.Class != "" && x.Half.Subscribers == 0 && app != nil {
			x.Half.Subscribers = app.Half.Subscribers
		}
	}
	for _, x := range d.series {
		x.now.add(&x.Half)
	}
}

func (d *Detector) put(k Key, b *Bin) {
	x := d.series[k]
	if x == nil {
		if len(d.series) >= maxSeries {
			d.Refused++
			return
		}
		x = &series{History: &history{}}
		d.series[k] = x
	}
	x.Half.add(b)
}

// keys are the series in a fixed order: the whole before its parts.
func (d *Detector) keys() []Key {
	keys := make([]Key, 0, len(d.series))
	for k := range d.series {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.App, b.App), cmp.Compare(a.Class, b.Class))
	})
	return keys
}

func (d *Detector) incidentKeys() []incidentKey {
	keys := make([]incidentKey, 0, len(d.incidents))
	for k := range d.incidents {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b incidentKey) int {
		return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Group, b.Group))
	})
	return keys
}

// gap forgets what spans steps: time is missing before this one.
func (d *Detector) gap() {
	d.dns, d.tapped, d.judged = DNS{}, Tap{}, false
	for _, x := range d.series {
		x.Run, x.Recovery, x.Slow, x.Half = 0, 0, slow{}, Bin{}
	}
	for _, i := range d.incidents {
		i.Quiet, i.Calm = 0, 0
	}
}

// blind says whether the tap sees too little for anything to be concluded.
func (d *Detector) blind(b *bin) (bool, string) {
	if b.tap.Known && float64(b.tap.Dropped) > droppedShare*float64(b.tap.Frames+b.tap.Dropped) {
		return true, "capture drops packets"
	}
	all := d.series[total]
	if all == nil || !all.j.ok {
		return false, ""
	}
	asked := b.dns.Known && b.dns.Asked > 0
	switch {
	case all.j.oneSided:
		return true, "one direction is missing in all traffic"
	case all.j.vanishedAttempts && !asked:
		return true, "all traffic has gone at once"
	case all.j.vanishedBytes && all.j.surge < leastSurge && d.everybodyGone():
		return true, "all traffic has gone at once"
	}
	return false, ""
}

// everybodyGone says that no app still has its usual bytes.
func (d *Detector) everybodyGone() bool {
	for k, x := range d.series {
		if k.App != "" && k.Class == "" && k.Group == "" && x.j.ok && x.j.expectedDown > 0 && !x.j.vanishedBytes {
			return false
		}
	}
	return true
}

// tap opens and ends the event of the tap itself.
func (d *Detector) tap(b *bin, blind bool, why string, changed []Event) []Event {
	key := incidentKey{}
	i := d.incidents[key]
	if !blind {
		if i == nil {
			return changed
		}
		delete(d.incidents, key)
		if i.Bins < confirmSteps {
			return changed
		}
		i.Event.End = b.newer // the older half was in a blind bin
		return append(changed, i.result())
	}
	if i == nil {
		calibrated := d.series[total] != nil && d.series[total].j.calibrated
		i = &incident{Event: Event{Start: b.start, Verdict: TapFailure, Calibrated: calibrated, Reasons: []string{why}}, Signals: 2}
		d.incidents[key] = i
	}
	i.Bins++
	if all := d.series[total]; all != nil {
		i.sum(&all.now, &all.j)
	}
	if i.Bins == confirmSteps {
		changed = append(changed, i.result())
	}
	return changed
}

// count keeps each series' run of alarms.
func (d *Detector) count(b *bin, keys []Key) {
	for _, k := range keys {
		x := d.series[k]
		if b.aligned() {
			x.Slow.add(&x.j)
		}
		if !x.j.begins() && (x.Recovery > 0 || !x.Slow.alarm()) {
			x.Run = 0
			continue
		}
		if x.Run == 0 {
			x.RunStart = b.began()
		}
		x.Run++
	}
}

// apps opens, continues and ends the events of apps and groups.
func (d *Detector) apps(b *bin, keys []Key, changed []Event) []Event {
	alarmed := map[incidentKey][]Key{}
	for _, k := range keys {
		if k.App == "" || k.App == OtherApp || d.series[k].Run == 0 {
			continue
		}
		at := incidentKey{k.App, k.Group}
		alarmed[at] = append(alarmed[at], k)
	}
	// Groups first: what fails behind one gateway only is not the app's fault,
	// even where that gateway has most of its traffic.
	ats := make([]incidentKey, 0, len(alarmed))
	for at := range alarmed {
		ats = append(ats, at)
	}
	slices.SortFunc(ats, func(a, b incidentKey) int {
		return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(b.Group, a.Group))
	})
	for _, at := range ats {
		if at.Group != "" && !d.lonely(at) || at.Group == "" && d.groupFails(at.App) {
			continue
		}
		d.open(at, alarmed[at])
	}
	for _, at := range d.incidentKeys() {
		if at.App == "" {
			continue
		}
		changed = d.proceed(b, at, alarmed[at], changed)
	}
	return changed
}

// lonely says that the app fails in this group and in no other that has flows
// to judge by.
func (d *Detector) lonely(at incidentKey) bool {
	fine := false
	for k, x := range d.series {
		if k.App != at.App || k.Class != "" || k.Group == "" || k.Group == at.Group || !x.j.ok || x.now.Flows < leastFlows {
			continue
		}
		if x.j.stays() {
			return false
		}
		fine = true
	}
	return fine
}

// groupFails says that an event of one group of the app lasts, and of that group
// alone.
func (d *Detector) groupFails(app string) bool {
	for at, i := range d.incidents {
		if at.App == app && at.Group != "" && i.Event.End == 0 && d.lonely(at) {
			return true
		}
	}
	return false
}

// open begins an incident once one of its series is confirmed.
func (d *Detector) open(at incidentKey, list []Key) {
	if i := d.incidents[at]; i != nil && i.Event.End == 0 {
		return
	}
	start, confirmed := int64(0), false
	for _, k := range list {
		x := d.series[k]
		if x.Run >= confirmSteps && x.lasts() {
			confirmed = true
			if start == 0 || x.RunStart < start {
				start = x.RunStart
			}
		}
	}
	if !confirmed {
		return
	}
	if at.Group != "" && d.incidents[incidentKey{at.App, ""}] != nil {
		return // the app as a whole fails already
	}
	d.incidents[at] = &incident{Event: Event{App: at.App, Group: at.Group, Start: start}}
}

// proceed takes an incident through the bin.
func (d *Detector) proceed(b *bin, at incidentKey, alarmed []Key, changed []Event) []Event {
	i := d.incidents[at]
	app := d.series[Key{App: at.App, Group: at.Group}]
	if app == nil {
		app = &series{} // refused: the classes alone speak
	}
	if i.Event.End != 0 {
		return d.recover(b, at, i, app, changed)
	}
	going := app.j.stays()
	for _, k := range alarmed {
		going = going || d.series[k].j.alarm()
	}
	if !going {
		if i.Quiet == 0 {
			i.QuietStart = b.start
			i.Stormy, i.Calm = false, 0
		}
		i.Quiet++
		i.weather(b, d.storm(app))
		if i.Quiet >= confirmSteps && i.Bins == 0 {
			delete(d.incidents, at) // over before it was one
			return changed
		}
		if i.Quiet >= confirmSteps {
			i.Event.End = i.QuietStart
			i.Recovering = i.Stormy // also where it is over already
			d.setRecovery(at)
			changed = append(changed, i.result())
			if !i.Recovering {
				delete(d.incidents, at)
			}
		}
		return changed
	}
	i.Quiet = 0
	d.describe(b, at, i, app, alarmed)
	if i.Bins == 1 {
		changed = append(changed, i.result())
	}
	if b.newer-i.Event.Start > int64(adoptAfter) {
		i.Event.End = b.newer
		i.note("it has lasted so long that it counts as normal from here on")
		d.forget(at)
		changed = append(changed, i.result())
		delete(d.incidents, at)
	}
	return changed
}

// describe adds the bin to what the event says.
func (d *Detector) describe(b *bin, at incidentKey, i *incident, app *series, alarmed []Key) {
	i.Bins++
	i.Event.Calibrated = i.Event.Calibrated || app.j.calibrated
	spoke := 0
	for _, k := range alarmed {
		x := d.series[k]
		if k.Class != "" && x.Run >= confirmSteps && !slices.Contains(i.Event.Classes, k.Class) {
			i.Event.Classes = append(i.Event.Classes, k.Class)
			slices.Sort(i.Event.Classes)
		}
		if x.Run < confirmSteps && i.Bins > 1 {
			continue
		}
		n := 0
		for _, spoken := range []bool{x.j.attemptsUp(), x.j.successDown(), x.j.bytesDown(), x.j.vanishedAttempts, x.j.vanishedBytes} {
			if spoken {
				n++
			}
		}
		if n > spoke {
			spoke = n
			if n > i.Signals {
				i.Signals = n
				i.Event.Reasons, i.Event.ReasonsFrom = x.j.reasons(&x.now), b.start
			}
		}
		if x.j.answeredLoss > 0.5*x.j.loss && x.j.answeredLoss >= leastLoss {
			i.Unanswered++
		} else if x.j.successDown() {
			i.AppLevel++
		}
		if x.j.vanishedAttempts {
			i.Gone++
		}
	}
	if len(i.Event.Reasons) == 0 {
		i.Event.Reasons, i.Event.ReasonsFrom = []string{"a little less success and more attempts, for an hour and longer"}, b.start
	}
	if d.othersFail(at.Group, &app.j) {
		i.OtherFails++
	}
	if b.dns.Known && b.dns.Asked > 0 {
		failed := b.dns.Failed + (b.dns.Asked - min(b.dns.Asked, b.dns.Answered))
		if float64(failed) > dnsFailedShare*float64(b.dns.Asked) {
			i.DNS++
		}
	}
	i.sum(&app.now, &app.j)
}

// othersFail says that other apps fail as well, and about as badly as this one: of
// an app's flows a few always go by no name, and would look like another app's.
func (d *Detector) othersFail(group string, app *judgement) bool {
	other := d.series[Key{App: OtherApp, Group: group}]
	return other != nil && other.Run > 1 && other.j.successDown() && other.j.loss >= likeLoss*app.loss
}

func (i *incident) sum(b *Bin, j *judgement) {
	if !j.ok {
		return
	}
	i.Up += float64(b.BytesUp)
	i.Down += float64(b.BytesDown)
	i.ExpectedUp += j.expectedUp
	i.ExpectedDown += j.expectedDown
	i.Attempts += float64(b.Attempts)
	i.ExpectedAttempts += j.expectedAttempts
	i.Flows += float64(b.Flows)
	i.Carried += float64(b.Carried)
	i.ExpectedSuccess += j.expectedSuccess
}

func (i *incident) note(reason string) {
	if !slices.Contains(i.Event.Reasons, reason) {
		i.Event.Reasons = append(i.Event.Reasons, reason)
	}
}

// result is the event as it stands.
func (i *incident) result() Event {
	e := i.Event
	e.Classes = slices.Clone(e.Classes)
	if e.Classes == nil {
		e.Classes = []string{}
	}
	e.Reasons = slices.Clone(e.Reasons)
	e.ResidueUp = ratio(i.Up, i.ExpectedUp)
	e.ResidueDown = ratio(i.Down, i.ExpectedDown)
	e.Attempts = ratio(i.Attempts, i.ExpectedAttempts)
	e.Success = ratio(i.Carried, i.Flows)
	e.SuccessBefore = ratio(i.ExpectedSuccess, float64(i.Bins))
	if e.App != "" {
		e.Verdict = i.verdict()
	}
	e.Confidence = i.confidence()
	return e
}

func ratio(a, b float64) float64 {
	if b <= 0 {
		return 0
	}
	return a / b
}

// verdict is what most of the event's bins say.
func (i *incident) verdict() Verdict {
	switch {
	case i.Event.Group != "":
		return OurNetwork
	case 2*i.DNS > i.Bins:
		return DNSFailure
	case 2*i.OtherFails > i.Bins:
		return OurNetwork
	case i.Gone > i.Unanswered+i.AppLevel || i.Unanswered > i.AppLevel:
		return Unreachable
	}
	return AppFailure
}

func (i *incident) confidence() float64 {
	c := 0.3 + 0.2*float64(min(i.Signals, 3))
	if i.Gone > i.Unanswered+i.AppLevel && i.DNS == 0 {
		c -= 0.2 // nothing is tried, and nothing says why
	}
	if i.Event.Calibrated {
		c += 0.05
	}
	return max(0.1, min(c, 0.95))
}

// storm says that clients come back all at once: more of them than chance brings.
func (d *Detector) storm(app *series) bool {
	tried, usual := float64(app.now.Attempts), app.j.expectedAttempts
	return app.j.ok && tried >= leastSurge*usual && (usual == 0 || poissonZ(tried, usual) >= zStay)
}

// setRecovery marks the app's series, in which attempts may be high for a while
// without anything being wrong.
func (d *Detector) setRecovery(at incidentKey) {
	for k, x := range d.series {
		if k.App == at.App && k.Group == at.Group {
			x.Recovery, x.Slow, x.Run = recoverySteps, slow{}, 0
		}
	}
}

// recover follows the storm of reconnects to its end.
func (d *Detector) recover(b *bin, at incidentKey, i *incident, app *series, changed []Event) []Event {
	i.weather(b, d.storm(app))
	if i.Calm < confirmSteps && app.Recovery > 1 {
		return changed
	}
	i.Event.RecoveryEnd = b.newer
	if i.Calm > 0 {
		i.Event.RecoveryEnd = i.CalmStart
	}
	for k, x := range d.series {
		if k.App == at.App && k.Group == at.Group {
			x.Recovery = 0
		}
	}
	delete(d.incidents, at)
	return append(changed, i.result())
}

// weather notes whether a bin after the event is one of a storm. The storm may
// have passed before it is sure that the event is over.
func (i *incident) weather(b *bin, storm bool) {
	if storm {
		i.Stormy, i.Calm = true, 0
		return
	}
	if i.Calm == 0 {
		i.CalmStart = b.start
	}
	i.Calm++
}

// forget makes the series learn anew.
func (d *Detector) forget(at incidentKey) {
	for k, x := range d.series {
		if k.App == at.App && (at.Group == "" || k.Group == at.Group) {
			x.History, x.Slow, x.Run = &history{}, slow{}, 0
		}
	}
}

// learn takes the bin into the baselines of series that are well.
func (d *Detector) learn(b *bin, keys []Key) {
	frozen := func(k Key) bool {
		for _, at := range []incidentKey{{k.App, k.Group}, {k.App, ""}} {
			if i := d.incidents[at]; i != nil && (i.Event.End == 0 || i.Recovering) {
				return true
			}
		}
		return false
	}
	anything := false
	for _, k := range keys {
		x := d.series[k]
		if x.Recovery > 0 {
			x.Recovery--
		}
		stop := frozen(k) || x.Run > 0
		anything = anything || stop && k.App != ""
		if k == total || stop || !b.aligned() {
			continue
		}
		x.History.learn(b.start, featuresOf(&x.now))
	}
	if x := d.series[total]; x != nil && !anything && b.aligned() {
		x.History.learn(b.start, featuresOf(&x.now))
	}
}

// state is a Detector as it is saved.
type state struct {
	Version   int           `json:"version"`
	Last      int64         `json:"last_ns"`
	Judged    bool          `json:"judged"`
	DNS       DNS           `json:"dns"`
	Tap       Tap           `json:"tap"`
	Series    []seriesState `json:"series"`
	Incidents []*incident   `json:"incidents"`
}

type seriesState struct {
	Key
	State *series `json:"state"`
}

const stateVersion = 1

// MarshalJSON saves the state.
func (d *Detector) MarshalJSON() ([]byte, error) {
	s := state{Version: stateVersion, Last: d.last, Judged: d.judged, DNS: d.dns, Tap: d.tapped, Series: []seriesState{}, Incidents: []*incident{}}
	for _, k := range d.keys() {
		s.Series = append(s.Series, seriesState{k, d.series[k]})
	}
	for _, k := range d.incidentKeys() {
		s.Incidents = append(s.Incidents, d.incidents[k])
	}
	return json.Marshal(s)
}

// UnmarshalJSON loads a state that MarshalJSON saved. On an error d is as it
// was.
func (d *Detector) UnmarshalJSON(b []byte) error {
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("detector state: %w", err)
	}
	if s.Version != stateVersion {
		return fmt.Errorf("detector state: version %d, this program knows %d", s.Version, stateVersion)
	}
	if len(s.Series) > maxSeries {
		return fmt.Errorf("detector state: %d series, at most %d", len(s.Series), maxSeries)
	}
	n := New()
	n.last, n.judged, n.dns, n.tapped = s.Last, s.Judged, s.DNS, s.Tap
	for _, x := range s.Series {
		if x.State == nil || x.State.History == nil {
			return fmt.Errorf("detector state: series %+v has no history", x.Key)
		}
		n.series[x.Key] = x.State
	}
	for _, i := range s.Incidents {
		if i == nil {
			return fmt.Errorf("detector state: an empty incident")
		}
		n.incidents[incidentKey{i.Event.App, i.Event.Group}] = i
	}
	*d = *n
	return nil
}
