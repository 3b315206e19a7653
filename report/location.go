package report

import (
	"cmp"
	"math"
	"net/netip"
	"slices"

	"github.com/nametap/nametap/internal/steps"
)

// LocationSection is how far away the servers are.
type LocationSection struct {
	Notes
	Tap       *Position        `json:"tap"`
	Classes   []RTTLine        `json:"classes"`
	All       Quantiles        `json:"least_rtt_s"`
	Steps     []RTTStep        `json:"steps"`
	Addresses []LocatedAddress `json:"addresses"`
	// Refused are addresses whose place in the database light could not reach
	// and come back from in the time that was measured; Checked are all for
	// which that could be asked.
	Refused int `json:"refused"`
	Checked int `json:"checked"`
	// WithRTT of Total addresses had a round-trip time.
	WithRTT int `json:"with_rtt"`
	Total   int `json:"total"`
}

// RTTLine is the distribution of the least round-trip time to the addresses of
// a class, in seconds.
type RTTLine struct {
	Class string `json:"class"`
	Count int    `json:"addresses"`
	Curve Curve  `json:"curve"`
}

// RTTStep is a step with what could stand behind it.
type RTTStep struct {
	Step
	// Claims are the cities that the database has for the step's addresses.
	Claims []Claim `json:"database"`
	// Candidates are cities of the built-in list that the time would fit.
	Candidates []Candidate `json:"candidates"`
}

// Claim is what the database says of some addresses.
type Claim struct {
	Place     string `json:"place"`
	Addresses int    `json:"addresses"`
	Refused   int    `json:"refused"`
}

// LocatedAddress is one server.
type LocatedAddress struct {
	Address string   `json:"address"`
	Classes []string `json:"classes"`
	RTT     float64  `json:"least_rtt_s"`
	ASN     uint32   `json:"asn"`
	Place   string   `json:"place"`
	// Floor is the least round-trip time to that place, 0 where it cannot be
	// told.
	Floor   float64 `json:"floor_s"`
	Verdict string  `json:"verdict"` // possible, refused, unchecked
	Bytes   uint64  `json:"bytes"`
}

// listedAddresses bounds the list in the report.
const listedAddresses = 5000

// mostCandidates bounds the cities beside a step.
const mostCandidates = 20

// clockSlack is what clocks and rounding of a capture may take off a round-trip
// time, in seconds.
const clockSlack = 0.0005

func (c *Collector) locationSection() LocationSection {
	s := LocationSection{
		Notes: Notes{
			Shows:   "How far from the tap the servers answer, address by address, and whether the places that a database has for them are possible.",
			How:     "The least round-trip time between tap and server that any flow to the address showed, handshakes included. Steps are found as under devices, in bins of half a millisecond. A place is refused where light in fibre (two thirds of c, great circle there and back) would need longer than was measured.",
			Unknown: "Where a server stands: a round-trip time is an upper bound of its distance and nothing more. Cities beside a step are those it would fit, with the usual detour of cables. An address that few flows used keeps queueing in its least time; a proxy near the tap answers for servers far away.",
			Remarks: []string{},
		},
		Tap: c.opt.Tap, Classes: []RTTLine{}, Steps: []RTTStep{}, Addresses: []LocatedAddress{},
	}
	classes := map[netip.Addr][]string{}
	for _, id := range c.sorted() {
		k := c.list[id]
		if k.key.App == "other" {
			continue
		}
		line := RTTLine{Class: k.key.String()}
		var values []float64
		for a, x := range k.servers {
			classes[a] = append(classes[a], k.key.Class)
			if x.rtt > 0 {
				values = append(values, round(float64(x.rtt)))
			}
		}
		slices.Sort(values)
		line.Count, line.Curve = len(values), ofSorted(values)
		s.Classes = append(s.Classes, line)
	}
	c.locate(&s, classes)
	switch {
	case s.Total == 0:
		s.remark("No flow of an app was met, so there is no server to place.")
	case s.WithRTT == 0:
		s.remark("No round-trip time to a server could be measured: this input has only one direction, or no answers.")
	}
	if s.Tap == nil {
		s.remark("Without --tap-location no place can be checked against the speed of light, and no city proposed.")
	}
	return s
}

