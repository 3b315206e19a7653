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
			f := &flows.Hot{Tunnel: tunnel}
			if f.Reported == allReported(0) {
				t.Error("a flow that was not settled yet has nothing left to do")
			}
			a.present(f, &flows.Key{ServerPort: server})
			for _, minute := range []uint32{s.minute - 1, s.minute, s.minute + 1} {
				want := minute == s.minute && server != portDNS
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

// TestTunnelled: a segment that plainly carried on its flow is counted by its access
// point name as any other one is.
func TestTunnelled(t *testing.T) {
	for _, dir := range []flows.Direction{flows.Up, flows.Down} {
		for _, ev := range []flows.Event{0, flows.NowCarried, flows.SubscriberPayload, flows.Retransmitted | flows.NowCarried} {
			for _, outer := range []decode.Tunnel{decode.TunnelNone, decode.TunnelGTP} {
				for _, opened := range []decode.Tunnel{decode.TunnelNone, decode.TunnelGTP} {
					p := &decode.Packet{Tunnel: outer, IPBytes: 1400, Flags: decode.ACK}
					f := &flows.Hot{Tunnel: opened, APN: 2, Class: 3}
					var want, got shard
					if outer != decode.TunnelNone {
						want.apns[5].count(p, dir, ev)
					}
					if opened != decode.TunnelNone {
						want.apnClasses[2][3].count(p, dir, ev)
					}
					got.tunnelled(f, p, dir, ev, 5)
					if got.apns != want.apns || got.apnClasses != want.apnClasses {
						t.Errorf("direction %d, event %x, packet in %q, flow in %q: counted otherwise than by count", dir, ev, outer, opened)
					}
				}
			}
		}
	}
}
