package probe

import (
	"fmt"
	"math"
	"math/bits"
	"sort"
	"unsafe"

	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/gtp"
)

// partitions is fixed, so that results hang neither on the number of shards
// nor, where a table overflows, on how its entries were spread.
const partitions = 64

// maxFragments bounds, in bytes, the table of unfinished packets: some 20,000 of
// them at a time. Unlike the other tables it lies in Go's heap, where what is
// reserved counts as used and makes the garbage collector wait for as much again.
const maxFragments = 32 << 20

// mostFlows is how many flows a partition may hold: a record of any of a shard's
// partitions has a number of 32 bits.
const mostFlows = (math.MaxUint32 - 1) / partitions

// MinMemory is the least budget that leaves every table of every partition a
// sensible size.
const MinMemory = 64 << 20

// bytes that one entry costs in its table, index included. Tables that are
// powers of two large are worked out by themselves.
const (
	flowBytes = flows.FlowBytes
	entryCost = 42 // dnsmap.Map: 41.2
	nameCost  = 74 // dnsmap.Names, a name of up to 42 characters
	// lateCost is a flow that waits, and what those that are settled in two steps
	// leave of their servers (lateShare).
	lateSize     = int64(unsafe.Sizeof(lateFlow{}))
	lateCost     = lateSize + 2*sightingCost/lateShare
	presenceSize = int64(unsafe.Sizeof(pair(0)))
	holesCost    = 136
	helloCost    = 16<<10 + 256
	dnsTCPCost   = dnsWindow + 256
	dnsLongCost  = dnsLongWindow + 256
	// sideCost is two generations each of known connections, of tried ones and of
	// addresses that asked, a third of each while the oldest makes room, and an
	// address behind a gateway.
	sideCost = 3*3*8 + int64(unsafe.Sizeof(behindSlot{}))
	// learnedCost is a fact with its name, in a partition's buffers of two steps,
	// in the two lists that all of a step are put together in, and in a worker's
	// inbox and, from there, in those two lists again.
	factSize    = int64(unsafe.Sizeof(fact{})) + nameRoom
	learnedCost = 4 * factSize
	inboxCost   = 3 * factSize
	// sightingCost is that of one in a list, which may have twice the room it needs.
	sightingCost          = 2 * int64(unsafe.Sizeof(sighting{}))
	leastAhead, mostAhead = 8 << 10, 64 << 10
	// recordCost is a record with its names, what a partition keeps of a list that
	// was longer, and the sighting that its flow may leave.
	recordCost = 2*int64(unsafe.Sizeof(flows.Record{})) + 224 + sightingCost
)

// shardSize is that of a shard's counters, of which an engine has one at least. More
// shards are not in the plan: what tables hold must not hang on how many there are.
const shardSize = int64(unsafe.Sizeof(shard{}))

// budget is how many entries each table of one partition may hold.
type budget struct {
	flows, holes, entries, names int
	subscribers                  int
	hellos, dnsStreams, dnsLong  int
	late                         int // flows that wait for a late answer
	facts                        int // of a step

	// of what waits for the end of a step: see early.go
	ahead       int // frames
	timedOut    int // flows of a partition and step
	recordsKept int // length of a list of records that is not given up

	// of Snapshot.Servings, where somebody wants them
	served  int // connections followed
	servers int // places

	// of the engine, not of a partition
	fragments int   // bytes
	sessions  int64 // bytes
	roster    int   // servers in each of the two copies
	allServer int   // presence of servers, all partitions of all engines together
	sides     int   // connections whose orientation is remembered, a generation
}

// What every engine needs whole, because it tells of all subscribers: sessions
// and rosters, in percent of the memory. Those of all engines together may take
// mostWhole.
const (
	sessionShare = 5
	rosterShare  = 2
	mostWhole    = 28
)

// country is the memory that holds ten million flows and fifty million entries.
// Of what goes beyond, sessions get all until there is room for countrySessions:
// a tap that sees tunnels then needs a seventh more than one that does not.
const (
	country         = 6 << 30
	countrySessions = 5_000_000
)

// whole is what of memory sessions and rosters of each engine take.
func whole(memory, engines int64) (sessions, roster int64) {
	hundredth := memory / 100
	sessions, roster = hundredth*sessionShare, hundredth*rosterShare
	if beyond := memory - country; beyond > 0 {
		full := gtp.Config{Sessions: countrySessions}.Bytes()
		sessions = max(sessions, min(country/100*sessionShare+beyond/100*(100/engines-rosterShare), full))
	}
	if most := hundredth * mostWhole / engines; sessions+roster > most {
		roster = min(roster, most*rosterShare/(sessionShare+rosterShare))
		sessions = most - roster
	}
	return sessions, roster
}

// learned is how many facts all partitions learn in a step.
func (b *budget) learned() int { return b.facts * partitions }

// Records that wait to be given out get a share of the memory, in percent, and
// so much at most.
const (
	recordsShare = 4
	mostRecords  = 128 << 20
)

