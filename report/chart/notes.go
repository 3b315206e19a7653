package chart

// note is the name of a mark where it stands: like a flag it touches the line of its
// mark, and no other line runs through it where that can be.
type note struct {
	at       float64 // the mark
	from, to float64 // the name's edges
	row      int     // 0 is next to the data
	side     side
	hidden   bool
}

// side is where a name stands by its mark.
type side uint8

const (
	rightOf side = iota
	leftOf
	onTop // of a line that ends below the name: for names that fit on neither side
)

const (
	noteRows  = 4
	rowHeight = 13
	capHeight = 9
	noteGap   = 8
	flagGap   = 4   // between a line and its name
	lineGap   = 2   // between a line and the name of another
	charWidth = 6.2 // of the style sheet's notes, in most fonts
	// mostPlacements bounds the search: some marks take a few hundred, and where
	// there are many in a heap the best of so many will do.
	mostPlacements = 20_000
)

// What a placement costs: a name that is not there more than all else, then a line
// that runs through one, then height.
const (
	costHidden  = 1000
	costCrossed = 30
	costRow     = 2
	costSide    = 1
)

// placing looks for the cheapest placement of names.
type placing struct {
	options [][]note // of each mark, the cheapest first
	now     []note
	best    []note
	least   int
	tried   int
}

// notes finds places for the names of marks, which are in order. A name that finds no
// room is hidden; tables have them all.
func notes(at []float64, labels []string, width float64) []note {
	p := placing{least: costHidden * (len(at) + 1)}
	for i, x := range at {
		p.options = append(p.options, flags(x, charWidth*float64(len([]rune(labels[i]))), width))
	}
	p.place(0)
	return p.best
}

// flags are the places of a name that lie inside the picture, and none at all.
func flags(x, wide, width float64) []note {
	var out []note
	for row := range noteRows {
		right := note{at: x, from: x + flagGap, to: x + flagGap + wide, row: row, side: rightOf}
		left := note{at: x, from: x - flagGap - wide, to: x - flagGap, row: row, side: leftOf}
		fits := false
		if right.to <= width {
			out, fits = append(out, right), true
		}
		if left.from >= 0 {
			out, fits = append(out, left), true
		}
		if !fits && wide <= width {
			from := min(max(x-wide/2, 0), width-wide)
			out = append(out, note{at: x, from: from, to: from + wide, row: row, side: onTop})
		}
	}
	return append(out, note{at: x, hidden: true})
}

func (n *note) cost() int {
	switch {
	case n.hidden:
		return costHidden
	case n.side == rightOf:
		return costRow * n.row
	}
	return costRow*n.row + costSide
}

// place tries all places of the marks from the one numbered i, as long as that can be
// cheaper than what was found.
func (p *placing) place(cost int) {
	i := len(p.now)
	if cost >= p.least {
		return
	}
	if i == len(p.options) {
		p.best, p.least = append([]note{}, p.now...), cost
		return
	}
	for k := range p.options[i] {
		n := &p.options[i][k]
		if p.tried++; p.tried > mostPlacements && p.best != nil {
			return
		}
		if crossed, free := p.meets(n); free {
			p.now = append(p.now, *n)
			p.place(cost + n.cost() + costCrossed*crossed)
			p.now = p.now[:i]
		}
	}
}

// meets counts the names that lines would run through if n stood beside those that
// stand. It is not free where names would lie on each other.
func (p *placing) meets(n *note) (crossed int, free bool) {
	for i := range p.now {
		o := &p.now[i]
		if n.hidden || o.hidden {
			continue
		}
		if n.row == o.row && n.from < o.to+noteGap && o.from < n.to+noteGap {
			return 0, false
		}
		if n.crosses(o) {
			crossed++
		}
		if o.crosses(n) {
			crossed++
		}
	}
	return crossed, true
}

// crosses reports whether the line of n runs through the name of o.
func (n *note) crosses(o *note) bool {
	if n.at <= o.from-lineGap || n.at >= o.to+lineGap {
		return false
	}
	return n.row > o.row || n.row == o.row && n.side != onTop
}
