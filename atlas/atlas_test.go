package atlas

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// abuf packs a response.
func abuf(t testing.TB, name string, rcode int, addrs ...string) string {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), dns.TypeA)
	m.Response, m.Rcode = true, rcode
	for _, a := range addrs {
		text := fmt.Sprintf("%s 60 IN A %s", dns.Fqdn(name), a)
		if strings.Contains(a, ":") {
			text = fmt.Sprintf("%s 60 IN AAAA %s", dns.Fqdn(name), a)
		} else if strings.HasSuffix(a, ".") {
			text = fmt.Sprintf("%s 60 IN CNAME %s", dns.Fqdn(name), a)
		}
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b)
}

func TestDefinition(t *testing.T) {
	var b bytes.Buffer
	m := Measurement{Names: []string{"e1.whatsapp.net"}, Probes: 600}
	if err := m.Write(&b); err != nil {
		t.Fatal(err)
	}
	var got, want any
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	const text = `{"definitions":[{"type":"dns","af":4,"query_class":"IN","query_type":"A","query_argument":"e1.whatsapp.net",
		"use_probe_resolver":true,"set_rd_bit":true,"include_abuf":true,"description":"addresses of e1.whatsapp.net (A)"}],
		"probes":[{"requested":600,"type":"area","value":"WW"}],"is_oneoff":true}`
	if err := json.Unmarshal([]byte(text), &want); err != nil {
		t.Fatal(err)
	}
	if a, b := fmt.Sprint(got), fmt.Sprint(want); a != b {
		t.Errorf("got  %s\nwant %s", a, b)
	}
	b.Reset()
	m.IPv6, m.Interval = true, 3600
	if err := m.Write(&b); err != nil || strings.Count(b.String(), "AAAA") != 2 || strings.Contains(b.String(), `"is_oneoff": true`) {
		t.Error(err, b.String())
	}
	for name, bad := range map[string]Measurement{
		"no names":        {Probes: 1},
		"at most":         {Names: make([]string, 101), Probes: 1},
		"0 probes":        {Names: []string{"a.b"}},
		"5000 probes":     {Names: []string{"a.b"}, Probes: 5000},
		"no domain name":  {Names: []string{"a b"}, Probes: 1},
		"interval of 5 s": {Names: []string{"a.b"}, Probes: 1, Interval: 5},
	} {
		if err := bad.Write(&b); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRead(t *testing.T) {
	ok := abuf(t, "e1.whatsapp.net", 0, "chat.cdn.whatsapp.net.", "158.85.58.15", "158.85.58.16")
	six := abuf(t, "E1.WhatsApp.net", 0, "2a03:2880:f21f::1")
	no := abuf(t, "e1.whatsapp.net", dns.RcodeNameError)
	raw, _ := base64.StdEncoding.DecodeString(ok)
	short := base64.StdEncoding.EncodeToString(raw[:len(raw)-3])
	asked := slices.Clone(raw)
	asked[2] &^= 0x80 // QR
	query := base64.StdEncoding.EncodeToString(asked)
	object := func(rest string) string {
		return `{"fw":4790,"msm_id":7,"prb_id":42,"timestamp":1393090000,"from":"203.0.113.9","type":"dns",` + rest + `}`
	}
	for _, c := range []struct{ name, text, want string }{
		{"one a line", object(`"result":{"abuf":"`+ok+`","rt":31.2,"ANCOUNT":3}`) + "\n", "42 e1.whatsapp.net 0 [158.85.58.15 158.85.58.16]"},
		{
			"array", "[\n" + object(`"result":{"abuf":"`+ok+`"}`) + ",\n" + object(`"result":{"abuf":"`+six+`"}`) + "]\n",
			"42 e1.whatsapp.net 0 [158.85.58.15 158.85.58.16]; 42 e1.whatsapp.net 0 [2a03:2880:f21f::1]",
		},
		{"byte order mark", "\ufeff[" + object(`"result":{"abuf":"`+no+`"}`) + "]", "42 e1.whatsapp.net 3 []"},
		{
			"the probe's resolvers", object(`"resultset":[{"time":1393090001,"result":{"abuf":"` + ok + `"}},{"error":{"timeout":5000}},{"error":{"nameserver":"no local resolvers found"}}]`),
			"42 e1.whatsapp.net 0 [158.85.58.15 158.85.58.16]; 42 timeout; 42 network error",
		},
		{"timeout", object(`"error":{"timeout":5000}`), "42 timeout"},
		{"old error", `{"fw":"1","msm_id":7,"prb_id":1,"from":"","dnserr":"TIMEOUT"}`, "1 timeout"},
		{"old, error as text", `{"fw":4400,"prb_id":1,"error":"TUCONNECT"}`, "1 network error"},
		{"no abuf", object(`"result":{"rt":3,"ANCOUNT":1,"answers":[{"RDATA":"9.9.9.9"}]}`), "42 no message"},
		{"not base64", object(`"result":{"abuf":"***"}`), "42 broken message"},
		{"not DNS", object(`"result":{"abuf":"aGVsbG8="}`), "42 broken message"},
		{"a header alone", object(`"result":{"abuf":"` + base64.StdEncoding.EncodeToString(raw[:12]) + `"}`), "42 broken message"},
		{"a query", object(`"result":{"abuf":"` + query + `"}`), "42 broken message"},
		{"cut by the probe", object(`"result":{"abuf":"` + short + `"}`), "42 broken message"},
		{"empty array", "[]", ""},
		{"braces in a text", object(`"x":"}{\"[","result":{"abuf":"` + no + `"}`), "42 e1.whatsapp.net 3 []"},
	} {
		var got []string
		err := Read("results.json", strings.NewReader(c.text), func(a *Answer) {
			if a.Failure != "" {
				got = append(got, fmt.Sprintf("%d %s", a.Probe, a.Failure))
				return
			}
			got = append(got, fmt.Sprintf("%d %s %d %v", a.Probe, a.Name, a.Rcode, a.Addresses))
		})
		if text := strings.Join(got, "; "); err != nil || text != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, text, err, c.want)
		}
	}
}

