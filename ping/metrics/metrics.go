// Package metrics shows what package ping finds to Prometheus: counters and
// histograms that add up over time, so that a scrape misses no period, and a few
// gauges of the sampling itself. Labels come from closed lists; an address is
// never among them.
package metrics

import (
	"net/http"
	"net/netip"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/nametap/nametap/ping"
)

// Other is the app of all connections that are of no listed one.
const Other = "other"

// Where the remote end is: the values of the label scope.
const (
	scopeLoopback = "loopback"
	scopePrivate  = "private" // RFC 1918, RFC 4193, RFC 6598, link-local
	scopeGlobal   = "global"
)

var (
	scopes = []string{scopeLoopback, scopePrivate, scopeGlobal}
	// sharedSpace is that of carrier-grade NAT (RFC 6598).
	sharedSpace = netip.MustParsePrefix("100.64.0.0/10")
)

// Metrics counts samples up. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	apps     []string

	rtt, minRTT                       *prometheus.HistogramVec
	segments, repeats, spurious       *prometheus.CounterVec
	reordered, received, outOfOrder   *prometheus.CounterVec
	bytesAcked, bytesReceived, active *prometheus.CounterVec
	samples                           prometheus.Counter
	open, namespaces                  prometheus.Gauge
	skipped                           *prometheus.GaugeVec
	took                              prometheus.Gauge
	last                              prometheus.Gauge
}

// The values of the label reason.
const (
	reasonNamespace   = "namespace"
	reasonProcess     = "process"
	reasonMessage     = "message"
	reasonConnections = "table_full"
	reasonAnswers     = "dns_answers"
)

// New makes the metrics. Apps are the systemd units or commands that get series
// of their own; all others go by Other.
func New(apps []string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), apps: apps}
	labels := []string{"app", "scope"}
	counter := func(name, help string) *prometheus.CounterVec {
		return m.counter(name, help, labels)
	}
	m.rtt = m.histogram("nametap_host_tcp_rtt_seconds", "Smoothed round-trip time of each connection active in a period, as the kernel has it.", labels)
	m.minRTT = m.histogram("nametap_host_tcp_min_rtt_seconds", "Least round-trip time of the last minutes of each connection active in a period.", labels)
	m.active = counter("nametap_host_tcp_active_connections_total", "Connections active in a period, summed over periods.")
	m.segments = counter("nametap_host_tcp_data_segments_sent_total", "TCP segments with payload sent, repeats included.")
	m.repeats = counter("nametap_host_tcp_retransmitted_segments_total", "TCP segments sent again. Loss on the way in is not seen by TCP_INFO.")
	m.spurious = counter("nametap_host_tcp_spurious_retransmissions_total", "Retransmissions that the peer had already, by its D-SACK.")
	m.reordered = counter("nametap_host_tcp_reordering_events_total", "Times that a sender saw its segments reordered.")
	m.received = counter("nametap_host_tcp_data_segments_received_total", "TCP segments with payload received.")
	m.outOfOrder = counter("nametap_host_tcp_out_of_order_segments_received_total", "TCP segments received out of order.")
	m.bytesAcked = counter("nametap_host_tcp_acknowledged_bytes_total", "Payload bytes sent and acknowledged.")
	m.bytesReceived = counter("nametap_host_tcp_received_bytes_total", "Payload bytes received.")
	m.samples = prometheus.NewCounter(prometheus.CounterOpts{Name: "nametap_host_samples_total", Help: "Samples taken."})
	m.open = m.gauge("nametap_host_tcp_open_connections", "Connections at the last sample, idle ones included.")
	m.namespaces = m.gauge("nametap_host_network_namespaces", "Network namespaces read at the last sample.")
	m.took = m.gauge("nametap_host_sample_duration_seconds", "How long the last sample took.")
	m.last = m.gauge("nametap_host_last_sample_timestamp_seconds", "When the last sample was taken.")
	m.skipped = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "nametap_host_skipped", Help: "What could not be read at the last sample.",
	}, []string{"reason"})
	m.registry.MustRegister(m.samples, m.skipped,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.start()
	return m
}

