package probe

import (
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
	Flows, FlowsCap              int
	FlowsEvicted                 uint64
	Entries, EntriesCap          int
	Lookups, Hits                uint64
	EntriesEvicted               uint64
	EntriesExpired               uint64
	LastEvictedAge               int64 // nanoseconds
	Names                        int
	NamesRefused                 uint64
	RosterEvicted                uint64
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
		c := &s.Classes[id]
		c.ClassInfo = rules.Info(uint8(id))
		c.Servers, c.ActiveServers = e.servers.Ever[id], e.servers.Active[id]
	}
	s.Tables.PresenceRefused = e.servers.Refused
	s.Tables.RosterEvicted = e.rosters[0].Evicted
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
	s.Duplicates, s.DuplicateBytes = e.dedup.Packets, e.dedup.Bytes
	e.sessions.snapshot(&s.GTP)
	s.GTP.Gateways = len(e.gateways.parent) - 1
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
	for id := range to.Classes {
		to.Classes[id].Add(&s.classes[id])
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
	t.LastEvictedAge = max(t.LastEvictedAge, stats.LastEvictedAge)
	names := a.names.Stats()
	t.Names += names.Names
	t.NamesRefused += names.Refused
	t.PresenceRefused += a.subscribers.Refused + a.servers.Refused
	for id := range to.Classes {
		to.Classes[id].Subscribers += a.subscribers.Ever[id]
		to.Classes[id].ActiveSubscribers += a.subscribers.Active[id]
	}
}
