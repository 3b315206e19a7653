package probe

import (
	"slices"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/gtp"
)

// Snapshot is the state of an Engine's counters between two chunks of packets.
// Counters never go down from one snapshot to the next.
type Snapshot struct {
	// Time is the packet time reached, 0 before the first packet.
	Time int64
	// First and Last are the packet times of the first and the last frame.
	First, Last int64
	// Frames and their Bytes on the wire, link layer included.
	Frames, Bytes uint64
	Outcomes      [decode.Outcomes]uint64
	Fragments     decode.FragmentStats
	Source        capture.Stats

	// Duplicates are packets that were copies of others, with their IP bytes.
	Duplicates, DuplicateBytes uint64

	Overload OverloadSnapshot

	// Servings are what the connections to each server met since Watch was
	// called last, in no order and with one server in several places; nil
	// without Config.Servings. They are no counters.
	Servings []Serving

	DNS     DNSSnapshot
	GTP     GTPSnapshot
	Tables  TableSnapshot
	Classes []ClassSnapshot
	// Drift counts names under an app's domains that no class matches.
	Drift uint64
}

// DNSSnapshot is what was seen of DNS.
type DNSSnapshot struct {
	Queries                         uint64
	Responses, Addresses, Malformed uint64
	Rcodes                          [16]uint64
	// Encrypted counts flows to resolvers that the tap cannot read.
	Encrypted uint64
}

// GTPSnapshot is what was seen of tunnels and their control plane.
type GTPSnapshot struct {
	gtp.Counters
	Sessions  int // known now
	Endpoints int // of their tunnels
	// Identified and Anonymous count tunnelled packets with and without a
	// known session.
	Identified, Anonymous uint64
	// Gateways counts those in front of which packets without a known session
	// were seen.
	Gateways int
	APNs     []APNSnapshot
	APNNames []string // that messages of the control plane had, in no order
}

// APNSnapshot is the TCP traffic of one access point name.
type APNSnapshot struct {
	Name string
	APNCounters
	// Classes are in the order of Snapshot.Classes; none where there was no
	// flow.
	Classes []APNClassCounters
}

// TableSnapshot is how full the tables are, and what they had to let go.
type TableSnapshot struct {
	Flows, FlowsCap     int
	FlowsEvicted        uint64
	Entries, EntriesCap int
	Lookups, Hits       uint64
	EntriesEvicted      uint64
	EntriesExpired      uint64
	LastEvictedAge      int64 // nanoseconds
	Names               int
	NamesRefused        uint64
	EntriesRefused      uint64
	// SidesForgotten are connections of which it was remembered which end is the
	// subscriber, because both or neither would do by its prefix.
	SidesForgotten uint64
	// LateHurried are flows that could not wait for a late answer,
	// CopiesUnwatched packets whose copies would not have been told.
	LateHurried, CopiesUnwatched uint64
	RosterEvicted                uint64
	// FactsRefused are addresses of DNS answers that found no room among those
	// that the subscribers of other partitions were to hear of.
	FactsRefused uint64
	// FactsMissed are addresses of DNS answers that one worker learned and
	// another did not hear of, because it was behind: see Workers.
	FactsMissed uint64
	// SubscribersCap is how many pairs of subscriber and class are kept, and
	// SessionsCap how many sessions of the control plane.
	SubscribersCap, SessionsCap  int
	HolesDropped, StreamsRefused uint64
	PresenceRefused              uint64
}

// ClassSnapshot is one class of one app.
type ClassSnapshot struct {
	classify.ClassInfo
	flows.Counters
	Named [classify.EvidenceCount]uint64
	// Subscribers and Servers seen since the start, and in the last five
	// minutes of packet time.
	Subscribers, Servers             int
	ActiveSubscribers, ActiveServers int
	// ServingsMissed counts connections that Servings do not tell of for want of
	// room, each once in a minute in which it had a packet.
	ServingsMissed uint64
	// Networks and ActiveNetworks are the IPv4 networks of the servers.
	Networks, ActiveNetworks NetworkCounts
}

// Snapshot takes the counters. It may be called at any time from any goroutine,
// and holds each shard up for a few microseconds.
func (e *Engine) Snapshot() *Snapshot {
	e.mu.Lock()
	s := e.begun()
	e.mu.Unlock()
	return e.complete(s)
}

// begun takes what the dispatcher owns. e.mu is held.
func (e *Engine) begun() *Snapshot {
	s := &Snapshot{}
	e.dispatched(s)
	rules := e.rules
	s.Classes = make([]ClassSnapshot, rules.Len())
	for id := range s.Classes {
		s.Classes[id].ClassInfo = rules.Info(uint8(id))
	}
	e.common.snapshot(s, e.number)
	s.Tables.RosterEvicted = e.rosters[e.steps&1].Evicted // the one that learned last: where there is one only, it learns each step
	return s
}

// complete adds what the shards own.
func (e *Engine) complete(s *Snapshot) *Snapshot {
	for _, shard := range e.shards {
		shard.mu.Lock()
		shard.snapshot(s)
		shard.mu.Unlock()
	}
	s.Classes = s.Classes[classify.Other:]
	return s
}

