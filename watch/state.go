package watch

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/detect"
)

// state is a Watcher as it is saved. The fine ring and the tap's health begin
// anew after a restart: they are about the present.
type state struct {
	Version  int             `json:"version"`
	Time     int64           `json:"time_ns"`
	Classes  []stateClass    `json:"classes"`
	Bins     []bin           `json:"bins"` // oldest first
	Detector json.RawMessage `json:"detector"`
	Events   []stateEvent    `json:"events"`
	Begun    []stateTally    `json:"begun"`
}

type stateClass struct {
	App   string        `json:"app"`
	Class string        `json:"class"`
	Kind  classify.Kind `json:"kind"`
}

type stateEvent struct {
	Event    detect.Event `json:"event"`
	Detected int64        `json:"detected_ns"`
}

type stateTally struct {
	App     string         `json:"app"`
	Verdict detect.Verdict `json:"verdict"`
	Count   uint64         `json:"count"`
}

const (
	stateVersion = 1
	// mostBack is how far a clock may have been set back for the state to
	// hold on.
	mostBack = time.Hour
)

// MarshalJSON saves what should outlive a restart: the detector's memory, the
// coarse bins, and the events.
func (w *Watcher) MarshalJSON() ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	detector, err := json.Marshal(w.detector)
	if err != nil {
		return nil, err
	}
	s := state{
		Version: stateVersion, Time: w.now, Detector: detector,
		Classes: []stateClass{}, Bins: []bin{}, Events: []stateEvent{}, Begun: []stateTally{},
	}
	for _, c := range w.classes {
		s.Classes = append(s.Classes, stateClass{c.App, c.Class, c.Kind})
	}
	for n := int64(coarseBins) - 1; n >= 0; n-- {
		if b := w.coarse.at(w.coarse.last - n*int64(Coarse)); b != nil {
			s.Bins = append(s.Bins, *b)
		}
	}
	for _, e := range w.events {
		s.Events = append(s.Events, stateEvent{e.Event, e.Detected})
	}
	for t, n := range w.begun {
		s.Begun = append(s.Begun, stateTally{t.App, t.Verdict, n})
	}
	return json.Marshal(s)
}

// UnmarshalJSON loads what MarshalJSON saved, into a Watcher that has observed
// nothing yet. On an error w is as it was.
func (w *Watcher) UnmarshalJSON(b []byte) error {
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	if s.Version != stateVersion {
		return fmt.Errorf("state of version %d, this program knows %d", s.Version, stateVersion)
	}
	if len(s.Classes) > classify.MaxIDs || len(s.Bins) > coarseBins || len(s.Events) > mostEvents {
		return fmt.Errorf("state with %d classes, %d bins and %d events: too many", len(s.Classes), len(s.Bins), len(s.Events))
	}
	detector := detect.New()
	if err := json.Unmarshal(s.Detector, detector); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.detector = detector
	w.restored = &s
	return nil
}

// adopt takes the saved state over, once the first snapshot says what time it is
// and which classes there are. A state from the future is no use: the clock was
// set back, or it is of another network's capture.
func (w *Watcher) adopt(now int64) {
	s := w.restored
	w.restored = nil
	if now < s.Time-int64(mostBack) {
		w.detector = detect.New() // the old one would wait for the time that it remembers
		return
	}
	for _, t := range s.Begun {
		w.begun[tally{t.App, t.Verdict}] = t.Count
	}
	for _, e := range s.Events {
		w.events = append(w.events, Event{e.Event, e.Detected})
	}
	place := make([]int, len(s.Classes))
	for i, c := range s.Classes {
		place[i] = w.indexOf(c)
	}
	for i := range s.Bins {
		w.adoptBin(&s.Bins[i], place)
	}
}

// indexOf returns where the class is now, -1 if the rules no longer have it.
func (w *Watcher) indexOf(c stateClass) int {
	for i := range w.classes {
		if w.classes[i].App == c.App && w.classes[i].Class == c.Class {
			return i
		}
	}
	return -1
}

func (w *Watcher) adoptBin(b *bin, place []int) {
	if b.Start < 0 || b.Start%int64(Coarse) != 0 {
		return
	}
	to := &w.coarse.bins[b.Start/int64(Coarse)%coarseBins]
	*to = bin{Start: b.Start, Known: b.Known, Tap: b.Tap, Cells: make([]Cell, len(w.classes))}
	for i := range b.Cells {
		if i < len(place) && place[i] >= 0 {
			to.Cells[place[i]] = b.Cells[i]
		}
	}
	w.coarse.last = max(w.coarse.last, b.Start)
}
