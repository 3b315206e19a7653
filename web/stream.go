package web

import (
	"fmt"
	"net/http"
	"time"
)

const (
	// mostListeners is how many may listen for news at the same time.
	mostListeners = 32
	// breath is the least time between two pieces of news: a demonstration in
	// quick motion has many a second.
	breath = time.Second
)

// stream tells of news as server-sent events (WHATWG HTML, section 9.2): one
// named news whenever there is a newer state to fetch, and one named still where
// there was none for a while. It lives until the client leaves or the server ends,
// so the bounds on a request are lifted; instead each write has one.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	select {
	case s.listeners <- struct{}{}:
		defer func() { <-s.listeners }()
	default:
		w.Header().Set("Retry-After", "30")
		answer(w, http.StatusServiceUnavailable, "too many listen already")
		return
	}
	control := http.NewResponseController(w)
	if control.SetReadDeadline(time.Time{}) != nil || control.SetWriteDeadline(time.Time{}) != nil {
		answer(w, http.StatusInternalServerError, "no stream over this connection")
		return
	}
	h := w.Header()
	secure(h)
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	send := func(format string, args ...any) bool {
		if control.SetWriteDeadline(time.Now().Add(s.bounds.write)) != nil {
			return false
		}
		_, err := fmt.Fprintf(w, format, args...)
		return err == nil && control.Flush() == nil
	}
	told := uint64(0)
	beat := time.NewTicker(s.bounds.beat)
	defer beat.Stop()
	for {
		version, newer := s.cfg.Watch.News()
		if version != told {
			if !send("event: news\nid: %d\ndata: {\"version\":%d}\n\n", version, version) {
				return
			}
			told = version
			if !s.pause(r, breath) {
				return
			}
			continue
		}
		select {
		case <-newer:
		case <-beat.C:
			if !send("event: still\ndata: {}\n\n") {
				return
			}
		case <-r.Context().Done():
			return
		case <-s.ending:
			return
		}
	}
}

// pause waits, and reports whether there is a reason to go on.
func (s *Server) pause(r *http.Request, long time.Duration) bool {
	t := time.NewTimer(long)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
		return false
	case <-s.ending:
		return false
	}
}
