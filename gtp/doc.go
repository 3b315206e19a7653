// Package gtp reads the control plane of a mobile core (GTPv1-C on Gn,
// GTPv2-C on S11 and S5/S8, PFCP on N4/Sx) and keeps the table of sessions
// that the user plane needs: which tunnel endpoint belongs to which
// subscriber, and which way its packets go.
//
// # From a TEID to a subscriber
//
// A G-PDU carries nothing but the TEID that its receiver chose (TS 29.281
// section 5.1: "unambiguously identifies a tunnel endpoint in the receiving
// GTP-U protocol entity"). A TEID means something only together with the
// address of the node that owns it; the pair is the F-TEID (TS 29.274 section
// 8.22). So the key of every look-up is ⟨destination address, TEID⟩, never
// the TEID alone and never the source. One session has several: one for each
// hop and direction (S1-U and S5/S8-U, uplink and downlink) and, with
// dedicated bearers or secondary PDP contexts, as many again for each of them.
// The interface type says which end owns it, and hence the direction: packets
// sent to an endpoint of the access side run downlink, to one of the core side
// uplink.
//
// # One session, one scope
//
// Every session has a scope, a serial number that is given to no other owner.
// It stays over handover (the TEIDs and the access node change), over a change
// of SGW, and for both hops of the chain MME - SGW - PGW where both are
// tapped. A new attach gets a new one, also where the network hands out an
// address that somebody else just had.
//
// # Ownership
//
// A Table belongs to one goroutine. Records hold no pointers, every table has
// a cap, and the only clock is the packet time that is passed in. Nothing in
// the package allocates for a message or for a look-up, except the first sight
// of an APN or of a gateway.
//
// # Memory
//
// Records and endpoints fill their memory from its beginning and never move, and
// the chains that find them grow one at a time: a table laid out for millions
// takes what its sessions take, and no message waits for it to grow.
package gtp
