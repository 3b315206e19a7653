package metrics

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

const docsHead = `# Metrics

<!-- Made by go test ./metrics -update from metrics/families.go. -->

What ` + "`/metrics`" + ` shows. Labels come from closed lists, and every series is there
from the start at 0; no address, queried name or identity is ever on the page.
Beside these there are the metrics of the Go runtime (` + "`go_*`" + `), of the process
(` + "`process_*`" + `) and of the page itself (` + "`promhttp_*`" + `).
`

const docsHistograms = `
## Histograms

Every histogram is classic and native in one. A Prometheus with native histograms
enabled asks for protobuf and gets both; others get the classic buckets.

Native buckets are those of schema 3: each ends 9 %% above the one before. Up to
2^-20 (a microsecond) everything is in the zero bucket, beyond 2^36 in the last.
A histogram shows at most %d native buckets; one that is wider falls to the next
coarser schema, for good.

Classic buckets end at powers of two: these are bounds of native buckets too, so
that both forms count exactly the same observations.

| histogram | upper bounds of the classic buckets |
|---|---|
`

// docs returns docs/metrics.md.
func docs() string {
	b := &strings.Builder{}
	b.WriteString(docsHead)
	for _, s := range sections {
		fmt.Fprintf(b, "\n## %s\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n", s.title)
		for _, f := range s.families {
			labels := "–"
			if len(f.labels) > 0 {
				labels = "`" + strings.Join(f.labels, "`, `") + "`"
			}
			fmt.Fprintf(b, "| `%s%s` | %s | %s | %s |\n", namespace, f.name, f.kind, labels, f.help)
		}
	}
	fmt.Fprintf(b, docsHistograms, NativeBucketLimit)
	for _, s := range sections {
		for _, f := range s.families {
			if f.bounds == nil {
				continue
			}
			var upper []string
			for _, v := range f.bounds.upper {
				upper = append(upper, strconv.FormatFloat(v, 'f', -1, 64))
			}
			fmt.Fprintf(b, "| `%s%s` | %s |\n", namespace, f.name, strings.Join(upper, ", "))
		}
	}
	b.WriteString("\n## Values of the labels\n\n| label | values |\n|---|---|\n")
	for _, l := range []struct{ label, values string }{
		{"app, class", "those of the rules, and `other`/`other`; classes of earlier rules stay"},
		{"interface", fmt.Sprintf("those captured from; after %d further ones go by `%s`", maxInterfaces, otherInterface)},
		{"evidence", list(labelValues["evidence"])},
		{"reason of `flows_closed_total`", list(reasons[namespace+"flows_closed_total"])},
		{"reason of `capture_drops_total`", list(reasons[namespace+"capture_drops_total"])},
		{"reason of `decode_errors_total`", list(reasons[namespace+"decode_errors_total"])},
		{"outcome", list(labelValues["outcome"])},
		{"rcode", list(labelValues["rcode"])},
		{"apn", "`unknown` (no session known), `other`, and those of `--apn`"},
		{"message", list(labelValues["message"])},
		{"verdict of `gtp_control_verdicts_total`", list(verdicts[namespace+"gtp_control_verdicts_total"])},
		{"verdict of `outage_active`, `outage_events_total`", list(verdicts[namespace+"outage_active"])},
		{"reason of `tap_problem`", list(reasons[namespace+"tap_problem"])},
		{"rating", list(labelValues["rating"])},
		{"method of `capture_fanout_info`", list(labelValues["method"])},
		{"kind of `capture_fanout_exceptions_total`", list(labelValues["kind"])},
		{"horizon", list(labelValues["horizon"])},
		{"reason of `gtp_sessions_ended_total`", list(reasons[namespace+"gtp_sessions_ended_total"])},
	} {
		fmt.Fprintf(b, "| %s | %s |\n", l.label, l.values)
	}
	return b.String()
}

func list(values []string) string { return "`" + strings.Join(values, "`, `") + "`" }

// TestDocs holds docs/metrics.md to what is on the page.
func TestDocs(t *testing.T) {
	golden(t, "../docs/metrics.md", []byte(docs()))
}

// contract is what dashboards and rules rely on, written out once more.
var contract = map[string]string{
	"uplink_bytes_total": "counter app class", "downlink_bytes_total": "counter app class",
	"uplink_packets_total": "counter app class", "downlink_packets_total": "counter app class",
	"flows_opened_total": "counter app class", "flows_midstream_total": "counter app class",
	"flows_closed_total":            "counter app class reason",
	"tcp_connection_attempts_total": "counter app class", "tcp_connections_established_total": "counter app class",
	"tcp_syn_segments_total": "counter app class", "tcp_syn_ack_segments_total": "counter app class",
	"tcp_fin_segments_total": "counter app class", "tcp_rst_segments_total": "counter app class",
	"tcp_uplink_retransmitted_segments_total":   "counter app class",
	"tcp_downlink_retransmitted_segments_total": "counter app class",
	"flow_duration_seconds":                     "histogram app class",
	"flow_uplink_size_bytes":                    "histogram app class", "flow_downlink_size_bytes": "histogram app class",
	"flow_uplink_throughput_bytes_per_second":   "histogram app class",
	"flow_downlink_throughput_bytes_per_second": "histogram app class",
	"tcp_server_rtt_seconds":                    "histogram app class", "tcp_access_rtt_seconds": "histogram app class",
	"flows_active": "gauge app class", "servers_active": "gauge app class", "subscribers_active": "gauge app class",
	"flows_named_total":   "counter app class evidence",
	"dns_responses_total": "counter", "dns_malformed_total": "counter",
	"dnsmap_entries": "gauge", "dnsmap_lookups_total": "counter", "dnsmap_hits_total": "counter", "dnsmap_evictions_total": "counter",
	"capture_packets_total": "counter interface", "capture_bytes_total": "counter interface",
	"capture_drops_total": "counter interface reason", "decode_errors_total": "counter reason",
	"build_info":                            "gauge version commit goversion features",
	"config_last_reload_successful":         "gauge",
	"config_last_reload_timestamp_seconds":  "gauge",
	"capture_last_packet_timestamp_seconds": "gauge",
}

func TestContract(t *testing.T) {
	got := map[string]string{}
	for _, s := range sections {
		for _, f := range s.families {
			if got[f.name] != "" {
				t.Errorf("%s is there twice", f.name)
			}
			got[f.name] = strings.Join(append([]string{f.kind.String()}, f.labels...), " ")
		}
	}
	for name, want := range contract {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
}
