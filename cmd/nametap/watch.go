package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/nametap/nametap/analysis/forecast/live"
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
	events    *os.File
	log       *slog.Logger
	failed    bool // a file could not be written; it has been said
}

func (l *lookout) registerWatch(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&l.statePath, "state", "", "keep what is usual, the last two days and the events in `FILE`, over restarts")
	f.StringVar(&l.eventsPath, "events", "", "append outages as they begin, change and end to `FILE`, as JSON Lines")
}

// snapshotsAhead is how many snapshots may wait, ten seconds of packet time each.
const snapshotsAhead = 16

// watch lets the engine that is built from cfg be watched. It is to be called
// before anything else that wants its snapshots.
func (l *lookout) watch(cfg *probe.Config, log *slog.Logger) error {
	l.log = log
	l.watcher, l.outlook = watch.New(l.tell), live.New()
	if err := l.load(); err != nil {
		return err
	}
	if l.eventsPath != "" {
		f, err := os.OpenFile(l.eventsPath, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
		if err != nil {
			return fmt.Errorf("%s: cannot write events: %w; choose another --events", l.eventsPath, cause(err))
		}
		l.events = f
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
		if n := s.Time / int64(watch.Coarse); n != bin && time.Since(saved) >= leastBetweenSaves {
			bin, saved = n, time.Now()
			l.keep()
		}
	}
	err := l.save()
	if l.events != nil {
		err = oneLine(err, l.events.Close())
	}
	l.done <- err
}

// finish saves the state. The engine is done.
func (l *lookout) finish() error {
	close(l.snapshots)
	return <-l.done
}

// keep saves the state while the daemon runs. When that fails (a full disk), it
// says so once and goes on.
func (l *lookout) keep() {
	if err := l.save(); err != nil && !l.failed {
		l.failed = true
		l.log.Error("what was learned is not kept", "error", err)
	}
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
		"app", e.App, "group", e.Group, "verdict", e.Verdict, "classes", e.Classes, "start", watch.Stamp(e.Start), "reasons", e.Reasons,
	}
	if e.ReasonsFrom != 0 {
		attributes = append(attributes, "reasons_from", watch.Stamp(e.ReasonsFrom))
	}
	l.log.Log(context.Background(), level, what, attributes...)
	if l.events == nil {
		return
	}
	line, err := json.Marshal(e)
	if err == nil {
		_, err = l.events.Write(append(line, '\n'))
	}
	if err != nil && !l.failed {
		l.failed = true
		l.log.Error("no more events are written", "error", err)
	}
}

// load reads the state of an earlier run. That there is none yet is no error; one
// that cannot be read is, or it would be written over.
func (l *lookout) load() error {
	if l.statePath == "" {
		return nil
	}
	b, err := os.ReadFile(l.statePath)
	if errors.Is(err, fs.ErrNotExist) {
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

// save writes the state beside the old one and then in its place, so that there
// is always a whole one.
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
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), l.statePath)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("%s: cannot write the state: %w; choose another --state", l.statePath, cause(err))
	}
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
