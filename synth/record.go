package synth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"time"
)

// Text is a string whose empty value is null in JSON.
type Text string

// MarshalJSON writes null for the empty text.
func (t Text) MarshalJSON() ([]byte, error) {
	if t == "" {
		return []byte("null"), nil
	}
	return json.Marshal(string(t))
}

// Seconds is a time span or an instant difference in seconds; NaN is null in
// JSON and stands for "no sample".
type Seconds float64

// MarshalJSON writes null for NaN.
func (s Seconds) MarshalJSON() ([]byte, error) { return appendSeconds(nil, s), nil }

// UnmarshalJSON reads null as NaN.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) {
		*s = Seconds(math.NaN())
		return nil
	}
	v, err := strconv.ParseFloat(string(b), 64)
	*s = Seconds(v)
	return err
}

// Known reports whether there is a value.
func (s Seconds) Known() bool { return !math.IsNaN(float64(s)) }

func seconds(ns int64) Seconds { return Seconds(float64(ns) / 1e9) }

// FlowTruth is the truth about one flow: the flow record's keys, and beyond
// them truth_* keys for what a tap cannot know. Counting rules are in the
// package's comment. A Seconds or Text without a value is null in JSON.
type FlowTruth struct {
	Start          time.Time  `json:"start"`
	End            time.Time  `json:"end"`
	Duration       Seconds    `json:"duration_s"`
	Subscriber     netip.Addr `json:"subscriber"`
	SubscriberPort uint16     `json:"subscriber_port"`
	Server         netip.Addr `json:"server"`
	ServerPort     uint16     `json:"server_port"`
	Name           Text       `json:"name"`
	DNSName        Text       `json:"dns_name"`
	SNI            Text       `json:"sni"`
	Evidence       string     `json:"evidence"`
	DNSAge         Seconds    `json:"dns_age_s"`
	App            string     `json:"app"`
	Class          string     `json:"class"`
	SYNSeen        bool       `json:"syn_seen"`
	EndReason      string     `json:"end_reason"`

	UplinkBytes           uint64 `json:"uplink_bytes"`
	DownlinkBytes         uint64 `json:"downlink_bytes"`
	UplinkPackets         uint64 `json:"uplink_packets"`
	DownlinkPackets       uint64 `json:"downlink_packets"`
	UplinkPayloadBytes    uint64 `json:"uplink_payload_bytes"`
	DownlinkPayloadBytes  uint64 `json:"downlink_payload_bytes"`
	SYN                   uint64 `json:"syn"`
	SYNACK                uint64 `json:"syn_ack"`
	FIN                   uint64 `json:"fin"`
	RST                   uint64 `json:"rst"`
	UplinkRetransmitted   uint64 `json:"uplink_retransmitted"`
	DownlinkRetransmitted uint64 `json:"downlink_retransmitted"`
	UplinkOutOfOrder      uint64 `json:"uplink_out_of_order"`
	DownlinkOutOfOrder    uint64 `json:"downlink_out_of_order"`

	ServerRTTHandshake Seconds `json:"server_rtt_handshake_s"`
	AccessRTTHandshake Seconds `json:"access_rtt_handshake_s"`
	ServerRTTMin       Seconds `json:"server_rtt_min_s"`
	ServerRTTMean      Seconds `json:"server_rtt_mean_s"`
	AccessRTTMin       Seconds `json:"access_rtt_min_s"`
	AccessRTTMean      Seconds `json:"access_rtt_mean_s"`

	OS     Text `json:"os"`
	Tunnel Text `json:"tunnel"`
	APN    Text `json:"apn"`
	IMSI   Text `json:"imsi"` // null: a keyed hash that only the analyser has; see TrueIMSI
	TAC    Text `json:"tac"`

	TrueName  Text   `json:"truth_name"` // what the subscriber connected to
	TrueApp   string `json:"truth_app"`
	TrueClass string `json:"truth_class"`
	// TrueAnswerSeen says that an answer to this subscriber with this name
	// and this server had passed the tap before the flow began, and that no
	// newer answer names the server otherwise.
	TrueAnswerSeen bool `json:"truth_answer_seen"`
	// TrueHintAge is how long before the flow another subscriber's answer
	// named the server last; null without one, or where answers differ in
	// class.
	TrueHintAge Seconds `json:"truth_hint_age_s"`
	TrueECH     bool    `json:"truth_ech"`
	TrueFailing bool    `json:"truth_failing"` // the server failed above TCP: outage
	Site        Text    `json:"truth_site"`
	IMSIClear   Text    `json:"truth_imsi"`
	IMEIClear   Text    `json:"truth_imeisv"`
	// ServerRTTPath is the round-trip time to the server without jitter.
	ServerRTTPath Seconds `json:"truth_server_rtt_path_s"`
	AccessRTTPath Seconds `json:"truth_access_rtt_path_s"` // without queue and jitter
	// Segments with payload or FIN, lost before or after the tap.
	UplinkLostBefore   uint64 `json:"truth_uplink_lost_before"`
	UplinkLostAfter    uint64 `json:"truth_uplink_lost_after"`
	DownlinkLostBefore uint64 `json:"truth_downlink_lost_before"`
	DownlinkLostAfter  uint64 `json:"truth_downlink_lost_after"`
	// Packets that passed the tap uncaptured (tap.loss), as long as the tap
	// knew the flow.
	UplinkUncaptured   uint64 `json:"truth_uplink_uncaptured"`
	DownlinkUncaptured uint64 `json:"truth_downlink_uncaptured"`
	// Copies that the mirror port added (tap.duplicates), counted nowhere else.
	UplinkDuplicates       uint64 `json:"truth_uplink_duplicate_packets"`
	UplinkDuplicateBytes   uint64 `json:"truth_uplink_duplicate_bytes"`
	DownlinkDuplicates     uint64 `json:"truth_downlink_duplicate_packets"`
	DownlinkDuplicateBytes uint64 `json:"truth_downlink_duplicate_bytes"`
	// Of the packets and bytes above, those that came after the close.
	UplinkLatePackets   uint64 `json:"truth_uplink_late_packets"`
	UplinkLateBytes     uint64 `json:"truth_uplink_late_bytes"`
	DownlinkLatePackets uint64 `json:"truth_downlink_late_packets"`
	DownlinkLateBytes   uint64 `json:"truth_downlink_late_bytes"`
	SYNRepeated         uint64 `json:"truth_uplink_syn_repeated"`
	SYNACKRepeated      uint64 `json:"truth_downlink_syn_repeated"`
	// HandshakeClean says that SYN, SYN/ACK and ACK were sent once and seen
	// once, each the answer to the one before: only then are the handshake's
	// times round-trip times beyond doubt.
	HandshakeClean   bool   `json:"truth_handshake_clean"`
	Closed           Text   `json:"truth_closed"` // when; null: not by FIN or RST
	RTTSamplesServer uint64 `json:"truth_server_rtt_samples"`
	RTTSamplesAccess uint64 `json:"truth_access_rtt_samples"`
}

