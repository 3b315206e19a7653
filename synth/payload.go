package synth

import (
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"math/big"
	"strconv"
	"time"
)

// Kinds of write. Those up to writeRaw are made of filler at any length, the
// others are messages whose length follows from the connection.
const (
	writeTLS            = iota // application data in records
	writeRaw                   // bytes without a visible structure
	writeHello                 // ClientHello
	writeServerHello           // TLS 1.2: ServerHello to ServerHelloDone; TLS 1.3: ServerHello and what is encrypted
	writeServerResume          // abbreviated handshake, or TLS 1.3 with a pre-shared key
	writeClientKey             // ClientKeyExchange, ChangeCipherSpec, Finished
	writeClientFinished        // ChangeCipherSpec, Finished
	writeServerFinished        // ChangeCipherSpec, Finished
	writeTLSAlert              // close_notify, encrypted
	writeTLSAlertPlain         // fatal internal_error before the handshake's end
	writeChatHello             // first bytes of a chat connection
	writeChatFrame             // length and ciphertext
	writeHTTPRequest
	writeHTTPResponse // head only; the body is a writeRaw
	writeDNSQuery     // over TCP
	writeDNSAnswer    // over TCP
)

const (
	fillerMask   = 1<<16 - 1
	recordStride = 5 + 8192 // of writeTLS
	recordLeast  = 5 + 24   // an AEAD record of one byte
)

// tlsLength rounds the length of application data so that its last record can
// hold its own overhead.
func tlsLength(n uint32) uint32 {
	if r := n % recordStride; r > 0 && r < recordLeast {
		return n + recordLeast
	}
	return max(n, recordLeast)
}

// fill writes the payload of p to b.
func (g *Generator) fill(c *conn, p *packet, b []byte) {
	if p.wkind > writeRaw {
		g.message = g.appendMessage(g.message[:0], c, p.wkind, p.wstart, p.wlen)
		copy(b, g.message[p.off-p.wstart:])
		return
	}
	from := (uint32(c.salt) + p.off) & fillerMask
	copy(b, g.filler[from:])
	if p.wkind == writeTLS {
		recordHeaders(b, p.off-p.wstart, p.wlen)
	}
}

// recordHeaders overwrites b, which starts at offset from of a write of
// length total, with the record headers that fall into it.
func recordHeaders(b []byte, from, total uint32) {
	for start := from / recordStride * recordStride; start < from+uint32(len(b)); start += recordStride {
		n := min(recordStride, total-start) - 5
		header := [5]byte{23, 3, 3, byte(n >> 8), byte(n)}
		for i, v := range header {
			if at := int64(start) + int64(i) - int64(from); at >= 0 && at < int64(len(b)) {
				b[at] = v
			}
		}
	}
}

// messageLength is the length of a message that has only one.
func (g *Generator) messageLength(c *conn, kind uint8) uint32 {
	g.message = g.appendMessage(g.message[:0], c, kind, 0, 0)
	return uint32(len(g.message))
}

