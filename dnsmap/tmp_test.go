package dnsmap

import (
	"fmt"
	"testing"
	"time"
)

func TestTmp(t *testing.T) {
	for _, e := range []int{1_000_000, 10_000_000} {
		b := &testing.B{}
		_ = b
		testing.Benchmark(func(b *testing.B) {
			if b.N > 1 {
				return
			}
			m, keys := benchmarkMap(b, e)
			best := [4]time.Duration{1 << 40, 1 << 40, 1 << 40, 1 << 40}
			var hashes [32]uint64
			for range 60 {
				s := time.Now()
				for _, k := range keys {
					m.Lookup(k, t0)
				}
				best[0] = min(best[0], time.Since(s))
				s = time.Now()
				for i := 0; i < len(keys); i += 32 {
					for j, k := range keys[i : i+32] {
						hashes[j] = m.Hash(k)
					}
					m.Touch(hashes[:])
					for j, k := range keys[i : i+32] {
						m.LookupHash(k, hashes[j], t0)
					}
				}
				best[1] = min(best[1], time.Since(s))
				s = time.Now()
				for i := 0; i < len(keys); i += 32 {
					for j, k := range keys[i : i+32] {
						hashes[j] = m.Hash(k)
					}
					m.Touch(hashes[:])
				}
				best[2] = min(best[2], time.Since(s))
				s = time.Now()
				for _, k := range keys {
					k.Scope = 1
					m.Lookup(k, t0)
				}
				best[3] = min(best[3], time.Since(s))
			}
			for i, d := range best {
				fmt.Println(e, []string{"single", "batch", "hash+touch", "absent"}[i], float64(d)/float64(len(keys)))
			}
		})
	}
}
