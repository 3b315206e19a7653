package classify

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
	"unsafe"
)

// MaxFile is the greatest size of a rules file, in bytes.
const MaxFile = 1 << 20

// OtherName is the app of a name that no app owns, and the class of a name that
// no class of its app matches. No rules file may use it for its own.
const OtherName = "other"

// Kind says how a class behaves.
type Kind uint8

const (
	// Session is a connection that is kept open, or that serves many things.
	Session Kind = iota
	// Transfer is a connection that carries one thing: its duration is what the
	// user waited for, so transfers are scored for experience.
	Transfer
)

// String returns the kind as the rules file spells it.
func (k Kind) String() string {
	if k == Transfer {
		return "transfer"
	}
	return "session"
}

const (
	defaultIdleTimeout = 5 * time.Minute
	minIdleTimeout     = time.Second
	maxIdleTimeout     = 7 * 24 * time.Hour
)

// Rules is one rules file, checked and compiled. It is immutable and safe for
// concurrent use.
type Rules struct {
	file    string
	source  string
	apps    []App
	domains map[string]domain
	longest int // bytes of the longest domain
}

// domain is where a domain leads: indices into Rules.apps and App.Domains.
type domain struct{ app, at int }

// App is one app of a rules file.
type App struct {
	Name    string
	Line    int // of the app's entry in the file, from 1
	Domains []Domain
	Classes []Class
}

// Domain is a domain that an app owns, itself and everything under it.
type Domain struct {
	Name string // lower case, no final dot
	Line int
}

// Class is one class of an app.
type Class struct {
	Name        string
	Line        int
	Names       []Pattern
	Kind        Kind
	IdleTimeout time.Duration
	Match, Miss []Example
}

// Pattern is one expression of a class.
type Pattern struct {
	Expr string // RE2, as written
	Line int
	re   *regexp.Regexp
}

// Example is a name that must, or must not, fall to its class.
type Example struct {
	Name string
	Line int
}

// Verdict is what the rules say of one name.
type Verdict struct {
	App   string
	Class string
	// Rule is what decided: the expression that matched; the app's domain where
	// no class did; empty where no app owns the name.
	Rule string
	Line int // of Rule in the file, 0 without one
	// Drift reports a name under an app's domains that no class matches.
	Drift bool
}

// Match classifies a name. Case and one final dot do not matter. It allocates
// only where the name has upper-case letters.
func (r *Rules) Match(name string) Verdict {
	f := r.find(canonical(name))
	if f.app < 0 {
		return Verdict{App: OtherName, Class: OtherName}
	}
	app := &r.apps[f.app]
	if f.class < 0 {
		d := app.Domains[f.domain]
		return Verdict{App: app.Name, Class: OtherName, Rule: d.Name, Line: d.Line, Drift: true}
	}
	class := &app.Classes[f.class]
	p := class.Names[f.pattern]
	return Verdict{App: app.Name, Class: class.Name, Rule: p.Expr, Line: p.Line}
}

// MatchBytes is Match for a name in a buffer. It keeps no reference to name.
func (r *Rules) MatchBytes(name []byte) Verdict { return r.Match(view(name)) }

// File returns the name that the rules were loaded under.
func (r *Rules) File() string { return r.file }

// Source returns the rules file as it was read.
func (r *Rules) Source() string { return r.source }

// Apps returns the apps in the order of the file. The caller must not change
// what it is given.
func (r *Rules) Apps() []App { return r.apps }

// finding is a place in the rules: indices, or -1 for none.
type finding struct{ app, class, pattern, domain int }

// find looks a canonical name up. The domain comes first and costs a few map
// look-ups, so that the many names that are none of ours never meet an
// expression.
func (r *Rules) find(name string) finding {
	d, ok := r.owner(name)
	if !ok {
		return finding{app: -1, class: -1, pattern: -1, domain: -1}
	}
	classes := r.apps[d.app].Classes
	for c := range classes {
		for p := range classes[c].Names {
			if classes[c].Names[p].re.MatchString(name) {
				return finding{app: d.app, class: c, pattern: p, domain: d.at}
			}
		}
	}
	return finding{app: d.app, class: -1, pattern: -1, domain: d.at}
}

// owner returns the longest domain that name equals or lies under. It tries
// whole labels only, so evilwhatsapp.net is not under whatsapp.net.
func (r *Rules) owner(name string) (domain, bool) {
	if over := len(name) - r.longest; over > 0 {
		// No domain is longer than r.longest: begin at the first label that can
		// be one's first. Its dot is at over-1 or later.
		dot := strings.IndexByte(name[over-1:], '.')
		if dot < 0 {
			return domain{}, false
		}
		name = name[over+dot:]
	}
	for {
		if d, ok := r.domains[name]; ok {
			return d, true
		}
		dot := strings.IndexByte(name, '.')
		if dot < 0 {
			return domain{}, false
		}
		name = name[dot+1:]
	}
}

// canonical cuts one final dot and lower-cases ASCII letters. Letters beyond
// ASCII stay: DNS folds case in ASCII alone (RFC 4343 section 3), and Unicode
// folding would turn foreign names into ours (U+212A to k).
func canonical(name string) string {
	name = strings.TrimSuffix(name, ".")
	for i := range len(name) {
		if 'A' <= name[i] && name[i] <= 'Z' {
			return lowerASCII(name)
		}
	}
	return name
}

func lowerASCII(name string) string {
	b := []byte(name)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// view returns b as a string without a copy. Nothing that a look-up calls keeps
// the string, so b may change as soon as the look-up is over.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// Load reads the rules file at path. The error is of type Problems where the
// file could be read.
func Load(path string) (*Rules, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	defer f.Close() //nolint:errcheck // only read from
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fileError(path, err)
	}
	return Parse(path, data)
}

// fileError drops the operation and the path that fs errors repeat.
func fileError(path string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return fmt.Errorf("%s: cannot read the rules file: %w; check the path and its permissions", path, err)
}

// BuiltinFile is the name that the built-in rules go by in messages.
const BuiltinFile = "built-in rules.yaml"

//go:embed rules.yaml
var builtinSource []byte

var builtin = sync.OnceValue(func() *Rules {
	r, err := Parse(BuiltinFile, builtinSource)
	if err != nil {
		panic(err) // the file is part of the program, and a test holds it valid
	}
	return r
})

// Builtin returns the rules that are compiled in.
func Builtin() *Rules { return builtin() }
