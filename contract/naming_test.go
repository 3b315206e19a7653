package contract

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const (
	chatName  = "e5.whatsapp.net"
	photoName = "mmi123.whatsapp.net"

	grace = 10 * time.Second // --dns-grace's default
	stale = 6 * time.Hour    // --dns-stale's default
)

// ownEvidence leaves out what other subscribers know.
var ownEvidence = []string{"--evidence", "sni,dns,dns-stale"}

// verdict is a connection and how it must be named.
type verdict struct {
	conn *conn
	want named
}

func (c *conn) is(want named) verdict { return verdict{c, want} }

// rule is a sentence of the contract, the trace that puts it to the test, and
// the connections of that trace.
type rule struct {
	says  string
	args  []string
	trace func(tr *trace) []verdict
}

func prove(t *testing.T, rules []rule) {
	for _, r := range rules {
		t.Run(r.says, func(t *testing.T) {
			t.Parallel()
			tr := newTrace()
			verdicts := r.trace(tr)
			conns := make([]*conn, len(verdicts))
			for i, v := range verdicts {
				conns[i] = v.conn
			}
			records := tr.analyzed(t, r.args...).flows(t, conns...)
			for i := range records {
				records[i].namedAs(t, verdicts[i].want)
			}
		})
	}
}

// answerThen has alice told that the server is called name, and lets her
// connect so long after the answer.
func answerThen(name string, ttl uint32, later time.Duration, want named) func(tr *trace) []verdict {
	return func(tr *trace) []verdict {
		tr.answer(alice, name, ttl, server.Addr().String())
		return []verdict{tr.at(later).conn(alice, server).whole().is(want)}
	}
}

func TestValidityOfAnAnswer(t *testing.T) {
	prove(t, []rule{
		{"an answer is valid from its own packet time on", nil, answerThen(chatName, 30, 0, chatBy("dns"))},
		{"it names what starts a little later", nil, answerThen(chatName, 30, 20*time.Millisecond, chatBy("dns"))},
		{"it is valid for TTL + grace, to the nanosecond", nil, answerThen(chatName, 30, 30*time.Second+grace, chatBy("dns"))},
		{"and stale one nanosecond later", nil, answerThen(chatName, 30, 30*time.Second+grace+1, chatBy("dns-stale"))},
		{"it is stale evidence for six hours more", nil, answerThen(chatName, 30, 30*time.Second+grace+stale, chatBy("dns-stale"))},
		{"and none one nanosecond later", nil, answerThen(chatName, 30, 30*time.Second+grace+stale+1, unnamed)},
		{"a TTL of 0 is valid for the grace", nil, answerThen(chatName, 0, grace, chatBy("dns"))},
		{"and stale after it", nil, answerThen(chatName, 0, grace+1, chatBy("dns-stale"))},
		{"a TTL of weeks is believed", nil, answerThen(chatName, 4e6, 1100*time.Hour, chatBy("dns"))},
		{"the largest TTL there is does not overflow", nil, answerThen(chatName, 1<<31-1, 1000*time.Hour, chatBy("dns"))},
		{"a TTL with its top bit set is 0 (RFC 2181 section 8)", nil, answerThen(chatName, 1<<32-1, grace+1, chatBy("dns-stale"))},
		{
			"--dns-grace is added to every TTL",
			[]string{"--dns-grace", "2m"},
			answerThen(chatName, 30, 150*time.Second, chatBy("dns")),
		},
		{
			"and nothing more is", []string{"--dns-grace", "2m"}, answerThen(chatName, 30, 150*time.Second+1, chatBy("dns-stale")),
		},
		{"--dns-grace may be 0", []string{"--dns-grace", "0s"}, answerThen(chatName, 30, 30*time.Second, chatBy("dns"))},
		{"and then is", []string{"--dns-grace", "0"}, answerThen(chatName, 30, 30*time.Second+1, chatBy("dns-stale"))},
		{
			"--dns-stale is how long past its validity an answer may name",
			[]string{"--dns-stale", "1h"},
			answerThen(chatName, 30, 40*time.Second+time.Hour, chatBy("dns-stale")),
		},
		{"and no longer", []string{"--dns-stale", "1h"}, answerThen(chatName, 30, 40*time.Second+time.Hour+1, unnamed)},
		{"--dns-stale may be 0", []string{"--dns-stale", "0s"}, answerThen(chatName, 30, 40*time.Second+1, unnamed)},
		{"dns-stale names only where it may", []string{"--evidence", "sni,dns,server"}, answerThen(chatName, 30, time.Minute, unnamed)},
		{"a valid answer is no stale one", []string{"--evidence", "sni,dns-stale"}, answerThen(chatName, 30, time.Second, unnamed)},
	})
}

