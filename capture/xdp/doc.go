// Package xdp reads AF_XDP sockets (Documentation/networking/af_xdp.rst in the
// kernel tree): packets that a program on the network card's interface takes
// away from the kernel before anything else sees them.
//
// In copy mode the kernel writes each packet into memory that it shares with us,
// which works on every interface. In zero-copy mode the card does, where its
// driver can.
//
// The program's source is xdp.c; its compiled form is part of the repository, so
// that building needs no C compiler.
package xdp

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -tags linux -output-stem program -cflags "-O2 -mcpu=v3 -Wall -Wextra -Werror -I/usr/include/x86_64-linux-gnu" program xdp.c
