// Package report turns flows into the study's answers for one network: how big,
// how fast, from where, how good, on which phones, and how far to trust all of
// it. The flows come as records, from captures that have just been analysed or
// from files of stored flow records, and the report is the same from either.
//
// A Collector takes records one at a time and keeps none of them: histograms
// with logarithmic bins, distinct counts that are exact up to a bound and
// estimated beyond it, time bins that widen as the trace goes on, and one small
// entry a server address and a name, all with caps. Its size does not depend on
// the number of flows, and its result does not depend on their order.
//
// Report is what comes out: every number behind every picture, and a sentence in
// each section on what it shows, how it was computed and what it cannot know. It
// is written as JSON, or as one HTML page that needs nothing else.
//
// No address of a subscriber enters a Report, in whatever form it was read.
package report
