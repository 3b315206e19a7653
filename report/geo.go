package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

const (
	// mostRTT is where the search ends, in seconds: no path is longer.
	mostRTT = 5
	// fibreSpeed is that of light in glass, two thirds of that in vacuum, in
	// kilometres a second: nothing answers sooner.
	fibreSpeed  = 299792.458 * 2 / 3
	earthRadius = 6371.0 // km
)

// Position is a place on Earth in degrees.
type Position struct {
	Latitude  float64 `json:"latitude"`
	Longitude float64 `json:"longitude"`
}

// ParsePosition reads "48.21,16.37".
func ParsePosition(text string) (Position, error) {
	lat, lon, ok := strings.Cut(text, ",")
	a, err1 := strconv.ParseFloat(strings.TrimSpace(lat), 64)
	b, err2 := strconv.ParseFloat(strings.TrimSpace(lon), 64)
	p := Position{a, b}
	if !ok || err1 != nil || err2 != nil || !p.valid() {
		return Position{}, fmt.Errorf("%q is no position such as 48.21,16.37 (degrees north, degrees east)", text)
	}
	return p, nil
}

func (p Position) valid() bool { return math.Abs(p.Latitude) <= 90 && math.Abs(p.Longitude) <= 180 }

// Distance is the great circle's, in kilometres (haversine formula).
func (p Position) Distance(q Position) float64 {
	rad := math.Pi / 180
	a := math.Sin((q.Latitude - p.Latitude) * rad / 2)
	b := math.Sin((q.Longitude - p.Longitude) * rad / 2)
	h := a*a + math.Cos(p.Latitude*rad)*math.Cos(q.Latitude*rad)*b*b
	return 2 * earthRadius * math.Asin(math.Sqrt(min(1, h)))
}

// Floor is the least round-trip time between two places that physics allows, in
// seconds: the great circle there and back at two thirds of the speed of light.
func (p Position) Floor(q Position) float64 { return 2 * p.Distance(q) / fibreSpeed }

// city is a place with data centres.
type city struct {
	name string
	at   Position
}

