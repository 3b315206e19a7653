package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestQuicken(t *testing.T) {
	tests := []struct{ in, want string }{
		{"rate(x[10m])", "rate(x[10000ms])"},
		{"x offset 1w", "x offset 10080000ms"},
		{"avg_over_time(x[1h] offset 5m) > 20", "avg_over_time(x[60000ms] offset 5000ms) > 20"},
		{"- alert: X\n  for: 3m\n  keep_firing_for: 10m", "- alert: X\n  for: 3000ms\n  keep_firing_for: 10000ms"},
		{"interval: 1m", "interval: 1m"}, // not at the start of a line: a text
		{"groups:\n  interval: 1m", "groups:\n  interval: 1000ms"},
		{"a > 0.02 and b >= 30 # for 5m", "a > 0.02 and b >= 30 # for 5m"},
		{"app:x:increase10m < 4", "app:x:increase10m < 4"},
		{"x[0s]", "x[0ms]"},
	}
	for _, tt := range tests {
		got, err := quicken(tt.in, 60)
		if err != nil || got != tt.want {
			t.Errorf("quicken(%q) = %q, %v, want %q", tt.in, got, err, tt.want)
		}
	}
	if _, err := quicken("x[1s]", 1e6); err == nil {
		t.Error("a duration below a millisecond is no error")
	}
}

// TestOurRules: no duration of our rules escapes.
func TestOurRules(t *testing.T) {
	dir := t.TempDir()
	files, err := filepath.Glob("../nametap-*.yml")
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	if err := run(60, dir, files); err != nil {
		t.Fatal(err)
	}
	slow := regexp.MustCompile(`(\[|offset |for: )\d+(s|m|h|d|w|y)\b|\d\)?\s*[-+*/<>=]+ *time\(|process_start_time_seconds *[<>-]`)
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(dir, filepath.Base(file)))
		if err != nil {
			t.Fatal(err)
		}
		if found := slow.FindString(string(text)); found != "" {
			t.Errorf("%s: %q is still there", file, found)
		}
		if !strings.Contains(string(text), "[10000ms]") && !strings.Contains(string(text), "for: 3000ms") {
			t.Errorf("%s: nothing was divided", file)
		}
	}
}

func TestRefuses(t *testing.T) {
	for name, err := range map[string]error{
		"factor":    run(0.5, t.TempDir(), nil),
		"overwrite": run(60, "..", []string{"../nametap-alerts.yml"}),
		"missing":   run(60, t.TempDir(), []string{"nothing.yml"}),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
