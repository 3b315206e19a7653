package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/nametap/nametap/detect/trial"
)

func newDetect() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "detect",
		Short: "Hold the outage detector against simulated weeks",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDetectTrial())
	return cmd
}

func newDetectTrial() *cobra.Command {
	t := &detectTrial{}
	var names []string
	for _, s := range trial.Scenarios() {
		names = append(names, fmt.Sprintf("  %-15s %s", s.Name, s.Text))
	}
	cmd := &cobra.Command{
		Use:   "trial",
		Short: "What the outage detector finds in simulated weeks, how soon, and what it calls it",
		Long: `trial runs the detector of run, demo and report over simulated networks: weeks of
days and nights, weekends, noise and spikes, in which something goes wrong at a
known time (or nothing does). For each scenario it prints

  runs      simulations of all days each: networks of several sizes, several times
            of the day at which it begins, with and without a season to compare with
  expected  the verdict that was to be found; – where nothing was
  found     the runs in which it was found once, in time, and called so
  verdict   what it was called
  delay     from the beginning to the alarm: least, median, most; and the limit
  off       the greatest error of the event's start, and of its end
  false     alerts of what was not there

The network is simulated as counts, not as packets; nametap demo --scenario
outage-2014 sends packets through the whole program. The table is decided by
--seed, and every seed must do: exit status 1 says that a run went otherwise.

Scenarios:
` + strings.Join(names, "\n"),
		Example: `  nametap detect trial
  nametap detect trial --scenario outage-2014 --seed 7
  nametap detect trial --scenario quiet --seeds 10 --format json`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := t.check(); err != nil {
				return err
			}
			return t.run(cmd)
		},
	}
	f := cmd.Flags()
	f.IntVar(&t.days, "days", 28, "simulate `N` days a run")
	f.Uint64Var(&t.seed, "seed", 1, "what decides all that is random")
	f.IntVar(&t.seeds, "seeds", 1, "do it with `N` seeds, from --seed on")
	f.StringVar(&t.format, "format", "table", "print a table or json")
	f.StringSliceVar(&t.only, "scenario", nil, "only the scenario `NAME`; repeatable (default: all)")
	return cmd
}

// detectTrial is nametap detect trial.
type detectTrial struct {
	days, seeds int
	seed        uint64
	format      string
	only        []string
}

// mostDays keeps a slip of the finger from taking a day.
const mostDays = 365

func (t *detectTrial) check() error {
	switch {
	case t.format != "table" && t.format != "json":
		return usagef("--format is table or json, not %q", t.format)
	case t.days < trial.LeastDays || t.days > mostDays:
		return usagef("--days is %d to %d, not %d", trial.LeastDays, mostDays, t.days)
	case t.seeds < 1:
		return usagef("--seeds is 1 or more, not %d", t.seeds)
	}
	for _, name := range t.only {
		if !slices.ContainsFunc(trial.Scenarios(), func(s trial.Scenario) bool { return s.Name == name }) {
			return usagef("no scenario %q", name)
		}
	}
	return nil
}

func (t *detectTrial) run(cmd *cobra.Command) error {
	results, err := t.simulate(cmd)
	if err != nil {
		return err
	}
	if t.format == "json" {
		err = t.json(cmd.OutOrStdout(), results)
	} else {
		err = t.table(cmd.OutOrStdout(), results)
	}
	if err != nil {
		return err
	}
	for i := range results {
		if failures := results[i].Failures; len(failures) > 0 {
			more := ""
			if len(failures) > 1 {
				more = fmt.Sprintf(", and %d more of them", len(failures)-1)
			}
			return fmt.Errorf("%s: %s%s", results[i].Scenario, failures[0], more)
		}
	}
	return nil
}

// simulate runs the scenarios on as many cores as there are.
func (t *detectTrial) simulate(cmd *cobra.Command) ([]trial.Result, error) {
	var chosen []trial.Scenario
	for _, s := range trial.Scenarios() {
		if len(t.only) == 0 || slices.Contains(t.only, s.Name) {
			chosen = append(chosen, s)
		}
	}
	results := make([]trial.Result, len(chosen))
	var wait sync.WaitGroup
	places := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i := range chosen {
		places <- struct{}{}
		if err := cmd.Context().Err(); err != nil {
			break
		}
		wait.Go(func() {
			defer func() { <-places }()
			for n := range t.seeds {
				r := chosen[i].Run(cmd.Context(), t.seed+uint64(n), t.days)
				results[i].Add(&r)
			}
		})
	}
	wait.Wait()
	if err := cmd.Context().Err(); err != nil {
		return nil, fmt.Errorf("stopped before the trial was over")
	}
	return results, nil
}

