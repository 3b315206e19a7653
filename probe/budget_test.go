package probe

import (
	"fmt"
	"testing"
	"unsafe"

	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/gtp"
	"github.com/nametap/nametap/internal/arena"
)

// full is what the tables of engines take once each holds what it may.
func (b *budget) full(engines int64) int64 {
	pairs := func(entries int) int64 {
		slots := int64(firstSlots)
		for slots/4*3 < int64(entries) {
			slots *= 2
		}
		return slots * presenceSize
	}
	part := int64(b.flows+1)*flowBytes + flows.IndexBytes(b.flows) + int64(b.entries)*entryCost + int64(b.names)*nameCost +
		pairs(b.subscribers) + int64(b.holes)*holesCost + int64(b.hellos)*helloCost + int64(b.dnsStreams)*dnsTCPCost + int64(b.dnsLong)*dnsLongCost
	part += int64(b.late)*lateCost + 2*int64(b.timedOut)*sightingCost + int64(b.facts)*learnedCost
	if engines > 1 {
		part += int64(b.facts) * inboxCost
	}
	engine := part*partitions + 3*int64(b.ahead)*sightingCost + int64(b.fragments) + gtp.Config{}.ForMemory(b.sessions).Bytes() +
		2*int64(b.roster)*rosterCost + int64(b.sides)*sideCost
	return engine*engines + pairs(b.allServer) + 3*pairs(b.allServer/8)
}

func TestPlan(t *testing.T) {
	if _, err := plan(MinMemory-1, 1); err == nil {
		t.Error("a budget below the least was accepted")
	}
	for _, memory := range []int64{512 << 20, 1 << 30, 3<<30 + 12345, 6 << 30, 64 << 30} {
		for _, engines := range []int64{1, 2, 7} {
			if memory < engines*512<<20 {
				continue
			}
			b, err := plan(memory, int(engines))
			if err != nil {
				t.Fatal(err)
			}
			if full := b.full(engines); full > memory || full < memory*85/100 {
				t.Errorf("%d MiB for %d engines: tables add up to %d MiB", memory>>20, engines, full>>20)
			}
		}
	}
	// Where tables are powers of two long, a budget beside a round one matters.
	for memory := int64(512 << 20); memory <= 4<<30; memory += 5 << 20 {
		b, err := plan(memory, 1)
		if err != nil {
			t.Fatal(err)
		}
		if full := b.full(1); full > memory {
			t.Errorf("%d MiB: tables add up to %d KiB more", memory>>20, (full-memory)>>10)
		}
	}
	// Streams have a least number of places, and the roster of servers.
	b, err := plan(MinMemory, 1)
	if err != nil {
		t.Fatal(err)
	}
	streams := int64(b.hellos)*helloCost*partitions + int64(b.dnsStreams)*dnsTCPCost*partitions + int64(b.dnsLong)*dnsLongCost*partitions
	if full := b.full(1) - streams; full > MinMemory {
		t.Errorf("the least budget: tables add up to %d MiB", full>>20)
	}
}

// TestPlanSetsAside holds that what not everybody wants is in the budget too.
func TestPlanSetsAside(t *testing.T) {
	for _, engines := range []int64{1, 2, 7} {
		for _, memory := range []int64{engines * 512 << 20, 6 << 30, 64 << 30} {
			cfg := Config{Memory: memory, Records: func([]flows.Record) {}}
			b, err := planFor(&cfg, int(engines))
			if err != nil {
				t.Fatal(err)
			}
			// Two flows a frame, and those that time out in two steps.
			waiting := 2*int64(b.ahead) + 2*partitions*int64(b.timedOut)
			records := waiting * engines * (recordCost - sightingCost) // which full has
			if engines > 1 {
				records += batchesAhead * mostHanded * recordCost
			}
			if full := b.full(engines) + records + engines*shardSize; full > memory || records < min(memory/100*recordsShare, mostRecords)*9/10 {
				t.Errorf("%d MiB for %d engines: %d MiB, of which records have %d", memory>>20, engines, full>>20, records>>20)
			}
			if kept := int64(b.recordsKept) * 2 * partitions * engines * int64(unsafe.Sizeof(flows.Record{})); kept > records {
				t.Errorf("%d MiB for %d engines: lists of records that are kept take %d MiB", memory>>20, engines, kept>>20)
			}
		}
	}
	for _, memory := range []int64{MinMemory, 512 << 20, 6 << 30} {
		b, err := planFor(&Config{Memory: memory, Servings: true}, 1)
		if err != nil {
			t.Fatal(err)
		}
		servings := partitions * (int64(b.served)*servedSize + int64(b.flows+1)*4 + int64(b.servers)*servingCost)
		if servings > memory/100*servingsShare || b.served < 500 {
			t.Errorf("%d MiB: %d MiB for %d connections that are followed", memory>>20, servings>>20, b.served*partitions)
		}
		if full := b.full(1) + servings + shardSize; memory > MinMemory && full > memory {
			t.Errorf("%d MiB: %d MiB", memory>>20, full>>20)
		}
	}
	if _, err := planFor(&Config{Memory: 2*MinMemory - 1}, 2); err == nil {
		t.Error("a budget below the least was accepted")
	}
	cfg := Config{Memory: MinMemory, Records: func([]flows.Record) {}}
	if b, err := planFor(&cfg, 1); err != nil || b.ahead < 2*chunkPackets || b.timedOut < 8 {
		t.Errorf("the least budget: records of %d frames and of %d flows that time out may wait, %v", b.ahead, b.timedOut, err)
	}
}

