package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/export"
	"github.com/nametap/nametap/internal/packed"
)

// named is a file, and the flag that names it; none for an argument.
type named struct {
	flag, path string
}

func arguments(paths []string) []named {
	list := make([]named, len(paths))
	for i, path := range paths {
		list[i].path = path
	}
	return list
}

func (n *named) String() string {
	if n.flag == "" {
		return n.path
	}
	return n.flag + " " + n.path
}

// checkOutputs makes sure, before anything is opened for writing, that no output
// of a command is one of its inputs or another output, under whatever name, and
// that none takes the place of a capture: that is what becomes of a trace whose
// output was forgotten, and no tap gives the same again. Files without a path are
// not there.
func checkOutputs(outputs, inputs []named) error {
	for i := range outputs {
		out := &outputs[i]
		if out.path == "" {
			continue
		}
		for k := range inputs {
			if in := &inputs[k]; in.path != "" && same(in.path, os.Stdin, out.path, os.Stdout) {
				return usagef("%s is the same file as %s, which is read: it would be lost; choose another file", out, in)
			}
		}
		for k := range outputs[:i] {
			if other := &outputs[k]; other.path != "" && (out.path == "-" && other.path == "-" || same(other.path, os.Stdout, out.path, os.Stdout)) {
				return usagef("%s and %s are the same file: choose one of its own for each", other, out)
			}
		}
		if info, err := os.Stat(out.path); err == nil && info.Mode().IsRegular() && capture.IsCapture(out.path) {
			return usagef("%s is a capture, which would be lost: remove it if it is to go, or choose another file", out)
		}
	}
	return nil
}

// checkJournals refuses names that say that what is appended to is compressed: lines
// are there to be read as they come.
func checkJournals(outputs []named) error {
	for i := range outputs {
		out := &outputs[i]
		if suffix := packed.Suffix(out.path); suffix != "" {
			return usagef("%s: a file that is appended to is not compressed; name it without %s, and compress what has been rotated away", out, suffix)
		}
	}
	return nil
}

// same reports whether two paths lead to the same file, be it there already or
// not. The standard files are what - means. Terminals, sockets and devices such as
// /dev/null can be several things at once.
func same(a string, standardA *os.File, b string, standardB *os.File) bool {
	x, errX := stat(a, standardA)
	y, errY := stat(b, standardB)
	if errX == nil && errY == nil {
		mode := x.Mode()
		return os.SameFile(x, y) && (mode.IsRegular() || mode.Type() == os.ModeNamedPipe)
	}
	return a != "-" && b != "-" && errX != nil && errY != nil && whereTo(a) == whereTo(b)
}

func stat(path string, standard *os.File) (os.FileInfo, error) {
	if path == "-" {
		return standard.Stat()
	}
	return os.Stat(path)
}

// mostLinks is how many symbolic links Linux follows (path_resolution(7)).
const mostLinks = 40

// whereTo returns where a file that is not there would be made: links are followed,
// the last one too.
func whereTo(path string) string {
	for range mostLinks {
		target, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		path = filepath.Join(dir, filepath.Base(path))
	}
	if whole, err := filepath.Abs(path); err == nil {
		return whole
	}
	return filepath.Clean(path)
}

// result is a file that a command writes anew, compressed as its name says. What
// stood in it goes when the first byte is written, or when the result turns out
// empty: until then nothing is lost if the command fails.
type result struct {
	path    string
	out     io.Writer
	file    *os.File // nil for standard output
	regular bool
	heading []byte
	begun   bool
	packed  io.WriteCloser // compresses as the name says; nil before the first byte
}

// openResult opens the file that a flag names. perm is of one that is made, heading
// what it begins with.
func openResult(flag, path string, perm os.FileMode, heading []byte, stdout io.Writer) (*result, error) {
	if path == "-" {
		return &result{path: path, out: stdout, heading: heading}, nil
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, perm)
	if err != nil {
		return nil, fmt.Errorf("%s: cannot write: %w; choose another %s", path, cause(err), flag)
	}
	info, err := f.Stat()
	regular := err == nil && info.Mode().IsRegular()
	if regular {
		err = export.LockFile(f)
	}
	if err != nil {
		_ = f.Close() // nothing was written
		return nil, fmt.Errorf("%s: cannot write: %w; choose another %s", path, cause(err), flag)
	}
	return &result{path: path, out: f, file: f, regular: regular, heading: heading}, nil
}

func (r *result) Write(b []byte) (int, error) {
	if err := r.begin(); err != nil {
		return 0, err
	}
	return r.packed.Write(b)
}

func (r *result) begin() error {
	if r.begun {
		return nil
	}
	r.begun = true
	if r.regular {
		if err := r.file.Truncate(0); err != nil {
			return err
		}
	}
	var err error
	if r.packed, err = packed.Writer(r.path, r.out); err != nil {
		return err
	}
	if len(r.heading) == 0 {
		return nil
	}
	_, err = r.packed.Write(r.heading)
	return err
}

// keep leaves the file as it was, unless something was written already.
func (r *result) keep() { r.begun = true }

// close ends the result. Closing standard output is left to the system.
func (r *result) close() error {
	err := r.begin()
	if r.packed != nil {
		err = oneLine(err, r.packed.Close())
	}
	if r.file != nil {
		err = oneLine(err, r.file.Close())
	}
	if err != nil {
		return fmt.Errorf("%s: cannot write: %w", r.path, err)
	}
	return nil
}
