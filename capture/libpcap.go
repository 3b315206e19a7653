//go:build libpcap

package capture

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcap"

	"github.com/nametap/nametap/capture/decode"
)

// Libpcap says whether libpcap is compiled in.
const Libpcap = true

// reopenEvery is how often an interface that went away is looked for.
const reopenEvery = 250 * time.Millisecond

// libpcapSource is a Source that captures with libpcap. Each interface has a
// goroutine: gopacket does not show the descriptors that one could wait on.
// Frames are copied, because libpcap keeps only the latest.
type libpcapSource struct {
	stats  counters
	full   chan *Batch
	empty  chan *Batch
	end    chan struct{}
	ending sync.Once
	ends   sync.WaitGroup
}

// openLibpcap captures with libpcap.
func openLibpcap(config LiveConfig) (Source, error) {
	n := len(config.Interfaces)
	s := &libpcapSource{
		full:  make(chan *Batch, 2*n),
		empty: make(chan *Batch, 2*n),
		end:   make(chan struct{}),
	}
	handles := make([]*pcap.Handle, 0, n)
	for _, name := range config.Interfaces {
		h, err := openHandle(name, &config)
		if err != nil {
			for _, h := range handles {
				h.Close()
			}
			return nil, err
		}
		handles = append(handles, h)
		s.stats.mu.Lock()
		s.stats.add(name)
		s.stats.mu.Unlock()
		s.empty <- new(Batch)
		s.empty <- new(Batch)
	}
	for i, h := range handles {
		r := &libpcapReader{source: s, config: &config, name: config.Interfaces[i], index: uint16(i)}
		s.ends.Go(func() { r.run(h) })
	}
	return s, nil
}

// openHandle opens one interface.
func openHandle(name string, config *LiveConfig) (*pcap.Handle, error) {
	h, err := activate(name, config)
	if err != nil {
		return nil, fmt.Errorf("capture on %s with libpcap: %w: check the name with ip link, and that this runs as root or has CAP_NET_RAW",
			name, err)
	}
	// Not every system can tell the directions apart; where it cannot, what
	// this machine sends is captured as well.
	_ = h.SetDirection(pcap.DirectionIn)
	if config.Filter == "" {
		return h, nil
	}
	if err := h.SetBPFFilter(config.Filter); err != nil {
		h.Close()
		return nil, filterError(config.Filter, err)
	}
	return h, nil
}

func activate(name string, config *LiveConfig) (*pcap.Handle, error) {
	inactive, err := pcap.NewInactiveHandle(name)
	if err != nil {
		return nil, err
	}
	defer inactive.CleanUp()
	snap := config.SnapLen
	if snap <= 0 {
		snap = maxFrame
	}
	err = errors.Join(
		inactive.SetSnapLen(snap),
		inactive.SetPromisc(config.Promiscuous),
		inactive.SetBufferSize(config.RingBytes),
		inactive.SetTimeout(max(config.BlockTimeout, time.Millisecond)),
	)
	if err != nil {
		return nil, err
	}
	return inactive.Activate()
}

// libpcapReader reads one interface.
type libpcapReader struct {
	source *libpcapSource
	config *LiveConfig
	name   string
	index  uint16
	// kept are the drops of handles that are closed.
	kept [DropReasons]uint64
}

// run fills batches until the source ends. h is open.
func (r *libpcapReader) run(h *pcap.Handle) {
	for {
		r.read(h)
		r.keep(h)
		h.Close()
		if h = r.reopen(); h == nil {
			return
		}
	}
}

// read reads until the interface fails or the source ends.
func (r *libpcapReader) read(h *pcap.Handle) {
	link := linkOfDLT(h.LinkType())
	for {
		var b *Batch
		select {
		case b = <-r.source.empty:
		case <-r.source.end:
			return
		}
		err := r.fill(b, h, link)
		r.count(b)
		r.publish(h)
		r.hand(b)
		if err != nil {
			return
		}
	}
}

// count counts a batch.
func (r *libpcapReader) count(b *Batch) {
	c := &r.source.stats
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count(b.Frames)
}

