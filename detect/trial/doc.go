// Package trial holds the outage detector against simulated networks: weeks with
// the rhythm of days and weekends, autocorrelated noise, heavy-tailed volumes and
// spikes, in which this or that goes wrong at a known time. It says what was found,
// how soon, what it was called, and what was found that was not there.
//
// A trial is decided by its seed: the same one gives the same table.
package trial
