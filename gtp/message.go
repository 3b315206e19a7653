package gtp

// Version is the protocol of a control message.
type Version uint8

// Protocols.
const (
	V1   Version = iota // GTPv1-C, TS 29.060
	V2                  // GTPv2-C, TS 29.274
	PFCP                // TS 29.244
)

// Well-known ports (TS 29.060 section 10.1.1, TS 29.274 section 4.2, TS 29.244
// section 6.6.1).
const (
	PortGTPC = 2123
	PortPFCP = 8805
)

// Verdict is what the parser thinks of a message.
type Verdict uint8

// Verdicts. Up to UnknownIE the fields that were read are valid.
const (
	OK        Verdict = iota
	Cut               // less was captured than the message says; valid as far as it goes
	UnknownIE         // GTPv1 element of unknown fixed length; valid up to there
	TooShort          // no room for the header
	NotGTPC           // GTP' or GTPv0
	BadVersion
	BadHeader // extension header or length that cannot be
	BadIE     // an element runs over the end of its message
	NumVerdicts
)

// Usable reports whether the message's fields may be used.
func (v Verdict) Usable() bool { return v <= UnknownIE }

func (v Verdict) String() string {
	return [...]string{
		"ok", "cut", "unknown_ie", "too_short", "not_gtp_c", "bad_version", "bad_header", "bad_ie",
	}[v]
}

// Direction of the packets that are sent to a tunnel endpoint.
type Direction uint8

// Directions.
const (
	DirectionUnknown Direction = iota
	Uplink                     // the endpoint is on the core side
	Downlink                   // the endpoint is on the access side
)

// slot is the place that an endpoint takes in its session: within a bearer, a
// new endpoint of a slot replaces the old one.
type slot uint8

const (
	slotIgnored   slot = iota
	slotRAN            // eNodeB, RNC, SGSN, ePDG: where the downlink leaves the core
	slotSGWAccess      // SGW towards the RAN
	slotSGWCore        // SGW towards the PGW
	slotPGW            // PGW, GGSN
	slotForward        // data forwarding during handover
	slotNear           // PFCP: an F-TEID of the UP function itself (PDI)
	slotFar            // PFCP: where the UP function sends to (FAR)
	slotSender         // GTPv1: the side of whoever sent the message
	slotFirstControl
	// Control plane.
	slotCtlAccess // MME, SGSN, ePDG
	slotCtlSGWAccess
	slotCtlSGWCore
	slotCtlPGW
	slotCtlSender // GTPv1, as slotSender
	slotSEIDCP
	slotSEIDUP
	slotUnknownControl slot = 0x40 // | interface type
	slotUnknownUser    slot = 0x80 // | interface type
)

func (s slot) control() bool {
	return s > slotFirstControl && s < slotUnknownUser
}

// owned reports whether GTP-C named the endpoint as a gateway's own.
func (s slot) owned() bool {
	return s == slotSGWAccess || s == slotSGWCore || s == slotPGW
}

// refKind says what Endpoint.ref counts.
type refKind uint8

const (
	refNone refKind = iota
	refPDR
	refFAR
	refTrafficEndpoint
)

// Endpoint is one tunnel endpoint of a message: an F-TEID (TS 29.274 section
// 8.22, TS 29.244 section 8.2.3), in GTPv1 a TEID with its GSN address, in PFCP
// also an F-SEID or an outer header to create. One that has both an IPv4 and an
// IPv6 address stands here twice.
type Endpoint struct {
	Addr Addr
	ID   uint64 // TEID, or SEID
	ref  uint32

	// Interface is the type by TS 29.274 table 8.22-1, in GTPv2 only.
	Interface uint8
	// Bearer is the EPS bearer identity or NSAPI, 0 where not known.
	Bearer    uint8
	Direction Direction
	context   uint8 // index into Message.Bearers, 0 for the message itself
	slot      slot
	refKind   refKind
	direct    bool // an access node that talks to the PGW without an SGW
}

// Control reports whether the endpoint is of the control plane.
func (e *Endpoint) Control() bool { return e.slot.control() }

// Bearer is what a message says of one bearer (GTPv2 Bearer Context).
type Bearer struct {
	EBI      uint8
	Cause    uint8 // 0 where the message gives none
	Instance uint8
}

const (
	maxEndpoints = 32
	maxBearers   = 16
)

