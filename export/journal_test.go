package export

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func journalAt(t *testing.T, path, heading string, log io.Writer) *Journal {
	t.Helper()
	j, err := OpenJournal(configAt(path, heading, log))
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func configAt(path, heading string, log io.Writer) JournalConfig {
	return JournalConfig{
		Flag: "--flows", What: "flow records", Path: path, Heading: []byte(heading), Logger: slog.New(slog.NewTextHandler(log, nil)),
	}
}

func write(t *testing.T, j *Journal, lines string) {
	t.Helper()
	if n, err := j.Write([]byte(lines)); n != len(lines) || err != nil {
		t.Fatalf("%d bytes written of %d: %v", n, len(lines), err)
	}
}

func holds(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s holds %q (%v), want %q", filepath.Base(path), got, err, want)
	}
}

// TestJournalAppends: what stood in a file stays, and the next line is whole.
func TestJournalAppends(t *testing.T) {
	for name, x := range map[string]struct{ before, heading, want string }{
		"a new file":               {"", "", "c\n"},
		"after whole lines":        {"a\nb\n", "", "a\nb\nc\n"},
		"after one that was cut":   {"a\nb", "", "a\nb\nc\n"},
		"a heading":                {"", "head\n", "head\nc\n"},
		"a heading is there":       {"head\na\n", "head\n", "head\na\nc\n"},
		"a heading that was cut":   {"he", "head\n", "he\nc\n"},
		"an empty line at the end": {"a\n\n", "", "a\n\nc\n"},
	} {
		path := filepath.Join(t.TempDir(), "f")
		if x.before != "" {
			if err := os.WriteFile(path, []byte(x.before), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		j := journalAt(t, path, x.heading, io.Discard)
		write(t, j, "c\n")
		if err := j.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, _ := os.ReadFile(path); string(got) != x.want {
			t.Errorf("%s: %q, want %q", name, got, x.want)
		}
	}
}

// TestJournalReopens: a file that was moved away is let go of; one that was not is
// gone on with.
func TestJournalReopens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	j := journalAt(t, path, "head\n", io.Discard)
	write(t, j, "a\n")
	for range 2 { // nothing was moved
		if err := j.Reopen(); err != nil {
			t.Fatal(err)
		}
	}
	write(t, j, "b\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write(t, j, "c\n")
	if err := j.Reopen(); err != nil {
		t.Fatal(err)
	}
	write(t, j, "d\n")
	holds(t, path+".1", "head\na\nb\nc\n")
	holds(t, path, "head\nd\n")
	if old, err := OpenJournal(configAt(path+".1", "", io.Discard)); err != nil {
		t.Errorf("the old file is still locked: %v", err)
	} else {
		_ = old.Close()
	}
	if _, err := OpenJournal(configAt(path, "", io.Discard)); !errors.Is(err, ErrLocked) {
		t.Errorf("the new file is not locked: %v", err)
	}
	if err := j.Close(); err != nil || j.Lost() != 0 {
		t.Errorf("%v, %d lost", err, j.Lost())
	}
}

// TestJournalIsLocked: a second one of the same file is refused, in one line that
// names it.
func TestJournalIsLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	j := journalAt(t, path, "", io.Discard)
	_, err := OpenJournal(configAt(path, "", io.Discard))
	if !errors.Is(err, ErrLocked) || !strings.HasPrefix(err.Error(), path+": ") || strings.Contains(err.Error(), "\n") {
		t.Errorf("%v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if err := journalAt(t, path, "", io.Discard).Close(); err != nil {
		t.Fatal(err)
	}
}

// TestJournalWhoseNewFileFails: the old file is written to until there is a new one.
func TestJournalWhoseNewFileFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "f")
		j := journalAt(t, path, "", io.Discard)
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
		other := journalAt(t, path, "", io.Discard) // somebody else is faster
		if err := j.Reopen(); !errors.Is(err, ErrLocked) {
			t.Errorf("reopened: %v", err)
		}
		write(t, j, "a\n")
		if err := other.Close(); err != nil {
			t.Fatal(err)
		}
		write(t, j, "b\n") // too soon
		time.Sleep(retryEvery)
		write(t, j, "c\n")
		holds(t, path+".1", "a\nb\n")
		holds(t, path, "c\n")
		if err := j.Close(); err != nil || j.Lost() != 0 {
			t.Errorf("%v, %d lost", err, j.Lost())
		}
	})
}

// TestJournalThatFails: lines are lost and counted, writing is tried again every few
// seconds, and the log says so twice: at the beginning and at the end.
func TestJournalThatFails(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("nothing to stand for a full disk: ", err)
	}
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		dir := t.TempDir()
		path, room := filepath.Join(dir, "f"), filepath.Join(dir, "room")
		if err := os.Symlink("/dev/full", path); err != nil {
			t.Fatal(err)
		}
		j := journalAt(t, path, "", &log)
		write(t, j, "a\nb\n")
		write(t, j, "c\n")
		time.Sleep(retryEvery)
		write(t, j, "d\n")
		if j.Lost() != 4 {
			t.Errorf("%d lost, want 4", j.Lost())
		}
		if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "no space left") {
			t.Errorf("the log says\n%s", log.String())
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		write(t, j, "e\n") // too soon
		time.Sleep(retryEvery)
		write(t, j, "f\n")
		write(t, j, "g\n")
		holds(t, path, "f\ng\n")
		if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "lost=5") || j.Lost() != 5 {
			t.Errorf("%d lost; the log says\n%s", j.Lost(), log.String())
		}
		// A second failure is told again, and the error at the end says so too.
		if err := os.Rename(path, room); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/dev/full", path); err != nil {
			t.Fatal(err)
		}
		if err := j.Reopen(); err != nil {
			t.Fatal(err)
		}
		write(t, j, "h\n")
		if n := strings.Count(log.String(), "are lost until"); n != 2 || j.Lost() != 6 {
			t.Errorf("%d lost; the log says\n%s", j.Lost(), log.String())
		}
		if err := j.Close(); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "1 of the flow records") {
			t.Errorf("closed: %v", err)
		}
	})
}

// TestJournalOnStandardOutput has a heading once, and fails as files do.
func TestJournalOnStandardOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &faulty{}
		cfg := configAt("-", "head\n", io.Discard)
		cfg.Stdout = out
		j, err := OpenJournal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		write(t, j, "a\n")
		out.err = errors.New("gone")
		write(t, j, "b\n")
		out.err = nil
		write(t, j, "c\n") // too soon
		time.Sleep(retryEvery)
		write(t, j, "d\n")
		if got := out.String(); got != "head\na\nd\n" || j.Lost() != 2 {
			t.Errorf("%q, %d lost", got, j.Lost())
		}
		if err := errors.Join(j.Reopen(), j.Close()); err != nil {
			t.Error(err)
		}
	})
}

type faulty struct {
	bytes.Buffer
	err error
}

func (f *faulty) Write(b []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return f.Buffer.Write(b)
}
