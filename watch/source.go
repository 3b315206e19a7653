package watch

import "time"

// Source is how the traffic comes: a closed list.
type Source uint8

// Sources.
const (
	// Live: as it passes.
	Live Source = iota
	// CatchingUp: what has been is played as fast as it can be, up to a time.
	CatchingUp
	// Ended: no more comes.
	Ended
)

// String returns the source as the API spells it.
func (s Source) String() string { return [...]string{"live", "catching_up", "ended"}[s] }

// SetSource says how the traffic comes from now on. Of CatchingUp until is the
// packet time up to which; else it is the zero time.
func (w *Watcher) SetSource(s Source, until time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.source, w.until = s, 0
	if !until.IsZero() {
		w.until = until.UnixNano()
	}
	w.announce()
}

// Source returns how the traffic comes.
func (w *Watcher) Source() Source {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.source
}
