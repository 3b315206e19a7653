// Package web is what the daemon serves over HTTP: metrics, health, the reload of
// its rules, the page with the interface behind it, and profiles where they are
// asked for. It binds to loopback unless told otherwise, bounds every request in
// time and size, and speaks TLS with authentication where a Prometheus web
// configuration file asks for it.
package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	toolkit "github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v3"

	"github.com/nametap/nametap/analysis/forecast/live"
	"github.com/nametap/nametap/watch"
)

// Config of a Server.
type Config struct {
	// Listen is the address, host and port.
	Listen string
	// ConfigFile is a Prometheus web configuration (TLS, basic
	// authentication); empty for plain HTTP.
	ConfigFile string
	// Metrics serves /metrics.
	Metrics http.Handler
	// Watch is what the page at / and /api/v1 show; nil serves neither.
	Watch *watch.Watcher
	// Forecasts tells what is expected of the classes; nil shows none.
	Forecasts func() []live.Class
	// Title heads the page; empty for "nametap".
	Title string
	// Profiling serves /debug/pprof/ as well: who may look there learns what
	// the process does and holds.
	Profiling bool
	// Down names the interfaces that are down or gone, for /readyz; nil where
	// there are none that could be.
	Down func() []string
	// Reload reads the rules anew; nil refuses.
	Reload func() error
	Logger *slog.Logger
}

// Server serves until it is shut down.
type Server struct {
	cfg      Config
	listener net.Listener
	http     *http.Server
	tls      bool
	ready    atomic.Bool
	done     chan error

	bounds    bounds
	listeners chan struct{} // places of those who listen for news
	ending    chan struct{} // closed when the server shuts down
}

// Bounds on a request. A scrape takes milliseconds; a client that is slower than
// this is broken or hostile.
type bounds struct {
	header, read, write, idle time.Duration
	// beat is the time after which a stream without news says that it is still
	// there: it keeps middle boxes from closing it, tells us who is gone, and a
	// page that we are there.
	beat time.Duration
}

var usual = bounds{header: 5 * time.Second, read: 10 * time.Second, write: 30 * time.Second, idle: 2 * time.Minute, beat: 15 * time.Second}

const (
	headerBytes = 16 << 10
	bodyBytes   = 64 << 10
)

// Start listens and serves in the background.
func Start(cfg Config) (*Server, error) { return start(cfg, usual) }

func start(cfg Config, limits bounds) (*Server, error) {
	if err := toolkit.Validate(cfg.ConfigFile); err != nil {
		return nil, invalid(cfg.ConfigFile, err)
	}
	tls, err := encrypts(cfg.ConfigFile)
	if err != nil {
		return nil, invalid(cfg.ConfigFile, err)
	}
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("cannot serve HTTP: %w; choose another --listen", err)
	}
	if at, ok := listener.Addr().(*net.TCPAddr); ok && at.IP.IsUnspecified() {
		level := slog.LevelWarn
		if cfg.ConfigFile != "" {
			level = slog.LevelInfo
		}
		cfg.Logger.Log(context.Background(), level, "HTTP is served on all addresses of this machine", "listen", cfg.Listen, "web_config", cfg.ConfigFile)
	}
	s := &Server{
		cfg: cfg, listener: listener, tls: tls, done: make(chan error, 1),
		bounds: limits, listeners: make(chan struct{}, mostListeners), ending: make(chan struct{}),
	}
	s.http = &http.Server{
		Handler:           http.MaxBytesHandler(http.NewCrossOriginProtection().Handler(s.routes()), bodyBytes),
		ReadHeaderTimeout: limits.header,
		ReadTimeout:       limits.read,
		WriteTimeout:      limits.write,
		IdleTimeout:       limits.idle,
		MaxHeaderBytes:    headerBytes,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelDebug),
	}
	s.http.RegisterOnShutdown(func() { close(s.ending) })
	go func() {
		flags := &toolkit.FlagConfig{WebConfigFile: &cfg.ConfigFile}
		s.done <- toolkit.Serve(listener, s.http, flags, quiet(cfg.Logger))
	}()
	return s, nil
}

