package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSubscribersHint(t *testing.T) {
	trace, _ := tracedInputs(t)
	records := filepath.Join(t.TempDir(), "flows.jsonl")
	tests := []struct {
		args string
		hint bool
	}{
		{"", false},
		{"--subscribers 10.0.0.0/8,fc00::/7,2001:db8::/32", false},
		{"--subscribers 203.0.113.77/32", true},
		{"--subscribers 203.0.113.77/32 --flows " + records, true},
	}
	for _, test := range tests {
		args := append([]string{"analyze", "--memory", "128M", trace}, strings.Fields(test.args)...)
		status, out, errs := command(args...)
		if status != exitDone || strings.Contains(out, "has an end in --subscribers 203.0.113.77/32") != test.hint || strings.Count(errs, "\n") > 0 {
			t.Errorf("%s: %d %q", test.args, status, errs)
		}
	}
	if b, err := os.ReadFile(records); err != nil || len(b) == 0 {
		t.Errorf("the hint took the records: %v", err)
	}
}