const stampFormat = "2006-01-02T15:04:05.000000000Z"

func appendSeconds(b []byte, s Seconds) []byte {
	if !s.Known() {
		return append(b, "null"...)
	}
	return strconv.AppendFloat(b, float64(s), 'f', 9, 64)
}

// line builds a JSON object.
type line struct{ b []byte }

func (l *line) key(k string) {
	if len(l.b) > 1 {
		l.b = append(l.b, ',')
	}
	l.b = append(l.b, '"')
	l.b = append(l.b, k...)
	l.b = append(l.b, '"', ':')
}

func (l *line) text(k string, v Text) {
	l.key(k)
	if v == "" {
		l.b = append(l.b, "null"...)
		return
	}
	// Names, times and a scenario's words: its checks let nothing through
	// that JSON would escape.
	l.b = strconv.AppendQuote(l.b, string(v))
}

func (l *line) number(k string, v uint64) {
	l.key(k)
	l.b = strconv.AppendUint(l.b, v, 10)
}

func (l *line) flag(k string, v bool) {
	l.key(k)
	l.b = strconv.AppendBool(l.b, v)
}

func (l *line) seconds(k string, v Seconds) {
	l.key(k)
	l.b = appendSeconds(l.b, v)
}

func (l *line) stamp(k string, t time.Time) {
	l.key(k)
	l.b = append(l.b, '"')
	l.b = t.UTC().AppendFormat(l.b, stampFormat)
	l.b = append(l.b, '"')
}

func (l *line) address(k string, a netip.Addr) {
	l.key(k)
	l.b = append(l.b, '"')
	l.b = a.AppendTo(l.b)
	l.b = append(l.b, '"')
}

