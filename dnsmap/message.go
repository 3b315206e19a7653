package dnsmap

import "encoding/binary"

// Limits of what a Message keeps.
const (
	// MaxName is the longest QNAME in presentation form: 255 octets on the
	// wire (RFC 1035 section 3.1) are at least four labels, the other 250
	// become four characters each (\DDD), and three dots stand between.
	MaxName = 4*250 + 3

	// MaxAnswers is how many addresses of one message are kept. The largest
	// answers seen in the field hold some dozens.
	MaxAnswers = 4096
)

// Addr is an IP address as two halves in network order, IPv4 in mapped form
// (::ffff:a.b.c.d). It converts to and from decode.Addr.
type Addr struct{ Hi, Lo uint64 }

const mappedPrefix = 0xffff << 32

// unspecified reports whether a is 0.0.0.0 or ::.
func (a Addr) unspecified() bool {
	return a.Hi == 0 && (a.Lo == 0 || a.Lo == mappedPrefix)
}

// Answer is one A or AAAA record of an answer section.
type Answer struct {
	Addr Addr

	// TTL in seconds, never above 2^31-1: a value with the top bit set is
	// to be taken as 0 (RFC 2181 section 8).
	TTL uint32
}

// Verdict says what a Message is after Parse.
type Verdict uint8

// Verdicts.
const (
	// OK is a well-formed response.
	OK Verdict = iota

	// Cut is a response that the capture cut short; Answers holds what was
	// whole before the cut, which may be nothing, as may QName.
	Cut

	// NoQuestion is a response without a question, and so without a name.
	// Servers send it when they refuse a query they could not read, or
	// to hand out a cookie (RFC 7873 section 5.4). Its records are not read.
	NoQuestion

	// NotResponse is a query (QR 0) or a message with an opcode other than
	// QUERY, whose sections mean something else (RFC 2136, RFC 1996).
	NotResponse

	// Malformed is a response that breaks the format; Reason says how. It
	// has no QName and no Answers.
	Malformed
)

// Reason says why a message is Malformed.
type Reason uint8

// Reasons, and their number.
const (
	ReasonNone          Reason = iota
	ReasonOverrun              // ends before its header, names, records or counts do
	ReasonQuestions            // more than one question (RFC 9619 section 4)
	ReasonLabel                // label type 01 or 10 (RFC 6891 section 5)
	ReasonPointer              // compression pointer not strictly backwards, into the header, or too many
	ReasonNameLength           // name above 255 octets (RFC 1035 section 2.3.4)
	ReasonAddressLength        // RDLENGTH of an A not 4, of an AAAA not 16
	ReasonRDATA                // CNAME or DNAME whose name does not fill its RDATA
	NumReasons
)

var reasonNames = [NumReasons]string{"none", "overrun", "questions", "label", "pointer", "name_length", "address_length", "rdata"}

// String returns a short word, fit for a metric label.
func (r Reason) String() string {
	if r >= NumReasons {
		return "unknown"
	}
	return reasonNames[r]
}

// Message is what the program needs of one DNS response. One value is reused
// for many messages: Parse overwrites all of it.
type Message struct {
	// ID, Response (QR), Opcode, Truncated (TC) and Rcode (without the bits
	// that EDNS adds) are valid unless the header itself was not whole.
	ID        uint16
	Response  bool
	Truncated bool
	Opcode    uint8
	Rcode     uint8

	// Reason is ReasonNone unless the verdict is Malformed.
	Reason Reason

	// QType and QClass are valid where QName is.
	QType, QClass uint16

	// QName is the name asked for, lower case (ASCII only, RFC 4343), with
	// no final dot, and empty for the root. Octets outside 0x21 to 0x7e
	// stand as \DDD, a dot or backslash inside a label as \. and \\
	// (RFC 4343 section 2.1). It lies in the Message and dies at the next
	// Parse. Valid after OK, and after Cut if not empty.
	QName []byte

	// Answers are the A and AAAA records of class IN in the answer section,
	// in the order of the message, at most MaxAnswers. They lie in the
	// Message and die at the next Parse.
	Answers []Answer

	// Unspecified counts the A and AAAA records that hold 0.0.0.0 or ::.
	// They are how blocklists say no; nothing ever connects there, so they
	// are not among Answers.
	Unspecified int

	// Dropped counts the address records beyond MaxAnswers.
	Dropped int

	name    [MaxName]byte
	answers [MaxAnswers]Answer
}

