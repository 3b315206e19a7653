// Package experience rates transfers by how long they took. Reports and live
// metrics do it alike.
package experience

import (
	"fmt"
	"math"
	"time"
)

// Rating of a transfer by how long it took.
type Rating uint8

// Ratings, of which a transfer has one.
const (
	Good Rating = iota
	Acceptable
	Bad

	// Count is their number.
	Count
)

// Ratings lists them, for closed label sets.
func Ratings() []Rating { return []Rating{Good, Acceptable, Bad} }

// String returns the rating as reports and metrics spell it.
func (r Rating) String() string { return [Count]string{"good", "acceptable", "bad"}[r] }

// Marks are the transfer times up to which a transfer is good, and beyond which
// it is bad.
type Marks struct{ Good, Bad time.Duration }

// DefaultMarks are the study's: 50 people who sent and received 5 MB were
// content up to 20 s and not beyond 40 s, whatever the size.
func DefaultMarks() Marks { return Marks{20 * time.Second, 40 * time.Second} }

// Check refuses marks that are out of order.
func (m Marks) Check() error {
	if m.Good <= 0 || m.Bad < m.Good {
		return fmt.Errorf("marks %v and %v: the first must be more than 0, and the second no less than the first", m.Good, m.Bad)
	}
	return nil
}

// Rate rates a transfer that took so long. A time on a mark is still the better
// one's.
func (m Marks) Rate(took time.Duration) Rating {
	switch {
	case took <= m.Good:
		return Good
	case took <= m.Bad:
		return Acceptable
	}
	return Bad
}

// MOS estimates the mean opinion score of a transfer that took so many seconds,
// on the scale of ITU-T P.800 from 1 (bad) to 5 (excellent). It is an
// interpolation of ours through two points of the study, (20 s, 4) and (40 s,
// 3), by the logarithmic law that waiting follows; nobody was asked.
func MOS(seconds float64) float64 {
	if seconds <= 0 {
		return 5
	}
	return max(1, min(8.32-1.443*math.Log(seconds), 5))
}

// Word is the P.800 word nearest to a score.
func Word(mos float64) string {
	words := [...]string{"bad", "poor", "fair", "good", "excellent"}
	return words[min(max(int(math.Round(mos))-1, 0), 4)]
}

// Scored reports whether a flow of a transfer class is one to rate: seen from
// its SYN to an end (FIN, RST, silence, or the port's next use), with payload in
// both directions. The others have no known time, or carried nothing.
func Scored(synSeen bool, endReason string, uplinkPayload, downlinkPayload uint64) bool {
	return synSeen && endReason != "shutdown" && endReason != "evicted" && uplinkPayload > 0 && downlinkPayload > 0
}
