package watch

import (
	"slices"
	"sync"
	"time"

	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/detect"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/probe"
)

// Widths of the bins, and how many there are: an hour and two days. What the
// detector gets has a width of its own, of which a few are enough.
const (
	Fine   = 10 * time.Second
	Coarse = 5 * time.Minute

	fineBins   = 360
	coarseBins = 576
	stepBins   = 4
	mostEvents = 256

	otherApp = detect.OtherApp
)

// Watcher follows one engine. It is safe for concurrent use.
type Watcher struct {
	mu       sync.Mutex
	classes  []classify.ClassInfo
	fine     ring
	coarse   ring
	steps    ring  // for the detector
	now      int64 // packet time
	opened   int64 // the first snapshot
	began    int64 // the first packet since the start; 0 before it
	heard    int64 // the last packet
	detector *detect.Detector
	blind    bool
	ports    []port // by interface
	problems [Reasons]problem
	events   []Event // oldest first
	begun    map[tally]uint64
	levels   levels
	restored *state // until the first snapshot says what time it is
	source   Source
	until    int64 // packet time, of a source that is catching up

	version uint64
	changed chan struct{}
	onEvent func(Event)
}

// tally is what events are counted by.
type tally struct {
	App     string
	Verdict detect.Verdict
}

// levels are what is on the tap now, besides the cells.
type levels struct {
	flows, flowsCap, entries, entriesCap, sessions int
}

// New returns a Watcher that has seen nothing. onEvent, which may be nil, is
// told of events that begin, change their verdict, or end; it is called from
// Observe and must not call the Watcher.
func New(onEvent func(Event)) *Watcher {
	w := &Watcher{
		fine: newRing(int64(Fine), fineBins), coarse: newRing(int64(Coarse), coarseBins), steps: newRing(int64(detect.Hop), stepBins),
		detector: detect.New(), begun: map[tally]uint64{}, changed: make(chan struct{}), onEvent: onEvent,
	}
	w.judge()
	return w
}

// Observe takes a snapshot. It should get one soon after each multiple of Fine
// in packet time (probe.Config.Watch does that); what lies between two of them
// counts as the bin of the earlier one.
func (w *Watcher) Observe(s *probe.Snapshot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.Time <= 0 {
		return
	}
	w.learnClasses(s)
	if b := w.fine.before; b == nil || s.Time < b.Time || s.Frames < b.Frames {
		w.restart(s) // the first, or another engine's
		return
	}
	stepped := s.Time - w.now
	w.now = s.Time
	if w.began == 0 && s.Frames > 0 {
		w.began = s.First
	}
	w.heard = s.Last
	w.levels = levels{
		s.Tables.Flows, s.Tables.FlowsCap, s.Tables.Entries, s.Tables.EntriesCap, s.GTP.Sessions,
	}
	closed := w.fine.advance(s, stepped) != nil
	closed = w.coarse.advance(s, stepped) != nil || closed
	before := w.steps.before
	if b := w.steps.advance(s, stepped); b != nil {
		w.step(b, groups(before, s))
		closed = true
	}
	if closed {
		w.hearPorts(s.Source.Interfaces)
		w.judge()
		w.announce()
	}
}

func (w *Watcher) restart(s *probe.Snapshot) {
	if w.restored != nil {
		w.adopt(s.Time)
	}
	if w.opened == 0 {
		w.opened = s.Time
	}
	w.fine.reset(s)
	w.coarse.reset(s)
	w.steps.reset(s)
	w.now, w.began, w.heard = s.Time, s.First, s.Last
	w.ports = nil
	w.hearPorts(s.Source.Interfaces)
	w.judge()
	w.announce()
}

// learnClasses takes over the list of classes, which only grows.
func (w *Watcher) learnClasses(s *probe.Snapshot) {
	for i := range s.Classes {
		if i < len(w.classes) {
			w.classes[i] = s.Classes[i].ClassInfo
		} else {
			w.classes = append(w.classes, s.Classes[i].ClassInfo)
		}
	}
}

