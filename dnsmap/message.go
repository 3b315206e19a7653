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
	kept    int // of answers
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
		m.Answers = m.answers[:m.kept]
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
	m.Unspecified, m.Dropped, m.kept = 0, 0, 0
	m.QName = m.QName[:0]
	m.Answers = m.Answers[:0]
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
	m.QName = m.QName[:0]
	m.Answers = m.Answers[:0]
	m.Unspecified, m.Dropped = 0, 0
	return Malformed
}

// question reads the one question and returns the offset behind it. QName is
// set only once all of the question is there.
//
// A compression pointer has nothing to point at yet: before the first name
// there is only the header.
func (m *Message) question(b []byte) (int, Reason) {
	limit := min(len(b), headerLen+maxWireName)
	off, labels, lengths := headerLen, 0, 0
	for {
		if off >= limit {
			return 0, tooLong(off)
		}
		length := int(b[off])
		if length == 0 {
			break
		}
		if length > 63 {
			return 0, oddLength(length)
		}
		off += 1 + length
		labels++
		lengths |= length
	}
	end := off + 5
	if end > len(b) {
		return 0, ReasonOverrun
	}
	n := max(off-firstLabel, 0)
	if lengths >= shortLabel || !m.plainName(b, n, labels-1) {
		n = m.oddName(b)
	}
	m.QName = m.name[:n]
	m.QType = binary.BigEndian.Uint16(b[off+1:])
	m.QClass = binary.BigEndian.Uint16(b[off+3:])
	return end, ReasonNone
}

// tooLong says what is wrong with a question whose labels reach to off.
func tooLong(off int) Reason {
	if off >= headerLen+maxWireName {
		return ReasonNameLength
	}
	return ReasonOverrun
}

// oddLength says what is wrong with a length octet of the question above 63.
func oddLength(length int) Reason {
	if length >= 0xc0 {
		return ReasonPointer
	}
	return ReasonLabel
}

const (
	// firstLabel is the offset of the first label of the question.
	firstLabel = headerLen + 1

	// shortLabel is the length from which on a length octet may look like one of a
	// label.
	shortLabel = ' '

	// chunk is how many octets are worked at once, each as a byte of a word.
	chunk = 8
	ones  = 0x0101010101010101
	highs = 0x80 * ones
)

// plainName writes the question's name, which is n long and has so many dots, to
// m.name, if all of its labels are shorter than shortLabel and nothing in them has to
// be escaped: then the length octets are all that is not plain.
func (m *Message) plainName(b []byte, n, dots int) bool {
	off, sum := firstLabel, uint64(0)
	if off+n+chunk > len(b) {
		return false
	}
	at := 0
	for ; at+chunk < n; at += chunk {
		text, odd := plain(binary.LittleEndian.Uint64(b[off+at : off+at+chunk]))
		binary.LittleEndian.PutUint64(m.name[at:at+chunk], text)
		sum += odd
	}
	text, odd := plain(binary.LittleEndian.Uint64(b[off+at : off+at+chunk]))
	binary.LittleEndian.PutUint64(m.name[at:at+chunk], text)
	sum += odd & (1<<(8*(n-at)) - 1) // what follows the name is another matter
	return int(sum*ones>>56) == dots
}

// plain returns the octets in lower case with dots for those that have to be escaped
// in presentation form, and a 1 for each of these. Sums of seven bits tell, in the
// eighth, what is above a bound.
func plain(octets uint64) (text, odd uint64) {
	low := octets &^ highs
	upper := (low + (0x80-'A')*ones) &^ (low + (0x7f-'Z')*ones) & highs
	self := (low + (0x7f-' ')*ones) & (low ^ '.'*ones + 0x7f*ones) & (low ^ '\\'*ones + 0x7f*ones)
	odd = (octets | (low + (0x7f-'~')*ones) | ^self) & highs >> 7
	dots := odd * 0xff
	return (octets|upper>>2)&^dots | '.'*ones&dots, odd // 'a' - 'A' is 0x80>>2
}

// oddName writes any name of a question to m.name and returns its length. That it is
// well formed is known.
//
//go:noinline
func (m *Message) oddName(b []byte) (n int) {
	for off := headerLen; b[off] != 0; {
		if n > 0 {
			m.name[n] = '.'
			n++
		}
		end := off + 1 + int(b[off])
		n = m.label(n, b[off+1:end])
		off = end
	}
	return n
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
//
// Nearly all are addresses whose owner is the name asked for or, behind CNAMEs, that
// of the record before: the same compression pointer. What has been found there once
// is found there again.
func (m *Message) answerSection(b []byte, off, count int) Reason {
	owner := uint64(0xc000 | headerLen)
	for range count {
		if off+addressLen <= len(b) {
			begin := binary.BigEndian.Uint64(b[off:]) // owner, type, class, half of the TTL
			if begin>>16 == owner<<32|typeA<<16|classIN && binary.BigEndian.Uint16(b[off+10:]) == 4 {
				m.address(Addr{0, mappedPrefix | uint64(binary.BigEndian.Uint32(b[off+12:]))}, binary.BigEndian.Uint32(b[off+6:]))
				off += addressLen
				continue
			}
		}
		next, why := m.record(b, off, owner)
		if why != ReasonNone {
			return why
		}
		if b[off] >= 0xc0 {
			owner = uint64(binary.BigEndian.Uint16(b[off:]))
		}
		off = next
	}
	return ReasonNone
}

// addressLen is how long an A record is whose owner is a compression pointer.
const addressLen = 2 + 10 + 4

// record reads the record at off and returns the offset behind it. The compression
// pointer owner has been followed before.
func (m *Message) record(b []byte, off int, owner uint64) (int, Reason) {
	fixed := off + 2
	if fixed > len(b) || uint64(binary.BigEndian.Uint16(b[off:])) != owner {
		var why Reason
		if fixed, why = skipName(b, off); why != ReasonNone {
			return 0, why
		}
	}
	if fixed+10 > len(b) {
		return 0, ReasonOverrun
	}
	end := fixed + 10 + int(binary.BigEndian.Uint16(b[fixed+8:]))
	if end > len(b) {
		return 0, ReasonOverrun
	}
	return end, m.data(b, fixed, end)
}

// data reads the record whose fixed fields start at fixed and whose RDATA
// ends at end.
func (m *Message) data(b []byte, fixed, end int) Reason {
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
	if m.kept == MaxAnswers {
		m.Dropped++
		return
	}
	if ttl > maxTTL {
		ttl = 0
	}
	m.answers[m.kept] = Answer{a, ttl}
	m.kept++
}

// maxTTL is the largest TTL there is (RFC 2181 section 8).
const maxTTL = 1<<31 - 1

// skipName checks the name at off and returns the offset behind it.
//
// Every pointer must lead to before the run of labels it ends: a "prior
// occurrence" (RFC 1035 section 4.1.4) cannot lie ahead, nor in the header,
// and going strictly back makes a loop impossible (RFC 9267 section 2).
func skipName(b []byte, off int) (int, Reason) {
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
