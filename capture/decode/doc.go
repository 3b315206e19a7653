// Package decode turns one captured frame into the innermost IP packet that
// it carries: link layers and tunnels are taken off, IP fragments are put
// together, and the TCP or UDP header is read into a Packet.
//
// It does no I/O, reads no clock, keeps no reference to a frame and allocates
// nothing per frame. Every frame ends in exactly one Outcome, so that the
// outcomes of a trace add up to its frames.
//
// # Lengths
//
// Byte counts come from IP headers, never from what was captured: a frame cut
// by the snap length counts whole as long as its TCP header's first 20 bytes
// (UDP: 8) are there. Headers must fit into one another: an IP packet inside
// a tunnel that claims more bytes than the tunnel has is contradictory. The
// outermost IP header is believed even where it claims more than the frame's
// length on the wire, because that length is often not the wire's: tools that
// cut frames rewrite it, and the sequence numbers of such traces show that the
// header is right. A total length of 0, which segmentation offload leaves in
// packets captured on the sending host, means all that the frame holds.
//
// # Checksums
//
// No checksum is verified. Offload makes those of captured packets wrong on
// the sending host, snap lengths make them unverifiable, and a packet that
// really was damaged on its way was on the wire nevertheless.
package decode
