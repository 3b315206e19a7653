package decode

import (
	"bytes"
	"testing"
)

// TestPlainAgainstWalk: what Plain takes, and what Other is given, the walk reads
// alike.
func TestPlainAgainstWalk(t *testing.T) {
	plain := 0
	compare := func(frame []byte, vlan uint16) {
		t.Helper()
		d, walked := New(Config{}), Packet{}
		want := walker(Config{}).Decode(frame, uint32(len(frame)), LinkEthernet, vlan, &walked)
		left := Packet{Tunnel: TunnelGTP, VLAN: 77, Fragmented: true, HasTimestamps: true, TSval: 1, IPID: 1, HeaderLen: 1, Flags: 1}
		p := left
		if d.Plain(frame, LinkEthernet, vlan, &p) {
			plain++
			if want != TCP || !same(TCP, &p, &walked) || p.TSval != walked.TSval || p.TSecr != walked.TSecr {
				t.Fatalf("%x:\nplain %+v\nwalk  %v %+v", frame, p, want, walked)
			}
		}
		if got := d.Other(frame, uint32(len(frame)), LinkEthernet, vlan, &left); got != want || !same(got, &left, &walked) {
			t.Fatalf("%x:\nother %v %+v\nwalk  %v %+v", frame, got, left, want, walked)
		}
	}
	for _, s := range straightFrames() {
		if len(s.frame) > 100 {
			continue // the innermost packets are the same
		}
		compare(s.frame, 0xe064)
		for n := range len(s.frame) {
			compare(s.frame[:n:n], 0)
		}
		frame := bytes.Clone(s.frame)
		for i := range 8 * len(frame) {
			frame[i/8] ^= 1 << (i % 8)
			compare(frame, 0)
			frame[i/8] ^= 1 << (i % 8)
		}
	}
	if plain == 0 {
		t.Error("no frame was plain")
	}
}

// TestPlain: which frames are.
func TestPlain(t *testing.T) {
	usual := eth(0x0800, ip4(6, tcpTS("hello")))
	for _, c := range []struct {
		name  string
		frame []byte
		link  Link
		want  bool
	}{
		{"time stamps", usual, LinkEthernet, true},
		{"no options", eth(0x0800, ip4(6, tcp("hello there"))), LinkEthernet, true},
		{"a cut payload", usual[:len(usual)-3], LinkEthernet, true},
		{"a cut header", usual[:50], LinkEthernet, false},
		{"a SYN's options", eth(0x0800, ip4(6, tcpOptions(hx("020405b4 0402 080a 00000001 00000002 01 030307"), nil))), LinkEthernet, false},
		{"IPv6", eth(0x86dd, ip6(6, tcpTS("hello"))), LinkEthernet, false},
		{"UDP", eth(0x0800, ip4(17, udp(53, 1000, []byte("a dns message, of some length")))), LinkEthernet, false},
		{"a VLAN", eth(0x8100, vlan(7, 0x0800, ip4(6, tcpTS("hello")))), LinkEthernet, false},
		{"another link", usual, LinkRaw, false},
	} {
		var p Packet
		if got := New(Config{}).Plain(c.frame, c.link, 0, &p); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
