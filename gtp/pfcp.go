package gtp

import "encoding/binary"

// Information elements of PFCP that sessions need (TS 29.244 table 8.1.2-1).
const (
	pfcpCreatePDR              = 1
	pfcpPDI                    = 2
	pfcpCreateFAR              = 3
	pfcpForwarding             = 4
	pfcpCreatedPDR             = 8
	pfcpUpdatePDR              = 9
	pfcpUpdateFAR              = 10
	pfcpUpdateForwarding       = 11
	pfcpCause                  = 19
	pfcpSourceInterface        = 20
	pfcpFTEID                  = 21
	pfcpNetworkInstance        = 22
	pfcpDestinationInterface   = 42
	pfcpPDRID                  = 56
	pfcpFSEID                  = 57
	pfcpOuterHeaderCreation    = 84
	pfcpUEAddress              = 93
	pfcpFARID                  = 108
	pfcpCreateTrafficEndpoint  = 127
	pfcpCreatedTrafficEndpoint = 128
	pfcpUpdateTrafficEndpoint  = 129
	pfcpTrafficEndpointID      = 131
	pfcpUserID                 = 141
	pfcpAPN                    = 159
	pfcpUpdatedPDR             = 256
)

// Source and destination interfaces (TS 29.244 sections 8.2.2 and 8.2.24).
// What goes to or comes from the CP function is not the user's traffic, and
// one endpoint there serves many sessions.
const (
	pfcpAccess = 0
	pfcpCore   = 1
	pfcpNone   = 0xff
)

// parsePFCP reads a PFCP message (TS 29.244 section 7.2.2).
func (m *Message) parsePFCP(b []byte) (rest []byte, v Verdict) {
	m.Version = PFCP
	if b[0]>>5 != 1 {
		return nil, BadVersion
	}
	m.Type = b[1]
	msg, v := body(b, 4, int(binary.BigEndian.Uint16(b[2:])))
	i := 8
	if b[0]&0x01 != 0 {
		i = 16
	}
	if len(msg) < i {
		return nil, TooShort
	}
	if i == 16 {
		m.TEID = binary.BigEndian.Uint64(msg[4:])
	}
	m.Seq = binary.BigEndian.Uint32(msg[i-4:]) >> 8
	if b[0]&0x04 != 0 && len(b) > len(msg) { // follow on
		rest = b[len(msg):]
	}
	if !m.pfcpElements(msg[i:]) && v == OK {
		v = BadIE
	}
	m.resolve(m.Endpoints[:m.NumEndpoints])
	return rest, v
}

