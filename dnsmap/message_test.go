package dnsmap

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// Pieces of messages, in hex; blanks are for the eye.
const (
	header1  = "1234 8180 0001 0001 0000 0000 " // one question, one answer
	question = "02 6535 08 7768617473617070 03 6e6574 00 0001 0001 "
	owner    = "c00c "
	recordA  = "0001 0001 0000003c 0004 01020304 "
)

func fromHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func addr(s string) Addr {
	b := netip.MustParseAddr(s).As16()
	var a Addr
	for i := range 8 {
		a.Hi = a.Hi<<8 | uint64(b[i])
		a.Lo = a.Lo<<8 | uint64(b[8+i])
	}
	return a
}

// list writes answers as "address/ttl ...".
func list(answers []Answer) string {
	var s []string
	for _, a := range answers {
		var b [16]byte
		for i := range 8 {
			b[i] = byte(a.Addr.Hi >> (56 - 8*i))
			b[8+i] = byte(a.Addr.Lo >> (56 - 8*i))
		}
		s = append(s, fmt.Sprintf("%v/%d", netip.AddrFrom16(b).Unmap(), a.TTL))
	}
	return strings.Join(s, " ")
}

func TestParse(t *testing.T) {
	label63 := "3f" + strings.Repeat("61", 63)
	name255 := label63 + label63 + label63 + "3d" + strings.Repeat("62", 61) + "00"
	text255 := strings.Repeat(strings.Repeat("a", 63)+".", 3) + strings.Repeat("b", 61)
	text253 := text255[:len(text255)-2]
	qtail := " 0001 0001 "
	for _, c := range []struct {
		what    string
		hex     string
		cut     bool
		verdict Verdict
		reason  Reason
		qname   string
		answers string
	}{
		{"one address", header1 + question + owner + recordA, false, OK, 0, "e5.whatsapp.net", "1.2.3.4/60"},
		{"upper case is folded, in ASCII only", header1 + "03 4565C9 00" + qtail + owner + recordA, false, OK, 0, `ee\201`, "1.2.3.4/60"},
		{"dot, backslash, blank, NUL and DEL in a label", header1 + "05 2e5c20007f 01 21 00" + qtail + owner + recordA, false, OK, 0, `\.\\\032\000\127.!`, "1.2.3.4/60"},
		{"root asked for", header1 + "00" + qtail + owner + recordA, false, OK, 0, "", "1.2.3.4/60"},
		{"name of 255 octets", header1 + name255 + qtail + owner + recordA, false, OK, 0, text255, "1.2.3.4/60"},
		{"name of 256 octets", header1 + label63 + label63 + label63 + "3e" + strings.Repeat("62", 62) + "00" + qtail + owner + recordA, false, Malformed, ReasonNameLength, "", ""},
		{"owner of 255 octets through a pointer", header1 + label63 + label63 + label63 + "3b" + strings.Repeat("62", 59) + "00" + qtail + "0161 c00c" + recordA, false, OK, 0, text253, "1.2.3.4/60"},
		{"owner of 256 octets through a pointer", header1 + label63 + label63 + label63 + "3b" + strings.Repeat("62", 59) + "00" + qtail + "026161 c00c" + recordA, false, Malformed, ReasonNameLength, "", ""},
		{"AAAA", header1 + question + owner + "001c 0001 00000001 0010 20010db8000000000000000000000001", false, OK, 0, "e5.whatsapp.net", "2001:db8::1/1"},
		{"AAAA of a mapped address is that IPv4 address", header1 + question + owner + "001c 0001 00000001 0010 00000000000000000000ffff01020304", false, OK, 0, "e5.whatsapp.net", "1.2.3.4/1"},
		{"TTL with the top bit", header1 + question + owner + "0001 0001 80000000 0004 01020304", false, OK, 0, "e5.whatsapp.net", "1.2.3.4/0"},
		{"largest TTL", header1 + question + owner + "0001 0001 7fffffff 0004 01020304", false, OK, 0, "e5.whatsapp.net", "1.2.3.4/2147483647"},
		{"CNAME before the address", "1234 8180 0001 0002 0000 0000" + question + owner + "0005 0001 00000e10 0004 0163c00f" + "c02d" + recordA, false, OK, 0, "e5.whatsapp.net", "1.2.3.4/60"},
		{"CNAME that leaves octets over", "1234 8180 0001 0002 0000 0000" + question + owner + "0005 0001 00000e10 0005 0163c00f00" + owner + recordA, false, Malformed, ReasonRDATA, "", ""},
		{"CNAME that runs out of its RDATA", "1234 8180 0001 0002 0000 0000" + question + owner + "0005 0001 00000e10 0003 0963c0" + owner + recordA, false, Malformed, ReasonRDATA, "", ""},
		{"CNAME to itself", "1234 8180 0001 0002 0000 0000" + question + owner + "0005 0001 00000e10 0002 c02d" + owner + recordA, false, Malformed, ReasonPointer, "", ""},
		{"other types and classes are passed over", "1234 8180 0001 0004 0000 0000" + question + owner + "0010 0001 0000003c 0002 0161" + owner + "0001 0003 0000003c 0002 0161" + owner + "001c 0003 0000003c 0001 61" + owner + recordA, false, OK, 0, "e5.whatsapp.net", "1.2.3.4/60"},
		{"records behind the answer section", "1234 8180 0001 0001 0001 0001" + question + owner + recordA + owner + "0001 0001 0000003c 0004 05060708" + owner + "0001 0001 0000003c 0004 05060709", false, OK, 0, "e5.whatsapp.net", "1.2.3.4/60"},
		{"broken additional section is not read", "1234 8180 0001 0001 0000 0001" + question + owner + recordA + "40", false, OK, 0, "e5.whatsapp.net", "1.2.3.4/60"},
		{"octets left over", header1 + question + owner + recordA + "ffffff", false, OK, 0, "e5.whatsapp.net", "1.2.3.4/60"},
		{"no answers", "1234 8183 0001 0000 0000 0000" + question, false, OK, 0, "e5.whatsapp.net", ""},
		{"blocked: 0.0.0.0 and ::", "1234 8180 0001 0003 0000 0000" + question + owner + "0001 0001 0000003c 0004 00000000" + owner + "001c 0001 0000003c 0010 00000000000000000000000000000000" + owner + recordA, false, OK, 0, "e5.whatsapp.net", "1.2.3.4/60"},
		{"loopback is an address", header1 + question + owner + "0001 0001 0000003c 0004 7f000001", false, OK, 0, "e5.whatsapp.net", "127.0.0.1/60"},

		{"query", "1234 0100 0001 0000 0000 0000" + question, false, NotResponse, 0, "", ""},
		{"response to NOTIFY", "1234 a180 0001 0000 0000 0000" + question, false, NotResponse, 0, "", ""},
		{"no question", "1234 8181 0000 0000 0000 0000", false, NoQuestion, 0, "", ""},
		{"no question, an address", "1234 8180 0000 0001 0000 0000 0161 00" + recordA, false, NoQuestion, 0, "", ""},
		{"two questions", "1234 8180 0002 0001 0000 0000" + question + question + owner + recordA, false, Malformed, ReasonQuestions, "", ""},

		{"empty", "", false, Malformed, ReasonOverrun, "", ""},
		{"header short by one", "1234 8180 0001 0001 0000 00", false, Malformed, ReasonOverrun, "", ""},
		{"header alone", header1, false, Malformed, ReasonOverrun, "", ""},
		{"question without its end", header1 + "02 6535 08 7768", false, Malformed, ReasonOverrun, "", ""},
		{"question without a class", header1 + "02 6535 00 0001 00", false, Malformed, ReasonOverrun, "", ""},
		{"label type 01 in QNAME", header1 + "41" + strings.Repeat("61", 65) + "00" + qtail + owner + recordA, false, Malformed, ReasonLabel, "", ""},
		{"label type 10 in QNAME", header1 + "80 00" + qtail + owner + recordA, false, Malformed, ReasonLabel, "", ""},
		{"label type 01 in an owner", header1 + question + "4161 00" + recordA, false, Malformed, ReasonLabel, "", ""},
		{"QNAME pointing at itself", header1 + "c00c" + qtail + owner + recordA, false, Malformed, ReasonPointer, "", ""},
		{"QNAME pointing into the header", header1 + "0161 c004" + qtail + owner + recordA, false, Malformed, ReasonPointer, "", ""},
		{"owner pointing into the header", header1 + question + "c004" + recordA, false, Malformed, ReasonPointer, "", ""},
		{"owner pointing at itself", header1 + question + "c021" + recordA, false, Malformed, ReasonPointer, "", ""},
		{"owner pointing at its own first label", header1 + question + "0161 c021" + recordA, false, Malformed, ReasonPointer, "", ""},
		{"owner pointing at its own long label", header1 + question + label63 + "c021" + recordA, false, Malformed, ReasonPointer, "", ""},
		{"owner pointing ahead", header1 + question + "c030" + recordA, false, Malformed, ReasonPointer, "", ""},
		{"owner pointing into the question's class, whose zero is a root", header1 + question + "c01d" + recordA, false, OK, 0, "e5.whatsapp.net", "1.2.3.4/60"},
		{"A of 3 octets", header1 + question + owner + "0001 0001 0000003c 0003 010203", false, Malformed, ReasonAddressLength, "", ""},
		{"A of 16 octets", header1 + question + owner + "0001 0001 0000003c 0010 20010db8000000000000000000000001", false, Malformed, ReasonAddressLength, "", ""},
		{"A without RDATA", header1 + question + owner + "0001 0001 0000003c 0000", false, Malformed, ReasonAddressLength, "", ""},
		{"AAAA of 4 octets", header1 + question + owner + "001c 0001 0000003c 0004 01020304", false, Malformed, ReasonAddressLength, "", ""},
		{"a good record before a bad one", "1234 8180 0001 0002 0000 0000" + question + owner + recordA + owner + "0001 0001 0000003c 0003 010203", false, Malformed, ReasonAddressLength, "", ""},
		{"fewer records than counted", "1234 8180 0001 0002 0000 0000" + question + owner + recordA, false, Malformed, ReasonOverrun, "", ""},
		{"RDLENGTH beyond the end", header1 + question + owner + "0001 0001 0000003c 0004 010203", false, Malformed, ReasonOverrun, "", ""},
		{"pointer cut in two", header1 + question + "c0", false, Malformed, ReasonOverrun, "", ""},

		{"cut in the header", "1234 8180 0001", true, Cut, 0, "", ""},
		{"cut in QNAME", header1 + "02 6535 08 7768", true, Cut, 0, "", ""},
		{"cut in the question's class", header1 + "02 6535 00 0001 00", true, Cut, 0, "", ""},
		{"cut in the second record", "1234 8180 0001 0002 0000 0000" + question + owner + recordA + owner + "0001 0001 0000003c 0004 0102", true, Cut, 0, "e5.whatsapp.net", "1.2.3.4/60"},
		{"cut behind the answer section", "1234 8180 0001 0001 0000 0001" + question + owner + recordA + "00 0029", true, OK, 0, "e5.whatsapp.net", "1.2.3.4/60"},
		{"malformed before the cut", "1234 8180 0001 0003 0000 0000" + question + owner + recordA + owner + "0001 0001 0000003c 0003 010203" + owner, true, Malformed, ReasonAddressLength, "", ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			m := Message{Answers: []Answer{{TTL: 9}}, QName: []byte("old"), Reason: ReasonLabel, Unspecified: 7, Dropped: 7}
			v := m.Parse(fromHex(t, c.hex), c.cut)
			if v != c.verdict || m.Reason != c.reason {
				t.Errorf("verdict %d, reason %v, want %d, %v", v, m.Reason, c.verdict, c.reason)
			}
			if string(m.QName) != c.qname {
				t.Errorf("QName %q, want %q", m.QName, c.qname)
			}
			if got := list(m.Answers); got != c.answers {
				t.Errorf("answers %s, want %s", got, c.answers)
			}
		})
	}
}

