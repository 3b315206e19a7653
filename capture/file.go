package capture

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	// batchBytes is the size of a batch's buffer: half of a second-level
	// cache, so that what was read is still there when it is decoded.
	batchBytes = 256 << 10
	// sniffBytes is how much is looked at to tell the formats apart.
	sniffBytes = 4
	// maxWindow bounds the memory of the zstd decoder, at what the zstd
	// command itself accepts unless told otherwise.
	maxWindow = 128 << 20
)

// format turns a file's bytes into frames.
type format interface {
	// parse appends to frames those of the whole records at the front of
	// data, which stands at offset at of the file, each in step with c. It
	// returns frames, the number of bytes it is done with, and how many the
	// next record needs in all, as far as it knows. An error comes with the
	// frames before it. The lock of the counters is held.
	parse(data []byte, at int64, frames []Frame, c *clock) (out []Frame, used, need int, err error)
	// pending reports whether the file may not end here although parse has
	// used all of it.
	pending() bool
}

// file is one capture file, in the order of its records.
type file struct {
	name  string
	raw   io.Reader
	close func() error
	// read and total are bytes as stored; total is -1 where it is not known.
	read  atomic.Int64
	total int64

	// in delivers the decompressed bytes, unpacked says by which format.
	in       io.Reader
	unpacked string
	zstd     *zstd.Decoder
	format   format
	clock    clock
	size     int

	// carry is what goes over into the next batch's buffer: the bytes of the
	// frames that wait for their time to be settled, then the record that was
	// cut by the buffer's end. offset is the place of the byte after it.
	carry  []byte
	offset int64
	held   [2]Frame
	// readErr is what the reader returned together with its last bytes.
	readErr error
	// err is what next returns from now on.
	err error

	stats *counters
}

// newFile returns the capture file that r delivers. Its batches have buffers
// of size bytes.
func newFile(name string, r io.Reader, size int, stats *counters) *file {
	return &file{name: name, raw: r, total: -1, size: size, stats: stats, clock: clock{stats: stats}}
}

// Read counts what is taken from the stored file.
func (f *file) Read(b []byte) (int, error) {
	n, err := f.raw.Read(b)
	f.read.Add(int64(n))
	return n, err
}

// next fills b, as Source.Next does.
func (f *file) next(b *Batch) error {
	b.Frames = b.Frames[:0]
	if f.err == nil && f.format == nil {
		f.err = f.begin()
	}
	if f.err != nil {
		f.finish()
		return f.err
	}
	buf, done := f.resume(b)
	for {
		used, need, err := f.parse(b, buf[done:])
		done += used
		if ready := len(b.Frames) - f.clock.held; err != nil || ready > 0 {
			return f.deliver(b, ready, buf[done:], err)
		}
		buf = f.fill(buf, done+need)
		b.buf = buf
	}
}

// parse takes the frames of data, which is the last that was read, into b. It
// returns what the format's parse does; and an error also where the file ends.
func (f *file) parse(b *Batch, data []byte) (used, need int, err error) {
	f.stats.mu.Lock()
	defer f.stats.mu.Unlock()
	b.Frames, used, need, err = f.format.parse(data, f.offset-int64(len(data)), b.Frames, &f.clock)
	if err == nil {
		err = f.end(len(data) - used)
	}
	if err != nil {
		f.clock.last(b.Frames)
	}
	return used, need, err
}

// resume starts a batch with what the one before it left. It returns the
// buffer and where its unparsed bytes begin.
func (f *file) resume(b *Batch) ([]byte, int) {
	buf := append(b.room(f.size), f.carry...)
	b.buf = buf
	done := 0
	for _, frame := range f.held[:f.clock.held] {
		end := done + len(frame.Data)
		frame.Data = buf[done:end:end]
		b.Frames = append(b.Frames, frame)
		done = end
	}
	return buf, done
}

