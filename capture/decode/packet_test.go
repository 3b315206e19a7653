package decode

import (
	"net/netip"
	"testing"
	"unsafe"
)

func TestAddr(t *testing.T) {
	for _, s := range []struct {
		text   string
		is4    bool
		prefix uint64
	}{
		{"10.0.0.1", true, 0xffff0a000001},
		{"0.0.0.0", true, 0xffff00000000},
		{"255.255.255.255", true, 0xffffffffffff},
		{"2001:db8:1:2:3:4:5:6", false, 0x20010db800010002},
		{"::1", false, 0},
		{"::", false, 0},
	} {
		want := netip.MustParseAddr(s.text)
		a := AddrFrom(want)
		if a.Netip() != want || a.Is4() != s.is4 || a.Prefix() != s.prefix {
			t.Errorf("%s: %v, IPv4 %v, prefix %#x", s.text, a.Netip(), a.Is4(), a.Prefix())
		}
		as16 := want.As16()
		if b := AddrFrom16(as16[:]); b != a {
			t.Errorf("%s: %v from 16 bytes", s.text, b)
		}
		if s.is4 && AddrFrom4(want.AsSlice()) != a {
			t.Errorf("%s: %v from 4 bytes", s.text, AddrFrom4(want.AsSlice()))
		}
	}
}

func TestAddrOrder(t *testing.T) {
	sorted := []string{"::", "::1", "9.0.0.1", "10.0.0.0", "10.0.0.1", "2001:db8::", "2001:db8::1", "2001:db8:0:1::"}
	for i, a := range sorted {
		for j, b := range sorted {
			got := AddrFrom(netip.MustParseAddr(a)).Compare(AddrFrom(netip.MustParseAddr(b)))
			if want := min(1, max(-1, i-j)); got != want {
				t.Errorf("%s and %s: %d, want %d", a, b, got, want)
			}
		}
	}
}

func TestTunnelNames(t *testing.T) {
	if TunnelNone.String() != "" || TunnelGTP.String() != "gtp" {
		t.Errorf("%q, %q", TunnelNone, TunnelGTP)
	}
}

// TestPacketIPv4: IPv4 says of a packet what its two addresses say.
func TestPacketIPv4(t *testing.T) {
	list := []string{"0.0.0.0", "10.0.0.1", "255.255.255.255", "::", "::1", "::fffe:a00:1", "0:0:0:0:1:ffff:a00:1", "2001:db8::1"}
	for _, src := range list {
		for _, dst := range list {
			p := Packet{Src: AddrFrom(netip.MustParseAddr(src)), Dst: AddrFrom(netip.MustParseAddr(dst))}
			a, b, ok := p.IPv4()
			if ok != (p.Src.Is4() && p.Dst.Is4()) {
				t.Errorf("%s > %s: IPv4 %v", src, dst, ok)
			}
			if ok && (a != uint32(p.Src.Lo) || b != uint32(p.Dst.Lo)) {
				t.Errorf("%s > %s: %#x > %#x", src, dst, a, b)
			}
		}
	}
}

// TestPacketLayout: what is read of every segment lies together, at the front.
func TestPacketLayout(t *testing.T) {
	var p Packet
	if size, often := unsafe.Sizeof(p), unsafe.Offsetof(p.Tunnel)+unsafe.Sizeof(p.Tunnel); size > 144 || often > 80 {
		t.Errorf("%d bytes, of which the first %d are read of every segment; want at most 144 and 80", size, often)
	}
}
