package atlas

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
)

// Place is what is known of an address from databases: its AS, 0 if unknown,
// and its country, empty if unknown.
type Place struct {
	ASN     uint32
	Org     string
	Country string
}

// Comparer gathers answers and holds them against a set of addresses.
type Comparer struct {
	lookup func(netip.Addr) Place

	answers  int // with at least one address
	empty    int
	rcodes   map[int]int
	failures map[Failure]int
	probes   map[int]struct{}
	names    map[string]int
	addrs    map[netip.Addr]*sighting
	regions  [2]map[string]*region // by country, by AS of the probe
	refused  int
}

// sighting is an address in the answers.
type sighting struct {
	answers int
	askers  map[network]struct{} // of the probes that were told it, the first few
	company netip.Addr           // an address of an answer that has it as well, itself at first
}

// network is where a probe is: its AS or, where that is not known, its prefix or,
// where its address is not told either, the probe itself.
type network struct {
	asn    uint32
	prefix netip.Prefix
	probe  int
}

func networkOf(a *Answer, from Place) network {
	switch {
	case from.ASN != 0:
		return network{asn: from.ASN}
	case a.From.IsValid():
		return network{prefix: neighbourhood(a.From)}
	}
	return network{probe: a.Probe}
}

// neighbourhood stands for an address's AS where that is not known: its /16, and
// of IPv6 its /32, which is what registries give to an operator.
func neighbourhood(a netip.Addr) netip.Prefix {
	bits := 16
	if a.Is6() {
		bits = 32
	}
	p, _ := a.Prefix(bits) // fails only for lengths that do not exist
	return p
}

type region struct {
	probes  map[int]struct{}
	answers int
	addrs   map[netip.Addr]struct{}
}

const (
	maxAddresses = 200_000
	maxAskers    = 2
	maxRegions   = 4096
)

// NewComparer returns a Comparer that has seen nothing. lookup may be nil.
func NewComparer(lookup func(netip.Addr) Place) *Comparer {
	if lookup == nil {
		lookup = func(netip.Addr) Place { return Place{} }
	}
	return &Comparer{
		lookup: lookup, rcodes: map[int]int{}, failures: map[Failure]int{}, probes: map[int]struct{}{}, names: map[string]int{},
		addrs: map[netip.Addr]*sighting{}, regions: [2]map[string]*region{{}, {}},
	}
}