// fill reads once, so that a capture that is being written into a pipe is
// delivered as it comes. need is how long buf has to become for anything to
// happen; parse has checked it.
func (f *file) fill(buf []byte, need int) []byte {
	if room := max(need, len(buf)+1); room > cap(buf) {
		// Frames that wait keep the old array, which is left alone.
		buf = slices.Grow(buf, room-len(buf))
	}
	n := 0
	for tries := 0; n == 0 && f.readErr == nil; tries++ {
		if tries == 100 {
			f.readErr = io.ErrNoProgress
			break
		}
		n, f.readErr = f.in.Read(buf[len(buf):cap(buf)])
	}
	f.offset += int64(n)
	return buf[:len(buf)+n]
}

// end returns nil while there is more to read, io.EOF where the file ends as
// it should, and else what is wrong. left is the length of the record that
// could not be parsed.
func (f *file) end(left int) error {
	switch {
	case f.readErr == nil:
		return nil
	case errors.Is(f.readErr, fs.ErrClosed):
		return io.EOF
	case errors.Is(f.readErr, io.EOF) && left == 0 && !f.format.pending():
		return io.EOF
	case errors.Is(f.readErr, io.EOF):
		return f.truncated(left)
	}
	return f.unreadable(f.readErr)
}

// truncated is the error of a file that ends inside a record.
func (f *file) truncated(left int) error {
	what := "cut off in its last record, which begins"
	if g, ok := f.format.(*ngFormat); ok && g.pending() {
		left = int(f.offset - g.skipAt)
	}
	if f.offset == int64(left) {
		what = "cut off in its header, which begins"
	}
	return &FileError{
		Offset: f.offset - int64(left), What: what,
		Mend: mendTruncated, Err: io.ErrUnexpectedEOF,
	}
}

// unreadable is the error of bytes that cannot be had.
func (f *file) unreadable(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	e := &FileError{Offset: f.offset, What: "cannot be read", Mend: mendDamaged, Err: err}
	switch {
	case f.unpacked == "":
	case errors.Is(err, io.ErrUnexpectedEOF):
		e.What, e.Mend = f.unpacked+" data cut off", mendTruncated
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		e.What = "zstd data needs more than 128 MiB to decompress"
		e.Mend = "decompress it first, with zstd -d --long=31"
	default:
		e.What = "damaged " + f.unpacked + " data"
		e.Mend = "what came before was read; copy the file again"
	}
	return e
}

// deliver ends a batch after its first ready frames, and keeps the rest. An error
// waits until the frames before it are out.
func (f *file) deliver(b *Batch, ready int, rest []byte, err error) error {
	if err != nil {
		f.fail(err)
	}
	f.carry = f.carry[:0]
	for i, frame := range b.Frames[ready:] {
		f.held[i] = frame
		f.carry = append(f.carry, frame.Data...)
	}
	f.carry = append(f.carry, rest...)
	b.Frames = b.Frames[:ready]
	if ready > 0 {
		return nil
	}
	f.finish()
	return f.err
}

// fail makes err what next returns from now on.
func (f *file) fail(err error) {
	var e *FileError
	if errors.As(err, &e) {
		e.File, e.Unpacked = f.name, f.unpacked != ""
	}
	f.err = err
}

// finish lets go of what reading needed.
func (f *file) finish() {
	if f.zstd != nil {
		f.zstd.Close()
		f.zstd = nil
	}
	f.carry, f.in = nil, nil
	f.held = [2]Frame{}
}

// begin finds out what the file is, from its content: names lie, and a pipe
// has none.
func (f *file) begin() error {
	err := f.sniff()
	if err != nil {
		f.fail(err)
	}
	return f.err
}

