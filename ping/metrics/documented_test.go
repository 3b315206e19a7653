package metrics

import (
	"fmt"
	"os"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
)

// TestMetricsAreDocumented: docs/ping.md has a row for each, with its help.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/ping.md")
	if err != nil {
		t.Fatal(err)
	}
	families, err := New(nil).registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "nametap_") {
			continue
		}
		row := fmt.Sprintf("| `%s` | %s | %s |\n", f.GetName(), labelsOf(f), f.GetHelp())
		if !strings.Contains(string(text), row) {
			t.Errorf("docs/ping.md lacks the row\n%s", row)
		}
	}
}

func labelsOf(f *dto.MetricFamily) string {
	var names []string
	for _, l := range f.GetMetric()[0].GetLabel() {
		names = append(names, l.GetName())
	}
	return strings.Join(names, ", ")
}
