// Package contract holds the promises to the outside: tests alone, each of
// which builds nametap once, runs the whole program the way a person does, and
// reads nothing but what it writes.
//
// The traces are forged here, byte by byte, so that their truth is exact: who
// sent how many bytes is counted by the hand that wrote the packets, never by a
// decoder. Real captures are held against what tshark says of them, with a table
// of the places where tshark is the one that errs.
//
// A test reads like the sentence that it proves. Where one fails, the sentence
// has been broken for those who rely on it: dashboards, scripts, outside checks.
package contract
