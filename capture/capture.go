// Package capture is where frames come from: capture files (pcap and pcapng,
// plain, gzip or zstd), AF_PACKET rings, AF_XDP sockets, and libpcap where it is
// compiled in.
//
// Everything arrives through a Source, in batches. A Source does no decoding
// and knows no link layer: it says which bytes were seen, when, and where.
package capture

import (
	"github.com/nametap/nametap/capture/decode"
)

// Frame is one captured link-layer frame.
type Frame struct {
	// Data is what was captured, and dies when its Batch is released.
	Data []byte
	// Time in nanoseconds since 1970, never negative.
	Time int64
	// WireLen is the frame's length on the wire, link header included. It
	// is never less than len(Data).
	WireLen uint32
	// Link is the type of the outermost header.
	Link decode.Link
	// Interface indexes what Source.Interfaces returns.
	Interface uint16
	// VLAN is the 802.1Q tag control information that the kernel or the
	// network card took out of the frame, 0 if none.
	VLAN uint16
}

// Batch is a run of frames whose bytes stay valid until the batch is released.
// The zero value is ready for use. A batch belongs to whoever passed it to
// Next; it may be used again, with the same Source, once it is released.
type Batch struct {
	// Frames in the order of the capture.
	Frames []Frame
	// Signals are frames of the control plane beside those in Frames; only
	// sources of OpenLiveWorkers have any.
	Signals []Signal
	// Pressure is how full the ring is that the frames come from, or the fullest
	// of several, in percent: what waits behind the batch. Behind AF_XDP it is
	// the share of the chunks that no batch holds. 0 where there is no ring.
	Pressure uint8
	// Scratch is for the consumer: packets put together from several frames
	// live here as long as the batch does. A Source never touches it.
	Scratch []byte

	// buf holds the bytes of frames that come from a file. Each batch has
	// its own, so that a consumer may hold several, and small enough to stay
	// in the second-level cache: that beats mapping the file.
	buf []byte
	// borrowed is what Release hands back to the kernel.
	borrowed borrowed
}

// Signal is a frame of the control plane (GTP-C, PFCP). All workers of a tap get
// the same signals, so that each knows every session; the very frame is among
// the Frames of one of them as well, and counts there.
type Signal struct {
	Frame
	// Before is the index in Batch.Frames of the frame that the signal comes
	// before, by time; len(Batch.Frames) after all of them.
	Before int
}

// room returns the batch's buffer, empty, with space for at least size bytes.
func (b *Batch) room(size int) []byte {
	if cap(b.buf) < size {
		b.buf = make([]byte, 0, size)
	}
	return b.buf[:0]
}

// Buffer returns the batch's own memory, empty, with space for at least size
// bytes, to a Source of another package.
func (b *Batch) Buffer(size int) []byte { return b.room(size) }

// Source delivers frames. Next is called from one goroutine at a time; Release, Stats,
// Interfaces and Close may be called from any.
type Source interface {
	// Next fills b with at least one frame or signal, or returns io.EOF at the end. A
	// live source returns an empty batch when nothing has come for about a
	// tenth of a second, so that the caller's clock moves. From a damaged
	// file come the good frames first, then an error that says where the
	// damage is; it unwraps to a *FileError (several files: to several).
	// Once Next has returned an error it returns the same one again.
	Next(b *Batch) error
	// Release allows the bytes of b's frames to be overwritten.
	Release(b *Batch)
	// Interfaces returns the names that Frame.Interface indexes. A file may
	// describe further ones while it is read; none is ever taken away.
	Interfaces() []string
	// Stats returns what has been counted since the source was opened.
	Stats() Stats
	// Close ends the source; a waiting Next returns io.EOF. Batches that are
	// not released yet stay valid until they are.
	Close() error
}

// DropReason says why frames that were on the wire never came out of a Source.
type DropReason uint8

// Drop reasons.
const (
	// DropRingFull: the kernel had no free block, because we were too slow.
	DropRingFull DropReason = iota
	// DropInterface: the network card or its driver lost them.
	DropInterface

	// DropReasons is their number.
	DropReasons
)

var dropReasonNames = [DropReasons]string{
	DropRingFull:  "ring_full",
	DropInterface: "interface",
}

// String returns the reason's name in metrics.
func (r DropReason) String() string { return dropReasonNames[r] }

// InterfaceStats are one interface's counters, of which none ever goes down, and how
// it stands.
type InterfaceStats struct {
	Name string
	// Path is how a live source's frames get from the card to us; empty for
	// files.
	Path string
	// Packets and Bytes delivered by Next; bytes as on the wire.
	Packets, Bytes uint64
	// Drops in packets.
	Drops [DropReasons]uint64
	// Freezes is how often the kernel stopped filling the ring because every
	// block was taken. Each loses some packets, which Drops counts.
	Freezes uint64
	// Rebinds is how often the interface came back as a new one.
	Rebinds uint64
	// Down says that the interface is down, has no carrier or is not there: nothing
	// is captured from it until it comes back. It is looked at a few times a second.
	Down bool
}

// Stats are a Source's counters, of which none ever goes down.
type Stats struct {
	// Interfaces in the order of Source.Interfaces.
	Interfaces []InterfaceStats
	// WildTimes is the number of frames whose time was replaced because it
	// stood alone among its neighbours.
	WildTimes uint64
	// BadFractions is the number of frames whose time had a fraction of a
	// second that was a second or more. It was carried into the seconds.
	BadFractions uint64
	// Filtered is the number of frames that a filter expression took out.
	// They are in no other counter.
	Filtered uint64
}
