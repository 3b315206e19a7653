package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/nametap/nametap/bench"
)

func TestBenchState(t *testing.T) {
	args := []string{
		"bench", "state", "--subscribers", "1K", "--flows", "2k", "--entries", "0.01M", "--names", "200",
		"--packets", "10K", "--memory", "64M", "--shards", "1", "--format", "json",
	}
	var first bench.Result
	for i := range 2 {
		var stdout, stderr bytes.Buffer
		if code := execute(context.Background(), args, &stdout, &stderr); code != exitDone {
			t.Fatalf("status %d: %s", code, stderr.String())
		}
		var r bench.Result
		if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if r.Subscribers != 1000 || r.Flows != 2000 || r.Entries != 10_000 || r.Full.Packets != 10_000 || r.Budget != 64<<20 {
			t.Errorf("%+v", r)
		}
		if i == 0 {
			first = r
		} else if r.Names != first.Names || r.Named != first.Named {
			t.Errorf("another run of the same seed: %d names and %d flows named, was %d and %d", r.Names, r.Named, first.Names, first.Named)
		}
	}
}

func TestBenchStateTable(t *testing.T) {
	var stdout, stderr bytes.Buffer
	args := []string{"bench", "state", "--subscribers", "1K", "--flows", "2K", "--entries", "10K", "--names", "200", "--packets", "10K", "--memory", "64M"}
	if code := execute(context.Background(), args, &stdout, &stderr); code != exitDone {
		t.Fatalf("status %d: %s", code, stderr.String())
	}
	for _, want := range []string{"2,000 live flows", "10,000 DNS entries", "64.0 MiB", "ns of CPU a packet (10,000 of them", "0 evictions", "collections"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("no %q in\n%s", want, stdout.String())
		}
	}
}

func TestBenchUsage(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"bench state --flows five", `"five" is no number such as 500000 or 5M`},
		{"bench state --flows -5", `"-5" is no number`},
		{"bench state --subscribers 0", "0 subscribers: choose 1 to"},
		{"bench state --memory 1M", "give at least 64M"},
		{"bench state --format xml", "table or json"},
		{"bench state --shards 0", "1 to 1024"},
		{"bench state file", `takes no arguments, but got "file"`},
	} {
		var stdout, stderr bytes.Buffer
		if code := execute(context.Background(), strings.Fields(c.args), &stdout, &stderr); code != exitUsage {
			t.Errorf("%s: status %d, want %d", c.args, code, exitUsage)
		}
		if !strings.Contains(stderr.String(), c.want) || strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%s: says %q, want one line with %q", c.args, stderr.String(), c.want)
		}
	}
}

// TestBenchSaysWhatIsHeld: a table that is too small for what was asked says so.
func TestBenchSaysWhatIsHeld(t *testing.T) {
	status, out, errs := command(strings.Fields("bench state --subscribers 1K --flows 300K --entries 10K --names 100 --packets 1K --memory 64M --shards 1")...)
	if status != exitDone || !strings.Contains(errs, "of 300,000 connections are held; give more --memory") || !strings.Contains(out, "copies of its own") {
		t.Errorf("%d\n%s%s", status, errs, out)
	}
}
