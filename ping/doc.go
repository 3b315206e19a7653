// Package ping tells what round-trip time and loss the connections of this
// machine meet, without a packet of its own: the kernel's TCP keeps these figures
// for every connection, and sock_diag hands them out (man 7 sock_diag).
//
// A Sampler reads all TCP connections of all network namespaces that it may see,
// and gives one Sample a period: the connections that were active in it, with
// their round-trip times and what was counted since the Sample before.
//
// The sub-folder tun does the same for a machine that does not let us look, such
// as a phone: there, connections end in a TCP of ours and go on over sockets of
// ours.
//
// What cannot be seen: the kernel counts what this machine sent again, so loss is
// that of the way out. A segment lost on the way in leaves no mark here but the
// sender's repeat, which looks like any other segment (RFC 9293 has no field for
// it); Counts.OutOfOrder is a hint at most. A connection that is opened and closed
// between two samples is not seen by a Sampler.
package ping
