// Package prometheus_test holds the rules against what a tap shows in good and
// in bad times, with promtool.
package prometheus_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

var keepDir = flag.String("keep", "", "write the cases to this directory, for promtool test rules")

const (
	recordings = "nametap-recordings.yml"
	alerts     = "nametap-alerts.yml"
)

type ruleFile struct {
	Groups []struct {
		Name  string `yaml:"name"`
		Rules []struct {
			Record      string            `yaml:"record"`
			Alert       string            `yaml:"alert"`
			Expr        string            `yaml:"expr"`
			For         string            `yaml:"for"`
			Labels      map[string]string `yaml:"labels"`
			Annotations map[string]string `yaml:"annotations"`
		} `yaml:"rules"`
	} `yaml:"groups"`
}

func readRules(t testing.TB, file string) (f ruleFile) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// promtool is $PROMTOOL, or the one of the system.
func promtool(t testing.TB) string {
	t.Helper()
	if p := os.Getenv("PROMTOOL"); p != "" {
		return p
	}
	p, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("no promtool: install Debian's prometheus to run this")
	}
	return p
}

func TestPromtoolCheck(t *testing.T) {
	tool := promtool(t)
	for _, args := range [][]string{{"check", "rules", recordings, alerts}, {"check", "config", "--syntax-only", "prometheus.yml"}} {
		out, err := exec.Command(tool, args...).CombinedOutput()
		if err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}

func TestAlertmanagerConfig(t *testing.T) {
	tool, err := exec.LookPath("amtool")
	if err != nil {
		t.Skip("no amtool: install Debian's prometheus-alertmanager to run this")
	}
	if out, err := exec.Command(tool, "check-config", "alertmanager.yml").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestMetricsExist holds every metric that a rule names against the list of all.
func TestMetricsExist(t *testing.T) {
	list, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range usedMetrics(t) {
		if !strings.HasPrefix(name, "nametap_") {
			continue
		}
		if !bytes.Contains(list, []byte("`"+name+"`")) {
			t.Errorf("the rules use %s, which docs/metrics.md does not have", name)
		}
	}
}

var metricName = regexp.MustCompile(`(?:^|[^:a-z_])(nametap_[a-z_]+|process_start_time_seconds)\b`)

// usedMetrics are those that rules take from the metrics page. Histograms go by
// their own name.
func usedMetrics(t testing.TB) map[string]bool {
	used := map[string]bool{}
	for _, file := range []string{recordings, alerts} {
		for _, g := range readRules(t, file).Groups {
			for _, r := range g.Rules {
				for _, m := range metricName.FindAllStringSubmatch(r.Expr, -1) {
					used[strings.TrimSuffix(m[1], "_bucket")] = true
				}
			}
		}
	}
	if len(used) < 20 {
		t.Fatalf("only %d metrics found in the rules: the expression that finds them is wrong", len(used))
	}
	return used
}

// TestRunbook: every alert has its texts, a severity, and a chapter in the
// runbook.
func TestRunbook(t *testing.T) {
	text, err := os.ReadFile("../../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	anchors := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ +(.*?) *$`).FindAllStringSubmatch(string(text), -1) {
		// As GitHub makes them: lower case, punctuation gone, spaces to hyphens.
		a := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		anchors[strings.ReplaceAll(a, " ", "-")] = true
	}
	for _, g := range readRules(t, alerts).Groups {
		for _, r := range g.Rules {
			url := r.Annotations["runbook_url"]
			page, anchor, _ := strings.Cut(url, "#")
			if page != "https://github.com/nametap/nametap/blob/main/docs/runbook.md" || anchor != strings.ToLower(r.Alert) || !anchors[anchor] {
				t.Errorf("%s: runbook_url %q has no chapter in docs/runbook.md", r.Alert, url)
			}
			if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s: no summary or no description", r.Alert)
			}
			if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
				t.Errorf("%s: severity %q", r.Alert, r.Labels["severity"])
			}
		}
	}
}

// expect says when an alert has to fire, in minutes: it has to be firing in all
// of [from, to], and in no minute before begin or after end.
type expect struct {
	alert       string
	labels      string // of the alert's, in PromQL
	begin, from int
	to, end     int
}