// quiet keeps the toolkit's start-up chatter out of a log that says so itself.
func quiet(l *slog.Logger) *slog.Logger { return slog.New(warnings{l.Handler()}) }

type warnings struct{ slog.Handler }

func (w warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && w.Handler.Enabled(ctx, level)
}

// Addr is where the server listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// URL is the page's address, for somebody on this machine: one that listens on all
// addresses has none of its own.
func (s *Server) URL() string {
	scheme, at := "http", s.Addr()
	if s.tls {
		scheme = "https"
	}
	if tcp, ok := s.listener.Addr().(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		at = net.JoinHostPort("localhost", strconv.Itoa(tcp.Port))
	}
	return scheme + "://" + at + "/"
}

// encrypts reports whether a web configuration, which is valid, asks for TLS.
func encrypts(path string) (bool, error) {
	if path == "" {
		return false, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	var c toolkit.Config
	err = yaml.Unmarshal(text, &c)
	return c.TLSConfig.IsEnabled(), err
}

// yamlProblem is what the YAML library says of a value that does not fit, in the terms
// of Go.
var yamlProblem = regexp.MustCompile("(?s)^yaml: (?:unmarshal errors:\\s*)?line (\\d+): (?:field (\\S+) not found in type \\S+|cannot unmarshal \\S+ `(.*?)` into \\S+|([^\n]*))")

// invalid says what is wrong with a web configuration, in one line.
func invalid(path string, err error) error {
	const what = "not a valid web configuration"
	m := yamlProblem.FindStringSubmatch(err.Error())
	switch {
	case m == nil:
		return fmt.Errorf("%s: %s: %w", path, what, err)
	case m[2] != "":
		return fmt.Errorf("%s:%s: %s: unknown key %q", path, m[1], what, m[2])
	case m[3] != "":
		return fmt.Errorf("%s:%s: %s: %q cannot stand there", path, m[1], what, m[3])
	}
	return fmt.Errorf("%s:%s: %s: %s", path, m[1], what, m[4])
}

// SetReady says whether /readyz answers that packets are being worked, as long as no
// interface is down.
func (s *Server) SetReady(ready bool) { s.ready.Store(ready) }

// Shutdown ends the server, letting requests that are under way finish.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close()
	}
	if err := <-s.done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.cfg.Metrics)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "alive") })
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("POST /-/reload", s.reload)
	if s.cfg.Watch != nil {
		mux.Handle("GET /{$}", newPage(&s.cfg))
		mux.Handle("GET /assets/", asset())
		s.api(mux)
	}
	if s.cfg.Profiling {
		profiles(mux)
	}
	return mux
}

// profiles serves what net/http/pprof serves. A profile that takes longer than a
// request may has its bound extended by that package.
func profiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	if !s.ready.Load() {
		answer(w, http.StatusServiceUnavailable, "not capturing")
		return
	}
	if s.cfg.Down != nil {
		if down := s.cfg.Down(); len(down) > 0 {
			answer(w, http.StatusServiceUnavailable, "not capturing from "+strings.Join(down, ", ")+": down, without a carrier or gone")
			return
		}
	}
	source := watch.Live
	if s.cfg.Watch != nil {
		source = s.cfg.Watch.Source()
	}
	switch source {
	case watch.Ended:
		answer(w, http.StatusServiceUnavailable, "not capturing: the traffic has ended")
	case watch.CatchingUp:
		answer(w, http.StatusOK, "capturing, still catching up")
	default:
		answer(w, http.StatusOK, "capturing")
	}
}

func (s *Server) reload(w http.ResponseWriter, _ *http.Request) {
	if s.cfg.Reload == nil {
		answer(w, http.StatusForbidden, "nothing to reload")
		return
	}
	if err := s.cfg.Reload(); err != nil {
		answer(w, http.StatusUnprocessableEntity, err.Error())
		return
	}
	answer(w, http.StatusOK, "reloaded")
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintln(w, text) // the client may be gone
}