func TestReplacedAnswers(t *testing.T) {
	prove(t, []rule{
		{"a newer answer replaces the older one from its own time on", nil, func(tr *trace) []verdict {
			tr.answer(alice, chatName, 300, server.Addr().String())
			before := tr.at(5*time.Second).conn(alice, server).whole()
			tr.at(10*time.Second).answer(alice, photoName, 300, server.Addr().String())
			after := tr.at(10*time.Second).conn(alice, server).whole()
			return []verdict{before.is(chatBy("dns")), after.is(photoBy("dns"))}
		}},
		{"also where the newer one is short-lived", nil, func(tr *trace) []verdict {
			tr.answer(alice, chatName, 3000, server.Addr().String())
			tr.at(time.Second).answer(alice, photoName, 1, server.Addr().String())
			return []verdict{tr.at(time.Minute).conn(alice, server).whole().is(photoBy("dns-stale"))}
		}},
		{"answers are judged as of the flow's first packet, not of its first payload", nil, func(tr *trace) []verdict {
			tr.answer(alice, chatName, 300, server.Addr().String())
			c := tr.at(time.Second).conn(alice, server).open()
			tr.at(2*time.Second).answer(alice, photoName, 300, server.Addr().String())
			tr.at(3 * time.Second)
			return []verdict{c.talk().close().is(chatBy("dns"))}
		}},
		{"an answer that expires before the payload still was valid at the first packet", nil, func(tr *trace) []verdict {
			tr.answer(alice, chatName, 5, server.Addr().String())
			c := tr.at(14*time.Second).conn(alice, server).open()
			tr.at(20 * time.Second)
			return []verdict{c.talk().close().is(chatBy("dns"))}
		}},
		{"an answer repeated, by a mirror or by the resolver, names as before", nil, func(tr *trace) []verdict {
			tr.answer(alice, chatName, 300, server.Addr().String())
			c := tr.at(100*time.Millisecond).conn(alice, server).open()
			tr.at(101*time.Millisecond).answer(alice, chatName, 300, server.Addr().String())
			tr.at(150 * time.Millisecond)
			return []verdict{c.talk().close().is(chatBy("dns"))}
		}},
		{"an answer written behind the SYN that follows it in packet time is not late", nil, func(tr *trace) []verdict {
			c := tr.at(10*time.Millisecond).conn(alice, server).open()
			tr.at(5*time.Millisecond).answer(alice, chatName, 300, server.Addr().String())
			tr.at(20 * time.Millisecond)
			return []verdict{c.talk().close().is(chatBy("dns"))}
		}},
		{"an answer of the same packet time as the SYN before it is not late", nil, func(tr *trace) []verdict {
			c := tr.at(0).conn(alice, server).syn()
			tr.at(0).answer(alice, chatName, 300, server.Addr().String())
			tr.at(20 * time.Millisecond)
			return []verdict{c.synAck().ackUp().talk().close().is(chatBy("dns"))}
		}},
		{"a name is kept for life", nil, func(tr *trace) []verdict {
			tr.answer(alice, chatName, 300, server.Addr().String())
			c := tr.at(time.Second).conn(alice, server).open().talk()
			tr.at(2*time.Second).answer(alice, photoName, 300, server.Addr().String())
			tr.at(3 * time.Second)
			return []verdict{c.talk().close().is(chatBy("dns"))}
		}},
		{"two answers may name one server for two subscribers", nil, func(tr *trace) []verdict {
			tr.answer(alice, chatName, 300, server.Addr().String())
			tr.answer(bob, photoName, 300, server.Addr().String())
			tr.at(time.Second)
			return []verdict{
				tr.conn(alice, server).whole().is(chatBy("dns")),
				tr.conn(bob, server).whole().is(photoBy("dns")),
			}
		}},
	})
}

func TestWhoseAnswerItIs(t *testing.T) {
	six := netip.MustParseAddr
	server6 := netip.MustParseAddrPort("[2001:db8:ffff::1]:443")
	named6 := func(asker, client string, want named) func(tr *trace) []verdict {
		return func(tr *trace) []verdict {
			tr.answer(six(asker), chatName, 300, server6.Addr().String())
			return []verdict{tr.at(time.Second).conn(six(client), server6).whole().is(want)}
		}
	}
	prove(t, []rule{
		{"one subscriber's answer is no DNS evidence for another", ownEvidence, func(tr *trace) []verdict {
			tr.answer(bob, chatName, 300, server.Addr().String())
			return []verdict{tr.at(time.Second).conn(alice, server).whole().is(unnamed)}
		}},
		{"an answer says nothing of another server", nil, func(tr *trace) []verdict {
			tr.answer(alice, chatName, 300, server.Addr().String())
			return []verdict{tr.at(time.Second).conn(alice, serverAt(2)).whole().is(unnamed)}
		}},
		{"an answer names every port of the server", nil, func(tr *trace) []verdict {
			tr.answer(alice, chatName, 300, server.Addr().String())
			return []verdict{tr.at(time.Second).conn(alice, netip.AddrPortFrom(server.Addr(), 5222)).whole().is(chatBy("dns"))}
		}},
		{"IPv6 works like IPv4", nil, named6("fd00:1:2:3::1", "fd00:1:2:3::1", chatBy("dns"))},
		{"a handset owns its whole /64", ownEvidence, named6("fd00:1:2:3::1", "fd00:1:2:3:ffff:eeee:dddd:cccc", chatBy("dns"))},
		{"and nothing beyond it", ownEvidence, named6("fd00:1:2:3::1", "fd00:1:2:4::1", unnamed)},
	})
}

func TestWhatAnAnswerHolds(t *testing.T) {
	many := []string{}
	for i := 1; i <= 8; i++ {
		many = append(many, serverAt(i).Addr().String())
	}
	one := many[:1]
	answered := func(a answer, to int, want named) func(tr *trace) []verdict {
		return func(tr *trace) []verdict {
			tr.dns(alice, a.bytes())
			return []verdict{tr.at(time.Second).conn(alice, serverAt(to)).whole().is(want)}
		}
	}
	prove(t, []rule{
		{"the first of several addresses is named", nil, answered(answer{name: chatName, ttl: 60, addrs: many}, 1, chatBy("dns"))},
		{"and the last", nil, answered(answer{name: chatName, ttl: 60, addrs: many}, 8, chatBy("dns"))},
		{
			"the name is the QNAME, never the CNAME's target", nil,
			answered(answer{name: chatName, ttl: 60, addrs: one, chain: []string{"chat.cdn.whatsapp.net"}}, 1, chatBy("dns")),
		},
		{
			"however long the chain", nil,
			answered(answer{name: chatName, ttl: 60, addrs: one, chain: []string{"a.example", "b.example", "c.example", "d.example"}}, 1, chatBy("dns")),
		},
		{"with names that are not compressed", nil, answered(answer{name: chatName, ttl: 60, addrs: many, plain: true}, 8, chatBy("dns"))},
		{"with EDNS", nil, answered(answer{name: chatName, ttl: 60, addrs: one, edns: true}, 1, chatBy("dns"))},
		{"names are compared and written in lower case", nil, answered(answer{name: "E5.WhatsApp.NET", ttl: 60, addrs: one}, 1, chatBy("dns"))},
		{
			"a name that no rule knows is other/other, and is written", nil,
			answered(answer{name: "www.example.org", ttl: 60, addrs: one}, 1, named{"www.example.org", "dns", "other", "other"}),
		},
		{
			"a name under the app's domains that no class matches is the app's other", nil,
			answered(answer{name: "new.whatsapp.net", ttl: 60, addrs: one}, 1, named{"new.whatsapp.net", "dns", "whatsapp", "other"}),
		},
		{"NXDOMAIN names nothing", nil, answered(answer{name: chatName, rcode: dns.RcodeNameError}, 1, unnamed)},
		{"an answer without addresses names nothing", nil, answered(answer{name: chatName, ttl: 60, chain: []string{"chat.cdn.whatsapp.net"}}, 1, unnamed)},
	})
}

