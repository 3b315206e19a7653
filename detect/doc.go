// Package detect tells when an app fails, from what a tap counts in steps of
// time: an outage of the app, a network that does not reach it, a resolver that
// does not answer, a network of ours that fails as a whole, or a tap that has
// gone blind. The daemon and the report use it alike.
//
// It is pure: no clock, no input or output, no randomness. The same steps in the
// same order give the same events, and the state can be saved as JSON and
// loaded again between any two of them. Package trial holds it against simulated
// weeks.
//
// # Signals
//
// Three signals are judged for each series (an app, one of its classes, either
// of them behind one gateway), and none follows from another:
//
//   - attempts up: connection attempts per active subscriber rise, because
//     clients that fail try again;
//   - success down: a smaller share of the flows carries payload both ways, a
//     smaller share of SYNs is answered, or servers reset more of them;
//   - bytes per flow down.
//
// A fall in volume alone is no outage (it is every night), nor is a rise in
// flows alone (it is every New Year). An outage to zero, where nothing is even
// attempted, is judged apart, against what the time of the week leads us to
// expect.
//
// # Baseline
//
// Counts are judged as logarithms, shares on the arcsine scale (Anscombe 1948),
// where their sampling error does not depend on their value. What is expected
// is the median, and its spread the median absolute deviation, of the same time
// of the week in up to five weeks, two bins to either side included: an hour
// that is unusual once moves neither. Before two such weeks have passed there is
// no season; the last two hours stand in for it, only effects that no daily
// rhythm has are believed, and events say that they are uncalibrated. Bins of an
// event are not learned, and neither is the storm of reconnects after it.
//
// # Verdicts
//
// What is judged is a bin of five minutes, one that ends with each step of half as
// long. Three bins in a row that alarm, of which the first and the last have no
// time in common, make an event, unless the last step by itself looks well again.
// So it is told of five and a half to eight minutes after it began if most flows
// fail, wherever in a bin that is. It begins with the step that brought the first
// alarm, and ends with the first of as many quiet bins. Where from then on a bin
// has more attempts than usual, that is a storm of reconnects: it is followed to the
// first of as many bins without, also where it has passed before the end is sure.
//
// Before a failure is believed the tap itself is judged: where all traffic falls
// at once, other apps' included and with no more attempts than before, where one
// direction is missing everywhere, or where capture drops packets, the tap is at
// fault, and nothing is said about apps.
package detect
