package capture

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// stdinName is how a person calls what is named "-".
const stdinName = "standard input"

// Files is a Source that reads capture files, merged by packet time.
type Files struct {
	files []*file
	stats counters
	merge *merge
}

// Open opens capture files; "-" is standard input. Several are merged by packet
// time, ties in the order of paths and then of the file. An error of one file
// (see Source.Next), also that it is not there, does not stop the others: it
// comes at the end, together with those of the others, in the order of paths.
// Open fails only where no file at all can be opened.
//
// A capture that is still being written into a pipe is delivered as it comes,
// but for the first frame and any frame more than a minute away from the one
// before it: these wait for their successor, in case their time is wild.
//
// Memory: one buffer a batch (256 KiB), with several files one more for each,
// and what a file's compression needs: gzip little, zstd up to 128 MiB.
func Open(paths []string) (*Files, error) {
	if len(paths) == 0 {
		return nil, errors.New("no capture file named: name one, or - for standard input")
	}
	s := &Files{}
	stdin := false
	var failed fileErrors
	for _, path := range paths {
		if path == "-" && stdin {
			_ = s.Close()
			return nil, errors.New("standard input (-) named twice: it can be read only once")
		}
		stdin = stdin || path == "-"
		f, err := s.open(path, len(paths))
		if err != nil {
			f = newFile(path, nil, 0, &s.stats)
			f.err = err
			failed = append(failed, err)
		}
		s.files = append(s.files, f)
	}
	if len(failed) == len(paths) {
		_ = s.Close()
		return nil, failed.orOnly()
	}
	s.start()
	return s, nil
}

// OpenReader returns a Source that reads one capture file from r. name is what
// errors call it.
func OpenReader(name string, r io.Reader) *Files {
	s := &Files{}
	s.files = []*file{newFile(name, r, batchBytes, &s.stats)}
	return s
}

// open opens one of n files.
func (s *Files) open(path string, n int) (*file, error) {
	if path == "-" {
		// Not closed by us: it was not opened by us.
		f := newFile(stdinName, os.Stdin, bufferSize(n), &s.stats)
		f.total = regularSize(os.Stdin)
		return f, nil
	}
	in, err := os.Open(path)
	if err != nil {
		return nil, openError(path, err)
	}
	if info, err := in.Stat(); err == nil && info.IsDir() {
		_ = in.Close()
		return nil, &FileError{File: path, Offset: -1, What: "a directory", Mend: "name the capture files in it"}
	}
	f := newFile(path, in, bufferSize(n), &s.stats)
	f.close = in.Close
	f.total = regularSize(in)
	return f, nil
}

func openError(path string, err error) error {
	mend := "check the path"
	switch {
	case errors.Is(err, fs.ErrPermission):
		mend = "check its permissions"
	case errors.Is(err, syscall.EMFILE):
		mend = "raise the limit with ulimit -n, or name fewer files"
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return &FileError{File: path, Offset: -1, What: "cannot be opened", Mend: mend, Err: err}
}

// regularSize returns the file's size, or -1 for a pipe or a device.
func regularSize(f *os.File) int64 {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return -1
	}
	return info.Size()
}

// bufferSize returns the size of each file's buffers when n are read at once:
// less with many, so that a day in hourly or minutely files stays in bounds.
func bufferSize(n int) int {
	const all, least = 64 << 20, 16 << 10
	return max(min(batchBytes, all/n), least)
}

// start chooses between one file, which costs nothing more, and a merge.
func (s *Files) start() {
	if len(s.files) > 1 {
		s.merge = newMerge(s.files)
	}
}

// Next fills b with frames; see Source.
func (s *Files) Next(b *Batch) error {
	if s.merge != nil {
		return s.merge.next(b)
	}
	return s.files[0].next(b)
}

// Release allows the bytes of b's frames to be overwritten.
func (s *Files) Release(b *Batch) { b.Frames = b.Frames[:0] }

// Interfaces returns the names of the interfaces found so far. A pcap file is
// one interface, with the file's name; in a pcapng file one without a name is
// called FILE:NUMBER. Those of equal name are one.
func (s *Files) Interfaces() []string { return s.stats.names() }

// Stats returns the counters. With several files they may be ahead of what
// Next has delivered by a batch a file.
func (s *Files) Stats() Stats { return s.stats.snapshot() }

// BytesRead returns how much of the files, as they are stored, has been read.
func (s *Files) BytesRead() int64 {
	sum := int64(0)
	for _, f := range s.files {
		sum += f.read.Load()
	}
	return sum
}

// TotalBytes returns the size of all files as they are stored, or -1 if one of
// them is a pipe.
func (s *Files) TotalBytes() int64 {
	sum := int64(0)
	for _, f := range s.files {
		if f.total < 0 {
			return -1
		}
		sum += f.total
	}
	return sum
}

// Close closes the files. A Next that waits for a named pipe returns; one that
// waits for standard input does not, because nothing can wake it.
func (s *Files) Close() error {
	var errs []error
	for _, f := range s.files {
		if f.close == nil {
			continue
		}
		if err := f.close(); err != nil && !errors.Is(err, fs.ErrClosed) {
			errs = append(errs, fmt.Errorf("%s: close: %w", f.name, err))
		}
	}
	return join(errs)
}

// join returns nil for none, and one error as it is.
func join(errs []error) error {
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return fileErrors(errs)
}
