package watch

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/nametap/nametap/detect"
)

// Event is something that failed for a time, as the detector tells it. Times are
// packet time in nanoseconds.
type Event struct {
	detect.Event
	// Detected is when it was found: the end of the bin that confirmed it.
	Detected int64
}

func eventOf(d *detect.Event) Event {
	e := Event{Event: *d}
	e.Classes, e.Reasons = slices.Clone(d.Classes), slices.Clone(d.Reasons)
	return e
}

// same says that both are the same event at different times.
func (e *Event) same(o *Event) bool {
	return e.App == o.App && e.Group == o.Group && e.Start == o.Start
}

// ID is the same for all tellings of one event, and different for others.
func (e *Event) ID() string {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s\x00%s\x00%d", e.App, e.Group, e.Start) // never fails
	return fmt.Sprintf("%016x", h.Sum64())
}

// State is how far the event has got.
func (e *Event) State() string {
	switch {
	case e.End == 0:
		return "lasts"
	case e.RecoveryEnd != 0:
		return "recovered"
	}
	return "over"
}

// eventJSON are the keys that the outside relies on.
type eventJSON struct {
	ID              string   `json:"id"`
	State           string   `json:"state"`
	Verdict         string   `json:"verdict"`
	App             string   `json:"app"`
	Classes         []string `json:"classes"`
	Group           string   `json:"group"`
	Start           string   `json:"start"`
	Detected        string   `json:"detected"`
	End             *string  `json:"end"`
	RecoveryEnd     *string  `json:"recovery_end"`
	Confidence      float64  `json:"confidence"`
	Calibrated      bool     `json:"calibrated"`
	UplinkResidue   float64  `json:"uplink_residue"`
	DownlinkResidue float64  `json:"downlink_residue"`
	AttemptsFactor  float64  `json:"attempts_factor"`
	SuccessBefore   float64  `json:"success_before"`
	SuccessDuring   float64  `json:"success_during"`
	Reasons         []string `json:"reasons"`
	ReasonsFrom     *string  `json:"reasons_from"`
}

// MarshalJSON writes the event as the events file and the API have it.
func (e Event) MarshalJSON() ([]byte, error) {
	return json.Marshal(eventJSON{
		ID: e.ID(), State: e.State(), Verdict: string(e.Verdict),
		App: e.App, Classes: list(e.Classes), Group: e.Group,
		Start: Stamp(e.Start), Detected: Stamp(e.Detected), End: stampOrNil(e.End), RecoveryEnd: stampOrNil(e.RecoveryEnd),
		Confidence: round(e.Confidence), Calibrated: e.Calibrated,
		UplinkResidue: round(e.ResidueUp), DownlinkResidue: round(e.ResidueDown), AttemptsFactor: round(e.Attempts),
		SuccessBefore: round(e.SuccessBefore), SuccessDuring: round(e.Success),
		Reasons: list(e.Reasons), ReasonsFrom: stampOrNil(e.ReasonsFrom),
	})
}

func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// Stamp writes packet time as RFC 3339, UTC.
func Stamp(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339Nano) }

func stampOrNil(ns int64) *string {
	if ns == 0 {
		return nil
	}
	s := Stamp(ns)
	return &s
}
