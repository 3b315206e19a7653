package report

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/report/chart"
)

// HostingSection is where the classes are served from.
type HostingSection struct {
	Notes
	// Apps are all classes of an app together: an address that serves several
	// of them counts once.
	Apps      []HostingEntry `json:"apps"`
	Classes   []HostingEntry `json:"classes"`
	Systems   []ASEntry      `json:"autonomous_systems"`
	Countries []CountryEntry `json:"countries"`
	Active    ActiveOver     `json:"active_over_time"`
	Churn     Churn          `json:"churn"`
	// KnowsAS and KnowsCountry say that a database was there to ask.
	KnowsAS      bool `json:"knows_as"`
	KnowsCountry bool `json:"knows_country"`
}

// HostingEntry is the addresses of a class or, with an empty Class, of a whole
// app. Prefixes count IPv4.
type HostingEntry struct {
	App       string `json:"app"`
	Class     string `json:"class"`
	Addresses int    `json:"addresses"`
	IPv6      int    `json:"ipv6_addresses"`
	Slash24   int    `json:"slash_24"`
	Slash16   int    `json:"slash_16"`
	Slash8    int    `json:"slash_8"`
	// AlwaysOn were seen in at least nine of ten bins, PeakOnly in none but
	// the busiest third of the bins. Both are 0 where there are too few bins.
	AlwaysOn int `json:"always_on"`
	PeakOnly int `json:"peak_only"`
	Hidden   int `json:"inside_subscriber_prefixes"`
}

// ASEntry is one autonomous system's part.
type ASEntry struct {
	ASN       uint32  `json:"asn"`
	Org       string  `json:"organisation"`
	Addresses int     `json:"addresses"`
	Slash24   int     `json:"slash_24"`
	Slash16   int     `json:"slash_16"`
	Slash8    int     `json:"slash_8"`
	Flows     uint64  `json:"flows"`
	Bytes     uint64  `json:"bytes"`
	Share     float64 `json:"share_of_bytes"`
	// Own is what the AS has in all, by the database.
	Own *Totals `json:"own"`
}

// CountryEntry is one country's part, as the database has it.
type CountryEntry struct {
	Country   string  `json:"country"`
	Addresses int     `json:"addresses"`
	Flows     uint64  `json:"flows"`
	Bytes     uint64  `json:"bytes"`
	Share     float64 `json:"share_of_bytes"`
}

// ActiveOver is how many addresses were active in each bin.
type ActiveOver struct {
	Times
	Classes []ActiveLine `json:"classes"`
}

// ActiveLine is one class's active addresses a bin.
type ActiveLine struct {
	Class  string   `json:"class"`
	Counts []uint64 `json:"addresses"`
}

// Churn is how the set of the apps' addresses changes.
type Churn struct {
	Times
	// Fresh addresses were seen for the first time in the bin, Gone for the
	// last; Seen is how many there were.
	Fresh []int `json:"first_seen"`
	Gone  []int `json:"last_seen"`
	Seen  []int `json:"seen"`
	// Away is how long 19 of 20 addresses that came back had been away at most, in
	// seconds, to a bin's width; 0 where none came back. Nearer than that to the begin
	// of the input a new address cannot be told from one that rested, nor near its
	// end a lost one: FreshFrom is the first bin in which Fresh says something,
	// GoneTo the last in which Gone does. Where no bin says anything FreshFrom is the
	// number of bins, and GoneTo -1.
	Away      float64 `json:"away_s"`
	FreshFrom int     `json:"first_seen_from_bin"`
	GoneTo    int     `json:"last_seen_to_bin"`
}

// told reports whether any bin tells who comes and goes.
func (o *Churn) told() bool { return o.FreshFrom < len(o.Seen) }

// leastPresence is how many bins have to be there before an address is called
// always on.
const leastPresence = 6

// mostReturn is the share of addresses whose longest absence the edges of the input
// have to outlast.
const mostReturn = 0.95

