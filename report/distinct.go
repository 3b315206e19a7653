package report

import (
	"net/netip"

	"github.com/axiomhq/hyperloglog"
)

// distinct counts different things: exactly up to limit, estimated beyond it
// (HyperLogLog, Flajolet et al. 2007; 2^precision registers, a standard error of
// 1.04/√registers). Two of them can be added.
type distinct struct {
	limit     int
	precision uint8
	exact     map[uint64]struct{}
	sketch    *hyperloglog.Sketch
}

// Precisions: 0.8 % for what stands in tables, 3.3 % for what there is one of a
// time bin.
const (
	fine   = 14
	coarse = 10
)

func newDistinct(limit int, precision uint8) *distinct {
	return &distinct{limit: limit, precision: precision, exact: map[uint64]struct{}{}}
}

func (d *distinct) add(hash uint64) {
	if d.sketch != nil {
		d.sketch.InsertHash(hash)
		return
	}
	d.exact[hash] = struct{}{}
	if len(d.exact) > d.limit {
		d.overflow()
	}
}

func (d *distinct) overflow() {
	sketch, err := hyperloglog.NewSketch(d.precision, false)
	if err != nil {
		panic("report: the precision is a constant: " + err.Error())
	}
	for h := range d.exact {
		sketch.InsertHash(h)
	}
	d.sketch, d.exact = sketch, nil
}

func (d *distinct) merge(o *distinct) {
	if o.sketch == nil {
		for h := range o.exact {
			d.add(h)
		}
		return
	}
	if d.sketch == nil {
		d.overflow()
	}
	if err := d.sketch.Merge(o.sketch); err != nil {
		panic("report: sketches of one kind have one precision: " + err.Error())
	}
}

// count returns the number, and whether it is exact.
func (d *distinct) count() (n uint64, exact bool) {
	if d == nil {
		return 0, true
	}
	if d.sketch == nil {
		return uint64(len(d.exact)), true
	}
	return d.sketch.Estimate(), false
}

// hashAddr mixes an address. An IPv6 subscriber is its /64 (contract).
func hashAddr(a netip.Addr, subscriber bool) uint64 {
	b := a.As16()
	var hi, lo uint64
	for i := range 8 {
		hi, lo = hi<<8|uint64(b[i]), lo<<8|uint64(b[i+8])
	}
	if subscriber && a.Is6() && !a.Is4In6() {
		lo = 0
	}
	return mix64(mix64(hi+0x9e3779b97f4a7c15) ^ lo)
}

// mix64 is the finalizer of SplitMix64 (Steele, Lea and Flood 2014).
func mix64(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
