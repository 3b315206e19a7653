package web

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestProfiling: profiles are there where they are asked for, and only there.
func TestProfiling(t *testing.T) {
	paths := []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/heap", "/debug/pprof/goroutine?debug=1", "/debug/pprof/symbol"}
	f := newFeed()
	for _, path := range paths {
		if rec := get(t, f.handler(), path); rec.Code != http.StatusNotFound {
			t.Errorf("%s: %d, and nobody asked for it", path, rec.Code)
		}
	}
	cfg := f.config()
	cfg.Profiling = true
	asked := (&Server{cfg: cfg, bounds: usual}).routes()
	for _, path := range paths {
		if rec := get(t, asked, path); rec.Code != http.StatusOK || rec.Body.Len() == 0 {
			t.Errorf("%s: %d", path, rec.Code)
		}
	}
}

// TestProfileOutlivesTheBound: a profile may take longer than a request.
func TestProfileOutlivesTheBound(t *testing.T) {
	cfg := newFeed().config()
	cfg.Profiling = true
	s, err := start(cfg, bounds{header: time.Second, read: 100 * time.Millisecond, write: 100 * time.Millisecond, idle: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, s)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + s.Addr() + "/debug/pprof/trace?seconds=0.5")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || len(b) == 0 {
		t.Errorf("%s, %d bytes, %v", resp.Status, len(b), err)
	}
}

// certificate writes one for 127.0.0.1, with its key, into a folder.
func certificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		b := pem.EncodeToMemory(block)
		pool.AppendCertsFromPEM(b) // of the key it takes nothing
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return pool
}

// The bcrypt hash of the password "open sesame".
const webConfig = `
tls_server_config:
  cert_file: cert.pem
  key_file: key.pem
basic_auth_users:
  prometheus: $2a$04$x.eEUSw0t4hf2it3CFZGde6qfwymSbaMmEOe2rB6damvC2.hyyPnO
`

// TestTLSAndPassword: with a web configuration nothing is served without either,
// profiles and the stream included.
func TestTLSAndPassword(t *testing.T) {
	dir := t.TempDir()
	pool := certificate(t, dir)
	cfg := newFeed().config()
	cfg.ConfigFile, cfg.Profiling = filepath.Join(dir, "web.yml"), true
	if err := os.WriteFile(cfg.ConfigFile, []byte(webConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := start(cfg, usual)
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, s)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool}}}
	ask := func(path, password string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+s.Addr()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if password != "" {
			req.SetBasicAuth("prometheus", password)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	if want := "https://" + s.Addr() + "/"; s.URL() != want {
		t.Errorf("the page is at %s, want %s", s.URL(), want)
	}
	for _, path := range []string{"/", "/healthz", "/metrics", "/api/v1/summary", "/api/v1/stream", "/assets/style.css", "/debug/pprof/"} {
		for _, password := range []string{"", "wrong"} {
			if got := ask(path, password); got != http.StatusUnauthorized {
				t.Errorf("%s with password %q: %d", path, password, got)
			}
		}
	}
	for _, path := range []string{"/", "/healthz", "/api/v1/summary", "/debug/pprof/"} {
		if got := ask(path, "open sesame"); got != http.StatusOK {
			t.Errorf("%s: %d", path, got)
		}
	}
	resp, err := http.Get("http://" + s.Addr() + "/healthz")
	if err != nil {
		return // refused, as it may be
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		t.Error("served without TLS")
	}
}

func TestBadConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.yml")
	if err := os.WriteFile(path, []byte("tls_server_config:\n  nothing: here\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(c *Config){
		"a key that is none": func(c *Config) { c.ConfigFile = path },
		"no such file":       func(c *Config) { c.ConfigFile = path + ".none" },
		"no such address":    func(c *Config) { c.Listen = "127.0.0.1:99999" },
	} {
		cfg := newFeed().config()
		change(&cfg)
		s, err := Start(cfg)
		if err == nil {
			stop(t, s)
			t.Errorf("%s: started", name)
		}
	}
}

// TestBounds: who is slow is cut off, whichever way he is slow.
func TestBounds(t *testing.T) {
	given := make(chan error, 1)
	endless := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for block := make([]byte, 1<<20); ; {
			if _, err := w.Write(block); err != nil {
				given <- err
				return
			}
		}
	})
	cfg := newFeed().config()
	cfg.Metrics = endless
	const short = 100 * time.Millisecond
	s, err := start(cfg, bounds{header: short, read: short, write: short, idle: short})
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, s)
	tests := []struct {
		name, send string
		answer     string // what it begins with, before the end
	}{
		{"a header that does not end", "GET / HTTP/1.1\r\nHost: x\r\nA: ", ""},
		{"nothing at all", "", ""},
		{"a body that does not come", "POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n", ""},
		{"nothing after an answer", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200"},
		{"a header that is too long", "GET /healthz HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 2*headerBytes) + "\r\n\r\n", "HTTP/1.1 431"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", s.Addr())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			if _, err := io.WriteString(conn, tt.send); err != nil {
				t.Fatal(err)
			}
			answer := bufio.NewReader(conn)
			first, err := answer.Peek(len(tt.answer))
			if err != nil || string(first) != tt.answer {
				t.Errorf("answers %q, %v", first, err)
			}
			// It ends: well, or by a reset. Only our own patience must not.
			_, err = io.Copy(io.Discard, answer)
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				t.Error("still open after a minute")
			}
		})
	}
	t.Run("an answer that is not read", func(t *testing.T) {
		conn, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		select {
		case <-given:
		case <-time.After(time.Minute):
			t.Error("still being written after a minute")
		}
	})
}