func TestRecordOfAnAnswer(t *testing.T) {
	tr := newTrace()
	tr.answer(alice, chatName, 300, server.Addr().String())
	valid := tr.at(1500*time.Millisecond).conn(alice, server).whole()
	other := tr.conn(alice, server).open().up(hello{sni: photoName}.bytes()).close()
	none := tr.conn(alice, serverAt(2)).whole()
	r := tr.analyzed(t).flows(t, valid, other, none)
	if r[0].DNSAge == nil || *r[0].DNSAge != 1.5 {
		t.Errorf("dns_age_s is %v, want 1.5, from the answer to the first packet", r[0].DNSAge)
	}
	r[1].namedAs(t, photoBy("sni"))
	if got := text(r[1].DNSName); got != chatName {
		t.Errorf("dns_name of a flow named by SNI is %q, want %q all the same", got, chatName)
	}
	if r[2].Name != nil || r[2].DNSName != nil || r[2].SNI != nil || r[2].DNSAge != nil {
		t.Errorf("name, dns_name, sni and dns_age_s of a flow without any are not null: %+v", r[2])
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	good := answer{name: chatName, ttl: 300, addrs: []string{server.Addr().String()}}
	ask := &dns.Msg{}
	ask.SetQuestion(dns.Fqdn(chatName), dns.TypeA)
	loop := good.bytes()
	copy(loop[12+len(chatName)+2+4:], []byte{0xc0, byte(12 + len(chatName) + 2 + 4)}) // the owner's name points at itself
	short := good.bytes()[:40]
	tests := []struct {
		says                 string
		from, to             uint16
		message              []byte
		responses, malformed uint64
	}{
		{"an answer from port 53 is one", 53, 33333, good.bytes(), 1, 0},
		{"a query is none", 53, 33333, packed(ask), 0, 0},
		{"multicast DNS is none", 5353, 5353, good.bytes(), 0, 0},
		{"LLMNR is none", 5355, 33333, good.bytes(), 0, 0},
		{"NetBIOS is none", 137, 137, good.bytes(), 0, 0},
		{"an answer from another port is none", 5300, 33333, good.bytes(), 0, 0},
		{"a compression loop is refused", 53, 33333, loop, 0, 1},
		{"a message that ends too early is malformed", 53, 33333, short, 0, 1},
		{"an empty datagram is malformed", 53, 33333, nil, 0, 1},
	}
	for _, tt := range tests {
		t.Run(tt.says, func(t *testing.T) {
			t.Parallel()
			tr := newTrace()
			tr.datagram(netip.AddrPortFrom(resolver, tt.from), netip.AddrPortFrom(alice, tt.to), tt.message, false)
			c := tr.at(time.Second).conn(alice, server).whole()
			r := tr.analyzed(t)
			want := unnamed
			if tt.responses > 0 {
				want = chatBy("dns")
			}
			r.flows(t, c)[0].namedAs(t, want)
			if d := r.summary.DNS; d.Responses != tt.responses || d.Malformed != tt.malformed || d.Addresses != tt.responses {
				t.Errorf("dns is %+v, want %d responses, as many addresses and %d malformed", d, tt.responses, tt.malformed)
			}
		})
	}
}

// TestEveryResponseIsCounted: NXDOMAIN and other RCODEs are responses too.
func TestEveryResponseIsCounted(t *testing.T) {
	tr := newTrace()
	for rcode := range 6 {
		tr.dns(alice, answer{name: chatName, rcode: rcode}.bytes())
	}
	tr.dns(alice, answer{name: chatName, ttl: 1, addrs: []string{"192.0.2.1", "192.0.2.2"}}.bytes())
	if d := tr.analyzed(t).summary.DNS; d.Responses != 7 || d.Addresses != 2 || d.Malformed != 0 {
		t.Errorf("dns is %+v, want 7 responses, 2 addresses, none malformed", d)
	}
}

// TestSnapCutHidesWhatItIs: where the snap length leaves no DNS header, nothing
// says that a datagram from port 53 is an answer.
func TestSnapCutHidesWhatItIs(t *testing.T) {
	tr := newTrace()
	tr.cut = 14 + 20 + 8
	tr.answer(alice, chatName, 300, server.Addr().String())
	if d := tr.analyzed(t).summary.DNS; d.Responses != 0 || d.Malformed != 0 {
		t.Errorf("dns is %+v, want no response and none malformed", d)
	}
}

func TestDNSOverTCP(t *testing.T) {
	first := answer{name: chatName, ttl: 300, addrs: []string{serverAt(1).Addr().String()}}.bytes()
	second := answer{name: photoName, ttl: 300, addrs: []string{serverAt(2).Addr().String()}}.bytes()
	one, both := overTCP(first), overTCP(first, second)
	ask := overTCP(packed(new(dns.Msg).SetQuestion(dns.Fqdn(chatName), dns.TypeA)))
	tests := []struct {
		says  string
		named int // how many of the two servers have a name after it
		send  func(c *conn)
	}{
		{"in one segment", 1, func(c *conn) { c.down(one) }},
		{"byte by byte", 1, func(c *conn) {
			for i := range one {
				c.down(one[i : i+1])
			}
		}},
		{"cut inside the length", 1, func(c *conn) { c.down(one[:1]).down(one[1:]) }},
		{"cut behind the length", 1, func(c *conn) { c.down(one[:2]).down(one[2:]) }},
		{"several messages in one segment", 2, func(c *conn) { c.down(both) }},
		{"several messages, cut anywhere", 2, func(c *conn) { c.down(both[:len(one)+9]).down(both[len(one)+9:]) }},
		{"out of order", 1, func(c *conn) {
			at := c.next[down]
			c.next[down] += 20
			c.down(one[20:])
			c.send(down, segment{flags: ack, seq: at, ack: c.next[up], payload: one[:20]})
		}},
		{"with segments repeated", 2, func(c *conn) {
			at := c.next[down]
			c.down(both[:30])
			c.send(down, segment{flags: ack, seq: at, ack: c.next[up], payload: both[:30]})
			c.down(both[30:])
		}},
		{"together with the FIN", 1, func(c *conn) { c.segment(down, ack|psh|fin, one) }},
		{"never whole", 0, func(c *conn) { c.down(one[:len(one)-1]) }},
	}
	for _, tt := range tests {
		t.Run(tt.says, func(t *testing.T) {
			t.Parallel()
			tr := newTrace()
			lookup := tr.conn(alice, netip.AddrPortFrom(resolver, 53)).open().up(ask)
			tt.send(lookup)
			tr.at(time.Second)
			chat, photo := tr.conn(alice, serverAt(1)).whole(), tr.conn(alice, serverAt(2)).whole()
			r := tr.analyzed(t)
			recs := r.flows(t, lookup, chat, photo)
			recs[0].namedAs(t, unnamed)
			for i, want := range []named{chatBy("dns"), photoBy("dns")} {
				if i >= tt.named {
					want = unnamed
				}
				recs[1+i].namedAs(t, want)
			}
			if d := r.summary.DNS; d.Responses != uint64(tt.named) || d.Malformed != 0 {
				t.Errorf("dns is %+v, want %d responses", d, tt.named)
			}
		})
	}
}

func TestDNSInFragments(t *testing.T) {
	var addrs []string
	for i := range 100 {
		addrs = append(addrs, serverAt(1+i).Addr().String())
	}
	big := answer{name: chatName, ttl: 300, addrs: addrs}.bytes()
	in6 := netip.MustParseAddr("fd00:1:2:3::1")
	prove(t, []rule{
		{"IPv4 in order", nil, func(tr *trace) []verdict {
			for _, f := range fragments4(ipPacket(resolver, alice, protocolUDP, 7, udp(53, 33333, big)), 1000) {
				tr.packet(f, false)
			}
			return []verdict{tr.at(time.Second).conn(alice, serverAt(100)).whole().is(chatBy("dns"))}
		}},
		{"IPv4 last one first", nil, func(tr *trace) []verdict {
			f := fragments4(ipPacket(resolver, alice, protocolUDP, 7, udp(53, 33333, big)), 600)
			for i := range f {
				tr.packet(f[len(f)-1-i], false)
			}
			return []verdict{tr.at(time.Second).conn(alice, serverAt(100)).whole().is(chatBy("dns"))}
		}},
		{"IPv6", nil, func(tr *trace) []verdict {
			from := netip.MustParseAddr("2001:db8:53::53")
			message := answer{name: chatName, ttl: 300, addrs: append(addrs6(80), "2001:db8:ffff::1")}.bytes()
			for _, f := range fragments6(ipPacket(from, in6, protocolUDP, 0, udp(53, 33333, message)), 9, 1000) {
				tr.packet(f, false)
			}
			to := netip.MustParseAddrPort("[2001:db8:ffff::1]:443")
			return []verdict{tr.at(time.Second).conn(in6, to).whole().is(chatBy("dns"))}
		}},
		{"one is missing", nil, func(tr *trace) []verdict {
			f := fragments4(ipPacket(resolver, alice, protocolUDP, 7, udp(53, 33333, big)), 600)
			tr.packet(f[0], false)
			tr.packet(f[2], false)
			return []verdict{tr.at(time.Second).conn(alice, serverAt(100)).whole().is(unnamed)}
		}},
	})
}

func addrs6(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("2001:db8:aaaa::%x", i+1))
	}
	return list
}

