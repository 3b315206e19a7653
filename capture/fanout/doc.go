// Package fanout decides which worker gets a packet of a live capture, in the
// kernel: all packets of a subscriber (its DNS and TCP, both directions, on
// every interface, inside or outside a tunnel) go to the same worker.
//
// A plain fanout hash cannot do that. It splits DNS from TCP, and in a GTP
// tunnel it sees the two ends of the tunnel and nothing of the subscriber.
//
// There are two programs for a socket's fanout group (packet(7)):
//
//   - Load gives the whole one, in eBPF. It looks behind VLAN tags, MPLS, PPPoE,
//     GTP-U (with options and extension headers, over IPv4 and IPv6), GRE,
//     VXLAN and IP in IP, and keeps the fragments of a datagram together. It
//     needs Linux 5.8 and the right to load programs.
//   - Classic gives one in classic BPF, which needs no more rights than the
//     socket itself. It knows IP, one VLAN tag, and GTP-U without extension
//     headers.
//
// What neither finds the inner packet of (Teredo, PPTP, PPP in GTP-U, ESP) goes
// by the addresses outside. A subscriber who is told by neither prefix is looked
// for at the end with the higher port: the probe may learn better from the SYN,
// and then the subscriber's DNS is another worker's.
//
// A subscriber is an address here. A handset with an IPv4 and an IPv6 address
// may be two workers' business: each has the DNS answers that came to its
// address.
//
// Fragments: the first of a datagram goes where its packet goes, the others
// follow it. If one of them comes before it, or the first is lost, the others
// decide by their own addresses, and the first goes with them: whole datagrams
// at the wrong worker, then, and never torn ones. Counts says how many.
//
// What is not IP goes to worker 0, and so does the control plane (GTP-C, PFCP).
// Every worker needs that to know the sessions: Signals is the filter of a
// socket apart, through which all of them get it.
//
// The program's source is fanout.c; its compiled form is part of the
// repository, so that building needs no C compiler.
package fanout

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -tags linux -output-stem program -cflags "-O2 -mcpu=v3 -Wall -Wextra -Werror -I/usr/include/x86_64-linux-gnu" program fanout.c
