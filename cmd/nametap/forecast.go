package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/nametap/nametap/analysis/forecast"
)

func newForecast() *cobra.Command {
	p := &predictor{}
	cmd := &cobra.Command{
		Use:   "forecast SERIES...",
		Short: "Say what comes next in a series of round-trip times or losses",
		Long: `forecast reads series of measurements, one value a period, and says what to
expect 1, 6, 30 and 360 periods ahead, with an interval that covers 90 %. A file
is CSV with a header, or JSON Lines such as nametap ping --format json writes; -
is standard input. Times are RFC 3339 or numbers since 1970. An empty value is a
gap, and so is a period without a line; gaps are not filled in. A file that holds
lines about several things takes --where, to choose among them, and --by, to tell
apart what is left.

For each series and horizon the model that has erred least so far speaks: the
last value, the value a season ago, damped exponential smoothing, autoregression,
regression on time of day and outside columns, or their median. Skill is how much
smaller its errors have been than those of the last value; it can be negative,
and over seconds it mostly is small.

nametap forecast backtest tries all models on all of a series.`,
		Example: `  nametap forecast rtt.csv
  nametap forecast --value rtt_median_s --by group ping.jsonl
  nametap forecast --value server_rtt_median_s --where group=class --by app,class passive.jsonl
  nametap forecast --scale share --value loss_share_out --format json ping.jsonl
  nametap forecast --columns signal_dbm,x,y drive.csv`,
		Args: atLeast(1, "a file with a series, or - for standard input"),
		RunE: func(cmd *cobra.Command, files []string) error {
			return p.each(cmd, files, p.forecast)
		},
	}
	p.register(cmd)
	cmd.AddCommand(newBacktest())
	return cmd
}

func newBacktest() *cobra.Command {
	p := &predictor{}
	var svg string
	cmd := &cobra.Command{
		Use:   "backtest SERIES...",
		Short: "Hold every model's forecasts against what came, and draw it",
		Long: `backtest goes through series value by value. Each value is forecast by every
model from what was known 1, 6, 30 and 360 periods before it, and then held
against what they said. After a warm-up it scores, on the scale of --scale:

  MASE     mean absolute error over that of the last value at the same horizon
  skill    1 - MASE: negative where the last value would have been better
  pinball  mean loss of the quantiles 5 %, 50 % and 95 %
  covers   share of values inside the 90 % interval, and that one's mean width

The same file gives the same figures, to the last digit.`,
		Example: `  nametap forecast backtest --svg backtest.svg rtt.csv
  nametap forecast backtest --format json rtt.csv | jq 'select(.model == "selected")'`,
		Args: atLeast(1, "a file with a series, or - for standard input"),
		RunE: func(cmd *cobra.Command, files []string) error {
			if err := checkOutputs([]named{{flag: "--svg", path: svg}}, arguments(files)); err != nil {
				return err
			}
			var results []*forecast.Result
			err := p.each(cmd, files, func(out io.Writer, s *forecast.Series, cfg forecast.Config) error {
				r, err := p.backtest(out, s, cfg)
				results = append(results, r)
				return err
			})
			if err != nil || svg == "" {
				return err
			}
			return drawTo(svg, results)
		},
	}
	p.register(cmd)
	cmd.Flags().StringVar(&svg, "svg", "", "draw the scores to `FILE`")
	cmd.Flags().DurationVar(&p.warmup, "warmup", 0, "time at the start of a series that is not scored (default: two seasons, or half of a short series)")
	return cmd
}

// conditions is a flag that chooses lines.
type conditions []forecast.Condition

func (c *conditions) Type() string { return "COLUMN=VALUE" }

func (c *conditions) String() string {
	parts := make([]string, len(*c))
	for i, x := range *c {
		parts[i] = x.Column + "=" + x.Value
	}
	return strings.Join(parts, ",")
}

func (c *conditions) Set(text string) error {
	column, value, ok := strings.Cut(text, "=")
	if !ok || column == "" {
		return fmt.Errorf("%q is no condition such as group=class", text)
	}
	*c = append(*c, forecast.Condition{Column: column, Value: value})
	return nil
}