// sends opens a connection and lets the client send these segments.
func (c *conn) sends(pieces ...[]byte) *conn {
	c.open()
	for _, p := range pieces {
		c.up(p)
	}
	return c.down([]byte("hello yourself")).close()
}

// cutInto cuts b into n pieces of about one size.
func cutInto(b []byte, n int) (pieces [][]byte) {
	for i := range n {
		pieces = append(pieces, b[len(b)*i/n:len(b)*(i+1)/n])
	}
	return pieces
}

func TestServerName(t *testing.T) {
	plain := hello{sni: photoName}.bytes()
	late := hello{sni: photoName, pad: 3000}.bytes() // the name in the last piece
	// Too much for 16 KiB: the name before that, or beyond.
	early := hello{sni: photoName, tail: 19000}.bytes()
	beyond := hello{sni: photoName, pad: 17000}.bytes()
	simple := func(want named, pieces ...[]byte) func(tr *trace) []verdict {
		return func(tr *trace) []verdict { return []verdict{tr.conn(alice, server).sends(pieces...).is(want)} }
	}
	prove(t, []rule{
		{"a ClientHello names a flow", nil, simple(photoBy("sni"), plain)},
		{"in lower case", nil, simple(photoBy("sni"), hello{sni: "MMI123.WhatsApp.net"}.bytes())},
		{"cut anywhere in two", nil, func(tr *trace) (v []verdict) {
			for i := 1; i < len(plain); i++ {
				v = append(v, tr.conn(alice, server).sends(plain[:i], plain[i:]).is(photoBy("sni")))
			}
			return v
		}},
		{"whole with the fifth segment", nil, simple(photoBy("sni"), cutInto(late, 5)...)},
		{"whole with the sixth is too late", nil, simple(unnamed, cutInto(late, 6)...)},
		{"a name within 16 KiB counts, whatever follows", nil, simple(photoBy("sni"), cutInto(early, 4)...)},
		{"a name beyond 16 KiB is not looked for", nil, simple(unnamed, cutInto(beyond, 4)...)},
		{"out of order", nil, func(tr *trace) []verdict {
			c := tr.conn(alice, server).open()
			at := c.next[up]
			c.next[up] += 60
			c.up(plain[60:])
			c.send(up, segment{flags: ack, seq: at, ack: c.next[down], payload: plain[:60]})
			return []verdict{c.close().is(photoBy("sni"))}
		}},
		{"with a segment repeated", nil, func(tr *trace) []verdict {
			c := tr.conn(alice, server).open()
			at := c.next[up]
			c.up(plain[:60])
			c.send(up, segment{flags: ack, seq: at, ack: c.next[down], payload: plain[:60]})
			return []verdict{c.up(plain[60:]).close().is(photoBy("sni"))}
		}},
		{"behind a keep-alive that waits for nothing", nil, func(tr *trace) []verdict {
			c := tr.conn(alice, server).open()
			c.send(up, segment{flags: ack, seq: c.next[up] - 1, ack: c.next[down]})
			return []verdict{c.up(plain).close().is(photoBy("sni"))}
		}},
		{"one way only", nil, func(tr *trace) []verdict {
			return []verdict{tr.conn(alice, server).syn().ackUp().up(plain).is(photoBy("sni"))}
		}},
		{"in the SYN itself (RFC 7413)", nil, func(tr *trace) []verdict {
			c := tr.conn(alice, server).segment(up, syn, plain).synAck().ackUp().down([]byte("x"))
			return []verdict{c.close().is(photoBy("sni"))}
		}},
		{"of a connection met in mid-stream, whose first bytes it is", nil, func(tr *trace) []verdict {
			return []verdict{tr.conn(alice, server).up(plain).down([]byte("x")).is(photoBy("sni"))}
		}},
		{"on any port", nil, func(tr *trace) []verdict {
			return []verdict{tr.conn(alice, netip.AddrPortFrom(server.Addr(), 5222)).sends(plain).is(photoBy("sni"))}
		}},
		{"not from the server", nil, func(tr *trace) []verdict {
			return []verdict{tr.conn(alice, server).open().down(plain).up([]byte("hm")).close().is(unnamed)}
		}},
		{"not behind other bytes", nil, simple(unnamed, []byte("GET / HTTP/1.1\r\n\r\n"), plain)},
		{"not with ECH: the name is that of a front", nil, simple(unnamed, hello{sni: photoName, ech: true}.bytes())},
		{"none in the hello", nil, simple(unnamed, hello{}.bytes())},
		{"of a hello that is never whole, at the flow's end", nil, func(tr *trace) []verdict {
			c := tr.conn(alice, server).open().up(hello{sni: photoName, tail: 2000}.bytes()[:1000])
			return []verdict{c.close().is(photoBy("sni"))}
		}},
	})
}

