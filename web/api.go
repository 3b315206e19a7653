package web

import (
	"encoding/json"
	"net/http"
)

// api serves what the watcher says as JSON. docs/api.md describes it.
func (s *Server) api(mux *http.ServeMux) {
	w := s.cfg.Watch
	mux.HandleFunc("GET /api/v1/summary", func(rw http.ResponseWriter, _ *http.Request) { reply(rw, http.StatusOK, w.Summary()) })
	mux.HandleFunc("GET /api/v1/events", func(rw http.ResponseWriter, _ *http.Request) { reply(rw, http.StatusOK, w.Events()) })
	mux.HandleFunc("GET /api/v1/health", func(rw http.ResponseWriter, _ *http.Request) { reply(rw, http.StatusOK, w.Health()) })
	mux.HandleFunc("GET /api/v1/series", func(rw http.ResponseWriter, r *http.Request) {
		span, ok := spanOf(r, usualSpan)
		if !ok {
			reply(rw, http.StatusBadRequest, problem{"range is one of " + spanNames()})
			return
		}
		reply(rw, http.StatusOK, w.Series(span.Long, r.URL.Query().Get("app")))
	})
	mux.HandleFunc("GET /api/v1/forecast", func(rw http.ResponseWriter, _ *http.Request) { reply(rw, http.StatusOK, s.forecast()) })
	mux.HandleFunc("GET /api/v1/stream", s.stream)
}

// problem is an answer to a request that cannot be met.
type problem struct {
	Error string `json:"error"`
}

func reply(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		answer(w, http.StatusInternalServerError, "the answer could not be made")
		return
	}
	h := w.Header()
	secure(h)
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client may be gone
}
