// Package synth is the room where traffic is made up: a seeded population of
// subscribers, their devices' TCP, the DNS and the servers they talk to, seen
// from one tap, together with the truth about every flow.
//
// The model is a discrete-event simulation. Every segment is sent by a TCP
// endpoint that keeps sequence numbers, a congestion window and timers of its
// own, travels to the tap, becomes a frame there, and travels on to the other
// endpoint. A segment can be lost or overtaken on either side of the tap:
//
//	subscriber -- access side --> tap -- server side --> server
//	subscriber <-- access side -- tap <-- server side -- server
//
// Frames come out in the order in which they pass the tap, one at a time, and
// are not kept. What is kept is bounded by the population and by the
// connections alive at one moment, never by the length of the trace.
//
// # Truth
//
// The truth (FlowTruth) is what the generator did, told in the terms of the
// flow record: it knows which segment is a repeat because it repeated it, and
// it never looks at a frame. Where the record's meaning depends on what a tap
// can know (evidence, name, idle splitting) the truth follows the naming
// rules with the default flags, over the packets that passed the tap.
//
// Counting rules, where the words of the record leave room:
//
//   - A segment counts as retransmitted if the tap has passed its bytes
//     before, or if it is a sender's repeat of a segment that was lost before
//     the tap and later bytes have passed already (it fills a hole). A repeat
//     of the last segment sent, whose original never reached the tap, looks
//     new to anybody at the tap and counts as neither; it is in the
//     truth_*_lost_before counts. Keep-alives count as neither. A repeated
//     SYN or SYN/ACK has no bytes: it is counted in syn, syn_ack and the
//     truth_*_syn_repeated keys only. A repeated FIN counts as retransmitted.
//   - A segment counts as out of order if it was sent once, and later bytes
//     of its direction passed the tap before it.
//   - A copy made by the mirror port (tap.duplicates) is no packet: it is in
//     the truth_*_duplicate keys only.
//   - Packets after the close (second FIN acknowledged, or RST) belong to the
//     closed flow and move its end; the truth_*_late keys say how many of the
//     packets and bytes they are, and truth_closed when the close was.
//   - Least and mean round-trip times are over all samples at the tap: the
//     handshake's, and of every segment that occupies sequence space and was
//     sent once the time until the first acknowledgement that ends exactly
//     where the segment ends.
//   - Of the handshake's times only those of flows with truth_handshake_clean
//     are beyond doubt; the others are what the tap saw, from the SYN that was
//     answered where that is known.
//   - The server hint (evidence "server") looks at the answers of the last six
//     hours, of every subscriber, at once: an analyser that shares what it
//     learns in steps may differ for a flow whose truth_hint_age_s is shorter
//     than its step.
//   - Silence is judged by the class that the naming rules give: an hour for
//     chat, five minutes otherwise, one minute while nothing but SYNs passed.
package synth
