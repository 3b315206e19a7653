package classify

import (
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
)

// answer is the outcome of a search that may have to give up.
type answer uint8

const (
	unknown answer = iota
	yes
	no
)

// The bounds of a search, and of all searches of one file together. A hostile
// file may hold expressions whose product is huge; a search that runs out says
// unknown, and the class counts as reachable.
const (
	maxInstructions = 20_000
	maxVisits       = 4_000_000
)

// winnable decides whether some host name under one of the domains is matched
// by one of own and by none of earlier; with yes comes such a name.
//
// RE2 expressions are regular, so this can be decided and need not be guessed:
// the compiled programs run side by side over all host names at once, and the
// search is over the sets of instructions that they can be in (the subset
// construction), breadth first, for a set in which the name may end, own has
// matched and earlier has not. Names consist of a-z, 0-9, '-', '_' and single
// dots and have at most 253 characters. "no" is exact. "yes" may be too kind in
// two ways, both on the safe side: labels may be longer than 63 here, and the
// domains that another app owns under this app's are not taken out.
//
// visits counts the work; at maxVisits the search gives up.
func winnable(own, earlier []string, domains []Domain, visits *int) (a answer, witness string) {
	if subset(own, earlier) {
		return no, ""
	}
	s := &search{visits: visits}
	for _, e := range own {
		s.add(groupOwn, e)
	}
	for _, e := range earlier {
		s.add(groupEarlier, e)
	}
	s.add(groupDomain, domainExpr(domains))
	if s.failed || len(s.inst) > maxInstructions {
		return unknown, ""
	}
	s.pick()
	return s.run()
}

// subset reports that every one of own stands among earlier, word for word.
func subset(own, earlier []string) bool {
	for _, e := range own {
		if !slices.Contains(earlier, e) {
			return false
		}
	}
	return true
}

func domainExpr(domains []Domain) string {
	quoted := make([]string, len(domains))
	for i, d := range domains {
		quoted[i] = regexp.QuoteMeta(d.Name)
	}
	return `(?:^|\.)(?:` + strings.Join(quoted, "|") + `)$`
}

// The groups of programs. A group matches when one of its programs does.
const (
	groupOwn = iota
	groupEarlier
	groupDomain
	groups
)

type search struct {
	inst   []syntax.Inst // of all programs, with Out and Arg moved to fit
	group  []uint8       // of each instruction
	starts []uint32
	failed bool

	letters []rune // one of each kind of character that the programs tell apart
	visits  *int

	seen  []bool // scratch of closure, by instruction
	stack []uint32
}

// node is a point of the search: a name read so far is known by nothing but
// the instructions that wait for its next character, its last character as far
// as that matters, and whether own has matched already.
type node struct {
	waiting []uint32 // ascending
	last    rune     // -1 at the start, else '.', '-' (not a word's) or 'a' (a word's)
	matched bool
	name    string // one that leads here; not part of the key
}

func (n node) key() string {
	var b strings.Builder
	b.WriteString(strconv.Itoa(int(n.last)))
	if n.matched {
		b.WriteByte('!')
	}
	for _, pc := range n.waiting {
		b.WriteByte(' ')
		b.WriteString(strconv.FormatUint(uint64(pc), 36))
	}
	return b.String()
}

// compile does what regexp.Compile does up to the program.
func compile(expr string) (*syntax.Prog, error) {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, err
	}
	return syntax.Compile(re.Simplify())
}

func (s *search) add(group uint8, expr string) {
	prog, err := compile(expr)
	if err != nil || len(s.inst)+len(prog.Inst) > maxInstructions {
		s.failed = true
		return
	}
	base := uint32(len(s.inst))
	for _, in := range prog.Inst {
		in.Out += base
		if in.Op == syntax.InstAlt || in.Op == syntax.InstAltMatch {
			in.Arg += base
		}
		s.inst = append(s.inst, in)
		s.group = append(s.group, group)
	}
	s.starts = append(s.starts, base+uint32(prog.Start))
}

const hostCharacters = "abcdefghijklmnopqrstuvwxyz0123456789-_."

