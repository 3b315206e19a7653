package report

import (
	"fmt"
	"strings"
)

// ShapeSection is the sizes, durations and throughputs of flows.
type ShapeSection struct {
	Notes
	Marks   []StudyMark  `json:"study_marks"`
	Classes []ShapeEntry `json:"classes"`
}

// StudyMark is a figure of the study, for comparison.
type StudyMark struct {
	Of    string  `json:"of"`
	At    float64 `json:"at"`
	Label string  `json:"label"`
}

// ShapeEntry is one class. Sizes are in bytes, durations in seconds,
// throughputs in bytes a second.
type ShapeEntry struct {
	App      string       `json:"app"`
	Class    string       `json:"class"`
	Transfer bool         `json:"transfer"`
	Size     Distribution `json:"size_bytes"`
	Up       Distribution `json:"uplink_size_bytes"`
	Down     Distribution `json:"downlink_size_bytes"`
	Duration Distribution `json:"duration_s"`
	UpRate   Distribution `json:"uplink_throughput_bytes_per_s"`
	DownRate Distribution `json:"downlink_throughput_bytes_per_s"`
	// The shares of flows on the study's sides of its marks.
	Under10K float64 `json:"share_under_10_kb"`
	Over70K  float64 `json:"share_over_70_kb"`
}

// Distribution is quantiles with the curve that they are on.
type Distribution struct {
	Quantiles
	Curve Curve `json:"curve"`
}

// fewFlows is up to which the curve of a class is little more than the flows that
// happened to come.
const fewFlows = 20

func (h *histogram) distribution() Distribution { return Distribution{h.quantiles(), h.cdf()} }

func (c *Collector) shapeSection() ShapeSection {
	s := ShapeSection{
		Notes: Notes{
			Shows:   "How large the flows of each class are, how long they last, and how fast the large ones run.",
			How:     "Every flow once, in histograms whose bins are 1 % wide: a quantile is off by half a per cent at most. Durations are of flows seen from SYN to end. Throughput is a direction's bytes over the flow's duration, for flows with more than 1 MB in that direction. Dashed lines are the study's figures of 2014, drawn for comparison.",
			Unknown: "The size of a photo or a message: one connection can carry several, and headers count. Throughput of a flow is no measure of the line: pauses of app and server count as time.",
			Remarks: []string{},
		},
		Marks: []StudyMark{
			{"chat size", 10_000, "study: 90 % of chat"},
			{"media size", 70_000, "study: half of the media"},
			{"downlink throughput", 1.5e6 / 8, "study: up to 1.5 Mb/s"},
			{"uplink throughput", 0.8e6 / 8, "study: up to 0.8 Mb/s"},
		},
		Classes: []ShapeEntry{},
	}
	rates := uint64(0)
	var few []string
	for _, id := range c.sorted() {
		k := c.list[id]
		s.Classes = append(s.Classes, ShapeEntry{
			App: k.key.App, Class: k.key.Class, Transfer: k.transfer,
			Size: k.size[2].distribution(), Up: k.size[0].distribution(), Down: k.size[1].distribution(),
			Duration: k.duration.distribution(), UpRate: k.throughput[0].distribution(), DownRate: k.throughput[1].distribution(),
			Under10K: share(k.small, k.flows), Over70K: share(k.large, k.flows),
		})
		rates += k.throughput[0].count + k.throughput[1].count
		if k.flows < fewFlows {
			few = append(few, fmt.Sprintf("%s (%d)", label(k.key.String()), k.flows))
		}
	}
	if len(few) > 0 {
		s.remark("Fewer than %d flows say little of a class: %s.", fewFlows, strings.Join(few, ", "))
	}
	if rates == 0 {
		s.remark("No flow carried more than 1 MB in one direction, so no throughput is shown.")
	}
	return s
}
