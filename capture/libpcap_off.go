//go:build !libpcap

package capture

import (
	"errors"
)

// Libpcap says whether libpcap is compiled in.
const Libpcap = false

var errNoLibpcap = errors.New("a filter needs libpcap, and this was built without libpcap: " +
	"rebuild with -tags libpcap (and the libpcap headers), or leave --filter out")

func openLibpcap(LiveConfig) (Source, error) { return nil, errNoLibpcap }

// Filter returns source without the frames that do not match the pcap-filter
// expression. This build has no libpcap, so it always fails.
func Filter(Source, string) (Source, error) { return nil, errNoLibpcap }
