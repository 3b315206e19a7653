// Package forecast says what comes next in a series of measurements, one value a
// period, such as the median round-trip time or the loss share of a class every
// ten seconds: a point and an interval for each of several horizons.
//
// Six models stand ready. The last value; the value one season ago; damped
// exponential smoothing (Holt) of what is left when the daily rhythm is taken
// away; an autoregression of the same, by ridge regression; a regression on time
// of day, on where the series stands against its running means, and on outside
// columns, where there are some; and the median of these. Which one speaks is
// decided for each horizon by the errors that each has made so far: every value
// that comes in is first held against what every model said of it when it was
// still to come (rolling origin). A model takes over only where it is better by a
// margin, so that the choice does not flutter.
//
// Intervals are conformal: quantiles of the errors that were really made,
// widened and narrowed as values fall outside or inside (adaptive conformal
// inference, Gibbs and Candès 2021), so that their coverage holds when the series
// changes its ways.
//
// Gaps are gaps. A period without a value is never filled in: nothing is learned
// from it, and a model that would need it does not speak.
//
// At horizons of seconds to minutes hardly anything beats the last value. Skill
// is therefore always given against that, also where it is negative.
//
// A Forecaster works value by value, with the same result whether the values come
// live or from a file. It knows no clock but the times it is given.
package forecast
