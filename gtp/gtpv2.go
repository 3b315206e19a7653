package gtp

import "encoding/binary"

// Information elements of GTPv2-C that sessions need (TS 29.274 table 8.1-1).
const (
	v2IMSI          = 1
	v2Cause         = 2
	v2APN           = 71
	v2EBI           = 73
	v2MEI           = 75
	v2MSISDN        = 76
	v2Indication    = 77
	v2PAA           = 79
	v2RAT           = 82
	v2FTEID         = 87
	v2BearerContext = 93
)

// Flags of the Indication element (TS 29.274 section 8.12).
const (
	indicationHI = 0x20 // octet 5: handover
	indicationOI = 0x08 // octet 5: the delete is for the PGW too
	indicationSI = 0x02 // octet 6: the delete is for this SGW only
)

// v2Interface says what place an F-TEID of each interface type takes
// (TS 29.274 table 8.22-1). Types that are not here are kept by their number.
var v2Interface = [64]struct {
	slot    slot
	forward Direction // of slotForward
	direct  bool
	known   bool
}{
	0:  {slot: slotRAN, known: true},                        // S1-U eNodeB
	1:  {slot: slotSGWAccess, known: true},                  // S1-U SGW
	2:  {slot: slotRAN, known: true},                        // S12 RNC
	3:  {slot: slotSGWAccess, known: true},                  // S12 SGW
	4:  {slot: slotSGWCore, known: true},                    // S5/S8-U SGW
	5:  {slot: slotPGW, known: true},                        // S5/S8-U PGW
	6:  {slot: slotCtlSGWCore, known: true},                 // S5/S8-C SGW
	7:  {slot: slotCtlPGW, known: true},                     // S5/S8-C PGW
	8:  {known: true},                                       // PMIPv6: a GRE key
	9:  {known: true},                                       // PMIPv6: a GRE key
	10: {slot: slotCtlAccess, known: true},                  // S11 MME
	11: {slot: slotCtlSGWAccess, known: true},               // S11/S4 SGW
	12: {known: true},                                       // S10 MME
	13: {known: true},                                       // S3 MME
	14: {known: true},                                       // S3 SGSN
	15: {slot: slotRAN, known: true},                        // S4-U SGSN
	16: {slot: slotSGWAccess, known: true},                  // S4-U SGW
	17: {slot: slotCtlAccess, known: true},                  // S4 SGSN
	18: {known: true},                                       // S16 SGSN
	19: {slot: slotForward, forward: Downlink, known: true}, // eNodeB, DL forwarding
	20: {slot: slotForward, forward: Uplink, known: true},   // eNodeB, UL forwarding
	21: {slot: slotForward, forward: Downlink, known: true}, // RNC forwarding
	22: {slot: slotForward, forward: Downlink, known: true}, // SGSN forwarding
	23: {slot: slotForward, forward: Downlink, known: true}, // SGW, DL forwarding
	24: {known: true},                                       // MBMS
	25: {known: true},                                       // MBMS
	26: {known: true},                                       // MBMS
	27: {known: true},                                       // MBMS
	28: {slot: slotForward, forward: Uplink, known: true},   // SGW, UL forwarding
	29: {known: true},                                       // MBMS
	30: {slot: slotCtlAccess, known: true},                  // S2b ePDG
	31: {slot: slotRAN, direct: true, known: true},          // S2b-U ePDG
	32: {slot: slotCtlPGW, known: true},                     // S2b PGW
	33: {slot: slotPGW, known: true},                        // S2b-U PGW
	34: {slot: slotRAN, direct: true, known: true},          // S2a-U TWAN
	35: {slot: slotCtlAccess, known: true},                  // S2a TWAN
	36: {slot: slotCtlPGW, known: true},                     // S2a PGW
	37: {slot: slotPGW, known: true},                        // S2a-U PGW
	38: {slot: slotRAN, known: true},                        // S11-U MME
	39: {slot: slotSGWAccess, known: true},                  // S11-U SGW
	40: {known: true},                                       // N26 AMF
	41: {known: true},                                       // N19mb UPF
}

// parseV2 reads a GTPv2-C message (TS 29.274 section 5).
func (m *Message) parseV2(b []byte) (rest []byte, v Verdict) {
	m.Version = V2
	m.Type = b[1]
	msg, v := body(b, 4, int(binary.BigEndian.Uint16(b[2:])))
	i := 8
	if b[0]&0x08 != 0 {
		i = 12
	}
	if len(msg) < i {
		return nil, TooShort
	}
	if i == 12 {
		m.TEID = uint64(binary.BigEndian.Uint32(msg[4:]))
	}
	m.Seq = binary.BigEndian.Uint32(msg[i-4:]) >> 8
	// A second message follows only where the first says so (P, section 5.5.1).
	if b[0]&0x10 != 0 && len(b) > len(msg) {
		rest = b[len(msg):]
	}
	if !m.v2Elements(msg[i:], 0) && v == OK {
		v = BadIE
	}
	m.finishV2()
	return rest, v
}

