package synth

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/nametap/nametap/internal/packed"
)

// TraceOptions say how frames are written.
type TraceOptions struct {
	// Split writes one file a direction: to trace.pcap.zst stand
	// trace.uplink.pcap.zst and trace.downlink.pcap.zst. Not with "-".
	Split bool
	// SnapLength cuts frames to so many bytes, but for DNS; 0 keeps them whole.
	SnapLength int
	// Stdout is where "-" goes; os.Stdout if nil.
	Stdout io.Writer
}

// TraceWriter writes frames as pcap with nanosecond times, or as pcapng with
// an interface a direction.
type TraceWriter struct {
	files []*traceFile // one, or one a direction
	snap  int
}

// traceFile is a file with its compression.
type traceFile struct {
	path   string
	ng     bool
	out    *bufio.Writer
	closes []io.Closer // in order
	head   [32]byte
}

// CreateTrace opens a trace for writing. The name's end decides: .pcapng or
// else pcap, and before that .zst or .gz. "-" is standard output, pcap.
func CreateTrace(path string, opt TraceOptions) (*TraceWriter, error) {
	w := &TraceWriter{snap: opt.SnapLength}
	if w.snap < 0 || w.snap > 0 && w.snap < 64 {
		return nil, fmt.Errorf("snap length %d: must be 0 or at least 64", w.snap)
	}
	if opt.Split && path == "-" {
		return nil, errors.New("one file a direction cannot go to standard output: give a file's name")
	}
	for i, p := range TracePaths(path, opt) {
		f, err := createFile(p, opt.Stdout)
		if err != nil {
			return nil, errors.Join(err, w.Close())
		}
		w.files = append(w.files, f)
		f.ng = strings.HasSuffix(packed.Bare(p), ".pcapng")
		interfaces := []string{"uplink", "downlink"}
		if opt.Split {
			interfaces = interfaces[i : i+1]
		}
		if err := f.header(interfaces); err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", p, err), w.Close())
		}
	}
	return w, nil
}

// TracePaths returns the files that CreateTrace makes.
func TracePaths(path string, opt TraceOptions) []string {
	if opt.Split && path != "-" {
		return []string{splitPath(path, "uplink"), splitPath(path, "downlink")}
	}
	return []string{path}
}

// splitPath inserts a direction before the suffixes of a name.
func splitPath(path, direction string) string {
	bare := packed.Bare(path)
	ext := filepath.Ext(bare)
	return strings.TrimSuffix(bare, ext) + "." + direction + ext + path[len(bare):]
}

// createFile opens path for writing, compressed as its name says.
func createFile(path string, stdout io.Writer) (*traceFile, error) {
	f := &traceFile{path: path}
	var w io.Writer
	if path == "-" {
		w = stdout
		if w == nil {
			w = os.Stdout
		}
	} else {
		file, err := os.Create(path)
		if err != nil {
			return nil, err
		}
		w = file
		f.closes = []io.Closer{file}
	}
	z, err := packed.Writer(path, w)
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	f.closes = append([]io.Closer{z}, f.closes...)
	f.out = bufio.NewWriterSize(z, 256<<10)
	return f, nil
}

