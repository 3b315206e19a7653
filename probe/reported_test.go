package probe

import (
	"testing"

	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/flows"
)

// TestAllReported: the one word that a segment is asked by says the same as the
// conditions that it stands for.
func TestAllReported(t *testing.T) {
	s := &shard{engine: &Engine{}, minute: 7}
	a := &partition{shard: s}
	for _, server := range []uint16{443, portDNS} {
		for _, tunnel := range []decode.Tunnel{decode.TunnelNone, decode.TunnelGTP} {
			f := &flows.Hot{Key: flows.Key{ServerPort: server}, Tunnel: tunnel}
			if f.Reported == allReported(0) {
				t.Error("a flow that was not settled yet has nothing left to do")
			}
			a.present(f)
			for _, minute := range []uint32{s.minute - 1, s.minute, s.minute + 1} {
				want := minute == s.minute && tunnel == decode.TunnelNone && server != portDNS
				if got := f.Reported == allReported(minute); got != want {
					t.Errorf("port %d, tunnel %q, minute %d: nothing left to do is %v, want %v", server, tunnel, minute, got, want)
				}
				if got := f.Reported&^allDone == minute; got != (minute == s.minute) {
					t.Errorf("port %d, tunnel %q: reported in minute %d is %v", server, tunnel, minute, got)
				}
			}
		}
	}
}
