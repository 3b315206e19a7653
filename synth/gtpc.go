package synth

import (
	"encoding/binary"
	"strings"
)

// attachTime is how long a session's creation takes at most, and the user
// waits with everything else.
const attachTime = 120e6

// Messages of GTPv1-C (TS 29.060 section 7.1) and GTPv2-C (TS 29.274 section
// 6.1). The model's own number is v1's or, for v2, v2's with v2 added.
const (
	createPDP             = 16
	createPDPResponse     = 17
	updatePDP             = 18
	updatePDPResponse     = 19
	deletePDP             = 20
	deletePDPResponse     = 21
	v2                    = 128
	createSession         = v2 + 32
	createSessionResponse = v2 + 33
	modifyBearer          = v2 + 34
	modifyBearerResponse  = v2 + 35
	deleteSession         = v2 + 36
	deleteSessionResponse = v2 + 37
)

// signal sends a request and its response past the tap soon.
func (g *Generator) signal(id uint32, message uint8) {
	s := &g.subs[id]
	if s.gtp2 {
		message = message - createPDP + createSession
	}
	s.sequence++
	at := g.now + g.rng.between(5e6, 30e6)
	g.queue.push(at, evTap, g.newSignal(id, message, false), 0)
	g.queue.push(at+g.rng.between(4e6, 40e6), evTap, g.newSignal(id, message+1, true), 0)
}

func (g *Generator) newSignal(id uint32, message uint8, down bool) uint32 {
	p := g.newPacket(packetGTPC, id)
	p.message, p.down = message, down
	p.seq = uint32(g.subs[id].sequence)
	return p.id
}

// attach creates the subscriber's session.
func (g *Generator) attach(id uint32) {
	s := &g.subs[id]
	s.attached = true
	s.newTunnel(&g.rng)
	g.signal(id, createPDP)
}

// handover moves the session to another access node, which brings tunnel
// endpoints of its own. User packets follow when the gateway has agreed.
func (g *Generator) handover(id uint32) {
	s := &g.subs[id]
	if s.moving {
		return
	}
	s.moving = true
	s.nextNode = s.node
	if n := g.sc.Encapsulation.Nodes; n > 1 {
		s.nextNode = uint8((int(s.node) + 1 + g.rng.below(n-1)) % n)
	}
	s.nextTEID = uint32(g.rng.next()) | 1
	s.nextControl = uint32(g.rng.next()) | 1
	g.signal(id, updatePDP)
}

// move is the end of a handover.
func (s *subscriber) move() {
	s.node, s.teidDown, s.controlDn, s.moving = s.nextNode, s.nextTEID, s.nextControl, false
}

// detachIdle deletes the session of a subscriber that has been idle.
func (g *Generator) detachIdle(id uint32) {
	s := &g.subs[id]
	idle := g.now-s.lastAct >= int64(g.sc.Encapsulation.DetachAfter)
	if !idle || !s.attached || s.conns > 0 || s.chat == chatPending || s.laddering {
		return
	}
	s.attached = false
	g.signal(id, deletePDP)
}

// sessionEvent is a message that has passed the tap.
func (g *Generator) sessionEvent(p *packet) {
	switch s := &g.subs[p.ref]; p.message {
	case createPDPResponse, createSessionResponse:
		s.identified = true
	case updatePDPResponse, modifyBearerResponse:
		s.move()
	case deletePDPResponse, deleteSessionResponse:
		s.identified = false
	}
}

// buildGTPC makes the frame of a message of the control plane.
func (g *Generator) buildGTPC(p *packet) {
	s := &g.subs[p.ref]
	switch p.message {
	case updatePDP, updatePDPResponse, modifyBearer, modifyBearerResponse:
		g.moved = *s
		s = &g.moved
		s.move()
	}
	g.outerHeader(&g.header, s.node, p.down)
	b := g.message[:0]
	if p.message >= v2 {
		b = g.appendV2(b, s, p)
	} else {
		b = g.appendV1(b, s, p)
	}
	g.message = b
	n := putUDP(g.frame[headroom:], &g.header, portGTPC, portGTPC, b)
	g.out = g.link(g.frame, headroom, n, p.down)
}

// nodeAddress appends the sender's address, which the header has.
func (g *Generator) nodeAddress(b []byte) []byte {
	n := 4
	if g.layers.outer6 {
		n = 16
	}
	return append(b, g.header.src[:n]...)
}

