package ping

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func reply(t testing.TB, name string, change func(*dns.Msg), records ...string) []byte {
	t.Helper()
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	m.Response = true
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	if change != nil {
		change(m)
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestNames(t *testing.T) {
	tests := []struct {
		what, address, want string
		answers             [][]byte
	}{
		{"nothing", "192.0.2.1", "", nil},
		{"the name asked for, through an alias, lower case", "192.0.2.1", "www.example", [][]byte{reply(t, "WWW.example", nil, "www.example. 1 CNAME cdn.example.", "cdn.example. 1 A 192.0.2.1")}},
		{"IPv6", "2001:db8::1", "a.example", [][]byte{reply(t, "a.example", nil, "a.example. 1 AAAA 2001:db8::1")}},
		{"each of several", "192.0.2.2", "a.example", [][]byte{reply(t, "a.example", nil, "a.example. 1 A 192.0.2.1", "a.example. 1 A 192.0.2.2")}},
		{"the newest", "192.0.2.1", "b.example", [][]byte{reply(t, "a.example", nil, "a.example. 1 A 192.0.2.1"), reply(t, "b.example", nil, "b.example. 1 A 192.0.2.1")}},
		{"a query", "192.0.2.1", "", [][]byte{reply(t, "a.example", func(m *dns.Msg) { m.Response = false }, "a.example. 1 A 192.0.2.1")}},
		{"an error", "192.0.2.1", "", [][]byte{reply(t, "a.example", func(m *dns.Msg) { m.Rcode = dns.RcodeServerFailure }, "a.example. 1 A 192.0.2.1")}},
		{"no question", "192.0.2.1", "", [][]byte{reply(t, "a.example", func(m *dns.Msg) { m.Question = nil }, "a.example. 1 A 192.0.2.1")}},
		{"the root", "192.0.2.1", "", [][]byte{reply(t, ".", nil, ". 1 A 192.0.2.1")}},
		{"no DNS", "192.0.2.1", "", [][]byte{[]byte("GET / HTTP/1.1"), nil, {1, 2, 3}}},
	}
	for _, test := range tests {
		var n Names
		for _, b := range test.answers {
			n.Learn(b)
		}
		if got := n.Of(netip.MustParseAddr(test.address)); got != test.want {
			t.Errorf("%s: %q, want %q", test.what, got, test.want)
		}
	}
}

func TestNamesAreBounded(t *testing.T) {
	var n Names
	a := netip.MustParseAddr("10.0.0.0")
	first := a
	for range 3 * maxNames {
		n.put(a.AsSlice(), "x.example")
		a = a.Next()
	}
	if len(n.byAddr) != maxNames || len(n.order) != maxNames {
		t.Errorf("%d names, want %d", len(n.byAddr), maxNames)
	}
	if n.Of(first) != "" || n.Of(a.Prev()) == "" {
		t.Error("the oldest should have gone, and the newest be there")
	}
}

func FuzzNames(f *testing.F) {
	f.Add(reply(f, "a.example", nil, "a.example. 1 A 192.0.2.1"))
	f.Add([]byte{0, 0, 0x80, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0xc0, 12})
	f.Fuzz(func(t *testing.T, b []byte) {
		var n Names
		n.Learn(b)
		for a, name := range n.byAddr {
			if name == "" || name != strings.ToLower(name) || !a.IsValid() {
				t.Errorf("%v %q", a, name)
			}
		}
	})
}
