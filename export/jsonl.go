package export

import (
	"cmp"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/nametap/nametap/flows"
)

// timeFormat is RFC 3339 with all nine digits, so that lines sort as text.
const timeFormat = "2006-01-02T15:04:05.000000000Z"

// AppendRecord appends the record as one line of JSON, keys in the order of the
// contract. encoding/json would do the same at some six times the cost, and a
// busy tap ends tens of thousands of flows a second.
func AppendRecord(b []byte, r *flows.Record, ids *Addresses) []byte {
	o := object{b: append(b, '{')}
	o.time("start", r.Start)
	o.time("end", r.End)
	o.seconds("duration_s", r.End-r.Start)
	o.text("subscriber", ids.Subscriber(r.Key.Subscriber).String())
	o.number("subscriber_port", uint64(r.Key.SubscriberPort))
	o.text("server", ids.Server(r.Key.Server).String())
	o.number("server_port", uint64(r.Key.ServerPort))
	o.optional("name", r.Name)
	o.optional("dns_name", r.DNSName)
	o.optional("sni", r.SNI)
	o.text("evidence", r.Evidence)
	if r.DNSName != "" {
		o.seconds("dns_age_s", r.Start-r.DNSAnswered)
	} else {
		o.null("dns_age_s")
	}
	o.text("app", r.App)
	o.text("class", r.Class)
	o.boolean("syn_seen", r.SYNSeen)
	o.text("end_reason", r.Reason.String())
	o.both("bytes", r.Bytes)
	o.both("packets", r.Packets)
	o.both("payload_bytes", r.Payload)
	o.number("syn", uint64(r.SYN))
	o.number("syn_ack", uint64(r.SYNACK))
	o.number("fin", uint64(r.FIN))
	o.number("rst", uint64(r.RST))
	o.both("retransmitted", widen(r.Retransmitted))
	o.both("out_of_order", widen(r.OutOfOrder))
	o.sides("rtt_handshake_s", float64(r.RTTHandshake[flows.Up]), float64(r.RTTHandshake[flows.Down]))
	o.microseconds("server_rtt_min_s", float64(r.RTTMin[flows.Up]))
	o.microseconds("server_rtt_mean_s", r.RTTMean[flows.Up])
	o.microseconds("access_rtt_min_s", float64(r.RTTMin[flows.Down]))
	o.microseconds("access_rtt_mean_s", r.RTTMean[flows.Down])
	o.optional("os", cmp.Or(r.OSName, r.OS.String()))
	o.optional("tunnel", r.Tunnel.String())
	o.optional("apn", r.APN)
	o.optional("imsi", r.IMSI)
	o.optional("tac", r.TAC)
	o.boolean("server_is_subscriber", ids.IsSubscriber(r.Key.Server))
	o.both("lost_before_tap", widen(r.LostBefore))
	o.both("unseen_bytes", widen(r.Unseen))
	o.number("server_rtt_samples", uint64(r.RTTSamples[flows.Up]))
	o.number("access_rtt_samples", uint64(r.RTTSamples[flows.Down]))
	return append(o.b, '}', '\n')
}

func widen(v [2]uint32) [2]uint64 { return [2]uint64{uint64(v[0]), uint64(v[1])} }

// object is a JSON object under construction.
type object struct{ b []byte }

func (o *object) key(k string) {
	if o.b[len(o.b)-1] != '{' {
		o.b = append(o.b, ',')
	}
	o.b = append(o.b, '"')
	o.b = append(o.b, k...)
	o.b = append(o.b, '"', ':')
}

func (o *object) null(k string) {
	o.key(k)
	o.b = append(o.b, "null"...)
}

func (o *object) time(k string, ns int64) {
	o.key(k)
	o.b = append(o.b, '"')
	o.b = time.Unix(0, ns).UTC().AppendFormat(o.b, timeFormat)
	o.b = append(o.b, '"')
}

func (o *object) seconds(k string, ns int64) {
	o.key(k)
	o.b = strconv.AppendFloat(o.b, float64(ns)/1e9, 'f', -1, 64)
}

func (o *object) microseconds(k string, us float64) {
	if us < 0 {
		o.null(k)
		return
	}
	o.key(k)
	o.b = strconv.AppendFloat(o.b, us/1e6, 'f', -1, 64)
}

func (o *object) sides(k string, server, access float64) {
	o.microseconds("server_"+k, server)
	o.microseconds("access_"+k, access)
}

func (o *object) number(k string, n uint64) {
	o.key(k)
	o.b = strconv.AppendUint(o.b, n, 10)
}

func (o *object) both(k string, n [2]uint64) {
	o.number("uplink_"+k, n[flows.Up])
	o.number("downlink_"+k, n[flows.Down])
}

func (o *object) boolean(k string, v bool) {
	o.key(k)
	o.b = strconv.AppendBool(o.b, v)
}

func (o *object) optional(k, v string) {
	if v == "" {
		o.null(k)
		return
	}
	o.text(k, v)
}

// text appends a JSON string (RFC 8259 section 7). Names and labels are ASCII;
// anything else is escaped or replaced.
func (o *object) text(k, v string) {
	o.key(k)
	o.b = append(o.b, '"')
	for _, c := range v {
		switch {
		case c == '"' || c == '\\':
			o.b = append(o.b, '\\', byte(c))
		case c < 0x20:
			const digits = "0123456789abcdef"
			o.b = append(o.b, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		default:
			o.b = utf8.AppendRune(o.b, c)
		}
	}
	o.b = append(o.b, '"')
}
