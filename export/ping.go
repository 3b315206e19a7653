package export

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/internal/quantile"
	"github.com/nametap/nametap/internal/steps"
	"github.com/nametap/nametap/probe"
)

// PingPeriod is how much packet time a line of the passive ping covers.
const PingPeriod = 10 * time.Second

// Ping writes, every ten seconds of packet time, what the TCP connections of each
// class show of the paths that they use, without a packet being sent: round-trip
// times on both sides of the tap, and segments lost before and after it. Counts
// come with their denominators, so that shares can be added up rightly.
//
// Counts and means are exact. Quantiles and the least are estimates within a bucket
// of 9 %, made so that they agree with the mean; of a single sample they are exact.
//
// Below a class come its groups of servers, where the engine follows them
// (probe.Config.Servings): see ByServers.
type Ping struct {
	out     io.Writer
	csv     bool
	last    *probe.Snapshot
	servers servers
	line    []byte
}

// NewPing returns a Ping that writes to out: JSON Lines, or CSV, to which
// PingHeading belongs.
func NewPing(out io.Writer, csv bool) *Ping {
	return &Ping{out: out, csv: csv, servers: servers{known: map[serverKey]*serverFacts{}, sites: map[string][]steps.Step{}}}
}

// ByServers tells the autonomous systems of the groups of servers, 0 for one that
// is not known. Groups come of themselves where snapshots have Servings: a site is
// a step in the least round-trip times of an app's server addresses, found once a
// minute of packet time among those seen so far, and numbered from the nearest
// on. Their quantiles are over connections' means, each weighted by its samples,
// within buckets of 19 %; their least is that of the connections' whole lives, and
// exact.
func (p *Ping) ByServers(asOf func(netip.Addr) (number uint32, name string)) { p.servers.asOf = asOf }

// PingHeading is what a file of the passive ping begins with: the columns' names
// where it is CSV, else nothing.
func PingHeading(csv bool) []byte {
	if !csv {
		return nil
	}
	return []byte(strings.Join(pingColumns(), ",") + "\n")
}

// Observe writes the lines of the time since the last call: one for each class
// that had packets.
func (p *Ping) Observe(s *probe.Snapshot) error {
	var err error
	classes, groups := p.servers.collect(s)
	order := sortedGroups(groups)
	for i := range s.Classes {
		var before probe.ClassSnapshot
		if p.last != nil && i < len(p.last.Classes) {
			before = p.last.Classes[i]
		}
		if err == nil {
			err = p.class(s, &s.Classes[i], &before, classes[uint8(i)])
		}
		for ; err == nil && len(order) > 0 && int(order[0].class) == i; order = order[1:] {
			err = p.group(s, &s.Classes[i], &order[0], groups[order[0]])
		}
	}
	p.last = s
	if err != nil {
		return fmt.Errorf("writing the passive ping: %w", err)
	}
	return nil
}

// missedColumn, on a class's line, is how many of its connections are in none of
// the lines of its groups, because there was no room to follow them: more --memory.
// Each counts once in a minute in which it had a packet. What the class's own line
// says is complete all the same, but for servers and connections.
const missedColumn = "connections_missed"

// field is one column of a line.
type field struct {
	name, value string
	text        bool
}

func (p *Ping) class(s *probe.Snapshot, c, before *probe.ClassSnapshot, followed *groupFigures) error {
	const up, down = flows.Up, flows.Down
	if c.Packets[up]+c.Packets[down] == before.Packets[up]+before.Packets[down] {
		return nil
	}
	list := append(p.heading(s, c), field{"flows_active", strconv.FormatInt(c.Active, 10), false})
	list = p.servers.appendServers(list, c.App, nil, followed)
	list = appendRTT(list, "server", &c.RTT[up], &before.RTT[up])
	list = appendRTT(list, "access", &c.RTT[down], &before.RTT[down])
	for d, name := range []string{"uplink", "downlink"} {
		lostBefore := c.LostBefore[d] - before.LostBefore[d]
		again := c.Retransmitted[d] - before.Retransmitted[d]
		list = append(list,
			number(name+"_segments", c.Packets[d]-before.Packets[d]),
			number(name+"_lost_before_tap", lostBefore),
			number(name+"_lost_after_tap", again-min(again, lostBefore)),
			number(name+"_out_of_order", c.OutOfOrder[d]-before.OutOfOrder[d]))
	}
	return p.write(append(list, number(missedColumn, c.ServingsMissed-before.ServingsMissed)))
}

