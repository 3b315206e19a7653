package metrics

import (
	"slices"
	"strconv"
	"strings"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/detect"
	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/gtp"
	"github.com/nametap/nametap/probe"
	"github.com/nametap/nametap/watch"
)

// kind of a metric.
type kind uint8

const (
	counter kind = iota
	gauge
	histogramKind
)

var kindNames = [...]string{counter: "counter", gauge: "gauge", histogramKind: "histogram"}

func (k kind) String() string { return kindNames[k] }

// family is one metric: its description, and how its series come out of a
// snapshot. All of them are sent at every scrape, whatever their values.
type family struct {
	name   string // without the namespace
	kind   kind
	labels []string
	help   string
	bounds *bounds // of a histogram's classic buckets
	emit   func(*emitter, *probe.Snapshot)
}

// section is a chapter of docs/metrics.md.
type section struct {
	title    string
	families []family
}

var (
	classLabels     = []string{"app", "class"}
	interfaceLabels = []string{"interface"}
)

// total returns a counter of the whole engine.
func total(name, help string, get func(*probe.Snapshot) uint64) family {
	return family{name: name, kind: counter, help: help, emit: func(e *emitter, s *probe.Snapshot) {
		e.value(float64(get(s)))
	}}
}

// level returns a gauge of the whole engine.
func level(name, help string, get func(*probe.Snapshot) float64) family {
	return family{name: name, kind: gauge, help: help, emit: func(e *emitter, s *probe.Snapshot) {
		e.value(get(s))
	}}
}

// measured returns a gauge of what a reason of the tap's health is told by.
func measured(name string, r watch.Reason, help string) family {
	return family{name: name, kind: gauge, help: help, emit: func(e *emitter, _ *probe.Snapshot) {
		e.value(e.status.Measured[r])
	}}
}

// classTotal returns a counter by class.
func classTotal(name, help string, get func(*flows.Counters) uint64) family {
	return family{name: name, kind: counter, labels: classLabels, help: help, emit: func(e *emitter, s *probe.Snapshot) {
		for i := range s.Classes {
			c := &s.Classes[i]
			e.value(float64(get(&c.Counters)), c.App, c.Class)
		}
	}}
}

// ofClass returns a counter or gauge by class.
func ofClass(name string, k kind, help string, get func(*probe.ClassSnapshot) int) family {
	return family{name: name, kind: k, labels: classLabels, help: help, emit: func(e *emitter, s *probe.Snapshot) {
		for i := range s.Classes {
			c := &s.Classes[i]
			e.value(float64(get(c)), c.App, c.Class)
		}
	}}
}

// ofNetworks returns a counter or gauge by class and length of prefix.
func ofNetworks(name string, k kind, help string, get func(*probe.ClassSnapshot) *probe.NetworkCounts) family {
	return family{name: name, kind: k, labels: with("prefix_length"), help: help, emit: func(e *emitter, s *probe.Snapshot) {
		for i := range s.Classes {
			c := &s.Classes[i]
			for l, n := range get(c) {
				e.value(float64(n), c.App, c.Class, strconv.Itoa(probe.PrefixLengths[l]))
			}
		}
	}}
}

// classHistogram returns a histogram by class.
func classHistogram(name string, b *bounds, help string, get func(*flows.Counters) *flows.Histogram) family {
	return family{name: name, kind: histogramKind, labels: classLabels, help: help, bounds: b, emit: func(e *emitter, s *probe.Snapshot) {
		for i := range s.Classes {
			c := &s.Classes[i]
			e.histogram(get(&c.Counters), c.App, c.Class)
		}
	}}
}

// interfaceTotal returns a counter by interface.
func interfaceTotal(name, help string, get func(*capture.InterfaceStats) uint64) family {
	return family{name: name, kind: counter, labels: interfaceLabels, help: help, emit: func(e *emitter, _ *probe.Snapshot) {
		for i := range e.interfaces {
			e.value(float64(get(&e.interfaces[i])), e.interfaces[i].Name)
		}
	}}
}

// apnTotal returns a counter by access point name, of a closed list.
func apnTotal(name, help string, get func(*probe.APNCounters) uint64) family {
	return family{name: name, kind: counter, labels: []string{"apn"}, help: help, emit: func(e *emitter, s *probe.Snapshot) {
		for i := range s.GTP.APNs {
			e.value(float64(get(&s.GTP.APNs[i].APNCounters)), s.GTP.APNs[i].Name)
		}
	}}
}

// with returns the class labels and one more.
func with(label string) []string { return []string{"app", "class", label} }