func (m *Metrics) counter(name, help string, labels []string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(c)
	return c
}

func (m *Metrics) gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	m.registry.MustRegister(g)
	return g
}

// histogram is native and classic. The classic bounds are powers of two from
// 1/8 ms (a local network) to 8 s.
func (m *Metrics) histogram(name, help string, labels []string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: name, Help: help,
		Buckets:                        prometheus.ExponentialBuckets(1.0/8192, 2, 17),
		NativeHistogramBucketFactor:    1.1,
		NativeHistogramMaxBucketNumber: 160,
	}, labels)
	m.registry.MustRegister(h)
	return h
}

// start puts every series on the page, at 0.
func (m *Metrics) start() {
	for _, reason := range []string{reasonNamespace, reasonProcess, reasonMessage, reasonConnections, reasonAnswers} {
		m.skipped.WithLabelValues(reason)
	}
	for _, app := range append(slices.Clone(m.apps), Other) {
		for _, scope := range scopes {
			m.rtt.WithLabelValues(app, scope)
			m.minRTT.WithLabelValues(app, scope)
			m.count(app, scope, ping.Counts{}, 0)
		}
	}
}

// Observe counts one sample. What a connection did before the first sample is
// left out: it belongs to no period.
func (m *Metrics) Observe(s *ping.Sample) {
	for i := range s.Connections {
		c := &s.Connections[i]
		app, scope := m.app(c), scopeOf(c.Remote.Addr())
		if c.Info.RTT > 0 {
			m.rtt.WithLabelValues(app, scope).Observe(c.Info.RTT.Seconds())
		}
		if c.Info.MinRTT > 0 {
			m.minRTT.WithLabelValues(app, scope).Observe(c.Info.MinRTT.Seconds())
		}
		counts := c.Counts
		if c.WholeLife {
			counts = ping.Counts{}
		}
		m.count(app, scope, counts, 1)
	}
	m.samples.Inc()
	m.open.Set(float64(s.Open))
	m.namespaces.Set(float64(s.Namespaces))
	m.took.Set(s.Took.Seconds())
	m.last.Set(float64(s.Time.UnixMilli()) / 1e3)
	m.skipped.WithLabelValues(reasonNamespace).Set(float64(s.Skipped.Namespaces))
	m.skipped.WithLabelValues(reasonProcess).Set(float64(s.Skipped.Processes))
	m.skipped.WithLabelValues(reasonMessage).Set(float64(s.Skipped.Messages))
	m.skipped.WithLabelValues(reasonConnections).Set(float64(s.Skipped.Connections))
	m.skipped.WithLabelValues(reasonAnswers).Set(float64(s.Skipped.Answers))
}

func (m *Metrics) count(app, scope string, c ping.Counts, connections int) {
	add := func(v *prometheus.CounterVec, n uint64) { v.WithLabelValues(app, scope).Add(float64(n)) }
	add(m.active, uint64(connections))
	add(m.segments, c.DataSegments)
	add(m.repeats, c.Retransmitted)
	add(m.spurious, c.Spurious)
	add(m.reordered, c.Reordered)
	add(m.received, c.DataSegmentsReceived)
	add(m.outOfOrder, c.OutOfOrder)
	add(m.bytesAcked, c.BytesAcked)
	add(m.bytesReceived, c.BytesReceived)
}

func (m *Metrics) app(c *ping.Connection) string {
	for _, app := range m.apps {
		if app == c.Unit || app == c.Command {
			return app
		}
	}
	return Other
}

func scopeOf(a netip.Addr) string {
	switch {
	case a.IsLoopback():
		return scopeLoopback
	case a.IsPrivate(), a.IsLinkLocalUnicast(), sharedSpace.Contains(a):
		return scopePrivate
	}
	return scopeGlobal
}

// Handler serves the page.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		Registry: m.registry, EnableOpenMetrics: true, MaxRequestsInFlight: 4,
	})
}
