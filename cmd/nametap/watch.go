package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/nametap/nametap/analysis/forecast/live"
	"github.com/nametap/nametap/export"
	"github.com/nametap/nametap/probe"
	"github.com/nametap/nametap/watch"
)

// lookout is what run and demo do to watch for outages: snapshots go to a
// goroutine of their own, which keeps the state and the events in files.
type lookout struct {
	statePath, eventsPath string

	watcher   *watch.Watcher
	outlook   *live.Forecaster
	snapshots chan *probe.Snapshot
	done      chan error
	events    *export.Journal // nil without
	lock      *os.File        // the state, locked; nil without
	log       *slog.Logger
	failed    bool // the state could not be written; it has been said
}

// outputs are the files that are written.
func (l *lookout) outputs() []named {
	return []named{{flag: "--state", path: l.statePath}, {flag: "--events", path: l.eventsPath}}
}

func (l *lookout) registerWatch(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&l.statePath, "state", "", "keep what is usual, the last two days and the events in `FILE`, over restarts")
	f.StringVar(&l.eventsPath, "events", "", "append outages as they begin, change and end to `FILE`, as JSON Lines; - is standard output")
}

// snapshotsAhead is how many snapshots may wait, ten seconds of packet time each.
const snapshotsAhead = 16

// watch lets the engine that is built from cfg be watched. It is to be called
// before anything else that wants its snapshots.
func (l *lookout) watch(cfg *probe.Config, stdout io.Writer, log *slog.Logger) error {
	l.log = log
	l.watcher, l.outlook = watch.New(l.tell), live.New()
	if err := l.load(); err != nil {
		return err
	}
	if l.eventsPath != "" {
		var err error
		l.events, err = export.OpenJournal(export.JournalConfig{
			Flag: "--events", What: "events", Path: l.eventsPath, Stdout: stdout, Logger: log,
		})
		if err != nil {
			return err
		}
	}
	l.snapshots = make(chan *probe.Snapshot, snapshotsAhead)
	l.done = make(chan error, 1)
	cfg.WatchEvery = watch.Fine
	live := cfg.Clock != nil
	cfg.Watch = func(s *probe.Snapshot) {
		if !live {
			l.snapshots <- s
			return
		}
		select {
		case l.snapshots <- s:
		default: // the next one has it all
		}
	}
	go l.follow()
	return nil
}

// leastBetweenSaves is on the wall's clock.
const leastBetweenSaves = 10 * time.Second

func (l *lookout) follow() {
	bin, saved := int64(0), time.Now()
	for s := range l.snapshots {
		l.outlook.Observe(s) // first: the watcher calls those who look at both
		l.watcher.Observe(s)
		// In quick motion there is a bin each second, and no need to save it.
		if n := s.Time / int64(watch.Coarse); (n != bin || l.failed) && time.Since(saved) >= leastBetweenSaves {
			bin, saved = n, time.Now()
			l.keep()
		}
	}
	err := l.save()
	if l.events != nil {
		err = oneLine(err, l.events.Close())
	}
	if l.lock != nil {
		_ = l.lock.Close() // what is in it was written before
	}
	l.done <- err
}

// finish saves the state. The engine is done.
func (l *lookout) finish() error {
	close(l.snapshots)
	return <-l.done
}

// keep saves the state while the daemon runs. When that fails (a full disk), it
// says so, tries again every ten seconds of packet time, and says when it is over.
func (l *lookout) keep() {
	err := l.save()
	switch {
	case err != nil && !l.failed:
		l.log.Error("what was learned is not kept", "error", err)
	case err == nil && l.failed:
		l.log.Warn("what was learned is kept again", "file", l.statePath)
	}
	l.failed = err != nil
}

// tell is told of an event.
func (l *lookout) tell(e watch.Event) {
	what, level := "outage", slog.LevelWarn
	if e.App == "" {
		what = "the tap is blind"
	}
	if e.End != 0 {
		what, level = what+": "+e.State(), slog.LevelInfo
	}
	attributes := []any{
		"app", e.App, "group", e.Group, "verdict", e.Verdict, "classes", strings.Join(e.Classes, ","), "start", watch.Stamp(e.Start),
	}
	at := func(key string, ns int64) {
		if ns != 0 {
			attributes = append(attributes, key, watch.Stamp(ns))
		}
	}
	if e.End == 0 { // the reasons of its beginning have been told once it is over
		attributes = append(attributes, "reasons", strings.Join(e.Reasons, "; "))
		at("reasons_from", e.ReasonsFrom)
	}
	at("end", e.End)
	at("recovery_end", e.RecoveryEnd)
	l.log.Log(context.Background(), level, what, attributes...)
	if l.events == nil {
		return
	}
	line, err := json.Marshal(e)
	if err == nil {
		_, err = l.events.Write(append(line, '\n')) // which counts and says what is lost
	}
	if err != nil {
		l.log.Error("an event is not written", "error", err)
	}
}

// load locks the state and reads that of an earlier run. That there is none yet is
// no error; one that cannot be read is, or it would be written over.
func (l *lookout) load() error {
	if l.statePath == "" {
		return nil
	}
	lock, err := lockState(l.statePath)
	if err != nil {
		return err
	}
	l.lock = lock
	b, err := os.ReadFile(l.statePath)
	if err == nil && len(b) == 0 {
		return l.save() // or say now that it cannot be written
	}
	if err != nil {
		return fmt.Errorf("%s: cannot read the state: %w", l.statePath, cause(err))
	}
	if err := json.Unmarshal(b, l.watcher); err != nil {
		return fmt.Errorf("%s: not a state that can be used: %w; move it away to begin anew", l.statePath, err)
	}
	return nil
}

// lockState locks the state's file, which is made where there is none. Whoever has
// it locked may put a new one in its place: then that one's lock counts.
func lockState(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("%s: cannot read or make the state: %w; choose another --state", path, cause(err))
		}
		err = export.LockFile(f)
		if err != nil {
			_ = f.Close() // only read
			return nil, fmt.Errorf("%s: %w; stop that one, or choose another --state", path, err)
		}
		opened, err := f.Stat()
		if err == nil {
			var there os.FileInfo
			if there, err = os.Stat(path); err == nil && os.SameFile(opened, there) {
				return f, nil
			}
		}
		_ = f.Close() // only read
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: cannot read the state: %w", path, cause(err))
		}
	}
}

// save writes the state beside the old one and then in its place, so that there
// is always a whole one. The new file is locked before it can be found.
func (l *lookout) save() error {
	if l.statePath == "" {
		return nil
	}
	b, err := json.Marshal(l.watcher)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(l.statePath), filepath.Base(l.statePath)+".*")
	if err != nil {
		return fmt.Errorf("%s: cannot write the state: %w; choose another --state", l.statePath, cause(err))
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = export.LockFile(f)
	}
	if err == nil {
		err = os.Rename(f.Name(), l.statePath)
	}
	if err != nil {
		_ = f.Close() // it goes
		_ = os.Remove(f.Name())
		return fmt.Errorf("%s: cannot write the state: %w; choose another --state", l.statePath, cause(err))
	}
	_ = l.lock.Close() // that of the file that was replaced
	l.lock = f
	return nil
}

// cause is an error of the file system without the path, which is said already.
func cause(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		return link.Err
	}
	return err
}
