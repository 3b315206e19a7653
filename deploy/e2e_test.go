// Package deploy_test runs what is in deploy/ on real parts.
package deploy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// factor is how much faster than real the rehearsal runs. Prometheus scrapes
	// and evaluates every second what is a minute of packet time.
	factor = 60
	// The outage begins 18 h 30 min into the scenario. What comes before gives
	// the rules their hour of history.
	skip = 17*time.Hour + 15*time.Minute
)

// TestOutageReachesPager runs the demo's outage in quick motion before real
// Prometheus and Alertmanager, with the configurations and rules of this
// directory, and waits for the one alert. Meanwhile, every query of every
// dashboard has to return data. It takes about two minutes.
func TestOutageReachesPager(t *testing.T) {
	if testing.Short() {
		t.Skip("takes two minutes: not with -short")
	}
	prometheus := tool(t, "prometheus")
	alertmanager := tool(t, "prometheus-alertmanager", "alertmanager")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()

	pager := newPager(t)
	dir := t.TempDir()
	managerAddr, promAddr, nativeAddr, pingAddr := freeAddr(t), freeAddr(t), freeAddr(t), freeAddr(t)

	demo := startDemo(t, ctx, dir)
	startPing(t, ctx, dir, pingAddr)
	writeManager(t, dir, pager.url)
	start(t, ctx, dir, "alertmanager", alertmanager, "--config.file", filepath.Join(dir, "alertmanager.yml"),
		"--storage.path", filepath.Join(dir, "am"), "--web.listen-address", managerAddr, "--cluster.listen-address", "")
	awaitReady(t, ctx, managerAddr)

	writePrometheus(t, dir, demo.addr, managerAddr, pingAddr)
	start(t, ctx, dir, "prometheus", prometheus, "--config.file", filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path", filepath.Join(dir, "tsdb"), "--web.listen-address", promAddr)
	// A second one takes native histograms in place of classic ones.
	start(t, ctx, dir, "native", prometheus, "--config.file", filepath.Join(dir, "native.yml"), "--enable-feature", "native-histograms",
		"--storage.tsdb.path", filepath.Join(dir, "tsdb-native"), "--web.listen-address", nativeAddr)
	awaitReady(t, ctx, promAddr)
	awaitReady(t, ctx, nativeAddr)

	// Nothing fires before the outage. A while before it the dashboards have
	// all they need.
	pause(ctx, time.Until(demo.outage)-15*time.Second)
	t.Run("dashboards", func(t *testing.T) { queryDashboards(t, promAddr) })
	t.Run("dashboards on native histograms", func(t *testing.T) {
		only(t, nativeAddr, "nametap_tcp_server_rtt_seconds_bucket", 0)
		queryDashboards(t, nativeAddr)
	})
	t.Run("rules evaluate", func(t *testing.T) { rulesHealthy(t, promAddr) })
	if early := pager.names(); time.Now().Before(demo.outage) && len(early) > 0 {
		t.Errorf("before the outage: %v", early)
	}

	t.Run("alert", func(t *testing.T) {
		alert := pager.await(t, ctx, "NametapAppOutage")
		took := time.Duration(float64(alert.StartsAt.Sub(demo.outage)) * factor)
		t.Logf("the alert fires %v after the outage began, in packet time; at the pager %v after it, on the wall clock",
			took.Round(time.Second), time.Since(demo.outage).Round(100*time.Millisecond))
		if took < 0 || took > 20*time.Minute {
			t.Errorf("the alert fires %v after the outage began, want up to 10 minutes, or 20 on a busy machine", took)
		}
		if alert.Labels["app"] != "whatsapp" || alert.Labels["severity"] != "critical" || alert.Labels["instance"] != demo.addr {
			t.Errorf("labels %v", alert.Labels)
		}
		for _, key := range []string{"summary", "description", "runbook_url"} {
			text := alert.Annotations[key]
			if text == "" || strings.Contains(text, "<no value>") || strings.Contains(text, "error") || strings.Contains(text, "{{") {
				t.Errorf("annotation %s: %q", key, text)
			}
		}
		// A quarter of an hour of the outage later it is still the only one.
		pause(ctx, 15*time.Second)
		if names := pager.names(); !slices.Equal(names, []string{"NametapAppOutage"}) {
			t.Errorf("at the pager: %v, want NametapAppOutage alone", names)
		}
		if names := firing(t, promAddr); !slices.Equal(names, []string{"NametapAppOutage"}) {
			t.Errorf("firing: %v, want NametapAppOutage alone", names)
		}
	})
	t.Run("drawn", func(t *testing.T) { drawDashboards(t, ctx, promAddr) })
}

// tool finds a program under one of its names.
func tool(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if p := os.Getenv(strings.ToUpper(names[0])); p != "" {
			return p
		}
		if p, err := exec.LookPath(name); err == nil {
			return p
		}
	}
	t.Skipf("no %s: install Debian's prometheus and prometheus-alertmanager to run this", names[0])
	return ""
}

