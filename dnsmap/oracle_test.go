package dnsmap

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/miekg/dns"
)

// scanned is what the oracles make of a message.
type scanned struct {
	verdict Verdict
	name    []byte // wire form, lower case
	answers []Answer
}

// scan reads a message the slow and plain way, names by miekg/dns. It is what
// Parse has to agree with, message for message, but for one thing: miekg/dns
// lets a compression pointer lead anywhere.
func scan(b []byte) scanned {
	bad := scanned{verdict: Malformed}
	var h dns.MsgHdr
	if len(b) < 12 {
		return bad
	}
	var m dns.Msg
	_ = m.Unpack(b[:12:12]) // the header alone is always read
	h = m.MsgHdr
	if !h.Response || h.Opcode != dns.OpcodeQuery {
		return scanned{verdict: NotResponse}
	}
	switch binary.BigEndian.Uint16(b[4:]) {
	case 0:
		return scanned{verdict: NoQuestion}
	case 1:
	default:
		return bad
	}
	qname, off, err := dns.UnpackDomainName(b, 12)
	if err != nil || len(b) < off+4 {
		return bad
	}
	off += 4
	out := scanned{verdict: OK, name: wire(qname)}
	for range binary.BigEndian.Uint16(b[6:]) {
		_, off, err = dns.UnpackDomainName(b, off)
		if err != nil || len(b) < off+10 {
			return bad
		}
		kind, class := binary.BigEndian.Uint16(b[off:]), binary.BigEndian.Uint16(b[off+2:])
		ttl := binary.BigEndian.Uint32(b[off+4:])
		start := off + 10
		end := start + int(binary.BigEndian.Uint16(b[off+8:]))
		if end > len(b) {
			return bad
		}
		off = end
		switch {
		case kind == dns.TypeCNAME || kind == dns.TypeDNAME:
			_, n, err := dns.UnpackDomainName(b[:end], start)
			if err != nil || n != end {
				return bad
			}
		case kind == dns.TypeA && class == dns.ClassINET:
			if end-start != 4 {
				return bad
			}
			out.add(append(make([]byte, 10, 16), 0xff, 0xff, b[start], b[start+1], b[start+2], b[start+3]), ttl)
		case kind == dns.TypeAAAA && class == dns.ClassINET:
			if end-start != 16 {
				return bad
			}
			out.add(b[start:end], ttl)
		}
	}
	return out
}

// whole reads a message with miekg/dns alone. It returns ok false where
// miekg/dns has an error in what Parse reads, or forgives what Parse does not.
func whole(b []byte) (out scanned, ok bool) {
	// Parse does not look behind the answer section.
	front := slices.Clone(b)
	if len(front) >= 12 {
		clear(front[8:12])
	}
	var m dns.Msg
	if m.Unpack(front) != nil || !m.Response || m.Opcode != dns.OpcodeQuery || len(m.Question) != 1 {
		return scanned{}, false
	}
	if int(binary.BigEndian.Uint16(b[4:])) != 1 || int(binary.BigEndian.Uint16(b[6:])) != len(m.Answer) {
		return scanned{}, false // counts that promise more than there is are forgiven
	}
	if _, off, err := dns.UnpackDomainName(b, 12); err != nil || len(b) < off+4 {
		return scanned{}, false // so is a question that ends behind its name or its type
	}
	out = scanned{verdict: OK, name: wire(m.Question[0].Name)}
	for _, rr := range m.Answer {
		h := rr.Header()
		if h.Rdlength == 0 {
			switch h.Rrtype {
			case dns.TypeA, dns.TypeAAAA, dns.TypeCNAME, dns.TypeDNAME:
				return scanned{}, false // RDATA of nothing is forgiven (it has a sense in UPDATE)
			}
		}
		if h.Class != dns.ClassINET {
			continue
		}
		switch rr := rr.(type) {
		case *dns.A:
			out.add(rr.A.To16(), h.Ttl)
		case *dns.AAAA:
			out.add(rr.AAAA.To16(), h.Ttl)
		}
	}
	return out, true
}

func (s *scanned) add(ip []byte, ttl uint32) {
	a := Addr{binary.BigEndian.Uint64(ip), binary.BigEndian.Uint64(ip[8:])}
	if a.unspecified() {
		return
	}
	if ttl > 1<<31-1 {
		ttl = 0
	}
	if len(s.answers) < MaxAnswers {
		s.answers = append(s.answers, Answer{a, ttl})
	}
}

// wire turns a name with a final dot into wire form, ASCII lower case. Length
// octets are below 'A'.
func wire(name string) []byte {
	b := make([]byte, 300)
	n, err := dns.PackDomainName(name, b, 0, nil, false)
	if err != nil {
		return nil
	}
	b = b[:n]
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return b
}