// tbcd appends digits two a byte, the first in the low half (TS 29.002).
func tbcd(b []byte, digits string) []byte {
	for i := 0; i < len(digits); i += 2 {
		v := digits[i] - '0'
		if i+1 < len(digits) {
			v |= (digits[i+1] - '0') << 4
		} else {
			v |= 0xf0
		}
		b = append(b, v)
	}
	return b
}

// apnLabels is an access point name in wire form (TS 23.003 section 9.1): DNS
// labels without the root.
func apnLabels(b []byte, apn string) []byte {
	for label := range strings.SplitSeq(apn, ".") {
		b = append(b, byte(len(label)))
		b = append(b, label...)
	}
	return b
}

// tlv appends an information element of GTPv1-C with its length.
func tlv(b []byte, kind byte, value ...byte) []byte {
	b = append(b, kind, byte(len(value)>>8), byte(len(value)))
	return append(b, value...)
}

// endUser is the subscriber's address as both versions need it.
func (s *subscriber) endUser() []byte {
	a := s.address(s.stableIID())
	return a.AsSlice()
}

// appendV1 appends a message of TS 29.060, elements in the order of their
// types (section 7.7).
func (g *Generator) appendV1(b []byte, s *subscriber, p *packet) []byte {
	teid := s.controlUp
	if p.down {
		teid = s.controlDn
	}
	if p.message == createPDP {
		teid = 0
	}
	b = append(b, 0x32, p.message, 0, 0)
	b = binary.BigEndian.AppendUint32(b, teid)
	b = append(binary.BigEndian.AppendUint16(b, uint16(p.seq)), 0, 0)
	me := g.nodeAddress(nil)
	qos := []byte{2, 0x23, 0x92, 0x1f, 0x93, 0x96, 0x40, 0x40, 0x74, 0x81, 0xff, 0xff}
	switch p.message {
	case createPDP:
		b = tbcd(append(b, 2), s.imsi())
		b = append(b, 14, 1, 15, 0xfc)
		b = binary.BigEndian.AppendUint32(append(b, 16), s.teidDown)
		b = binary.BigEndian.AppendUint32(append(b, 17), s.controlDn)
		b = append(b, 20, 5)
		b = append(b, endUserAddress(s, false)...)
		b = tlv(b, 131, apnLabels(nil, g.apnOf(s))...)
		b = tlv(b, 133, me...)
		b = tlv(b, 133, me...)
		b = tlv(b, 134, tbcd([]byte{0x91}, s.msisdn())...)
		b = tlv(b, 135, qos...)
		b = tlv(b, 151, 1)
		b = tlv(b, 154, tbcd(nil, g.imeisv(s))...)
	case createPDPResponse:
		b = append(b, 1, 128, 8, 0xfe, 14, 1)
		b = binary.BigEndian.AppendUint32(append(b, 16), s.teidUp)
		b = binary.BigEndian.AppendUint32(append(b, 17), s.controlUp)
		b = binary.BigEndian.AppendUint32(append(b, 127), uint32(s.number))
		b = append(b, endUserAddress(s, true)...)
		b = tlv(b, 133, me...)
		b = tlv(b, 133, me...)
		b = tlv(b, 135, qos...)
	case updatePDP:
		b = binary.BigEndian.AppendUint32(append(b, 16), s.teidDown)
		b = binary.BigEndian.AppendUint32(append(b, 17), s.controlDn)
		b = append(b, 20, 5)
		b = tlv(b, 133, me...)
		b = tlv(b, 133, me...)
		b = tlv(b, 135, qos...)
	case updatePDPResponse:
		b = append(b, 1, 128)
		b = binary.BigEndian.AppendUint32(append(b, 16), s.teidUp)
		b = binary.BigEndian.AppendUint32(append(b, 17), s.controlUp)
		b = tlv(b, 133, me...)
		b = tlv(b, 133, me...)
		b = tlv(b, 135, qos...)
	case deletePDP:
		b = append(b, 19, 0xff, 20, 5)
	case deletePDPResponse:
		b = append(b, 1, 128)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)-8))
	return b
}

