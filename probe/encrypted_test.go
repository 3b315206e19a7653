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
		{"1.1.1.1", 443, true},           // the first of the list
		{"2a10:50c0::ad2:ff", 443, true}, // the last
	} {
		if got := encryptedDNS(decode.AddrFrom(netip.MustParseAddr(tt.server)), tt.port); got != tt.want {
			t.Errorf("%s port %d: %v", tt.server, tt.port, got)
		}
	}
}

// TestResolverBits holds that the bits rule out nearly all, and no resolver.
func TestResolverBits(t *testing.T) {
	for _, a := range publicResolvers {
		if !encryptedDNS(a, portHTTPS) {
			t.Errorf("%v is ruled out", a)
		}
	}
	left := 0
	for i := range uint32(10_000) {
		bit := resolverBit(decode.AddrFrom4([]byte{203, 0, byte(i >> 8), byte(i)}))
		left += int(resolverBits[bit/64] >> (bit % 64) & 1)
	}
	if left > 400 {
		t.Errorf("%d of 10,000 other servers are not ruled out", left)
	}
}
