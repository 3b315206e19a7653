package probe

import (
	"testing"

	"github.com/nametap/nametap/capture/decode"
)

// TestNetworks: servers count once a network and class; IPv6 has no such
// networks.
func TestNetworks(t *testing.T) {
	n, err := newNetworks(100)
	if err != nil {
		t.Fatal(err)
	}
	v4 := func(a, b, c, d byte) decode.Addr { return decode.AddrFrom4([]byte{a, b, c, d}) }
	check := func(what string, class int, ever, active NetworkCounts) {
		t.Helper()
		if e, a := n.counts(class); e != ever || a != active {
			t.Errorf("%s: ever %v, active %v; want %v, %v", what, e, a, ever, active)
		}
	}
	n.seen(v4(50, 22, 0, 1), 2, 10)
	n.seen(v4(50, 22, 0, 254), 2, 10)
	check("one /24", 2, NetworkCounts{1, 1, 1}, NetworkCounts{1, 1, 1})
	n.seen(v4(50, 22, 1, 1), 2, 11)
	n.seen(v4(50, 23, 1, 1), 2, 12)
	n.seen(v4(51, 22, 0, 1), 2, 13)
	check("two /8", 2, NetworkCounts{4, 3, 2}, NetworkCounts{4, 3, 2})
	n.seen(v4(50, 22, 0, 1), 3, 13)
	check("another class", 3, NetworkCounts{1, 1, 1}, NetworkCounts{1, 1, 1})
	n.seen(decode.AddrFrom16([]byte{0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 50, 22, 0, 1}), 2, 13)
	check("IPv6", 2, NetworkCounts{4, 3, 2}, NetworkCounts{4, 3, 2})
	n.turn(16)
	check("minute 16", 2, NetworkCounts{4, 3, 2}, NetworkCounts{2, 2, 2})
	n.turn(18)
	check("minute 18", 2, NetworkCounts{4, 3, 2}, NetworkCounts{0, 0, 0})
	for i := range 3000 {
		n.seen(v4(1, byte(i>>8), byte(i), 1), 2, 18)
	}
	if n.refused() == 0 {
		t.Error("more networks than there is room for, and none is refused")
	}
}
