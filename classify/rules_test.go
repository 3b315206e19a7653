package classify

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the expected errors of testdata/bad anew")

// Each file of testdata/bad holds one kind of mistake; the .want beside it is
// the whole error.
func TestMistakes(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(strings.TrimSuffix(name, ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			rules, err := Parse(name, data)
			var problems Problems
			if rules != nil || !errors.As(err, &problems) {
				t.Fatalf("accepted, or not a list of problems: %v", err)
			}
			got := err.Error() + "\n"
			golden := strings.TrimSuffix(file, ".yaml") + ".want"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%swant\n%s", got, want)
			}
		})
	}
}

func TestFileTooLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "big.yaml")
	if err := os.WriteFile(path, make([]byte, MaxFile+10), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(path)
	if want := path + ":1: the file is larger than 1048576 bytes"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

// In a file that is too long to read again and again the line is the YAML
// reader's, which may be one off.
func TestLineInALongFile(t *testing.T) {
	const lines = 3000
	_, err := Parse("long.yaml", []byte(strings.Repeat("- 'some text'\n", lines)+"- [\n"))
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != 1 || problems[0].Line < lines || problems[0].Line > lines+2 {
		t.Errorf("got %v", err)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "rules.yaml")
	if err := os.WriteFile(path, builtinSource, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if r.File() != path || r.Source() != string(builtinSource) {
		t.Errorf("file %q, source of %d bytes", r.File(), len(r.Source()))
	}
	for _, bad := range []string{dir, filepath.Join(dir, "absent.yaml")} {
		_, err := Load(bad)
		if err == nil || !strings.HasPrefix(err.Error(), bad+": cannot read the rules file: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestDefaultsAndOrder(t *testing.T) {
	r, err := Parse("t", []byte(`
apps:
  - app: x
    domains: [x.net]
    classes:
      - {class: a, names: ['^a']}
      - {class: b, names: ['^ab', '^b'], kind: transfer, idle_timeout: 90s}
  - app: y
    domains: [cdn.x.net]
    classes: [{class: a, names: ['^c\.']}]
`))
	// '^ab' is covered by '^a', but '^b' is not: class b can be reached.
	if err != nil {
		t.Fatal(err)
	}
	a, b := r.Apps()[0].Classes[0], r.Apps()[0].Classes[1]
	if a.Kind != Session || a.IdleTimeout != 5*time.Minute {
		t.Errorf("defaults: %v, %v", a.Kind, a.IdleTimeout)
	}
	if b.Kind != Transfer || b.IdleTimeout != 90*time.Second {
		t.Errorf("given: %v, %v", b.Kind, b.IdleTimeout)
	}
	for _, tt := range []struct {
		name string
		want Verdict
	}{
		{"ab.x.net", Verdict{App: "x", Class: "a", Rule: "^a", Line: 6}},
		{"b.x.net", Verdict{App: "x", Class: "b", Rule: "^b", Line: 7}},
		{"c.x.net", Verdict{App: "x", Class: "other", Rule: "x.net", Line: 4, Drift: true}},
		{"x.net", Verdict{App: "x", Class: "other", Rule: "x.net", Line: 4, Drift: true}},
		// The longer domain owns the name, and only its app is asked.
		{"a.cdn.x.net", Verdict{App: "y", Class: "other", Rule: "cdn.x.net", Line: 9, Drift: true}},
		{"c.cdn.x.net", Verdict{App: "y", Class: "a", Rule: `^c\.`, Line: 10}},
		{"acdn.x.net", Verdict{App: "x", Class: "a", Rule: "^a", Line: 6}},
	} {
		if got := r.Match(tt.name); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// class, where it is not "other", is of app whatsapp.
var builtinNames = []struct {
	name, app, class string
	drift            bool
}{
	{"c1.whatsapp.net", "whatsapp", "chat", false},
	{"d3.whatsapp.net", "whatsapp", "chat", false},
	{"e5.whatsapp.net", "whatsapp", "chat", false},
	{"e7.whatsapp.net", "whatsapp", "chat", false},
	{"e12.whatsapp.net", "whatsapp", "chat", false},
	{"e16.whatsapp.net", "whatsapp", "chat", false},
	{"g.whatsapp.net", "whatsapp", "chat", false},
	{"g-fallback.whatsapp.net", "whatsapp", "chat", false},
	{"chat.cdn.whatsapp.net", "whatsapp", "chat", false},
	{"chat-fallback.cdn.whatsapp.net", "whatsapp", "chat", false},
	{"mmi123.whatsapp.net", "whatsapp", "photo", false},
	{"mms123.whatsapp.net", "whatsapp", "audio", false},
	{"mmv123.whatsapp.net", "whatsapp", "video", false},
	{"mmg.whatsapp.net", "whatsapp", "media", false},
	{"mmg-fna.whatsapp.net", "whatsapp", "media", false},
	{"mmg-fallback.whatsapp.net", "whatsapp", "media", false},
	{"mme.whatsapp.net", "whatsapp", "media", false},
	{"mme3.whatsapp.net", "whatsapp", "media", false},
	{"mms.whatsapp.net", "whatsapp", "media", false},
	{"media.whatsapp.net", "whatsapp", "media", false},
	{"media-mxp1-1.cdn.whatsapp.net", "whatsapp", "media", false},
	{"media-sin11-1.cdn.whatsapp.net", "whatsapp", "media", false},
	{"media.fqls2-1.fna.whatsapp.net", "whatsapp", "media", false},
	{"pps.whatsapp.net", "whatsapp", "profile", false},
	{"web.whatsapp.com", "whatsapp", "web", false},
	{"w1.web.whatsapp.com", "whatsapp", "web", false},
	{"dyn.web.whatsapp.com", "whatsapp", "web", false},
	{"static.whatsapp.net", "whatsapp", "web", false},
	{"www-cdn.whatsapp.net", "whatsapp", "web", false},
	{"scontent.whatsapp.net", "whatsapp", "web", false},
	{"lookaside.whatsapp.net", "whatsapp", "web", false},
	{"mmx-ds.cdn.whatsapp.net", "whatsapp", "web", false},
	{"mmx-ds-fallback.cdn.whatsapp.net", "whatsapp", "web", false},
	{"whatsapp.com", "whatsapp", "web", false},
	{"www.whatsapp.com", "whatsapp", "web", false},
	{"chat.whatsapp.com", "whatsapp", "web", false},
	{"api.whatsapp.com", "whatsapp", "web", false},
	{"anything.at.all.whatsapp.com", "whatsapp", "web", false},
	{"wa.me", "whatsapp", "web", false},
	{"v.whatsapp.net", "whatsapp", "control", false},
	{"r.whatsapp.net", "whatsapp", "control", false},
	{"dit.whatsapp.net", "whatsapp", "control", false},
	{"crashlogs.whatsapp.net", "whatsapp", "control", false},
	{"privatestats.whatsapp.net", "whatsapp", "control", false},
	{"graph.whatsapp.net", "whatsapp", "control", false},
	{"flows.whatsapp.net", "whatsapp", "control", false},
	{"api.whatsapp.net", "whatsapp", "control", false},
	{"acs.whatsapp.net", "whatsapp", "control", false},
	{"graph.whatsapp.com", "whatsapp", "control", false},

	// Under our domains and in no class.
	{"whatsapp.net", "whatsapp", "other", true},
	{"new.whatsapp.net", "whatsapp", "other", true},
	{"e.whatsapp.net", "whatsapp", "other", true},
	{"e5x.whatsapp.net", "whatsapp", "other", true},
	{"xe5.whatsapp.net", "whatsapp", "other", true},
	{"e5.x.whatsapp.net", "whatsapp", "other", true},
	{"mmi.whatsapp.net", "whatsapp", "other", true},
	{"mmq1.whatsapp.net", "whatsapp", "other", true},
	{"cdn.whatsapp.net", "whatsapp", "other", true},
	{"e5.whatsapp.net.whatsapp.net", "whatsapp", "other", true},
	{"..whatsapp.net", "whatsapp", "other", true},

	// Spelling.
	{"E5.WhatsApp.NET", "whatsapp", "chat", false},
	{"e5.whatsapp.net.", "whatsapp", "chat", false},
	{"e5.whatsapp.net..", "other", "other", false},

	// Not ours.
	{"evilwhatsapp.net", "other", "other", false},
	{"e5.evilwhatsapp.net", "other", "other", false},
	{"whatsapp.net.example.com", "other", "other", false},
	{"e5.whatsapp.net.example.com", "other", "other", false},
	{"e5.whatsapp.nets", "other", "other", false},
	{"e5.whatsapp", "other", "other", false},
	{"notwa.me", "other", "other", false},
	{"net", "other", "other", false},
	{"", "other", "other", false},
	{".", "other", "other", false},
	{"e5.\u212aatsapp.net", "other", "other", false},
	{"e5.whatsapp.net\n", "other", "other", false},
	{"e5.whatsapp\x00.net", "other", "other", false},
	{"www.google.com", "other", "other", false},
	{strings.Repeat("a.", 500) + "whatsapp.net", "whatsapp", "other", true},
	{strings.Repeat("a", 5000), "other", "other", false},
}

func TestBuiltinNames(t *testing.T) {
	compiled, err := NewRegistry().Adopt(Builtin())
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range builtinNames {
		v := Builtin().Match(tt.name)
		if v.App != tt.app || v.Class != tt.class || v.Drift != tt.drift {
			t.Errorf("%q: got %+v, want %s/%s, drift %v", tt.name, v, tt.app, tt.class, tt.drift)
		}
		if got := Builtin().MatchBytes([]byte(tt.name)); got != v {
			t.Errorf("%q: as bytes %+v, as text %+v", tt.name, got, v)
		}
		id, drift := compiled.ID(tt.name)
		info := compiled.Info(id)
		if info.App != tt.app || info.Class != tt.class || drift != tt.drift {
			t.Errorf("%q: id %d is %+v, drift %v", tt.name, id, info, drift)
		}
		if again, d := compiled.IDBytes([]byte(tt.name)); again != id || d != drift {
			t.Errorf("%q: as bytes id %d, as text %d", tt.name, again, id)
		}
	}
}

// Parse has run every example already; this holds that there are some, both
// ways, and that the classes are those that dashboards know.
func TestBuiltinClasses(t *testing.T) {
	apps := Builtin().Apps()
	if len(apps) != 1 || apps[0].Name != "whatsapp" {
		t.Fatalf("apps: %v", apps)
	}
	want := map[string]struct {
		kind Kind
		idle time.Duration
	}{
		"chat": {Session, time.Hour}, "photo": {Transfer, 5 * time.Minute}, "audio": {Transfer, 5 * time.Minute},
		"video": {Transfer, 5 * time.Minute}, "media": {Transfer, 5 * time.Minute}, "web": {Session, 5 * time.Minute},
		"profile": {Session, 5 * time.Minute}, "control": {Session, 5 * time.Minute},
	}
	for _, c := range apps[0].Classes {
		w, ok := want[c.Name]
		if !ok || c.Kind != w.kind || c.IdleTimeout != w.idle {
			t.Errorf("class %s: %v, %v", c.Name, c.Kind, c.IdleTimeout)
		}
		delete(want, c.Name)
		if len(c.Match) == 0 || len(c.Miss) == 0 {
			t.Errorf("class %s: %d examples match, %d miss", c.Name, len(c.Match), len(c.Miss))
		}
		for _, e := range c.Match {
			if v := Builtin().Match(e.Name); v.Class != c.Name {
				t.Errorf("%s is %s, not %s", e.Name, v.Class, c.Name)
			}
		}
		for _, e := range c.Miss {
			if v := Builtin().Match(e.Name); v.Class == c.Name {
				t.Errorf("%s is %s", e.Name, v.Class)
			}
		}
		// Every expression earns its place: some example falls to it.
		for _, p := range c.Names {
			used := false
			for _, e := range c.Match {
				used = used || Builtin().Match(e.Name).Rule == p.Expr
			}
			if !used {
				t.Errorf("class %s: no example falls to %s", c.Name, p.Expr)
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("missing: %v", want)
	}
}

// underRace is set by the build with the race detector, under which sync.Pool,
// and so package regexp, forgets things on purpose.
var underRace bool

func TestMatchAllocatesNothing(t *testing.T) {
	if underRace {
		t.Skip("sync.Pool drops what it holds under the race detector")
	}
	r := Builtin()
	compiled, err := NewRegistry().Adopt(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"e5.whatsapp.net", "media-mxp1-1.cdn.whatsapp.net.", "faq.whatsapp.com", "new.whatsapp.net", "www.example.com",
		strings.Repeat("a.", 100) + "whatsapp.net",
	} {
		b := []byte(name)
		if n := testing.AllocsPerRun(200, func() { r.Match(name) }); n != 0 {
			t.Errorf("Match(%s): %v allocations", name, n)
		}
		if n := testing.AllocsPerRun(200, func() { r.MatchBytes(b) }); n != 0 {
			t.Errorf("MatchBytes(%s): %v allocations", name, n)
		}
		if n := testing.AllocsPerRun(200, func() { compiled.IDBytes(b) }); n != 0 {
			t.Errorf("IDBytes(%s): %v allocations", name, n)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(builtinSource)
	f.Add([]byte("\r\rD"))
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse("f.yaml", data)
		if (r == nil) == (err == nil) {
			t.Fatalf("rules %v, error %v", r, err)
		}
		if err != nil {
			lastLine := 2
			for _, end := range []string{"\n", "\r", "\u0085", "\u2028", "\u2029"} { // all of YAML's
				lastLine += strings.Count(string(data), end)
			}
			var problems Problems
			if !errors.As(err, &problems) || len(problems) == 0 || len(problems) > maxProblems+1 {
				t.Fatalf("not a list of problems: %v", err)
			}
			for _, p := range problems {
				if text := p.Error(); strings.ContainsAny(text, "\n\r") || !strings.HasPrefix(text, "f.yaml:") {
					t.Errorf("not one line of the file: %q", text)
				}
				if !strings.Contains(p.Text, ";") {
					t.Errorf("says nothing about the mend: %s", p)
				}
				if p.Line < 1 || p.Line > lastLine {
					t.Errorf("line %d of %d", p.Line, lastLine)
				}
			}
			return
		}
		if _, err := NewRegistry().Adopt(r); err != nil {
			t.Errorf("good rules do not fit a new registry: %v", err)
		}
		again, err := Parse("f.yaml", []byte(r.Source()))
		if err != nil || len(again.Apps()) != len(r.Apps()) {
			t.Errorf("the source does not parse again: %v", err)
		}
	})
}

func FuzzMatch(f *testing.F) {
	for _, tt := range builtinNames {
		f.Add(tt.name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		v := Builtin().Match(name)
		if got := Builtin().MatchBytes([]byte(name)); got != v {
			t.Errorf("as bytes %+v, as text %+v", got, v)
		}
		// The plain form of the domain test.
		plain := lowerASCII(strings.TrimSuffix(name, "."))
		ours := false
		for _, d := range Builtin().Apps()[0].Domains {
			ours = ours || strings.HasSuffix("."+plain, "."+d.Name)
		}
		if (v.App == "whatsapp") != ours {
			t.Errorf("%q: app %s", name, v.App)
		}
		if v.Drift != (v.App == "whatsapp" && v.Class == OtherName) {
			t.Errorf("%q: %+v", name, v)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	compiled, err := NewRegistry().Adopt(Builtin())
	if err != nil {
		b.Fatal(err)
	}
	for _, tt := range []struct{ what, name string }{
		{"foreign", "www.example.com"},
		{"foreign-long", "r4---sn-h5q7dne6.long.label.here.googlevideo.com"},
		{"own-first", "e5.whatsapp.net"},
		{"own-media", "media-mxp1-1.cdn.whatsapp.net"},
		{"own-last", "faq.whatsapp.com"},
		{"own-drift", "brandnew.whatsapp.net"},
	} {
		name := []byte(tt.name)
		b.Run(tt.what, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				compiled.IDBytes(name)
			}
		})
	}
}
