package report

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/nametap/nametap/report/experience"
)

// scores is what is gathered of the transfers' times.
type scores struct {
	all      score
	byClass  map[classKey]*score
	byOS     map[string]*score
	byAPN    map[string]*score
	unscored map[string]uint64
}

type score struct {
	rated [ratings]uint64
	time  histogram
}

func (s *scores) init() {
	s.byClass, s.byOS, s.byAPN = map[classKey]*score{}, map[string]*score{}, map[string]*score{}
	s.unscored = map[string]uint64{}
}

// reasons not to score a transfer.
const (
	unscoredCut    = "cut off by the end of the input or by a full table"
	unscoredMiddle = "picked up in mid-stream"
	unscoredEmpty  = "without payload in both directions"
)

func (s *scores) add(c *Collector, id int, r *Record) {
	switch {
	case !r.ended():
		s.unscored[unscoredCut]++
		return
	case !r.SYNSeen:
		s.unscored[unscoredMiddle]++
		return
	case !r.both():
		s.unscored[unscoredEmpty]++
		return
	}
	took := time.Duration(r.End - r.Start)
	rating := c.opt.Marks.Rate(took)
	c.display.at(r.Start).class(id).rated[rating]++
	os, apn := r.OS, r.APN
	if os == "" {
		os = "unknown"
	}
	if s.byOS[os] == nil && len(s.byOS) >= maxClasses {
		os = "other systems"
	}
	for _, x := range []*score{&s.all, of(s.byClass, c.list[id].key), of(s.byOS, os)} {
		x.add(took, rating)
	}
	if apn != "" {
		if !c.apns[apn] {
			apn = "other access points"
		}
		of(s.byAPN, apn).add(took, rating)
	}
}

func of[K comparable](m map[K]*score, key K) *score {
	x := m[key]
	if x == nil {
		x = &score{}
		m[key] = x
	}
	return x
}

func (s *score) add(took time.Duration, rating Rating) {
	s.rated[rating]++
	s.time.add(took.Seconds())
}

// ExperienceSection is the transfers' times.
type ExperienceSection struct {
	Notes
	GoodMark float64          `json:"good_mark_s"`
	BadMark  float64          `json:"bad_mark_s"`
	All      ScoreEntry       `json:"all"`
	Classes  []ScoreEntry     `json:"classes"`
	Systems  []ScoreEntry     `json:"systems"`
	APNs     []ScoreEntry     `json:"access_points"`
	Over     RatedOver        `json:"over_time"`
	Unscored []UnscoredReason `json:"not_scored"`
}

// UnscoredReason counts transfers that were not rated.
type UnscoredReason struct {
	Reason string `json:"reason"`
	Count  uint64 `json:"count"`
}

// ScoreEntry is the ratings of some transfers. The shares add up to 1.
type ScoreEntry struct {
	Label      string    `json:"label"`
	Count      uint64    `json:"count"`
	Good       uint64    `json:"good"`
	Acceptable uint64    `json:"acceptable"`
	Bad        uint64    `json:"bad"`
	Time       Quantiles `json:"time_s"`
	// MOS is the mean of the scores that the law gives the single transfers.
	MOS   float64 `json:"mos_estimate"`
	Word  string  `json:"mos_word"`
	Curve Curve   `json:"distribution"`
}

// RatedOver is the ratings over time.
type RatedOver struct {
	Times
	Good       []uint64 `json:"good"`
	Acceptable []uint64 `json:"acceptable"`
	Bad        []uint64 `json:"bad"`
}

func (s *score) entry(label string) ScoreEntry {
	e := ScoreEntry{
		Label: label, Count: s.time.count,
		Good: s.rated[good], Acceptable: s.rated[acceptable], Bad: s.rated[bad],
		Time: s.time.quantiles(), Curve: s.time.cdf(),
	}
	if s.time.count > 0 {
		e.MOS = math.Round(100*s.time.mos()) / 100
		e.Word = experience.Word(e.MOS)
	}
	return e
}

// mos is the mean opinion score over all values. It comes from the histogram, so
// that it does not depend on the order in which they came.
func (h *histogram) mos() float64 {
	sum := 5 * float64(h.zero)
	for i, n := range h.bins {
		sum += experience.MOS(middleOf(h.first+i)) * float64(n)
	}
	return sum / float64(h.count)
}

func entries[K cmp.Ordered](m map[K]*score) []ScoreEntry {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b K) int { return cmp.Or(cmp.Compare(m[b].time.count, m[a].time.count), cmp.Compare(a, b)) })
	out := []ScoreEntry{}
	for _, k := range keys {
		var label any = k
		text, _ := label.(string)
		out = append(out, m[k].entry(text))
	}
	return out
}

func (c *Collector) experienceSection() ExperienceSection {
	s := ExperienceSection{
		Notes: Notes{
			Shows:   "How long people waited for photos, audio and video, and how many of these transfers were good, acceptable or bad by the marks.",
			How:     "The time of a transfer is that of its connection, from SYN to last packet, of connections that carried payload both ways. The marks are the study's, found with 50 people and independent of size. The score from 1 to 5 (ITU-T P.800 words) is interpolated from those two marks by MOS = 8.32 − 1.443 ln t, cut to 1 … 5.",
			Unknown: "What anybody felt: nobody was asked here. Classes that keep a connection open after the transfer, or use it for several, look slower than they are (see the steps of transfers under devices). Chat sessions are never scored.",
			Remarks: []string{},
		},
		GoodMark: c.opt.Marks.Good.Seconds(), BadMark: c.opt.Marks.Bad.Seconds(),
		All: c.scores.all.entry("all transfers"), Classes: []ScoreEntry{},
		Systems: entries(c.scores.byOS), APNs: entries(c.scores.byAPN), Unscored: []UnscoredReason{},
	}
	for _, id := range c.sorted() {
		if x := c.scores.byClass[c.list[id].key]; x != nil {
			s.Classes = append(s.Classes, x.entry(c.list[id].key.String()))
		}
	}
	for _, reason := range []string{unscoredCut, unscoredMiddle, unscoredEmpty} {
		if n := c.scores.unscored[reason]; n > 0 {
			s.Unscored = append(s.Unscored, UnscoredReason{reason, n})
		}
	}
	var row []*displayBin
	s.Over.Times, row = c.times()
	for _, b := range row {
		var sum [ratings]uint64
		if b != nil {
			for _, x := range b.classes {
				for i := range sum {
					if x != nil {
						sum[i] += x.rated[i]
					}
				}
			}
		}
		s.Over.Good, s.Over.Acceptable, s.Over.Bad = append(s.Over.Good, sum[good]), append(s.Over.Acceptable, sum[acceptable]), append(s.Over.Bad, sum[bad])
	}
	if s.All.Count == 0 {
		s.remark("This input holds no transfer that was seen from its SYN to its end with payload both ways, so there is nothing to rate.")
	}
	return s
}
