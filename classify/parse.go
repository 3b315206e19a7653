package classify

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	maxLabel    = 32   // bytes of an app's or a class's name: they become metric labels
	maxPattern  = 1024 // bytes of an expression
	maxProblems = 100  // reported of one file

	// maxProgram is how many instructions all expressions of a file may compile
	// to. A hundred an expression is much; repeat counts can make it thousands,
	// and gigabytes of a file of a megabyte.
	maxProgram = 200_000
)

// Problem is one mistake in a rules file.
type Problem struct {
	File string
	Line int    // from 1
	Text string // what is wrong; what to do
}

// Error returns the problem as one line, "file:line: what is wrong; what to do".
func (p Problem) Error() string { return p.File + ":" + strconv.Itoa(p.Line) + ": " + p.Text }

// Problems are all mistakes found in one rules file, in the order of its lines.
// A file with very many mistakes is cut after the first hundred.
type Problems []Problem

// Error returns the problems one a line, without a final line feed.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Parse reads a rules file from memory; file is its name in messages. It checks
// everything before it gives up: the error, always of type Problems, holds all
// mistakes found.
func Parse(file string, data []byte) (*Rules, error) {
	p := &parser{file: file}
	r := &Rules{file: file, source: string(data), domains: map[string]domain{}}
	if root := p.document(data); root != nil {
		p.rules(r, root)
		p.check(r)
	}
	if len(p.problems) > 0 {
		return nil, p.sorted()
	}
	return r, nil
}

// parser turns YAML nodes into Rules and collects problems on the way. It works
// on nodes, not on decoded values, because only nodes know their lines, and
// because an alias stays a node of its own here: a file of nested aliases that
// would grow to gigabytes when decoded is refused at its first alias.
type parser struct {
	file     string
	problems Problems
	// The parts of the file that are too broken for their examples and their
	// reach to mean anything, by index.
	brokenApps    map[int]bool
	brokenClasses map[classKey]bool

	program int // instructions so far, of maxProgram
	visits  int // spent on reach, of maxVisits
}

type classKey struct{ app, class int }

func (p *parser) add(line int, format string, args ...any) {
	p.problems = append(p.problems, Problem{File: p.file, Line: max(line, 1), Text: fmt.Sprintf(format, args...)})
}

func (p *parser) sorted() Problems {
	slices.SortStableFunc(p.problems, func(a, b Problem) int { return a.Line - b.Line })
	if more := len(p.problems) - maxProblems; more > 0 {
		last := p.problems[maxProblems]
		last.Text = fmt.Sprintf("%d more problems from here on; mend the ones above first", more)
		p.problems = append(p.problems[:maxProblems], last)
	}
	return p.problems
}

// document returns the root of the file's one YAML document.
func (p *parser) document(data []byte) *yaml.Node {
	if len(data) > MaxFile {
		p.add(1, "the file is larger than %d bytes; a rules file is a few kilobytes, check that it is one", MaxFile)
		return nil
	}
	docs, err := documents(data)
	switch {
	case err != nil:
		p.add(errorLine(data, err), "not YAML from here on: %s; mend the syntax", reasonYAML(err))
	case len(docs) == 0 || len(docs) == 1 && isNull(docs[0]):
		p.add(1, "the file is empty; it needs a list under the key apps")
	case len(docs) > 1:
		p.add(docs[1].Line, "a second YAML document begins here; keep one document in the file")
	default:
		return docs[0].Content[0]
	}
	return nil
}

func documents(data []byte) (docs []*yaml.Node, err error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		doc := new(yaml.Node)
		if err := dec.Decode(doc); errors.Is(err, io.EOF) {
			return docs, nil
		} else if err != nil {
			return nil, err
		}
		docs = append(docs, doc)
	}
}

func isNull(doc *yaml.Node) bool {
	return len(doc.Content) == 0 || doc.Content[0].Kind == yaml.ScalarNode && doc.Content[0].ShortTag() == "!!null"
}

// errorLine finds the line where data stops being YAML: the one after the
// longest run of whole lines that is. The line in the YAML reader's error is
// that of the mapping or list around the mistake, often far above it and
// sometimes one off; it serves where the search would take too long.
func errorLine(data []byte, err error) int {
	const most = 16 << 20 // bytes to read again
	lines := bytes.SplitAfter(data, []byte("\n"))
	end := len(data)
	for n := len(lines); n > 0 && len(lines)*len(data) <= most; n-- {
		end -= len(lines[n-1])
		if _, err := documents(data[:end]); err == nil {
			return n
		}
	}
	line := 1
	if m := yamlPreface.FindStringSubmatch(err.Error()); m != nil && m[1] != "" {
		line, _ = strconv.Atoi(m[1]) // digits by the expression
	}
	return line
}

var yamlPreface = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

func reasonYAML(err error) string {
	text := yamlPreface.ReplaceAllString(err.Error(), "")
	return clip(strings.Join(strings.Fields(text), " "))
}