// predictor is nametap forecast, and what it shares with backtest.
type predictor struct {
	layout   forecast.Layout
	period   time.Duration
	season   time.Duration
	warmup   time.Duration
	horizons []int
	scale    string
	format   string
	shown    int
}

func (p *predictor) register(cmd *cobra.Command) {
	d := forecast.DefaultConfig()
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&p.layout.Time, "time", "", "`COLUMN` of the time (default: time, timestamp, start or t)")
	f.StringVar(&p.layout.Value, "value", "value", "`COLUMN` of the value")
	f.StringSliceVar(&p.layout.By, "by", nil, "`COLUMNS` that tell several series in one file apart, such as app,class")
	f.Var((*conditions)(&p.layout.Where), "where", "only lines whose column has the value, such as group=class; repeatable: all have to hold")
	f.StringSliceVar(&p.layout.Columns, "columns", nil, "outside `COLUMNS` for the regression, such as signal strength or position")
	f.DurationVar(&p.period, "period", 0, "time from one value to the next (default: the longest that fits the lines of the file)")
	f.DurationVar(&p.season, "season", d.Season, "length of the rhythm")
	f.IntSliceVar(&p.horizons, "horizons", d.Horizons, "how many periods ahead")
	f.StringVar(&p.scale, "scale", string(d.Transform), "log for round-trip times, share for losses (0 to 1), none for anything else")
	f.StringVar(&p.format, "format", "table", "table or json")
}

func (p *predictor) config() (forecast.Config, error) {
	if p.format != "table" && p.format != "json" {
		return forecast.Config{}, usagef("--format is table or json, not %q", p.format)
	}
	transform, err := forecast.ParseTransform(p.scale)
	if err != nil {
		return forecast.Config{}, usagef("--scale: %w", err)
	}
	if p.period < 0 {
		return forecast.Config{}, usagef("--period cannot be negative")
	}
	horizons := slices.Clone(p.horizons)
	slices.Sort(horizons)
	cfg := forecast.Config{
		Period: p.period, Season: p.season, Horizons: slices.Compact(horizons), Transform: transform,
		Columns: len(p.layout.Columns), Warmup: p.warmup,
	}
	check := cfg
	if check.Period == 0 {
		check.Period = check.Season / 2 // that of a series is looked at with the series
	}
	if _, err := forecast.New(check); err != nil {
		return cfg, usageError{err}
	}
	return cfg, nil
}

// each works on every series of every file. A series that fails does not keep
// the others from being worked.
func (p *predictor) each(cmd *cobra.Command, files []string, work func(io.Writer, *forecast.Series, forecast.Config) error) error {
	cfg, err := p.config()
	if err != nil {
		return err
	}
	var failed []error
	for _, file := range files {
		if err := cmd.Context().Err(); errors.Is(err, context.Canceled) {
			return oneLine(append(failed, errors.New("interrupted"))...)
		}
		list, err := readSeries(cmd.InOrStdin(), file, p.layout)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		usual := forecast.UsualPeriods(list)
		for i, s := range list {
			its := cfg
			if its.Period == 0 {
				its.Period = usual[i]
			}
			if its.Period == 0 {
				failed = append(failed, fmt.Errorf("%s: a single measurement is no series; give --period to use it as one", s.Label()))
				continue
			}
			if err := work(cmd.OutOrStdout(), s, its); err != nil {
				failed = append(failed, err)
			}
		}
	}
	return oneLine(failed...)
}