// pager is the webhook at the end.
type pager struct {
	url    string
	mu     sync.Mutex
	alerts []alert
	news   chan struct{}
}

type alert struct {
	Status      string            `json:"status"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
}

func newPager(t *testing.T) *pager {
	p := &pager{news: make(chan struct{}, 1000)}
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var message struct {
			Alerts []alert `json:"alerts"`
		}
		if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&message); err != nil {
			t.Errorf("the webhook's message: %v", err)
		}
		p.mu.Lock()
		p.alerts = append(p.alerts, message.Alerts...)
		p.mu.Unlock()
		p.news <- struct{}{}
	}))
	t.Cleanup(s.Close)
	p.url = s.URL
	return p
}

// names are those of all alerts that have come.
func (p *pager) names() (names []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.alerts {
		names = append(names, a.Labels["alertname"])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// await waits for the first alert of a name.
func (p *pager) await(t *testing.T, ctx context.Context, name string) alert {
	t.Helper()
	for {
		p.mu.Lock()
		for _, a := range p.alerts {
			if a.Labels["alertname"] == name {
				p.mu.Unlock()
				return a
			}
		}
		p.mu.Unlock()
		select {
		case <-p.news:
		case <-ctx.Done():
			t.Fatalf("%s never came; what did: %v", name, p.names())
		}
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// start runs a program until the end of the test. Its output is shown if the
// test fails.
func start(t *testing.T, ctx context.Context, dir, name, program string, args ...string) *output {
	t.Helper()
	out := &output{}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, out, out
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			text := out.String()
			t.Logf("%s said:\n%s", name, text[max(0, len(text)-4000):])
		}
	})
	return out
}

// output is what a program writes, to be read while it does.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// eventually asks five times a second until ask is content.
func eventually(t *testing.T, ctx context.Context, what string, ask func() bool) {
	t.Helper()
	for !ask() {
		if ctx.Err() != nil {
			t.Fatalf("waited in vain for %s", what)
		}
		pause(ctx, 200*time.Millisecond)
	}
}

func get(addr, path string) (string, bool) {
	r, err := http.Get("http://" + addr + path)
	if err != nil {
		return "", false
	}
	defer func() { _ = r.Body.Close() }()
	text, err := io.ReadAll(r.Body)
	return string(text), err == nil && r.StatusCode == http.StatusOK
}

func awaitReady(t *testing.T, ctx context.Context, addr string) {
	t.Helper()
	eventually(t, ctx, addr+" to be ready", func() bool { _, ok := get(addr, "/-/ready"); return ok })
}

var program struct {
	once sync.Once
	dir  string
	err  error
}

// nametap builds the program, once, without C and with its profile, as it is
// packaged.
func nametap(t *testing.T) string {
	t.Helper()
	p := &program
	p.once.Do(func() {
		if p.dir, p.err = os.MkdirTemp("", "nametap-deploy"); p.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-trimpath", "-pgo=auto", "-o", filepath.Join(p.dir, "nametap"), "../cmd/nametap")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			p.err = fmt.Errorf("%w\n%s", err, out)
		}
		p.err = errors.Join(p.err, os.Chmod(p.dir, 0o755)) // other users run it, too
	})
	if p.err != nil {
		t.Fatal(p.err)
	}
	return filepath.Join(p.dir, "nametap")
}

func TestMain(m *testing.M) {
	code := m.Run()
	if program.dir != "" {
		_ = os.RemoveAll(program.dir)
	}
	os.Exit(code)
}

// rehearsal is a running demo.
type rehearsal struct {
	addr   string
	outage time.Time // on the wall clock
}

// startDemo starts the demo and returns when it has skipped what is to be
// skipped and plays at its speed.
func startDemo(t *testing.T, ctx context.Context, dir string) rehearsal {
	t.Helper()
	out := start(t, ctx, dir, "nametap demo", nametap(t), "demo", "--listen", "127.0.0.1:0",
		"--speed", strconv.Itoa(factor), "--skip", skip.String(), "--memory", "1G")
	var addr string
	eventually(t, ctx, "the demo's address", func() bool {
		m := regexp.MustCompile(`http://(\S+)/metrics`).FindStringSubmatch(out.String())
		if m != nil {
			addr = m[1]
		}
		return m != nil
	})
	begin := time.Date(2014, 2, 21, 23, 0, 0, 0, time.UTC)
	played := regexp.MustCompile(`(?m)^nametap_capture_last_packet_timestamp_seconds (\S+)`)
	var now time.Duration
	eventually(t, ctx, "the demo to have skipped "+skip.String(), func() bool {
		page, _ := get(addr, "/metrics")
		m := played.FindStringSubmatch(page)
		if m == nil {
			return false
		}
		s, err := strconv.ParseFloat(m[1], 64)
		now = time.Duration((s - float64(begin.Unix())) * float64(time.Second))
		return err == nil && now > skip
	})
	left := 18*time.Hour + 30*time.Minute - now
	return rehearsal{addr, time.Now().Add(left / factor)}
}

