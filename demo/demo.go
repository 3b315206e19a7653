// Package demo plays a synthetic network in quick motion: its frames come out of
// a capture.Source like those of any tap, at a multiple of the speed at which
// they were sent, and with the times at which they were sent.
package demo

import (
	"io"
	"sync"
	"time"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/synth"
)

const (
	batchBytes  = 256 << 10
	batchFrames = 2048
	// breath is how long a batch may wait for its packets' time.
	breath = 100 * time.Millisecond
)

// Source is a capture.Source of a generator's frames.
type Source struct {
	generator *synth.Generator
	speed     float64
	began     time.Time // wall clock at the first frame
	start     int64     // packet time that is played at began
	ahead     synth.Frame
	have      bool

	caughtUp chan struct{} // closed at began

	quit  chan struct{}
	close sync.Once

	mu    sync.Mutex
	stats [2]capture.InterfaceStats
}

// NewSource plays g at the given multiple of real time; its first part, of the
// length skip, as fast as it can be generated.
func NewSource(g *synth.Generator, speed float64, skip time.Duration) *Source {
	return &Source{
		generator: g, speed: speed, caughtUp: make(chan struct{}), quit: make(chan struct{}), start: g.Start().Add(skip).UnixNano(),
		stats: [2]capture.InterfaceStats{{Name: "uplink"}, {Name: "downlink"}},
	}
}

// CaughtUp returns a channel that is closed when the first part has been played,
// and time begins to pass at the source's speed. It stays open where the source
// ends before.
func (s *Source) CaughtUp() <-chan struct{} { return s.caughtUp }

// Next waits until the next frames are due and returns those that are.
func (s *Source) Next(b *capture.Batch) error {
	b.Frames = b.Frames[:0]
	if !s.have && !s.generator.Next(&s.ahead) {
		return io.EOF
	}
	s.have = true
	if s.began.IsZero() && s.ahead.Time >= s.start {
		s.began = time.Now()
		close(s.caughtUp)
	}
	if s.began.IsZero() {
		return s.deliver(b, s.start)
	}
	wait := time.Duration(float64(s.ahead.Time-s.start)/s.speed) - time.Since(s.began)
	if wait > 0 {
		select {
		case <-s.quit:
			return io.EOF
		case <-time.After(min(wait, breath)):
		}
	}
	return s.deliver(b, s.start+int64(float64(time.Since(s.began))*s.speed))
}

// deliver takes the frames up to the packet time due, as many as fit.
func (s *Source) deliver(b *capture.Batch, due int64) error {
	select {
	case <-s.quit:
		return io.EOF
	default:
	}
	buf := b.Buffer(batchBytes)
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.have && s.ahead.Time <= due && len(b.Frames) < batchFrames {
		at := len(buf)
		if at+len(s.ahead.Data) > cap(buf) {
			break
		}
		buf = append(buf, s.ahead.Data...)
		i := s.ahead.Interface()
		b.Frames = append(b.Frames, capture.Frame{
			Data: buf[at:], Time: s.ahead.Time, WireLen: uint32(len(s.ahead.Data)),
			Link: decode.LinkEthernet, Interface: uint16(i),
		})
		s.stats[i].Packets++
		s.stats[i].Bytes += uint64(len(s.ahead.Data))
		s.have = s.generator.Next(&s.ahead)
	}
	return nil
}

// Release has nothing to give back: each batch has its own buffer.
func (s *Source) Release(b *capture.Batch) { b.Frames = b.Frames[:0] }

// Interfaces returns the tap's two ports.
func (s *Source) Interfaces() []string { return []string{"uplink", "downlink"} }

// Stats returns what was played.
func (s *Source) Stats() capture.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return capture.Stats{Interfaces: append([]capture.InterfaceStats(nil), s.stats[:]...)}
}

// Close ends the source.
func (s *Source) Close() error {
	s.close.Do(func() { close(s.quit) })
	return nil
}