// pick picks one character of each kind that no program can tell apart.
func (s *search) pick() {
	s.seen = make([]bool, len(s.inst))
	known := map[string]bool{}
	for _, c := range hostCharacters {
		mark := []byte{byte(kindOf(c))}
		for i := range s.inst {
			if isRune(&s.inst[i]) && s.inst[i].MatchRune(c) {
				mark = strconv.AppendInt(append(mark, ' '), int64(i), 36)
			}
		}
		if !known[string(mark)] {
			known[string(mark)] = true
			s.letters = append(s.letters, c)
		}
	}
}

// kindOf reduces a character to what can matter once it has been read: a dot
// may not follow it if it is one, and \b asks whether it belongs to a word.
func kindOf(c rune) rune {
	switch {
	case c == '.':
		return '.'
	case syntax.IsWordChar(c):
		return 'a'
	}
	return '-'
}

func isRune(in *syntax.Inst) bool {
	switch in.Op {
	case syntax.InstRune, syntax.InstRune1, syntax.InstRuneAny, syntax.InstRuneAnyNotNL:
		return true
	}
	return false
}

func (s *search) run() (answer, string) {
	level := []node{{last: -1}}
	done := map[string]bool{level[0].key(): true}
	for len(level) > 0 && len(level[0].name) <= maxHost {
		var next []node
		for _, n := range level {
			if s.wins(n) {
				return yes, n.name
			}
			for _, c := range s.letters {
				m, alive := s.step(n, c)
				if *s.visits > maxVisits {
					return unknown, ""
				}
				if k := m.key(); alive && !done[k] {
					done[k] = true
					next = append(next, m)
				}
			}
		}
		level = next
	}
	return no, ""
}

// wins reports whether the name may end at n.
func (s *search) wins(n node) bool {
	_, hit := s.closure(n, -1)
	return hit[groupDomain] && (n.matched || hit[groupOwn]) && !hit[groupEarlier]
}

// step reads one more character. It is dead where the name would be none, or
// where an earlier class has the name already: a match stays a match whatever
// follows it.
func (s *search) step(n node, c rune) (node, bool) {
	if c == '.' && (n.last == '.' || n.last < 0) {
		return node{}, false
	}
	reached, hit := s.closure(n, c)
	if hit[groupEarlier] {
		return node{}, false
	}
	m := node{last: kindOf(c), matched: n.matched || hit[groupOwn], name: n.name + string(c)}
	for _, pc := range reached {
		in := &s.inst[pc]
		if m.matched && s.group[pc] == groupOwn {
			continue // nothing more to learn from these
		}
		if isRune(in) && in.MatchRune(c) {
			m.waiting = append(m.waiting, in.Out)
		}
	}
	slices.Sort(m.waiting)
	m.waiting = slices.Compact(m.waiting)
	return m, true
}

// closure follows the instructions that read nothing, between the last
// character and c (-1 for the end), from those that wait and from each
// program's start: expressions are searched, so a match may begin anywhere.
func (s *search) closure(n node, c rune) (reached []uint32, hit [groups]bool) {
	have := syntax.EmptyOpContext(n.last, c)
	s.stack = append(append(s.stack[:0], n.waiting...), s.starts...)
	for len(s.stack) > 0 {
		pc := s.stack[len(s.stack)-1]
		s.stack = s.stack[:len(s.stack)-1]
		if s.seen[pc] {
			continue
		}
		s.seen[pc] = true
		reached = append(reached, pc)
		switch in := &s.inst[pc]; in.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			s.stack = append(s.stack, in.Out, in.Arg)
		case syntax.InstCapture, syntax.InstNop:
			s.stack = append(s.stack, in.Out)
		case syntax.InstEmptyWidth:
			if syntax.EmptyOp(in.Arg)&^have == 0 {
				s.stack = append(s.stack, in.Out)
			}
		case syntax.InstMatch:
			hit[s.group[pc]] = true
		}
	}
	for _, pc := range reached {
		s.seen[pc] = false
	}
	*s.visits += len(reached) + 1
	return reached, hit
}