// startPing measures this machine's own connections: those of this test.
func startPing(t *testing.T, ctx context.Context, dir, addr string) {
	t.Helper()
	start(t, ctx, dir, "nametap ping", nametap(t), "ping", "--interval", "1s", "--format", "none", "--listen", addr)
	eventually(t, ctx, "nametap ping", func() bool { _, ok := get(addr, "/metrics"); return ok })
}

// edit writes a file of this directory with some of its words exchanged, each of
// which has to be there.
func edit(t *testing.T, from, to string, pairs ...string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	s := string(text)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(s, pairs[i]) {
			t.Fatalf("%s: no %q", from, pairs[i])
		}
		s = strings.ReplaceAll(s, pairs[i], pairs[i+1])
	}
	if err := os.WriteFile(to, []byte(s), 0o644); err != nil {
		t.Fatal(err)
	}
}

func writeManager(t *testing.T, dir, webhook string) {
	t.Helper()
	edit(t, "prometheus/alertmanager.yml", filepath.Join(dir, "alertmanager.yml"),
		"http://127.0.0.1:9094/", webhook, "group_wait: 30s", "group_wait: 500ms", "group_interval: 5m", "group_interval: 5s")
}

func writePrometheus(t *testing.T, dir, tap, manager, ping string) {
	t.Helper()
	out, err := exec.Command("go", "run", "./prometheus/quicken", "-factor", strconv.Itoa(factor), "-o", dir,
		"prometheus/nametap-recordings.yml", "prometheus/nametap-alerts.yml").CombinedOutput()
	if err != nil {
		t.Fatalf("quicken: %v\n%s", err, out)
	}
	common := []string{
		"scrape_interval: 15s", "scrape_interval: 1s", "evaluation_interval: 1m", "evaluation_interval: 1s",
		"127.0.0.1:9108", tap, "127.0.0.1:9093", manager,
	}
	edit(t, "prometheus/prometheus.yml", filepath.Join(dir, "prometheus.yml"), common...)
	// The second one has no rules and pages nobody.
	edit(t, "prometheus/prometheus.yml", filepath.Join(dir, "native.yml"), append(common,
		"rule_files:\n  - nametap-recordings.yml\n  - nametap-alerts.yml\n", "", "- targets: ["+manager+"]", "- targets: []")...)
	for _, name := range []string{"prometheus.yml", "native.yml"} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = fmt.Fprintf(f, "  - job_name: hosts\n    static_configs:\n      - targets: [%s]\n", ping)
		if err != nil || f.Close() != nil {
			t.Fatal(err)
		}
	}
}

// api asks Prometheus and decodes its data.
func api(t *testing.T, addr, path string, parameters url.Values, into any) {
	t.Helper()
	r, err := http.Get("http://" + addr + "/api/v1/" + path + "?" + parameters.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(r.Body).Decode(&answer); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if answer.Status != "success" {
		t.Errorf("%s %v: %s", path, parameters, answer.Error)
		return
	}
	if err := json.Unmarshal(answer.Data, into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// only checks how many series of a name there are.
func only(t *testing.T, addr, name string, want int) {
	t.Helper()
	var data struct{ Result []json.RawMessage }
	api(t, addr, "query", url.Values{"query": {name}}, &data)
	if len(data.Result) != want {
		t.Errorf("%d series of %s, want %d", len(data.Result), name, want)
	}
}

func firing(t *testing.T, addr string) (names []string) {
	t.Helper()
	var data struct {
		Alerts []struct {
			State, Name string
			Labels      map[string]string
		}
	}
	api(t, addr, "alerts", nil, &data)
	for _, a := range data.Alerts {
		if a.State == "firing" {
			names = append(names, a.Labels["alertname"])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// rulesHealthy: no rule fails, and none takes long.
func rulesHealthy(t *testing.T, addr string) {
	var data struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	api(t, addr, "rules", nil, &data)
	n := 0
	for _, g := range data.Groups {
		for _, r := range g.Rules {
			n++
			if r.Health != "ok" || r.LastError != "" {
				t.Errorf("%s: %s %s", r.Name, r.Health, r.LastError)
			}
		}
	}
	if n < 40 {
		t.Errorf("only %d rules", n)
	}
}
