package forecast

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// Transform is the scale on which a series is modelled and errors are measured.
type Transform string

// Scales.
const (
	Log   Transform = "log"   // positive values, such as round-trip times
	Share Transform = "share" // values from 0 to 1, such as loss; not transformed
	Plain Transform = "none"  // any values
)

// ParseTransform reads a Transform.
func ParseTransform(text string) (Transform, error) {
	t := Transform(text)
	if t == Log || t == Share || t == Plain {
		return t, nil
	}
	return "", fmt.Errorf("%q is none of %s, %s, %s", text, Log, Share, Plain)
}

func (t Transform) forward(v float64) (float64, error) {
	switch {
	case math.IsInf(v, 0):
		return 0, errors.New("an infinite value")
	case t == Log && v <= 0:
		return 0, fmt.Errorf("%g has no logarithm; leave the value out for a gap, or choose another scale than log", v)
	case t == Share && (v < 0 || v > 1):
		return 0, fmt.Errorf("%g is no share; it goes from 0 to 1", v)
	case t == Log:
		return math.Log(v), nil
	}
	return v, nil
}

func (t Transform) back(v float64) float64 {
	switch t {
	case Log:
		return math.Exp(v)
	case Share:
		return min(1, max(0, v)) // NaN stays NaN
	}
	return v
}

// Config of a Forecaster.
type Config struct {
	// Period is the time from one value to the next.
	Period time.Duration
	// Season is the length of the rhythm: a day.
	Season time.Duration
	// Horizons in periods, ascending.
	Horizons  []int
	Transform Transform
	// Columns is the number of outside columns: values known at the time of a
	// measurement (signal strength, disconnections, position) that may tell
	// what comes.
	Columns int
	// Warmup is the time from the first value in which nothing is scored.
	Warmup time.Duration
	// EachModel gives every model an interval and its scores, for a
	// backtest. Otherwise only what the selector says has those.
	EachModel bool
}

// DefaultConfig is that of live figures: a value every 10 s, a day's rhythm, 1,
// 6, 30 and 360 periods ahead, on a logarithmic scale.
func DefaultConfig() Config {
	return Config{Period: 10 * time.Second, Season: 24 * time.Hour, Horizons: []int{1, 6, 30, 360}, Transform: Log}
}

// Bounds that keep the tables of one series within some hundred megabytes.
const (
	maxSeason   = 1 << 20
	maxHorizon  = 1 << 16
	maxHorizons = 16
	maxColumns  = 64
)

func (c *Config) check() error {
	switch {
	case c.Period <= 0:
		return fmt.Errorf("a period of %v", c.Period)
	case c.Season < 2*c.Period || c.Season%c.Period != 0:
		return fmt.Errorf("a season of %v is not a multiple, 2 at least, of the period %v", c.Season, c.Period)
	case c.Season/c.Period > maxSeason:
		return fmt.Errorf("a season of %d periods; %d are possible", c.Season/c.Period, maxSeason)
	case len(c.Horizons) == 0 || len(c.Horizons) > maxHorizons:
		return fmt.Errorf("%d horizons; 1 to %d are possible", len(c.Horizons), maxHorizons)
	case c.Horizons[0] < 1 || c.Horizons[len(c.Horizons)-1] > maxHorizon:
		return fmt.Errorf("horizons go from 1 to %d periods", maxHorizon)
	case !slices.IsSorted(c.Horizons) || len(slices.Compact(slices.Clone(c.Horizons))) != len(c.Horizons):
		return errors.New("horizons ascend, and none comes twice")
	case c.Columns < 0 || c.Columns > maxColumns:
		return fmt.Errorf("%d outside columns; %d are possible", c.Columns, maxColumns)
	case c.Warmup < 0:
		return errors.New("a negative warm-up")
	}
	_, err := ParseTransform(string(c.Transform))
	return err
}

// Model is a way to forecast.
type Model int

// The models. Selected is what the choice among them says.
const (
	LastValue Model = iota
	SeasonalNaive
	Holt
	AR
	Regression
	Median
	Selected
	models = int(Selected) // without the choice itself
)

func (m Model) String() string {
	return [...]string{"last value", "seasonal naive", "damped Holt", "AR ridge", "regression", "median", "selected"}[m]
}

// Models are all models and, last, the choice among them.
func Models() []Model {
	return []Model{LastValue, SeasonalNaive, Holt, AR, Regression, Median, Selected}
}
