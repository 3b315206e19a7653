package report

import "github.com/nametap/nametap/report/experience"

// Marks are those of package experience.
type Marks = experience.Marks

// Rating is that of package experience.
type Rating = experience.Rating

const (
	good       = experience.Good
	acceptable = experience.Acceptable
	bad        = experience.Bad
	ratings    = experience.Count
)

// DefaultMarks are the study's.
func DefaultMarks() Marks { return experience.DefaultMarks() }

// Scored reports whether a transfer is one to rate.
func (r *Record) Scored() bool {
	return experience.Scored(r.SYNSeen, r.EndReason, r.Payload[0], r.Payload[1])
}
