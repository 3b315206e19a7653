package bench

import (
	"encoding/binary"

	"github.com/nametap/nametap/capture/decode"
)

// Sessions are those of S5/S8: each subscriber up to State.Sessions has one
// between a SGW and a PGW of so many.
const (
	sgws, pgws = 64, 16

	sgwNet, pgwNet = 172<<24 | 16<<16, 172<<24 | 17<<16

	portGTPC, portGTPU = 2123, 2152
)

// nodes of a subscriber's session, as IPv4 addresses.
func nodes(subscriber int) (sgw, pgw uint32) {
	return sgwNet | uint32(subscriber%sgws), pgwNet | uint32(subscriber%pgws)
}

// teids of a subscriber's session: at the SGW and at the PGW, of either plane.
func teids(subscriber int) (sgw, pgw uint32) {
	return uint32(subscriber)*2 + 1, uint32(subscriber)*2 + 2
}

// Information elements of GTPv2-C (TS 29.274 table 8.1-1).
const (
	ieIMSI, ieCause, ieAPN, ieMEI, ieMSISDN = 1, 2, 71, 75, 76
	iePAA, ieRAT, ieBearer, ieFTEID, ieEBI  = 79, 82, 93, 87, 73
)

func ie(b []byte, typ, instance byte, value ...byte) []byte {
	return append(append(b, typ, byte(len(value)>>8), byte(len(value)), instance), value...)
}

// fteid is an IPv4 node's (TS 29.274 section 8.22).
func fteid(b []byte, instance, kind byte, teid, node uint32) []byte {
	return ie(b, ieFTEID, instance, 0x80|kind,
		byte(teid>>24), byte(teid>>16), byte(teid>>8), byte(teid), byte(node>>24), byte(node>>16), byte(node>>8), byte(node))
}

// digits appends 15 decimal digits in telephony BCD: seven of a prefix and eight of
// a number, as IMSI, MSISDN and IMEI are made up (TS 23.003 sections 2.2, 3.3 and
// 6.2.1).
func digits(b []byte, prefix, n int) []byte {
	var d [16]byte
	d[15] = 0xf
	for i := 14; i >= 0; i-- {
		d[i] = byte(n % 10)
		if n /= 10; i == 7 {
			n = prefix
		}
	}
	for i := 0; i < 16; i += 2 {
		b = append(b, d[i]|d[i+1]<<4)
	}
	return b
}

var apn = append(append([]byte{8}, "internet"...), append([]byte{6}, "mnc001\x06mcc262\x04gprs"...)...)

// attach writes the n-th message of the sessions: a Create Session Request
// (TS 29.274 section 7.2.1), then its response (7.2.2).
func (l *load) attach(b []byte, n int) int {
	subscriber := n / 2
	sgw, pgw := nodes(subscriber)
	sgwTEID, pgwTEID := teids(subscriber)
	var room, bearer, value [256]byte
	m := append(room[:0], 0x48, 32, 0, 0, 0, 0, 0, 0, byte(subscriber>>16), byte(subscriber>>8), byte(subscriber), 0)
	inner := ie(bearer[:0], ieEBI, 0, 5)
	if n%2 == 0 {
		m = ie(m, ieIMSI, 0, digits(value[:0], 26201_00, subscriber)...)
		m = ie(m, ieMSISDN, 0, digits(value[:0], 49151_00, subscriber)...)
		m = ie(m, ieMEI, 0, digits(value[:0], 35720_00, subscriber)...)
		m = ie(m, ieRAT, 0, 6)
		m = fteid(m, 0, 6, sgwTEID, sgw)
		m = ie(m, ieAPN, 0, apn...)
		inner = fteid(inner, 2, 4, sgwTEID, sgw)
	} else {
		sgw, pgw = pgw, sgw
		m[1] = 33
		binary.BigEndian.PutUint32(m[4:], sgwTEID)
		m = ie(m, ieCause, 0, 16, 0)
		m = fteid(m, 1, 7, pgwTEID, sgw)
		m = ie(m, iePAA, 0, l.paa(value[:0], subscriber)...)
		inner = fteid(ie(inner, ieCause, 0, 16, 0), 2, 5, pgwTEID, sgw)
	}
	m = ie(m, ieBearer, 0, inner...)
	binary.BigEndian.PutUint16(m[2:], uint16(len(m)-4))
	return l.udp(b, sgw, pgw, portGTPC, m)
}

// paa is the address that the subscriber is given (TS 29.274 section 8.14).
func (l *load) paa(b []byte, subscriber int) []byte {
	var head [14 + 40]byte
	six := l.ofSix(subscriber)
	l.ipHeaders(head[:], six, true, subscriber, 0, decode.ProtocolUDP, 0)
	if six {
		return append(append(b, 2, 64), head[14+8:][:16]...)
	}
	return append(append(b, 1), head[14+12:][:4]...)
}

// look writes the n-th packet in a tunnel: a DNS answer that gives nothing, to
// the subscriber. The sessions have their turns in an order that no cache
// foresees.
func (l *load) look(b []byte, n int) int {
	subscriber := l.attached.at(n, 0)
	sgw, pgw := nodes(subscriber)
	teid, _ := teids(subscriber)
	var scratch [14 + 40]byte
	head := l.ipHeaders(scratch[:], l.ofSix(subscriber), false, subscriber, l.resolver(), decode.ProtocolUDP, 8+12)
	var room [128]byte
	m := append(room[:0], 0x30, 255, 0, byte(head-14+8+12), byte(teid>>24), byte(teid>>16), byte(teid>>8), byte(teid))
	m = append(m, scratch[14:head]...)
	m = append(m, 0, 53, byte(20000>>8), byte(n), 0, 8+12, 0, 0)
	m = append(m, byte(n>>8), byte(n), 0x81, 0x83, 0, 0, 0, 0, 0, 0, 0, 0) // NXDOMAIN
	return l.udp(b, pgw, sgw, portGTPU, m)
}

// udp writes a datagram between two nodes, Ethernet and IP included, and returns
// its length.
func (l *load) udp(b []byte, src, dst uint32, port uint16, payload []byte) int {
	clear(b[:14+20+8])
	b[0], b[6], b[12] = 2, 2, 8
	l.ipID++
	ip := b[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, decode.ProtocolUDP
	binary.BigEndian.PutUint16(ip[2:], uint16(20+8+len(payload)))
	binary.BigEndian.PutUint16(ip[4:], l.ipID)
	binary.BigEndian.PutUint32(ip[12:], src)
	binary.BigEndian.PutUint32(ip[16:], dst)
	binary.BigEndian.PutUint16(ip[20:], port)
	binary.BigEndian.PutUint16(ip[22:], port)
	binary.BigEndian.PutUint16(ip[24:], uint16(8+len(payload)))
	return 14 + 20 + 8 + copy(ip[28:], payload)
}
