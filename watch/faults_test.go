package watch

import (
	"context"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/demo"
	"github.com/nametap/nametap/probe"
	"github.com/nametap/nametap/synth"
)

// faulty is a simulated network behind a tap with a fault for a while.
type faulty struct {
	*demo.Source
	from, to int64
	fault    func(x *faulty, f capture.Frame, frames []capture.Frame) []capture.Frame
	n        uint64
	dropped  uint64
}

func (x *faulty) Next(b *capture.Batch) error {
	if err := x.Source.Next(b); err != nil {
		return err
	}
	frames := make([]capture.Frame, 0, len(b.Frames))
	for _, f := range b.Frames {
		x.n++
		if f.Time < x.from || f.Time >= x.to {
			frames = append(frames, f)
			continue
		}
		frames = x.fault(x, f, frames)
	}
	b.Frames = frames
	return nil
}

func (x *faulty) Stats() capture.Stats {
	s := x.Source.Stats()
	s.Interfaces[0].Drops[capture.DropRingFull] = x.dropped
	return s
}

// port53 says whether the frame, of IPv4 on Ethernet, is DNS, and whether it is
// an answer.
func port53(f capture.Frame) (dns, answer bool) {
	ip := f.Data[14:]
	if ip[0]>>4 != 4 || ip[9] != 17 {
		return false, false
	}
	udp := ip[4*(ip[0]&15):]
	from, to := binary.BigEndian.Uint16(udp), binary.BigEndian.Uint16(udp[2:])
	return from == 53 || to == 53, from == 53
}

// The faults of a tap.

func overflows(x *faulty, f capture.Frame, frames []capture.Frame) []capture.Frame {
	if x.n%5 == 0 {
		x.dropped++
		return frames
	}
	return append(frames, f)
}

func downlinkUnplugged(_ *faulty, f capture.Frame, frames []capture.Frame) []capture.Frame {
	if f.Interface == 1 {
		return frames
	}
	return append(frames, f)
}

func thrice(_ *faulty, f capture.Frame, frames []capture.Frame) []capture.Frame {
	return append(frames, f, f, f)
}

// lossy loses downlink packets on the way to the tap, and nobody counts them.
func lossy(x *faulty, f capture.Frame, frames []capture.Frame) []capture.Frame {
	if f.Interface == 1 && x.n%10 == 0 {
		return frames
	}
	return append(frames, f)
}

func noDNS(_ *faulty, f capture.Frame, frames []capture.Frame) []capture.Frame {
	if dns, _ := port53(f); dns {
		return frames
	}
	return append(frames, f)
}

// overTLS puts a connection to a public resolver's port 853 in the place of each
// query.
func overTLS(x *faulty, f capture.Frame, frames []capture.Frame) []capture.Frame {
	dns, answer := port53(f)
	if !dns {
		return append(frames, f)
	}
	if answer {
		return frames
	}
	syn := make([]byte, 14+40)
	copy(syn, f.Data[:14+20])
	ip := syn[14:]
	ip[0], ip[9] = 0x45, 6
	binary.BigEndian.PutUint16(ip[2:], 40)
	ip[6], ip[7] = 0, 0
	copy(ip[16:], []byte{9, 9, 9, 9})
	binary.BigEndian.PutUint16(ip[20:], uint16(10000+x.n%50000))
	binary.BigEndian.PutUint16(ip[22:], 853)
	binary.BigEndian.PutUint32(ip[24:], uint32(x.n))
	ip[32], ip[33] = 5<<4, 2 // SYN
	f.Data, f.WireLen = syn, uint32(len(syn))
	return append(frames, f)
}

// elsewhere lets the answers of five in six subscribers take another way.
func elsewhere(_ *faulty, f capture.Frame, frames []capture.Frame) []capture.Frame {
	if dns, answer := port53(f); dns {
		subscriber := f.Data[14+12 : 14+16]
		if answer {
			subscriber = f.Data[14+16 : 14+20]
		}
		if subscriber[3]%6 != 0 {
			return frames
		}
	}
	return append(frames, f)
}