func (p *parser) rules(r *Rules, root *yaml.Node) {
	p.brokenApps = map[int]bool{}
	p.brokenClasses = map[classKey]bool{}
	fields := p.fields(root, "the file", "apps")
	if fields == nil {
		return
	}
	apps := p.list(fields["apps"], root.Line, "the file", "apps")
	for _, n := range apps {
		p.app(r, n)
	}
	p.count(r)
}

func (p *parser) app(r *Rules, n *yaml.Node) {
	index := len(r.apps)
	before := len(p.problems)
	where := title(n, "app", "an app")
	fields := p.fields(n, where, "app", "domains", "classes")
	if fields == nil {
		return
	}
	name := p.label(fields["app"], n.Line, "app")
	for i := range r.apps {
		if name != "" && r.apps[i].Name == name {
			p.add(n.Line, "%s: already defined on line %d; merge the two", where, r.apps[i].Line)
		}
	}
	app := App{Name: name, Line: n.Line}
	for _, d := range p.list(fields["domains"], n.Line, where, "domains") {
		p.domain(r, &app, index, d, where)
	}
	p.brokenApps[index] = len(p.problems) > before
	for _, c := range p.list(fields["classes"], n.Line, where, "classes") {
		p.class(&app, index, c)
	}
	r.apps = append(r.apps, app)
}

func (p *parser) domain(r *Rules, app *App, index int, n *yaml.Node, where string) {
	name, ok := p.text(n, where+": a domain")
	if !ok {
		return
	}
	if !validHost(name) {
		p.add(n.Line, "%s: domain %s is not a lower-case host name; write it like example.net, with no dot or star around it", where, quote(name))
		return
	}
	if d, taken := r.domains[name]; taken {
		owner := app
		if d.app != index {
			owner = &r.apps[d.app]
		}
		p.add(n.Line, "%s: domain %s already belongs to app %s (line %d); list it once", where, quote(name), quote(owner.Name), owner.Domains[d.at].Line)
		return
	}
	r.domains[name] = domain{app: index, at: len(app.Domains)}
	r.longest = max(r.longest, len(name))
	app.Domains = append(app.Domains, Domain{Name: name, Line: n.Line})
}

func (p *parser) class(app *App, index int, n *yaml.Node) {
	key := classKey{index, len(app.Classes)}
	before := len(p.problems)
	where := title(n, "class", "a class")
	fields := p.fields(n, where, "class", "names", "kind", "idle_timeout", "examples")
	if fields == nil {
		return
	}
	name := p.label(fields["class"], n.Line, "class")
	for i := range app.Classes {
		if name != "" && app.Classes[i].Name == name {
			p.add(n.Line, "%s: already defined on line %d; merge the two", where, app.Classes[i].Line)
		}
	}
	class := Class{
		Name: name, Line: n.Line,
		Kind:        p.kind(fields["kind"], where),
		IdleTimeout: p.idleTimeout(fields["idle_timeout"], where),
	}
	for _, e := range p.list(fields["names"], n.Line, where, "names") {
		p.pattern(&class, e, where)
	}
	p.examples(&class, fields["examples"], where)
	p.brokenClasses[key] = len(p.problems) > before
	app.Classes = append(app.Classes, class)
}

func (p *parser) kind(n *yaml.Node, where string) Kind {
	if n == nil {
		return Session
	}
	switch {
	case n.Kind == yaml.ScalarNode && n.Value == Session.String():
		return Session
	case n.Kind == yaml.ScalarNode && n.Value == Transfer.String():
		return Transfer
	}
	p.add(n.Line, "%s: kind %s is unknown; write session or transfer", where, quote(n.Value))
	return Session
}

func (p *parser) idleTimeout(n *yaml.Node, where string) time.Duration {
	if n == nil {
		return defaultIdleTimeout
	}
	d, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil {
		p.add(n.Line, "%s: idle_timeout %s is not a duration; write a number and a unit, such as 90s or 60m", where, quote(n.Value))
		return defaultIdleTimeout
	}
	if d < minIdleTimeout || d > maxIdleTimeout {
		p.add(n.Line, "%s: idle_timeout %s is out of range; give 1s to 168h", where, quote(n.Value))
		return defaultIdleTimeout
	}
	return d
}

func (p *parser) pattern(class *Class, n *yaml.Node, where string) {
	expr, ok := p.text(n, where+": an expression in names")
	if !ok {
		return
	}
	if len(expr) > maxPattern {
		p.add(n.Line, "%s: an expression of %d bytes; keep each under %d and list several", where, len(expr), maxPattern)
		return
	}
	if p.program > maxProgram {
		return // said once
	}
	prog, err := compile(expr)
	if err != nil {
		p.add(n.Line, "%s: expression %s does not compile: %s; see the RE2 syntax", where, quote(expr), clip(reason(err)))
		return
	}
	if p.program += len(prog.Inst); p.program > maxProgram {
		p.add(n.Line, "%s: with expression %s all expressions together grow too large; lower the repeat counts or list fewer", where, quote(expr))
		return
	}
	class.Names = append(class.Names, Pattern{Expr: expr, Line: n.Line, re: regexp.MustCompile(expr)})
}