// pfcpNext takes one element off b (section 8.1.1).
func pfcpNext(b []byte) (t uint16, value, rest []byte, ok bool) {
	if len(b) < 4 {
		return 0, nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if 4+n > len(b) {
		return 0, nil, nil, false
	}
	return binary.BigEndian.Uint16(b), b[4 : 4+n], b[4+n:], true
}

func (m *Message) pfcpElements(b []byte) bool {
	for len(b) > 0 {
		t, value, rest, ok := pfcpNext(b)
		if !ok || !m.pfcpIE(t, value) {
			return false
		}
		b = rest
	}
	return true
}

func (m *Message) pfcpIE(t uint16, b []byte) bool {
	switch t {
	case pfcpCause:
		if len(b) > 0 {
			m.Cause = b[0]
		}
	case pfcpFSEID:
		m.pfcpFSEID(b)
	case pfcpAPN:
		if m.apn.set(b) {
			m.apnIsNI = false
		}
	case pfcpUserID:
		m.pfcpUserID(b)
	case pfcpCreatePDR, pfcpUpdatePDR, pfcpCreatedPDR, pfcpUpdatedPDR:
		r := pfcpRule{kind: refPDR, source: pfcpNone}
		return r.read(m, b) && m.pfcpPDR(&r)
	case pfcpCreateTrafficEndpoint, pfcpUpdateTrafficEndpoint, pfcpCreatedTrafficEndpoint:
		r := pfcpRule{kind: refTrafficEndpoint, source: pfcpNone}
		return r.read(m, b) && m.pfcpTrafficEndpoint(&r)
	case pfcpCreateFAR, pfcpUpdateFAR:
		r := pfcpRule{kind: refFAR, source: pfcpNone, destination: pfcpNone}
		return r.read(m, b) && m.pfcpFAR(&r)
	}
	return true
}

// pfcpRule collects a PDR, FAR or traffic endpoint, whose parts may stand in
// any order.
type pfcpRule struct {
	kind               refKind
	id                 uint32
	source             uint8
	destination        uint8
	hasTrafficEndpoint bool
	hasFTEID           bool
	choose             bool
	hasOuter           bool
	trafficEndpoint    uint8
	teid               uint32
	v4, v6             Addr
	outerTEID          uint32
	outer4, outer6     Addr
}

// read takes a group's elements, the groups PDI and (Update) Forwarding
// Parameters flattened into it. They hold no further groups that matter.
func (r *pfcpRule) read(m *Message, b []byte) bool {
	for len(b) > 0 {
		t, value, rest, ok := pfcpNext(b)
		if !ok {
			return false
		}
		b = rest
		if t == pfcpPDI || t == pfcpForwarding || t == pfcpUpdateForwarding {
			if !r.group(m, value) {
				return false
			}
			continue
		}
		r.element(m, t, value)
	}
	return true
}

func (r *pfcpRule) group(m *Message, b []byte) bool {
	for len(b) > 0 {
		t, value, rest, ok := pfcpNext(b)
		if !ok {
			return false
		}
		b = rest
		r.element(m, t, value)
	}
	return true
}

func (r *pfcpRule) element(m *Message, t uint16, b []byte) {
	switch {
	case t == pfcpPDRID && len(b) >= 2:
		r.id = uint32(binary.BigEndian.Uint16(b))
	case t == pfcpFARID && len(b) >= 4 && r.kind == refFAR:
		r.id = binary.BigEndian.Uint32(b)
	case t == pfcpTrafficEndpointID && len(b) >= 1:
		r.trafficEndpoint, r.hasTrafficEndpoint = b[0], true
	case t == pfcpSourceInterface && len(b) >= 1:
		r.source = b[0] & 0xf
	case t == pfcpDestinationInterface && len(b) >= 1:
		r.destination = b[0] & 0xf
	case t == pfcpFTEID:
		r.fteid(b)
	case t == pfcpOuterHeaderCreation:
		r.outer(b)
	case t == pfcpUEAddress && len(b) >= 1:
		m.pfcpUE(b)
	case t == pfcpNetworkInstance && m.apn.n == 0:
		m.apnIsNI = true
		if !m.apn.set(b) {
			m.apn.setText(b)
		}
	}
}

// fteid reads a local F-TEID (section 8.2.3). With CHOOSE it is for the UP
// function to fill in, which its response does.
func (r *pfcpRule) fteid(b []byte) {
	if len(b) > 0 && b[0]&0x04 != 0 {
		r.choose = true
		return
	}
	if len(b) < 5 {
		return
	}
	flags := b[0]
	r.teid = binary.BigEndian.Uint32(b[1:])
	r.v4, r.v6, _ = addresses(b[5:], flags&0x01 != 0, flags&0x02 != 0)
	r.hasFTEID = true
}

// outer reads an outer header to create (section 8.2.56): only GTP-U counts.
func (r *pfcpRule) outer(b []byte) {
	if len(b) < 6 || b[0]&0x03 == 0 {
		return
	}
	r.outerTEID = binary.BigEndian.Uint32(b[2:])
	r.outer4, r.outer6, _ = addresses(b[6:], b[0]&0x15 != 0, b[0]&0x2a != 0)
	r.hasOuter = true
}

// addresses reads an IPv4 and an IPv6 address, as the flags say.
func addresses(b []byte, has4, has6 bool) (v4, v6 Addr, ok bool) {
	if has4 {
		if len(b) < 4 {
			return v4, v6, false
		}
		v4, b = addrFrom4(b), b[4:]
	}
	if has6 {
		if len(b) < 16 {
			return v4, v6, false
		}
		v6 = addrFrom16(b)
	}
	return v4, v6, true
}

// pfcpPDR: what arrives at an F-TEID from the access side runs uplink, what
// arrives from the core downlink (section 8.2.2).
func (m *Message) pfcpPDR(r *pfcpRule) bool {
	dir := DirectionUnknown
	switch r.source {
	case pfcpAccess:
		dir = Uplink
	case pfcpCore:
		dir = Downlink
	case pfcpNone:
	default:
		return true
	}
	e := Endpoint{ID: uint64(r.teid), ref: r.id, refKind: refPDR, slot: slotNear, Direction: dir}
	if r.hasFTEID {
		m.add(e, r.v4, r.v6)
	}
	if dir == DirectionUnknown {
		return true
	}
	// Without an address an endpoint only remembers what the rule is for,
	// until the UP function tells the F-TEID.
	e.ID = 0
	if r.choose {
		m.push(e)
	}
	if r.hasTrafficEndpoint {
		e.ref, e.refKind = uint32(r.trafficEndpoint), refTrafficEndpoint
		m.push(e)
	}
	return true
}

func (m *Message) pfcpTrafficEndpoint(r *pfcpRule) bool {
	if r.hasFTEID {
		m.add(Endpoint{
			ID: uint64(r.teid), ref: uint32(r.trafficEndpoint),
			refKind: refTrafficEndpoint, slot: slotNear,
		}, r.v4, r.v6)
	}
	return true
}

// pfcpFAR: what is sent towards the access side runs downlink. An update may
// leave the destination out where it stays the same.
func (m *Message) pfcpFAR(r *pfcpRule) bool {
	dir := DirectionUnknown
	switch r.destination {
	case pfcpAccess:
		dir = Downlink
	case pfcpCore:
		dir = Uplink
	case pfcpNone:
	default:
		return true
	}
	e := Endpoint{
		ID: uint64(r.outerTEID), ref: r.id, refKind: refFAR, slot: slotFar,
		Bearer: farTag(r.id), Direction: dir,
	}
	if r.hasOuter {
		m.add(e, r.outer4, r.outer6)
		return true
	}
	if dir != DirectionUnknown {
		m.push(e)
	}
	return true
}

// farTag stands in for a bearer: a FAR's new outer header replaces its old one.
// FARs are numbered within a session of one UP function; the Table tells two UP
// functions apart with the bits left over.
func farTag(id uint32) uint8 { return 0x80 | uint8(id&farMask) }

const farMask = 0x1f

func (m *Message) pfcpFSEID(b []byte) {
	if len(b) < 9 {
		return
	}
	e := Endpoint{ID: binary.BigEndian.Uint64(b[1:]), slot: slotSEIDCP}
	if m.Type == pfcpEstablishmentResponse {
		e.slot = slotSEIDUP
	}
	v4, v6, ok := addresses(b[9:], b[0]&0x02 != 0, b[0]&0x01 != 0)
	if ok {
		m.add(e, v4, v6)
	}
}

// pfcpUE reads a UE IP address (section 8.2.62).
func (m *Message) pfcpUE(b []byte) {
	v4, v6, ok := addresses(b[1:], b[0]&0x02 != 0, b[0]&0x01 != 0)
	if !ok {
		return
	}
	if !v4.IsZero() {
		m.UEv4 = v4
	}
	if !v6.IsZero() {
		m.UEv6, m.UEv6Prefix = v6, 64
	}
}

// pfcpUserID reads a User ID (section 8.2.101): each part with its length.
func (m *Message) pfcpUserID(b []byte) {
	if len(b) < 1 {
		return
	}
	flags, b := b[0], b[1:]
	for i, d := range [3]*Digits{&m.IMSI, &m.IMEI, &m.MSISDN} {
		if flags>>i&1 == 0 {
			continue
		}
		if len(b) < 1 || 1+int(b[0]) > len(b) {
			return
		}
		*d = digitsFromTBCD(b[1 : 1+int(b[0])])
		b = b[1+int(b[0]):]
	}
}

// resolve gives the endpoints of m that do not say which way they go the
// direction of the rule of the same number in rules.
func (m *Message) resolve(rules []Endpoint) {
	for i := range m.Endpoints[:m.NumEndpoints] {
		e := &m.Endpoints[i]
		if e.Direction != DirectionUnknown || e.refKind == refNone {
			continue
		}
		for k := range rules {
			r := &rules[k]
			if r.refKind == e.refKind && r.ref == e.ref && r.Direction != DirectionUnknown {
				e.Direction = r.Direction
				break
			}
		}
	}
}