func (c *Collector) locate(s *LocationSection, classes map[netip.Addr][]string) {
	var all histogram
	var values []float64
	for a, x := range c.appServers() {
		s.Total++
		l := LocatedAddress{Address: a.String(), Classes: classes[a], RTT: round(float64(x.rtt)), Bytes: x.bytes, Verdict: "unchecked"}
		slices.Sort(l.Classes)
		l.Classes = slices.Compact(l.Classes)
		if x.hidden {
			l.Address = "inside the subscribers' prefixes"
		} else {
			c.check(s, &l, c.opt.Places.Lookup(a))
		}
		if l.RTT > 0 {
			s.WithRTT++
			all.add(l.RTT)
			if l.RTT < mostRTT {
				values = append(values, l.RTT)
			}
		}
		s.Addresses = append(s.Addresses, l)
	}
	slices.SortFunc(s.Addresses, func(a, b LocatedAddress) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Address, b.Address))
	})
	s.All = all.quantiles()
	slices.Sort(values)
	for _, step := range steps.Of(values, steps.RTTBin, steps.RTTWindows) {
		s.Steps = append(s.Steps, c.explain(s, step))
	}
	if len(s.Addresses) > listedAddresses {
		s.remark("%d addresses; the %d with most bytes are listed.", len(s.Addresses), listedAddresses)
		s.Addresses = s.Addresses[:listedAddresses]
	}
}

// check holds the database's place against the speed of light.
func (c *Collector) check(s *LocationSection, l *LocatedAddress, place Place) {
	l.ASN, l.Place = place.ASN, place.City
	switch {
	case l.Place == "":
		l.Place = place.Country
	case place.Country != "":
		l.Place += ", " + place.Country
	}
	if place.At == nil || c.opt.Tap == nil || l.RTT == 0 {
		return
	}
	s.Checked++
	l.Floor = round(c.opt.Tap.Floor(*place.At))
	l.Verdict = "possible"
	if l.Floor > l.RTT+clockSlack {
		l.Verdict = "refused"
		s.Refused++
	}
}

// explain adds what could stand behind a step.
func (c *Collector) explain(s *LocationSection, step Step) RTTStep {
	out := RTTStep{Step: step, Claims: []Claim{}, Candidates: []Candidate{}}
	if c.opt.Tap != nil {
		out.Candidates = candidates(*c.opt.Tap, step.At)
		out.Candidates = out.Candidates[:min(len(out.Candidates), mostCandidates)]
	}
	claims := map[string]*Claim{}
	for i := range s.Addresses {
		l := &s.Addresses[i]
		if l.RTT < step.From || l.RTT >= step.To || l.Place == "" {
			continue
		}
		x := claims[l.Place]
		if x == nil {
			x = &Claim{Place: l.Place}
			claims[l.Place] = x
		}
		x.Addresses++
		if l.Verdict == "refused" {
			x.Refused++
		}
	}
	for _, x := range claims {
		out.Claims = append(out.Claims, *x)
	}
	slices.SortFunc(out.Claims, func(a, b Claim) int {
		return cmp.Or(cmp.Compare(b.Addresses, a.Addresses), cmp.Compare(a.Place, b.Place))
	})
	return out
}

// milliseconds with a digit.
func milliseconds(s float64) float64 { return math.Round(s*1e4) / 10 }

// Servers returns the addresses of a class, in order, without those inside the
// subscribers' prefixes.
func (c *Collector) Servers(app, class string) []netip.Addr {
	i, ok := c.index[classKey{app, class}]
	if !ok {
		return nil
	}
	out := []netip.Addr{}
	for a, s := range c.list[i].servers {
		if !s.hidden {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}
