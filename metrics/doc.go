// Package metrics shows an engine's snapshots to Prometheus: one snapshot a
// scrape, every series there from the start, labels from closed lists only.
// Never an address, a queried name or an identity. Beside cmd it is the only
// importer of the Prometheus client library.
//
// All names begin with nametap_. docs/metrics.md, made from the same
// descriptions, has types, labels and meanings.
package metrics
