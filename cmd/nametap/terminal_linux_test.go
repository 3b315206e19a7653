package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// terminal opens a pseudoterminal: what is written to tty can be read from screen
// (pts(4)).
func terminal(t *testing.T) (screen, tty *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudoterminals here: %v", err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	var number int
	raw, err := screen.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudoterminals here: %v", err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	if _, err := term.MakeRaw(int(tty.Fd())); err != nil {
		t.Fatal(err)
	}
	return screen, tty
}

// TestReportOnATerminal: nobody reads a page for a browser there; one who says so
// gets it, and numbers are for whoever wants them.
func TestReportOnATerminal(t *testing.T) {
	_, records := tracedInputs(t)
	page := t.TempDir() + "/report.html"
	for _, c := range []struct {
		args string
		code int
		told string
		sent bool
	}{
		{"", exitUsage, "add -o report.html", false},
		{"--format html", exitUsage, "add -o report.html", false},
		{"-o -", exitDone, "", true},
		{"--format json", exitDone, "", true},
		{"-o " + page, exitDone, "", false},
	} {
		t.Setenv("XDG_CONFIG_HOME", t.TempDir())
		screen, tty := terminal(t)
		shown := make(chan int)
		go func() {
			n, buf := 0, make([]byte, 4096)
			for {
				k, err := screen.Read(buf) // EIO when the other end is closed
				if n += k; err != nil {
					shown <- n
					return
				}
			}
		}()
		var errs bytes.Buffer
		code := execute(context.Background(), append([]string{"report", records}, strings.Fields(c.args)...), tty, &errs)
		_ = tty.Close()
		n := <-shown
		if code != c.code || !strings.Contains(errs.String(), c.told) || (n > 0) != c.sent || strings.Count(errs.String(), "\n") > 1 {
			t.Errorf("%q: status %d, %d bytes shown, %q", c.args, code, n, errs.String())
		}
	}
}

// TestProgress: the bar shows how far reading is, and is gone afterwards; what is
// no terminal gets none.
func TestProgress(t *testing.T) {
	var none bytes.Buffer
	progress(&none, 1000, func() int64 { t.Error("asked for progress that nobody sees"); return 0 })()
	screen, tty := terminal(t)
	progress(tty, 0, func() int64 { t.Error("asked for progress of unknown size"); return 0 })()
	stop := progress(tty, 1000, func() int64 { return 370 })
	if err := screen.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Skipf("a read of a pseudoterminal cannot be bounded here: %v", err)
	}
	var seen strings.Builder
	buf := make([]byte, 4096)
	for !strings.Contains(seen.String(), "37%") {
		n, err := screen.Read(buf)
		if err != nil {
			t.Fatalf("%q, %v", seen.String(), err)
		}
		seen.Write(buf[:n])
	}
	go func() { stop(); _ = tty.Close() }()
	for {
		n, err := screen.Read(buf)
		seen.Write(buf[:n])
		if err != nil {
			break
		}
	}
	if text := seen.String(); !strings.Contains(text, "reading") || strings.TrimSpace(text[strings.LastIndex(text, "\r"):]) != "" || none.Len() > 0 {
		t.Errorf("left on the terminal: %q", text)
	}
}
