package capture

import (
	"errors"
	"io"
	"strconv"
	"strings"
)

// FileError says what is wrong with a capture file, where, and what to do. All
// frames before the place were delivered.
type FileError struct {
	// File as it was named.
	File string
	// Offset in bytes of what is wrong; -1 where there is no such place.
	Offset int64
	// Unpacked says that Offset counts in the decompressed data.
	Unpacked bool
	// What is wrong, and its Mend.
	What, Mend string
	// Err is the cause, if there is one: io.ErrUnexpectedEOF for a file that
	// ends too early.
	Err error
}

// Error returns one line.
func (e *FileError) Error() string {
	var s strings.Builder
	s.WriteString(e.File + ": " + e.What)
	if e.Offset >= 0 {
		s.WriteString(" at offset " + strconv.FormatInt(e.Offset, 10))
	}
	if e.Offset >= 0 && e.Unpacked {
		s.WriteString(" of the decompressed data")
	}
	if e.Err != nil && !Truncated(e.Err) {
		s.WriteString(" (" + e.Err.Error() + ")")
	}
	if e.Mend != "" {
		s.WriteString(": " + e.Mend)
	}
	return s.String()
}

// Unwrap returns the cause.
func (e *FileError) Unwrap() error { return e.Err }

// Truncated reports whether err says that a file ended too early.
func Truncated(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }

// fileErrors are the errors of several files, in their order on the command
// line. errors.Join would do but for its line breaks: an error is one line.
type fileErrors []error

func (e fileErrors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "; ")
}

// orOnly returns the one error there is, or all of them.
func (e fileErrors) orOnly() error {
	if len(e) == 1 {
		return e[0]
	}
	return e
}

// Unwrap returns them all, for errors.Is and errors.As.
func (e fileErrors) Unwrap() []error { return e }

const (
	mendDamaged   = "what came before was read; repair the file with pcapfix, or take it again"
	mendTruncated = "what came before was read; copy the file again if it was still being written"
	wanted        = "expected pcap or pcapng, optionally gzip or zstd"
)

// damaged is an error of a format parser, which does not know the file's name.
func damaged(at int64, what string) *FileError {
	return &FileError{Offset: at, What: "damaged: " + what, Mend: mendDamaged}
}