// hand passes a batch on, if there is anything in it.
func (r *libpcapReader) hand(b *Batch) {
	to := r.source.full
	if len(b.Frames) == 0 {
		to = r.source.empty
	}
	to <- b // never blocks: there are no more batches than places
}

// fill reads into b until it is full or nothing more is there.
func (r *libpcapReader) fill(b *Batch, h *pcap.Handle, link decode.Link) error {
	b.Frames = b.Frames[:0]
	buf := b.room(batchBytes)
	for cap(buf)-len(buf) >= maxFrame/2 {
		data, ci, err := h.ZeroCopyReadPacketData()
		if errors.Is(err, pcap.NextErrorTimeoutExpired) {
			break
		}
		if err != nil {
			b.buf = buf
			return err
		}
		start := len(buf)
		buf = append(buf, data...)
		b.Frames = append(b.Frames, Frame{
			Data:      buf[start:len(buf):len(buf)],
			Time:      max(ci.Timestamp.UnixNano(), 0),
			WireLen:   uint32(max(ci.Length, len(data))),
			Link:      link,
			Interface: r.index,
		})
	}
	b.buf = buf
	return nil
}

// keep remembers a handle's drops before it is closed.
func (r *libpcapReader) keep(h *pcap.Handle) {
	r.kept = r.publish(h)
}

// publish makes the drops known, and returns them. Only this goroutine asks
// libpcap, which adds up as it is asked.
func (r *libpcapReader) publish(h *pcap.Handle) [DropReasons]uint64 {
	drops := r.kept
	if k, err := h.Stats(); err == nil {
		drops[DropRingFull] += uint64(max(k.PacketsDropped, 0))
		drops[DropInterface] += uint64(max(k.PacketsIfDropped, 0))
	}
	c := &r.source.stats
	c.mu.Lock()
	c.stats.Interfaces[r.index].Drops = drops
	c.mu.Unlock()
	return drops
}

// reopen waits for the interface to come back. It returns nil at the end.
func (r *libpcapReader) reopen() *pcap.Handle {
	select {
	case <-r.source.end:
		return nil
	default:
		r.link(true)
		r.config.tell(r.name, LinkDown)
	}
	ticks := time.NewTicker(reopenEvery)
	defer ticks.Stop()
	for {
		select {
		case <-r.source.end:
			return nil
		case <-ticks.C:
		}
		if h, err := openHandle(r.name, r.config); err == nil {
			c := &r.source.stats
			c.mu.Lock()
			c.stats.Interfaces[r.index].Rebinds++
			c.mu.Unlock()
			r.link(false)
			r.config.tell(r.name, LinkRebound)
			return h
		}
	}
}

// link notes whether the interface is down.
func (r *libpcapReader) link(down bool) {
	c := &r.source.stats
	c.mu.Lock()
	c.stats.Interfaces[r.index].Down = down
	c.mu.Unlock()
}

// Next fills b with what one interface has delivered; see Source.
func (s *libpcapSource) Next(b *Batch) error {
	b.Frames = b.Frames[:0]
	select {
	case <-s.end:
		return io.EOF
	default:
	}
	idle := time.NewTimer(idleTimeout)
	defer idle.Stop()
	select {
	case <-s.end:
		return io.EOF
	case <-idle.C:
	case full := <-s.full:
		b.Frames, full.Frames = full.Frames, b.Frames
		b.buf, full.buf = full.buf, b.buf
		s.empty <- full
	}
	return nil
}

// Release allows the bytes of b's frames to be overwritten.
func (s *libpcapSource) Release(b *Batch) { b.Frames = b.Frames[:0] }

// Interfaces returns the names in the order of LiveConfig.
func (s *libpcapSource) Interfaces() []string { return s.stats.names() }

// Stats returns the counters. They may be ahead of what Next has delivered by
// two batches an interface.
func (s *libpcapSource) Stats() Stats { return s.stats.snapshot() }

