package export

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/internal/quantile"
	"github.com/nametap/nametap/internal/steps"
	"github.com/nametap/nametap/probe"
)

// Bounds of what is remembered of servers, and of where steps are looked for.
const (
	mostServers = 1 << 16
	longestRTT  = 5 // seconds: no path is longer
	learnEvery  = int64(time.Minute)
)

// servers puts a class's connections together by where their servers are: a site
// is a step in the least round-trip times of an app's server addresses, which are
// learned on the way; the autonomous system is looked up.
type servers struct {
	asOf  func(netip.Addr) (number uint32, name string) // nil: not known
	known map[serverKey]*serverFacts
	sites map[string][]steps.Step // by app, nearest first
	learn int64                   // packet time at which sites are looked for next
}

type serverKey struct {
	app    string
	server decode.Addr
}

type serverFacts struct {
	least  uint32 // microseconds, 0 before the first
	asn    uint32
	asName string
}

// serverGroup is what one line is about.
type serverGroup struct {
	class  uint8
	site   int // 1 is the nearest, 0 none
	asn    uint32
	asName string
}

// groupFigures add up the Servings of a group.
type groupFigures struct {
	probe.Serving
	servers map[decode.Addr]bool
}

// collect adds the period's servings up by class (under a group of the class
// alone) and by group.
func (v *servers) collect(s *probe.Snapshot) (classes map[uint8]*groupFigures, groups map[serverGroup]*groupFigures) {
	classes, groups = map[uint8]*groupFigures{}, map[serverGroup]*groupFigures{}
	for i := range s.Servings {
		serving := &s.Servings[i]
		if int(serving.Class) >= len(s.Classes) {
			continue
		}
		f := v.facts(s.Classes[serving.Class].App, serving)
		g := serverGroup{class: serving.Class}
		if f != nil {
			g.site, g.asn, g.asName = v.siteOf(s.Classes[serving.Class].App, f.least), f.asn, f.asName
		}
		add(classes, serving.Class, serving)
		add(groups, g, serving)
	}
	if s.Time >= v.learn {
		v.learn = s.Time - s.Time%learnEvery + learnEvery
		v.findSites()
	}
	return classes, groups
}

func add[K comparable](to map[K]*groupFigures, key K, s *probe.Serving) {
	f := to[key]
	if f == nil {
		f = &groupFigures{servers: map[decode.Addr]bool{}}
		to[key] = f
	}
	f.servers[s.Server] = true
	f.Flows += s.Flows
	for d := range 2 {
		f.Samples[d] += s.Samples[d]
		f.Sum[d] += s.Sum[d]
		for b, n := range s.Buckets[d] {
			f.Buckets[d][b] += n
		}
		if least := s.Least[d]; least > 0 && (f.Least[d] == 0 || least < f.Least[d]) {
			f.Least[d] = least
		}
		f.Segments[d] += s.Segments[d]
		f.Retransmitted[d] += s.Retransmitted[d]
		f.LostBefore[d] += s.LostBefore[d]
		f.OutOfOrder[d] += s.OutOfOrder[d]
	}
}

// facts are those of an app's server; nil for one without a place.
func (v *servers) facts(app string, s *probe.Serving) *serverFacts {
	if s.Server == (decode.Addr{}) {
		return nil
	}
	key := serverKey{app, s.Server}
	f := v.known[key]
	if f == nil {
		if len(v.known) >= mostServers {
			return nil
		}
		f = &serverFacts{}
		if v.asOf != nil {
			f.asn, f.asName = v.asOf(s.Server.Netip())
		}
		v.known[key] = f
	}
	const up = 0 // the server side
	if least := s.Least[up]; least > 0 && (f.least == 0 || least < f.least) {
		f.least = least
	}
	return f
}

// findSites looks for steps in the least round-trip times of each app's servers.
func (v *servers) findSites() {
	values := map[string][]float64{}
	for key, f := range v.known {
		if rtt := float64(f.least) * 1e-6; f.least > 0 && rtt < longestRTT {
			values[key.app] = append(values[key.app], rtt)
		}
	}
	for app, list := range values {
		slices.Sort(list)
		v.sites[app] = steps.Of(list, steps.RTTBin, steps.RTTWindows)
	}
}

// siteOf is the number of the site at that round-trip time, in microseconds.
func (v *servers) siteOf(app string, least uint32) int {
	rtt := float64(least) * 1e-6
	for i, s := range v.sites[app] {
		if least > 0 && rtt >= s.From && rtt <= s.To {
			return i + 1
		}
	}
	return 0
}

// sortedGroups are the groups in the order of their lines.
func sortedGroups(groups map[serverGroup]*groupFigures) []serverGroup {
	return slices.SortedFunc(maps.Keys(groups), func(a, b serverGroup) int {
		return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.site, b.site), cmp.Compare(a.asn, b.asn), cmp.Compare(a.asName, b.asName))
	})
}

// appendServers appends what a line says of the servers that it is about. The
// figures may be nil: nothing was followed.
func (v *servers) appendServers(list []field, app string, g *serverGroup, f *groupFigures) []field {
	kind := field{"group", "class", true}
	var site, rtt, asn, asName, count, active field
	if g != nil {
		kind.value = "servers"
		if g.site > 0 {
			site.value, rtt.value = strconv.Itoa(g.site), strconv.FormatFloat(v.sites[app][g.site-1].At, 'f', 6, 64)
		}
		if g.asn > 0 {
			asn.value, asName = strconv.FormatUint(uint64(g.asn), 10), field{"", g.asName, true}
		}
	}
	if f != nil {
		count.value, active.value = strconv.Itoa(len(f.servers)), strconv.FormatUint(f.Flows, 10)
	}
	site.name, rtt.name, asn.name, asName.name, count.name, active.name = "site", "site_rtt_s", "asn", "as_name", "servers", "connections"
	return append(list, kind, site, rtt, asn, asName, count, active)
}

// appendFollowed appends the round-trip times of a group. The quantiles are over
// connections' means, each weighted by its samples: none is below the least.
func appendFollowed(list []field, side string, f *groupFigures, d int) []field {
	least, sum := float64(f.Least[d])*1e-6, float64(f.Sum[d])*1e-6
	var buckets []quantile.Bucket
	for b, n := range f.Buckets[d] {
		if n > 0 {
			low, high := probe.ServingBounds(b)
			buckets = append(buckets, quantile.Bucket{Low: min(max(low, least), high), High: high, Count: uint64(n)})
		}
	}
	return appendQuantiles(list, side, quantile.New(buckets, sum), least, sum/float64(f.Samples[d]))
}
