package classify

const (
	// MaxHello is how many bytes of a connection are searched for a ClientHello.
	// Post-quantum key shares make a hello of 2 KB common; session tickets and
	// padding can add a few more.
	MaxHello = 16 << 10
	// MaxSegments is how many of the subscriber's segments with payload are
	// waited for.
	MaxSegments = 5
)

// HelloState says how far a ClientHello has been seen.
type HelloState uint8

const (
	// HelloNeed: the bytes so far can begin a ClientHello; it is not whole yet.
	HelloNeed HelloState = iota
	// HelloDone: the ClientHello is whole.
	HelloDone
	// HelloNotTLS: the bytes cannot begin a TLS handshake with a ClientHello.
	HelloNotTLS
	// HelloBroken: it began like one, and its lengths or records contradict it.
	HelloBroken
)

// String returns the state in one word.
func (s HelloState) String() string {
	switch s {
	case HelloDone:
		return "done"
	case HelloNotTLS:
		return "not-tls"
	case HelloBroken:
		return "broken"
	}
	return "need"
}

// Hello is what a ClientHello tells.
type Hello struct {
	State HelloState
	// ECH reports the encrypted_client_hello extension (RFC 9849). What stands
	// in SNI then is the name of a front, not of the server. Clients also send
	// the extension empty of meaning (GREASE ECH); from outside the two look
	// alike, and are meant to.
	ECH bool
	// SNI is the server name: a lower-case host name without final dot. It is
	// empty where the hello has none, has none that is a host name, or carries
	// ECH. It lies in the dst that the scan was given.
	SNI []byte
}

// ClientHello scans the first bytes that a client sent on a connection, as many
// as are there without a gap, for a TLS ClientHello (RFC 8446 section 4.1.2; the
// same in all earlier versions of TLS). The hello may be cut into several TLS
// records and those into any segments. NotTLS and Broken are final: more bytes
// do not change them. SNI is set when State is Done.
//
// The name is appended to dst[:0]; with a capacity of 255 there, nothing is
// allocated. b is not changed and not kept.
func ClientHello(dst, b []byte) Hello {
	h := examine(dst, b)
	if h.State != HelloDone || h.ECH {
		h.SNI = nil
	}
	return h
}

// PartialSNI is for a hello that will never be whole: cut by the snap length, or
// longer than what is waited for. It returns the server name where its whole
// extension stands before the cut, and whether ECH does; with ECH there is no
// name. dst and b are as in ClientHello.
func PartialSNI(dst, b []byte) (sni []byte, ech bool) {
	h := examine(dst, b)
	if h.State != HelloDone && h.State != HelloNeed {
		return nil, false
	}
	if h.ECH {
		return nil, true
	}
	return h.SNI, false
}

// Numbers of the TLS registry (RFC 8446 sections 4, 4.2 and 5.1, RFC 6066
// section 3, RFC 9849 section 5).
const (
	recordHandshake  = 22
	recordHeader     = 5
	maxRecord        = 1 << 14
	messageHello     = 1
	messageHeader    = 4
	extensionSNI     = 0
	extensionECH     = 0xfe0d
	nameTypeHost     = 0
	versionAndRandom = 2 + 32
)

// examine reads a hello as far as it goes. SNI and ECH hold what was seen,
// whatever the state.
func examine(dst, b []byte) Hello {
	if !beginsHello(b) {
		return Hello{State: HelloNotTLS}
	}
	if h, ok := straight(dst, b); ok {
		return h
	}
	return scan(dst, b)
}

// scan reads any hello that begins like one.
func scan(dst, b []byte) (h Hello) {
	c := cursor{b: b, left: messageHeader, state: HelloDone}
	c.skip(1) // message type, known
	c.left = c.number(3)
	c.skip(versionAndRandom)
	c.skipVector(1)                         // legacy_session_id
	c.skipVector(2)                         // cipher_suites
	c.skipVector(1)                         // legacy_compression_methods
	if c.state == HelloDone && c.left > 0 { // clients of old send no extensions (RFC 5246 section 7.4.1.2)
		message := c.vector(2)
		h = extensions(&c, dst)
		c.leave(message)
		if c.left > 0 {
			c.fail(HelloBroken) // the message is longer than what it holds
		}
	}
	h.State = c.state
	return h
}

// beginsHello checks the first six bytes as far as they are there: a handshake
// record of TLS or SSL 3 with something in it, then a ClientHello. The minor
// version says nothing (RFC 8446 section 5.1) beyond keeping out what is not
// TLS at all.
func beginsHello(b []byte) bool {
	n := len(b)
	switch {
	case n > 0 && b[0] != recordHandshake,
		n > 1 && b[1] != 3,
		n > 2 && b[2] > 4,
		n > 5 && b[5] != messageHello:
		return false
	case n < recordHeader:
		return true
	}
	length := int(b[3])<<8 | int(b[4])
	return length > 0 && length <= maxRecord
}

