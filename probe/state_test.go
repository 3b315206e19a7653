package probe

import (
	"testing"

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
