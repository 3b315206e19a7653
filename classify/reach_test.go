package classify

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
)

func TestWinnable(t *testing.T) {
	domains := []Domain{{Name: "x.net"}, {Name: "y.org"}}
	for _, tt := range []struct {
		what         string
		own, earlier []string
		want         answer
	}{
		{"alone", []string{`^e\d+\.x\.net$`}, nil, yes},
		{"same words", []string{`^e`}, []string{`^f`, `^e`}, no},
		{"other words, same names", []string{`^e[0-9]+\.x\.net$`}, []string{`^e\d+\.x\.net$`}, no},
		{"catch-all before", []string{`^e\d+\.x\.net$`}, []string{`\.x\.net$`}, no},
		{"catch-all of the other domain before", []string{`^e\d+\.x\.net$`}, []string{`\.y\.org$`}, yes},
		{"empty expression before", []string{`^e`}, []string{``}, no},
		{"covered by two together", []string{`^[a-f]1\.`}, []string{`^[a-c]`, `^[d-f]\d`}, no},
		{"one letter left", []string{`^[a-f]1\.`}, []string{`^[a-c]`, `^[e-f]\d`}, yes},
		{"one expression left", []string{`^e`, `^f`}, []string{`^e`}, yes},
		{"longer numbers left", []string{`^e\d+\.`}, []string{`^e\d\.`, `^e\d\d\.`}, yes},
		{"unanchored covers anchored", []string{`^abc`}, []string{`b`}, no},
		{"anchored does not cover unanchored", []string{`b`}, []string{`^b`}, yes},
		{"the bare domain", []string{`^x\.net$`}, []string{`^.+\.x\.net$`}, yes},
		{"only the bare domain before", []string{`x\.net$`}, []string{`^x\.net$`}, yes},
		{"nothing under the domains", []string{`^e\.z\.net$`}, nil, no},
		{"needs an upper-case letter", []string{`^E`}, nil, no},
		{"folded case", []string{`(?i)^E`}, nil, yes},
		{"folded case before", []string{`^e`}, []string{`(?i)^E`}, no},
		{"needs an empty label", []string{`\.\.`}, nil, no},
		{"needs a leading dot", []string{`^\.`}, nil, no},
		{"needs a space", []string{` `}, nil, no},
		{"word boundary", []string{`\be1\b`}, []string{`^e1\.`}, yes},
		{"word boundary before", []string{`^e1\.`}, []string{`\be1\b`}, no},
		{"no word boundary within a word", []string{`e\b1`}, nil, no},
		{"underscore is a word's", []string{`^_\B1\.`}, nil, yes},
		{"needs more than a name holds", []string{`^(a{100}){3}`}, nil, no},
		{"long but fits", []string{`^(a{100}){2}`}, nil, yes},
		{"no end", []string{`^a$`}, nil, no},
		{"lines are not cut", []string{`(?m)^e1$`}, nil, no},
		{"too large to tell", []string{`(a{1000}|b{1000}){0,1}`, `(c{1000}|d{1000}){0,1}c{1000}.{1000}d{1000}[^a]{1000}e{1000}`, strings.Repeat("(x{1000})", 20)}, nil, unknown},
	} {
		got, name := winnable(tt.own, tt.earlier, domains, new(int))
		if got != tt.want {
			t.Errorf("%s: got %v (%q), want %v", tt.what, got, name, tt.want)
		}
		if got == yes {
			checkWitness(t, name, tt.own, tt.earlier, domains)
		}
	}
}

func checkWitness(t *testing.T, name string, own, earlier []string, domains []Domain) {
	t.Helper()
	if !wins(t, name, own, earlier, domains) {
		t.Errorf("own %q earlier %q: %q is no witness", own, earlier, name)
	}
}

// wins asks the question of one name in the plain way.
func wins(t *testing.T, name string, own, earlier []string, domains []Domain) bool {
	t.Helper()
	under := false
	for _, d := range domains {
		under = under || strings.HasSuffix("."+name, "."+d.Name)
	}
	return under && len(name) <= maxHost && anyMatch(own, name) && !anyMatch(earlier, name)
}

func anyMatch(exprs []string, name string) bool {
	for _, e := range exprs {
		if regexp.MustCompile(e).MatchString(name) {
			return true
		}
	}
	return false
}

// Random expressions over few letters against all short names: "no" must hold
// for each of them, "yes" must come with a name that proves it.
func TestWinnableAgainstEnumeration(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	domains := []Domain{{Name: "b"}}
	var names []string
	var build func(prefix string)
	build = func(prefix string) {
		if prefix != "" && !strings.HasPrefix(prefix, ".") && !strings.Contains(prefix, "..") {
			names = append(names, prefix)
		}
		if len(prefix) < 5 {
			for _, c := range "ab.-" {
				build(prefix + string(c))
			}
		}
	}
	build("")
	answers := map[answer]int{}
	for range 400 {
		own, earlier := []string{expression(rng, 3)}, []string{expression(rng, 3), expression(rng, 2)}
		got, witness := winnable(own, earlier, domains, new(int))
		answers[got]++
		if got == yes {
			checkWitness(t, witness, own, earlier, domains)
			continue
		}
		if got != no {
			t.Fatalf("own %q earlier %q: gave up", own, earlier)
		}
		o, e1, e2 := regexp.MustCompile(own[0]), regexp.MustCompile(earlier[0]), regexp.MustCompile(earlier[1])
		for _, n := range names {
			if (n == "b" || strings.HasSuffix(n, ".b")) && o.MatchString(n) && !e1.MatchString(n) && !e2.MatchString(n) {
				t.Fatalf("own %q earlier %q: said no, but %q wins", own, earlier, n)
			}
		}
	}
	if answers[yes] < 20 || answers[no] < 20 {
		t.Errorf("the expressions are too tame: %v", answers)
	}
}

func expression(rng *rand.Rand, depth int) string {
	atoms := []string{`a`, `b`, `-`, `\.`, `.`, `[ab]`, `[^b]`, `^`, `$`, `\b`, `\B`, ``}
	if depth == 0 {
		return atoms[rng.IntN(len(atoms))]
	}
	l, r := expression(rng, depth-1), expression(rng, depth-1)
	switch rng.IntN(6) {
	case 0:
		return "(?:" + l + "|" + r + ")"
	case 1:
		return "(?:" + l + ")*" + r
	case 2:
		return "(?:" + l + ")+?" + r
	case 3:
		return "(" + l + ")?" + r
	}
	return l + r
}