// TestECHHasNoServerName: with ECH the record has no sni, and DNS names the flow.
func TestECHHasNoServerName(t *testing.T) {
	tr := newTrace()
	tr.answer(alice, chatName, 300, server.Addr().String())
	c := tr.at(time.Second).conn(alice, server).sends(hello{sni: photoName, ech: true}.bytes())
	r := tr.analyzed(t).flows(t, c)[0]
	r.namedAs(t, chatBy("dns"))
	if r.SNI != nil {
		t.Errorf("sni is %q, want null", *r.SNI)
	}
}

func TestEvidenceOrder(t *testing.T) {
	// Alice's DNS says chat, her ClientHello photo, bob's DNS video.
	scene := func(dnsAt time.Duration, withSNI bool, want named) func(tr *trace) []verdict {
		return func(tr *trace) []verdict {
			tr.answer(bob, "mmv1.whatsapp.net", 86400, server.Addr().String())
			tr.wait(time.Second)
			if dnsAt > 0 {
				tr.answer(alice, chatName, 20, server.Addr().String())
				tr.wait(dnsAt)
			}
			// Others' packets, so that packet time moves on.
			other := tr.conn(carol, serverAt(9)).open()
			tr.wait(time.Second)
			other.talk()
			tr.wait(time.Second)
			c := tr.conn(alice, server)
			if withSNI {
				c.sends(hello{sni: photoName}.bytes())
			} else {
				c.whole()
			}
			return []verdict{other.is(unnamed), c.is(want)}
		}
	}
	video := named{"mmv1.whatsapp.net", "server", "whatsapp", "video"}
	prove(t, []rule{
		{"sni before dns", nil, scene(time.Second, true, photoBy("sni"))},
		{"sni before dns-stale", nil, scene(time.Minute, true, photoBy("sni"))},
		{"sni before server", nil, scene(0, true, photoBy("sni"))},
		{"dns before server", nil, scene(time.Second, false, chatBy("dns"))},
		{"dns-stale before server", nil, scene(time.Minute, false, chatBy("dns-stale"))},
		{"server where there is nothing else", nil, scene(0, false, video)},
		{"--evidence dns,sni", []string{"--evidence", "dns,sni"}, scene(time.Second, true, chatBy("dns"))},
		{"--evidence dns,sni without an answer", []string{"--evidence", "dns,sni"}, scene(0, true, photoBy("sni"))},
		{"--evidence dns-stale,sni", []string{"--evidence", "dns-stale,sni"}, scene(time.Minute, true, chatBy("dns-stale"))},
		{"--evidence server,sni", []string{"--evidence", "server,sni"}, scene(0, true, video)},
		{"--evidence sni", []string{"--evidence", "sni"}, scene(time.Second, false, unnamed)},
		{"--evidence dns", []string{"--evidence", "dns"}, scene(0, true, unnamed)},
		{"--evidence dns, stale", []string{"--evidence", "dns"}, scene(time.Minute, true, unnamed)},
		{"--evidence sni,dns,dns-stale", ownEvidence, scene(0, false, unnamed)},
	})
}

