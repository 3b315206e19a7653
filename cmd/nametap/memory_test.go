package main

import (
	"strings"
	"testing"
)

// TestValuesOutOfRange: one line each that says what is allowed.
func TestValuesOutOfRange(t *testing.T) {
	tests := []struct{ args, want string }{
		{"analyze --memory 1000T x.pcap", "--memory 1024000G is more than this machine, or the control group, has"},
		{"bench state --memory 1000T", "is more than this machine"},
		{"analyze --shards 1000000 x.pcap", "--shards is 1 to 1024, not 1000000"},
		{"analyze --shards 0 x.pcap", "--shards is 1 to 1024, not 0"},
		{"bench state --shards 1025", "--shards is 1 to 1024, not 1025"},
		{"run --interface lo --ring 1", "--ring is between 1M and"},
		{"run --interface lo --ring 1000T", "--ring is between 1M and"},
		{"run --interface lo --memory 256M --shards 4 --workers 2", "--shards 4 goes with one worker"},
	}
	for _, test := range tests {
		status, _, errs := command(strings.Fields(test.args)...)
		if status != exitUsage || !strings.Contains(errs, test.want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: %d %q, want %q", test.args, status, errs, test.want)
		}
	}
}