// reason returns what the expression compiler says, without its preface and
// safe to stand on one line.
func reason(err error) string {
	q := strconv.Quote(strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	return strings.ReplaceAll(q[1:len(q)-1], `\\`, `\`)
}

func (p *parser) examples(class *Class, n *yaml.Node, where string) {
	if n == nil {
		return
	}
	fields := p.fields(n, where+": examples", "match", "miss")
	for _, key := range []string{"match", "miss"} {
		list := fields[key]
		if list == nil {
			continue
		}
		for _, e := range p.sequence(list, where+": examples: "+key) {
			name, ok := p.text(e, where+": an example")
			if !ok {
				continue
			}
			example := Example{Name: name, Line: e.Line}
			if key == "match" {
				class.Match = append(class.Match, example)
			} else {
				class.Miss = append(class.Miss, example)
			}
		}
	}
}

// count holds the classes to what the ids have room for.
func (p *parser) count(r *Rules) {
	total := 0
	for i := range r.apps {
		fits := total <= maxClasses
		total += len(r.apps[i].Classes) + 1
		if fits && total > maxClasses {
			p.add(r.apps[i].Line, "app %s: here the file passes %d classes, each app's %s included; merge classes or drop an app",
				quote(r.apps[i].Name), maxClasses, OtherName)
		}
	}
}

// label returns the name of an app or a class, or "" where it is not fit to be
// a metric's label.
func (p *parser) label(n *yaml.Node, line int, what string) string {
	if n == nil {
		p.add(line, "%s without the key %s; give it a name", what, what)
		return ""
	}
	name, ok := p.text(n, what)
	if !ok {
		return ""
	}
	switch {
	case !validLabel(name):
		p.add(n.Line, "%s %s: the name may hold a-z, 0-9, _ and -, 1 to %d of them; rename it", what, quote(name), maxLabel)
	case name == OtherName:
		p.add(n.Line, "%s %s: this name is kept for what nothing matches; rename or remove it", what, quote(name))
	default:
		return name
	}
	return ""
}

// fields returns the values of a mapping by key, or nil where n is none.
func (p *parser) fields(n *yaml.Node, what string, allowed ...string) map[string]*yaml.Node {
	if !p.is(n, yaml.MappingNode, what, "a mapping with the keys "+strings.Join(allowed, ", ")) {
		return nil
	}
	fields := map[string]*yaml.Node{}
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode || !slices.Contains(allowed, key.Value):
			p.add(key.Line, "unknown key %s in %s; allowed here: %s", quote(key.Value), what, strings.Join(allowed, ", "))
		case lines[key.Value] > 0:
			p.add(key.Line, "key %s in %s stands on line %d already; keep one", quote(key.Value), what, lines[key.Value])
		default:
			fields[key.Value], lines[key.Value] = value, key.Line
		}
	}
	return fields
}

// list returns the items of a list that must be there and must hold something.
func (p *parser) list(n *yaml.Node, line int, where, key string) []*yaml.Node {
	if n == nil {
		p.add(line, "%s: no %s; add the key with at least one entry", where, key)
		return nil
	}
	before := len(p.problems)
	items := p.sequence(n, where+": "+key)
	if len(items) == 0 && len(p.problems) == before {
		p.add(n.Line, "%s: %s is empty; add at least one entry", where, key)
	}
	return items
}

func (p *parser) sequence(n *yaml.Node, what string) []*yaml.Node {
	if !p.is(n, yaml.SequenceNode, what, "a list") {
		return nil
	}
	return n.Content
}

func (p *parser) text(n *yaml.Node, what string) (string, bool) {
	if !p.is(n, yaml.ScalarNode, what, "text") {
		return "", false
	}
	if n.Value == "" {
		p.add(n.Line, "%s is empty; write it out or remove it", what)
		return "", false
	}
	if n.ShortTag() != "!!str" {
		p.add(n.Line, "%s must be text, but %s is not; put it in quotes", what, quote(n.Value))
		return "", false
	}
	return n.Value, true
}

func (p *parser) is(n *yaml.Node, kind yaml.Kind, what, want string) bool {
	if n.Kind == kind {
		return true
	}
	if n.Kind == yaml.AliasNode {
		p.add(n.Line, "%s is the alias %s; aliases are refused, write the value out", what, quote("*"+n.Value))
		return false
	}
	p.add(n.Line, "%s must be %s; see nametap rules show for the form", what, want)
	return false
}

// title names an app or a class in messages, before it has been read.
func title(n *yaml.Node, key, without string) string {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if k, v := n.Content[i], n.Content[i+1]; k.Value == key && v.Kind == yaml.ScalarNode && v.Value != "" {
			return key + " " + quote(v.Value)
		}
	}
	return without
}

func validLabel(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return s != "" && len(s) <= maxLabel
}

// quote quotes text from a file so that it stays on one line and stays short.
func quote(s string) string { return strconv.Quote(clip(s)) }

func clip(s string) string {
	const most = 120
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