// matcher selects the alert while it fires.
func (e *expect) matcher() string {
	matcher := fmt.Sprintf(`ALERTS{alertname="%s",alertstate="firing"`, e.alert)
	if e.labels != "" {
		matcher += "," + e.labels
	}
	return matcher + "}"
}

// scenario is one case: a page, and all alerts that fire over it.
type scenario struct {
	name   string
	page   page
	expect []expect
	every  int // minutes between evaluations, 0 for 1: promtool takes 10 ms for each
}

// file writes the case for promtool.
func (s *scenario) file(dir string) (string, error) {
	rules := make([]string, 2)
	for i, f := range []string{recordings, alerts} {
		path, err := filepath.Abs(f)
		if err != nil {
			return "", err
		}
		rules[i] = path
	}
	var b strings.Builder
	every := max(s.every, 1)
	fmt.Fprintf(&b, "# %s\nrule_files: [%q, %q]\nevaluation_interval: %dm\n"+
		// promtool takes them in any order otherwise.
		"group_eval_order: [nametap-recordings, nametap-apps, nametap-tap, nametap-naming, nametap-daemon]\ntests:\n  - interval: 1m\n    input_series:\n", s.name, rules[0], rules[1], every)
	for _, x := range s.page {
		fmt.Fprintf(&b, "      - {series: '%s', values: '%s'}\n", x.id(), x.values())
	}
	b.WriteString("    promql_expr_test:\n")
	end := (s.page.minutes() - 1) / every * every
	// Nothing but what is expected ever fired.
	fired := fmt.Sprintf(`count_over_time(ALERTS{alertstate="firing"}[%dm])`, end+1)
	for _, e := range s.expect {
		fired += fmt.Sprintf(` unless count_over_time(%s[%dm])`, e.matcher(), end+1)
	}
	s.check(&b, end, fmt.Sprintf("count by (alertname) (%s)", fired), nil)
	for _, e := range s.expect {
		matcher := e.matcher()
		one := []string{"{}"}
		// Firing in each minute of [from, to].
		s.check(&b, e.to, fmt.Sprintf("count(count_over_time(%s[%dm]) >= %d)", matcher, e.to-e.from+1, (e.to-e.from+1)/every), one)
		s.check(&b, e.begin-1, fmt.Sprintf("count(count_over_time(%s[%dm]))", matcher, e.begin), nil)
		if e.end < end {
			s.check(&b, end, fmt.Sprintf("count(count_over_time(%s[%dm]))", matcher, end-e.end), nil)
		}
	}
	path := filepath.Join(dir, strings.ReplaceAll(s.name, " ", "-")+".yml")
	return path, os.WriteFile(path, []byte(b.String()), 0o644)
}

func (s *scenario) check(b *strings.Builder, minute int, expr string, labels []string) {
	fmt.Fprintf(b, "      - eval_time: %dm\n        expr: '%s'\n        exp_samples: [", minute, expr)
	for i, l := range labels {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(b, "{labels: '%s', value: 1}", l)
	}
	b.WriteString("]\n")
}

// at is a time of day in minutes.
func at(hours, minutes int) int { return hours*60 + minutes }

func TestRules(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute: not with -short")
	}
	tool := promtool(t)
	dir := t.TempDir()
	if *keepDir != "" {
		dir = *keepDir
	}
	list := scenarios(t)
	// The longest first, so that both ends meet.
	slices.SortStableFunc(list, func(a, b *scenario) int { return b.page.minutes()/max(b.every, 1) - a.page.minutes()/max(a.every, 1) })
	covered := map[string]bool{}
	for _, s := range list {
		for _, e := range s.expect {
			covered[e.alert] = true
		}
	}
	for _, g := range readRules(t, alerts).Groups {
		for _, r := range g.Rules {
			if !covered[r.Alert] {
				t.Errorf("no case in which %s fires", r.Alert)
			}
		}
	}
	for _, s := range list {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.run(t, tool, dir)
		})
	}
}

// run has promtool judge the case.
func (s *scenario) run(t *testing.T, tool, dir string) {
	began := time.Now()
	path, err := s.file(dir)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(tool, "test", "rules", path).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%d minutes, %d series, %v", s.page.minutes(), len(s.page), time.Since(began).Round(100*time.Millisecond))
}
