package classify

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func parse(t *testing.T, text string) *Rules {
	t.Helper()
	r, err := Parse("t.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// made builds a file with one app and the classes given, each matching itself.
func made(app string, classes ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apps:\n  - app: %s\n    domains: [%s.net]\n    classes:\n", app, app)
	for _, c := range classes {
		fmt.Fprintf(&b, "      - {class: %s, names: ['^%s\\.']}\n", c, c)
	}
	return b.String()
}

func TestRegistryKeepsIDs(t *testing.T) {
	reg := NewRegistry()
	adopt := func(text string) *Compiled {
		t.Helper()
		c, err := reg.Adopt(parse(t, text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	id := func(c *Compiled, name string) uint8 {
		id, _ := c.ID(name)
		return id
	}
	first := adopt(made("x", "a", "b"))
	if first.Generation() != 1 || first.Len() != 5 {
		t.Errorf("generation %d, %d ids", first.Generation(), first.Len())
	}
	if got := []uint8{id(first, "a.x.net"), id(first, "b.x.net"), id(first, "c.x.net"), id(first, "a.y.net")}; fmt.Sprint(got) != "[2 3 4 1]" {
		t.Errorf("ids %v", got)
	}
	second := adopt(strings.Replace(made("x", "c", "b"), "{class: b,", "{class: b, kind: transfer, idle_timeout: 9s,", 1))
	if second.Generation() != 2 || second.Len() != 6 {
		t.Errorf("generation %d, %d ids", second.Generation(), second.Len())
	}
	if got := []uint8{id(second, "a.x.net"), id(second, "b.x.net"), id(second, "c.x.net")}; fmt.Sprint(got) != "[4 3 5]" {
		t.Errorf("ids after the reload %v", got)
	}
	for i, want := range []ClassInfo{
		{"pending", "pending", Session, int64(5 * time.Minute)},
		{"other", "other", Session, int64(5 * time.Minute)},
		{"x", "a", Session, int64(5 * time.Minute)}, // gone from the file, still carried by flows
		{"x", "b", Transfer, int64(9 * time.Second)},
		{"x", "other", Session, int64(5 * time.Minute)},
		{"x", "c", Session, int64(5 * time.Minute)},
		{},
	} {
		if got := second.Info(uint8(i)); got != want {
			t.Errorf("id %d: %+v, want %+v", i, got, want)
		}
		if got := second.IdleTimeout(uint8(i)); got != want.IdleTimeout {
			t.Errorf("id %d: idle after %d", i, got)
		}
	}
	if got := first.Info(3); got.Kind != Session || got.IdleTimeout != int64(5*time.Minute) {
		t.Errorf("the first rules changed: %+v", got)
	}
	if id(first, "a.x.net") != 2 {
		t.Error("the first rules no longer answer")
	}
	if got := second.Info(255); got != (ClassInfo{}) {
		t.Errorf("id 255: %+v", got)
	}
}

func TestRegistryIsFull(t *testing.T) {
	reg := NewRegistry()
	var names []string
	for i := range maxClasses - 1 {
		names = append(names, fmt.Sprintf("c%d", i))
	}
	full, err := reg.Adopt(parse(t, made("x", names...)))
	if err != nil {
		t.Fatal(err)
	}
	if full.Len() != MaxIDs {
		t.Errorf("%d ids", full.Len())
	}
	if last := full.Info(MaxIDs - 1); last.App != "x" || last.Class != OtherName {
		t.Errorf("the last id is %+v", last)
	}
	_, err = reg.Adopt(parse(t, made("x", "c1", "new")))
	if want := "t.yaml: 1 new classes, but of the 62 class ids only 0 are free"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	again, err := reg.Adopt(parse(t, made("x", "c1")))
	if err != nil {
		t.Fatal(err)
	}
	if again.Generation() != 2 || again.Len() != MaxIDs {
		t.Errorf("after a refusal: generation %d, %d ids", again.Generation(), again.Len())
	}
}

func TestCascade(t *testing.T) {
	for _, tt := range []struct{ list, want, err string }{
		{"sni,dns,dns-stale,server", "sni,dns,dns-stale,server", ""},
		{"dns", "dns", ""},
		{" dns , sni ", "dns,sni", ""},
		{"", "", `evidence "" is unknown; allowed are sni,dns,dns-stale,server, separated by commas`},
		{"sni,", "", `evidence "" is unknown`},
		{"none", "", `evidence "none" is unknown`},
		{"SNI", "", `evidence "SNI" is unknown`},
		{"sni,ip", "", `evidence "ip" is unknown`},
		{"dns,sni,dns", "", `evidence "dns" is listed twice; list each of sni,dns,dns-stale,server at most once`},
	} {
		c := Cascade{EvidenceServer}
		err := c.Set(tt.list)
		if tt.err != "" {
			if err == nil || !strings.HasPrefix(err.Error(), tt.err) {
				t.Errorf("%q: %v, want %s", tt.list, err, tt.err)
			}
			if c.String() != "server" {
				t.Errorf("%q: changed the list to %s", tt.list, c)
			}
			continue
		}
		if err != nil || c.String() != tt.want {
			t.Errorf("%q: %s, %v", tt.list, c, err)
		}
	}
	c := Cascade{EvidenceDNS}
	if !c.Has(EvidenceDNS) || c.Has(EvidenceSNI) || c.Has(EvidenceNone) {
		t.Errorf("Has is wrong for %s", c)
	}
	if c.Type() != "list" {
		t.Errorf("type %s", c.Type())
	}
}

func TestWords(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{EvidenceNone.String(), "none"},
		{EvidenceSNI.String(), "sni"},
		{EvidenceDNS.String(), "dns"},
		{EvidenceDNSStale.String(), "dns-stale"},
		{EvidenceServer.String(), "server"},
		{EvidenceCount.String(), "none"},
		{DefaultCascade().String(), "sni,dns,dns-stale,server"},
		{Session.String(), "session"},
		{Transfer.String(), "transfer"},
		{HelloNeed.String(), "need"},
		{HelloDone.String(), "done"},
		{HelloNotTLS.String(), "not-tls"},
		{HelloBroken.String(), "broken"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %s, want %s", tt.got, tt.want)
		}
	}
}
