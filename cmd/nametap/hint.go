package main

import (
	"fmt"
	"net/netip"

	"github.com/nametap/nametap/flows"
	"github.com/nametap/nametap/probe"
)

// noticeSubscribers looks, where prefixes were named, whether anybody lives in
// them. The function that it returns says so above the table if there are flows
// and nobody does: it is the mistake that all other figures hide.
func (a *analysis) noticeSubscribers(cfg *probe.Config) (hint func()) {
	if !a.subscribersNamed || a.format != "table" {
		return func() {}
	}
	var all, inside int
	prefixes, write := []netip.Prefix(a.subscribers), cfg.Records
	cfg.Records = func(batch []flows.Record) {
		if write != nil {
			write(batch)
		}
		for i := range batch {
			all++
			if address := batch[i].Key.Subscriber.Netip(); containsAny(prefixes, address) {
				inside++
			}
		}
	}
	return func() {
		if all > 0 && inside == 0 {
			_, _ = fmt.Fprintf(a.out, "none of %d flows has an end in --subscribers %s; which end is the subscriber was told by SYN, DNS and ports\n\n", all, &a.subscribers)
		}
	}
}

func containsAny(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