// TestForeignPagesMayNotReload: a page of another site, open in an operator's
// browser, cannot make it send the request.
func TestForeignPagesMayNotReload(t *testing.T) {
	cfg, n := newFeed().config(), 0
	cfg.Reload = func() error { n++; return nil }
	s, err := start(cfg, usual)
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, s)
	for i, tt := range []struct {
		origin string
		status int
	}{{"http://elsewhere.example", http.StatusForbidden}, {"", http.StatusOK}, {"http://" + s.Addr(), http.StatusOK}} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("http://%s/-/reload", s.Addr()), nil)
		if err != nil {
			t.Fatal(err)
		}
		if tt.origin != "" {
			req.Header.Set("Origin", tt.origin)
		}
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != tt.status || n != i {
			t.Errorf("from %q: %s, %d reloads", tt.origin, resp.Status, n)
		}
	}
}

// TestAllAddressesAreSaid: that anyone may ask is said when the server starts, and
// only then.
func TestAllAddressesAreSaid(t *testing.T) {
	for listen, want := range map[string]int{":0": 1, "0.0.0.0:0": 1, "127.0.0.1:0": 0} {
		var log bytes.Buffer
		cfg := newFeed().config()
		cfg.Listen, cfg.Logger = listen, slog.New(slog.NewTextHandler(&log, nil))
		s, err := Start(cfg)
		if err != nil {
			t.Fatal(err)
		}
		text := log.String()
		if _, port, _ := net.SplitHostPort(s.Addr()); want == 1 && s.URL() != "http://localhost:"+port+"/" || want == 0 && s.URL() != "http://"+s.Addr()+"/" {
			t.Errorf("%s: the page is at %s", listen, s.URL())
		}
		stop(t, s)
		if n := strings.Count(text, "all addresses of this machine"); n != want || strings.Count(text, "\n") != want {
			t.Errorf("%s: the log says\n%s", listen, text)
		}
	}
}

// TestBadConfigIsOneLine: which says where, and nothing of Go's types.
func TestBadConfigIsOneLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.yml")
	for text, want := range map[string]string{
		"\nfoo: 1\nbar: 2\n":                path + `:2: not a valid web configuration: unknown key "foo"`,
		"hello":                             path + `:1: not a valid web configuration: "hello" cannot stand there`,
		"a: [\n":                            path + ":1: not a valid web configuration: did not find expected node content",
		"tls_server_config: {cert_file: x}": path + ": not a valid web configuration: missing one of key or key_file",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg := newFeed().config()
		cfg.ConfigFile = path
		s, err := Start(cfg)
		if err == nil {
			stop(t, s)
		}
		if err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}
