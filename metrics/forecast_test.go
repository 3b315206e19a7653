package metrics

import (
	"math"
	"testing"

	"github.com/nametap/nametap/analysis/forecast"
	"github.com/nametap/nametap/analysis/forecast/live"
)

// TestForecasts: each figure of each horizon is where it belongs; what is not
// known, and a class that the forecaster has not met yet, are 0.
func TestForecasts(t *testing.T) {
	c := fixed(zero("other/other", "whatsapp/chat", "whatsapp/media"))
	var chat live.Class
	n := 0.0
	for q := range chat.Outlook {
		for h := range chat.Outlook[q].At {
			n += 10
			chat.Outlook[q].At[h] = live.Forecast{
				Point: n, Lower: n + 1, Upper: n + 2,
				Sums: forecast.Sums{Count: int(n) + 3, Error: n + 4, Naive: n + 5, Intervals: int(n) + 6, Covered: int(n) + 7},
			}
		}
	}
	chat.Outlook[live.ServerRTT].At[3].Point = math.NaN()
	c.cfg.Forecasts = func() []live.Class { return []live.Class{{}, chat} }
	got := samples(t, gather(t, c))
	for key, want := range map[string]float64{
		"tcp_server_rtt_forecast_seconds,app=whatsapp,class=chat,horizon=10s":                  10,
		"tcp_server_rtt_forecast_lower_seconds,app=whatsapp,class=chat,horizon=1m":             21,
		"tcp_server_rtt_forecast_upper_seconds,app=whatsapp,class=chat,horizon=5m":             32,
		"tcp_server_rtt_forecast_seconds,app=whatsapp,class=chat,horizon=1h":                   0,
		"tcp_server_rtt_forecasts_scored_total,app=whatsapp,class=chat,horizon=1h":             43,
		"tcp_server_rtt_forecast_error_total,app=whatsapp,class=chat,horizon=10s":              14,
		"tcp_server_rtt_forecast_naive_error_total,app=whatsapp,class=chat,horizon=10s":        15,
		"tcp_server_rtt_forecast_intervals_scored_total,app=whatsapp,class=chat,horizon=10s":   16,
		"tcp_server_rtt_forecast_intervals_covered_total,app=whatsapp,class=chat,horizon=10s":  17,
		"tcp_downlink_loss_forecast_ratio,app=whatsapp,class=chat,horizon=10s":                 130,
		"tcp_downlink_loss_forecast_upper_ratio,app=whatsapp,class=chat,horizon=1h":            162,
		"tcp_server_rtt_forecast_seconds,app=whatsapp,class=media,horizon=10s":                 0,
		"tcp_server_rtt_forecast_intervals_covered_total,app=whatsapp,class=media,horizon=10s": 0,
	} {
		if v, ok := got[namespace+key]; !ok || v != want {
			t.Errorf("%s is %g (there: %v), want %g", key, v, ok, want)
		}
	}
}