// step gives the detector a step. One that was not watched as a whole, or in which
// too few names were known, is left out: to the detector that is a gap.
func (w *Watcher) step(b *bin, groups []detect.Sample) {
	if !b.Known || w.began == 0 || b.Start < w.began+int64(warmUp) {
		return
	}
	step := detect.Step{
		Start: b.Start,
		DNS: detect.DNS{
			Known: b.Tap.Queries > 0, Asked: b.Tap.Queries,
			Answered: min(b.Tap.Responses, b.Tap.Queries), Failed: b.Tap.Failed,
		},
		Tap: detect.Tap{Known: true, Frames: b.Tap.Frames, Dropped: b.Tap.Dropped},
	}
	for i := range b.Cells {
		if i < len(w.classes) {
			step.Samples = append(step.Samples, sample(w.classes[i], &b.Cells[i]))
		}
	}
	step.Samples = append(step.Samples, groups...)
	w.take(w.detector.Step(&step), b.Start+int64(detect.Hop))
}

func sample(info classify.ClassInfo, c *Cell) detect.Sample {
	return detect.Sample{
		Key: detect.Key{App: info.App, Class: info.Class},
		Bin: detect.Bin{
			Attempts: c.Attempts, SYN: c.SYN, SYNACK: c.SYNACK, RST: c.RST,
			Flows: c.Opened, Carried: c.Carried, OneSided: c.OneSided,
			BytesUp: c.Bytes[flows.Up], BytesDown: c.Bytes[flows.Down],
			Subscribers: uint64(max(c.Subscribers, 0)),
		},
	}
}

// groups returns what each app did behind each access point name, from one
// snapshot to the next: a gateway that fails is no app that fails.
func groups(a, b *probe.Snapshot) (out []detect.Sample) {
	for i := range b.GTP.APNs {
		apn := &b.GTP.APNs[i]
		first := len(out)
		for c := range apn.Classes {
			var before probe.APNClassCounters
			if i < len(a.GTP.APNs) && c < len(a.GTP.APNs[i].Classes) {
				before = a.GTP.APNs[i].Classes[c]
			}
			key := detect.Key{App: b.Classes[c].App, Group: apn.Name}
			at := first + slices.IndexFunc(out[first:], func(s detect.Sample) bool { return s.Key == key })
			if at < first {
				at = len(out)
				out = append(out, detect.Sample{Key: key})
			}
			addGroup(&out[at].Bin, &before, &apn.Classes[c])
		}
	}
	return out
}

func addGroup(to *detect.Bin, a, b *probe.APNClassCounters) {
	to.Attempts += b.Attempts - a.Attempts
	to.SYN += b.SYN - a.SYN
	to.SYNACK += b.SYNACK - a.SYNACK
	to.RST += b.RST - a.RST
	to.Flows += b.Flows - a.Flows
	to.Carried += b.Carried - a.Carried
	to.OneSided += b.OneSided - a.OneSided
	to.BytesUp += b.Bytes[flows.Up] - a.Bytes[flows.Up]
	to.BytesDown += b.Bytes[flows.Down] - a.Bytes[flows.Down]
}

// take keeps what the detector says: the events that changed, and how those
// that last stand now.
func (w *Watcher) take(changed []detect.Event, now int64) {
	w.blind = false
	open := w.detector.Open()
	for i := range open {
		w.blind = w.blind || open[i].App == ""
	}
	for _, list := range [][]detect.Event{changed, open} {
		for i := range list {
			w.keep(&list[i], now)
		}
	}
}

func (w *Watcher) keep(d *detect.Event, now int64) {
	e := eventOf(d)
	at := slices.IndexFunc(w.events, func(x Event) bool { return x.same(&e) })
	if at < 0 {
		e.Detected = now
		if len(w.events) == mostEvents {
			w.events = slices.Delete(w.events, 0, 1)
		}
		w.events = append(w.events, e)
		w.begun[tally{e.App, e.Verdict}]++
		w.tell(e)
		return
	}
	before := w.events[at]
	e.Detected = before.Detected
	w.events[at] = e
	if before.Verdict != e.Verdict || before.End != e.End || before.RecoveryEnd != e.RecoveryEnd {
		w.tell(e)
	}
}

func (w *Watcher) tell(e Event) {
	if w.onEvent != nil {
		w.onEvent(e)
	}
}

// announce wakes those who wait for news.
func (w *Watcher) announce() {
	w.version++
	close(w.changed)
	w.changed = make(chan struct{})
}

// News returns the number of the newest state, and a channel that is closed when
// there is a newer one.
func (w *Watcher) News() (version uint64, newer <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.version, w.changed
}
