package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// daemonRun is a nametap run in the background.
type daemonRun struct {
	log  buffer
	stop context.CancelFunc
	code chan int
}

func (d *daemonRun) start(args ...string) {
	ctx, stop := context.WithCancel(context.Background())
	d.stop, d.code = stop, make(chan int, 1)
	d.code <- execute(ctx, append([]string{"run", "--interface", "tap0", "--listen", "127.0.0.1:0", "--memory", "64M", "--ring", "8M", "--workers", "1"}, args...), io.Discard, &d.log)
}

// says waits until the log has a text.
func (d *daemonRun) says(t *testing.T, text string) {
	t.Helper()
	err := eventually(context.Background(), func() error {
		if strings.Contains(d.log.String(), text) {
			return nil
		}
		return fmt.Errorf("the log does not say %q:\n%s", text, d.log.String())
	})
	if err != nil {
		t.Error(err)
	}
}

// inTaps starts a daemon on a thread that is in the test's network namespace.
func inTaps(t *testing.T, args ...string) *daemonRun {
	t.Helper()
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	d, entered := &daemonRun{}, make(chan error)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		runtime.LockOSThread() // and never unlock: the thread is of no more use
		err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
		_ = ns.Close()
		entered <- err
		if err == nil {
			d.start(args...)
		}
	}()
	if err := <-entered; err != nil {
		t.Fatal(err)
	}
	d.says(t, "msg=capturing")
	t.Cleanup(func() {
		d.stop()
		<-finished
	})
	return d
}

// end stops the daemon and returns its exit status.
func (d *daemonRun) end() int {
	d.stop()
	return <-d.code
}

// outliveHangups keeps a SIGHUP that comes when the daemon is gone from ending the tests.
func outliveHangups(t *testing.T) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(hangups) })
}