func TestReadBroken(t *testing.T) {
	good := `{"prb_id":1,"error":{"timeout":5000}}`
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "r.json: no results"},
		{"space", " \n", "r.json: no results"},
		{"text", "hello", "r.json: result 1: expected an array"},
		{"number", "[1]", "r.json: result 1: expected an array"},
		{"cut array", "[" + good + ",", "r.json: result 2: the file ends in the middle"},
		{"cut object", good + good[:12], "r.json: result 2: the file ends in the middle"},
		{"no comma", "[" + good + good + "]", "r.json: result 2: expected an array"},
		{"two arrays nested", "[[" + good + "]]", "r.json: result 1: expected"},
		{"ping", `{"type":"ping","prb_id":1,"result":[]}`, "r.json: result 1:"},
		{"other object", `{"hello":1}`, "r.json: result 1: neither"},
		{"broken inside", `{"prb_id":1,}`, "r.json: result 1: invalid character"},
		{"wrong type", `{"prb_id":"x","error":{}}`, "r.json: result 1: prb_id is not as RIPE Atlas writes it"},
		{"endless", `{"x":"` + strings.Repeat("a", maxResult) + `"}`, "r.json: result 1: longer than"},
	} {
		err := Read("r.json", strings.NewReader(c.text), func(*Answer) {})
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; want %q", c.name, err, c.want)
		}
	}
}

// world draws answers as a pool does: each holds 8 of n addresses.
func world(r *rand.Rand, c *Comparer, pool []netip.Addr, answers int) {
	for i := range answers {
		a := Answer{Probe: i, From: netip.AddrFrom4([4]byte{byte(1 + i%3), 0, 0, byte(i)}), Name: "e1.whatsapp.net"}
		for _, j := range r.Perm(len(pool))[:8] {
			a.Addresses = append(a.Addresses, pool[j])
		}
		c.Add(&a)
	}
}

func lookup(a netip.Addr) Place {
	if a.Is6() {
		return Place{}
	}
	switch b := a.As4(); b[0] {
	case 158:
		return Place{36351, "SoftLayer", "US"}
	case 66:
		return Place{64666, "Liar", "XX"}
	case 1, 2, 3:
		return Place{uint32(64500) + uint32(b[0]), "Eyeballs", []string{"AT", "DE", "IT"}[b[0]-1]}
	}
	return Place{}
}

