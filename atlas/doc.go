// Package atlas asks the rest of the world what this network sees: it writes the
// definition of a RIPE Atlas measurement that resolves an app's names from
// probes everywhere, reads the results, and holds the addresses in them against
// those that a tap has seen.
//
// It talks to nobody. A definition is printed for the user to send, results are
// files that the user has fetched. Addresses come from the DNS message that each
// probe returns (abuf), never from what the probe's firmware made of it.
package atlas