func (s *scanned) compare(t *testing.T, oracle string, v Verdict, m *Message) {
	t.Helper()
	if v != s.verdict {
		t.Fatalf("verdict %d (%v), %s has %d", v, m.Reason, oracle, s.verdict)
	}
	if v != OK {
		return
	}
	if got := wire(string(m.QName) + "."); string(got) != string(s.name) {
		t.Fatalf("name %q is %x, %s has %x", m.QName, got, oracle, s.name)
	}
	if !slices.Equal(m.Answers, s.answers) {
		t.Fatalf("answers %s, %s has %s", list(m.Answers), oracle, list(s.answers))
	}
}

func checkMessage(t *testing.T, b []byte) {
	t.Helper()
	var m Message
	v := m.Parse(b, false)
	if v == Malformed && m.Reason == ReasonPointer {
		return // miekg/dns follows pointers ahead and into the header
	}
	ref := scan(b)
	ref.compare(t, "the plain scan", v, &m)
	if ref, ok := whole(b); ok {
		ref.compare(t, "miekg/dns", v, &m)
	}
	for _, c := range m.QName {
		if c <= ' ' || c > '~' || 'A' <= c && c <= 'Z' {
			t.Fatalf("name %q holds %#x", m.QName, c)
		}
	}
	checkCut(t, b, v, &m)
}

// checkCut holds that to say cut only ever turns Malformed into Cut, and that
// half a message says no more than the whole one does.
func checkCut(t *testing.T, b []byte, v Verdict, m *Message) {
	t.Helper()
	var c Message
	cv := c.Parse(b, true)
	if cv != v && (v != Malformed || m.Reason != ReasonOverrun || cv != Cut) {
		t.Fatalf("verdict %d (%v), if cut %d (%v)", v, m.Reason, cv, c.Reason)
	}
	if v != OK {
		return
	}
	cv = c.Parse(b[:len(b)/2], true)
	if cv != Cut && cv != OK && c.Reason != ReasonPointer {
		t.Fatalf("half of a good message has verdict %d (%v)", cv, c.Reason)
	}
	if len(c.Answers) > len(m.Answers) || !slices.Equal(c.Answers, m.Answers[:len(c.Answers)]) {
		t.Fatalf("half a message has answers %s, all of it %s", list(c.Answers), list(m.Answers))
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		header1 + question + owner + recordA,
		"1234 8180 0001 0002 0000 0000" + question + owner + "0005 0001 00000e10 0004 0163c00f" + "c02d" + recordA,
		"1234 8180 0001 0002 0000 0000" + question + owner + "001c 0001 80000000 0010 20010db8000000000000000000000001" + "0161c00c" + recordA,
		"1234 8180 0001 0003 0001 0001" + question + owner + "0010 0001 0000003c 0002 0161" + owner + "0001 0003 0000003c 0002 0161" + owner + recordA + owner + recordA + "00 0029 04d0 00000000 0000",
		header1 + "05 2e5c20007f 02 4121 00 0001 0001" + owner + recordA,
		header1 + question + "c021" + recordA,
		header1 + question + owner + "0005 0001 0000003c 0002 c02d",
		"1234 8181 0000 0000 0000 0000",
		"1234 8180 0002 0000 0000 0000" + question + question,
		"1234 8180 0001 0005 0000 0000" + question + owner + recordA,
		"1234 8180 0001 0000 0000 0000" + "02 6535 00",
		"1234 8180 0001 0000 0000 0000" + "02 6535 00 0001",
		header1 + question + owner + "0001 0001 0000003c 0000",
	} {
		f.Add(fromHex(f, s))
	}
	f.Add(typical(f))
	f.Fuzz(checkMessage)
}

func FuzzNextTCP(f *testing.F) {
	f.Add([]byte{0, 1, 'a', 0, 2, 'b', 'c', 0})
	f.Add([]byte{0, 0, 0})
	f.Fuzz(func(t *testing.T, stream []byte) {
		var again []byte
		rest := stream
		for {
			message, r, ok := NextTCP(rest)
			if !ok {
				if len(r) != len(rest) {
					t.Fatal("rest shortened without a message")
				}
				break
			}
			again = append(binary.BigEndian.AppendUint16(again, uint16(len(message))), message...)
			rest = r
		}
		if len(rest) >= 2 && len(rest) >= 2+int(binary.BigEndian.Uint16(rest)) {
			t.Fatal("a whole message was left")
		}
		if again = append(again, rest...); string(again) != string(stream) {
			t.Fatalf("%x taken apart and put together is %x", stream, again)
		}
	})
}