// endUserAddress is the element of TS 29.060 section 7.7.27: IETF, IPv4 or
// IPv6, in a request without an address.
func endUserAddress(s *subscriber, assigned bool) []byte {
	number := byte(0x21)
	if s.v6 {
		number = 0x57
	}
	value := []byte{0xf1, number}
	if assigned {
		value = append(value, s.endUser()...)
	}
	return tlv(nil, 128, value...)
}

// element appends an information element of GTPv2-C (TS 29.274 section 8.2.1).
func element(b []byte, kind, instance byte, value ...byte) []byte {
	b = append(b, kind, byte(len(value)>>8), byte(len(value)), instance)
	return append(b, value...)
}

// fteid is a fully qualified tunnel endpoint (section 8.22) of this end.
func (g *Generator) fteid(iface byte, teid uint32) []byte {
	family := byte(0x80)
	if g.layers.outer6 {
		family = 0x40
	}
	b := binary.BigEndian.AppendUint32([]byte{family | iface}, teid)
	return g.nodeAddress(b)
}

// Interface types of an F-TEID.
const (
	ifaceSGWUser    = 4
	ifacePGWUser    = 5
	ifaceSGWControl = 6
	ifacePGWControl = 7
)

// paa is the address allocated to the subscriber (section 8.14).
func paa(s *subscriber, assigned bool) []byte {
	user := s.endUser()
	if !assigned {
		clear(user)
	}
	if !s.v6 {
		return append([]byte{1}, user...)
	}
	clear(user[8:]) // the handset chooses below the prefix
	return append([]byte{2, 64}, user...)
}

// appendV2 appends a message of TS 29.274 on S5/S8.
func (g *Generator) appendV2(b []byte, s *subscriber, p *packet) []byte {
	teid := s.controlUp
	if p.down {
		teid = s.controlDn
	}
	if p.message == createSession {
		teid = 0
	}
	b = append(b, 0x48, p.message-v2, 0, 0)
	b = binary.BigEndian.AppendUint32(b, teid)
	b = append(b, 0, byte(p.seq>>8), byte(p.seq), 0)
	pdn := byte(1)
	if s.v6 {
		pdn = 2
	}
	const ebi = 5
	bearer := element(nil, 73, 0, ebi)
	accepted := []byte{16, 0}
	switch p.message {
	case createSession:
		b = element(b, 1, 0, tbcd(nil, s.imsi())...)
		b = element(b, 76, 0, tbcd(nil, s.msisdn())...)
		b = element(b, 75, 0, tbcd(nil, g.imeisv(s))...)
		b = element(b, 83, 0, 0x00, 0xf1, 0x10) // MCC 001, MNC 01
		b = element(b, 82, 0, 6)                // E-UTRAN
		b = element(b, 87, 0, g.fteid(ifaceSGWControl, s.controlDn)...)
		b = element(b, 71, 0, apnLabels(nil, g.apnOf(s))...)
		b = element(b, 128, 0, 0)
		b = element(b, 99, 0, pdn)
		b = element(b, 79, 0, paa(s, false)...)
		b = element(b, 72, 0, 0, 0, 0x27, 0x10, 0, 0, 0xc3, 0x50)
		bearer = element(bearer, 87, 2, g.fteid(ifaceSGWUser, s.teidDown)...)
		bearer = element(bearer, 80, 0, append([]byte{0x44, 9}, make([]byte, 20)...)...)
		b = element(b, 93, 0, bearer...)
	case createSessionResponse:
		b = element(b, 2, 0, accepted...)
		b = element(b, 87, 1, g.fteid(ifacePGWControl, s.controlUp)...)
		b = element(b, 79, 0, paa(s, true)...)
		bearer = element(bearer, 2, 0, accepted...)
		bearer = element(bearer, 87, 2, g.fteid(ifacePGWUser, s.teidUp)...)
		b = element(b, 93, 0, bearer...)
	case modifyBearer:
		b = element(b, 87, 0, g.fteid(ifaceSGWControl, s.controlDn)...)
		bearer = element(bearer, 87, 1, g.fteid(ifaceSGWUser, s.teidDown)...)
		b = element(b, 93, 0, bearer...)
	case modifyBearerResponse:
		b = element(b, 2, 0, accepted...)
		bearer = element(bearer, 2, 0, accepted...)
		b = element(b, 93, 0, bearer...)
	case deleteSession:
		b = element(b, 73, 0, ebi)
	case deleteSessionResponse:
		b = element(b, 2, 0, accepted...)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)-4))
	return b
}
