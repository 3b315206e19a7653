package export

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// retryEvery is the least time between two tries to write to a file that fails,
// on the wall's clock.
const retryEvery = 5 * time.Second

// Journal is a file that a daemon adds lines to for as long as it runs. What
// stands in it stays: it is appended to, locked against a second daemon, and
// opened anew when it has been moved away.
//
// Where it cannot be written (a full disk), whoever writes neither fails nor
// waits: lines are lost and counted until it goes again, which is tried every
// few seconds. The log says when that begins, and when it is over with the
// number lost. A Journal is safe for concurrent use.
type Journal struct {
	cfg  JournalConfig
	lost atomic.Uint64

	mu     sync.Mutex
	out    io.Writer // nil while it cannot be written
	file   *os.File  // nil also for standard output
	closed bool
	stale  bool      // it was to be opened anew and could not be
	next   time.Time // before which it is not opened again
	failed error     // why lines are lost; nil once one was written again
	before uint64    // lines lost when that began
}

// JournalConfig says what a Journal is of.
type JournalConfig struct {
	// Flag names the file on the command line, What is in it, for errors and
	// the log.
	Flag, What string
	// Path of the file; - is Stdout.
	Path   string
	Stdout io.Writer
	// Heading is what an empty file begins with.
	Heading []byte
	Logger  *slog.Logger
}

// OpenJournal opens the file, or makes it. A last line that was cut off, by a
// crash for instance, is ended, so that the next one is whole.
func OpenJournal(cfg JournalConfig) (*Journal, error) {
	j := &Journal{cfg: cfg}
	if err := j.open(0); err != nil {
		return nil, err
	}
	if cfg.Path != "-" {
		return j, nil
	}
	return j, j.head(cfg.Stdout)
}

// open goes on in the file that has the name now. An error leaves all as it was.
func (j *Journal) open(flags int) error {
	if j.cfg.Path == "-" {
		j.out = j.cfg.Stdout
		return nil
	}
	f, err := os.OpenFile(j.cfg.Path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|flags, 0o640)
	if err != nil {
		return j.explain(err)
	}
	if j.file != nil && sameFile(j.file, f) {
		return f.Close() // it was not moved
	}
	if err := j.prepare(f); err != nil {
		_ = f.Close() // nothing was written that counts
		return err
	}
	if j.file != nil {
		_ = j.file.Close() // every line was written as it came
		j.cfg.Logger.Info(j.cfg.What+" go on in a new file", "file", j.cfg.Path)
	}
	j.file, j.out = f, f
	return nil
}

func sameFile(a, b *os.File) bool {
	x, errX := a.Stat()
	y, errY := b.Stat()
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// prepare locks a file and lets the next line begin at the start of one.
func (j *Journal) prepare(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return j.explain(err)
	}
	if !info.Mode().IsRegular() {
		return j.head(f)
	}
	if err := LockFile(f); err != nil {
		return fmt.Errorf("%s: %w; stop that one, or choose another %s", j.cfg.Path, err, j.cfg.Flag)
	}
	if info.Size() == 0 {
		return j.head(f)
	}
	if cutOff(j.cfg.Path, info.Size()) {
		_, err = f.WriteString("\n")
	}
	return j.explain(err)
}

// head writes the heading, if there is one.
func (j *Journal) head(w io.Writer) error {
	if len(j.cfg.Heading) == 0 {
		return nil
	}
	_, err := w.Write(j.cfg.Heading)
	return j.explain(err)
}

// cutOff reports whether a file does not end with a line's end. One that may not
// be read is taken to.
func cutOff(path string, size int64) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // only read
	var last [1]byte
	_, err = f.ReadAt(last[:], size-1)
	return err == nil && last[0] != '\n'
}

func (j *Journal) explain(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: cannot write %s: %w; choose another %s", j.cfg.Path, j.cfg.What, withoutPath(err), j.cfg.Flag)
}

// withoutPath is an error of the file system without the path, which is said
// already.
func withoutPath(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// Write writes whole lines. It always says that it did: what was lost is counted
// and logged.
func (j *Journal) Write(lines []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.out == nil || j.stale {
		j.again()
	}
	if j.out == nil {
		j.lose(lines)
		return len(lines), nil
	}
	n, err := j.out.Write(lines)
	if err != nil {
		whole := bytes.LastIndexByte(lines[:n], '\n') + 1
		j.takeBack(n - whole)
		j.fail(lines[whole:], err)
		return len(lines), nil
	}
	if j.failed != nil {
		j.failed = nil
		j.cfg.Logger.Warn(j.cfg.What+" are written again", "file", j.cfg.Path, "lost", j.lost.Load()-j.before)
	}
	return len(lines), nil
}

// takeBack cuts off so many bytes of a line that did not fit. Where that cannot be,
// the line is ended when the file is opened again.
func (j *Journal) takeBack(bytes int) {
	if bytes == 0 || j.file == nil {
		return
	}
	if info, err := j.file.Stat(); err == nil && info.Mode().IsRegular() {
		_ = j.file.Truncate(info.Size() - int64(bytes)) // see above
	}
}

// again tries to open the file once more, if it is time to.
func (j *Journal) again() {
	now := time.Now()
	if j.closed || now.Before(j.next) {
		return
	}
	j.next = now.Add(retryEvery)
	err := j.open(withoutWaiting)
	j.stale = err != nil && j.out != nil
	if err != nil && j.out == nil {
		j.failed = err
	}
}

// fail begins to lose lines, or goes on to. The file is closed, so that its room
// is free once it is removed.
func (j *Journal) fail(rest []byte, err error) {
	if j.failed == nil {
		j.before = j.lost.Load()
		j.cfg.Logger.Error(j.cfg.What+" are lost until the file can be written again", "file", j.cfg.Path, "error", withoutPath(err))
	}
	j.failed, j.out = withoutPath(err), nil
	j.next = time.Now().Add(retryEvery)
	if j.file != nil {
		_ = j.file.Close() // it has failed already
		j.file = nil
	}
	j.lose(rest)
}

func (j *Journal) lose(lines []byte) { j.lost.Add(uint64(bytes.Count(lines, []byte("\n")))) }

// Flag names the file on the command line.
func (j *Journal) Flag() string { return j.cfg.Flag }

// Lost returns how many lines could not be written so far.
func (j *Journal) Lost() uint64 { return j.lost.Load() }

// Reopen goes on in the file that has the name now: what was moved away is let
// go of, and a new file begun. Where that fails, the old one is written to, and
// it is tried again.
func (j *Journal) Reopen() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	err := j.open(withoutWaiting)
	j.stale = err != nil && j.out != nil
	j.next = time.Now().Add(retryEvery)
	return err
}

// Close closes the file, but not standard output. The error says whether lines
// were being lost.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	var err error
	if j.file != nil {
		err = j.explain(j.file.Close())
		j.file = nil
	}
	j.out = nil
	if j.failed != nil {
		return fmt.Errorf("%s: %d of the %s are lost: %w", j.cfg.Path, j.lost.Load()-j.before, j.cfg.What, j.failed)
	}
	return err
}

// ErrLocked says that a file is in another's hands.
var ErrLocked = errors.New("locked by another process, most likely another nametap that writes to it")