// TestRestartKeepsWhatIsWritten: a restart appends to what an earlier run wrote, and
// SIGHUP goes on in a new file where the old one was moved away.
func TestRestartKeepsWhatIsWritten(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	taps(t)
	outliveHangups(t)
	x := &session{fds: senders(t), ask: inside(t)}
	if err := x.load("quiet-hour"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file, ping, state := filepath.Join(dir, "flows.jsonl"), filepath.Join(dir, "ping.csv"), filepath.Join(dir, "state.json")
	const cut = `{"start":"2026-03-01T12:00:0`
	if err := os.WriteFile(file, []byte(cut), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--flows", file, "--ping", ping, "--state", state, "--events", filepath.Join(dir, "events.jsonl")}

	d := inTaps(t, args...)
	for _, flag := range []string{"--flows=" + file, "--ping=" + ping, "--state=" + state, "--events=" + filepath.Join(dir, "events.jsonl")} {
		var errs buffer
		code := execute(context.Background(), []string{"run", "--interface", "tap0", "--listen", "127.0.0.1:0", "--memory", "64M", flag}, io.Discard, &errs)
		_, path, _ := strings.Cut(flag, "=")
		if text := errs.String(); code != 1 || !strings.Contains(text, path) || !strings.Contains(text, "locked") || strings.Count(text, "\n") != 1 {
			t.Errorf("a second run with %s: exit status %d, %s", flag, code, text)
		}
	}
	x.feed(t, d)
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	d.says(t, "rules reloaded")
	if code := d.end(); code != 0 {
		t.Errorf("exit status %d\n%s", code, d.log.String())
	}
	old, err := os.ReadFile(file + ".1")
	if err != nil || string(old) != cut+"\n" {
		t.Errorf("the file that was moved away holds %q (%v)", old, err)
	}
	first := records(t, file)

	d = inTaps(t, args...)
	x.feed(t, d)
	if code := d.end(); code != 0 {
		t.Errorf("exit status %d\n%s", code, d.log.String())
	}
	if both := records(t, file); first < 10 || both != 2*first {
		t.Errorf("%d records, and %d after a restart", first, both)
	}
	if text, err := os.ReadFile(ping); err != nil || strings.Count(string(text), "start,") != 1 || !strings.HasPrefix(string(text), "start,") {
		t.Errorf("not one heading (%v):\n%s", err, text)
	}
}

// feed sends the beginning of the trace, and waits until its connections are known.
func (x *session) feed(t *testing.T, d *daemonRun) {
	t.Helper()
	list := x.trace[:min(len(x.trace), 3000)]
	address := pageAddress.FindStringSubmatch(d.log.String())[1]
	total := uint64(0)
	count := func() (n uint64) {
		for line := range strings.Lines(x.ask(address, "/metrics")) {
			if name, value, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(name, `nametap_capture_packets_total{`) {
				_, _ = fmt.Sscan(value, &n)
			}
		}
		return n
	}
	// An interface that was just set up loses frames until it has a carrier.
	err := eventually(context.Background(), func() error {
		if _, err := unix.Write(x.fds[0], probeFrame); err != nil {
			return err
		}
		if total = count(); total == 0 {
			return errors.New("no probe has come through")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range list {
		if _, err := unix.Write(x.fds[0], f.frame); err != nil {
			t.Fatal(err)
		}
		if i%sentAtOnce == 0 && i > 0 { // wait for them, or the ring may overflow
			_ = count()
		}
	}
	err = eventually(context.Background(), func() error {
		if n := count(); n < total+uint64(len(list)) {
			return fmt.Errorf("%d packets of %d have come", n-total, len(list))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// records returns how many whole records a file has, and nothing else.
func records(t *testing.T, file string) (n int) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var r struct{ Start, Class string }
		if err := json.Unmarshal([]byte(line), &r); err != nil || r.Start == "" {
			t.Errorf("%q is no record: %v", line, err)
		}
		n++
	}
	return n
}

// TestLostRecordsAreCounted: while the disk is full, the daemon captures on, and
// metrics and log say what is lost.
func TestLostRecordsAreCounted(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("nothing to stand for a full disk: ", err)
	}
	taps(t)
	x := &session{fds: senders(t), ask: inside(t)}
	if err := x.load("quiet-hour"); err != nil {
		t.Fatal(err)
	}
	d := inTaps(t, "--flows", "/dev/full", "--dns-stale", "0s")
	x.feed(t, d)
	address := pageAddress.FindStringSubmatch(d.log.String())[1]
	page := x.ask(address, "/metrics")
	for _, output := range []string{"flows", "ping", "events"} {
		if !strings.Contains(page, `nametap_output_lines_lost_total{output="`+output+`"} `) {
			t.Errorf("nothing is said of %s", output)
		}
	}
	if code := d.end(); code != 1 {
		t.Errorf("exit status %d", code)
	}
	text := d.log.String()
	if strings.Count(text, "are lost until") != 1 || !strings.Contains(text, "nametap: /dev/full: ") || strings.Contains(text, ": 0 of the") {
		t.Errorf("the log:\n%s", text)
	}
}

// TestLinkIsTold: an interface that goes down, comes back, or is replaced is told in
// the log, once each.
func TestLinkIsTold(t *testing.T) {
	taps(t)
	d := inTaps(t)
	ip(t, "link set tap0 down")
	d.says(t, `msg="interface is down" interface=tap0`)
	ip(t, "link set tap0 up")
	d.says(t, `msg="interface is up again" interface=tap0`)
	ip(t, "link del tap0")
	ip(t, "link add tap0 type veth peer name far0")
	ip(t, "link set far0 up")
	ip(t, "link set tap0 up")
	d.says(t, `msg="interface is bound again: it is a new one of the same name" interface=tap0`)
	err := eventually(context.Background(), func() error {
		for text, n := range map[string]int{"interface is down": 2, "interface is up again": 2, "interface is bound again": 1} {
			if got := strings.Count(d.log.String(), text); got != n {
				return fmt.Errorf("%q is said %d times, want %d:\n%s", text, got, n, d.log.String())
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