// appendMessage appends a message of c to b, which is empty. Its place in the
// stream and its length are used by the kinds that can have any.
func (g *Generator) appendMessage(b []byte, c *conn, kind uint8, start, length uint32) []byte {
	random := rng{c.salt ^ uint64(kind)<<56}
	sv := &g.services[c.service]
	switch kind {
	case writeHello:
		return g.appendHello(b, c, &random)
	case writeServerHello:
		return appendServerHello(b, c, sv.certificate, &random)
	case writeServerResume:
		b = appendServerHelloOnly(b, c, &random)
		b = append(b, 20, 3, 3, 0, 1, 1)
		if c.tls13 {
			b = record(b, 23, 32, &random)
			return record(b, 23, 69, &random)
		}
		return record(b, 22, 40, &random)
	case writeClientKey:
		b = append(b, 22, 3, 3, 0, 37, 16, 0, 0, 33, 32)
		b = appendRandom(b, 32, &random)
		b = append(b, 20, 3, 3, 0, 1, 1)
		return record(b, 22, 40, &random)
	case writeClientFinished, writeServerFinished:
		b = append(b, 20, 3, 3, 0, 1, 1)
		if c.tls13 {
			return record(b, 23, 69, &random)
		}
		return record(b, 22, 40, &random)
	case writeTLSAlert:
		if c.tls13 {
			return record(b, 23, 19, &random)
		}
		return record(b, 21, 26, &random)
	case writeTLSAlertPlain:
		return append(b, 21, 3, 3, 0, 2, 2, 80)
	case writeChatHello:
		return g.appendChatHello(b, c, &random)
	case writeChatFrame:
		random.state += uint64(start) << 24
		n := length - 3
		b = append(b, byte(n>>16), byte(n>>8), byte(n))
		return appendRandom(b, int(n), &random)
	case writeHTTPRequest:
		b = append(b, "GET /"...)
		b = strconv.AppendUint(b, c.salt&0xffffff, 16)
		b = append(b, " HTTP/1.1\r\nHost: "...)
		b = g.appendName(b, c.name)
		return append(b, "\r\nUser-Agent: synth/1\r\nAccept: */*\r\nConnection: close\r\n\r\n"...)
	case writeHTTPResponse:
		b = append(b, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nConnection: close\r\nContent-Length: "...)
		b = strconv.AppendUint(b, uint64(c.object), 10)
		return append(b, "\r\n\r\n"...)
	case writeDNSQuery:
		b = g.appendQuery(append(b, 0, 0), g.lookups.at(c.lookup), false)
		binary.BigEndian.PutUint16(b, uint16(len(b)-2))
	case writeDNSAnswer:
		b = g.appendAnswer(append(b, 0, 0), g.lookups.at(c.lookup), packetAnswer)
		binary.BigEndian.PutUint16(b, uint16(len(b)-2))
	}
	return b
}

func appendRandom(b []byte, n int, r *rng) []byte {
	for n >= 8 {
		b = binary.BigEndian.AppendUint64(b, r.next())
		n -= 8
	}
	for v := r.next(); n > 0; n-- {
		b = append(b, byte(v))
		v >>= 8
	}
	return b
}

// record appends an encrypted TLS record.
func record(b []byte, kind byte, n int, r *rng) []byte {
	b = append(b, kind, 3, 3, byte(n>>8), byte(n))
	return appendRandom(b, n, r)
}

// appendChatHello appends how a chat connection of the time begins: "WA", the
// protocol's version, and what is not TLS.
func (g *Generator) appendChatHello(b []byte, c *conn, r *rng) []byte {
	if g.services[c.service].TLS13 {
		b = append(b, 'E', 'D', 0, 1, 0, 0, 4, 8, 2, 8, 13)
		b = append(b, 'W', 'A', 6, 3)
	} else {
		b = append(b, 'W', 'A', 1, 5)
	}
	n := 120 + int(r.next()%64)
	b = append(b, 0, byte(n>>8), byte(n))
	return appendRandom(b, n, r)
}

var (
	suites12 = []uint16{0xc02b, 0xc02f, 0xc00a, 0xc009, 0xc013, 0xc014, 0x0033, 0x0039, 0x002f, 0x0035, 0x000a, 0x0005, 0x0004, 0x00ff}
	suites13 = []uint16{0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014}
)

// appendHello appends a ClientHello record (RFC 5246 section 7.4.1.2, RFC 8446
// section 4.1.2).
func (g *Generator) appendHello(b []byte, c *conn, r *rng) []byte {
	at := len(b)
	b = append(b, 22, 3, 1, 0, 0, 1, 0, 0, 0, 3, 3)
	b = appendRandom(b, 32, r)
	suites := suites12
	if c.tls13 {
		suites = suites13
		b = append(b, 32)
		b = appendRandom(b, 32, r)
	} else {
		b = append(b, 0)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(2*len(suites)))
	for _, s := range suites {
		b = binary.BigEndian.AppendUint16(b, s)
	}
	b = append(b, 1, 0)
	extensions := len(b)
	b = append(b, 0, 0)
	if c.sni {
		b = g.appendServerName(b, c)
	}
	b = append(b, 0xff, 0x01, 0, 1, 0)                 // renegotiation_info
	b = append(b, 0, 10, 0, 6, 0, 4, 0, 29, 0, 23)     // supported_groups: x25519, P-256
	b = append(b, 0, 11, 0, 2, 1, 0)                   // ec_point_formats
	b = append(b, 0, 35, 0, 0)                         // session_ticket
	b = append(b, 0, 13, 0, 8, 0, 6, 4, 3, 8, 4, 8, 7) // signature_algorithms
	if c.tls13 {
		b = append(b, 0, 16, 0, 5, 0, 3, 2, 'h', '2') // ALPN
		b = append(b, 0, 43, 0, 3, 2, 3, 4)           // supported_versions
		b = append(b, 0, 45, 0, 2, 1, 1)              // psk_key_exchange_modes
		b = appendKeyShares(b, c.bigHello, r)
		if c.ech {
			b = appendECH(b, r)
		}
	}
	binary.BigEndian.PutUint16(b[extensions:], uint16(len(b)-extensions-2))
	n := len(b) - at
	binary.BigEndian.PutUint16(b[at+3:], uint16(n-5))
	binary.BigEndian.PutUint16(b[at+7:], uint16(n-9))
	return b
}

// appendServerName appends RFC 6066's extension. Behind ECH it is the public
// name of the provider, which names nobody.
func (g *Generator) appendServerName(b []byte, c *conn) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	if c.ech {
		b = append(b, echPublicName...)
	} else {
		b = g.appendName(b, c.name)
	}
	n := len(b) - at
	binary.BigEndian.PutUint16(b[at+2:], uint16(n-4))
	binary.BigEndian.PutUint16(b[at+4:], uint16(n-6))
	binary.BigEndian.PutUint16(b[at+7:], uint16(n-9))
	return b
}