func (c *Collector) hostingSection() HostingSection {
	s := HostingSection{
		Notes: Notes{
			Shows:   "How many server addresses each class uses, in how many networks, whose they are, which are always there and which only at the peak.",
			How:     "An address counts for a class that a flow to it had. Always on: seen in nine of ten bins of time; peak only: seen in none but the busiest third of them. Systems and countries come from the databases that were given, and the sums of a system from the same place.",
			Unknown: "An address that nobody used is not seen, so quiet hours and short inputs make pools look smaller. One address can be many machines, or a cache in the operator's own network. A database knows who an address was given to, not where it answers.",
			Remarks: []string{},
		},
		Apps: []HostingEntry{}, Classes: []HostingEntry{}, Systems: []ASEntry{}, Countries: []CountryEntry{},
		KnowsAS: c.opt.Places.knowsAS(), KnowsCountry: c.opt.Places.knowsPlaces(),
	}
	c.counted(&s)
	c.owners(&s)
	c.active(&s.Active)
	c.churn(&s.Churn)
	if n := c.presence.bins(); n < leastPresence {
		s.remark("The input spans %d %s of %s; it takes %d to tell addresses that are always on from those of the peak, and which come and go.",
			n, plural(n, "bin"), chart.Duration(time.Duration(c.presence.width).Seconds()), leastPresence)
	} else if !s.Churn.told() {
		s.remark("Addresses come back after as long as %s: this input is too short to tell which are new and which are gone.", chart.Duration(s.Churn.Away))
	}
	if !s.KnowsAS {
		s.remark("No --asn-db was given: whose addresses these are is not known.")
	}
	if !s.KnowsCountry {
		s.remark("No --geo-db was given: the countries are not known.")
	}
	return s
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}

// prefixSet counts prefixes of IPv4 addresses.
type prefixSet [3]map[netip.Prefix]struct{}

func (p *prefixSet) add(a netip.Addr) {
	if !a.Is4() {
		return
	}
	for i, n := range lengths {
		if p[i] == nil {
			p[i] = map[netip.Prefix]struct{}{}
		}
		prefix, _ := a.Prefix(n)
		p[i][prefix] = struct{}{}
	}
}

// counted counts the addresses of classes and of apps.
func (c *Collector) counted(s *HostingSection) {
	var apps []string
	for _, id := range c.sorted() {
		k := c.list[id]
		s.Classes = append(s.Classes, c.hosting(k.key, k.servers))
		if k.key.App != classify.OtherName && !slices.Contains(apps, k.key.App) {
			apps = append(apps, k.key.App)
		}
	}
	for _, app := range apps {
		s.Apps = append(s.Apps, c.hosting(classKey{App: app}, c.serversOf(func(k classKey) bool { return k.App == app })))
	}
}

func (c *Collector) hosting(key classKey, servers map[netip.Addr]*server) HostingEntry {
	e := HostingEntry{App: key.App, Class: key.Class, Addresses: len(servers)}
	var prefixes prefixSet
	peak := c.peak(servers)
	bins := c.presence.bins()
	for a, s := range servers {
		if s.hidden {
			e.Hidden++
			continue
		}
		if !a.Is4() {
			e.IPv6++
		}
		prefixes.add(a)
		if bins < leastPresence {
			continue
		}
		if 10*ones(s.mask) >= 9*bins {
			e.AlwaysOn++
		}
		if s.mask&^peak == 0 {
			e.PeakOnly++
		}
	}
	e.Slash24, e.Slash16, e.Slash8 = len(prefixes[0]), len(prefixes[1]), len(prefixes[2])
	return e
}

// peak returns the busiest third of the presence bins, by how many of the
// addresses they saw.
func (c *Collector) peak(servers map[netip.Addr]*server) uint64 {
	bins := c.presence.bins()
	type bin struct{ at, seen int }
	list := make([]bin, bins)
	for i := range list {
		list[i].at = i
		for _, s := range servers {
			if s.mask>>i&1 != 0 {
				list[i].seen++
			}
		}
	}
	slices.SortFunc(list, func(a, b bin) int { return cmp.Or(cmp.Compare(b.seen, a.seen), cmp.Compare(a.at, b.at)) })
	var mask uint64
	for _, b := range list[:(bins+2)/3] {
		mask |= 1 << b.at
	}
	return mask
}

