package prometheus_test

import (
	"testing"
	"time"
)

func scenarios(t testing.TB) []*scenario {
	keep := usedMetrics(t)
	outage := rehearse(t, 1, 26*time.Hour, true, keep)
	return []*scenario{
		{"outage of 2014", outage, []expect{{"NametapAppOutage", `app="whatsapp"`, at(18, 32), at(18, 40), at(23, 29), at(23, 59)}}},
	}
}