func TestParseHeader(t *testing.T) {
	var m Message
	if v := m.Parse(fromHex(t, "beef 8383 0001 0000 0000 0000"+question), false); v != OK {
		t.Fatalf("verdict %d", v)
	}
	if m.ID != 0xbeef || !m.Response || m.Opcode != 0 || !m.Truncated || m.Rcode != 3 || m.QType != 1 || m.QClass != 1 {
		t.Errorf("header read as %#x response %v opcode %d truncated %v rcode %d type %d class %d",
			m.ID, m.Response, m.Opcode, m.Truncated, m.Rcode, m.QType, m.QClass)
	}
	m.Parse(fromHex(t, "0001 2800 0001 0000 0000 0000"+question), false)
	if m.Response || m.Opcode != 5 || m.QType != 0 {
		t.Errorf("update read as response %v opcode %d type %d", m.Response, m.Opcode, m.QType)
	}
}

func TestParseCounts(t *testing.T) {
	var m Message
	s := fmt.Sprintf("1234 8180 0001 %04x 0000 0000", MaxAnswers+3) + question +
		owner + "0001 0001 0000003c 0004 00000000" + strings.Repeat(owner+recordA, MaxAnswers+2)
	if v := m.Parse(fromHex(t, s), false); v != OK {
		t.Fatalf("verdict %d, %v", v, m.Reason)
	}
	if len(m.Answers) != MaxAnswers || m.Dropped != 2 || m.Unspecified != 1 {
		t.Errorf("%d answers, %d dropped, %d unspecified, want %d, 2, 1", len(m.Answers), m.Dropped, m.Unspecified, MaxAnswers)
	}
}

