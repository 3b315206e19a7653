// Package metrics shows an engine's snapshots to Prometheus: one snapshot a
// scrape, every series there from the start, labels from closed lists only.
// Never an address, a queried name or an identity. Beside cmd it is the only
// importer of the Prometheus client library.
//
// All names begin with nametap_. docs/metrics.md, made from the same
// descriptions, has types, labels and meanings.
//
// By app and class, while flows live:
//
//	uplink_bytes_total, downlink_bytes_total
//	uplink_packets_total, downlink_packets_total
//	uplink_payload_bytes_total, downlink_payload_bytes_total
//	flows_opened_total, flows_midstream_total, flows_named_total (evidence)
//	flows_active, subscribers_active, servers_active
//	subscribers_seen_total, servers_seen_total
//	tcp_connection_attempts_total, tcp_connections_established_total
//	tcp_syn_segments_total, tcp_syn_ack_segments_total
//	tcp_fin_segments_total, tcp_rst_segments_total
//	tcp_uplink_retransmitted_segments_total, tcp_downlink_retransmitted_segments_total
//	tcp_uplink_lost_before_tap_segments_total, tcp_downlink_lost_before_tap_segments_total
//	tcp_uplink_out_of_order_segments_total, tcp_downlink_out_of_order_segments_total
//	tcp_uplink_unseen_bytes_total, tcp_downlink_unseen_bytes_total
//	tcp_server_rtt_seconds, tcp_access_rtt_seconds
//
// By app and class, at a flow's end:
//
//	flows_closed_total (reason), flows_one_way_total
//	flow_duration_seconds
//	flow_uplink_size_bytes, flow_downlink_size_bytes
//	flow_uplink_throughput_bytes_per_second, flow_downlink_throughput_bytes_per_second
//
// Names and DNS:
//
//	naming_drift_total, stream_starts_refused_total
//	dns_queries_total, dns_responses_total, dns_rcodes_total (rcode)
//	dns_addresses_total, dns_malformed_total
//	dnsmap_entries, dnsmap_entries_limit, dnsmap_lookups_total, dnsmap_hits_total
//	dnsmap_evictions_total, dnsmap_expired_total, dnsmap_last_evicted_age_seconds
//	names_interned, names_refused_total
//
// Capture, by interface:
//
//	capture_packets_total, capture_bytes_total, capture_drops_total (reason)
//	capture_ring_freezes_total, capture_rebinds_total
//
// Capture and decoding as a whole:
//
//	capture_filtered_packets_total, capture_wild_times_total
//	capture_bad_fractions_total, capture_last_packet_timestamp_seconds
//	decode_packets_total (outcome), decode_errors_total (reason)
//	fragmented_packets_unfinished, fragmented_packets_expired_total
//	fragmented_packets_evicted_total
//
// Tables:
//
//	flow_table_entries, flow_table_entries_limit, flow_table_evictions_total
//	tcp_holes_dropped_total, server_roster_evictions_total, presence_refused_total
//
// The daemon itself:
//
//	build_info (version, commit, goversion, features)
//	config_last_reload_successful, config_last_reload_timestamp_seconds
//	config_last_reload_success_timestamp_seconds
//
// # Histograms
//
// Each is a classic and a native histogram at once; a scraper that asks for
// protobuf gets both. The engine counts in the buckets of native schema 3 (an
// eighth of an octave, 9 %), with one zero bucket for all up to 2^-20. The
// classic buckets end at powers of two, which are bounds of the fine buckets
// too, so that both forms agree to the last observation. What exceeds 2^36 is in
// the last native bucket, and in +Inf of the classic ones. A native histogram
// shows at most NativeBucketLimit buckets; a wider one has a coarser schema.
package metrics
