//go:build ignore

// SPDX-License-Identifier: Apache-2.0
//
// Hands every packet of an interface to the AF_XDP socket of the queue it came
// on, with the time in front of it: these sockets, unlike others, have no time
// stamps.
//
// No helper in here is reserved to programs under the GPL.

#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

// A socket for each queue. A queue without one goes its ordinary way.
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

// What lies in front of the packet. Drivers may have no room for it: then check
// is anything, and not what it must be.
struct stamp {
	__u64 time; // CLOCK_MONOTONIC
	__u64 check;
};

#define STAMP_CHECK 0x6e616d6574617021ull // time and check, exclusive or

SEC("xdp")
int redirect(struct xdp_md *ctx)
{
	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(struct stamp)) == 0) {
		struct stamp *s = (void *)(long)ctx->data_meta;
		if ((void *)(s + 1) <= (void *)(long)ctx->data) {
			s->time = bpf_ktime_get_ns();
			s->check = s->time ^ STAMP_CHECK;
		}
	}
	return bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS);
}

char _license[] SEC("license") = "Apache-2.0";
