// Package packed compresses what is written to a file as the file's name says.
package packed

import (
	"compress/gzip"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// suffixes are what the names of compressed files end in.
var suffixes = [...]string{".zst", ".gz"}

// Suffix returns what a name ends in that says that the file is compressed, empty for
// a plain one.
func Suffix(name string) string {
	for _, s := range suffixes {
		if strings.HasSuffix(name, s) {
			return s
		}
	}
	return ""
}

// Bare returns a name without that suffix.
func Bare(name string) string { return strings.TrimSuffix(name, Suffix(name)) }

// Writer returns what writes to w, compressed as the name says. It is to be closed,
// which leaves w open. The same input gives the same bytes on any machine.
func Writer(name string, w io.Writer) (io.WriteCloser, error) {
	switch Suffix(name) {
	case ".zst":
		// One goroutine: with more, where blocks end hangs on how many there are.
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	case ".gz":
		return gzip.NewWriterLevel(w, gzip.BestSpeed)
	}
	return plain{w}, nil
}

type plain struct{ io.Writer }

func (plain) Close() error { return nil }
