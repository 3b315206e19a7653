//go:build !libpcap

package capture

import (
	"strings"
	"testing"
)

func TestFilterWithoutLibpcap(t *testing.T) {
	const want = "built without libpcap: rebuild with -tags libpcap"
	if _, err := OpenLive(LiveConfig{Interfaces: []string{"lo"}, Filter: "tcp"}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("OpenLive: %v", err)
	}
	if _, err := Filter(source(nil, batchBytes, nil), "tcp"); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Filter: %v", err)
	}
}
