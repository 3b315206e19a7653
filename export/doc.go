// Package export writes what the other rooms have found out, for people and for
// programs: flow records as JSON Lines, and the summary of a whole input. It
// sees records and snapshots, never a packet.
//
// An address of a subscriber leaves here only as a keyed pseudonym, unless the
// user asked for addresses.
package export