// trialJSON is what --format json prints.
type trialJSON struct {
	Days      int            `json:"days"`
	Seed      uint64         `json:"seed"`
	Seeds     int            `json:"seeds"`
	Scenarios []trial.Result `json:"scenarios"`
}

func (t *detectTrial) json(w io.Writer, results []trial.Result) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(trialJSON{t.days, t.seed, t.seeds, results})
}

func (t *detectTrial) table(w io.Writer, results []trial.Result) error {
	seeds := fmt.Sprintf("seed %d", t.seed)
	if t.seeds > 1 {
		seeds = fmt.Sprintf("seeds %d to %d", t.seed, t.seed+uint64(t.seeds)-1)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d days a run, %s; delays and errors in minutes:seconds\n\n", t.days, seeds)
	tab := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "scenario\truns\texpected\tfound\tverdict\tdelay\tlimit\toff\tfalse")
	runs, stray := 0, 0
	for i := range results {
		r := &results[i]
		runs, stray = runs+r.Runs, stray+r.FalseAlerts
		fmt.Fprintf(tab, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n", r.Scenario, r.Runs, dash(string(r.Expected)), found(r), verdicts(r), delays(r),
			limit(r), off(r), r.FalseAlerts)
	}
	if err := tab.Flush(); err != nil {
		return err
	}
	if err := distribution(&b, results); err != nil {
		return err
	}
	fmt.Fprintf(&b, "\n%d runs of %d days: %d false alerts\n", runs, t.days, stray)
	for i := range results {
		for _, f := range results[i].Failures {
			fmt.Fprintf(&b, "%s: %s\n", results[i].Scenario, f)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// within are the delays, in minutes, of which the table says how many runs kept
// them.
var within = []int{5, 6, 7, 8, 9, 10, 12, 15, 30, 60, 120}

// distribution writes how many of the runs had been found by when.
func distribution(b *strings.Builder, results []trial.Result) error {
	tab := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	head := "runs found within minutes"
	for _, m := range within {
		head += fmt.Sprintf("\t%d", m)
	}
	lines := 0
	for i := range results {
		r := &results[i]
		if len(r.Delays) == 0 {
			continue
		}
		if lines++; lines == 1 {
			fmt.Fprintf(b, "\n")
			fmt.Fprintf(tab, "%s\t\n", head)
		}
		fmt.Fprintf(tab, "%s", r.Scenario)
		for _, m := range within {
			n, _ := slices.BinarySearch(r.Delays, float64(60*m)+0.5)
			fmt.Fprintf(tab, "\t%d", n)
		}
		fmt.Fprintf(tab, "\t\n")
	}
	return tab.Flush()
}

func dash(text string) string {
	if text == "" {
		return "–"
	}
	return text
}

func found(r *trial.Result) string {
	if r.Expected == "" {
		return "–"
	}
	return fmt.Sprintf("%d", r.Found)
}

func verdicts(r *trial.Result) string {
	var out []string
	for _, v := range r.Verdicts {
		text := string(v.Verdict)
		if len(r.Verdicts) > 1 {
			text = fmt.Sprintf("%s %d", text, v.Runs)
		}
		out = append(out, text)
	}
	return dash(strings.Join(out, ", "))
}

func delays(r *trial.Result) string {
	if len(r.Delays) == 0 {
		return "–"
	}
	return fmt.Sprintf("%s %s %s", minutes(r.Delay(0)), minutes(r.Delay(0.5)), minutes(r.Delay(1)))
}

func limit(r *trial.Result) string {
	if r.Expected == "" {
		return "–"
	}
	return minutes(time.Duration(r.Within * float64(time.Second)))
}

func off(r *trial.Result) string {
	if len(r.Delays) == 0 {
		return "–"
	}
	return minutes(time.Duration(r.StartOff*float64(time.Second))) + " " + minutes(time.Duration(r.EndOff*float64(time.Second)))
}

func minutes(d time.Duration) string {
	return fmt.Sprintf("%d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}