func (f *file) sniff() error {
	head, err := f.head(f)
	if err != nil {
		return err
	}
	f.in = f
	if f.unpacked = compression(head); f.unpacked != "" {
		f.offset = 0
		if err := f.unpack(io.MultiReader(bytes.NewReader(head), f)); err != nil {
			return f.unreadable(err)
		}
		if head, err = f.head(f.in); err != nil {
			return err
		}
	}
	f.carry = head
	if magic, _ := magicOfPcap(head); magic != 0 {
		f.format = &pcapFormat{name: f.name, stats: f.stats}
		return nil
	}
	if binary.BigEndian.Uint32(head) == blockSection {
		f.format = &ngFormat{name: f.name, stats: f.stats}
		return nil
	}
	return f.unknown(head)
}

// IsCapture reports whether a file begins as a capture does, itself or what is
// compressed in it. What cannot be read is none.
func IsCapture(name string) bool {
	in, err := os.Open(name)
	if err != nil {
		return false
	}
	defer func() { _ = in.Close() }() // only read
	f := newFile(name, in, batchBytes, &counters{})
	defer f.finish()
	return f.begin() == nil
}

// head reads the first bytes, as few as will do.
func (f *file) head(r io.Reader) ([]byte, error) {
	head := make([]byte, 4<<10)
	n, err := 0, error(nil)
	for n < sniffBytes && err == nil {
		var got int
		got, err = r.Read(head[n:])
		n += got
	}
	f.offset = int64(n)
	switch {
	case n >= sniffBytes:
		return head[:n], nil
	case errors.Is(err, fs.ErrClosed):
		return nil, io.EOF
	case !errors.Is(err, io.EOF):
		return nil, f.unreadable(err)
	case n == 0:
		return nil, &FileError{Offset: -1, What: "empty", Mend: wanted}
	case startsMagic(head[:n]):
		return nil, f.truncated(n)
	}
	return nil, f.unknown(head[:n])
}

// unknown is the error of a file that is something else.
func (f *file) unknown(head []byte) error {
	what := fmt.Sprintf("not a capture (first bytes % x)", head[:min(len(head), sniffBytes)])
	if f.unpacked != "" {
		what = fmt.Sprintf("not a capture inside %s (first bytes % x)", f.unpacked, head[:min(len(head), sniffBytes)])
	}
	return &FileError{Offset: -1, What: what, Mend: wanted}
}

// Magic numbers as they stand in a file: gzip RFC 1952 section 2.3.1, zstd and
// its skippable frames RFC 8878 section 3.1.
var (
	gzipMagic     = []byte{0x1f, 0x8b}
	zstdMagic     = []byte{0x28, 0xb5, 0x2f, 0xfd}
	zstdSkippable = []byte{0x2a, 0x4d, 0x18} // after a byte 0x50 to 0x5f
)

// compression tells how a file is compressed, if it is.
func compression(head []byte) string {
	switch {
	case bytes.HasPrefix(head, gzipMagic):
		return "gzip"
	case bytes.HasPrefix(head, zstdMagic), head[0]&0xf0 == 0x50 && bytes.HasPrefix(head[1:], zstdSkippable):
		return "zstd"
	}
	return ""
}

// startsMagic reports whether a file of fewer than four bytes could have
// become a capture.
func startsMagic(head []byte) bool {
	for _, magic := range []uint32{magicMicro, magicNano, magicModified, blockSection} {
		big := binary.BigEndian.AppendUint32(nil, magic)
		little := binary.LittleEndian.AppendUint32(nil, magic)
		if bytes.HasPrefix(big, head) || bytes.HasPrefix(little, head) {
			return true
		}
	}
	return bytes.HasPrefix(gzipMagic, head) || bytes.HasPrefix(head, gzipMagic) || bytes.HasPrefix(zstdMagic, head)
}

// unpack sets f.in to what decompresses r. Memory is bounded whatever the file
// says of itself, and nothing runs beside the reader.
func (f *file) unpack(r io.Reader) error {
	r = bufio.NewReaderSize(r, 64<<10)
	if f.unpacked == "gzip" {
		z, err := gzip.NewReader(r)
		f.in = z
		return err
	}
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow))
	f.zstd, f.in = z, z
	return err
}
