package bench

import (
	"math"
	"runtime/metrics"
)

// Names in runtime/metrics.
const (
	pausesMetric   = "/sched/pauses/total/gc:seconds"
	cyclesMetric   = "/gc/cycles/total:gc-cycles"
	collectMetric  = "/cpu/classes/gc/total:cpu-seconds"
	idleMarkMetric = "/cpu/classes/gc/mark/idle:cpu-seconds"
)

// readPauses returns the distribution of all pauses so far.
func readPauses() *metrics.Float64Histogram {
	sample := []metrics.Sample{{Name: pausesMetric}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindFloat64Histogram {
		return &metrics.Float64Histogram{}
	}
	h := *sample[0].Value.Float64Histogram()
	h.Counts = append([]uint64(nil), h.Counts...)
	return &h
}

// pausesBetween sums up the pauses between two readings. Their lengths are the
// upper ends of the runtime's buckets.
func pausesBetween(before, now *metrics.Float64Histogram) Pauses {
	counts := make([]uint64, len(now.Counts))
	var p Pauses
	for i := range counts {
		counts[i] = now.Counts[i]
		if i < len(before.Counts) {
			counts[i] -= before.Counts[i]
		}
		p.Count += int(counts[i])
	}
	rank := int(math.Ceil(float64(p.Count) * 0.99))
	seen := 0
	for i, n := range counts {
		if n == 0 {
			continue
		}
		end := now.Buckets[i+1]
		if math.IsInf(end, 1) {
			end = now.Buckets[i]
		}
		p.Max = end
		if seen < rank {
			p.P99 = end
		}
		seen += int(n)
	}
	return p
}

// collector returns how many cycles the garbage collector has completed, and its
// share of the CPU time that the process has used. What it did on cores that had
// nothing else to do is left out of both sides.
func collector() (cycles uint64, share float64) {
	samples := []metrics.Sample{{Name: cyclesMetric}, {Name: collectMetric}, {Name: idleMarkMetric}}
	metrics.Read(samples)
	if samples[0].Value.Kind() == metrics.KindUint64 {
		cycles = samples[0].Value.Uint64()
	}
	if total := processTime().Seconds(); total > 0 && samples[1].Value.Kind() == metrics.KindFloat64 {
		busy := samples[1].Value.Float64() - samples[2].Value.Float64()
		share = busy / total
	}
	return cycles, share
}
