package main

import (
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func tapHealth() *dashboard.DashboardBuilder {
	return board("nametap-tap", "nametap / Tap health", "Can the other numbers be believed?").
		WithVariable(instances()).
		WithPanel(health("Tap", "Whether what the tap delivers can be trusted.")).
		WithPanel(number("Captured", "", packets, sixth, query{"sum(rate(nametap_capture_packets_total{" + onTap + "}[$__rate_interval]))", "packets"})).
		WithPanel(judged("Dropped", "Of all that was on the wire.", percent, sixth, steps("green", at(0.001, "orange"), at(0.01, "red")),
			query{
				"sum(rate(nametap_capture_drops_total{" + onTap + "}[$__rate_interval])) / (sum(rate(nametap_capture_packets_total{" + onTap +
					"}[$__rate_interval])) + sum(rate(nametap_capture_drops_total{" + onTap + "}[$__rate_interval])))", "dropped",
			})).
		WithPanel(judged("Flow table", "Places taken.", percent, sixth, steps("green", at(0.7, "orange"), at(0.9, "red")),
			query{"max(nametap_flow_table_entries{" + onTap + "} / nametap_flow_table_entries_limit)", "taken"})).
		WithPanel(judged("Map of names", "Places taken.", percent, sixth, steps("green", at(0.9, "orange")),
			query{"max(nametap_dnsmap_entries{" + onTap + "} / nametap_dnsmap_entries_limit)", "taken"})).
		WithPanel(number("Up for", "Since nametap was started.", seconds, sixth,
			query{"min(time() - process_start_time_seconds{" + onTap + "} * on (job, instance) group_left () nametap_tap_healthy ^ 0)", "up"}).
			GraphMode(common.BigValueGraphModeNone)).
		WithPanel(states("Problems", "Why the tap cannot be trusted. Alerts about apps wait until this is over.", half, "green", "red",
			query{"max by (instance, reason) (nametap_tap_problem{" + onTap + "})", "{{instance}} {{reason}}"}).Height(9)).
		WithPanel(curves("What it is judged by", "Shares over five minutes. docs/api.md has the limits.", percent, half, judgedBy()...).Height(9)).
		WithRow(row("Capture")).
		WithPanel(curves("Packets by port", "A tap often delivers each direction on its own port.", packets, third,
			query{rate("instance, interface", "nametap_capture_packets_total", onTap), "{{instance}} {{interface}}"})).
		WithPanel(curves("Volume by port", "On the wire, link layer included.", bits, third,
			query{"8 * " + rate("instance, interface", "nametap_capture_bytes_total", onTap), "{{instance}} {{interface}}"})).
		WithPanel(curves("Drops", "ring_full: the daemon was too slow. interface: the card was.", packets, third,
			query{rate("instance, interface, reason", "nametap_capture_drops_total", onTap), "{{instance}} {{interface}} {{reason}}"})).
		WithPanel(curves("Ring freezes and rebinds", "Times that the ring was full, and that an interface came back as a new one.", perSec, third,
			query{rate("interface", "nametap_capture_ring_freezes_total", onTap), "{{interface}} freezes"},
			query{rate("interface", "nametap_capture_rebinds_total", onTap), "{{interface}} rebinds"})).
		WithPanel(stacked("Frames by what they are", "", packets, third,
			query{rate("outcome", "nametap_decode_packets_total", onTap), "{{outcome}}"})).
		WithPanel(curves("Frames that could not be used", "", packets, third,
			query{rate("reason", "nametap_decode_errors_total", onTap), "{{reason}}"})).
		WithPanel(curves("Workers", "Rings and workers that frames are divided among, and by what.", plain, half,
			query{"max by (instance) (nametap_capture_workers{" + onTap + "})", "{{instance}}"},
			query{"max by (instance, method) (nametap_capture_fanout_info{" + onTap + "}) > 0", "{{instance}} divided by {{method}}"})).
		WithPanel(curves("Frames that were hard to divide", "docs/metrics.md says what the kinds are.", packets, half,
			query{rate("kind", "nametap_capture_fanout_exceptions_total", onTap), "{{kind}}"})).
		WithPanel(curves("Fullest ring", "When it was last read. From a half on optional work is left out, so that no packet is lost.", percent, third,
			query{"max by (instance) (nametap_overload_ring_pressure_ratio{" + onTap + "})", "{{instance}}"}).Max(1)).
		WithPanel(states("Left out under load", "sni: server names in flows that begin. rtt: round-trip times.", third, "green", "orange",
			query{"max by (instance, work) (nametap_overload_shedding{" + onTap + "})", "{{instance}} {{work}}"}).Height(8)).
		WithPanel(curves("Not covered under load", "Segments and flows that passed meanwhile.", packets, third,
			query{rate("instance, work", "nametap_overload_uncovered_segments_total", onTap), "{{instance}} segments without {{work}}"},
			query{rate("instance", "nametap_overload_unexamined_flows_total", onTap), "{{instance}} flows without sni"})).
		WithRow(row("What the tap misses")).
		WithPanel(curves("Downlink packets for each uplink packet", "A step means that a direction, or a part of one, was lost.", plain, third,
			query{
				"sum by (instance) (rate(nametap_downlink_packets_total{" + onTap + "}[$__rate_interval])) / " +
					rate("instance", "nametap_uplink_packets_total", onTap), "{{instance}}",
			})).
		WithPanel(curves("One-sided connections", "Of all attempts: nothing was seen of the other end.", percent, third,
			query{share("instance", "nametap_flows_one_sided_total", "nametap_tcp_connection_attempts_total", onTap), "{{instance}}"})).
		WithPanel(curves("Acknowledged but never seen", "Bytes that the capture lost, of all payload.", percent, third,
			query{share("instance", "nametap_tcp_downlink_unseen_bytes_total", "nametap_downlink_payload_bytes_total", onTap), "{{instance}} downlink"},
			query{share("instance", "nametap_tcp_uplink_unseen_bytes_total", "nametap_uplink_payload_bytes_total", onTap), "{{instance}} uplink"})).
		WithPanel(curves("Seen twice", "Copies from a second mirror port. They count nowhere else.", packets, third,
			query{rate("instance", "nametap_duplicate_packets_total", onTap), "{{instance}}"})).
		WithPanel(curves("Picked up in mid-stream", "Of all flows: no SYN was seen. High after a start.", percent, third,
			query{share("instance", "nametap_flows_midstream_total", "nametap_flows_opened_total", onTap), "{{instance}}"})).
		WithPanel(curves("Clocks", "Frames whose time was wrong and was mended.", perSec, third,
			query{rate("instance", "nametap_capture_wild_times_total", onTap), "{{instance}} wild"},
			query{rate("instance", "nametap_capture_bad_fractions_total", onTap), "{{instance}} bad fraction"})).
		WithRow(row("Names")).
		WithPanel(curves("DNS answers for each active subscriber", "In five minutes. A fall means that names will be missing soon.", plain, third,
			query{"max by (instance) (nametap_tap_dns_answers_per_subscriber{" + onTap + "})", "{{instance}}"})).
		WithPanel(stacked("DNS response codes", "", perSec, third, query{rate("rcode", "nametap_dns_rcodes_total", onTap), "{{rcode}}"})).
		WithPanel(curves("Encrypted DNS", "Flows to resolvers that cannot be read, beside answers that can.", perSec, third,
			query{rate("instance", "nametap_dns_encrypted_flows_total", onTap), "{{instance}} encrypted flows"},
			query{rate("instance", "nametap_dns_responses_total", onTap), "{{instance}} answers"})).
		WithPanel(stacked("What names the flows", "", perSec, third, query{rate("evidence", "nametap_flows_named_total", onTap), "{{evidence}}"})).
		WithPanel(curves("Look-ups that find an answer", "", percent, third,
			query{share("instance", "nametap_dnsmap_hits_total", "nametap_dnsmap_lookups_total", onTap), "{{instance}}"})).
		WithPanel(curves("New names", "Sightings of names under an app's domains that no class matches.", perSec, third,
			query{rate("instance", "nametap_naming_drift_total", onTap), "{{instance}}"})).
		WithRow(row("Tables and tunnels")).
		WithPanel(curves("Places taken", "", percent, third,
			query{"nametap_flow_table_entries{" + onTap + "} / nametap_flow_table_entries_limit", "{{instance}} flows"},
			query{"nametap_dnsmap_entries{" + onTap + "} / nametap_dnsmap_entries_limit", "{{instance}} names"},
			query{"nametap_gtp_sessions{" + onTap + "} / nametap_gtp_sessions_limit", "{{instance}} sessions"})).
		WithPanel(curves("Given up for want of room", "", perSec, third,
			query{rate("instance", "nametap_flow_table_evictions_total", onTap), "{{instance}} flows"},
			query{rate("instance", "nametap_dnsmap_evictions_total", onTap), "{{instance}} answers"},
			query{rate("instance", "nametap_dnsmap_refusals_total", onTap), "{{instance}} answers refused"},
			query{rate("instance", "nametap_names_refused_total", onTap), "{{instance}} names"},
			query{rate("instance", "nametap_presence_refused_total", onTap), "{{instance}} presence"},
			query{rate("instance", "nametap_stream_starts_refused_total", onTap), "{{instance}} stream starts"},
			query{rate("instance", "nametap_worker_answers_missed_total", onTap), "{{instance}} answers between workers"},
			query{rate("instance", "nametap_server_answers_refused_total", onTap), "{{instance}} answers for others"},
			query{rate("instance", "nametap_orientation_evictions_total", onTap), "{{instance}} orientations"},
			query{rate("instance", "nametap_late_answers_hurried_total", onTap), "{{instance}} late answers"})).
		WithPanel(curves("Age of the answer given up last", "How far back the map of names reaches. 0: nothing was given up.", seconds, third,
			query{"nametap_dnsmap_last_evicted_age_seconds{" + onTap + "}", "{{instance}}"})).
		WithPanel(curves("Sessions in tunnels", "As the control plane tells them.", plain, third,
			query{"sum by (instance) (nametap_gtp_sessions{" + onTap + "})", "{{instance}} sessions"})).
		WithPanel(curves("Tunnelled packets", "With and without a known session.", packets, third,
			query{rate("instance", "nametap_gtp_identified_packets_total", onTap), "{{instance}} identified"},
			query{rate("instance", "nametap_gtp_anonymous_packets_total", onTap), "{{instance}} anonymous"})).
		WithPanel(curves("Volume by access point", "", bits, third,
			query{"8 * " + rate("apn", "nametap_apn_downlink_bytes_total", onTap), "{{apn}} downlink"},
			query{"8 * " + rate("apn", "nametap_apn_uplink_bytes_total", onTap), "{{apn}} uplink"})).
		WithPanel(curves("SYNs by access point", "One that fails by itself is a gateway of ours, not an app.", perSec, third,
			query{rate("apn", "nametap_apn_tcp_syn_segments_total", onTap), "{{apn}}"})).
		WithPanel(curves("SYN/ACKs by access point", "", perSec, third,
			query{rate("apn", "nametap_apn_tcp_syn_ack_segments_total", onTap), "{{apn}}"})).
		WithPanel(curves("Resets by access point", "", perSec, third,
			query{rate("apn", "nametap_apn_tcp_rst_segments_total", onTap), "{{apn}}"})).
		WithRow(row("Daemon")).
		WithPanel(curves("Memory", "Resident.", octets, third,
			query{"process_resident_memory_bytes{" + onTap + "} and on (job, instance) nametap_tap_healthy", "{{instance}}"})).
		WithPanel(curves("Processors", "Busy, in cores.", plain, third,
			query{"rate(process_cpu_seconds_total{" + onTap + "}[$__rate_interval]) and on (job, instance) nametap_tap_healthy", "{{instance}}"})).
		WithPanel(curves("Scrape", "How long Prometheus waited for the page.", seconds, third,
			query{"scrape_duration_seconds{" + onTap + "} and on (job, instance) nametap_tap_healthy", "{{instance}}"}))
}

// judgedBy are the shares that make a tap healthy or not.
func judgedBy() (out []query) {
	for _, reason := range []string{"drops", "one_direction", "duplicates", "unseen_bytes", "encrypted_dns", "names_missing", "overload"} {
		out = append(out, query{"max by (instance) (nametap_tap_" + reason + "_ratio{" + onTap + "})", "{{instance}} " + reason})
	}
	return out
}

func passivePing() *dashboard.DashboardBuilder {
	const (
		on    = `instance=~"$host",app=~"$unit",scope=~"$scope"`
		by    = "app, scope"
		name  = "{{app}} {{scope}}"
		hosts = `instance=~"$host"`
	)
	return board("nametap-ping", "nametap / Passive ping", "Round-trip times and losses of a host's own connections, from nametap ping.").
		WithVariable(variable("host", "Host", "label_values(nametap_host_samples_total, instance)")).
		WithVariable(variable("unit", "App", `label_values(nametap_host_tcp_active_connections_total{instance=~"$host"}, app)`)).
		WithVariable(variable("scope", "Remote end", `label_values(nametap_host_tcp_active_connections_total{instance=~"$host"}, scope)`)).
		WithPanel(curves("Round-trip time", "Smoothed by the kernel, of connections that were active.", seconds, half,
			quantiles("nametap_host_tcp_rtt_seconds", on, by, name, 0.5, 0.95)...)).
		WithPanel(curves("Least round-trip time", "What the path alone takes.", seconds, half,
			quantiles("nametap_host_tcp_min_rtt_seconds", on, by, name, 0.5)...)).
		WithPanel(curves("Lost out", "Segments sent again, of all sent with payload, without those that had arrived after all.", percent, third,
			query{
				"(" + rate(by, "nametap_host_tcp_retransmitted_segments_total", on) + " - " + rate(by, "nametap_host_tcp_spurious_retransmissions_total", on) + ")\n/ (" +
					rate(by, "nametap_host_tcp_data_segments_sent_total", on) + " > 0)", name,
			})).
		WithPanel(curves("Active connections", "In each period, on average.", plain, third,
			query{
				rate(by, "nametap_host_tcp_active_connections_total", on) + " / on () group_left () sum(rate(nametap_host_samples_total{" + hosts + "}[$__rate_interval]))",
				name,
			})).
		WithPanel(curves("Reordering", "Seen by senders, and segments received out of order.", perSec, third,
			query{rate(by, "nametap_host_tcp_reordering_events_total", on), name + " sent"},
			query{rate(by, "nametap_host_tcp_out_of_order_segments_received_total", on), name + " received"})).
		WithPanel(curves("Payload", "", bits, fourth,
			query{"8 * " + rate(by, "nametap_host_tcp_acknowledged_bytes_total", on), name + " sent"},
			query{"8 * " + rate(by, "nametap_host_tcp_received_bytes_total", on), name + " received"})).
		WithPanel(curves("Open connections", "Idle ones included.", plain, fourth,
			query{"nametap_host_tcp_open_connections{" + hosts + "}", "{{instance}}"})).
		WithPanel(curves("Time for a sample", "Of all connections of the host.", seconds, fourth,
			query{"nametap_host_sample_duration_seconds{" + hosts + "}", "{{instance}}"})).
		WithPanel(curves("Not read", "What the last sample left out, by the reason why.", plain, fourth,
			query{"nametap_host_skipped{" + hosts + "}", "{{instance}} {{reason}}"}))
}