// AppendJSON appends t as one line of JSON without a line feed: the record's
// keys in the record's order, then the truth_* ones.
func (t *FlowTruth) AppendJSON(b []byte) []byte {
	l := line{append(b, '{')}
	at := len(b)
	l.b = l.b[at:]
	l.stamp("start", t.Start)
	l.stamp("end", t.End)
	l.seconds("duration_s", t.Duration)
	l.address("subscriber", t.Subscriber)
	l.number("subscriber_port", uint64(t.SubscriberPort))
	l.address("server", t.Server)
	l.number("server_port", uint64(t.ServerPort))
	l.text("name", t.Name)
	l.text("dns_name", t.DNSName)
	l.text("sni", t.SNI)
	l.text("evidence", Text(t.Evidence))
	l.seconds("dns_age_s", t.DNSAge)
	l.text("app", Text(t.App))
	l.text("class", Text(t.Class))
	l.flag("syn_seen", t.SYNSeen)
	l.text("end_reason", Text(t.EndReason))
	l.number("uplink_bytes", t.UplinkBytes)
	l.number("downlink_bytes", t.DownlinkBytes)
	l.number("uplink_packets", t.UplinkPackets)
	l.number("downlink_packets", t.DownlinkPackets)
	l.number("uplink_payload_bytes", t.UplinkPayloadBytes)
	l.number("downlink_payload_bytes", t.DownlinkPayloadBytes)
	l.number("syn", t.SYN)
	l.number("syn_ack", t.SYNACK)
	l.number("fin", t.FIN)
	l.number("rst", t.RST)
	l.number("uplink_retransmitted", t.UplinkRetransmitted)
	l.number("downlink_retransmitted", t.DownlinkRetransmitted)
	l.number("uplink_out_of_order", t.UplinkOutOfOrder)
	l.number("downlink_out_of_order", t.DownlinkOutOfOrder)
	l.seconds("server_rtt_handshake_s", t.ServerRTTHandshake)
	l.seconds("access_rtt_handshake_s", t.AccessRTTHandshake)
	l.seconds("server_rtt_min_s", t.ServerRTTMin)
	l.seconds("server_rtt_mean_s", t.ServerRTTMean)
	l.seconds("access_rtt_min_s", t.AccessRTTMin)
	l.seconds("access_rtt_mean_s", t.AccessRTTMean)
	l.text("os", t.OS)
	l.text("tunnel", t.Tunnel)
	l.text("apn", t.APN)
	l.text("imsi", t.IMSI)
	l.text("tac", t.TAC)
	l.text("truth_name", t.TrueName)
	l.text("truth_app", Text(t.TrueApp))
	l.text("truth_class", Text(t.TrueClass))
	l.flag("truth_answer_seen", t.TrueAnswerSeen)
	l.seconds("truth_hint_age_s", t.TrueHintAge)
	l.flag("truth_ech", t.TrueECH)
	l.flag("truth_failing", t.TrueFailing)
	l.text("truth_site", t.Site)
	l.text("truth_imsi", t.IMSIClear)
	l.text("truth_imeisv", t.IMEIClear)
	l.seconds("truth_server_rtt_path_s", t.ServerRTTPath)
	l.seconds("truth_access_rtt_path_s", t.AccessRTTPath)
	l.number("truth_uplink_lost_before", t.UplinkLostBefore)
	l.number("truth_uplink_lost_after", t.UplinkLostAfter)
	l.number("truth_downlink_lost_before", t.DownlinkLostBefore)
	l.number("truth_downlink_lost_after", t.DownlinkLostAfter)
	l.number("truth_uplink_uncaptured", t.UplinkUncaptured)
	l.number("truth_downlink_uncaptured", t.DownlinkUncaptured)
	l.number("truth_uplink_duplicate_packets", t.UplinkDuplicates)
	l.number("truth_uplink_duplicate_bytes", t.UplinkDuplicateBytes)
	l.number("truth_downlink_duplicate_packets", t.DownlinkDuplicates)
	l.number("truth_downlink_duplicate_bytes", t.DownlinkDuplicateBytes)
	l.number("truth_uplink_late_packets", t.UplinkLatePackets)
	l.number("truth_uplink_late_bytes", t.UplinkLateBytes)
	l.number("truth_downlink_late_packets", t.DownlinkLatePackets)
	l.number("truth_downlink_late_bytes", t.DownlinkLateBytes)
	l.number("truth_uplink_syn_repeated", t.SYNRepeated)
	l.number("truth_downlink_syn_repeated", t.SYNACKRepeated)
	l.flag("truth_handshake_clean", t.HandshakeClean)
	l.text("truth_closed", t.Closed)
	l.number("truth_server_rtt_samples", t.RTTSamplesServer)
	l.number("truth_access_rtt_samples", t.RTTSamplesAccess)
	return append(append(b, l.b...), '}')
}

// ParseFlowTruth reads one line of a truth file. Unknown keys are an error:
// truth that is not understood is none.
func ParseFlowTruth(b []byte, t *FlowTruth) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	*t = FlowTruth{}
	if err := d.Decode(t); err != nil {
		return fmt.Errorf("flow truth: %w", err)
	}
	return nil
}

// text returns the text of a name, "" for none.
func (g *Generator) nameText(id uint32) Text {
	if id == noName {
		return ""
	}
	g.text = g.appendName(g.text[:0], id)
	return Text(g.text)
}

// spread returns the least and the mean of samples.
func (d *delays) spread() (least, mean Seconds) {
	if d.count == 0 {
		return Seconds(math.NaN()), Seconds(math.NaN())
	}
	return seconds(d.least), Seconds(float64(d.sum) / float64(d.count) / 1e9)
}