// TestLongestName holds MaxName: no name within 255 octets writes more.
func TestLongestName(t *testing.T) {
	label := strings.Repeat("00", 63)
	for _, c := range []struct {
		what, name string
		want       int
	}{
		{"longest in all", "3f" + label + "3f" + label + "3f" + label + "3d" + label[:2*61] + "00", MaxName},
		{"most labels", strings.Repeat("0100", 127) + "00", 127*4 + 126},
	} {
		var m Message
		v := m.Parse(fromHex(t, header1+c.name+"0001 0001"+owner+recordA), false)
		if v != OK || len(m.QName) != c.want {
			t.Errorf("%s: verdict %d, %d characters, want %d", c.what, v, len(m.QName), c.want)
		}
	}
}

// TestPointerChain holds the bound on pointers: each owner points at the one
// before, which is legal (strictly backwards) and walks one pointer more each.
func TestPointerChain(t *testing.T) {
	for _, c := range []struct {
		records int
		want    Verdict
	}{{maxPointers, OK}, {maxPointers + 1, Malformed}} {
		b := fromHex(t, fmt.Sprintf("1234 8180 0001 %04x 0000 0000", c.records)+question)
		previous := headerLen
		for range c.records {
			at := len(b)
			b = append(b, 0xc0|byte(previous>>8), byte(previous))
			b = append(b, fromHex(t, recordA)...)
			previous = at
		}
		var m Message
		if v := m.Parse(b, false); v != c.want {
			t.Errorf("%d records, each pointing at the last: verdict %d, %v, want %d", c.records, v, m.Reason, c.want)
		}
	}
}