// Message is one control message, as far as sessions need it. It is reused:
// Parse overwrites all of it. It owns its memory.
type Message struct {
	Version Version
	Type    uint8
	Seq     uint32
	// TEID of the header (in PFCP the SEID): chosen by the receiver, 0
	// before it could choose one.
	TEID uint64

	Cause      uint8 // 0 where the message gives none
	IMSI       Digits
	MSISDN     Digits
	IMEI       Digits // or IMEISV
	RAT        uint8  // TS 29.274 section 8.17; 0 where not given
	UEv4       Addr   // zero where not given
	UEv6       Addr   // the prefix with an interface identifier, or ::
	UEv6Prefix uint8  // length in bits

	// EBI is the linked (default) EPS bearer identity or the NSAPI.
	EBI uint8
	// Secondary says that a GTPv1 create is for a secondary PDP context,
	// beside that of LinkedNSAPI.
	Secondary   bool
	LinkedNSAPI uint8
	// EBIs to be deleted, one bit each (Delete Bearer Request).
	EBIs uint16

	Handover bool // GTPv2 Indication HI
	Teardown bool // GTPv1 Teardown Ind
	// localRelease: a delete that ends here and is not for the PGW.
	localRelease bool
	// noOI: an Indication IE without the Operation Indication.
	noOI bool

	// Bearers[1:NumBearers] are the bearer contexts; 0 is the message.
	Bearers    [maxBearers]Bearer
	NumBearers uint8

	Endpoints    [maxEndpoints]Endpoint
	NumEndpoints uint8
	// Dropped endpoints that found no room.
	Dropped uint8

	apn      apnName
	apnIsNI  bool // the APN comes from a PFCP Network Instance
	gsn      [4]Addr
	gsnCount uint8
}

// APN returns the network identifier, lower case with dots. It points into m.
func (m *Message) APN() []byte { return m.apn.bytes() }

// add appends e, once for each of its addresses.
func (m *Message) add(e Endpoint, v4, v6 Addr) {
	if !v4.IsZero() {
		e.Addr = v4
		m.push(e)
	}
	if !v6.IsZero() {
		e.Addr = v6
		m.push(e)
	}
}

func (m *Message) push(e Endpoint) {
	for i := range m.Endpoints[:m.NumEndpoints] {
		if m.Endpoints[i] == e {
			return
		}
	}
	if int(m.NumEndpoints) == maxEndpoints {
		m.Dropped++
		return
	}
	m.Endpoints[m.NumEndpoints] = e
	m.NumEndpoints++
}

// accepted reports whether a response grants the request.
func (m *Message) accepted() bool {
	switch m.Version {
	case V1:
		return m.Cause >= 128 && m.Cause < 192 // TS 29.060 section 7.7.1
	case V2:
		return acceptedV2(m.Cause)
	}
	return m.Cause >= 1 && m.Cause < 64 // TS 29.244 section 8.2.1
}

// acceptedV2 by TS 29.274 table 8.4-1.
func acceptedV2(cause uint8) bool { return cause >= 16 && cause < 64 }

// notFound reports whether a refused delete says that there is nothing left
// to delete, which is as good as done.
func (m *Message) notFound() bool {
	switch m.Version {
	case V1:
		return m.Cause == 192 || m.Cause == 210
	case V2:
		return m.Cause == 64
	}
	return m.Cause == 65
}

// Parse reads the first message of a datagram's payload b; pfcp says which of
// the two families the port means. rest is the next message of the same
// datagram (GTPv2 piggybacking, PFCP follow-on), nil where there is none.
//
// Parse reads no further than len(b) whatever the lengths inside say, and
// allocates nothing.
func (m *Message) Parse(b []byte, pfcp bool) (rest []byte, v Verdict) {
	*m = Message{NumBearers: 1}
	if len(b) < 4 {
		return nil, TooShort
	}
	if pfcp {
		return m.parsePFCP(b)
	}
	switch b[0] >> 5 {
	case 1:
		return nil, m.parseV1(b)
	case 2:
		return m.parseV2(b)
	case 0:
		return nil, NotGTPC
	}
	return nil, BadVersion
}

// body cuts b to the message's length. v is Cut where less was captured.
func body(b []byte, header, length int) (_ []byte, v Verdict) {
	if n := header + length; n <= len(b) {
		return b[:n], OK
	}
	return b, Cut
}
