package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/export"
	"github.com/nametap/nametap/probe"
	"github.com/nametap/nametap/watch"
)

// follow lets a lookout see some hours in which whatsapp fails from failing on,
// and returns what it logged.
func follow(t *testing.T, l *lookout, start time.Time, long, failing time.Duration) string {
	t.Helper()
	var log bytes.Buffer
	var cfg probe.Config
	if err := l.watch(&cfg, io.Discard, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Fatal(err)
	}
	if cfg.WatchEvery != watch.Fine {
		t.Fatalf("a snapshot every %v", cfg.WatchEvery)
	}
	c := probe.ClassSnapshot{ClassInfo: classify.ClassInfo{App: "whatsapp", Class: "chat"}, ActiveSubscribers: 100}
	frames := uint64(1)
	for at := time.Duration(0); at < long; at += watch.Fine {
		now := start.Add(at).UnixNano()
		cfg.Watch(&probe.Snapshot{
			Time: now, First: start.UnixNano(), Last: now, Frames: frames,
			Classes: []probe.ClassSnapshot{{ClassInfo: classify.ClassInfo{App: "other", Class: "other"}}, c},
		})
		n := uint64(20)
		if at >= failing {
			n = 100
		} else {
			c.Carried += n
		}
		frames += 100
		c.Opened += n
		c.Attempts += n
		c.SYN += n
		c.SYNACK += n
		c.Bytes[0] += 10_000
		c.Bytes[1] += 10_000
	}
	if err := l.finish(); err != nil {
		t.Fatal(err)
	}
	return log.String()
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// TestLookout: events go to their file and the log, and what was learned to the
// state, from which the next run goes on.
func TestLookout(t *testing.T) {
	dir := t.TempDir()
	l := lookout{statePath: filepath.Join(dir, "state.json"), eventsPath: filepath.Join(dir, "events.jsonl")}
	first := l
	log := follow(t, &first, noon, 4*time.Hour, 3*time.Hour)
	if strings.Count(log, "level=WARN msg=outage app=whatsapp") != 1 {
		t.Errorf("log:\n%s", log)
	}
	second := l
	log = follow(t, &second, noon.Add(4*time.Hour+time.Minute), 2*time.Hour, 0)
	if log != "" {
		t.Errorf("the outage goes on, and the log says:\n%s", log)
	}
	third := l
	log = follow(t, &third, noon.Add(7*time.Hour), 2*time.Hour, 2*time.Hour)
	for line := range strings.Lines(log) {
		if !strings.Contains(line, "outage: ") || !strings.Contains(line, " end=2") || strings.Contains(line, "reasons") ||
			strings.Contains(line, "outage: recovered") != strings.Contains(line, " recovery_end=2") {
			t.Errorf("of the end the log says\n%s", line)
		}
	}
	if strings.Count(log, "outage: over") != 1 {
		t.Errorf("of the end the log says\n%s", log)
	}
	b, err := os.ReadFile(l.eventsPath)
	if err != nil {
		t.Fatal(err)
	}
	var states, ids []string
	for line := range strings.Lines(string(b)) {
		var e struct{ ID, State string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		states, ids = append(states, e.State), append(ids, e.ID)
	}
	if strings.Join(states, " ") != "lasts over" || ids[0] != ids[1] {
		t.Errorf("events %v of %v", states, ids)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("%v is left behind (%v)", left, err)
	}
}

func TestLookoutRefuses(t *testing.T) {
	dir := t.TempDir()
	odd := filepath.Join(dir, "odd.json")
	if err := os.WriteFile(odd, []byte("not a state"), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "no", "such")
	for name, l := range map[string]*lookout{
		"a state that is none":        {statePath: odd},
		"a state that is a directory": {statePath: dir},
		"a state in no directory":     {statePath: missing},
		"events in no directory":      {eventsPath: missing},
	} {
		var cfg probe.Config
		err := l.watch(&cfg, io.Discard, slog.New(slog.DiscardHandler))
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		text := err.Error()
		if strings.Contains(text, "\n") || !strings.Contains(text, l.statePath+l.eventsPath) || strings.Count(text, dir) != 1 {
			t.Errorf("%s: %q: one line that names the file, once", name, text)
		}
	}
	if b, err := os.ReadFile(odd); err != nil || string(b) != "not a state" {
		t.Errorf("a state that cannot be read was written over: %s", b)
	}
}

// TestServesNobodyElse: HTTP is on loopback, and profiles are off, unless asked for.
func TestServesNobodyElse(t *testing.T) {
	for name, cmd := range map[string]*cobra.Command{"run": newRun(), "demo": newDemo()} {
		if got := cmd.Flag("listen").DefValue; !strings.HasPrefix(got, "127.0.0.1:") {
			t.Errorf("%s listens on %s", name, got)
		}
	}
	if got := newRun().Flag("pprof").DefValue; got != "false" {
		t.Errorf("profiles are %s", got)
	}
}

// TestStateThatFails: that the state cannot be written is told once, and when it can
// again; the file is locked all the time.
func TestStateThatFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	var cfg probe.Config
	l := lookout{statePath: filepath.Join(dir, "state.json")}
	if err := l.watch(&cfg, io.Discard, slog.New(slog.NewTextHandler(&log, nil))); err != nil {
		t.Fatal(err)
	}
	close(l.snapshots) // nobody else saves
	if err := <-l.done; err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	l.keep()
	l.keep()
	if n := strings.Count(log.String(), "what was learned is not kept"); n != 1 {
		t.Errorf("said %d times:\n%s", n, log.String())
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	l.keep()
	l.keep()
	if n := strings.Count(log.String(), "what was learned is kept again"); n != 1 || strings.Count(log.String(), "\n") != 2 {
		t.Errorf("the log says\n%s", log.String())
	}
	second := lookout{statePath: l.statePath}
	err := second.watch(&cfg, io.Discard, slog.New(slog.DiscardHandler))
	if !errors.Is(err, export.ErrLocked) || !strings.HasPrefix(err.Error(), l.statePath) {
		t.Errorf("a second one: %v", err)
	}
	_ = l.lock.Close()
	if err := second.watch(&cfg, io.Discard, slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("when the first is over: %v", err)
	} else if err := second.finish(); err != nil {
		t.Error(err)
	}
}