// Connections that are followed for Servings get a share of the memory, in
// percent, and their servers a fourth of that.
const (
	servingsShare = 8
	mostServings  = 256 << 20
	servedSize    = int64(unsafe.Sizeof(servedFlow{}))
	// servingCost is a server's place, the same in a snapshot, and what finds it.
	servingCost = 2*int64(unsafe.Sizeof(Serving{})) + 64
)

// serve sets what may be followed in so many bytes of one engine.
func (b *budget) serve(bytes int64) {
	part := bytes / partitions
	b.servers = int(min(max(part/4/servingCost, leastServers), mostServers))
	part -= int64(b.servers)*servingCost + int64(b.flows+1)*4
	b.served = int(min(max(part/servedSize, 16), int64(b.flows)))
}

// planFor divides the memory of so many engines with that configuration. What
// not everybody wants comes first; the tables share the rest.
func planFor(cfg *Config, engines int) (budget, error) {
	if least := int64(MinMemory) * int64(engines); cfg.Memory < least {
		return budget{}, tooSmall(cfg.Memory, least)
	}
	aside := int64(engines) * shardSize
	records := int64(0)
	if cfg.Records != nil {
		records = min(cfg.Memory/100*recordsShare, mostRecords)
		aside += records
		if engines > 1 {
			aside += (batchesAhead + 1) * mostHanded * recordCost
		}
	}
	servings := int64(0)
	if cfg.Servings {
		servings = min(cfg.Memory/100*servingsShare, mostServings)
		aside += servings
	}
	b := divide(cfg.Memory-aside, engines)
	if cfg.Servings {
		b.serve(servings / int64(engines))
	}
	if records > 0 {
		n := int(records / int64(engines) / recordCost)
		b.ahead, b.timedOut, b.recordsKept = min(b.ahead, n/4), n/4/partitions, n/partitions/2
	}
	return b, nil
}

func tooSmall(memory, least int64) error {
	return fmt.Errorf("a memory budget of %d MiB is too small; give at least %d MiB (--memory)", memory>>20, least>>20)
}

// plan divides memory among the tables of so many engines, which have the same
// each. Flows and DNS entries get the most: by experience a busy tap holds five
// entries a flow. 6 GiB hold ten million flows and fifty million entries, with
// the fiftieth of room besides that partitions of unequal size need, and 1.25
// million sessions; 7 GiB hold five million sessions with them.
//
// All tables together never take more than memory, but for three things that are
// small beside it: a table that doubles is there twice for the blink of an eye,
// one partition at a time; what tables leave when they double waits, as part of a
// huge page, for others to take it; and below half a gigabyte an engine the places
// where the first bytes of streams are gathered have a least number each.
func plan(memory int64, engines int) (budget, error) {
	if least := int64(MinMemory) * int64(engines); memory < least {
		return budget{}, tooSmall(memory, least)
	}
	return divide(memory, engines), nil
}

func divide(memory int64, engines int) budget {
	n := int64(engines)
	sessions, roster := whole(memory, n)
	one := (memory - (sessions+roster)*n) / (100 - sessionShare - rosterShare) / n // a hundredth, of what is left to an engine
	permille := func(share int64) int64 { return one * share / 10 }
	part := func(share, cost, least int64) int { return int(max(permille(share)/partitions/cost, least)) }
	learned := learnedCost
	if engines > 1 {
		learned += inboxCost
	}
	ahead := min(max(permille(1)/(3*sightingCost), leastAhead), mostAhead)
	one -= max(ahead*3*sightingCost-permille(1), 0) / (100 - sessionShare - rosterShare)
	return budget{
		flows:       min(max(flowsIn(permille(477)/partitions), 16), mostFlows),
		entries:     part(333, entryCost, 16),
		names:       part(28, nameCost, 16),
		subscribers: presenceIn(permille(22) / partitions),
		holes:       part(10, holesCost, 16),
		hellos:      part(10, helloCost, 2),
		dnsStreams:  part(8, dnsTCPCost, 2),
		dnsLong:     part(4, dnsLongCost, 1),
		late:        int(powerOfTwo(permille(4) / partitions / lateCost)),
		facts:       part(6, learned, 64),
		ahead:       int(ahead),
		timedOut:    part(1, 2*sightingCost, 16), // of two steps
		fragments:   int(min(one, maxFragments)),
		sessions:    sessions,
		roster:      max(int(roster/2/rosterCost), 1024),
		allServer:   presenceIn(permille(14) * n / 2), // and as much for their networks, at most
		sides:       int(powerOfTwo(permille(10) / sideCost)),
	}
}

// flowsIn is how many flows fit into so many bytes, with their index, whose length
// is a power of two.
func flowsIn(bytes int64) int {
	most := int(bytes / flowBytes)
	return sort.Search(most, func(n int) bool { return int64(n+2)*flowBytes+flows.IndexBytes(n+1) > bytes })
}

// presenceIn is how many pairs a set of at most so many bytes holds: three
// quarters of its slots.
func presenceIn(bytes int64) int { return int(powerOfTwo(max(bytes/presenceSize, firstSlots)) / 4 * 3) }

// powerOfTwo is the largest that is not above n, which is at least 1.
func powerOfTwo(n int64) int64 { return 1 << (bits.Len64(uint64(max(n, 1))) - 1) }
