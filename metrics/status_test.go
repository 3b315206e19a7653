package metrics

import (
	"strings"
	"testing"

	"github.com/nametap/nametap/detect"
	"github.com/nametap/nametap/watch"
)

// TestStatus: outages and health, as the Watcher tells them.
func TestStatus(t *testing.T) {
	outage := func(app string, v detect.Verdict, classes ...string) watch.Event {
		return watch.Event{Event: detect.Event{App: app, Verdict: v, Classes: classes}}
	}
	tests := []struct {
		name   string
		status watch.Status
		ones   []string // of the gauges, those that are 1
	}{
		{"nobody watches", watch.Status{}, nil},
		{"healthy", watch.Status{Healthy: true}, []string{"tap_healthy"}},
		{"a reason", watch.Status{Problems: [watch.Reasons]bool{watch.Drops: true}}, []string{"tap_problem,reason=drops"}},
		{
			"one class",
			watch.Status{Healthy: true, Open: []watch.Event{outage("whatsapp", detect.AppFailure, "chat")}},
			[]string{"tap_healthy", "outage_active,app=whatsapp,class=chat,verdict=app-failure"},
		},
		{
			"the app as a whole",
			watch.Status{Healthy: true, Open: []watch.Event{outage("whatsapp", detect.Unreachable)}},
			[]string{
				"tap_healthy", "outage_active,app=whatsapp,class=chat,verdict=unreachable",
				"outage_active,app=whatsapp,class=media,verdict=unreachable",
			},
		},
		{"a blind tap is no outage", watch.Status{Open: []watch.Event{outage("", detect.TapFailure)}}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := fixed(zero("other/other", "whatsapp/chat", "whatsapp/media"))
			c.cfg.Status = func() watch.Status { return tt.status }
			want := map[string]bool{}
			for _, key := range tt.ones {
				want[namespace+key] = true
			}
			for key, v := range samples(t, gather(t, c)) {
				if !strings.HasPrefix(key, "nametap_tap_") && !strings.HasPrefix(key, "nametap_outage_active") {
					continue
				}
				if (v == 1) != want[key] {
					t.Errorf("%s is %g", key, v)
				}
				delete(want, key)
			}
			for key := range want {
				t.Errorf("%s is not on the page", key)
			}
		})
	}
}

func TestOutageEvents(t *testing.T) {
	c := fixed(zero("other/other", "whatsapp/chat", "whatsapp/media"))
	c.cfg.Status = func() watch.Status {
		return watch.Status{Begun: map[string]map[detect.Verdict]uint64{
			"whatsapp": {detect.AppFailure: 2}, "": {detect.TapFailure: 7},
		}}
	}
	sum := 0.0
	for key, v := range samples(t, gather(t, c)) {
		if strings.HasPrefix(key, "nametap_outage_events_total") {
			sum += v
			if v != 0 && key != "nametap_outage_events_total,app=whatsapp,verdict=app-failure" {
				t.Errorf("%s is %g", key, v)
			}
		}
	}
	if sum != 2 {
		t.Errorf("%g events, want 2", sum)
	}
}

// TestMeasured: each reason of the tap's health is told by a number, and it is on
// the page.
func TestMeasured(t *testing.T) {
	c := fixed(zero("other/other"))
	var s watch.Status
	for r := range s.Measured {
		s.Measured[r] = 0.25 + float64(r)
	}
	c.cfg.Status = func() watch.Status { return s }
	page := samples(t, gather(t, c))
	for name, r := range map[string]watch.Reason{
		"drops_ratio": watch.Drops, "one_direction_ratio": watch.OneDirection, "duplicates_ratio": watch.Duplicates,
		"unseen_bytes_ratio": watch.UnseenBytes, "dns_answers_per_subscriber": watch.DNSMissing, "encrypted_dns_ratio": watch.EncryptedDNS,
		"names_missing_ratio": watch.NamesMissing, "watched_seconds": watch.WarmUp, "silence_seconds": watch.NoPackets,
	} {
		if got := page[namespace+"tap_"+name]; got != s.Measured[r] {
			t.Errorf("tap_%s is %g, want %g", name, got, s.Measured[r])
		}
	}
}

// TestLost: lines that could not be written, by the output that they were for.
func TestLost(t *testing.T) {
	c := fixed(zero("other/other"))
	c.cfg.Lost = func(output string) uint64 { return map[string]uint64{"flows": 3, "events": 1}[output] }
	page := samples(t, gather(t, c))
	for output, want := range map[string]float64{"flows": 3, "ping": 0, "events": 1} {
		if got, ok := page[namespace+"output_lines_lost_total,output="+output]; !ok || got != want {
			t.Errorf("%g lines of --%s lost, want %g", got, output, want)
		}
	}
}
