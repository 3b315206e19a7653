// Package bench measures the engine with its tables full: memory, time per
// packet and the garbage collector's part at the state of a whole country's
// tap. Frames are forged in memory and take the engine's whole way, from
// decoding to the classes' counters.
package bench

import (
	"context"
	"fmt"
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/probe"
)

// State is the population whose state is built up.
type State struct {
	// Subscribers, at most 2^24 (they are numbered through 10.0.0.0/8).
	Subscribers int
	// Flows that live at the same time, spread evenly over the subscribers.
	Flows int
	// Entries of the DNS map, likewise, rounded up to whole answers of 4.
	Entries int
	// Sessions of the control plane, of as many subscribers; 0 where nothing is
	// tunnelled. Their subscribers are then known by session.
	Sessions int
	// Names that the entries have. Every one of the engine's 64 partitions
	// holds those that its subscribers asked for.
	Names int
	// IPv6 is the share of subscribers, from 0 to 1, that use IPv6 alone.
	IPv6 float64
	// Packets sent over random live flows once all is there.
	Packets int
	// Collections of the garbage collector that are forced meanwhile: of its
	// own accord it may not run once.
	Collections int
	// Memory is the engine's budget, Shards the number of its workers.
	Memory int64
	Shards int
	// Seed of everything that is random, the engine's hashes included.
	Seed uint64
}

// Limits of a State.
const (
	MaxSubscribers = 1 << 24
	MaxNames       = 1 << 20
)

// Check finds sizes that a population cannot have.
func (s *State) Check() error {
	switch {
	case s.Subscribers < 1 || s.Subscribers > MaxSubscribers:
		return fmt.Errorf("%d subscribers: choose 1 to %d", s.Subscribers, MaxSubscribers)
	case s.Flows < 1 || s.Flows > 1<<30 || s.Flows/s.Subscribers > 50_000:
		return fmt.Errorf("%d flows: choose 1 to %d, and no more than 50000 a subscriber", s.Flows, 1<<30)
	case s.Entries < 0 || s.Entries > 1<<30:
		return fmt.Errorf("%d entries: choose 0 to %d", s.Entries, 1<<30)
	case s.Sessions < 0 || s.Sessions > s.Subscribers:
		return fmt.Errorf("%d sessions: choose 0 to %d, one a subscriber", s.Sessions, s.Subscribers)
	case s.Names < 1 || s.Names > MaxNames || s.Entries/perAnswer/s.Subscribers >= s.Names:
		return fmt.Errorf("%d names: choose more than a subscriber's %d answers, and no more than %d", s.Names, s.Entries/perAnswer/s.Subscribers, MaxNames)
	case s.IPv6 < 0 || s.IPv6 > 1:
		return fmt.Errorf("an IPv6 share of %g: choose 0 to 1", s.IPv6)
	case s.Packets < 0 || s.Collections < 0:
		return fmt.Errorf("%d packets and %d collections: neither can be negative", s.Packets, s.Collections)
	}
	return nil
}

// Cost is what a phase took.
type Cost struct {
	// Packets worked; Nanoseconds of CPU time (user and system, all threads)
	// for each, without what it took to forge them.
	Packets     int     `json:"packets"`
	Nanoseconds float64 `json:"ns_per_packet"`
	// Forging is the CPU time, in nanoseconds a packet, of the load itself.
	Forging float64 `json:"forging_ns_per_packet"`
	// Grown is by how many bytes the process grew.
	Grown int64 `json:"grown_bytes"`
}

// Pauses of the program for the garbage collector, as the runtime measures them:
// until the last thread is woken. One that is woken may have the waker's processor
// first, for a slice of the scheduler's (Linux: 1.4 ms where there are two
// processors), which then counts though packets are worked in it.
type Pauses struct {
	Count int     `json:"count"`
	Max   float64 `json:"max_s"`
	P99   float64 `json:"p99_s"`
}

