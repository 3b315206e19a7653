package gtp

import "encoding/binary"

// Information elements of GTPv1-C that sessions need (TS 29.060 table 37).
const (
	v1Cause       = 1
	v1IMSI        = 2
	v1TEIDData    = 16
	v1TEIDControl = 17
	v1Teardown    = 19
	v1NSAPI       = 20
	v1EUA         = 128
	v1APN         = 131
	v1GSNAddress  = 133
	v1MSISDN      = 134
	v1ExtTypeList = 141
	v1RAT         = 151
	v1IMEI        = 154
)

// v1FixedLength gives the octets that follow the type of a TV element; 0 is
// unknown. Types from 128 on carry their length.
var v1FixedLength = [128]uint8{
	1: 1, 2: 8, 3: 6, 4: 4, 5: 4, 8: 1, 9: 28, 11: 1, 12: 3, 13: 1, 14: 1,
	15: 1, 16: 4, 17: 4, 18: 5, 19: 1, 20: 1, 21: 1, 22: 9, 23: 1, 24: 1,
	25: 2, 26: 2, 27: 2, 28: 2, 29: 1, 127: 4,
}

// End user address (TS 29.060 section 7.7.27): organisation IETF, and the PPP
// protocol numbers of the network layer.
const (
	euaIETF = 1
	euaIPv4 = 0x21
	euaIPv6 = 0x57
	euaDual = 0x8d
)

// v1Scan collects what only makes sense together at the message's end.
type v1Scan struct {
	teidData, teidControl       uint32
	hasTEIDData, hasTEIDControl bool
	nsapis                      int
}

// parseV1 reads a GTPv1-C message (TS 29.060 section 6).
func (m *Message) parseV1(b []byte) Verdict {
	m.Version = V1
	if b[0]&0x10 == 0 {
		return NotGTPC // protocol type 0 is GTP', TS 32.295
	}
	if len(b) < 8 {
		return TooShort
	}
	m.Type = b[1]
	m.TEID = uint64(binary.BigEndian.Uint32(b[4:]))
	msg, v := body(b, 8, int(binary.BigEndian.Uint16(b[2:])))
	i := 8
	if b[0]&0x07 != 0 {
		if len(msg) < 12 {
			return TooShort
		}
		m.Seq = uint32(binary.BigEndian.Uint16(msg[8:]))
		var ok bool
		if i, ok = v1Extensions(msg, b[0]); !ok {
			return BadHeader
		}
	}
	var s v1Scan
	for i < len(msg) {
		value, next, what := v1Element(msg, i)
		if what != OK {
			if what == BadIE && v == Cut {
				what = Cut
			}
			v = what
			break
		}
		m.v1IE(&s, msg[i], value)
		i = next
	}
	if v.Usable() {
		m.v1Endpoints(&s)
	}
	return v
}

// v1Extensions skips extension headers (TS 29.281 section 5.2) and returns
// where the elements begin.
func v1Extensions(msg []byte, flags byte) (i int, ok bool) {
	i = 12
	if flags&0x04 == 0 {
		return i, true
	}
	next := msg[11]
	for next != 0 {
		if i >= len(msg) || msg[i] == 0 {
			return 0, false
		}
		n := 4 * int(msg[i])
		if i+n > len(msg) {
			return 0, false
		}
		next = msg[i+n-1]
		i += n
	}
	return i, true
}

// v1Element returns the value of the element at i and where the next begins.
func v1Element(msg []byte, i int) (value []byte, next int, v Verdict) {
	t, start, n := msg[i], i+1, 0
	switch {
	case t < 128:
		n = int(v1FixedLength[t])
		if n == 0 {
			return nil, 0, UnknownIE
		}
	case t == v1ExtTypeList: // the one with a length of one octet, section 7.7.40
		if start >= len(msg) {
			return nil, 0, BadIE
		}
		n = int(msg[start])
		start++
	default:
		if start+2 > len(msg) {
			return nil, 0, BadIE
		}
		n = int(binary.BigEndian.Uint16(msg[start:]))
		start += 2
	}
	if start+n > len(msg) {
		return nil, 0, BadIE
	}
	return msg[start : start+n], start + n, OK
}