// sections are all metrics there are. The outside relies on names, labels and
// meanings.
var sections = []section{
	{"Traffic", []family{
		classTotal("uplink_bytes_total", "IP bytes of TCP flows from subscribers to servers: the innermost packets' total length.",
			func(c *flows.Counters) uint64 { return c.Bytes[flows.Up] }),
		classTotal("downlink_bytes_total", "IP bytes of TCP flows from servers to subscribers: the innermost packets' total length.",
			func(c *flows.Counters) uint64 { return c.Bytes[flows.Down] }),
		classTotal("uplink_packets_total", "IP packets of TCP flows from subscribers to servers.",
			func(c *flows.Counters) uint64 { return c.Packets[flows.Up] }),
		classTotal("downlink_packets_total", "IP packets of TCP flows from servers to subscribers.",
			func(c *flows.Counters) uint64 { return c.Packets[flows.Down] }),
		classTotal("uplink_payload_bytes_total", "TCP payload bytes from subscribers to servers, repeats included.",
			func(c *flows.Counters) uint64 { return c.Payload[flows.Up] }),
		classTotal("downlink_payload_bytes_total", "TCP payload bytes from servers to subscribers, repeats included.",
			func(c *flows.Counters) uint64 { return c.Payload[flows.Down] }),
	}},
	{"Flows", []family{
		classTotal("flows_opened_total", "Flows whose name is settled: TCP connections seen from their start or picked up in mid-stream.",
			func(c *flows.Counters) uint64 { return c.Opened }),
		classTotal("flows_midstream_total", "Flows of which no SYN was seen.",
			func(c *flows.Counters) uint64 { return c.Midstream }),
		{
			name: "flows_closed_total", kind: counter, labels: with("reason"),
			help: "Flows that ended, by the reason why.",
			emit: func(e *emitter, s *probe.Snapshot) {
				for i := range s.Classes {
					c := &s.Classes[i]
					for r := flows.NotEnded + 1; r < flows.EndReasons; r++ {
						e.value(float64(c.Closed[r]), c.App, c.Class, r.String())
					}
				}
			},
		},
		classTotal("flows_carried_total", "Flows that have had payload in both directions: their connection was of use.",
			func(c *flows.Counters) uint64 { return c.Carried }),
		classTotal("flows_one_sided_total", "Connection attempts that went on after their SYN with nothing seen of the other end: one direction is not mirrored.",
			func(c *flows.Counters) uint64 { return c.OneSided }),
		classTotal("flows_one_way_total", "Flows that ended with packets of one direction only.",
			func(c *flows.Counters) uint64 { return c.OneWay }),
		ofClass("flows_active", gauge, "Flows open now whose name is settled.",
			func(c *probe.ClassSnapshot) int { return int(c.Active) }),
		ofClass("subscribers_active", gauge, "Subscribers with a packet in the last 5 minutes of packet time.",
			func(c *probe.ClassSnapshot) int { return c.ActiveSubscribers }),
		ofClass("servers_active", gauge, "Server addresses with a packet in the last 5 minutes of packet time.",
			func(c *probe.ClassSnapshot) int { return c.ActiveServers }),
		ofNetworks("server_networks_active", gauge, "IPv4 networks of so long a prefix that servers with a packet in the last 5 minutes of packet time are in.",
			func(c *probe.ClassSnapshot) *probe.NetworkCounts { return &c.ActiveNetworks }),
		ofClass("subscribers_seen_total", counter, "Distinct subscribers since the start. One that was forgotten for want of room counts again.",
			func(c *probe.ClassSnapshot) int { return c.Subscribers }),
		ofClass("servers_seen_total", counter, "Distinct server addresses since the start. One that was forgotten for want of room counts again.",
			func(c *probe.ClassSnapshot) int { return c.Servers }),
		ofNetworks("server_networks_seen_total", counter, "Distinct IPv4 networks of so long a prefix that servers have been in since the start. One that was forgotten for want of room counts again.",
			func(c *probe.ClassSnapshot) *probe.NetworkCounts { return &c.Networks }),
		classHistogram("flow_duration_seconds", durationBounds, "First to last packet of flows that ended.",
			func(c *flows.Counters) *flows.Histogram { return &c.Duration }),
		classHistogram("flow_uplink_size_bytes", sizeBounds, "IP bytes from subscriber to server of flows that ended.",
			func(c *flows.Counters) *flows.Histogram { return &c.Size[flows.Up] }),
		classHistogram("flow_downlink_size_bytes", sizeBounds, "IP bytes from server to subscriber of flows that ended.",
			func(c *flows.Counters) *flows.Histogram { return &c.Size[flows.Down] }),
		classHistogram("flow_uplink_throughput_bytes_per_second", throughputBounds, "Mean uplink rate of flows that ended and had over 1 MB in that direction.",
			func(c *flows.Counters) *flows.Histogram { return &c.Throughput[flows.Up] }),
		classHistogram("flow_downlink_throughput_bytes_per_second", throughputBounds, "Mean downlink rate of flows that ended and had over 1 MB in that direction.",
			func(c *flows.Counters) *flows.Histogram { return &c.Throughput[flows.Down] }),
		{
			name: "transfer_experience_total", kind: counter, labels: with("rating"),
			help: "Transfers that ended, by how their duration is felt: good up to 20 s, acceptable up to 40 s, bad beyond. Apps and devices that keep a connection open after the transfer, or use it for several, look slower than they are. Classes of sessions stay at 0.",
			emit: func(e *emitter, s *probe.Snapshot) {
				for i := range s.Classes {
					c := &s.Classes[i]
					for r, n := range c.Experience {
						e.value(float64(n), c.App, c.Class, flows.Rating(r).String())
					}
				}
			},
		},
	}},
	{"TCP", []family{
		classTotal("tcp_connection_attempts_total", "Flows that a SYN opened.",
			func(c *flows.Counters) uint64 { return c.Attempts }),
		classTotal("tcp_connections_established_total", "Connection attempts whose initiator went on after its SYN.",
			func(c *flows.Counters) uint64 { return c.Established }),
		classTotal("tcp_syn_segments_total", "SYN segments without ACK, repeats included.",
			func(c *flows.Counters) uint64 { return c.SYN }),
		classTotal("tcp_syn_ack_segments_total", "SYN segments with ACK, repeats included.",
			func(c *flows.Counters) uint64 { return c.SYNACK }),
		classTotal("tcp_fin_segments_total", "FIN segments, repeats included.",
			func(c *flows.Counters) uint64 { return c.FIN }),
		classTotal("tcp_rst_segments_total", "RST segments, repeats included.",
			func(c *flows.Counters) uint64 { return c.RST }),
		classTotal("tcp_uplink_retransmitted_segments_total", "Segments that subscribers sent again, wherever they were lost.",
			func(c *flows.Counters) uint64 { return c.Retransmitted[flows.Up] }),
		classTotal("tcp_downlink_retransmitted_segments_total", "Segments that servers sent again, wherever they were lost.",
			func(c *flows.Counters) uint64 { return c.Retransmitted[flows.Down] }),
		classTotal("tcp_uplink_lost_before_tap_segments_total", "Retransmitted segments of subscribers that had not passed the tap before: lost on the access side.",
			func(c *flows.Counters) uint64 { return c.LostBefore[flows.Up] }),
		classTotal("tcp_downlink_lost_before_tap_segments_total", "Retransmitted segments of servers that had not passed the tap before: lost on the server side.",
			func(c *flows.Counters) uint64 { return c.LostBefore[flows.Down] }),
		classTotal("tcp_uplink_out_of_order_segments_total", "Segments of subscribers that overtook one another before the tap.",
			func(c *flows.Counters) uint64 { return c.OutOfOrder[flows.Up] }),
		classTotal("tcp_downlink_out_of_order_segments_total", "Segments of servers that overtook one another before the tap.",
			func(c *flows.Counters) uint64 { return c.OutOfOrder[flows.Down] }),
		classTotal("tcp_uplink_unseen_bytes_total", "Bytes of subscribers that were acknowledged but never passed the tap: the capture lost them.",
			func(c *flows.Counters) uint64 { return c.Unseen[flows.Up] }),
		classTotal("tcp_downlink_unseen_bytes_total", "Bytes of servers that were acknowledged but never passed the tap: the capture lost them.",
			func(c *flows.Counters) uint64 { return c.Unseen[flows.Down] }),
		classHistogram("tcp_server_rtt_seconds", roundTripBounds, "Samples of the round-trip time between tap and server.",
			func(c *flows.Counters) *flows.Histogram { return &c.RTT[flows.Up] }),
		classHistogram("tcp_access_rtt_seconds", roundTripBounds, "Samples of the round-trip time between tap and subscriber.",
			func(c *flows.Counters) *flows.Histogram { return &c.RTT[flows.Down] }),
	}},
	{"Naming", []family{
		{
			name: "flows_named_total", kind: counter, labels: with("evidence"),
			help: "Flows by the evidence that named them.",
			emit: func(e *emitter, s *probe.Snapshot) {
				for i := range s.Classes {
					c := &s.Classes[i]
					for v, n := range c.Named {
						e.value(float64(n), c.App, c.Class, classify.Evidence(v).String())
					}
				}
			},
		},
		total("naming_drift_total", "Names met under an app's domains that no class matches. A name counts again after it was forgotten or the rules changed, and once for each group of subscribers, of which a worker has 64.",
			func(s *probe.Snapshot) uint64 { return s.Drift }),
		total("stream_starts_refused_total", "ClientHellos in several segments, and DNS over TCP, that were not put together for want of room.",
			func(s *probe.Snapshot) uint64 { return s.Tables.StreamsRefused }),
	}},
	{"DNS", []family{
		total("dns_queries_total", "UDP datagrams to port 53.",
			func(s *probe.Snapshot) uint64 { return s.DNS.Queries }),
		total("dns_responses_total", "DNS responses to subscribers.",
			func(s *probe.Snapshot) uint64 { return s.DNS.Responses }),
		{
			name: "dns_rcodes_total", kind: counter, labels: []string{"rcode"},
			help: "DNS responses by their response code (RFC 1035 section 4.1.1).",
			emit: emitRcodes,
		},
		total("dns_encrypted_flows_total", "TCP flows to port 853, and to port 443 of public resolvers: their answers cannot be read.",
			func(s *probe.Snapshot) uint64 { return s.DNS.Encrypted }),
		total("dns_addresses_total", "A and AAAA records that DNS responses taught.",
			func(s *probe.Snapshot) uint64 { return s.DNS.Addresses }),
		total("dns_malformed_total", "Messages from port 53 that are no DNS message.",
			func(s *probe.Snapshot) uint64 { return s.DNS.Malformed }),
		level("dnsmap_entries", "Pairs of subscriber and server whose name is known.",
			func(s *probe.Snapshot) float64 { return float64(s.Tables.Entries) }),
		level("dnsmap_entries_limit", "The most pairs of subscriber and server that there is room for.",
			func(s *probe.Snapshot) float64 { return float64(s.Tables.EntriesCap) }),
		total("dnsmap_lookups_total", "Times a flow was looked up in the map.",
			func(s *probe.Snapshot) uint64 { return s.Tables.Lookups }),
		total("dnsmap_hits_total", "Lookups that found an answer, valid or stale.",
			func(s *probe.Snapshot) uint64 { return s.Tables.Hits }),
		total("dnsmap_evictions_total", "Entries given up for want of room.",
			func(s *probe.Snapshot) uint64 { return s.Tables.EntriesEvicted }),
		total("dnsmap_refusals_total", "Answers that a full map did not take in, because flows use what it holds.",
			func(s *probe.Snapshot) uint64 { return s.Tables.EntriesRefused }),
		total("dnsmap_expired_total", "Entries that outlived their stale period.",
			func(s *probe.Snapshot) uint64 { return s.Tables.EntriesExpired }),
		level("dnsmap_last_evicted_age_seconds", "How old the answer was that was given up last for want of room: how far back the map reaches. 0 before the first.",
			func(s *probe.Snapshot) float64 { return seconds(s.Tables.LastEvictedAge) }),
		level("names_interned", "Distinct names held, each once for every group of subscribers that met it; a worker has 64 groups.",
			func(s *probe.Snapshot) float64 { return float64(s.Tables.Names) }),
		total("names_refused_total", "Times a name was not taken in for want of room.",
			func(s *probe.Snapshot) uint64 { return s.Tables.NamesRefused }),
	}},
	{"Capture", []family{
		interfaceTotal("capture_packets_total", "Frames captured.",
			func(i *capture.InterfaceStats) uint64 { return i.Packets }),
		interfaceTotal("capture_bytes_total", "Bytes on the wire of the frames captured, link layer included.",
			func(i *capture.InterfaceStats) uint64 { return i.Bytes }),
		{
			name: "capture_drops_total", kind: counter, labels: []string{"interface", "reason"},
			help: "Packets that were on the wire and not captured.",
			emit: func(e *emitter, _ *probe.Snapshot) {
				for i := range e.interfaces {
					for r, n := range e.interfaces[i].Drops {
						e.value(float64(n), e.interfaces[i].Name, capture.DropReason(r).String())
					}
				}
			},
		},
		interfaceTotal("capture_ring_freezes_total", "Times the kernel stopped filling the ring because every block was taken.",
			func(i *capture.InterfaceStats) uint64 { return i.Freezes }),
		interfaceTotal("capture_rebinds_total", "Times the interface came back as a new one.",
			func(i *capture.InterfaceStats) uint64 { return i.Rebinds }),
		{
			name: "capture_interface_up", kind: gauge, labels: []string{"interface"},
			help: "Whether the interface is there, up and has a carrier, so that it is captured from: 1 or 0.",
			emit: func(e *emitter, _ *probe.Snapshot) {
				for i := range e.interfaces {
					e.truth(!e.interfaces[i].Down, e.interfaces[i].Name)
				}
			},
		},
		total("capture_filtered_packets_total", "Frames that the filter expression took out, where the capture counts them.",
			func(s *probe.Snapshot) uint64 { return s.Source.Filtered }),
		total("capture_wild_times_total", "Frames whose time stood alone among its neighbours and was replaced.",
			func(s *probe.Snapshot) uint64 { return s.Source.WildTimes }),
		{
			name: "capture_workers", kind: gauge,
			help: "Workers that frames are divided among.",
			emit: func(e *emitter, _ *probe.Snapshot) { e.value(float64(max(e.cfg.Workers, 1))) },
		},
		{
			name: "capture_fanout_info", kind: gauge, labels: []string{"method"},
			help: "How frames are divided among workers: 1 for the method in use. " +
				"ebpf: by the subscriber, in whatever tunnel; cbpf: by the subscriber where headers are simple, other flows may stay unnamed; " +
				"hash: by outer addresses and ports, most flows stay unnamed by DNS; none: there is one worker.",
			emit: func(e *emitter, _ *probe.Snapshot) {
				for m := range capture.FanoutMethods {
					e.truth(m == e.cfg.Fanout.Method, m.String())
				}
			},
		},
		{
			name: "capture_fanout_exceptions_total", kind: counter, labels: []string{"kind"},
			help: "Frames that were not simply divided by the subscriber (ebpf only). " +
				"undecided: both or neither end is one by its prefix, and the higher port decided; followed: later fragments that went where the first did; " +
				"stray: fragments without their first, which may have reached the wrong worker; control: GTP-C and PFCP; not_ip: neither IPv4 nor IPv6.",
			emit: func(e *emitter, _ *probe.Snapshot) {
				c := e.cfg.Fanout.Counts()
				e.value(float64(c.Undecided), "undecided")
				e.value(float64(c.Followed), "followed")
				e.value(float64(c.Stray), "stray")
				e.value(float64(c.Control), "control")
				e.value(float64(c.NotIP), "not_ip")
			},
		},
		total("worker_answers_missed_total", "Addresses in DNS answers that a worker did not hear of from another one, because it was behind. They are missing from its evidence \"server\" only.",
			func(s *probe.Snapshot) uint64 { return s.Tables.FactsMissed }),
		total("capture_bad_fractions_total", "Frames whose time had a fraction of a second or more; it was carried over.",
			func(s *probe.Snapshot) uint64 { return s.Source.BadFractions }),
		level("capture_last_packet_timestamp_seconds", "Packet time of the newest frame. 0 before the first.",
			func(s *probe.Snapshot) float64 { return seconds(s.Last) }),
	}},
	{"Decoding", []family{
		{
			name: "decode_packets_total", kind: counter, labels: []string{"outcome"},
			help: "Frames that were decoded, by what they turned out to be.",
			emit: func(e *emitter, s *probe.Snapshot) { emitOutcomes(e, s, false) },
		},
		{
			name: "decode_errors_total", kind: counter, labels: []string{"reason"},
			help: "Frames that could not be used, by the reason why.",
			emit: func(e *emitter, s *probe.Snapshot) { emitOutcomes(e, s, true) },
		},
		level("fragmented_packets_unfinished", "Fragmented IP packets that wait for the rest of their fragments.",
			func(s *probe.Snapshot) float64 { return float64(s.Fragments.Unfinished) }),
		total("fragmented_packets_expired_total", "Fragmented IP packets given up because fragments did not come in time.",
			func(s *probe.Snapshot) uint64 { return s.Fragments.Expired }),
		total("fragmented_packets_evicted_total", "Fragmented IP packets given up for want of room.",
			func(s *probe.Snapshot) uint64 { return s.Fragments.Evicted }),
	}},
	{"Tunnels", []family{
		total("duplicate_packets_total", "Packets seen a second time within milliseconds, on another mirror port or tap point. They count nowhere else.",
			func(s *probe.Snapshot) uint64 { return s.Duplicates }),
		total("duplicate_bytes_total", "IP bytes of the packets seen a second time.",
			func(s *probe.Snapshot) uint64 { return s.DuplicateBytes }),
		level("gtp_sessions", "Sessions of the control plane that are known now.",
			func(s *probe.Snapshot) float64 { return float64(s.GTP.Sessions) }),
		level("gtp_sessions_limit", "The most sessions that there is room for.",
			func(s *probe.Snapshot) float64 { return float64(s.Tables.SessionsCap) }),
		level("gtp_endpoints", "Tunnel endpoints of the known sessions.",
			func(s *probe.Snapshot) float64 { return float64(s.GTP.Endpoints) }),
		level("gtp_gateways", "Tunnel gateways in front of which packets without a known session were seen.",
			func(s *probe.Snapshot) float64 { return float64(s.GTP.Gateways) }),
		{
			name: "gtp_control_messages_total", kind: counter, labels: []string{"message"},
			help: "Messages of GTP-C and PFCP by type.",
			emit: func(e *emitter, s *probe.Snapshot) {
				for k, n := range s.GTP.Messages {
					e.value(float64(n), gtp.Kind(k).String())
				}
			},
		},
		{
			name: "gtp_control_verdicts_total", kind: counter, labels: []string{"verdict"},
			help: "Messages of GTP-C and PFCP by how reading them went.",
			emit: func(e *emitter, s *probe.Snapshot) {
				for v, n := range s.GTP.Malformed {
					e.value(float64(n), gtp.Verdict(v).String())
				}
			},
		},
		{
			name: "gtp_sessions_ended_total", kind: counter, labels: []string{"reason"},
			help: "Sessions that ended, by why.",
			emit: func(e *emitter, s *probe.Snapshot) {
				e.value(float64(s.GTP.Deleted), "deleted")
				e.value(float64(s.GTP.Replaced), "replaced")
				e.value(float64(s.GTP.Expired), "expired")
				e.value(float64(s.GTP.Evicted), "evicted")
				e.value(float64(s.GTP.Merged), "merged")
			},
		},
		total("gtp_sessions_opened_total", "Sessions that began.",
			func(s *probe.Snapshot) uint64 { return s.GTP.Created }),
		total("gtp_exchanges_unanswered_total", "Requests of the control plane whose response was not seen in time.",
			func(s *probe.Snapshot) uint64 { return s.GTP.Unanswered }),
		total("gtp_exchanges_unmatched_total", "Responses of the control plane whose request was not seen.",
			func(s *probe.Snapshot) uint64 { return s.GTP.Unmatched }),
		total("gtp_exchanges_refused_total", "Responses of the control plane with a cause of failure.",
			func(s *probe.Snapshot) uint64 { return s.GTP.Refused }),
		total("gtp_exchanges_unknown_session_total", "Exchanges about sessions that are not known: they began before the tap, or out of its sight.",
			func(s *probe.Snapshot) uint64 { return s.GTP.UnknownSession }),
		total("gtp_exchanges_repeated_total", "Requests and responses of the control plane seen before.",
			func(s *probe.Snapshot) uint64 { return s.GTP.Repeated }),
		{
			name: "gtp_table_losses_total", kind: counter, labels: []string{"reason"},
			help: "What the control plane told and no room was found for.",
			emit: func(e *emitter, s *probe.Snapshot) {
				e.value(float64(s.GTP.ExchangesEvicted), "exchange")
				e.value(float64(s.GTP.EndpointsDropped), "endpoint")
				e.value(float64(s.GTP.APNsRefused), "apn")
			},
		},
		total("gtp_endpoints_reassigned_total", "Tunnel endpoints that went to another session.",
			func(s *probe.Snapshot) uint64 { return s.GTP.EndpointsReassigned }),
		total("gtp_unknown_interfaces_total", "Tunnel endpoints of an interface type that is not known.",
			func(s *probe.Snapshot) uint64 { return s.GTP.UnknownInterfaces }),
		total("gtp_identified_packets_total", "Tunnelled packets of TCP and DNS whose session is known.",
			func(s *probe.Snapshot) uint64 { return s.GTP.Identified }),
		total("gtp_anonymous_packets_total", "Tunnelled packets of TCP and DNS whose session is not known.",
			func(s *probe.Snapshot) uint64 { return s.GTP.Anonymous }),
		apnTotal("apn_uplink_bytes_total", "IP bytes of tunnelled TCP flows from subscribers to servers.",
			func(c *probe.APNCounters) uint64 { return c.Bytes[flows.Up] }),
		apnTotal("apn_downlink_bytes_total", "IP bytes of tunnelled TCP flows from servers to subscribers.",
			func(c *probe.APNCounters) uint64 { return c.Bytes[flows.Down] }),
		apnTotal("apn_uplink_packets_total", "IP packets of tunnelled TCP flows from subscribers to servers.",
			func(c *probe.APNCounters) uint64 { return c.Packets[flows.Up] }),
		apnTotal("apn_downlink_packets_total", "IP packets of tunnelled TCP flows from servers to subscribers.",
			func(c *probe.APNCounters) uint64 { return c.Packets[flows.Down] }),
		apnTotal("apn_flows_opened_total", "Tunnelled TCP flows that began.",
			func(c *probe.APNCounters) uint64 { return c.Flows }),
		apnTotal("apn_tcp_syn_segments_total", "SYN segments in tunnels.",
			func(c *probe.APNCounters) uint64 { return c.SYN }),
		apnTotal("apn_tcp_syn_ack_segments_total", "SYN/ACK segments in tunnels.",
			func(c *probe.APNCounters) uint64 { return c.SYNACK }),
		apnTotal("apn_tcp_rst_segments_total", "RST segments in tunnels.",
			func(c *probe.APNCounters) uint64 { return c.RST }),
	}},
	{"Overload", []family{
		level("overload_ring_pressure_ratio", "How full the fullest capture ring was when it was last read. At 0.5 server names are left out, at 0.75 round-trip times too, below 0.25 everything is done again.",
			func(s *probe.Snapshot) float64 { return float64(s.Overload.Pressure) / 100 }),
		{
			name: "overload_shedding", kind: gauge, labels: []string{"work"},
			help: "Whether optional work is left out now, so that no packet is lost: 1 or 0. sni: to look for server names in flows that begin; rtt: to take round-trip times.",
			emit: func(e *emitter, s *probe.Snapshot) {
				for w, left := range s.Overload.Shedding {
					e.truth(left, probe.Work(w).String())
				}
			},
		},
		{
			name: "overload_uncovered_segments_total", kind: counter, labels: []string{"work"},
			help: "TCP segments that passed while the work was left out: of all uplink and downlink packets, the share that its results do not cover.",
			emit: func(e *emitter, s *probe.Snapshot) {
				for w, n := range s.Overload.Segments {
					e.value(float64(n), probe.Work(w).String())
				}
			},
		},
		total("overload_unexamined_flows_total", "Flows in whose first bytes no server name was looked for. They are named by other evidence.",
			func(s *probe.Snapshot) uint64 { return s.Overload.Unexamined }),
	}},
	{"Tables", []family{
		level("flow_table_entries", "Places taken in the flow tables. A closed flow keeps its place for late segments.",
			func(s *probe.Snapshot) float64 { return float64(s.Tables.Flows) }),
		level("flow_table_entries_limit", "Places in the flow tables.",
			func(s *probe.Snapshot) float64 { return float64(s.Tables.FlowsCap) }),
		total("flow_table_evictions_total", "Flows given up for want of room, closed ones that waited for late segments included.",
			func(s *probe.Snapshot) uint64 { return s.Tables.FlowsEvicted }),
		total("tcp_holes_dropped_total", "Gaps in streams that were forgotten for want of room. A segment that fills one counts as a repeat of what was seen.",
			func(s *probe.Snapshot) uint64 { return s.Tables.HolesDropped }),
		total("orientation_evictions_total", "Connections whose ends are both or neither subscribers by their prefix, and of which it was forgotten for want of room which end is.",
			func(s *probe.Snapshot) uint64 { return s.Tables.SidesForgotten }),
		total("late_answers_hurried_total", "Flows that could not wait a second for their DNS answer for want of room.",
			func(s *probe.Snapshot) uint64 { return s.Tables.LateHurried }),
		total("duplicate_window_cut_total", "Packets that were forgotten for want of room before a copy of theirs would have been too late to count as one.",
			func(s *probe.Snapshot) uint64 { return s.Tables.CopiesUnwatched }),
		total("server_roster_evictions_total", "Servers forgotten for want of room in what evidence `server` rests on.",
			func(s *probe.Snapshot) uint64 { return s.Tables.RosterEvicted }),
		total("server_answers_refused_total", "Addresses in DNS answers that came too many at once to be told to other subscribers' flows: they are missing from evidence `server` and from nothing else.",
			func(s *probe.Snapshot) uint64 { return s.Tables.FactsRefused }),
		ofClass("ping_connections_missed_total", counter, "Connections that the lines of --ping by groups of servers leave out for want of room, each once in a minute in which it had a packet. What the lines of classes say is complete.",
			func(c *probe.ClassSnapshot) int { return int(c.ServingsMissed) }),
		level("subscriber_classes_limit", "The most pairs of subscriber and class that there is room for; subscribers_seen_total and subscribers_active count in these.",
			func(s *probe.Snapshot) float64 { return float64(s.Tables.SubscribersCap) }),
		total("presence_refused_total", "Sightings of subscribers and servers that found no room: those gauges are too low.",
			func(s *probe.Snapshot) uint64 { return s.Tables.PresenceRefused }),
	}},
	{"Health and outages", []family{
		{
			name: "tap_healthy", kind: gauge,
			help: "Whether what the tap delivers can be trusted: 1, or 0 where there is a reason not to.",
			emit: func(e *emitter, _ *probe.Snapshot) { e.truth(e.status.Healthy) },
		},
		{
			name: "tap_problem", kind: gauge, labels: []string{"reason"},
			help: "Why what the tap delivers cannot be trusted: 1 for each reason that holds.",
			emit: func(e *emitter, _ *probe.Snapshot) {
				for r, holds := range e.status.Problems {
					e.truth(holds, watch.Reason(r).String())
				}
			},
		},
		measured("tap_drops_ratio", watch.Drops,
			"Packets that were on the wire and not captured, of all, in five minutes."),
		measured("tap_one_direction_ratio", watch.OneDirection,
			"Connections that went on with nothing seen of the other end, of all that began in five minutes."),
		measured("tap_duplicates_ratio", watch.Duplicates,
			"Copies among the packets of five minutes."),
		measured("tap_unseen_bytes_ratio", watch.UnseenBytes,
			"Payload bytes that were acknowledged but never passed the tap, of all, in five minutes."),
		measured("tap_dns_answers_per_subscriber", watch.DNSMissing,
			"DNS answers per active subscriber in five minutes. 0 where there are too few subscribers or connections to tell."),
		measured("tap_encrypted_dns_ratio", watch.EncryptedDNS,
			"Flows to resolvers that cannot be read, of these and plain DNS answers, in five minutes."),
		measured("tap_names_missing_ratio", watch.NamesMissing,
			"Flows of apps to servers that only other subscribers' answers named, of all that were named in five minutes."),
		measured("tap_overload_ratio", watch.Overload,
			"TCP segments that passed while optional work was left out, of all, in five minutes."),
		measured("tap_watched_seconds", watch.WarmUp,
			"Packet time since the first packet, up to the 1200 s that a tap takes to warm up."),
		measured("tap_silence_seconds", watch.NoPackets,
			"Packet time since the last packet."),
		{
			name: "outage_active", kind: gauge, labels: with("verdict"),
			help: "Whether an outage of the class lasts, by what it was found to be: 1 or 0. An outage that only the whole of an app shows is on all of its classes.",
			emit: emitOutages,
		},
		{
			name: "outage_events_total", kind: counter, labels: []string{"app", "verdict"},
			help: "Outages found, by what they were found to be at first.",
			emit: func(e *emitter, s *probe.Snapshot) {
				for i := range s.Classes {
					app := s.Classes[i].App
					if first := slices.IndexFunc(s.Classes, func(c probe.ClassSnapshot) bool { return c.App == app }); first < i {
						continue
					}
					for _, v := range outageVerdicts {
						e.value(float64(e.status.Begun[app][v]), app, string(v))
					}
				}
			},
		},
	}},
	{"Forecast", forecasts()},
	{"Daemon", []family{
		{
			name: "output_lines_lost_total", kind: counter, labels: []string{"output"},
			help: "Lines that could not be written to the file of the flag --`output`: flow records, lines of the passive ping, events. It is tried again every few seconds.",
			emit: func(e *emitter, _ *probe.Snapshot) {
				for _, output := range outputs {
					n := uint64(0)
					if e.cfg.Lost != nil {
						n = e.cfg.Lost(output)
					}
					e.value(float64(n), output)
				}
			},
		},
		{
			name: "build_info", kind: gauge, labels: []string{"version", "commit", "goversion", "features"},
			help: "Always 1; the labels say what was built.",
			emit: func(e *emitter, _ *probe.Snapshot) {
				e.value(1, e.cfg.Version, e.cfg.Commit, e.cfg.GoVersion, strings.Join(e.cfg.Features, ","))
			},
		},
		{
			name: "config_last_reload_successful", kind: gauge,
			help: "Whether the last attempt to load the configuration succeeded: 1 or 0.",
			emit: func(e *emitter, _ *probe.Snapshot) {
				if e.reload.ok {
					e.value(1)
					return
				}
				e.value(0)
			},
		},
		{
			name: "config_last_reload_timestamp_seconds", kind: gauge,
			help: "When the last attempt to load the configuration was made, at the start or by a reload, successful or not.",
			emit: func(e *emitter, _ *probe.Snapshot) { e.timestamp(e.reload.at) },
		},
		{
			name: "config_last_reload_success_timestamp_seconds", kind: gauge,
			help: "When the configuration in force was loaded, at the start or by a reload.",
			emit: func(e *emitter, _ *probe.Snapshot) { e.timestamp(e.reload.success) },
		},
	}},
}