// TestFaults lets a simulated network pass a tap that has a fault for half an hour,
// through the real engine: the reason appears, it alone or with what follows from
// it, and is gone when the tap is whole again.
func TestFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("an hour and more of traffic for each fault takes some seconds")
	}
	const (
		begins = 25 * time.Minute
		lasts  = 25 * time.Minute
		after  = 25 * time.Minute
	)
	tests := []struct {
		name    string
		fault   func(x *faulty, f capture.Frame, frames []capture.Frame) []capture.Frame
		reasons []Reason // there must be
		also    []Reason // there may be
	}{
		{"the ring overflows", overflows, []Reason{Drops, Blind}, []Reason{UnseenBytes, OneDirection}},
		{"the downlink port is unplugged", downlinkUnplugged, []Reason{OneDirection}, []Reason{DNSMissing, NamesMissing, UnseenBytes, Blind, PortSilent}},
		{"each packet comes three times", thrice, []Reason{Duplicates}, nil},
		{"packets are lost before the tap", lossy, []Reason{UnseenBytes}, nil},
		{"the resolver moves off the tap", noDNS, []Reason{DNSMissing}, []Reason{NamesMissing}},
		{"names are resolved over TLS", overTLS, []Reason{EncryptedDNS}, []Reason{DNSMissing, NamesMissing}},
		{"most answers take another way", elsewhere, []Reason{NamesMissing}, []Reason{DNSMissing}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			seen := map[Reason]bool{}
			w := New(nil)
			g := busyHour(t, begins+lasts+after)
			at := func(d time.Duration) int64 { return g.Start().UnixNano() + int64(d) }
			observe := func(s *probe.Snapshot) {
				w.Observe(s)
				p := w.Status().Problems
				for r := range p {
					if !p[r] {
						continue
					}
					switch reason := Reason(r); {
					case reason == WarmUp && s.Time < at(warmUp+time.Minute), reason == NoPackets && s.Time < at(time.Minute):
						seen[reason] = true
					case s.Time < at(begins):
						t.Errorf("%v before the fault", reason)
					case s.Time < at(begins+lasts):
						seen[reason] = true
					case s.Time >= at(begins+lasts+after-time.Minute):
						t.Errorf("%v %v after the fault", reason, time.Duration(s.Time-at(begins+lasts)))
					}
				}
			}
			throughEngine(t, &faulty{
				Source: demo.NewSource(g, 1, begins+lasts+after), from: at(begins), to: at(begins + lasts), fault: tt.fault,
			}, observe)
			for _, r := range append(tt.reasons, WarmUp) {
				if !seen[r] {
					t.Errorf("no %v; there are %v", r, seen)
				}
			}
			for r := range seen {
				if r != WarmUp && r != NoPackets && !slices.Contains(tt.reasons, r) && !slices.Contains(tt.also, r) {
					t.Errorf("%v, too", r)
				}
			}
			if !w.Status().Healthy {
				t.Errorf("at the end: %+v", w.Health())
			}
			for _, e := range w.Events().Events {
				if e.App != "" {
					t.Errorf("a fault of the tap is called %s of %s", e.Verdict, e.App)
				}
			}
		})
	}
}

// busyHour is a network whose traffic goes on for so long.
func busyHour(t *testing.T, long time.Duration) *synth.Generator {
	t.Helper()
	scenario, err := synth.LoadScenario("busy-hour")
	if err != nil {
		t.Fatal(err)
	}
	scenario.DNS.TCP, scenario.DNS.Encrypted = 0, 0
	g, err := synth.New(scenario, synth.Options{Seed: 1, Duration: long, Subscribers: 300, Encapsulation: "none"})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// throughEngine works the source with an engine that knows names by DNS alone.
func throughEngine(t *testing.T, source capture.Source, observe func(*probe.Snapshot)) {
	t.Helper()
	e, err := probe.New(probe.Config{
		Shards: 1, Memory: probe.MinMemory, Subscribers: probe.DefaultSubscribers(),
		Cascade:  classify.Cascade{classify.EvidenceDNS, classify.EvidenceDNSStale, classify.EvidenceServer},
		DNSGrace: 10 * time.Second, DNSStale: 10 * time.Minute, Rules: classify.Builtin(), Dedup: 5 * time.Millisecond,
		Watch: observe, WatchEvery: Fine,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Run(context.Background(), source); err != nil {
		t.Fatal(err)
	}
}
