package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestDemoUsage: what demo cannot play it says in one line.
func TestDemoUsage(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--skip -5s", "--skip is at least 0 and less than 26h, which is how long the scenario lasts, not -5s"},
		{"--duration 5h --skip 10h", "less than 5h, which is how long the scenario lasts, not 10h"},
		{"--duration 5h --skip 5h", "less than 5h"},
		{"--duration 90m --skip 2h30m", "less than 1h30m, which is how long the scenario lasts, not 2h30m"},
		{"--speed 0", "--speed is above 0, not 0"},
		{"--speed NaN", "--speed is above 0, not NaN"},
		{"file", `takes no arguments, but got "file"`},
	} {
		var stdout, stderr bytes.Buffer
		if code := execute(context.Background(), append([]string{"demo"}, strings.Fields(c.args)...), &stdout, &stderr); code != exitUsage {
			t.Errorf("%s: status %d, want %d", c.args, code, exitUsage)
		}
		if !strings.Contains(stderr.String(), c.want) || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%s: says %q, want one line with %q", c.args, stderr.String(), c.want)
		}
	}
}

// TestDemoAnnounces: what will happen when, and what has been by then.
func TestDemoAnnounces(t *testing.T) {
	ended, end := context.WithCancel(context.Background())
	end()
	for _, c := range []struct {
		args string
		says []string
	}{
		{"", []string{"It catches up first: 14h30m are played", "counted from the end of that:", "in 40s      outage of whatsapp begins", "in 1m30s    servers work again", "in 1m55s    the scenario ends"}},
		{"--skip 20h", []string{"before      outage of whatsapp begins", "in 35s      servers work again", "in 1m0s     the scenario ends"}},
		{"--duration 5h", []string{"What will happen:\n", "in 50s      the scenario ends"}},
	} {
		var stdout, stderr bytes.Buffer
		args := append([]string{"demo", "--listen", "127.0.0.1:0", "--memory", "64M"}, strings.Fields(c.args)...)
		if code := execute(ended, args, &stdout, &stderr); code != exitDone {
			t.Fatalf("%s: status %d: %s", c.args, code, stderr.String())
		}
		for _, want := range c.says {
			if !strings.Contains(stdout.String(), want) {
				t.Errorf("%s: no %q in\n%s", c.args, want, stdout.String())
			}
		}
		if strings.Contains(stdout.String(), "in -") {
			t.Errorf("%s: something is to happen in the past:\n%s", c.args, stdout.String())
		}
	}
	if def := newDemo().Flag("skip").DefValue; def != "0s" {
		t.Errorf("the help offers --skip %s", def)
	}
}

// onLine calls back when a line has been written that begins so.
type onLine struct {
	bytes.Buffer
	begins string
	then   func(before string)
}

func (w *onLine) Write(p []byte) (int, error) {
	n, err := w.Buffer.Write(p)
	if strings.HasPrefix(strings.TrimSpace(string(p)), w.begins) {
		w.then(w.String())
	}
	return n, err
}

// TestDemoEnds: that it has caught up, and that it is over, is told in the
// terminal, and to those who ask.
func TestDemoEnds(t *testing.T) {
	ctx, end := context.WithCancel(context.Background())
	defer end()
	ask := func(addr, path string) string {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Get("http://" + addr + path)
		if err != nil {
			t.Error(err)
			return ""
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.Status + " " + string(body)
	}
	asked := false
	stdout := &onLine{begins: "The scenario is over", then: func(before string) {
		asked = true
		_, addr, _ := strings.Cut(before, "http://")
		addr, _, _ = strings.Cut(addr, "/")
		for path, want := range map[string]string{
			"/readyz":         "503 Service Unavailable not capturing: the traffic has ended",
			"/api/v1/health":  `"source":"ended"`,
			"/api/v1/summary": `"source":"ended"`,
			"/":               "<h2>The traffic has ended</h2>",
		} {
			if got := ask(addr, path); !strings.Contains(got, want) {
				t.Errorf("after the end %s answers %q, want %q", path, got, want)
			}
		}
		if !strings.Contains(before, "\nCaught up, after ") {
			t.Errorf("it does not say that it has caught up:\n%s", before)
		}
		end()
	}}
	var stderr bytes.Buffer
	args := strings.Fields("demo --listen 127.0.0.1:0 --memory 64M --subscribers-count 20 --duration 20m --skip 10m --speed 10000")
	if code := execute(ctx, args, stdout, &stderr); code != exitDone {
		t.Fatalf("status %d: %s", code, stderr.String())
	}
	if !asked {
		t.Errorf("it does not say that it is over:\n%s", stdout.String())
	}
}