const echPublicName = "ech.provider.example"

// appendKeyShares appends an X25519 share, and before it an X25519MLKEM768
// one, which makes the hello longer than a segment.
func appendKeyShares(b []byte, big bool, r *rng) []byte {
	n := 4 + 32
	if big {
		n += 4 + 1216
	}
	b = append(b, 0, 51)
	b = binary.BigEndian.AppendUint16(b, uint16(n+2))
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	if big {
		b = append(b, 0x11, 0xec, 0x04, 0xc0)
		b = appendRandom(b, 1216, r)
	}
	b = append(b, 0, 29, 0, 32)
	return appendRandom(b, 32, r)
}

// appendECH appends an outer encrypted_client_hello (RFC 9849 section 5).
func appendECH(b []byte, r *rng) []byte {
	const sealed = 239
	b = append(b, 0xfe, 0x0d)
	b = binary.BigEndian.AppendUint16(b, 1+4+1+2+32+2+sealed)
	b = append(b, 0, 0, 1, 0, 1, 7, 0, 32)
	b = appendRandom(b, 32, r)
	b = binary.BigEndian.AppendUint16(b, sealed)
	return appendRandom(b, sealed, r)
}

func appendServerHelloOnly(b []byte, c *conn, r *rng) []byte {
	if c.tls13 {
		b = append(b, 22, 3, 3, 0, 122, 2, 0, 0, 118, 3, 3)
		b = appendRandom(b, 32, r)
		b = append(b, 32)
		b = appendRandom(b, 32, r)
		b = append(b, 0x13, 0x01, 0, 0, 46, 0, 43, 0, 2, 3, 4, 0, 51, 0, 36, 0, 29, 0, 32)
		return appendRandom(b, 32, r)
	}
	b = append(b, 22, 3, 3, 0, 81, 2, 0, 0, 77, 3, 3)
	b = appendRandom(b, 32, r)
	b = append(b, 32)
	b = appendRandom(b, 32, r)
	return append(b, 0xc0, 0x2b, 0, 0, 5, 0xff, 0x01, 0, 1, 0)
}

// appendServerHello appends a full handshake's answer with a certificate.
func appendServerHello(b []byte, c *conn, certificate []byte, r *rng) []byte {
	b = appendServerHelloOnly(b, c, r)
	if c.tls13 {
		b = append(b, 20, 3, 3, 0, 1, 1)
		return record(b, 23, 2400+int(r.next()%900), r)
	}
	n := len(certificate)
	b = append(b, 22, 3, 3, byte((n+10)>>8), byte(n+10), 11, 0, byte((n+6)>>8), byte(n+6))
	b = append(b, 0, byte((n+3)>>8), byte(n+3), 0, byte(n>>8), byte(n))
	b = append(b, certificate...)
	// ServerKeyExchange (RFC 8422 section 5.4): x25519, Ed25519.
	b = append(b, 22, 3, 3, 0, 108, 12, 0, 0, 104, 3, 0, 29, 32)
	b = appendRandom(b, 32, r)
	b = append(b, 8, 7, 0, 64)
	b = appendRandom(b, 64, r)
	return append(b, 22, 3, 3, 0, 4, 14, 0, 0, 0)
}

// certificate returns a certificate for name that is the same in every run.
func certificate(name string, random *rng) ([]byte, error) {
	seed := appendRandom(nil, ed25519.SeedSize, random)
	key := ed25519.NewKeyFromSeed(seed)
	names := []string{name}
	for i := range 24 {
		names = append(names, "alternative-"+strconv.Itoa(i)+"."+name)
	}
	t := x509.Certificate{
		SerialNumber: big.NewInt(int64(random.next() >> 2)),
		Subject:      pkix.Name{CommonName: name, Organization: []string{"Synthetic"}},
		NotBefore:    time.Date(2013, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(2033, 1, 1, 0, 0, 0, 0, time.UTC),
		DNSNames:     names,
	}
	return x509.CreateCertificate(nil, &t, &t, key.Public(), key)
}