// Names are those that were asked, in order.
func (c *Comparer) Names() []string {
	out := make([]string, 0, len(c.names))
	for n := range c.names {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// Add takes an answer.
func (c *Comparer) Add(a *Answer) {
	c.probes[a.Probe] = struct{}{}
	if a.Failure != "" {
		c.failures[a.Failure]++
		return
	}
	if a.Name != "" && len(c.names) < MaxNames*10 {
		c.names[a.Name]++
	}
	c.rcodes[a.Rcode]++
	if len(a.Addresses) == 0 {
		c.empty++
		return
	}
	c.answers++
	from := Place{}
	if a.From.IsValid() {
		from = c.lookup(a.From)
	}
	labels := [2]string{from.Country, asLabel(from)}
	seen := map[netip.Addr]bool{}
	asker := networkOf(a, from)
	var first netip.Addr // of those that are not private
	for _, addr := range a.Addresses {
		if seen[addr] {
			continue
		}
		seen[addr] = true
		if !c.sight(addr, asker) || private(addr) {
			continue
		}
		if !first.IsValid() {
			first = addr
		}
		c.join(first, addr)
	}
	for i, label := range labels {
		r := c.region(i, label)
		r.probes[a.Probe] = struct{}{}
		r.answers++
		for addr := range seen {
			if len(r.addrs) < maxAddresses {
				r.addrs[addr] = struct{}{}
			}
		}
	}
}

// sight counts an address and reports whether there was room for it.
func (c *Comparer) sight(addr netip.Addr, asker network) bool {
	s := c.addrs[addr]
	if s == nil {
		if len(c.addrs) >= maxAddresses {
			c.refused++
			return false
		}
		s = &sighting{askers: map[network]struct{}{}, company: addr}
		c.addrs[addr] = s
	}
	s.answers++
	if len(s.askers) < maxAskers {
		s.askers[asker] = struct{}{}
	}
	return true
}

// join notes that two addresses came in one answer.
func (c *Comparer) join(a, b netip.Addr) {
	if a, b = c.company(a), c.company(b); a != b {
		c.addrs[a].company = b
	}
}

// company returns the address that stands for all that came together with a, in
// one answer or by a chain of them.
func (c *Comparer) company(a netip.Addr) netip.Addr {
	for c.addrs[a].company != a {
		up := c.addrs[a].company
		c.addrs[a].company = c.addrs[up].company // halve the way for the next one
		a = up
	}
	return a
}

func (c *Comparer) region(i int, label string) *region {
	if label == "" {
		label = "unknown"
	}
	r := c.regions[i][label]
	if r == nil {
		if len(c.regions[i]) >= maxRegions {
			label = "others"
			if r = c.regions[i][label]; r != nil {
				return r
			}
		}
		r = &region{probes: map[int]struct{}{}, addrs: map[netip.Addr]struct{}{}}
		c.regions[i][label] = r
	}
	return r
}

func asLabel(p Place) string {
	if p.ASN == 0 {
		return ""
	}
	return strings.TrimSpace(fmt.Sprintf("AS%d %s", p.ASN, p.Org))
}

// Comparison is the result.
type Comparison struct {
	Probes   int            `json:"probes"`
	Names    []string       `json:"names"`
	Answers  int            `json:"answers"`
	Empty    int            `json:"answers_without_address"`
	Rcodes   map[string]int `json:"rcodes"`
	Failures map[string]int `json:"failures"`

	// Active are the addresses in the answers, without those set apart;
	// Passive those that the tap saw.
	Active       int     `json:"active_addresses"`
	Passive      int     `json:"passive_addresses"`
	Union        int     `json:"union"`
	Intersection int     `json:"intersection"`
	Jaccard      float64 `json:"jaccard"`
	// PassiveCovered is the share of the tap's addresses that the answers
	// have as well.
	PassiveCovered float64  `json:"passive_covered"`
	OnlyActive     []string `json:"only_active"`
	OnlyPassive    []string `json:"only_passive"`

	// Private are addresses that nobody can reach from outside. Lying are
	// those that only probes of one network were told, in an AS (without a
	// database: in a /16, of IPv6 a /32) in which the tap saw none of the
	// app's servers, and never in one answer with an address of which either
	// is not so.
	Private []Apart `json:"private"`
	Lying   []Apart `json:"lying"`

	Rarefaction []Point `json:"rarefaction"`
	// Estimate is how many addresses there are in all, by Chao's estimator
	// from those that few answers had; never less than Active.
	Estimate  float64  `json:"estimated_addresses"`
	Countries []Region `json:"countries"`
	Systems   []Region `json:"autonomous_systems"`
	Notes     []string `json:"notes"`
}

// Apart is an address that is not counted among the app's.
type Apart struct {
	Address string `json:"address"`
	Answers int    `json:"answers"`
	System  string `json:"autonomous_system"`
	// Own says that it lies in the AS of the probes that were told: a cache
	// which that operator keeps for the app looks like this too.
	Own bool `json:"in_the_network_of_its_probes"`
}

// Point of a rarefaction curve: so many answers taken at random hold so many
// different addresses on average.
type Point struct {
	Answers   int     `json:"answers"`
	Addresses float64 `json:"addresses"`
}

// Region is what the probes of a country or an AS were told.
type Region struct {
	Name      string  `json:"name"`
	Probes    int     `json:"probes"`
	Answers   int     `json:"answers"`
	Addresses int     `json:"addresses"`
	Jaccard   float64 `json:"jaccard"` // with the tap's addresses
}

// listed bounds lists of addresses.
const listed = 1000

// special are prefixes of which no address is a server in public: RFC 6890 and
// its successors, as far as netip does not know them itself.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"), netip.MustParsePrefix("2001:db8::/32"),
}

func private(a netip.Addr) bool {
	if a.IsPrivate() || a.IsLoopback() || a.IsUnspecified() || a.IsLinkLocalUnicast() || a.IsMulticast() {
		return true
	}
	return slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Compare holds the answers against the addresses that the tap saw.
func (c *Comparer) Compare(passive []netip.Addr) *Comparison {
	out := &Comparison{
		Probes: len(c.probes), Names: c.Names(), Answers: c.answers, Empty: c.empty, Rcodes: map[string]int{}, Failures: map[string]int{},
		OnlyActive: []string{}, OnlyPassive: []string{}, Private: []Apart{}, Lying: []Apart{}, Rarefaction: []Point{}, Notes: []string{},
	}
	for code, n := range c.rcodes {
		out.Rcodes[rcode(code)] = n
	}
	for f, n := range c.failures {
		out.Failures[string(f)] = n
	}
	t := tapped{lookup: c.lookup, seen: map[netip.Addr]bool{}, home: map[uint32]bool{}, near: map[netip.Prefix]bool{}}
	for _, a := range passive {
		t.add(a)
	}
	active := c.sortOut(out, &t)
	out.Active, out.Passive = len(active), len(t.seen)
	sets(out, active, t.seen)
	out.Rarefaction, out.Estimate = c.rarefy(active)
	out.Countries, out.Systems = c.regional(0, active, t.seen), c.regional(1, active, t.seen)
	out.Notes = c.notes(out, &t)
	return out
}

// notes say what the comparison cannot.
func (c *Comparer) notes(out *Comparison, t *tapped) []string {
	notes := []string{}
	switch {
	case len(t.seen) == 0:
		notes = append(notes, "The tap saw no address of these names' classes: there is nothing to compare with, and lying answers cannot be told.")
	case len(t.home) == 0:
		notes = append(notes, "Without --asn-db networks are told apart by prefixes (/16, of IPv6 /32): a rare address of the app in a prefix of its own can be among the lying ones.")
	}
	if len(out.Lying) > 0 {
		notes = append(notes, "A cache that an operator keeps for the app in its own network, and tells to its own users only, cannot be told from a lie; look at the addresses that were set apart.")
	}
	if c.refused > 0 {
		notes = append(notes, fmt.Sprintf("%d answers had addresses beyond the %d that are kept.", c.refused, maxAddresses))
	}
	return notes
}

// tapped is what the tap saw: addresses, their ASes as far as they are known, and
// their neighbourhoods.
type tapped struct {
	lookup func(netip.Addr) Place
	seen   map[netip.Addr]bool
	home   map[uint32]bool
	near   map[netip.Prefix]bool
}

func (t *tapped) add(a netip.Addr) {
	t.seen[a] = true
	t.near[neighbourhood(a)] = true
	if p := t.lookup(a); p.ASN != 0 {
		t.home[p.ASN] = true
	}
}

// elsewhere says that an address lies in no network in which the tap saw one.
func (t *tapped) elsewhere(a netip.Addr, place Place) bool {
	if len(t.home) > 0 && place.ASN != 0 {
		return !t.home[place.ASN]
	}
	return len(t.seen) > 0 && !t.near[neighbourhood(a)]
}

// sortOut divides the addresses into the app's and those set apart.
func (c *Comparer) sortOut(out *Comparison, t *tapped) map[netip.Addr]bool {
	active, trusted := map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for a, s := range c.addrs {
		if !private(a) && (len(s.askers) > 1 || !t.elsewhere(a, c.lookup(a))) {
			trusted[c.company(a)] = true
		}
	}
	for a, s := range c.addrs {
		place := c.lookup(a)
		apart := Apart{Address: a.String(), Answers: s.answers, System: asLabel(place)}
		_, apart.Own = s.askers[network{asn: place.ASN}]
		apart.Own = apart.Own && place.ASN != 0
		switch {
		case private(a):
			out.Private = append(out.Private, apart)
		case !trusted[c.company(a)]:
			out.Lying = append(out.Lying, apart)
		default:
			active[a] = true
		}
	}
	order := func(a, b Apart) int {
		return cmp.Or(cmp.Compare(b.Answers, a.Answers), cmp.Compare(a.Address, b.Address))
	}
	slices.SortFunc(out.Private, order)
	slices.SortFunc(out.Lying, order)
	return active
}

func sets(out *Comparison, active, seen map[netip.Addr]bool) {
	var onlyActive, onlyPassive []netip.Addr
	for a := range active {
		if seen[a] {
			out.Intersection++
		} else {
			onlyActive = append(onlyActive, a)
		}
	}
	for a := range seen {
		if !active[a] {
			onlyPassive = append(onlyPassive, a)
		}
	}
	out.Union = len(active) + len(seen) - out.Intersection
	out.Jaccard = ratio(out.Intersection, out.Union)
	out.PassiveCovered = ratio(out.Intersection, len(seen))
	out.OnlyActive, out.OnlyPassive = texts(onlyActive), texts(onlyPassive)
}

func texts(list []netip.Addr) []string {
	slices.SortFunc(list, netip.Addr.Compare)
	out := []string{}
	for _, a := range list[:min(len(list), listed)] {
		out = append(out, a.String())
	}
	return out
}

func ratio(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return math.Round(1e6*float64(a)/float64(b)) / 1e6
}

// rarefy computes how many different addresses n answers, drawn at random
// without putting back, hold on average: Σ 1 − C(N−m, n)/C(N, n) over addresses
// that m of all N answers had (Hurlbert 1971). Each answer shows only a part of
// a pool; where the curve still rises, more answers would show more. The total
// is estimated by Chao 2 in its bias-corrected form (Chao 1987).
func (c *Comparer) rarefy(active map[netip.Addr]bool) ([]Point, float64) {
	total := c.answers
	if total == 0 {
		return []Point{}, 0
	}
	counts := map[int]int{} // how many addresses had m answers
	for a := range active {
		counts[c.addrs[a].answers]++
	}
	points := []Point{}
	last := 0
	for i := range 41 {
		n := int(math.Round(float64(total) * float64(i) / 40))
		if i == 1 {
			n = 1
		}
		if n <= last {
			continue
		}
		last = n
		sum := 0.0
		for m, k := range counts {
			sum += float64(k) * (1 - math.Exp(logChoose(total-m, n)-logChoose(total, n)))
		}
		points = append(points, Point{n, math.Round(1000*sum) / 1000})
	}
	once, twice := float64(counts[1]), float64(counts[2])
	estimate := float64(len(active)) + float64(total-1)/float64(total)*once*(once-1)/(2*(twice+1))
	return points, math.Round(10*estimate) / 10
}

// logChoose is the logarithm of the binomial coefficient, minus infinity where
// it is 0.
func logChoose(n, k int) float64 {
	if k > n || n < 0 {
		return math.Inf(-1)
	}
	lgamma := func(x int) float64 { v, _ := math.Lgamma(float64(x) + 1); return v }
	return lgamma(n) - lgamma(k) - lgamma(n-k)
}

func (c *Comparer) regional(i int, active, seen map[netip.Addr]bool) []Region {
	out := []Region{}
	for name, r := range c.regions[i] {
		own, both := 0, 0
		for a := range r.addrs {
			if active[a] {
				own++
				if seen[a] {
					both++
				}
			}
		}
		out = append(out, Region{name, len(r.probes), r.answers, own, ratio(both, own+len(seen)-both)})
	}
	slices.SortFunc(out, func(a, b Region) int { return cmp.Or(cmp.Compare(b.Probes, a.Probes), cmp.Compare(a.Name, b.Name)) })
	return out
}

func rcode(code int) string {
	names := [...]string{"noerror", "formerr", "servfail", "nxdomain", "notimp", "refused"}
	if code >= 0 && code < len(names) {
		return names[code]
	}
	return fmt.Sprintf("rcode%d", code)
}

// WriteJSON writes the comparison as one indented JSON object.
func (c *Comparison) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(c)
}

// writeApart lists the addresses that do not count, those of most answers first.
func (c *Comparison) writeApart(b *strings.Builder) {
	for _, part := range []struct {
		name string
		list []Apart
	}{{"private", c.Private}, {"lying", c.Lying}} {
		if len(part.list) == 0 {
			continue
		}
		b.WriteString("\n")
		t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintf(t, "%s\tanswers\tAS\n", part.name)
		for _, a := range part.list[:min(len(part.list), 20)] {
			system := cmp.Or(a.System, "unknown")
			if a.Own {
				system += ", that of the probes"
			}
			_, _ = fmt.Fprintf(t, "%s\t%d\t%s\n", a.Address, a.Answers, system)
		}
		_ = t.Flush() // a strings.Builder takes everything
		if rest := len(part.list) - 20; rest > 0 {
			fmt.Fprintf(b, "and %d more; --format json has them all\n", rest)
		}
	}
}

// WriteTable writes the comparison for a person.
func (c *Comparison) WriteTable(w io.Writer) error {
	b := &strings.Builder{}
	fmt.Fprintf(b, "%d probes, %d answers with addresses for %d names", c.Probes, c.Answers, len(c.Names))
	if c.Empty > 0 {
		fmt.Fprintf(b, ", %d without", c.Empty)
	}
	b.WriteString("\n")
	for _, f := range []Failure{Timeout, NetError, NoMessage, Malformed} {
		if n := c.Failures[string(f)]; n > 0 {
			fmt.Fprintf(b, "not usable: %s %d\n", f, n)
		}
	}
	fmt.Fprintf(b, "\nactive %d, passive %d, both %d, either %d: Jaccard %.3f; %.1f %% of the passive set confirmed\n",
		c.Active, c.Passive, c.Intersection, c.Union, c.Jaccard, 100*c.PassiveCovered)
	fmt.Fprintf(b, "set apart: %d private, %d lying; some %.0f addresses estimated in all\n\n", len(c.Private), len(c.Lying), c.Estimate)
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(t, "answers\taddresses\t")
	step := max(1, len(c.Rarefaction)/8)
	for i := range c.Rarefaction {
		if p := c.Rarefaction[i]; i%step == 0 || i == len(c.Rarefaction)-1 {
			_, _ = fmt.Fprintf(t, "%d\t%.1f\t\n", p.Answers, p.Addresses)
		}
	}
	_ = t.Flush() // a strings.Builder takes everything
	for _, part := range []struct {
		name string
		list []Region
	}{{"country", c.Countries}, {"probe's AS", c.Systems}} {
		b.WriteString("\n")
		t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintf(t, "%s\tprobes\tanswers\taddresses\tJaccard\n", part.name)
		for _, r := range part.list[:min(len(part.list), 20)] {
			_, _ = fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%.3f\n", r.Name, r.Probes, r.Answers, r.Addresses, r.Jaccard)
		}
		_ = t.Flush() // a strings.Builder takes everything
	}
	c.writeApart(b)
	for _, n := range c.Notes {
		b.WriteString("\n" + n + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
