package forecast

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"text/tabwriter"
	"time"
)

// Label names a series for people.
func (s *Series) Label() string {
	if s.Name == "" {
		return s.File
	}
	return s.File + " " + s.Name
}

// Run takes a whole series through a Forecaster. Second values in one period are
// left out and counted.
func Run(s *Series, cfg Config) (f *Forecaster, repeated int, err error) {
	if f, err = New(cfg); err != nil {
		return nil, 0, err
	}
	for i := range s.Points {
		p := &s.Points[i]
		err := f.Add(p.Time, p.Value, p.Columns...)
		switch {
		case errors.Is(err, ErrSamePeriod):
			repeated++
		case err != nil:
			return nil, 0, fmt.Errorf("%s:%d: %w", s.File, p.Line, err)
		}
	}
	if f.Values() == 0 {
		return nil, 0, fmt.Errorf("%s: no values, only gaps", s.Label())
	}
	return f, repeated, nil
}

// Result is a backtest of one series.
type Result struct {
	Label    string
	Values   int
	Repeated int
	Warmup   time.Duration
	Horizons []int
	Scores   [][models + 1]Score // by horizon, by model
	Chosen   []Model             // at the end, by horizon
}

// Backtest forecasts each value of a series from what was known so many periods
// before it, with every model, and scores them. A Warmup of 0 stands for two
// seasons, or half of a series that is shorter than four.
//
// The same series gives the same figures, to the last digit, on the same kind of
// processor.
func Backtest(s *Series, cfg Config) (*Result, error) {
	cfg.EachModel = true
	if cfg.Warmup == 0 && len(s.Points) > 0 {
		length := time.Duration(s.Points[len(s.Points)-1].Time - s.Points[0].Time)
		cfg.Warmup = min(2*cfg.Season, length/2)
	}
	f, repeated, err := Run(s, cfg)
	if err != nil {
		return nil, err
	}
	r := &Result{Label: s.Label(), Values: f.Values(), Repeated: repeated, Warmup: cfg.Warmup, Horizons: cfg.Horizons}
	for _, h := range f.horizons {
		var scores [models + 1]Score
		for m := range scores {
			scores[m] = h.scores[m].score()
		}
		r.Scores = append(r.Scores, scores)
		r.Chosen = append(r.Chosen, h.current)
	}
	return r, nil
}

// WriteTable writes the result for people.
func (r *Result) WriteTable(w io.Writer) error {
	_, _ = fmt.Fprintf(w, "%s: %d values, scored after %v\n", r.Label, r.Values, r.Warmup)
	if r.Repeated > 0 {
		_, _ = fmt.Fprintf(w, "%d values left out: second ones in their period, see --period\n", r.Repeated)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(t, "periods ahead\tmodel\tforecasts\tMAE\tMASE\tskill\tpinball\t90 % interval covers\twidth\t")
	for i, h := range r.Horizons {
		for _, m := range Models() {
			s := &r.Scores[i][m]
			name := m.String()
			if m == Selected {
				name += " (now " + r.Chosen[i].String() + ")"
			}
			_, _ = fmt.Fprintf(t, "%d\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t\n", h, name, s.Count,
				digits(s.MAE, 5), digits(s.MASE, 4), signed(s.Skill), digits(s.Pinball, 5), percent(s.Covered), digits(s.Width, 4))
		}
	}
	return t.Flush()
}

func digits(v float64, n int) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "-"
	}
	return strconv.FormatFloat(v, 'f', n, 64)
}

func percent(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	return digits(v*100, 2) + " %"
}

func signed(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return "-"
	}
	return fmt.Sprintf("%+.2f %%", v*100)
}

// Line is a score as a line of JSON; what is not known is null.
type Line struct {
	Series    string   `json:"series"`
	Horizon   int      `json:"horizon"`
	Model     string   `json:"model"`
	Chosen    *string  `json:"chosen,omitempty"` // of the selector, at the end
	Forecasts int      `json:"forecasts"`
	MAE       *float64 `json:"mae"`
	MASE      *float64 `json:"mase"`
	Skill     *float64 `json:"skill"`
	Pinball   *float64 `json:"pinball"`
	Intervals int      `json:"intervals"`
	Coverage  *float64 `json:"coverage"`
	Width     *float64 `json:"width"`
}

// Lines returns all scores.
func (r *Result) Lines() []Line {
	var out []Line
	for i, h := range r.Horizons {
		for _, m := range Models() {
			s := &r.Scores[i][m]
			l := Line{
				Series: r.Label, Horizon: h, Model: m.String(), Forecasts: s.Count, Intervals: s.Intervals,
				MAE: Number(s.MAE), MASE: Number(s.MASE), Skill: Number(s.Skill), Pinball: Number(s.Pinball),
				Coverage: Number(s.Covered), Width: Number(s.Width),
			}
			if m == Selected {
				l.Chosen = new(r.Chosen[i].String())
			}
			out = append(out, l)
		}
	}
	return out
}

// Number is nil for what JSON cannot write.
func Number(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}