// owners sums up by AS and country the addresses of all apps.
func (c *Collector) owners(s *HostingSection) {
	type owner struct {
		ASEntry
		prefixes prefixSet
	}
	systems, countries := map[uint32]*owner{}, map[string]*CountryEntry{}
	var bytes uint64
	for a, x := range c.appServers() {
		if x.hidden {
			continue
		}
		bytes += x.bytes
		place := c.opt.Places.Lookup(a)
		if s.KnowsAS {
			o := systems[place.ASN]
			if o == nil {
				o = &owner{ASEntry: ASEntry{ASN: place.ASN, Org: place.Org}}
				systems[place.ASN] = o
			}
			if o.Org == "" || place.Org != "" && place.Org < o.Org {
				o.Org = place.Org
			}
			o.Addresses++
			o.Flows += x.flows
			o.Bytes += x.bytes
			o.prefixes.add(a)
		}
		if s.KnowsCountry {
			code := place.Country
			if code == "" {
				code = "unknown"
			}
			e := countries[code]
			if e == nil {
				e = &CountryEntry{Country: code}
				countries[code] = e
			}
			e.Addresses++
			e.Flows += x.flows
			e.Bytes += x.bytes
		}
	}
	wanted := map[uint32]bool{}
	for n := range systems {
		wanted[n] = n != 0
	}
	delete(wanted, 0)
	totals := c.opt.Places.totals(wanted)
	for n, o := range systems {
		o.Slash24, o.Slash16, o.Slash8 = len(o.prefixes[0]), len(o.prefixes[1]), len(o.prefixes[2])
		o.Share = share(o.Bytes, bytes)
		if t, ok := totals[n]; ok {
			o.Own = &t
		}
		if n == 0 {
			o.Org = "not in the database"
		}
		s.Systems = append(s.Systems, o.ASEntry)
	}
	for _, e := range countries {
		e.Share = share(e.Bytes, bytes)
		s.Countries = append(s.Countries, *e)
	}
	slices.SortFunc(s.Systems, func(a, b ASEntry) int { return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.ASN, b.ASN)) })
	slices.SortFunc(s.Countries, func(a, b CountryEntry) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Country, b.Country))
	})
}

// appServers puts the addresses of all classes of apps together.
func (c *Collector) appServers() map[netip.Addr]*server {
	return c.serversOf(func(k classKey) bool { return k.App != classify.OtherName })
}

// serversOf puts the addresses of the classes that are wanted together.
func (c *Collector) serversOf(wanted func(classKey) bool) map[netip.Addr]*server {
	out := map[netip.Addr]*server{}
	for _, k := range c.list {
		if !wanted(k.key) {
			continue
		}
		for a, s := range k.servers {
			x := out[a]
			if x == nil {
				x = &server{}
				out[a] = x
			}
			x.flows += s.flows
			x.bytes += s.bytes
			x.mask |= s.mask
			x.hidden = x.hidden || s.hidden
			if s.rtt > 0 && (x.rtt == 0 || s.rtt < x.rtt) {
				x.rtt = s.rtt
			}
		}
	}
	return out
}

func (c *Collector) active(o *ActiveOver) {
	var row []*displayBin
	o.Times, row = c.times()
	o.Classes = []ActiveLine{}
	for _, id := range c.sorted() {
		if c.list[id].key.App == classify.OtherName {
			continue
		}
		line := ActiveLine{Class: c.list[id].key.String(), Counts: make([]uint64, len(row))}
		for i, b := range row {
			if x := b.peek(id); x != nil {
				line.Counts[i], _ = x.servers.count()
			}
		}
		o.Classes = append(o.Classes, line)
	}
}

func (c *Collector) churn(o *Churn) {
	n := c.presence.bins()
	o.Fresh, o.Gone, o.Seen = make([]int, n), make([]int, n), make([]int, n)
	o.Width = time.Duration(c.presence.width).Seconds()
	if n > 0 {
		o.first = c.presence.base * c.presence.width
		o.First = stamp(o.first)
	}
	var longest [presenceBins]int // addresses by the bins from one that saw them to the next
	for _, s := range c.appServers() {
		first, last, away := -1, -1, 0
		for i := range n {
			if s.mask>>i&1 == 0 {
				continue
			}
			if first < 0 {
				first = i
			} else {
				away = max(away, i-last)
			}
			last = i
			o.Seen[i]++
		}
		if first >= 0 {
			o.Fresh[first]++
			o.Gone[last]++
			longest[away]++
		}
	}
	o.edges(n, longest[1:])
}

// edges finds the bins that say who comes and goes. The first and the last are parts
// of bins, and do not count. Of the addresses that were seen in more than one bin,
// longest[i] were away for i+1 bins at most.
func (o *Churn) edges(n int, longest []int) {
	all := 0
	for _, k := range longest {
		all += k
	}
	o.FreshFrom, o.GoneTo = n, -1
	away, within := 0, 0
	for all > 0 && float64(within) < mostReturn*float64(all) {
		within += longest[away]
		away++
	}
	o.Away = float64(away) * o.Width
	if n >= leastPresence && n-2-away >= 0 {
		o.FreshFrom, o.GoneTo = 1+away, n-2-away
	}
}

func asName(e *ASEntry) string {
	if e.ASN == 0 {
		return e.Org
	}
	return fmt.Sprintf("AS%d %s", e.ASN, e.Org)
}