func (e *Engine) dispatched(s *Snapshot) {
	s.Time = e.now
	s.First, s.Last = e.counts.first, e.counts.last
	s.Frames, s.Bytes = e.counts.frames, e.counts.bytes
	s.Outcomes = e.counts.outcomes
	s.Fragments = e.decoder.FragmentStats()
	s.DNS.Queries = e.counts.dnsQueries
	s.Overload.Pressure = e.pressure
	for w := range s.Overload.Shedding {
		s.Overload.Shedding[w] = e.shedding.leavesOut(Work(w))
	}
	s.Tables.SidesForgotten = e.sides.known.Forgotten
	s.Tables.CopiesUnwatched = e.dedup.Early
	s.Duplicates, s.DuplicateBytes = e.dedup.Packets, e.dedup.Bytes
	e.sessions.snapshot(&s.GTP)
	s.GTP.Gateways = len(e.gateways.parent) - 1
	s.Tables.SessionsCap = e.sessions.most
	for _, name := range append([]string{"unknown", "other"}, e.cfg.APNs...) {
		s.GTP.APNs = append(s.GTP.APNs, APNSnapshot{Name: name})
	}
	if e.source != nil {
		s.Source = e.source.Stats()
	}
}

// snapshot adds the shard's counters to s. Classes of rules that came a moment
// ago may be ahead of s.Classes; the next snapshot has them.
func (s *shard) snapshot(to *Snapshot) {
	s.welcome()
	to.DNS.Responses += s.dnsResponses
	to.DNS.Addresses += s.dnsAddresses
	to.DNS.Malformed += s.dnsMalformed
	for i, n := range s.dnsRcodes {
		to.DNS.Rcodes[i] += n
	}
	to.DNS.Encrypted += s.encryptedDNS
	to.Drift += s.drift
	for i := range to.GTP.APNs {
		to.GTP.APNs[i].add(&s.apns[i])
		if s.apns[i].Flows > 0 {
			to.GTP.APNs[i].addClasses(s.apnClasses[i][:len(to.Classes)])
		}
	}
	to.Tables.StreamsRefused += s.streamsRefused
	for phase := range s.learned {
		to.Tables.FactsRefused += s.learned[phase].refused
	}
	addAll(to.Overload.Segments[:], s.shed[:])
	to.Overload.Unexamined += s.unexamined
	to.Tables.LateHurried += s.hurried
	for id := range to.Classes {
		to.Classes[id].Add(&s.classes[id])
		to.Classes[id].Subscribers += s.subscribers.Ever[id]
		to.Classes[id].ActiveSubscribers += s.subscribers.Active[id]
		for e, n := range s.named[id] {
			to.Classes[id].Named[e] += n
		}
	}
	for _, a := range s.own {
		a.snapshot(to)
	}
}

// addClasses adds counters that begin with those of no class.
func (a *APNSnapshot) addClasses(classes []APNClassCounters) {
	if a.Classes == nil {
		a.Classes = make([]APNClassCounters, len(classes)-int(classify.Other))
	}
	for i := range a.Classes {
		a.Classes[i].add(&classes[i+int(classify.Other)])
	}
}

func (a *partition) snapshot(to *Snapshot) {
	t := &to.Tables
	t.Flows += a.flows.Len()
	t.FlowsCap += a.flows.Cap()
	t.FlowsEvicted += a.flows.Evicted
	t.HolesDropped += a.flows.HolesDropped
	stats := a.dns.Stats()
	t.Entries += stats.Entries
	t.EntriesCap += a.shard.engine.budget.entries
	t.Lookups += stats.Lookups
	t.Hits += stats.Hits
	t.EntriesEvicted += stats.Evictions
	t.EntriesExpired += stats.Expired
	t.EntriesRefused += stats.Refused
	t.LastEvictedAge = max(t.LastEvictedAge, stats.LastEvictedAge)
	names := a.names.Stats()
	t.Names += names.Names
	t.NamesRefused += names.Refused
	a.serving.snapshot(to)
	t.PresenceRefused += a.subscribers.Refused
	t.SubscribersCap += a.subscribers.most / 4 * 3
}

// merge adds the snapshot of another of the engines that have the first one's
// in common. What all of them know of is not added up.
func (s *Snapshot) merge(o *Snapshot) {
	s.Time, s.Last = max(s.Time, o.Time), max(s.Last, o.Last)
	if s.Frames == 0 || o.Frames > 0 && o.First < s.First {
		s.First = o.First
	}
	s.Frames += o.Frames
	s.Bytes += o.Bytes
	addAll(s.Outcomes[:], o.Outcomes[:])
	s.Fragments.Expired += o.Fragments.Expired
	s.Fragments.Evicted += o.Fragments.Evicted
	s.Fragments.Unfinished += o.Fragments.Unfinished
	s.mergeSource(&o.Source)
	s.Duplicates += o.Duplicates
	s.DuplicateBytes += o.DuplicateBytes
	s.Overload.merge(&o.Overload)
	s.DNS.merge(&o.DNS)
	s.GTP.merge(&o.GTP)
	s.Tables.merge(&o.Tables)
	s.Drift += o.Drift
	s.Servings = append(s.Servings, o.Servings...)
	for i := range o.Classes {
		if i == len(s.Classes) { // a rule set that came to one of them a moment ago
			s.Classes = append(s.Classes, ClassSnapshot{ClassInfo: o.Classes[i].ClassInfo})
		}
		s.Classes[i].merge(&o.Classes[i])
	}
}