// Wire numbers (RFC 1035 sections 3.2 and 4.1, RFC 3596, RFC 6672).
const (
	headerLen = 12
	typeA     = 1
	typeCNAME = 5
	typeAAAA  = 28
	typeDNAME = 39
	classIN   = 1

	maxWireName = 255

	// maxPointers bounds the pointers followed in one name. A name has at
	// most 127 labels, so a longer chain only serves to waste time.
	maxPointers = 126
)

// Parse reads the DNS message b. Set cut when b is known to be captured short
// (snap length): then records that are whole count, and the rest is not held
// against the message.
//
// Nothing behind the answer section is read, so a message whose authority or
// additional section is broken is OK; so is one with octets left over. Answers
// are reported whatever the Rcode and the TC bit say. Parse keeps no reference
// to b.
func (m *Message) Parse(b []byte, cut bool) Verdict {
	m.reset()
	if len(b) < headerLen {
		return m.overrun(cut)
	}
	m.ID = binary.BigEndian.Uint16(b)
	m.Response = b[2]&0x80 != 0
	m.Opcode = b[2] >> 3 & 0xf
	m.Truncated = b[2]&0x02 != 0
	m.Rcode = b[3] & 0xf
	if !m.Response || m.Opcode != 0 {
		return NotResponse
	}
	switch binary.BigEndian.Uint16(b[4:]) {
	case 0:
		return NoQuestion
	case 1:
	default:
		return m.malformed(ReasonQuestions)
	}
	off, why := m.question(b)
	if why == ReasonNone {
		why = m.answerSection(b, off, int(binary.BigEndian.Uint16(b[6:])))
	}
	switch why {
	case ReasonNone:
		return OK
	case ReasonOverrun:
		return m.overrun(cut)
	}
	return m.malformed(why)
}

// reset clears field by field: clearing the whole value would write 7 KiB.
func (m *Message) reset() {
	m.ID, m.QType, m.QClass = 0, 0, 0
	m.Response, m.Truncated = false, false
	m.Opcode, m.Rcode, m.Reason = 0, 0, ReasonNone
	m.Unspecified, m.Dropped = 0, 0
	m.QName = m.name[:0]
	m.Answers = m.answers[:0]
}

func (m *Message) overrun(cut bool) Verdict {
	if cut {
		return Cut
	}
	return m.malformed(ReasonOverrun)
}

// malformed takes back what was read: half a message may be a forged one.
func (m *Message) malformed(why Reason) Verdict {
	m.Reason = why
	m.QType, m.QClass = 0, 0
	m.QName = m.name[:0]
	m.Answers = m.answers[:0]
	m.Unspecified, m.Dropped = 0, 0
	return Malformed
}

// question reads the one question and returns the offset behind it. QName is
// set only once all of the question is there.
//
// A compression pointer has nothing to point at yet: before the first name
// there is only the header.
func (m *Message) question(b []byte) (int, Reason) {
	off, n := headerLen, 0
	for {
		if off >= len(b) {
			return 0, ReasonOverrun
		}
		length := int(b[off])
		off++
		if length == 0 {
			break
		}
		if length >= 0xc0 {
			return 0, ReasonPointer
		}
		if length > 63 {
			return 0, ReasonLabel
		}
		// The labels so far with their length octets, and the root's.
		if off+length-headerLen+1 > maxWireName {
			return 0, ReasonNameLength
		}
		if off+length > len(b) {
			return 0, ReasonOverrun
		}
		if n > 0 {
			m.name[n] = '.'
			n++
		}
		n = m.label(n, b[off:off+length])
		off += length
	}
	if off+4 > len(b) {
		return 0, ReasonOverrun
	}
	m.QName = m.name[:n]
	m.QType = binary.BigEndian.Uint16(b[off:])
	m.QClass = binary.BigEndian.Uint16(b[off+2:])
	return off + 4, ReasonNone
}

// label writes one label in presentation form at m.name[n:] and returns the
// new length.
func (m *Message) label(n int, label []byte) int {
	for _, c := range label {
		switch {
		case 'a' <= c && c <= 'z':
			m.name[n] = c
			n++
		case 'A' <= c && c <= 'Z':
			m.name[n] = c + 'a' - 'A'
			n++
		case c == '.' || c == '\\':
			m.name[n], m.name[n+1] = '\\', c
			n += 2
		case c <= ' ' || c > '~':
			m.name[n] = '\\'
			m.name[n+1] = '0' + c/100
			m.name[n+2] = '0' + c/10%10
			m.name[n+3] = '0' + c%10
			n += 4
		default:
			m.name[n] = c
			n++
		}
	}
	return n
}

