package metrics

import (
	"io"
	"net/http/httptest"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nametap/nametap/ping"
)

func page(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	b, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != 200 {
		t.Fatal(w.Code, err)
	}
	return string(b)
}

func TestObserve(t *testing.T) {
	m := New([]string{"nginx.service"})
	if text := page(t, m); !strings.Contains(text, `nametap_host_tcp_retransmitted_segments_total{app="nginx.service",scope="global"} 0`) {
		t.Errorf("a series is missing from the start:\n%s", text)
	}
	connection := func(unit, remote string, life bool) ping.Connection {
		return ping.Connection{
			Local: netip.MustParseAddrPort("198.51.100.7:1234"), Remote: netip.MustParseAddrPort(remote), Name: "secret.example",
			Process: ping.Process{Unit: unit, Command: "x"}, WholeLife: life,
			Info:   ping.Info{RTT: 100 * time.Millisecond, MinRTT: 50 * time.Millisecond},
			Counts: ping.Counts{DataSegments: 100, Retransmitted: 3, Spurious: 1},
		}
	}
	s := &ping.Sample{Time: time.Unix(1700000000, 0), Open: 9, Namespaces: 2, Skipped: ping.Skipped{Processes: 4}, Connections: []ping.Connection{
		connection("nginx.service", "203.0.113.9:443", false),
		connection("nginx.service", "203.0.113.9:444", false),
		connection("sshd.service", "10.1.2.3:22", false),
		connection("sshd.service", "100.64.0.1:22", true),
		connection("sshd.service", "[::1]:22", false),
	}}
	m.Observe(s)
	m.Observe(s)
	text := page(t, m)
	for _, want := range []string{
		`nametap_host_tcp_data_segments_sent_total{app="nginx.service",scope="global"} 400`,
		`nametap_host_tcp_retransmitted_segments_total{app="nginx.service",scope="global"} 12`,
		`nametap_host_tcp_spurious_retransmissions_total{app="nginx.service",scope="global"} 4`,
		`nametap_host_tcp_data_segments_sent_total{app="other",scope="private"} 200`, // not what was before the first sample
		`nametap_host_tcp_data_segments_sent_total{app="other",scope="loopback"} 200`,
		`nametap_host_tcp_active_connections_total{app="other",scope="private"} 4`,
		`nametap_host_tcp_rtt_seconds_count{app="nginx.service",scope="global"} 4`,
		`nametap_host_tcp_rtt_seconds_bucket{app="nginx.service",scope="global",le="0.125"} 4`,
		`nametap_host_samples_total 2`, `nametap_host_tcp_open_connections 9`, `nametap_host_skipped{reason="process"} 4`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	for _, never := range []string{"203.0.113", "198.51.100", "10.1.2.3", "secret", "sshd"} {
		if strings.Contains(text, never) {
			t.Errorf("%s is on the page", never)
		}
	}
}

func TestPromtool(t *testing.T) {
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skip("no promtool on this machine")
	}
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(page(t, New(nil)))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}