// v2Elements reads the elements in b, which is the message (context 0) or the
// inside of a bearer context. Contexts hold no contexts (section 8.28).
func (m *Message) v2Elements(b []byte, context uint8) (ok bool) {
	for len(b) > 0 {
		if len(b) < 4 {
			return false
		}
		n := int(binary.BigEndian.Uint16(b[1:]))
		if 4+n > len(b) {
			if context == 0 && b[0] == v2BearerContext {
				m.v2Bearer(b[4:], b[3]&0xf) // cut: what is there is there
			}
			return false
		}
		t, instance, value := b[0], b[3]&0xf, b[4:4+n]
		b = b[4+n:]
		if context != 0 {
			m.v2BearerIE(t, instance, value, context)
			continue
		}
		if t == v2BearerContext {
			if !m.v2Bearer(value, instance) {
				return false
			}
			continue
		}
		m.v2IE(t, instance, value)
	}
	return true
}

// v2Bearer reads a bearer context. ok is false where its elements do not fit.
func (m *Message) v2Bearer(b []byte, instance uint8) (ok bool) {
	if int(m.NumBearers) == maxBearers {
		return true // an UE has at most 11, TS 24.007 section 11.2.3.1.5
	}
	c := m.NumBearers
	m.NumBearers++
	m.Bearers[c].Instance = instance
	return m.v2Elements(b, c)
}

func (m *Message) v2BearerIE(t, instance uint8, b []byte, context uint8) {
	switch {
	case t == v2EBI && len(b) > 0 && instance == 0:
		m.Bearers[context].EBI = b[0] & 0xf
	case t == v2Cause && len(b) > 0:
		m.Bearers[context].Cause = b[0]
	case t == v2FTEID:
		m.v2FTEID(b, context)
	}
}

func (m *Message) v2IE(t, instance uint8, b []byte) {
	if len(b) == 0 {
		return
	}
	switch t {
	case v2IMSI:
		m.IMSI = digitsFromTBCD(b)
	case v2Cause:
		m.Cause = b[0]
	case v2APN:
		m.apn.set(b)
	case v2EBI:
		if instance == 0 {
			m.EBI = b[0] & 0xf
			return
		}
		m.EBIs |= 1 << (b[0] & 0xf)
	case v2MEI:
		m.IMEI = digitsFromTBCD(b)
	case v2MSISDN:
		m.MSISDN = digitsFromTBCD(b) // no nature of address here, section 8.11
	case v2Indication:
		m.v2Indication(b)
	case v2PAA:
		m.v2PAA(b)
	case v2RAT:
		m.RAT = b[0]
	case v2FTEID:
		m.v2FTEID(b, 0)
	}
}

func (m *Message) v2Indication(b []byte) {
	m.Handover = b[0]&indicationHI != 0
	m.noOI = b[0]&indicationOI == 0
	m.localRelease = len(b) > 1 && b[1]&indicationSI != 0
}

// v2PAA reads the PDN address allocation (section 8.14).
func (m *Message) v2PAA(b []byte) {
	switch t := b[0] & 7; {
	case t == 1 && len(b) >= 5:
		m.UEv4 = addrFrom4(b[1:])
	case t == 2 && len(b) >= 18:
		m.UEv6, m.UEv6Prefix = addrFrom16(b[2:]), b[1]
	case t == 3 && len(b) >= 22:
		m.UEv6, m.UEv6Prefix = addrFrom16(b[2:]), b[1]
		m.UEv4 = addrFrom4(b[18:])
	}
}

// v2FTEID reads an F-TEID (section 8.22). One of an unknown interface type is
// of the user plane inside a bearer context and of the control plane outside.
func (m *Message) v2FTEID(b []byte, context uint8) {
	if len(b) < 5 {
		return
	}
	e := Endpoint{
		ID:        uint64(binary.BigEndian.Uint32(b[1:])),
		Interface: b[0] & 0x3f,
		context:   context,
	}
	k := &v2Interface[e.Interface]
	e.slot, e.direct = k.slot, k.direct
	e.Direction = k.slot.direction()
	if k.slot == slotForward {
		e.Direction = k.forward
	}
	switch {
	case k.known && k.slot == slotIgnored:
		return
	case !k.known && context == 0:
		e.slot = slotUnknownControl | slot(e.Interface)
	case !k.known:
		e.slot = slotUnknownUser | slot(e.Interface)
	}
	flags, b := b[0], b[5:]
	var v4, v6 Addr
	if flags&0x80 != 0 {
		if len(b) < 4 {
			return
		}
		v4, b = addrFrom4(b), b[4:]
	}
	if flags&0x40 != 0 {
		if len(b) < 16 {
			return
		}
		v6 = addrFrom16(b)
	}
	m.add(e, v4, v6)
}

// finishV2 gives each endpoint its bearer, which may stand after it, and finds
// the default bearer where only the context names it: an initial Create Session
// Request on S11 holds one context (section 7.2.1).
func (m *Message) finishV2() {
	for i := range m.Endpoints[:m.NumEndpoints] {
		e := &m.Endpoints[i]
		e.Bearer = m.Bearers[e.context].EBI
	}
	if m.EBI != 0 || (m.Type != v2CreateSessionRequest && m.Type != v2CreateSessionResponse) {
		return
	}
	for i := range m.Bearers[1:m.NumBearers] {
		if c := &m.Bearers[1+i]; c.Instance == 0 {
			m.EBI = c.EBI
			return
		}
	}
}