// answerSection reads count records from off on.
func (m *Message) answerSection(b []byte, off, count int) Reason {
	for range count {
		fixed, why := skipName(b, off)
		if why != ReasonNone {
			return why
		}
		if fixed+10 > len(b) {
			return ReasonOverrun
		}
		rdata := fixed + 10
		end := rdata + int(binary.BigEndian.Uint16(b[fixed+8:]))
		if end > len(b) {
			return ReasonOverrun
		}
		why = m.record(b, fixed, end)
		if why != ReasonNone {
			return why
		}
		off = end
	}
	return ReasonNone
}

// record reads the record whose fixed fields start at fixed and whose RDATA
// ends at end.
func (m *Message) record(b []byte, fixed, end int) Reason {
	rdata := fixed + 10
	switch binary.BigEndian.Uint16(b[fixed:]) {
	case typeCNAME, typeDNAME:
		// The target is not used, but a loop in it marks a forged message.
		next, why := skipName(b[:end], rdata)
		if why == ReasonOverrun || why == ReasonNone && next != end {
			return ReasonRDATA
		}
		return why
	case typeA:
		if binary.BigEndian.Uint16(b[fixed+2:]) != classIN {
			return ReasonNone // this RDATA is defined for IN alone (RFC 1035 section 3.4)
		}
		if end-rdata != 4 {
			return ReasonAddressLength
		}
		m.address(Addr{0, mappedPrefix | uint64(binary.BigEndian.Uint32(b[rdata:]))}, binary.BigEndian.Uint32(b[fixed+4:]))
	case typeAAAA:
		if binary.BigEndian.Uint16(b[fixed+2:]) != classIN {
			return ReasonNone
		}
		if end-rdata != 16 {
			return ReasonAddressLength
		}
		m.address(Addr{binary.BigEndian.Uint64(b[rdata:]), binary.BigEndian.Uint64(b[rdata+8:])}, binary.BigEndian.Uint32(b[fixed+4:]))
	}
	return ReasonNone
}

func (m *Message) address(a Addr, ttl uint32) {
	if a.unspecified() {
		m.Unspecified++
		return
	}
	n := len(m.Answers)
	if n == MaxAnswers {
		m.Dropped++
		return
	}
	if ttl > maxTTL {
		ttl = 0
	}
	m.answers[n] = Answer{a, ttl}
	m.Answers = m.answers[:n+1]
}

// maxTTL is the largest TTL there is (RFC 2181 section 8).
const maxTTL = 1<<31 - 1

// skipName checks the name at off and returns the offset behind it.
//
// Every pointer must lead to before the run of labels it ends: a "prior
// occurrence" (RFC 1035 section 4.1.4) cannot lie ahead, nor in the header,
// and going strictly back makes a loop impossible (RFC 9267 section 2).
func skipName(b []byte, off int) (int, Reason) {
	if off+1 < len(b) && b[off] == 0xc0 && b[off+1] == headerLen {
		return off + 2, ReasonNone // the QNAME, already checked: nearly every record
	}
	start, next, length, pointers := off, 0, 1, 0
	for {
		if off >= len(b) {
			return 0, ReasonOverrun
		}
		c := int(b[off])
		switch {
		case c == 0:
			if next == 0 {
				next = off + 1
			}
			return next, ReasonNone
		case c <= 63:
			length += 1 + c
			if length > maxWireName {
				return 0, ReasonNameLength
			}
			off += 1 + c
		case c < 0xc0:
			return 0, ReasonLabel
		default:
			if off+1 >= len(b) {
				return 0, ReasonOverrun
			}
			target := c&0x3f<<8 | int(b[off+1])
			if next == 0 {
				next = off + 2
			}
			pointers++
			if target >= start || target < headerLen || pointers > maxPointers {
				return 0, ReasonPointer
			}
			start, off = target, target
		}
	}
}

// NextTCP takes the first message off a stream of DNS over TCP, in which each
// is preceded by its length in two octets (RFC 1035 section 4.2.2, RFC 7766
// section 8). stream must be contiguous and start at a length. It returns the
// message and what follows it, both parts of stream; with ok false the first
// message is not whole yet, and rest is all of stream.
//
// A message of length 0 is returned as such; Parse finds it Malformed.
func NextTCP(stream []byte) (message, rest []byte, ok bool) {
	if len(stream) < 2 {
		return nil, stream, false
	}
	n := 2 + int(binary.BigEndian.Uint16(stream))
	if len(stream) < n {
		return nil, stream, false
	}
	return stream[2:n:n], stream[n:], true
}