// Result of a run. Sizes are in bytes.
type Result struct {
	Subscribers int `json:"subscribers"`
	Shards      int `json:"shards"`
	// Flows, Entries and Names that the engine holds at full state, and its
	// room for them.
	Flows        int `json:"flows"`
	FlowsLimit   int `json:"flows_limit"`
	Entries      int `json:"entries"`
	EntriesLimit int `json:"entries_limit"`
	Names        int `json:"names"`
	// Sessions of the control plane, and the engine's room for them. Those that
	// found none pushed out others: SessionsEvicted. Identified is how many of
	// the packets in tunnels, one a session, were found to be of one.
	Sessions        int    `json:"sessions"`
	SessionsLimit   int    `json:"sessions_limit"`
	SessionsEvicted uint64 `json:"sessions_evicted"`
	Identified      uint64 `json:"identified_packets"`
	// Evictions of flows and entries; Forgotten servers of the roster, which
	// only other subscribers' evidence rests on; Refusals are what found no
	// room in any other table.
	Evictions uint64 `json:"evictions"`
	Forgotten uint64 `json:"servers_forgotten"`
	Refusals  uint64 `json:"refusals"`
	// Named is how many flows got a name from DNS.
	Named uint64 `json:"named_by_dns"`

	Budget int64 `json:"budget_bytes"`
	// Empty is the size of the process before the first packet, Resident that
	// at full state, Peak the largest ever; 0 where it is not known.
	Empty    uint64 `json:"empty_bytes"`
	Resident uint64 `json:"resident_bytes"`
	Peak     uint64 `json:"peak_bytes"`
	// PerFlow and PerEntry are what one of them made the process grow by:
	// its record and index, names, presence and all else included.
	PerFlow  float64 `json:"bytes_per_flow"`
	PerEntry float64 `json:"bytes_per_entry"`
	// PerSession likewise, its tunnel endpoints included.
	PerSession float64 `json:"bytes_per_session"`

	// Attaching is what a message of the control plane costs, two a session;
	// Looking a packet in the tunnel of a random session.
	Attaching Cost `json:"filling_sessions"`
	Looking   Cost `json:"looking_up_sessions"`

	Answers Cost `json:"filling_dns"`
	Opening Cost `json:"filling_flows"`
	Full    Cost `json:"full"`

	// Collections are complete cycles of the garbage collector over the whole
	// run, CollectorShare its part of all CPU time.
	Collections    uint64  `json:"collections"`
	CollectorShare float64 `json:"collector_cpu_share"`
	// Pauses are those at full state, FillingPauses those before: a table that
	// grows lets the collector wait until its next memory is there.
	Pauses        Pauses `json:"pauses"`
	FillingPauses Pauses `json:"filling_pauses"`
}

// Run builds the state up and measures. Before each phase, progress, if not
// nil, is told in words what comes.
func Run(ctx context.Context, s State, progress func(string)) (*Result, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	engine, err := probe.New(probe.Config{
		Shards: s.Shards, Memory: s.Memory, Subscribers: probe.DefaultSubscribers(), Cascade: classify.DefaultCascade(),
		DNSGrace: 10 * time.Second, DNSStale: 6 * time.Hour, Rules: classify.Builtin(), Dedup: 10 * time.Millisecond, Seed: s.Seed,
		// The packets come as a live tap's: nothing is read ahead, and what was read
		// before is worked or being worked when the next is. A phase that is over
		// could not be waited for otherwise. The clock is of silence, and there is
		// none.
		Clock: func() int64 { return 0 },
	})
	if err != nil {
		return nil, err
	}
	m := &meter{state: s, engine: engine, progress: progress}
	runtime.GC()
	m.load = newLoad(s, m.turned, threadTime)
	if err := engine.Run(ctx, m); err != nil {
		return nil, err
	}
	if m.result == nil {
		return nil, context.Cause(ctx)
	}
	return m.result, nil
}

// meter stands between load and engine and reads the instruments where a phase
// begins and ends.
type meter struct {
	*load
	state    State
	engine   *probe.Engine
	progress func(string)
	marks    [phases]mark
	forges   [phases]time.Duration
	pauses   [phases]*metrics.Float64Histogram // at its beginning
	next     int                               // frame of the visits at which to collect next
	result   *Result
}

// mark is what the instruments show at the beginning of a phase.
type mark struct {
	cpu      time.Duration
	resident uint64
}

// Next passes a batch on, and collects garbage in between where it is time to.
func (m *meter) Next(b *capture.Batch) error {
	if m.at == visiting && m.state.Collections > 0 && m.n >= m.next {
		m.next += max(m.state.Packets/m.state.Collections, 1)
		go runtime.GC() // beside the packets, as it would of its own accord
	}
	return m.load.Next(b)
}