// TestEveryCut holds that a message cut anywhere is never more than the whole
// one, and never malformed; and that cut tells the difference.
func TestEveryCut(t *testing.T) {
	b := fromHex(t, "1234 8180 0001 0003 0000 0000"+question+owner+"0005 0001 00000e10 0004 0163c00f c02d"+recordA+"c02d"+recordA)
	var m Message
	for n := range b {
		if v := m.Parse(b[:n], true); v != Cut {
			t.Errorf("cut to %d of %d: verdict %d, %v", n, len(b), v, m.Reason)
		}
		if n < len(b)-16 && len(m.Answers) != 0 || n >= len(b)-16 && len(m.Answers) != 1 {
			t.Errorf("cut to %d of %d: %d answers", n, len(b), len(m.Answers))
		}
		if v := m.Parse(b[:n], false); v != Malformed || len(m.Answers)+len(m.QName) != 0 {
			t.Errorf("short by %d: verdict %d, %d answers, name %q", len(b)-n, v, len(m.Answers), m.QName)
		}
	}
}

func TestReasonString(t *testing.T) {
	for r := range NumReasons {
		if r.String() == "" || r.String() == "unknown" {
			t.Errorf("reason %d has no name", r)
		}
	}
	if NumReasons.String() != "unknown" {
		t.Errorf("reason out of range is %q", NumReasons.String())
	}
}