func orNull(ns int64) Seconds {
	if ns < 0 {
		return Seconds(math.NaN())
	}
	return seconds(ns)
}

// describe fills the record with c's flow.
func (g *Generator) describe(c *conn, reason string) {
	f := &c.flow
	s := &g.subs[c.sub]
	sv := &g.services[c.service]
	evidence, class, name := g.verdict(c)
	t := &g.record
	*t = FlowTruth{
		Start: time.Unix(0, f.start).UTC(), End: time.Unix(0, f.last).UTC(), Duration: seconds(f.last - f.start),
		Subscriber: s.address(c.iid), SubscriberPort: c.sport,
		Server: g.serverAddr(s, c.server), ServerPort: c.dport,
		Name: g.nameText(name), DNSName: g.nameText(f.name),
		Evidence: evidence, DNSAge: Seconds(math.NaN()), App: "other", Class: class,
		SYNSeen: f.synSeen, EndReason: reason,
		UplinkBytes: f.bytes[0], DownlinkBytes: f.bytes[1],
		UplinkPackets: f.packets[0], DownlinkPackets: f.packets[1],
		UplinkPayloadBytes: f.payload[0], DownlinkPayloadBytes: f.payload[1],
		SYN: uint64(f.syn), SYNACK: uint64(f.synAck), FIN: uint64(f.fin), RST: uint64(f.rst),
		UplinkRetransmitted: uint64(f.retransmitted[0]), DownlinkRetransmitted: uint64(f.retransmitted[1]),
		UplinkOutOfOrder: uint64(f.outOfOrder[0]), DownlinkOutOfOrder: uint64(f.outOfOrder[1]),
		ServerRTTHandshake: orNull(f.rtt[1].handshake), AccessRTTHandshake: orNull(f.rtt[0].handshake),
		OS:       Text(g.sc.Devices[s.device].OS),
		TrueName: "", TrueApp: sv.App, TrueClass: sv.Class,
		TrueHintAge: Seconds(math.NaN()), TrueECH: c.ech, TrueFailing: c.failing,
		ServerRTTPath: seconds(2 * c.oneWay), AccessRTTPath: seconds(2 * s.delay),
		UplinkLostBefore: uint64(f.lostBefore[0]), UplinkLostAfter: uint64(f.lostAfter[0]),
		DownlinkLostBefore: uint64(f.lostBefore[1]), DownlinkLostAfter: uint64(f.lostAfter[1]),
		UplinkUncaptured: uint64(f.uncaptured[0]), DownlinkUncaptured: uint64(f.uncaptured[1]),
		UplinkDuplicates: f.duplicates[0], UplinkDuplicateBytes: f.duplicateBytes[0],
		DownlinkDuplicates: f.duplicates[1], DownlinkDuplicateBytes: f.duplicateBytes[1],
		UplinkLatePackets: f.latePackets[0], UplinkLateBytes: f.lateBytes[0],
		DownlinkLatePackets: f.latePackets[1], DownlinkLateBytes: f.lateBytes[1],
		SYNRepeated: uint64(f.synRepeated[0]), SYNACKRepeated: uint64(f.synRepeated[1]),
		HandshakeClean:   f.synSeen && f.synAckSeen && !f.muddled && f.rtt[0].handshake >= 0,
		RTTSamplesServer: uint64(f.rtt[1].count), RTTSamplesAccess: uint64(f.rtt[0].count),
	}
	t.ServerRTTMin, t.ServerRTTMean = f.rtt[1].spread()
	t.AccessRTTMin, t.AccessRTTMean = f.rtt[0].spread()
	if name != noName {
		t.App = g.services[name>>nameBits].App
	}
	if f.name != noName {
		t.DNSAge = seconds(f.start - f.nameAt)
		t.TrueAnswerSeen = f.name == c.name && !f.lateName
	}
	if f.sniSeen {
		t.SNI = t.Name
	}
	if f.hint != noName {
		t.TrueHintAge = seconds(f.start - f.hintAt)
	}
	if f.closed {
		t.Closed = Text(time.Unix(0, f.closedAt).UTC().Format(stampFormat))
	}
	if site := int(g.servers[c.server].site); site < len(g.sc.Sites) {
		t.Site = Text(g.sc.Sites[site].ID)
	}
	if c.service < g.internal || g.services[c.service].SNI > 0 {
		t.TrueName = g.nameText(c.name)
	}
	g.describeSession(s)
}

// describeSession adds whose flow it is.
func (g *Generator) describeSession(s *subscriber) {
	t := &g.record
	t.IMSIClear, t.IMEIClear = Text(s.imsi()), Text(g.imeisv(s))
	if !g.layers.gtp {
		return
	}
	t.Tunnel = "gtp"
	if s.identified {
		t.APN, t.TAC = Text(g.apnOf(s)), Text(g.tacOf(s))
	}
}
