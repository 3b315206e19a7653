package classify

import "strconv"

// check runs what needs the whole file: every example, and whether each class
// can win a name at all. Parts that are themselves broken are left out, so that
// one mistake is not reported twice.
func (p *parser) check(r *Rules) {
	for a := range r.apps {
		if p.brokenApps[a] {
			continue
		}
		for c := range r.apps[a].Classes {
			if p.brokenClasses[classKey{a, c}] {
				continue
			}
			p.checkExamples(r, a, c)
			p.checkReach(r, a, c)
		}
	}
}

func (p *parser) checkExamples(r *Rules, a, c int) {
	class := &r.apps[a].Classes[c]
	for _, e := range class.Match {
		f := r.find(canonical(e.Name))
		if f.app == a && f.class == c {
			continue
		}
		p.add(e.Line, "class %s: example %s must match, but %s", quote(class.Name), quote(e.Name), winner(r, f, a))
	}
	for _, e := range class.Miss {
		f := r.find(canonical(e.Name))
		if f.app != a || f.class != c {
			continue
		}
		by := class.Names[f.pattern]
		p.add(e.Line, "class %s: example %s must miss, but expression %s (line %d) matches it; narrow the expression or drop the example",
			quote(class.Name), quote(e.Name), quote(by.Expr), by.Line)
	}
}

// winner says who took an example that should have been another's.
func winner(r *Rules, f finding, want int) string {
	if f.app < 0 {
		return "no app owns its domain; add the domain to domains or drop the example"
	}
	if f.app != want {
		d := r.apps[f.app].Domains[f.domain]
		return "app " + quote(r.apps[f.app].Name) + " owns it by its domain " + quote(d.Name) + " (" + lineOf(d.Line) + "); move the example there"
	}
	if f.class < 0 {
		return "no expression matches it; mend the expression or the example"
	}
	w := &r.apps[f.app].Classes[f.class]
	by := w.Names[f.pattern]
	return "class " + quote(w.Name) + " takes it by " + quote(by.Expr) + " (" + lineOf(by.Line) + "); narrow that expression or put this class where it comes first"
}

// checkReach reports a class that can win no name. A class that wins one of its
// own examples is reached; for any other, reach searches for a name.
func (p *parser) checkReach(r *Rules, a, c int) {
	app := &r.apps[a]
	class := &app.Classes[c]
	for _, e := range class.Match {
		if f := r.find(canonical(e.Name)); f.app == a && f.class == c {
			return
		}
	}
	var earlier []string
	for i := range c {
		for _, n := range app.Classes[i].Names {
			earlier = append(earlier, n.Expr)
		}
	}
	if a, _ := winnable(exprs(class), nil, app.Domains, &p.visits); a == no {
		p.add(class.Line, "class %s: unreachable: its names match nothing under the app's domains; mend the expressions or add the domain", quote(class.Name))
		return
	}
	if a, _ := winnable(exprs(class), earlier, app.Domains, &p.visits); a == no {
		p.add(class.Line, "class %s: unreachable: every name that it matches falls to an earlier class; move it up or remove it", quote(class.Name))
	}
}

func exprs(c *Class) []string {
	out := make([]string, len(c.Names))
	for i, n := range c.Names {
		out[i] = n.Expr
	}
	return out
}

func lineOf(n int) string { return "line " + strconv.Itoa(n) }