// Close ends the capture and waits for the readers.
func (s *libpcapSource) Close() error {
	s.ending.Do(func() { close(s.end) })
	s.ends.Wait()
	return nil
}

// DLT_RAW is one of two numbers that a program sees in place of LINKTYPE_RAW,
// which stands in files (https://www.tcpdump.org/linktypes.html).
const dltRaw = 12

// linkOfDLT returns the link type that stands for a handle's DLT.
func linkOfDLT(dlt layers.LinkType) decode.Link {
	if dlt == dltRaw {
		return decode.LinkRaw
	}
	return decode.Link(dlt)
}

// dltOfLink is the reverse. gopacket keeps a DLT in 8 bits, so that a filter for
// Linux cooked capture version 2 (276) cannot be compiled through it.
func dltOfLink(link decode.Link) (layers.LinkType, error) {
	switch {
	case link == decode.LinkRaw, link == decode.LinkRawBSDI:
		return dltRaw, nil
	case link > 255:
		return 0, fmt.Errorf("frames of link type %d cannot be filtered: leave --filter out, or filter with tcpdump first", link)
	}
	return layers.LinkType(link), nil
}

func filterError(expr string, err error) error {
	return fmt.Errorf("filter %q: %w: see pcap-filter(7) for the language", expr, err)
}

// filtered is a Source whose frames match an expression.
type filtered struct {
	Source
	expr string
	// programs are the expression compiled for each link type: what a byte
	// offset means depends on it.
	programs map[decode.Link]*pcap.BPF
	err      error
	// mu guards out and skipped, which Stats takes off.
	mu      sync.Mutex
	skipped []InterfaceStats
	out     uint64
}

// Filter returns source without the frames that do not match the pcap-filter
// expression. Those are not in its Stats either, except as Filtered.
func Filter(source Source, expr string) (Source, error) {
	s := &filtered{Source: source, expr: expr, programs: map[decode.Link]*pcap.BPF{}}
	if _, err := s.program(decode.LinkEthernet); err != nil {
		return nil, err
	}
	return s, nil
}

// program returns the expression compiled for a link type.
func (s *filtered) program(link decode.Link) (*pcap.BPF, error) {
	if p, ok := s.programs[link]; ok {
		return p, nil
	}
	dlt, err := dltOfLink(link)
	if err != nil {
		return nil, err
	}
	p, err := pcap.NewBPF(dlt, maxFrame, s.expr)
	if err != nil {
		return nil, filterError(s.expr, err)
	}
	s.programs[link] = p
	return p, nil
}

// Next fills b with frames that match.
func (s *filtered) Next(b *Batch) error {
	if s.err != nil {
		b.Frames = b.Frames[:0]
		return s.err
	}
	for {
		if s.err = s.Source.Next(b); s.err != nil {
			return s.err
		}
		live := len(b.Frames) == 0
		if s.err = s.sieve(b); s.err != nil {
			s.Release(b)
			return s.err
		}
		if live || len(b.Frames) > 0 {
			return nil
		}
		s.Release(b)
	}
}

// sieve takes the frames that do not match out of b.
func (s *filtered) sieve(b *Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := b.Frames[:0]
	for _, frame := range b.Frames {
		p, err := s.program(frame.Link)
		if err != nil {
			return err
		}
		if len(frame.Data) > 0 && p.Matches(gopacket.CaptureInfo{Length: int(frame.WireLen)}, frame.Data) {
			kept = append(kept, frame)
			continue
		}
		for len(s.skipped) <= int(frame.Interface) {
			s.skipped = append(s.skipped, InterfaceStats{})
		}
		s.skipped[frame.Interface].Packets++
		s.skipped[frame.Interface].Bytes += uint64(frame.WireLen)
		s.out++
	}
	b.Frames = kept
	return nil
}

// Stats returns the counters of the frames that matched.
func (s *filtered) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.Source.Stats()
	for i := range s.skipped {
		stats.Interfaces[i].Packets -= s.skipped[i].Packets
		stats.Interfaces[i].Bytes -= s.skipped[i].Bytes
	}
	stats.Filtered = s.out
	return stats
}
