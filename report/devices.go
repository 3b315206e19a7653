package report

import (
	"cmp"
	"slices"
)

// deviceKey is an operating system with a kind of class.
type deviceKey struct {
	app      string
	os       string
	transfer bool
}

// device is what is gathered of it.
type device struct {
	duration histogram
	flows    uint64
}

// DevicesSection is the duration of flows by operating system.
type DevicesSection struct {
	Notes
	Devices []DeviceEntry `json:"devices"`
}

// DeviceEntry is the durations of one system's flows, in seconds.
type DeviceEntry struct {
	App       string    `json:"app"`
	OS        string    `json:"os"`
	Kind      string    `json:"kind"` // sessions or transfers
	Duration  Quantiles `json:"duration_s"`
	Curve     Curve     `json:"distribution"`
	Density   Density   `json:"density"`
	Steps     []Step    `json:"steps"`
	LeftAlone uint64    `json:"not_counted"` // flows whose start or end is not known, or that carried nothing
}

// Density is the share of flows a bin of 5 % in duration.
type Density struct {
	X []float64 `json:"x"`
	Y []float64 `json:"y"`
}

func (c *Collector) device(k *class, r *Record) {
	if r.App == "other" {
		return
	}
	os := r.OS
	if os == "" {
		os = "unknown"
	}
	key := deviceKey{r.App, os, k.transfer}
	d := c.devices[key]
	if d == nil {
		if len(c.devices) >= maxClasses {
			return
		}
		d = &device{}
		c.devices[key] = d
	}
	if !r.whole() || !r.both() {
		d.flows++
		return
	}
	d.duration.add(r.Duration())
}

// density puts the histogram's bins together by fives.
func (h *histogram) density() Density {
	d := Density{X: []float64{}, Y: []float64{}}
	const by = 5
	for i := 0; i < len(h.bins); {
		n := h.first + i
		end := (n/by + 1) * by
		sum := uint64(0)
		for ; i < len(h.bins) && h.first+i < end; i++ {
			sum += h.bins[i]
		}
		d.X = append(d.X, round(edge(end-by)))
		d.Y = append(d.Y, round(float64(sum)/float64(h.count)))
	}
	if len(d.X) > 0 {
		d.X, d.Y = append(d.X, round(edge((h.first+len(h.bins)-1)/by*by+by))), append(d.Y, 0)
	}
	return d
}

func (c *Collector) devicesSection() DevicesSection {
	s := DevicesSection{
		Notes: Notes{
			Shows:   "How long flows last on each operating system, and the durations at which unusually many of them end: the time-outs of the apps and of the systems.",
			How:     "Flows from SYN to end that carried payload both ways, by the system that the SYN's options betray. A step is a narrow peak of the density (bins of 1 %, windows of 3, 5 and 9 bins) that stands out by 5 standard deviations against the fuller of the two bands beside it (Li and Ma 1983), is at least twice as dense, and holds at least 2 % of the flows. A time-out shows as a step just above its own length, for a connection speaks a little before it falls silent.",
			Unknown: "Whether device, app or network closed a silent connection. A system is told from the shape of its SYN, which a proxy or a new version can change; durations longer than the input are not in it at all, and the longer ones are too few.",
			Remarks: []string{},
		},
		Devices: []DeviceEntry{},
	}
	for key, d := range c.devices {
		kind := "sessions"
		if key.transfer {
			kind = "transfers"
		}
		e := DeviceEntry{App: key.app, OS: key.os, Kind: kind, LeftAlone: d.flows, Steps: []Step{}}
		e.Duration = d.duration.quantiles()
		e.Curve, e.Density = d.duration.cdf(), d.duration.density()
		e.Steps = d.duration.steps()
		s.Devices = append(s.Devices, e)
	}
	slices.SortFunc(s.Devices, func(a, b DeviceEntry) int {
		return cmp.Or(cmp.Compare(a.App, b.App), cmp.Compare(a.Kind, b.Kind), cmp.Compare(b.Duration.Count, a.Duration.Count), cmp.Compare(a.OS, b.OS))
	})
	if !slices.ContainsFunc(s.Devices, func(d DeviceEntry) bool { return d.Duration.Count > 0 }) {
		s.remark("No flow of an app was seen from its SYN to its end with payload both ways, so there is no duration to show.")
	}
	return s
}