// cities with large data centres or exchange points, rounded to a hundredth of a
// degree. They are candidates for a round-trip time, never an answer.
var cities = []city{
	{"Amsterdam", Position{52.37, 4.90}},
	{"Ashburn", Position{39.04, -77.49}},
	{"Athens", Position{37.98, 23.73}},
	{"Atlanta", Position{33.75, -84.39}},
	{"Bangkok", Position{13.76, 100.50}},
	{"Berlin", Position{52.52, 13.40}},
	{"Bogotá", Position{4.71, -74.07}},
	{"Bucharest", Position{44.43, 26.10}},
	{"Budapest", Position{47.50, 19.04}},
	{"Buenos Aires", Position{-34.60, -58.38}},
	{"Cairo", Position{30.04, 31.24}},
	{"Cape Town", Position{-33.92, 18.42}},
	{"Chennai", Position{13.08, 80.27}},
	{"Chicago", Position{41.88, -87.63}},
	{"Copenhagen", Position{55.68, 12.57}},
	{"Dallas", Position{32.78, -96.80}},
	{"Delhi", Position{28.61, 77.21}},
	{"Denver", Position{39.74, -104.99}},
	{"Dubai", Position{25.20, 55.27}},
	{"Dublin", Position{53.35, -6.26}},
	{"Frankfurt", Position{50.11, 8.68}},
	{"Helsinki", Position{60.17, 24.94}},
	{"Hong Kong", Position{22.32, 114.17}},
	{"Houston", Position{29.76, -95.37}},
	{"Istanbul", Position{41.01, 28.98}},
	{"Jakarta", Position{-6.21, 106.85}},
	{"Johannesburg", Position{-26.20, 28.05}},
	{"Kuala Lumpur", Position{3.14, 101.69}},
	{"Kyiv", Position{50.45, 30.52}},
	{"Lagos", Position{6.52, 3.38}},
	{"Lima", Position{-12.05, -77.04}},
	{"Lisbon", Position{38.72, -9.14}},
	{"London", Position{51.51, -0.13}},
	{"Los Angeles", Position{34.05, -118.24}},
	{"Luleå", Position{65.58, 22.15}},
	{"Madrid", Position{40.42, -3.70}},
	{"Manila", Position{14.60, 120.98}},
	{"Marseille", Position{43.30, 5.37}},
	{"Melbourne", Position{-37.81, 144.96}},
	{"Mexico City", Position{19.43, -99.13}},
	{"Miami", Position{25.76, -80.19}},
	{"Milan", Position{45.46, 9.19}},
	{"Montréal", Position{45.50, -73.57}},
	{"Moscow", Position{55.76, 37.62}},
	{"Mumbai", Position{19.08, 72.88}},
	{"Munich", Position{48.14, 11.58}},
	{"Nairobi", Position{-1.29, 36.82}},
	{"New York", Position{40.71, -74.01}},
	{"Odense", Position{55.40, 10.39}},
	{"Osaka", Position{34.69, 135.50}},
	{"Oslo", Position{59.91, 10.75}},
	{"Paris", Position{48.86, 2.35}},
	{"Phoenix", Position{33.45, -112.07}},
	{"Portland", Position{45.52, -122.68}},
	{"Prague", Position{50.08, 14.44}},
	{"Rome", Position{41.90, 12.50}},
	{"Salt Lake City", Position{40.76, -111.89}},
	{"San Francisco", Position{37.77, -122.42}},
	{"San Jose", Position{37.34, -121.89}},
	{"Santiago", Position{-33.45, -70.67}},
	{"São Paulo", Position{-23.55, -46.63}},
	{"Seattle", Position{47.61, -122.33}},
	{"Seoul", Position{37.57, 126.98}},
	{"Singapore", Position{1.35, 103.82}},
	{"Sofia", Position{42.70, 23.32}},
	{"Stockholm", Position{59.33, 18.07}},
	{"Sydney", Position{-33.87, 151.21}},
	{"Taipei", Position{25.03, 121.57}},
	{"Tel Aviv", Position{32.09, 34.78}},
	{"Tokyo", Position{35.68, 139.65}},
	{"Toronto", Position{43.65, -79.38}},
	{"Vienna", Position{48.21, 16.37}},
	{"Warsaw", Position{52.23, 21.01}},
	{"Washington", Position{38.91, -77.04}},
	{"Zurich", Position{47.38, 8.54}},
}

// Candidate is a city that a round-trip time would fit.
type Candidate struct {
	City string `json:"city"`
	// Floor is the least round-trip time that physics allows, in seconds;
	// Stretch how many times that was measured.
	Floor   float64 `json:"floor_s"`
	Stretch float64 `json:"stretch"`
}

// Paths over land and sea are longer than the great circle, by some 20 % to
// twofold, and shorter ones seldom; beyond that a city is no candidate.
const (
	leastStretch = 1.05
	mostStretch  = 1.6
)

// candidates are the cities for which a round-trip time from a tap is plausible,
// the ones with the usual detour of a fifth first.
func candidates(tap Position, rtt float64) []Candidate {
	out := []Candidate{}
	for _, c := range cities {
		floor := tap.Floor(c.at)
		if s := rtt / max(floor, 0.0005); s >= leastStretch && s <= mostStretch {
			out = append(out, Candidate{c.name, round(floor), math.Round(100*s) / 100})
		}
	}
	slices.SortStableFunc(out, func(a, b Candidate) int {
		da, db := math.Abs(a.Stretch-1.2), math.Abs(b.Stretch-1.2)
		switch {
		case da < db:
			return -1
		case da > db:
			return 1
		}
		return strings.Compare(a.City, b.City)
	})
	return out
}
