package report

import "time"

// presence says in which of at most 64 bins of time each address was seen: one
// word an address. Bins widen as the trace goes on, like a timeline's.
type presence struct {
	width int64
	base  int64 // number of the first bin
	high  int64 // of the last
	any   bool
	each  func(fn func(mask *uint64)) // goes through all masks there are
}

const presenceBins = 64

func newPresence(each func(fn func(mask *uint64))) *presence {
	return &presence{width: int64(time.Hour), each: each}
}

// mask returns the bins that from..to touches, after making room for them.
func (p *presence) mask(from, to int64) uint64 {
	p.reach(from, to)
	low, high := from/p.width-p.base, to/p.width-p.base
	return ^uint64(0) >> (63 - (high - low)) << low
}

func (p *presence) reach(from, to int64) {
	low, high := from/p.width, to/p.width
	if !p.any {
		p.base, p.high, p.any = low, low, true
	}
	for max(high, p.high)-min(low, p.base) >= presenceBins {
		p.widen()
		low, high = from/p.width, to/p.width
	}
	if low < p.base {
		shift := p.base - low
		p.each(func(m *uint64) { *m <<= shift })
		p.base = low
	}
	p.high = max(p.high, high)
}

func (p *presence) widen() {
	next := p.width * 10
	for _, w := range widths {
		if int64(w) > p.width {
			next = int64(w)
			break
		}
	}
	factor := next / p.width
	base := p.base / factor
	p.each(func(m *uint64) {
		var out uint64
		for i := range int64(presenceBins) {
			if *m>>i&1 != 0 {
				out |= 1 << ((p.base+i)/factor - base)
			}
		}
		*m = out
	})
	p.width, p.base, p.high = next, base, p.high/factor
}

// bins is how many there are.
func (p *presence) bins() int {
	if !p.any {
		return 0
	}
	return int(p.high-p.base) + 1
}