func TestLateAnswers(t *testing.T) {
	// The answer comes so long after the first packet; the payload passes
	// before it or behind it.
	late := func(answered time.Duration, payload time.Duration, want named) func(tr *trace) []verdict {
		return func(tr *trace) []verdict {
			c := tr.at(0).conn(alice, server).open()
			if payload < answered {
				tr.at(payload)
				c.talk()
			}
			tr.at(answered).answer(alice, chatName, 300, server.Addr().String())
			if payload > answered {
				tr.at(payload)
				c.talk()
			}
			tr.wait(5 * time.Second)
			return []verdict{c.close().is(want)}
		}
	}
	prove(t, []rule{
		{"a flow that nothing names stays open to an answer", nil, late(300*time.Millisecond, 100*time.Millisecond, chatBy("dns"))},
		{"also where its payload comes after it", nil, late(300*time.Millisecond, 500*time.Millisecond, chatBy("dns"))},
		{"until 1 s after its first packet", nil, late(time.Second, 100*time.Millisecond, chatBy("dns"))},
		{"and not a nanosecond longer", nil, late(time.Second+1, 100*time.Millisecond, unnamed)},
		{"also where its payload comes much later", nil, late(900*time.Millisecond, 10*time.Second, chatBy("dns"))},
		{"not where DNS may name nothing", []string{"--evidence", "sni,dns-stale,server"}, late(300*time.Millisecond, 100*time.Millisecond, unnamed)},
		{"not where an answer came before it", nil, func(tr *trace) []verdict {
			tr.answer(alice, photoName, 300, server.Addr().String())
			c := tr.at(time.Second).conn(alice, server).open().talk()
			tr.answer(alice, chatName, 300, server.Addr().String())
			tr.wait(3 * time.Second)
			return []verdict{c.close().is(photoBy("dns"))}
		}},
		{"not where a stale one did", nil, func(tr *trace) []verdict {
			tr.answer(alice, photoName, 1, server.Addr().String())
			c := tr.at(time.Minute).conn(alice, server).open().talk()
			tr.answer(alice, chatName, 300, server.Addr().String())
			tr.wait(3 * time.Second)
			return []verdict{c.close().is(photoBy("dns-stale"))}
		}},
		{"not where the ClientHello has a name", nil, func(tr *trace) []verdict {
			c := tr.conn(alice, server).open().up(hello{sni: photoName}.bytes())
			tr.answer(alice, chatName, 300, server.Addr().String())
			tr.wait(3 * time.Second)
			return []verdict{c.close().is(photoBy("sni"))}
		}},
		{"not where the ClientHello has a name and comes after it", nil, func(tr *trace) []verdict {
			c := tr.conn(alice, server).open()
			tr.answer(alice, chatName, 300, server.Addr().String())
			tr.wait(10 * time.Millisecond)
			c.up(hello{sni: photoName}.bytes())
			tr.wait(3 * time.Second)
			return []verdict{c.close().is(photoBy("sni"))}
		}},
		{"not where other subscribers' answers name the server", nil, func(tr *trace) []verdict {
			tr.answer(bob, photoName, 300, server.Addr().String())
			c := tr.at(time.Second).conn(alice, server).open().talk()
			tr.answer(alice, chatName, 300, server.Addr().String())
			tr.wait(3 * time.Second)
			return []verdict{c.close().is(photoBy("server"))}
		}},
		{"by the first of several answers: a name is kept for life", nil, func(tr *trace) []verdict {
			c := tr.conn(alice, server).open().talk()
			tr.answer(alice, chatName, 300, server.Addr().String())
			tr.answer(alice, photoName, 300, server.Addr().String())
			tr.wait(3 * time.Second)
			return []verdict{c.close().is(chatBy("dns"))}
		}},
		{"by the answer of its own subscriber alone", ownEvidence, func(tr *trace) []verdict {
			c := tr.conn(alice, server).open().talk()
			tr.answer(bob, chatName, 300, server.Addr().String())
			tr.wait(3 * time.Second)
			return []verdict{c.close().is(unnamed)}
		}},
		{"a flow that is over in time, too", nil, func(tr *trace) []verdict {
			c := tr.conn(alice, server).whole()
			tr.answer(alice, chatName, 300, server.Addr().String())
			return []verdict{c.is(chatBy("dns"))}
		}},
	})
}

func TestWhenTheNameIsSettled(t *testing.T) {
	known := func(send func(c *conn), want named) func(tr *trace) []verdict {
		return func(tr *trace) []verdict {
			tr.answer(alice, chatName, 300, server.Addr().String())
			c := tr.at(time.Second).conn(alice, server)
			send(c)
			return []verdict{c.is(want)}
		}
	}
	prove(t, []rule{
		{"a SYN that nobody answers", nil, known(func(c *conn) { c.syn() }, chatBy("dns"))},
		{"a connection refused", nil, known(func(c *conn) { c.syn().reset(down) }, chatBy("dns"))},
		{"opened and closed without a byte", nil, known(func(c *conn) { c.open().close() }, chatBy("dns"))},
		{"the server talks alone", nil, known(func(c *conn) { c.open().down(make([]byte, 500)).close() }, chatBy("dns"))},
		{"the downlink alone passes the tap", nil, known(func(c *conn) {
			c.synAck().down(make([]byte, 500)).segment(down, fin|ack, nil)
		}, chatBy("dns"))},
		{"the uplink alone passes the tap", nil, known(func(c *conn) {
			c.syn().ackUp().up([]byte("hello")).segment(up, fin|ack, nil)
		}, chatBy("dns"))},
		{"met in mid-stream", nil, known(func(c *conn) { c.talk().talk() }, chatBy("dns"))},
		{"met at its end", nil, known(func(c *conn) { c.close() }, chatBy("dns"))},
	})
}