func TestCompare(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var pool []netip.Addr
	for i := range 100 {
		pool = append(pool, netip.AddrFrom4([4]byte{158, 85, 58, byte(i)}))
	}
	c := NewComparer(lookup)
	world(r, c, pool[:90], 300)
	// A censor in one AS, a walled garden, and a dead resolver.
	for i := range 5 {
		c.Add(&Answer{Probe: 1000 + i, From: netip.MustParseAddr("1.0.0.1"), Name: "e1.whatsapp.net", Addresses: []netip.Addr{netip.MustParseAddr("66.6.6.6")}})
	}
	c.Add(&Answer{Probe: 2000, Name: "e1.whatsapp.net", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("100.64.0.1")}})
	c.Add(&Answer{Probe: 3000, Failure: Timeout})
	c.Add(&Answer{Probe: 3001, Name: "e1.whatsapp.net", Rcode: 3})

	got := c.Compare(append(slices.Clone(pool[10:]), pool[10]))
	if got.Active != 90 || got.Passive != 90 || got.Intersection != 80 || got.Union != 100 || got.Jaccard != 0.8 || got.PassiveCovered != 0.888889 {
		t.Errorf("sets: %+v", got)
	}
	if len(got.OnlyActive) != 10 || len(got.OnlyPassive) != 10 || got.OnlyActive[0] != "158.85.58.0" || got.OnlyPassive[0] != "158.85.58.90" {
		t.Errorf("differences: %v, %v", got.OnlyActive, got.OnlyPassive)
	}
	if len(got.Lying) != 1 || got.Lying[0] != (Apart{"66.6.6.6", 5, "AS64666 Liar", false}) || len(got.Private) != 2 {
		t.Errorf("apart: %+v, %+v", got.Lying, got.Private)
	}
	if got.Probes != 308 || got.Empty != 1 || got.Failures["timeout"] != 1 || got.Rcodes["nxdomain"] != 1 || !slices.Equal(got.Names, []string{"e1.whatsapp.net"}) {
		t.Errorf("counts: %+v", got)
	}
	if len(got.Countries) != 4 || got.Countries[0].Name != "AT" || got.Countries[0].Probes != 105 {
		t.Errorf("countries: %+v", got.Countries)
	}
	if len(got.Systems) != 4 {
		t.Errorf("systems: %+v", got.Systems)
	}
	var b bytes.Buffer
	if err := got.WriteTable(&b); err != nil || !strings.Contains(b.String(), "Jaccard 0.800") {
		t.Errorf("%v\n%s", err, b.String())
	}
	b.Reset()
	if err := got.WriteJSON(&b); err != nil || !json.Valid(b.Bytes()) {
		t.Error(err)
	}
}

// TestLying: what is set apart, with an AS database and without.
func TestLying(t *testing.T) {
	addr := netip.MustParseAddr
	answer := func(probe int, from string, addrs ...string) *Answer {
		a := &Answer{Probe: probe, Name: "e1.whatsapp.net"}
		if from != "" {
			a.From = addr(from)
		}
		for _, x := range addrs {
			a.Addresses = append(a.Addresses, addr(x))
		}
		return a
	}
	tap := []netip.Addr{addr("158.85.58.1"), addr("158.85.58.2"), addr("2a03:2880:f21f::1")}
	for _, tt := range []struct {
		name              string
		answers           []*Answer
		withAS, withoutAS string // lying
	}{
		{"the tap's own", []*Answer{answer(1, "1.0.0.1", "158.85.58.1")}, "", ""},
		{"one network is told another address", []*Answer{answer(1, "1.0.0.1", "66.6.6.6"), answer(2, "1.0.0.2", "66.6.6.6")}, "66.6.6.6", "66.6.6.6"},
		{"two networks are", []*Answer{answer(1, "1.0.0.1", "66.6.6.6"), answer(2, "2.0.0.2", "66.6.6.6")}, "", ""},
		{"two prefixes of one AS are", []*Answer{answer(1, "1.0.0.1", "66.6.6.6"), answer(2, "1.9.0.2", "66.6.6.6")}, "66.6.6.6", ""},
		{"another address of the app's AS", []*Answer{answer(1, "1.0.0.1", "158.9.9.9")}, "", "158.9.9.9"},
		{"the app's prefix", []*Answer{answer(1, "1.0.0.1", "158.85.99.9")}, "", ""},
		{"in one answer with the tap's own", []*Answer{answer(1, "1.0.0.1", "66.6.6.6", "158.85.58.1")}, "", ""},
		{"by way of another answer", []*Answer{answer(1, "1.0.0.1", "66.6.6.6", "67.7.7.7"), answer(2, "1.0.0.1", "67.7.7.7", "158.85.58.2")}, "", ""},
		{"beside a private one", []*Answer{answer(1, "1.0.0.1", "66.6.6.6", "10.0.0.1"), answer(2, "2.0.0.1", "158.85.58.2", "10.0.0.1")}, "66.6.6.6", "66.6.6.6"},
		{"the probe tells no address", []*Answer{answer(1, "", "66.6.6.6")}, "66.6.6.6", "66.6.6.6"},
		{"neither do two", []*Answer{answer(1, "", "66.6.6.6"), answer(2, "", "66.6.6.6")}, "", ""},
		{"IPv6 elsewhere", []*Answer{answer(1, "1.0.0.1", "2a01::1")}, "2a01::1", "2a01::1"},
		{"IPv6 nearby", []*Answer{answer(1, "1.0.0.1", "2a03:2880:9999::1")}, "", ""},
	} {
		for _, with := range []struct {
			name   string
			lookup func(netip.Addr) Place
			want   string
		}{{"with an AS database", lookup, tt.withAS}, {"without", nil, tt.withoutAS}} {
			c := NewComparer(with.lookup)
			for _, a := range tt.answers {
				c.Add(a)
			}
			var got []string
			for _, x := range c.Compare(tap).Lying {
				got = append(got, x.Address)
			}
			if strings.Join(got, " ") != with.want {
				t.Errorf("%s, %s: %v set apart, want %q", tt.name, with.name, got, with.want)
			}
			if lying := c.Compare(nil).Lying; with.lookup == nil && len(lying) > 0 {
				t.Errorf("%s: %v called lying with nothing to hold them against", tt.name, lying)
			}
		}
	}
	c := NewComparer(lookup)
	c.Add(answer(1, "66.0.0.1", "66.6.6.6"))
	if got := c.Compare(tap); len(got.Lying) != 1 || !got.Lying[0].Own || !strings.Contains(strings.Join(got.Notes, " "), "cache") {
		t.Errorf("an address of the probe's own AS: %+v, notes %q", got.Lying, got.Notes)
	}
}

