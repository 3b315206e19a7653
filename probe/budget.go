package probe

import (
	"fmt"
	"unsafe"

	"github.com/nametap/nametap/flows"
)

// partitions is fixed, so that results hang neither on the number of shards
// nor, where a table overflows, on how its entries were spread.
const partitions = 64

// maxFragments bounds, in bytes, the table of unfinished packets: some 20,000 of
// them at a time. Unlike the other tables it lies in Go's heap, where what is
// reserved counts as used and makes the garbage collector wait for as much again.
const maxFragments = 32 << 20

// MinMemory is the least budget that leaves every table of every partition a
// sensible size.
const MinMemory = 64 << 20

// bytes that one entry costs in its table, index included.
const (
	flowCost     = int64(unsafe.Sizeof(flows.Flow{})) + 12
	entryCost    = 58 // dnsmap.Map
	nameCost     = 74 // dnsmap.Names, a name of up to 42 characters
	presenceCost = 22 // the set is full to three quarters
	holesCost    = 136
	helloCost    = 16<<10 + 256
	dnsTCPCost   = 68<<10 + 256
)

// budget is how many entries each table of one partition may hold.
type budget struct {
	flows, holes, entries, names int
	subscribers, servers         int
	hellos, dnsStreams           int

	// of the engine, not of a partition
	fragments int   // bytes
	sessions  int64 // bytes
	roster    int   // servers in each of the two copies
	allServer int   // presence of servers, all partitions together
	sides     int   // connections whose orientation is remembered, a generation
}

// plan divides memory among the tables. Flows and DNS entries get the most: by
// experience a busy tap holds five entries a flow.
func plan(memory int64) (budget, error) {
	if memory < MinMemory {
		return budget{}, fmt.Errorf("a memory budget of %d MiB is too small; give at least %d MiB (--memory)", memory>>20, MinMemory>>20)
	}
	share := func(percent, cost, least int64) int {
		return int(max(memory/100*percent/partitions/cost, least))
	}
	part := func(percent, cost int64) int { return share(percent, cost, 16) }
	whole := func(percent, cost int64) int { return max(int(memory/100*percent/cost), 1024) }
	return budget{
		flows:       part(38, flowCost),
		entries:     part(33, entryCost),
		names:       part(6, nameCost),
		subscribers: part(2, presenceCost),
		servers:     part(2, presenceCost),
		holes:       part(2, holesCost),
		hellos:      share(2, helloCost, 2),
		dnsStreams:  share(1, dnsTCPCost, 1),
		fragments:   int(min(memory/100*2, maxFragments)),
		sessions:    memory / 100 * 4,
		roster:      whole(1, rosterCost),
		allServer:   whole(2, presenceCost),
		sides:       whole(1, 16),
	}, nil
}