func addAll(to, from []uint64) {
	for i, n := range from {
		to[i] += n
	}
}

// mergeSource adds a source's counters. Workers' sources have the same
// interfaces.
func (s *Snapshot) mergeSource(o *capture.Stats) {
	s.Source.WildTimes += o.WildTimes
	s.Source.BadFractions += o.BadFractions
	s.Source.Filtered += o.Filtered
	for i := range o.Interfaces {
		from := &o.Interfaces[i]
		if i == len(s.Source.Interfaces) {
			s.Source.Interfaces = append(s.Source.Interfaces, capture.InterfaceStats{Name: from.Name, Path: from.Path})
		}
		to := &s.Source.Interfaces[i]
		to.Packets += from.Packets
		to.Bytes += from.Bytes
		addAll(to.Drops[:], from.Drops[:])
		to.Freezes += from.Freezes
		to.Rebinds += from.Rebinds
		to.Down = to.Down || from.Down
	}
}

func (s *DNSSnapshot) merge(o *DNSSnapshot) {
	s.Queries += o.Queries
	s.Responses += o.Responses
	s.Addresses += o.Addresses
	s.Malformed += o.Malformed
	addAll(s.Rcodes[:], o.Rcodes[:])
	s.Encrypted += o.Encrypted
}

// merge leaves the messages' counters alone: every engine has seen all of them.
// A session that has been silent for long is forgotten where its subscriber is
// not.
func (s *GTPSnapshot) merge(o *GTPSnapshot) {
	s.Sessions, s.Endpoints = max(s.Sessions, o.Sessions), max(s.Endpoints, o.Endpoints)
	s.Identified += o.Identified
	s.Anonymous += o.Anonymous
	s.Gateways = max(s.Gateways, o.Gateways)
	for i := range o.APNs {
		to, from := &s.APNs[i], &o.APNs[i]
		to.add(&from.APNCounters)
		if len(from.Classes) > 0 {
			to.Classes = append(to.Classes, make([]APNClassCounters, max(len(from.Classes)-len(to.Classes), 0))...)
		}
		for c := range from.Classes {
			to.Classes[c].add(&from.Classes[c])
		}
	}
}

func (s *TableSnapshot) merge(o *TableSnapshot) {
	s.Flows += o.Flows
	s.FlowsCap += o.FlowsCap
	s.FlowsEvicted += o.FlowsEvicted
	s.Entries += o.Entries
	s.EntriesCap += o.EntriesCap
	s.Lookups += o.Lookups
	s.Hits += o.Hits
	s.EntriesEvicted += o.EntriesEvicted
	s.EntriesExpired += o.EntriesExpired
	s.LastEvictedAge = max(s.LastEvictedAge, o.LastEvictedAge)
	s.Names += o.Names
	s.NamesRefused += o.NamesRefused
	s.EntriesRefused += o.EntriesRefused
	s.SidesForgotten += o.SidesForgotten
	s.LateHurried += o.LateHurried
	s.CopiesUnwatched += o.CopiesUnwatched
	s.RosterEvicted = max(s.RosterEvicted, o.RosterEvicted)
	s.FactsMissed += o.FactsMissed
	s.FactsRefused += o.FactsRefused
	s.SubscribersCap += o.SubscribersCap
	s.SessionsCap = max(s.SessionsCap, o.SessionsCap)
	s.HolesDropped += o.HolesDropped
	s.StreamsRefused += o.StreamsRefused
	s.PresenceRefused += o.PresenceRefused
}

func (c *ClassSnapshot) merge(o *ClassSnapshot) {
	c.Add(&o.Counters)
	addAll(c.Named[:], o.Named[:])
	c.Subscribers += o.Subscribers
	c.ActiveSubscribers += o.ActiveSubscribers
	c.Servers, c.ActiveServers = max(c.Servers, o.Servers), max(c.ActiveServers, o.ActiveServers)
	c.ServingsMissed += o.ServingsMissed
	c.Networks.merge(&o.Networks)
	c.ActiveNetworks.merge(&o.ActiveNetworks)
}

// clone returns a copy that merge can add to.
func (s *Snapshot) clone() *Snapshot {
	c := *s
	c.Classes = slices.Clone(s.Classes)
	c.Servings = slices.Clone(s.Servings)
	c.Source.Interfaces = slices.Clone(s.Source.Interfaces)
	c.GTP.APNs = slices.Clone(s.GTP.APNs)
	for i := range c.GTP.APNs {
		c.GTP.APNs[i].Classes = slices.Clone(c.GTP.APNs[i].Classes)
	}
	return &c
}
