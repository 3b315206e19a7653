//go:build !linux

package capture

import (
	"errors"
	"runtime"
)

// openRings captures with libpcap where there are no AF_PACKET rings.
func openRings(config LiveConfig) (Source, error) {
	if Libpcap {
		return openLibpcap(config)
	}
	return nil, errors.New("live capture needs Linux (this is " + runtime.GOOS +
		"): rebuild with -tags libpcap, or capture to a file and use analyze")
}
