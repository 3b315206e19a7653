// Package tun measures round-trip time and loss on a machine that lets nobody
// look at its connections, such as a phone: packets of all applications come out
// of a TUN interface and end in a TCP/IP stack of ours (gVisor's netstack), and
// what they carry goes on over ordinary sockets, whose state the kernel tells
// (getsockopt TCP_INFO). No root is needed where the interface is given, as
// Android's VpnService gives it; no packet is sent that an application did not
// cause.
//
// An Engine is that: Start takes the file descriptor of the interface, Stop gives
// it back. Start, Sink, Config, Engine and what they mention have only types that
// gomobile can bind; StartWith and ping.Sample are for Go.
//
// Connections are kept under ⟨source port, destination, destination port⟩, TCP
// and UDP apart. One that an application opens is opened by us first, and
// answered when the server has answered: the application is refused where the
// server refuses, and its handshake takes as long as the server's.
//
// The engine's own sockets must not come back through the interface. Config says
// how to keep them out: a firewall mark for a routing rule (SO_MARK), an
// interface to be bound to (SO_BINDTODEVICE), or Android's
// VpnService.protect(int).
//
// What does not go through: ICMP (an echo request gets no answer, rather than one
// from us that would look like the server's), and anything else that is neither
// TCP nor UDP.
package tun
