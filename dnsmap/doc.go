// Package dnsmap turns the DNS answers that subscribers receive into names for
// the flows that follow.
//
// It has three parts, used in this order:
//
//   - Message scans a DNS response for its QNAME and addresses.
//   - Names interns the QNAME, so that the rest of the program passes a NameID.
//   - Map remembers ⟨subscriber, server⟩ → name, for how long the answer is
//     valid and how long, after that, it may still serve as stale evidence.
//
// The name is always the name that was asked for (QNAME, RFC 8499), never the
// target of a CNAME: several services share one CNAME target, and only the
// QNAME tells them apart.
//
// Nothing here allocates, locks, logs or reads a clock once the tables have
// grown; time is packet time in nanoseconds, passed in. The tables hold no
// pointers, are capped, and count what they shed. A table belongs to one
// goroutine at a time. What a table answers depends on what was put in and
// when, never on the hash seed or on memory addresses: a replay gives the same
// names every time.
package dnsmap
