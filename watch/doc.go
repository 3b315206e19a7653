// Package watch looks at an engine's snapshots as packet time goes by: it keeps
// the last hours of every class in rings of fixed size, asks the outage detector
// all the while, and says whether what the tap delivers can be trusted.
//
// It is pure: packet time is its only clock, and it reads and writes nothing. The
// daemon hands it snapshots, saves its state as JSON, and serves what it says as
// metrics, as JSON and as a page.
package watch
