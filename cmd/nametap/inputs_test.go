package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestInputsThatAreOfNoUse: what could not have any effect, or holds nothing, is told.
func TestInputsThatAreOfNoUse(t *testing.T) {
	trace, _ := tracedInputs(t)
	dir := t.TempDir()
	text, empty := scratch(t, "x.txt", "hello\n"), scratch(t, "empty.csv", "")
	truth, other := filepath.Join(dir, "other.jsonl"), filepath.Join(dir, "other.pcap")
	if status, out, errs := command("synth", "--seed", "9", "--duration", "10m", "-o", other, "--truth", truth); status != exitDone || out+errs != "" {
		t.Fatal(errs)
	}
	one := scratch(t, "one.yaml", "apps:\n  - app: x\n    domains: [x.com]\n    classes:\n      - class: chat\n        names: ['.*']\n        kind: session\n")
	tests := []struct {
		args, want string
		status     int
	}{
		{"analyze --pseudonym-key /nonexistent " + trace, "--pseudonym-key goes with --flows", exitUsage},
		{"run --interface nametap-none --pseudonym-key /nonexistent", "--pseudonym-key goes with --flows", exitUsage},
		{"analyze --memory 128M --tac " + empty + " " + trace, "no device in it", exitError},
		{"analyze --memory 128M " + text, "x.txt: not a capture", exitError},
		{"atlas compare " + text + " --with " + trace, "x.txt: result 1: expected", exitError},
		{"synth score --memory 128M " + trace + " " + truth, "other.jsonl: none of the ", exitError},
		{"synth --subscribers-count 5 --duration 10s -o " + filepath.Join(dir, "e.pcap"), "nothing happens in 10s among 5 subscribers", exitDone},
	}
	for _, test := range tests {
		status, out, errs := command(strings.Fields(test.args)...)
		if status != test.status || out != "" || !strings.Contains(errs, test.want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: %d %q %q, want %d %q", test.args, status, out, errs, test.status, test.want)
		}
	}
	if status, out, errs := command("rules", "check", one); status != exitDone || !strings.Contains(out, ": 1 app, 1 class, 0 examples, ") {
		t.Errorf("rules check: %d %q %s", status, out, errs)
	}
}