func TestServerEvidence(t *testing.T) {
	// told gives the answers at once; a little later alice connects.
	told := func(later time.Duration, want named, answers func(tr *trace)) func(tr *trace) []verdict {
		return func(tr *trace) []verdict {
			answers(tr)
			return []verdict{tr.wait(later).conn(alice, server).whole().is(want)}
		}
	}
	ip := server.Addr().String()
	bobAsked := func(tr *trace) { tr.answer(bob, chatName, 300, ip) }
	prove(t, []rule{
		{"another subscriber's answer names the server", nil, told(10*time.Second, chatBy("server"), bobAsked)},
		{"soon, in packet time", nil, told(250*time.Millisecond, chatBy("server"), bobAsked)},
		{"in a busy trace, within 200 ms", nil, func(tr *trace) []verdict {
			bobAsked(tr)
			busy := tr.conn(carol, serverAt(9)).open()
			for tr.now < 200*time.Millisecond {
				busy.up([]byte("."))
			}
			return []verdict{busy.is(unnamed), tr.conn(alice, server).whole().is(chatBy("server"))}
		}},
		{"not before the answer", nil, func(tr *trace) []verdict {
			c := tr.conn(alice, server).open()
			tr.wait(2 * time.Second)
			bobAsked(tr)
			tr.wait(2 * time.Second)
			c.talk()
			return []verdict{c.close().is(unnamed)}
		}},
		{"agreeing answers do", nil, told(time.Second, chatBy("server"), func(tr *trace) {
			tr.answer(bob, chatName, 300, ip)
			tr.wait(time.Second).answer(carol, chatName, 300, ip)
		})},
		{"they need agree on the class alone; the newest gives the name", nil, told(time.Second, chatBy("server"), func(tr *trace) {
			tr.answer(bob, "c1.whatsapp.net", 300, ip)
			tr.wait(time.Second).answer(carol, chatName, 300, ip)
		})},
		{"disagreeing answers name nothing", nil, told(time.Second, unnamed, func(tr *trace) {
			tr.answer(bob, chatName, 300, ip)
			tr.wait(time.Second).answer(carol, photoName, 300, ip)
		})},
		{"nor does one subscriber who contradicts himself", nil, told(time.Second, unnamed, func(tr *trace) {
			tr.answer(bob, chatName, 300, ip)
			tr.wait(time.Second).answer(bob, photoName, 300, ip)
		})},
		{
			"a subscriber's own answers are no server evidence",
			[]string{"--evidence", "sni,server"},
			told(time.Second, unnamed, func(tr *trace) { tr.answer(alice, chatName, 300, ip) }),
		},
		{"answers for another server are none", nil, told(time.Second, unnamed, func(tr *trace) {
			tr.answer(bob, chatName, 300, "198.51.100.77")
		})},
		{"not where --evidence has no server", ownEvidence, told(time.Second, unnamed, bobAsked)},
		{"one of the classes is other", nil, told(time.Second, unnamed, func(tr *trace) {
			tr.answer(bob, chatName, 300, ip)
			tr.wait(time.Second).answer(carol, "www.example.org", 300, ip)
		})},
		{"a server of IPv6", nil, func(tr *trace) []verdict {
			to := netip.MustParseAddrPort("[2001:db8:ffff::1]:443")
			tr.answer(netip.MustParseAddr("fd00:1:2:3::1"), chatName, 300, to.Addr().String())
			return []verdict{tr.wait(time.Second).conn(netip.MustParseAddr("fd00:1:2:4::1"), to).whole().is(chatBy("server"))}
		}},
		{"through DNS over TCP", nil, func(tr *trace) []verdict {
			lookup := tr.conn(bob, netip.AddrPortFrom(resolver, 53)).open()
			lookup.up([]byte{0, 1, 0}).down(overTCP(answer{name: chatName, ttl: 300, addrs: []string{ip}}.bytes())).close()
			return []verdict{lookup.is(unnamed), tr.wait(time.Second).conn(alice, server).whole().is(chatBy("server"))}
		}},
	})
}

