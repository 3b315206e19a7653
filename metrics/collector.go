package metrics

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nametap/nametap/analysis/forecast/live"
	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/probe"
	"github.com/nametap/nametap/watch"
)

// namespace begins every name.
const namespace = "nametap_"

// Config is what the page says besides what the engine counts.
type Config struct {
	// Version, Commit, GoVersion and Features are the labels of build_info.
	// Features are what was compiled in, from a closed list.
	Version, Commit, GoVersion string
	Features                   []string
	// Loaded is when the configuration was loaded at the start; zero where
	// there is none to speak of.
	Loaded time.Time
	// Interfaces are those that will be captured from. They are on the page,
	// at 0, before the source tells of them.
	Interfaces []string
	// Workers is how many there are, 0 for one, and Fanout how frames are
	// divided among them.
	Workers int
	Fanout  capture.FanoutInfo
	// Status tells the health of the tap and the outages; nil where nobody
	// watches: then nothing is healthy and nothing fails.
	Status func() watch.Status
	// Forecasts tells what is expected of the classes, in the order of the
	// snapshots'; nil where nobody forecasts.
	Forecasts func() []live.Class
	// Lost tells how many lines of an output could not be written: "flows",
	// "ping" or "events". Nil where none is written.
	Lost func(output string) uint64
}

// Collector is the prometheus.Collector of one engine. It takes one snapshot a
// scrape and keeps nothing between scrapes but the outcome of the last reload.
// It is safe for concurrent use.
type Collector struct {
	cfg      Config
	snapshot func() *probe.Snapshot
	families []described

	mu     sync.Mutex
	reload reload
}

// described is a family with its descriptor.
type described struct {
	*family
	desc *prometheus.Desc
}

// reload is what is known of the configuration's last reload.
type reload struct {
	ok          bool
	at, success time.Time
}

// New returns the collector of the engine that snapshot asks, normally
// (*probe.Engine).Snapshot. Snapshot is called from any goroutine, never returns
// nil, and what it returned is not changed any more.
//
// An engine exists only with rules that could be read: until Reloaded says
// otherwise the start counts as a successful reload.
func New(snapshot func() *probe.Snapshot, cfg Config) *Collector {
	c := &Collector{cfg: cfg, snapshot: snapshot, reload: reload{ok: true, at: cfg.Loaded, success: cfg.Loaded}}
	for s := range sections {
		for f := range sections[s].families {
			family := &sections[s].families[f]
			c.families = append(c.families, described{family, prometheus.NewDesc(namespace+family.name, family.help, family.labels, nil)})
		}
	}
	return c
}

// Reloaded notes an attempt to load the configuration anew and whether it went well.
func (c *Collector) Reloaded(ok bool, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reload.ok, c.reload.at = ok, at
	if ok {
		c.reload.success = at
	}
}

// Describe is part of prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range c.families {
		ch <- f.desc
	}
}

// Collect is part of prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	s := c.snapshot()
	c.mu.Lock()
	last := c.reload
	c.mu.Unlock()
	e := emitter{ch: ch, cfg: &c.cfg, reload: last, status: c.status(), interfaces: interfaces(c.cfg.Interfaces, s.Source.Interfaces)}
	if c.cfg.Forecasts != nil {
		e.forecasts = c.cfg.Forecasts()
	}
	for _, f := range c.families {
		e.desc, e.family = f.desc, f.family
		f.emit(&e, s)
	}
}

func (c *Collector) status() watch.Status {
	if c.cfg.Status == nil {
		return watch.Status{}
	}
	return c.cfg.Status()
}

// emitter sends the series of one family after the other.
type emitter struct {
	ch         chan<- prometheus.Metric
	cfg        *Config
	reload     reload
	status     watch.Status
	forecasts  []live.Class
	interfaces []capture.InterfaceStats
	desc       *prometheus.Desc
	family     *family
}

// value sends one series. Labels are in the order of the family's.
func (e *emitter) value(v float64, labels ...string) {
	kind := prometheus.GaugeValue
	if e.family.kind == counter {
		kind = prometheus.CounterValue
	}
	e.ch <- prometheus.MustNewConstMetric(e.desc, kind, v, labels...)
}

// truth sends 1 or 0.
func (e *emitter) truth(v bool, labels ...string) {
	if v {
		e.value(1, labels...)
		return
	}
	e.value(0, labels...)
}

func (e *emitter) histogram(h *flows.Histogram, labels ...string) {
	e.ch <- &histogram{e.desc, prometheus.MakeLabelPairs(e.desc, labels), e.family.bounds, h}
}

// timestamp sends a time in seconds since 1970, 0 for one that never was.
func (e *emitter) timestamp(t time.Time) {
	if t.IsZero() {
		e.value(0)
		return
	}
	e.value(seconds(t.UnixNano()))
}

// seconds keeps whole seconds exact: nanoseconds since 1970 exceed the 53 bits
// of a float64.
func seconds(ns int64) float64 { return float64(ns/1e9) + float64(ns%1e9)/1e9 }

const (
	// maxInterfaces bounds the values of the label interface: one capture
	// file can name thousands. What is beyond goes by otherInterface.
	maxInterfaces  = 64
	otherInterface = "other"
	// maxLabel is the longest interface name shown, in bytes; those of Linux
	// have 15.
	maxLabel = 128
)

// interfaces returns the counters by interface: first those known from the
// configuration, then further ones of the source in its order. Since a source
// takes none away, an interface keeps its series.
func interfaces(known []string, stats []capture.InterfaceStats) []capture.InterfaceStats {
	var list []capture.InterfaceStats
	for _, name := range known {
		of(&list, name)
	}
	for i := range stats {
		s := &stats[i]
		to := of(&list, s.Name)
		to.Packets += s.Packets
		to.Bytes += s.Bytes
		to.Freezes += s.Freezes
		to.Rebinds += s.Rebinds
		to.Down = to.Down || s.Down
		for r, n := range s.Drops {
			to.Drops[r] += n
		}
	}
	return list
}

// of returns the place of the interface with that name.
func of(list *[]capture.InterfaceStats, name string) *capture.InterfaceStats {
	name = strings.ToValidUTF8(name[:min(len(name), maxLabel)], "\ufffd")
	if to := find(*list, name); to != nil {
		return to
	}
	if len(*list) >= maxInterfaces {
		name = otherInterface
		if to := find(*list, name); to != nil {
			return to
		}
	}
	*list = append(*list, capture.InterfaceStats{Name: name})
	return &(*list)[len(*list)-1]
}

func find(list []capture.InterfaceStats, name string) *capture.InterfaceStats {
	for i := range list {
		if list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}
