package report

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/nametap/nametap/classify"
)

// Notes are the honest sentences of a section.
type Notes struct {
	Shows   string `json:"shows"`
	How     string `json:"how"`
	Unknown string `json:"cannot_know"`
	// Remarks are about this input: what it lacks, what was left out.
	Remarks []string `json:"remarks"`
}

func (n *Notes) remark(format string, args ...any) {
	n.Remarks = append(n.Remarks, fmt.Sprintf(format, args...))
}

// NamingSection is the naming scheme as it was met.
type NamingSection struct {
	Notes
	Names []NameEntry `json:"names"`
	// Drift are the names under an app's domains that no class matches.
	Drift []NameEntry `json:"drift"`
	// More is how many names were met beyond those that are listed.
	More uint64 `json:"more_names"`
}

// NameEntry is one name under an app's domains.
type NameEntry struct {
	Name  string `json:"name"`
	App   string `json:"app"`
	Class string `json:"class"`
	Rule  string `json:"rule"`
	// First is when a flow with the name began first; Asked when the name was
	// first answered, where answers were seen by themselves.
	First     string   `json:"first_flow"`
	Asked     string   `json:"first_answer"`
	Flows     uint64   `json:"flows"`
	Bytes     uint64   `json:"bytes"`
	Answers   uint64   `json:"answers"`
	Addresses []string `json:"addresses"`
	// AddressCount counts all of them, also those that are not listed.
	AddressCount int      `json:"address_count"`
	Ports        []uint16 `json:"ports"`
	Protocol     string   `json:"protocol"`
}

// name is what is gathered of a name.
type name struct {
	verdict classify.Verdict
	first   int64 // of a flow; math.MaxInt64 without one
	asked   int64
	flows   uint64
	bytes   uint64
	answers uint64
	addrs   map[netip.Addr]struct{} // the least ones, so that order does not matter
	most    netip.Addr              // of addrs
	all     *distinct
	ports   map[uint16]uint64
	tls     uint64
}

// lookup returns the entry of a name under an app's domains, nil for other
// names.
func (c *Collector) lookup(text string) *name {
	if n, ok := c.names[text]; ok {
		return n
	}
	verdict := c.opt.Rules.Match(text)
	if verdict.App == classify.OtherName {
		return nil
	}
	if len(c.names) >= maxNames {
		c.refusedNames++
		return nil
	}
	n := &name{
		verdict: verdict, first: math.MaxInt64, asked: math.MaxInt64,
		addrs: map[netip.Addr]struct{}{}, all: newDistinct(exactServers, fine), ports: map[uint16]uint64{},
	}
	c.names[text] = n
	return n
}

func (n *name) address(a netip.Addr) {
	if _, ok := n.addrs[a]; ok {
		return
	}
	n.all.add(hashAddr(a, false))
	if len(n.addrs) >= maxNameServers && !a.Less(n.most) {
		return
	}
	n.addrs[a] = struct{}{}
	if len(n.addrs) > maxNameServers {
		delete(n.addrs, n.most)
	}
	n.most = a
	for x := range n.addrs {
		if n.most.Less(x) {
			n.most = x
		}
	}
}

func (c *Collector) name(r *Record) {
	if r.Name == "" {
		return
	}
	n := c.lookup(r.Name)
	if n == nil {
		return
	}
	n.first = min(n.first, r.Start)
	n.flows++
	n.bytes += r.Bytes[0] + r.Bytes[1]
	if !r.Hidden {
		n.address(r.Server)
	}
	if _, ok := n.ports[r.ServerPort]; ok || len(n.ports) < maxPorts {
		n.ports[r.ServerPort]++
	}
	if r.SNI != "" {
		n.tls++
	}
}

// Answered takes an address of a DNS answer: a name may be asked and never used.
func (c *Collector) Answered(text string, server netip.Addr, at int64) {
	n := c.lookup(text)
	if n == nil {
		return
	}
	n.asked = min(n.asked, at)
	n.answers++
	n.address(server)
}

func (c *Collector) namingSection() NamingSection {
	s := NamingSection{
		Notes: Notes{
			Shows:   "Every name that was met under the apps' domains, where it led, and which rule puts it into which class.",
			How:     "A flow's name is the TLS server name or the DNS question that led to its server; ports and protocol are those of the flows that followed. “TLS” means that a server name was seen in a ClientHello.",
			Unknown: "Names that were asked over encrypted DNS, or before the recording began, appear only if a later ClientHello shows them. A protocol inside TCP is not looked into, and UDP (calls, QUIC) is not counted.",
			Remarks: []string{},
		},
		Names: []NameEntry{}, Drift: []NameEntry{}, More: c.refusedNames,
	}
	for text, n := range c.names {
		e := n.entry(text)
		s.Names = append(s.Names, e)
	}
	slices.SortFunc(s.Names, func(a, b NameEntry) int {
		return cmp.Or(cmp.Compare(b.Flows, a.Flows), cmp.Compare(b.Answers, a.Answers), cmp.Compare(a.Name, b.Name))
	})
	for i := range s.Names {
		if c.names[s.Names[i].Name].verdict.Drift {
			s.Drift = append(s.Drift, s.Names[i])
		}
	}
	switch {
	case len(s.Names) == 0:
		s.remark("No name under any app's domain was met in this input.")
	case c.facts == nil:
		s.remark("Flow records do not tell of names that were asked and never used; give the captures themselves to see those.")
	}
	if s.More > 0 {
		s.remark("%d more names were met than are kept.", s.More)
	}
	return s
}

// Names returns the names of a class that were met, those of most flows first.
func (c *Collector) Names(app, class string) []string {
	var out []string
	for _, e := range c.namingSection().Names {
		if e.App == app && e.Class == class {
			out = append(out, e.Name)
		}
	}
	return out
}

func (n *name) entry(text string) NameEntry {
	e := NameEntry{
		Name: text, App: n.verdict.App, Class: n.verdict.Class, Rule: n.verdict.Rule,
		Flows: n.flows, Bytes: n.bytes, Answers: n.answers, Addresses: []string{}, Ports: []uint16{},
	}
	if n.first != math.MaxInt64 {
		e.First = stamp(n.first)
	}
	if n.asked != math.MaxInt64 {
		e.Asked = stamp(n.asked)
	}
	addrs := make([]netip.Addr, 0, len(n.addrs))
	for a := range n.addrs {
		addrs = append(addrs, a)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	for _, a := range addrs {
		e.Addresses = append(e.Addresses, a.String())
	}
	count, _ := n.all.count()
	e.AddressCount = int(count)
	for p := range n.ports {
		e.Ports = append(e.Ports, p)
	}
	slices.Sort(e.Ports)
	switch {
	case n.flows == 0:
	case n.tls == n.flows:
		e.Protocol = "TLS"
	case n.tls > 0:
		e.Protocol = "TCP, some TLS"
	default:
		e.Protocol = "TCP"
	}
	return e
}

// stamp is a time as reports show it: UTC, to the second.
func stamp(ns int64) string { return time.Unix(0, ns).UTC().Format("2006-01-02T15:04:05Z") }
