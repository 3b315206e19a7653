package probe

import (
	"net/netip"
	"testing"

	"github.com/nametap/nametap/capture/decode"
)

func TestEncryptedDNS(t *testing.T) {
	for _, tt := range []struct {
		server string
		port   uint16
		want   bool
	}{
		{"192.0.2.1", 853, true},
		{"192.0.2.1", 443, false},
		{"8.8.8.8", 443, true},
		{"8.8.8.8", 53, false},
		{"2620:fe::9", 443, true},
		{"2620:fe::a", 443, false},
	} {
		if got := encryptedDNS(decode.AddrFrom(netip.MustParseAddr(tt.server)), tt.port); got != tt.want {
			t.Errorf("%s port %d: %v", tt.server, tt.port, got)
		}
	}
}