// turned is called before the first frame of each phase.
func (m *meter) turned(p phase) {
	m.catchUp()
	now, peak := residentMemory()
	m.marks[p] = mark{processTime(), now}
	m.pauses[p] = readPauses()
	if m.load != nil && p > attaching {
		m.forges[p-1] = m.forge
	}
	switch p {
	case attaching, looking:
		if m.state.Sessions > 0 && p == attaching {
			m.say(fmt.Sprintf("making %d sessions", m.state.Sessions))
		}
	case answering:
		m.say(fmt.Sprintf("sending %d DNS answers", m.answers()))
	case opening:
		m.say(fmt.Sprintf("opening %d connections", m.state.Flows))
	case visiting:
		m.say(fmt.Sprintf("%d connections held; sending %d packets over random ones of those opened", m.engine.Snapshot().Tables.Flows, m.state.Packets))
	case over:
		m.result = m.measure(now, peak)
	}
}

// catchUp waits until the workers are through with what was handed to them: a
// few thousand packets at most. What never comes to be counted is not waited for
// long.
func (m *meter) catchUp() {
	if m.load == nil {
		return
	}
	for range 200 {
		s := m.engine.Snapshot()
		worked := s.DNS.Responses + s.Duplicates
		for _, n := range s.GTP.Messages {
			worked += n
		}
		for i := range s.Classes {
			worked += s.Classes[i].Packets[flows.Up] + s.Classes[i].Packets[flows.Down]
		}
		if worked >= m.frames {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func (m *meter) answers() int { return (m.state.Entries + perAnswer - 1) / perAnswer }

func (m *meter) say(what string) {
	if m.progress != nil {
		m.progress(what)
	}
}

// cost of a phase that is over.
func (m *meter) cost(p phase) Cost {
	c := Cost{Packets: m.size(p)}
	if c.Packets == 0 {
		return c
	}
	spent := m.marks[p+1].cpu - m.marks[p].cpu
	c.Forging = float64(m.forges[p]) / float64(c.Packets)
	c.Nanoseconds = float64(spent)/float64(c.Packets) - c.Forging
	c.Grown = int64(m.marks[p+1].resident) - int64(m.marks[p].resident)
	return c
}

// measure reads everything at full state.
func (m *meter) measure(resident, peak uint64) *Result {
	s := m.engine.Snapshot()
	t := &s.Tables
	r := &Result{
		Subscribers: m.state.Subscribers, Shards: m.state.Shards, Budget: m.state.Memory,
		Flows: t.Flows, FlowsLimit: t.FlowsCap, Entries: t.Entries, EntriesLimit: t.EntriesCap, Names: t.Names,
		Evictions: t.FlowsEvicted + t.EntriesEvicted, Forgotten: t.RosterEvicted,
		Refusals: t.NamesRefused + t.PresenceRefused + t.StreamsRefused + t.HolesDropped,
		Sessions: s.GTP.Sessions, SessionsLimit: t.SessionsCap, SessionsEvicted: s.GTP.Evicted, Identified: s.GTP.Identified,
		Attaching: m.cost(attaching), Looking: m.cost(looking),
		Empty: m.marks[attaching].resident, Resident: resident, Peak: peak,
		Answers: m.cost(answering), Opening: m.cost(opening), Full: m.cost(visiting),
		Pauses:        pausesBetween(m.pauses[visiting], m.pauses[over]),
		FillingPauses: pausesBetween(m.pauses[attaching], m.pauses[visiting]),
	}
	for i := range s.Classes {
		r.Named += s.Classes[i].Named[classify.EvidenceDNS]
	}
	if t.Flows > 0 {
		r.PerFlow = float64(r.Opening.Grown) / float64(t.Flows)
	}
	if t.Entries > 0 {
		r.PerEntry = float64(r.Answers.Grown) / float64(t.Entries)
	}
	if s.GTP.Sessions > 0 {
		r.PerSession = float64(r.Attaching.Grown) / float64(s.GTP.Sessions)
	}
	r.Collections, r.CollectorShare = collector()
	return r
}
