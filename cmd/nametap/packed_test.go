package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nametap/nametap/internal/packed"
	"github.com/nametap/nametap/report"
)

// TestPackedByName: what analyze writes is compressed where the name says so, and
// what it holds is the same.
func TestPackedByName(t *testing.T) {
	trace, records := tracedInputs(t)
	want, err := os.ReadFile(records)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"flows.jsonl", "flows.jsonl.zst", "flows.jsonl.gz"} {
		path, ping := filepath.Join(dir, name), filepath.Join(dir, "ping.csv"+strings.TrimPrefix(name, "flows.jsonl"))
		if status, _, errs := command("analyze", "--memory", "128M", "--flows", path, "--ping", ping, trace); status != exitDone || errs != "" {
			t.Fatalf("%s: %d %s", name, status, errs)
		}
		text := unpacked(t, path)
		// The pseudonyms' key is each run's own here.
		if a, b := strings.Count(text, "\n"), strings.Count(string(want), "\n"); a != b || a == 0 || !strings.HasPrefix(text, `{"start":"`) {
			t.Errorf("%s: %d lines, want %d", name, a, b)
		}
		if text := unpacked(t, ping); !strings.HasPrefix(text, "start,") || strings.Count(text, "start,") != 1 {
			t.Errorf("%s: %.40q", ping, text)
		}
	}
}

func unpacked(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, done, err := report.Unpack(f)
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	var b strings.Builder
	if _, err := io.Copy(&b, r); err != nil {
		t.Fatal(err)
	}
	if whole, err := os.ReadFile(path); err != nil || (string(whole) == b.String()) != (packed.Suffix(path) == "") {
		t.Fatalf("%s: compressed or not as its name says: %v", path, err)
	}
	return b.String()
}

// TestNamesThatPromiseTooMuch: a name says what is in a file, or is refused.
func TestNamesThatPromiseTooMuch(t *testing.T) {
	trace, _ := tracedInputs(t)
	dir := t.TempDir()
	tests := []struct{ command, flag, name, want string }{
		{"analyze", "--flows", "x.csv", "x.csv: records are JSON Lines; name it "},
		{"analyze", "--flows", "x.csv.gz", "jq -r "},
		{"run", "--flows", "x.csv", "jq -r "},
		{"run", "--flows", "x.jsonl.zst", "is appended to is not compressed; name it without .zst, and compress what has been rotated away"},
		{"run", "--flows", "x.gz", "without .gz"},
		{"run", "--ping", "x.csv.gz", "without .gz"},
		{"run", "--events", "x.zst", "without .zst"},
	}
	for _, test := range tests {
		path := filepath.Join(dir, test.name)
		args := []string{"run", "--interface", "nametap-none"}
		if test.command == "analyze" {
			args = []string{"analyze", trace}
		}
		status, out, errs := command(append(args, test.flag, path)...)
		if status != exitUsage || out != "" || !strings.Contains(errs, test.want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s %s %s: %d %q, want %q", test.command, test.flag, test.name, status, errs, test.want)
		}
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s was made", test.name)
		}
	}
}