func (f *traceFile) close() error {
	var errs []error
	if f.out != nil {
		errs = append(errs, f.out.Flush())
	}
	for _, c := range f.closes {
		errs = append(errs, c.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	return nil
}

const (
	linkEthernet = 1
	fullSnap     = 262144 // also where frames are cut: DNS is not
)

// header writes what a file begins with.
func (f *traceFile) header(interfaces []string) error {
	le := binary.LittleEndian
	var b []byte
	if !f.ng {
		b = le.AppendUint32(b, 0xa1b23c4d) // nanoseconds
		b = le.AppendUint16(b, 2)
		b = le.AppendUint16(b, 4)
		b = append(b, make([]byte, 8)...)
		b = le.AppendUint32(b, fullSnap)
		b = le.AppendUint32(b, linkEthernet)
	} else {
		b = block(b, 0x0a0d0d0a, []byte{0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255})
		for _, name := range interfaces {
			body := []byte{linkEthernet, 0, 0, 0}
			body = le.AppendUint32(body, fullSnap)
			body = option(body, 2, []byte(name))
			body = option(body, 9, []byte{9}) // nanoseconds
			body = option(body, 0, nil)
			b = block(b, 1, body)
		}
	}
	_, err := f.out.Write(b)
	return err
}

// block appends a pcapng block.
func block(b []byte, kind uint32, body []byte) []byte {
	le := binary.LittleEndian
	n := uint32(12 + len(body))
	b = le.AppendUint32(b, kind)
	b = le.AppendUint32(b, n)
	b = append(b, body...)
	return le.AppendUint32(b, n)
}

// option appends a pcapng option, padded.
func option(b []byte, code uint16, value []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, code)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// Write appends a frame.
func (w *TraceWriter) Write(f *Frame) error {
	file, iface := w.files[0], uint32(f.Interface())
	if len(w.files) > 1 {
		file, iface = w.files[iface], 0
	}
	data := f.Data
	if w.snap > 0 && len(data) > w.snap && !f.dns {
		data = data[:w.snap]
	}
	if err := file.write(f.Time, iface, data, len(f.Data)); err != nil {
		return fmt.Errorf("%s: %w", file.path, err)
	}
	return nil
}

func (f *traceFile) write(at int64, iface uint32, data []byte, length int) error {
	le := binary.LittleEndian
	h := f.head[:0]
	if !f.ng {
		h = le.AppendUint32(h, uint32(at/1e9))
		h = le.AppendUint32(h, uint32(at%1e9))
		h = le.AppendUint32(h, uint32(len(data)))
		h = le.AppendUint32(h, uint32(length))
		if _, err := f.out.Write(h); err != nil {
			return err
		}
		_, err := f.out.Write(data)
		return err
	}
	pad := -len(data) & 3
	total := uint32(32 + len(data) + pad)
	h = le.AppendUint32(h, 6)
	h = le.AppendUint32(h, total)
	h = le.AppendUint32(h, iface)
	h = le.AppendUint32(h, uint32(uint64(at)>>32))
	h = le.AppendUint32(h, uint32(at))
	h = le.AppendUint32(h, uint32(len(data)))
	h = le.AppendUint32(h, uint32(length))
	if _, err := f.out.Write(h); err != nil {
		return err
	}
	if _, err := f.out.Write(data); err != nil {
		return err
	}
	h = append(f.head[:0], 0, 0, 0)[:pad]
	h = le.AppendUint32(h, total)
	_, err := f.out.Write(h)
	return err
}

// Paths are the files that are written.
func (w *TraceWriter) Paths() []string {
	var paths []string
	for _, f := range w.files {
		paths = append(paths, f.path)
	}
	return paths
}

// Close writes what is buffered and closes the files, but not standard output.
func (w *TraceWriter) Close() error {
	var errs []error
	for _, f := range w.files {
		errs = append(errs, f.close())
	}
	return errors.Join(errs...)
}

// TruthWriter writes truth as JSON Lines, in the order in which flows end.
type TruthWriter struct {
	file *traceFile
	line []byte
}

// CreateTruth opens a truth file; .zst, .gz and "-" as for traces.
func CreateTruth(path string, stdout io.Writer) (*TruthWriter, error) {
	f, err := createFile(path, stdout)
	if err != nil {
		return nil, err
	}
	return &TruthWriter{file: f}, nil
}

// Write appends one flow.
func (w *TruthWriter) Write(t *FlowTruth) error {
	w.line = append(t.AppendJSON(w.line[:0]), '\n')
	if _, err := w.file.out.Write(w.line); err != nil {
		return fmt.Errorf("%s: %w", w.file.path, err)
	}
	return nil
}

// Close writes what is buffered and closes the file.
func (w *TruthWriter) Close() error { return w.file.close() }

// ReadTruth reads a truth file, plain, zstd- or gzip-compressed, and calls fn
// for each flow with a value that is overwritten afterwards. An error of fn
// ends it.
func ReadTruth(path string, fn func(*FlowTruth) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	in := bufio.NewReaderSize(file, 256<<10)
	magic, _ := in.Peek(4)
	var r io.Reader = in
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		if r, err = gzip.NewReader(in); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		defer z.Close()
		r = z
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), 1<<20)
	var t FlowTruth
	for n := 1; lines.Scan(); n++ {
		if err := ParseFlowTruth(lines.Bytes(), &t); err != nil {
			return fmt.Errorf("%s: line %d: %w", path, n, err)
		}
		if err := fn(&t); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// Write runs g to its end into trace and truth, either of which may be nil.
// progress, if not nil, is called every few thousand frames with the packet
// time. It stops early, with ctx's error, when ctx is done.
func Write(ctx context.Context, g *Generator, trace *TraceWriter, truth *TruthWriter, progress func(now int64)) error {
	var failed error
	if truth != nil {
		g.SetTruth(func(t *FlowTruth) {
			if err := truth.Write(t); err != nil && failed == nil {
				failed = err
			}
		})
	}
	var f Frame
	for n := 0; g.Next(&f); n++ {
		if trace != nil {
			if err := trace.Write(&f); err != nil {
				return err
			}
		}
		if n%4096 != 0 {
			continue
		}
		if failed != nil || ctx.Err() != nil {
			return errors.Join(failed, ctx.Err())
		}
		if progress != nil {
			progress(f.Time)
		}
	}
	return failed
}