func (m *Message) v1IE(s *v1Scan, t byte, b []byte) {
	switch t {
	case v1Cause:
		m.Cause = b[0]
	case v1IMSI:
		m.IMSI = digitsFromTBCD(b)
	case v1TEIDData:
		s.teidData, s.hasTEIDData = binary.BigEndian.Uint32(b), true
	case v1TEIDControl:
		s.teidControl, s.hasTEIDControl = binary.BigEndian.Uint32(b), true
	case v1Teardown:
		m.Teardown = b[0]&1 != 0
	case v1NSAPI:
		m.v1NSAPI(s, b[0]&0xf)
	case v1EUA:
		m.v1EndUserAddress(b)
	case v1APN:
		m.apn.set(b)
	case v1GSNAddress:
		m.v1GSN(b)
	case v1MSISDN:
		if len(b) > 1 { // nature of address first, TS 29.002
			m.MSISDN = digitsFromTBCD(b[1:])
		}
	case v1RAT:
		if len(b) > 0 {
			m.RAT = b[0]
		}
	case v1IMEI:
		m.IMEI = digitsFromTBCD(b)
	}
}

// v1NSAPI: a second NSAPI in a create is the linked one, of the primary PDP
// context (TS 29.060 section 7.3.1).
func (m *Message) v1NSAPI(s *v1Scan, nsapi uint8) {
	switch s.nsapis {
	case 0:
		m.EBI = nsapi
	case 1:
		m.LinkedNSAPI, m.Secondary = nsapi, true
	}
	s.nsapis++
}

func (m *Message) v1EndUserAddress(b []byte) {
	if len(b) < 2 || b[0]&0xf != euaIETF {
		return
	}
	t, b := b[1], b[2:]
	if (t == euaIPv4 || t == euaDual) && (len(b) == 4 || len(b) == 20) {
		m.UEv4 = addrFrom4(b)
		b = b[4:]
	}
	if (t == euaIPv6 || t == euaDual) && len(b) == 16 {
		m.UEv6, m.UEv6Prefix = addrFrom16(b), 64
	}
}

func (m *Message) v1GSN(b []byte) {
	if int(m.gsnCount) == len(m.gsn) {
		return
	}
	switch len(b) {
	case 4:
		m.gsn[m.gsnCount] = addrFrom4(b)
	case 16:
		m.gsn[m.gsnCount] = addrFrom16(b)
	}
	m.gsnCount++
}

// v1Endpoints joins the TEIDs with the GSN addresses. The order decides what
// an address is for: signalling, user traffic, and the same again as the
// alternative of the other family (TS 29.060 sections 7.3.1 and 7.3.2).
func (m *Message) v1Endpoints(s *v1Scan) {
	user, control := slotSender, slotCtlSender
	switch m.Type {
	case v1CreateRequest:
		user, control = slotRAN, slotCtlAccess
	case v1CreateResponse:
		user, control = slotPGW, slotCtlPGW
	}
	if s.hasTEIDControl {
		m.v1Add(Endpoint{ID: uint64(s.teidControl), slot: control}, 0)
	}
	if s.hasTEIDData {
		m.v1Add(Endpoint{
			ID: uint64(s.teidData), slot: user, Bearer: m.EBI,
			Direction: user.direction(), direct: true,
		}, 1)
	}
}

// v1Add adds e with the GSN addresses first and first+2; without an address it
// stands with none, which means the sender's own.
func (m *Message) v1Add(e Endpoint, first int) {
	if m.gsnCount == 1 {
		first = 0 // one address serves both
	}
	a, alternative := m.gsn[first], Addr{}
	if first+2 < len(m.gsn) {
		alternative = m.gsn[first+2]
	}
	if a.IsZero() && alternative.IsZero() {
		m.push(e)
		return
	}
	m.add(e, a, alternative)
}

func (s slot) direction() Direction {
	switch s {
	case slotRAN, slotSGWCore:
		return Downlink
	case slotSGWAccess, slotPGW:
		return Uplink
	}
	return DirectionUnknown
}
