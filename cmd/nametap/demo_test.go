package main

import (
	"bytes"
	"context"
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
		{"", []string{"in 40s      outage of whatsapp begins", "in 1m30s    servers work again", "in 1m55s    the scenario ends"}},
		{"--skip 20h", []string{"before      outage of whatsapp begins", "in 35s      servers work again", "in 1m0s     the scenario ends"}},
		{"--duration 5h", []string{"in 50s      the scenario ends"}},
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
