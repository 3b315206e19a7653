package probe

import (
	"testing"
	"unsafe"

	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/capture/fanout"
)

// TestWorkersUseAllOfTheirTables holds that the subscribers that the kernel gives
// to one worker are spread over all of its partitions: what lies in the others
// could not be used.
func TestWorkersUseAllOfTheirTables(t *testing.T) {
	const seed, workers, subscribers = 7, 4, 64 * 100
	var got [workers][partitions]int
	for i := range uint32(subscribers) {
		a := decode.AddrFrom4([]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		worker := fanout.Partition(seed, a.Prefix()) % workers
		got[worker][partitionOf(workerSeed(seed), 0, subscriberKey(0, a))]++
	}
	for w := range got {
		for p, n := range got[w] {
			if n < subscribers/workers/partitions/3 {
				t.Errorf("worker %d has %d subscribers in partition %d, want about %d", w, n, p, subscribers/workers/partitions)
			}
		}
	}
}

// TestLinesOfAPartition: what a flow's life reads of its partition does not reach
// from one line of the cache into the next.
func TestLinesOfAPartition(t *testing.T) {
	e := newEngine(t, config(1))
	a := e.parts[0]
	if at := uintptr(unsafe.Pointer(a)); at%64 != 0 || unsafe.Sizeof(*a)%128 != 64 {
		t.Errorf("the first lies at %#x, the next %d bytes behind it", at, unsafe.Sizeof(*a))
	}
	for what, x := range map[string]struct{ first, end uintptr }{
		"tables":      {unsafe.Offsetof(a.shard), unsafe.Offsetof(a.dnsLong) + 8},
		"subscribers": {unsafe.Offsetof(a.recent), unsafe.Offsetof(a.subscribers) + unsafe.Offsetof(a.subscribers.shedOnce)},
		"late":        {unsafe.Offsetof(a.late), unsafe.Offsetof(a.late) + unsafe.Offsetof(a.late.marks)},
	} {
		if x.first/64 != (x.end-1)/64 {
			t.Errorf("%s lie from byte %d to %d", what, x.first, x.end)
		}
	}
}
