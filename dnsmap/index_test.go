package dnsmap

import (
	"math/rand/v2"
	"testing"
)

// checkIndex holds the order that searches rely on: every tag can be reached
// from its home over slots that are in use, and no slot is nearer to its home
// than one more than the slot before it.
func checkIndex(t *testing.T, x *index) (mean float64, longest int) {
	t.Helper()
	n, sum := 0, 0
	for pos, s := range x.slots {
		if s == 0 {
			continue
		}
		n++
		d := x.distance(uint32(s>>32), pos)
		sum += d
		longest = max(longest, d)
		if d == 0 {
			continue
		}
		before := (pos + len(x.slots) - 1) % len(x.slots)
		b := x.slots[before]
		if b == 0 || x.distance(uint32(b>>32), before) < d-1 {
			t.Fatalf("slot %d is %d from home, the one before it is %#x", pos, d, b)
		}
	}
	if n != x.used {
		t.Fatalf("%d slots in use, counted %d", n, x.used)
	}
	if n == 0 {
		return 0, 0
	}
	return float64(sum) / float64(n), longest
}

func TestIndexModel(t *testing.T) {
	for _, c := range []struct {
		what    string
		records int
		tags    func(r *rand.Rand) uint32
	}{
		{"random tags", 3000, func(r *rand.Rand) uint32 { return r.Uint32() }},
		{"many equal tags", 3000, func(r *rand.Rand) uint32 { return r.Uint32N(200) << 24 }},
		{"all homes in the last slots, so that runs wrap", 40, func(r *rand.Rand) uint32 { return 0xffffffff - r.Uint32N(1<<20) }},
		{"one record", 1, func(r *rand.Rand) uint32 { return r.Uint32() }},
	} {
		t.Run(c.what, func(t *testing.T) {
			x, err := newIndex(c.records)
			if err != nil {
				t.Fatal(err)
			}
			defer x.close() //nolint:errcheck // memory of a test
			r := rand.New(rand.NewPCG(1, 2))
			tags := map[uint32]uint32{} // record -> tag
			var live []uint32
			for i := range uint32(20 * c.records) {
				if len(live) == c.records || len(live) > 0 && r.IntN(3) == 0 {
					at := r.IntN(len(live))
					record := live[at]
					live[at] = live[len(live)-1]
					live = live[:len(live)-1]
					x.remove(x.find(tags[record], record))
					delete(tags, record)
					continue
				}
				if !x.room() {
					t.Fatalf("no room for record %d of %d", len(live)+1, c.records)
				}
				tags[i+1] = c.tags(r)
				live = append(live, i+1)
				x.add(tags[i+1], i+1)
			}
			checkIndex(t, &x)
			if x.used != len(tags) {
				t.Fatalf("%d in use, want %d", x.used, len(tags))
			}
			for record, tag := range tags {
				if s := x.slots[x.find(tag, record)]; s != uint64(tag)<<32|uint64(record) {
					t.Fatalf("record %d, tag %#x: found slot %#x", record, tag, s)
				}
			}
			for range 1000 {
				tag := c.tags(r)
				found, _, _ := x.seek(tag, x.home(tag), 0)
				if found != 0 && tags[found] != tag {
					t.Fatalf("tag %#x found record %d of tag %#x", tag, found, tags[found])
				}
			}
		})
	}
}

// TestIndexSize holds what an entry costs in the index at the cap.
func TestIndexSize(t *testing.T) {
	const records = 100_000
	x, err := newIndex(records)
	if err != nil {
		t.Fatal(err)
	}
	defer x.close() //nolint:errcheck // memory of a test
	r := rand.New(rand.NewPCG(3, 4))
	for i := range uint32(records) {
		if !x.room() {
			t.Fatalf("no room for record %d", i)
		}
		x.add(r.Uint32(), i+1)
	}
	if cost := float64(8*len(x.slots)) / records; cost > 9.2 {
		t.Errorf("%.2f bytes a record", cost)
	}
	if mean, longest := checkIndex(t, &x); mean > 6 || longest > 100 {
		t.Errorf("mean distance %.1f, longest %d", mean, longest)
	}
}