// TestRarefaction holds the formula against drawing.
func TestRarefaction(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	const pool, answers = 60, 80
	var all [][]int
	c := NewComparer(nil)
	for i := range answers {
		a := Answer{Probe: i}
		var picked []int
		for range 3 {
			// Some addresses are handed out more often.
			n := int(float64(pool) * math.Pow(r.Float64(), 2))
			picked = append(picked, n)
			a.Addresses = append(a.Addresses, netip.AddrFrom4([4]byte{9, 9, 9, byte(n)}))
		}
		all = append(all, picked)
		c.Add(&a)
	}
	got := c.Compare(nil)
	last := got.Rarefaction[len(got.Rarefaction)-1]
	if last.Answers != answers || last.Addresses != float64(got.Active) || got.Estimate < float64(got.Active) {
		t.Errorf("the curve ends at %+v with %d addresses, estimate %v", last, got.Active, got.Estimate)
	}
	for _, p := range got.Rarefaction {
		if p.Answers%10 != 0 {
			continue
		}
		sum := 0
		const draws = 3000
		for range draws {
			seen := map[int]bool{}
			for _, i := range r.Perm(answers)[:p.Answers] {
				for _, n := range all[i] {
					seen[n] = true
				}
			}
			sum += len(seen)
		}
		if want := float64(sum) / draws; math.Abs(want-p.Addresses) > 0.25 {
			t.Errorf("%d answers: %.2f addresses, drawing says %.2f", p.Answers, p.Addresses, want)
		}
	}
}

func TestCompareNothing(t *testing.T) {
	got := NewComparer(nil).Compare(nil)
	if got.Jaccard != 0 || got.Estimate != 0 || len(got.Notes) == 0 {
		t.Errorf("%+v", got)
	}
	var b bytes.Buffer
	if err := got.WriteTable(&b); err != nil {
		t.Error(err)
	}
	if err := got.WriteJSON(&b); err != nil || strings.Contains(b.String(), "null") || strings.Contains(b.String(), "NaN") {
		t.Error(err, b.String())
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`[{"prb_id":1,"result":{"abuf":"` + abuf(f, "e1.whatsapp.net", 0, "1.2.3.4") + `"}}]`))
	f.Add([]byte(`{"resultset":[{"result":{"abuf":"AAAA"}}]}{"error":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := NewComparer(nil)
		if err := Read("fuzz", bytes.NewReader(b), c.Add); err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("more than a line: %v", err)
		}
		c.Compare(nil)
	})
}