// TestWhoTheSubscriberIs: the prefixes decide; where neither or both ends match,
// who sent the SYN, who asked DNS, else the end with the higher port.
func TestWhoTheSubscriberIs(t *testing.T) {
	p := netip.MustParseAddrPort
	wide := []string{"--subscribers", "10.0.0.0/8"}
	none := []string{"--subscribers", "203.0.113.0/24"}
	tests := []struct {
		says           string
		args           []string
		client, server netip.AddrPort
		send           func(c *conn)
	}{
		{"who is in a prefix, by default private ones", nil, p("10.0.0.1:1000"), p("198.51.100.1:5222"), func(c *conn) { c.whole() }},
		{"172.16.0.0/12", nil, p("172.31.0.1:1000"), p("198.51.100.1:5222"), func(c *conn) { c.talk() }},
		{"192.168.0.0/16", nil, p("192.168.200.1:1000"), p("198.51.100.1:5222"), func(c *conn) { c.talk() }},
		{"100.64.0.0/10", nil, p("100.127.0.1:1000"), p("198.51.100.1:5222"), func(c *conn) { c.talk() }},
		{"fc00::/7", nil, p("[fd12::1]:1000"), p("[2001:db8::1]:5222"), func(c *conn) { c.talk() }},
		{"not 172.32.0.0", nil, p("198.51.100.1:5222"), p("172.32.0.1:1000"), func(c *conn) { c.talk() }},
		{"the prefix beats the SYN", nil, p("10.0.0.1:80"), p("198.51.100.1:40000"), func(c *conn) {
			c.segment(down, syn, nil).segment(up, syn|ack, nil).segment(down, ack, nil).talk()
		}},
		{"--subscribers says otherwise", []string{"--subscribers", "198.51.100.0/24,10.0.0.9"}, p("198.51.100.1:443"), p("10.0.0.1:40000"), func(c *conn) { c.talk() }},
		{"--subscribers takes an address", []string{"--subscribers", "198.51.100.0/24,10.0.0.9"}, p("10.0.0.9:443"), p("192.0.2.1:40000"), func(c *conn) { c.talk() }},
		{"both ends match: who sent the SYN", wide, p("10.0.0.1:80"), p("10.0.0.2:40000"), func(c *conn) { c.whole() }},
		{"neither does: who sent the SYN", none, p("192.0.2.1:80"), p("192.0.2.2:40000"), func(c *conn) { c.whole() }},
		{"who got the SYN/ACK, where the SYN did not pass", none, p("192.0.2.1:80"), p("192.0.2.2:40000"), func(c *conn) { c.synAck().ackUp().talk().close() }},
		{"met in mid-stream: who asked DNS", none, p("192.0.2.1:80"), p("192.0.2.2:40000"), func(c *conn) {
			c.tr.answer(c.client.Addr(), chatName, 300, "203.0.113.77")
			c.tr.wait(time.Second)
			c.talk().talk()
		}},
		{"met in mid-stream, both match: who asked DNS", wide, p("10.0.0.1:80"), p("10.0.0.2:40000"), func(c *conn) {
			c.tr.answer(c.client.Addr(), chatName, 300, "203.0.113.77")
			c.tr.wait(time.Second)
			c.talk().talk()
		}},
		{"else the end with the higher port", none, p("192.0.2.1:40000"), p("192.0.2.2:80"), func(c *conn) { c.down([]byte("x")).up([]byte("y")) }},
		{"also of two inside", wide, p("10.0.0.1:40000"), p("10.0.0.2:80"), func(c *conn) { c.down([]byte("x")).up([]byte("y")) }},
		{"a SYN beats DNS", none, p("192.0.2.1:80"), p("192.0.2.2:40000"), func(c *conn) {
			c.tr.answer(c.server.Addr(), chatName, 300, "203.0.113.77")
			c.whole()
		}},
		{"a guess holds for the connection's life", none, p("192.0.2.1:40000"), p("192.0.2.2:80"), func(c *conn) {
			c.talk()
			c.tr.answer(c.server.Addr(), chatName, 300, "203.0.113.77")
			c.talk()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.says, func(t *testing.T) {
			t.Parallel()
			tr := newTrace()
			c := tr.connFrom(tt.client, tt.server)
			tt.send(c)
			tr.analyzed(t, tt.args...).flows(t, c)
		})
	}
}

// TestNamesBetweenPublicAddresses: DNS answers make a subscriber of whoever gets
// them, inside a prefix or not.
func TestNamesBetweenPublicAddresses(t *testing.T) {
	prove(t, []rule{{"a public address asks and connects", nil, func(tr *trace) []verdict {
		public := netip.MustParseAddr("192.0.2.200")
		tr.answer(public, chatName, 300, server.Addr().String())
		return []verdict{tr.at(time.Second).conn(public, server).whole().is(chatBy("dns"))}
	}}})
}

// TestAnyNumberOfRecords: every address of an answer is named, and a DNS message
// over TCP holds up to 4,000. It fails where dnsmap stops counting
// (dnsmap.MaxAnswers).
func TestAnyNumberOfRecords(t *testing.T) {
	var addrs []string
	for i := range 4000 {
		addrs = append(addrs, netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}).String())
	}
	message := overTCP(answer{name: chatName, ttl: 300, addrs: addrs}.bytes())
	for _, n := range []int{1, 256, 257, 4000} {
		t.Run(fmt.Sprintf("number %d", n), func(t *testing.T) {
			t.Parallel()
			tr := newTrace()
			lookup := tr.conn(alice, netip.AddrPortFrom(resolver, 53)).open().up([]byte{0, 1, 0})
			for at := 0; at < len(message); at += 1400 {
				lookup.down(message[at:min(at+1400, len(message))])
			}
			c := tr.conn(alice, netip.AddrPortFrom(netip.MustParseAddr(addrs[n-1]), 443)).whole()
			tr.analyzed(t).flows(t, lookup, c)[1].namedAs(t, chatBy("dns"))
		})
	}
}

// TestOddNames: whatever octets a name has, the record is JSON.
func TestOddNames(t *testing.T) {
	for wire, want := range map[string]string{
		`a"b`: `a"b`, `a\b`: `a\\b`, "a.b": `a\.b`, "a\x00\xff b": `a\000\255\032b`, "\x7f<&>\u2028": `\127<&>\226\128\168`,
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			tr := newTrace()
			m := answer{name: "x.whatsapp.net", ttl: 300, addrs: []string{server.Addr().String()}}.bytes()
			// The one label in front becomes what wire says; the owner's name is a
			// pointer to it.
			tr.dns(alice, join(m[:12], []byte{byte(len(wire))}, []byte(wire), m[14:]))
			c := tr.at(time.Second).conn(alice, server).whole()
			rec := tr.analyzed(t).flows(t, c)[0]
			if got := text(rec.Name); got != want+".whatsapp.net" {
				t.Errorf("name is %q, want %q", got, want+".whatsapp.net")
			}
		})
	}
}

// TestLongNames: the longest name there is survives.
func TestLongNames(t *testing.T) {
	label := strings.Repeat("x", 63)
	name := strings.Join([]string{label, label, label, strings.Repeat("y", 48), "whatsapp.net"}, ".") // 253 characters
	prove(t, []rule{{"253 characters", nil, func(tr *trace) []verdict {
		tr.answer(alice, name, 300, server.Addr().String())
		asked := tr.at(time.Second).conn(alice, server).whole()
		said := tr.conn(alice, serverAt(2)).sends(hello{sni: name}.bytes())
		return []verdict{asked.is(named{name, "dns", "whatsapp", "other"}), said.is(named{name, "sni", "whatsapp", "other"})}
	}}})
	if len(name) != 253 {
		t.Fatalf("the name has %d characters, want 253", len(name))
	}
}