func readSeries(stdin io.Reader, file string, layout forecast.Layout) ([]*forecast.Series, error) {
	if file == "-" {
		return forecast.Read(stdin, "standard input", layout)
	}
	f, err := os.Open(file)
	if err != nil {
		var cause *os.PathError
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	defer func() { _ = f.Close() }() // only read
	return forecast.Read(f, file, layout)
}

// outlookLine is a forecast as a line of JSON; what is not known is null.
type outlookLine struct {
	Series    string   `json:"series"`
	Horizon   int      `json:"horizon"`
	Time      string   `json:"time"`
	Point     *float64 `json:"point"`
	Lo        *float64 `json:"lo"`
	Hi        *float64 `json:"hi"`
	Model     *string  `json:"model"`
	Forecasts int      `json:"forecasts"`
	MASE      *float64 `json:"mase"`
	Skill     *float64 `json:"skill"`
	Coverage  *float64 `json:"coverage"`
	PeriodS   float64  `json:"period_s"`
	LeftOut   int      `json:"left_out"` // second values in their period
}

func (p *predictor) forecast(out io.Writer, s *forecast.Series, cfg forecast.Config) error {
	f, repeated, err := forecast.Run(s, cfg)
	if err != nil {
		return err
	}
	if p.format == "json" {
		enc := json.NewEncoder(out)
		for _, h := range cfg.Horizons {
			o := f.Outlook(h)
			l := outlookLine{
				Series: s.Label(), PeriodS: cfg.Period.Seconds(), LeftOut: repeated, Horizon: h, Time: when(o), Forecasts: o.Score.Count,
				Point: forecast.Number(o.Point), Lo: forecast.Number(o.Lo), Hi: forecast.Number(o.Hi),
				MASE: forecast.Number(o.Score.MASE), Skill: forecast.Number(o.Score.Skill), Coverage: forecast.Number(o.Score.Covered),
			}
			if l.Point != nil {
				l.Model = new(o.Model.String())
			}
			if err := enc.Encode(l); err != nil {
				return err
			}
		}
		return nil
	}
	if p.shown++; p.shown > 1 {
		_, _ = fmt.Fprintln(out)
	}
	_, _ = fmt.Fprintf(out, "%s: %d values, one each %v", s.Label(), f.Values(), cfg.Period)
	if repeated > 0 {
		_, _ = fmt.Fprintf(out, "; %d left out: second ones in their period, see --period", repeated)
	}
	_, _ = fmt.Fprintln(out)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(t, "periods ahead\ttime\tforecast\t90 % from\tto\tmodel\tskill so far\tcovered\t")
	for _, h := range cfg.Horizons {
		o := f.Outlook(h)
		model := o.Model.String()
		if math.IsNaN(o.Point) {
			model = "-"
		}
		_, _ = fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", h, when(o),
			significant(o.Point), significant(o.Lo), significant(o.Hi), model, share(o.Score.Skill, "%+.2f %%"), share(o.Score.Covered, "%.2f %%"))
	}
	return t.Flush()
}

func when(o forecast.Outlook) string { return time.Unix(0, o.Time).UTC().Format(time.RFC3339) }

func significant(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	return strconv.FormatFloat(v, 'g', 5, 64)
}

func share(v float64, format string) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "-"
	}
	return fmt.Sprintf(format, v*100)
}

func (p *predictor) backtest(out io.Writer, s *forecast.Series, cfg forecast.Config) (*forecast.Result, error) {
	r, err := forecast.Backtest(s, cfg)
	if err != nil {
		return nil, err
	}
	if p.format == "json" {
		enc := json.NewEncoder(out)
		for _, l := range r.Lines() {
			if err := enc.Encode(l); err != nil {
				return nil, err
			}
		}
		return r, nil
	}
	if p.shown++; p.shown > 1 {
		_, _ = fmt.Fprintln(out)
	}
	return r, r.WriteTable(out)
}

// maxDrawn is how many series one picture holds.
const maxDrawn = 50

func drawTo(path string, results []*forecast.Result) error {
	if len(results) > maxDrawn {
		return fmt.Errorf("%s: %d series do not fit in one picture; draw %d at most at a time", path, len(results), maxDrawn)
	}
	var picture strings.Builder
	if err := forecast.Draw(&picture, results); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := os.WriteFile(path, []byte(picture.String()), 0o644); err != nil {
		var cause *os.PathError
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return fmt.Errorf("%s: cannot draw: %w", path, err)
	}
	return nil
}
