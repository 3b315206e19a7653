package report

import (
	"math"

	"github.com/nametap/nametap/internal/steps"
)

// Step is a place at which a distribution function rises steeply.
type Step = steps.Step

// steps looks for steps in the histogram.
func (h *histogram) steps() []Step {
	if h == nil || h.count == 0 {
		return []Step{}
	}
	found := steps.Find(h.bins, h.count, steps.LogWindows)
	out := make([]Step, 0, len(found))
	for _, f := range found {
		out = append(out, Step{
			At:   round(middleOf(h.first + f.Peak)),
			From: round(edge(h.first + f.From)), To: round(edge(h.first + f.To + 1)),
			Count: f.Excess, Share: round(float64(f.Excess) / float64(h.count)), Significance: math.Round(10*f.Sigma) / 10,
		})
	}
	return out
}
