package ping

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Grouping is by what connections are put together.
type Grouping string

// The groupings, as they are written on a command line.
const (
	ByConnection Grouping = "connection"
	ByProcess    Grouping = "process" // by command: all of one program's processes
	ByPID        Grouping = "pid"
	ByUnit       Grouping = "unit"
	ByCgroup     Grouping = "cgroup"
	ByUID        Grouping = "uid"
	ByNamespace  Grouping = "namespace"
	ByRemote     Grouping = "remote"
	ByName       Grouping = "name"
)

// Groupings are all groupings.
var Groupings = []Grouping{ByConnection, ByProcess, ByPID, ByUnit, ByCgroup, ByUID, ByNamespace, ByRemote, ByName}

// ParseGrouping reads a grouping.
func ParseGrouping(text string) (Grouping, error) {
	g := Grouping(text)
	if slices.Contains(Groupings, g) {
		return g, nil
	}
	words := make([]string, len(Groupings))
	for i, g := range Groupings {
		words[i] = string(g)
	}
	return "", fmt.Errorf("%q is none of %s", text, strings.Join(words, ", "))
}

// unknown is the label of what could not be found out.
const unknown = "?"

func (g Grouping) label(c *Connection) string {
	switch g {
	case ByProcess:
		return cmp.Or(c.Command, unknown)
	case ByPID:
		if c.PID == 0 {
			return unknown
		}
		return strconv.Itoa(c.PID) + " " + c.Command
	case ByUnit:
		return cmp.Or(c.Unit, unknown)
	case ByCgroup:
		return cmp.Or(c.Cgroup, unknown)
	case ByUID:
		if c.UID < 0 {
			return unknown
		}
		return strconv.FormatInt(c.UID, 10)
	case ByNamespace:
		return cmp.Or(c.NamespaceName, strconv.FormatUint(c.Namespace, 10))
	case ByRemote:
		return c.Remote.Addr().String()
	case ByName:
		return cmp.Or(c.Name, c.Remote.Addr().String())
	}
	return c.Local.String() + " > " + c.Remote.String()
}

// Row is a group of connections in one period.
type Row struct {
	Label       string
	Connections int
	RTT         Spread        // over the smoothed round-trip times of the connections
	MinRTT      time.Duration // least of all; 0: no sample
	Reordering  uint32        // greatest
	Age         time.Duration // of the oldest figure in RTT
	WholeLife   bool          // Counts of at least one go back to its start
	Counts      Counts
	// One is the connection, where the row is one.
	One *Connection
}

// Spread describes a set of durations. All are 0 where Count is.
type Spread struct {
	Count                    int
	Least, Median, P95, Mean time.Duration
}

// Rows puts the connections together, the label with the greatest number of
// data segments first, then by label.
func (s *Sample) Rows(by Grouping) []Row {
	index := map[string]int{}
	var rows []Row
	var rtts [][]time.Duration
	for i := range s.Connections {
		c := &s.Connections[i]
		label := by.label(c)
		at, ok := index[label]
		if !ok || by == ByConnection { // two namespaces may have the same addresses
			at = len(rows)
			index[label] = at
			rows = append(rows, Row{Label: label, One: c})
			rtts = append(rtts, nil)
		} else {
			rows[at].One = nil
		}
		rows[at].add(c)
		if c.Info.RTT > 0 {
			rtts[at] = append(rtts[at], c.Info.RTT)
		}
	}
	for i := range rows {
		rows[i].RTT = spread(rtts[i])
		if by != ByConnection {
			rows[i].One = nil
		}
	}
	slices.SortStableFunc(rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(b.Counts.DataSegments, a.Counts.DataSegments), cmp.Compare(a.Label, b.Label))
	})
	return rows
}

func (r *Row) add(c *Connection) {
	r.Connections++
	r.Counts.Add(c.Counts)
	r.Reordering = max(r.Reordering, c.Info.Reordering)
	r.WholeLife = r.WholeLife || c.WholeLife
	if c.Info.RTT > 0 {
		r.Age = max(r.Age, c.Age())
	}
	if c.Info.MinRTT > 0 && (r.MinRTT == 0 || c.Info.MinRTT < r.MinRTT) {
		r.MinRTT = c.Info.MinRTT
	}
}

// spread sorts its argument.
func spread(d []time.Duration) Spread {
	if len(d) == 0 {
		return Spread{}
	}
	slices.Sort(d)
	var sum float64
	for _, x := range d {
		sum += float64(x)
	}
	return Spread{
		Count: len(d), Least: d[0], Median: rank(d, 0.5), P95: rank(d, 0.95),
		Mean: time.Duration(math.Round(sum / float64(len(d)))),
	}
}

// rank is the value that a share p of all does not exceed (nearest rank).
func rank(sorted []time.Duration, p float64) time.Duration {
	return sorted[max(0, int(math.Ceil(p*float64(len(sorted))))-1)]
}
