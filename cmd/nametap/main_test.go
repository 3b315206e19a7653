package main

import (
	"errors"
	"strings"
	"testing"
)

// TestCommandLines: what is no command is an error, with --help beside it as well.
func TestCommandLines(t *testing.T) {
	tests := []struct {
		args   string
		status int
		want   string // in what it prints
	}{
		{"doctor", exitUsage, `unknown command "doctor"`},
		{"doctor --help", exitUsage, `unknown command "doctor"`},
		{"rules nosuch --help", exitUsage, `unknown command "nosuch" of nametap rules`},
		{"bench nosuch", exitUsage, `unknown command "nosuch"`},
		{"rules check --help", exitDone, "Compile a rules file"},
		{"forecast --help", exitDone, "--where"},
		{"forecast backtest --help", exitDone, "pinball"},
		{"help rules", exitDone, "nametap rules show"},
		{"completion bash", exitDone, "bash completion"},
		{"--help", exitDone, "nametap demo"},
		{"--version", exitDone, "features: "},
		{"version", exitDone, versionText()},
	}
	for _, test := range tests {
		status, out, errs := command(strings.Fields(test.args)...)
		if status != test.status || !strings.Contains(out+errs, test.want) || status != exitDone && (out != "" || strings.Count(errs, "\n") != 1) {
			t.Errorf("%s: %d %q, want %d %q\n%s", test.args, status, errs, test.status, test.want, out)
		}
	}
}

// TestFlagsOfOthers: a command has no flag that it does not obey, hidden or not.
func TestFlagsOfOthers(t *testing.T) {
	for _, c := range []struct{ command, without string }{
		{"synth score t.pcap t.jsonl", "apn tac subscriber-ids pseudonym-key flows ping filter"},
		{"atlas definition", "apn tac subscriber-ids pseudonym-key flows ping"},
		{"atlas compare r.json", "apn tac subscriber-ids pseudonym-key flows ping"},
		{"report t.pcap", "apn flows ping"},
		{"demo", "tac subscriber-ids pseudonym-key flows ping filter"},
	} {
		for flag := range strings.FieldsSeq(c.without) {
			status, out, errs := command(append(strings.Fields(c.command), "--"+flag, "x")...)
			if status != exitUsage || out != "" || !strings.Contains(errs, "unknown flag: --"+flag) || strings.Count(errs, "\n") != 1 {
				t.Errorf("%s --%s: %d %q", c.command, flag, status, errs)
			}
		}
	}
}

// TestOneLine: what several errors have in common is said once.
func TestOneLine(t *testing.T) {
	full := errors.New("write /x: no space left")
	tests := []struct {
		errs []error
		want string
	}{
		{[]error{full, nil, full, full}, "write /x: no space left"},
		{[]error{errors.Join(errors.New("closing: write /x: no space left")), full}, "closing: write /x: no space left"},
		{[]error{full, errors.New("other")}, "write /x: no space left; other"},
	}
	for _, test := range tests {
		if got := oneLine(test.errs...).Error(); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
	if oneLine(nil, nil) != nil {
		t.Error("an error of none")
	}
}