func TestNextTCP(t *testing.T) {
	for _, c := range []struct {
		what, stream, message, rest string
		ok                          bool
	}{
		{"nothing", "", "", "", false},
		{"half a length", "00", "", "00", false},
		{"length alone", "0002", "", "0002", false},
		{"half a message", "0002 61", "", "000261", false},
		{"one message", "0002 6162", "6162", "", true},
		{"one and a piece", "0001 61 00", "61", "00", true},
		{"two", "0001 61 0001 62", "61", "000162", true},
		{"length 0", "0000 0001 62", "", "000162", true},
	} {
		message, rest, ok := NextTCP(fromHex(t, c.stream))
		if hex.EncodeToString(message) != c.message || hex.EncodeToString(rest) != c.rest || ok != c.ok {
			t.Errorf("%s: message %x, rest %x, %v; want %s, %s, %v", c.what, message, rest, ok, c.message, c.rest, c.ok)
		}
	}
	// What is appended to a message must not run into the next one.
	stream := fromHex(t, "0001 61 0001 62")
	message, _, _ := NextTCP(stream)
	_ = append(message, 0xff)
	if stream[3] != 0 {
		t.Error("appending to the message overwrote the stream behind it")
	}
}

func TestParseAllocs(t *testing.T) {
	var m Message
	good := fromHex(t, header1+question+owner+recordA)
	bad := fromHex(t, header1+question+"c021"+recordA)
	n := testing.AllocsPerRun(100, func() {
		m.Parse(good, false)
		m.Parse(good[:len(good)-1], true)
		m.Parse(bad, false)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// typical is what most answers look like: eight addresses.
func typical(t testing.TB) []byte {
	q := new(dns.Msg)
	q.SetQuestion("e12.whatsapp.net.", dns.TypeA)
	r := new(dns.Msg)
	r.SetReply(q)
	for i := range 8 {
		rr, err := dns.NewRR(fmt.Sprintf("e12.whatsapp.net. 548 IN A 158.85.58.%d", i))
		if err != nil {
			t.Fatal(err)
		}
		r.Answer = append(r.Answer, rr)
	}
	r.Compress = true
	b, err := r.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func BenchmarkParse(b *testing.B) {
	msg := typical(b)
	var m Message
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		if m.Parse(msg, false) != OK || len(m.Answers) != 8 {
			b.Fatal("not read")
		}
	}
}

func BenchmarkParseMiekg(b *testing.B) {
	msg := typical(b)
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		var m dns.Msg
		if err := m.Unpack(msg); err != nil {
			b.Fatal(err)
		}
	}
}
