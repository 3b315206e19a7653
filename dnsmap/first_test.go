package dnsmap

import (
	"math/rand/v2"
	"testing"
)

// TestIndexFirst holds the search of whole lines to what is there, among tags of
// which many are alike, are 0, or spill out of their line and over the last one.
func TestIndexFirst(t *testing.T) {
	for _, c := range []struct {
		what    string
		records int
		tag     func(r *rand.Rand) uint32
	}{
		{"random", 3000, func(r *rand.Rand) uint32 { return r.Uint32() }},
		{"half of the range", 3000, func(r *rand.Rand) uint32 { return r.Uint32N(4000) << 19 }},
		{"0 among others of its line", 30, func(r *rand.Rand) uint32 { return r.Uint32N(3) }},
		{"0 behind what wraps", 30, func(r *rand.Rand) uint32 { return r.Uint32N(40) - 30 }},
	} {
		t.Run(c.what, func(t *testing.T) {
			x, err := newIndex(c.records)
			if err != nil {
				t.Fatal(err)
			}
			defer x.close() //nolint:errcheck // memory of a test
			r := rand.New(rand.NewPCG(5, 6))
			tagOf, with := map[uint32]uint32{}, map[uint32]int{}
			var live []uint32
			for i := range uint32(10 * c.records) {
				if tag := c.tag(r); len(live) < c.records && r.IntN(3) > 0 && x.room() {
					live = append(live, i+1)
					tagOf[i+1] = tag
					with[tag]++
					x.add(tag, i+1)
				} else if len(live) > 0 {
					at := r.IntN(len(live))
					record := live[at]
					live[at], live = live[len(live)-1], live[:len(live)-1]
					x.remove(x.find(tagOf[record], record))
					with[tagOf[record]]--
					delete(tagOf, record)
				}
				tag := c.tag(r)
				got := x.first(tag)
				if got == 0 && with[tag] > 0 || got != 0 && (tagOf[got] != tag || with[tag] == 0) {
					t.Fatalf("tag %#x, which %d records have: found record %d of tag %#x", tag, with[tag], got, tagOf[got])
				}
			}
			checkIndex(t, &x)
		})
	}
}