func extensions(c *cursor, dst []byte) (h Hello) {
	named := false
	for c.state == HelloDone && c.left > 0 {
		kind := c.number(2)
		if c.state == HelloDone && kind == extensionECH {
			h.ECH = true
		}
		all := c.vector(2)
		if c.state != HelloDone {
			break // kind may be the zero of a failed read, and zero is server_name
		}
		if kind == extensionSNI && named {
			c.fail(HelloBroken) // RFC 8446 section 4.2: each extension once
			break
		}
		if kind == extensionSNI {
			named = true
			h.SNI = serverName(c, dst)
		} else {
			c.skip(c.left)
		}
		c.leave(all)
	}
	return h
}

// serverName reads the body of a server_name extension (RFC 6066 section 3).
// The first host_name counts; names of other types are length-prefixed as well
// and are passed over.
func serverName(c *cursor, dst []byte) (sni []byte) {
	found := false
	extension := c.vector(2)
	for c.state == HelloDone && c.left > 0 {
		kind := c.number(1)
		list := c.vector(2)
		if kind == nameTypeHost && !found && c.left <= maxHost+1 {
			sni = hostName(c, dst)
		}
		found = found || kind == nameTypeHost
		c.skip(c.left)
		c.leave(list)
	}
	c.leave(extension)
	if c.left > 0 {
		c.fail(HelloBroken) // the extension is longer than its list
	}
	if c.state != HelloDone {
		return nil
	}
	return sni
}

// hostName copies what is left of the vector to dst, lower-cased and without a
// final dot. It returns nil where that is not a host name.
func hostName(c *cursor, dst []byte) []byte {
	dst = dst[:0]
	for c.state == HelloDone && c.left > 0 {
		dst = append(dst, byte(c.number(1)))
	}
	if c.state != HelloDone {
		return nil
	}
	return asHost(dst)
}

// asHost makes name lower case and takes off a final dot. It returns nil where that
// is not a host name.
func asHost(name []byte) []byte {
	for i, ch := range name {
		if 'A' <= ch && ch <= 'Z' {
			name[i] = ch + 'a' - 'A'
		}
	}
	if n := len(name); n > 0 && name[n-1] == '.' {
		name = name[:n-1]
	}
	if !validHost(name) {
		return nil
	}
	return name
}

// cursor reads a handshake message that may be cut into records at any byte
// (RFC 8446 section 5.1). Its state is HelloDone while all is well; the first
// trouble sticks, and every read after it gives zeros.
type cursor struct {
	b      []byte // what is not yet read, from inside the current record on
	record int    // bytes of the current record not yet read
	left   int    // bytes of the innermost vector not yet read
	state  HelloState
}

func (c *cursor) fail(s HelloState) {
	if c.state == HelloDone {
		c.state = s
	}
}

// number reads a big-endian number of size bytes.
func (c *cursor) number(size int) (v int) {
	for range size {
		if c.left == 0 {
			c.fail(HelloBroken)
		}
		if !c.fill() {
			return 0
		}
		v = v<<8 | int(c.b[0])
		c.take(1)
	}
	return v
}

// vector reads a length of size bytes and steps into the vector that follows.
// The result is for leave.
func (c *cursor) vector(size int) (outer int) {
	n := c.number(size)
	if n > c.left {
		c.fail(HelloBroken)
	}
	if c.state != HelloDone {
		c.left = 0
		return 0
	}
	outer = c.left - n
	c.left = n
	return outer
}

// leave steps out of a vector that has been read to its end.
func (c *cursor) leave(outer int) {
	if c.left > 0 {
		c.fail(HelloBroken)
	}
	c.left = outer
}

func (c *cursor) skipVector(size int) {
	outer := c.vector(size)
	c.skip(c.left)
	c.leave(outer)
}

func (c *cursor) skip(n int) {
	if n > c.left {
		c.fail(HelloBroken)
	}
	for n > 0 && c.fill() {
		k := min(n, c.record, len(c.b))
		c.take(k)
		n -= k
	}
}

func (c *cursor) take(n int) {
	c.b = c.b[n:]
	c.record -= n
	c.left -= n
}

// fill makes sure that at least one byte of the message can be read.
func (c *cursor) fill() bool {
	if c.state == HelloDone && c.record == 0 {
		c.nextRecord()
	}
	if len(c.b) == 0 {
		c.fail(HelloNeed)
	}
	return c.state == HelloDone
}

// nextRecord reads a record's header. No other record may stand between two of
// one message, and none of a handshake may be empty (RFC 8446 section 5.1).
func (c *cursor) nextRecord() {
	if len(c.b) > 0 && c.b[0] != recordHandshake {
		c.fail(HelloBroken)
		return
	}
	if len(c.b) < recordHeader {
		c.fail(HelloNeed)
		return
	}
	c.record = int(c.b[3])<<8 | int(c.b[4])
	c.b = c.b[recordHeader:]
	if c.record == 0 || c.record > maxRecord {
		c.fail(HelloBroken)
	}
}