// group writes the line of a group of servers.
func (p *Ping) group(s *probe.Snapshot, c *probe.ClassSnapshot, g *serverGroup, f *groupFigures) error {
	list := append(p.heading(s, c), field{name: "flows_active"})
	list = p.servers.appendServers(list, c.App, g, f)
	list = appendFollowed(list, "server", f, int(flows.Up))
	list = appendFollowed(list, "access", f, int(flows.Down))
	for d, name := range []string{"uplink", "downlink"} {
		list = append(list,
			number(name+"_segments", f.Segments[d]), number(name+"_lost_before_tap", f.LostBefore[d]),
			number(name+"_lost_after_tap", f.Retransmitted[d]-min(f.Retransmitted[d], f.LostBefore[d])),
			number(name+"_out_of_order", f.OutOfOrder[d]))
	}
	return p.write(append(list, field{name: missedColumn}))
}

// heading is what every line begins with.
func (p *Ping) heading(s *probe.Snapshot, c *probe.ClassSnapshot) []field {
	start, end := p.period(s)
	return []field{
		{"start", formatTime(start), true},
		{"end", formatTime(end), true},
		{"app", c.App, true},
		{"class", c.Class, true},
	}
}

func (p *Ping) write(list []field) error {
	p.line = p.line[:0]
	for i, f := range list {
		p.line = p.append(p.line, i, f)
	}
	if !p.csv {
		p.line = append(p.line, '}')
	}
	_, err := p.out.Write(append(p.line, '\n'))
	return err
}

// period returns what the lines cover. A snapshot comes with the first packet
// beyond the end of a period, however much later that is: all that has been
// counted since the one before belongs to the period in which that was.
func (p *Ping) period(s *probe.Snapshot) (start, end int64) {
	start = s.First
	if p.last != nil {
		start = p.last.Time
	}
	end = start - start%int64(PingPeriod) + int64(PingPeriod)
	if p.last != nil {
		start = end - int64(PingPeriod)
	}
	return start, min(end, max(s.Time, start))
}

func (p *Ping) append(b []byte, i int, f field) []byte {
	switch {
	case i > 0:
		b = append(b, ',')
	case !p.csv:
		b = append(b, '{')
	}
	if p.csv {
		return append(b, cellOf(f.value)...)
	}
	b = append(strconv.AppendQuote(b, f.name), ':')
	switch {
	case f.text:
		quoted, _ := json.Marshal(f.value) // a string always can be
		return append(b, quoted...)
	case f.value == "":
		return append(b, "null"...)
	}
	return append(b, f.value...)
}

// cellOf quotes what has a comma, a quote or a line break in it (RFC 4180).
func cellOf(text string) string {
	if !strings.ContainsAny(text, ",\"\r\n") {
		return text
	}
	return `"` + strings.ReplaceAll(text, `"`, `""`) + `"`
}

func number(name string, n uint64) field { return field{name, strconv.FormatUint(n, 10), false} }

// appendRTT appends the samples between two states of a histogram.
func appendRTT(list []field, side string, now, before *flows.Histogram) []field {
	q := quantile.Between(before, now)
	mean := (now.Sum - before.Sum) / float64(q.Count())
	least := mean
	if q.Count() > 1 {
		least = min(threeDigits(q.At(0)), mean)
	}
	return appendQuantiles(list, side, q, least, mean)
}

// appendQuantiles appends the round-trip times of a line. The mean is exact, to the
// microsecond; quantiles have three digits, which is more than a bucket tells, and
// never lie below the least. One sample is all of them.
func appendQuantiles(list []field, side string, q *quantile.Samples, least, mean float64) []field {
	n := q.Count()
	value := func(what string, v float64) field {
		f := field{name: side + "_rtt_" + what + "_s"}
		if n > 0 {
			f.value = strconv.FormatFloat(math.Round(v*1e6)/1e6, 'f', -1, 64)
		}
		return f
	}
	at := func(share float64) float64 {
		if n == 1 {
			return mean
		}
		return max(threeDigits(q.At(share)), least)
	}
	return append(list, number(side+"_rtt_samples", n),
		value("least", least), value("median", at(0.5)), value("p95", at(0.95)), value("mean", mean))
}

func threeDigits(v float64) float64 {
	if !(v > 0) {
		return v
	}
	scale := math.Pow(10, 2-math.Floor(math.Log10(v)))
	return math.Round(v*scale) / scale
}

// pingColumns are the names of the columns in their order.
func pingColumns() []string {
	columns := []string{
		"start", "end", "app", "class", "flows_active",
		"group", "site", "site_rtt_s", "asn", "as_name", "servers", "connections",
	}
	for _, side := range []string{"server", "access"} {
		columns = append(columns, side+"_rtt_samples")
		for _, what := range []string{"least", "median", "p95", "mean"} {
			columns = append(columns, side+"_rtt_"+what+"_s")
		}
	}
	for _, d := range []string{"uplink", "downlink"} {
		for _, what := range []string{"segments", "lost_before_tap", "lost_after_tap", "out_of_order"} {
			columns = append(columns, d+"_"+what)
		}
	}
	return append(columns, missedColumn)
}