// TestPlanOfACountry holds what the tap of a country needs: ten million flows and
// fifty million entries in 6 GiB, with a fiftieth for partitions that are larger
// than others.
func TestPlanOfACountry(t *testing.T) {
	b, err := plan(6<<30, 1)
	if err != nil {
		t.Fatal(err)
	}
	if n := b.flows * partitions; n < 10_200_000 {
		t.Errorf("%d flows", n)
	}
	if n := b.entries * partitions; n < 51_000_000 {
		t.Errorf("%d entries", n)
	}
}

// TestPlanOfSessions holds that what a country's tap of tunnels needs besides, five
// million sessions, takes less than a gigabyte more, and that no less memory
// holds more of anything.
func TestPlanOfSessions(t *testing.T) {
	var before budget
	for memory := int64(512 << 20); memory <= 32<<30; memory += 512 << 20 {
		b, err := plan(memory, 1)
		if err != nil {
			t.Fatal(err)
		}
		if full := b.full(1); full > memory {
			t.Errorf("%d MiB: tables add up to %d MiB", memory>>20, full>>20)
		}
		if b.flows < before.flows || b.entries < before.entries || b.sessions < before.sessions || b.roster < before.roster {
			t.Errorf("%d MiB: %+v, of less memory %+v", memory>>20, b, before)
		}
		before = b
		sessions := gtp.Config{}.ForMemory(b.sessions).Sessions
		if least := map[int64]int{1: 200_000, 6: 1_250_000, 7: 5_000_000}[memory>>30]; sessions < least {
			t.Errorf("%d MiB: %d sessions, want %d", memory>>20, sessions, least)
		}
		if memory >= 6<<30 && (b.flows*partitions < 10_200_000 || b.entries*partitions < 51_000_000) {
			t.Errorf("%d MiB: %d flows, %d entries", memory>>20, b.flows*partitions, b.entries*partitions)
		}
	}
}

// TestPlanIsKept holds that an engine reserves no more than it was given: what is
// reserved from the start, and what grows, at its full size.
func TestPlanIsKept(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long, and has no goroutines for the race detector to watch")
	}
	for _, memory := range []int64{MinMemory, 512 << 20, 6 << 30} {
		t.Run(fmt.Sprint(memory>>20, "M"), func(t *testing.T) {
			before := arena.Reserved()
			cfg := config(1)
			cfg.Memory = memory
			e := newEngine(t, cfg)
			if got := arena.Reserved() - before; got > memory {
				t.Errorf("%d bytes reserved at the start", got)
			}
			grown := arena.Reserved()
			for mark := range uint64(e.budget.allServer * 2) {
				e.common.servers.seen(mix(mark, 1), 3, 1)
			}
			for i := range e.budget.sides * 4 {
				e.sides.known.put(mix(uint64(i), 2)&^1, i&2 != 0)
				e.sides.asked.put(mix(uint64(i), 3)&^1, false)
				e.sides.tried.put(mix(uint64(i), 4)&^1, false)
			}
			most := presenceSize*int64(e.budget.allServer)/3*4 + 6*8*int64(e.budget.sides)
			if got := arena.Reserved() - grown; got > most {
				t.Errorf("grew by %d bytes, %d planned", got, most)
			}
		})
	}
}