// outputs are the flags whose files lines are appended to.
var outputs = []string{"flows", "ping", "events"}

// outageVerdicts are those that say something of an app. That the tap is blind is
// not an outage.
var outageVerdicts = slices.DeleteFunc(detect.Verdicts(), func(v detect.Verdict) bool { return v == detect.TapFailure })

func emitOutages(e *emitter, s *probe.Snapshot) {
	for i := range s.Classes {
		c := &s.Classes[i]
		for _, v := range outageVerdicts {
			e.truth(slices.ContainsFunc(e.status.Open, func(o watch.Event) bool {
				return o.App == c.App && o.Verdict == v && (len(o.Classes) == 0 || slices.Contains(o.Classes, c.Class))
			}), c.App, c.Class, string(v))
		}
	}
}

// rcodeNames are the mnemonics of RFC 1035 section 4.1.1, by their code.
var rcodeNames = [...]string{"noerror", "formerr", "servfail", "nxdomain", "notimp", "refused"}

// rcodeOther stands for all later codes: those of dynamic updates (RFC 2136) and
// what is not assigned. No subscriber's resolver has a use for them.
const rcodeOther = "other"

func emitRcodes(e *emitter, s *probe.Snapshot) {
	for code, name := range rcodeNames {
		e.value(float64(s.DNS.Rcodes[code]), name)
	}
	other := uint64(0)
	for _, n := range s.DNS.Rcodes[len(rcodeNames):] {
		other += n
	}
	e.value(float64(other), rcodeOther)
}

// emitOutcomes sends the outcomes that are a reason why a frame could not be
// used, or those that are none.
func emitOutcomes(e *emitter, s *probe.Snapshot, undecoded bool) {
	for o, n := range s.Outcomes {
		if outcome := decode.Outcome(o); outcome.Undecoded() == undecoded {
			e.value(float64(n), outcome.String())
		}
	}
}
