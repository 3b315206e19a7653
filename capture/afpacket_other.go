//go:build !linux

package capture

import (
	"errors"
	"runtime"
)

// borrowed is what a live source has lent to a batch.
type borrowed struct{}

// openRings captures with libpcap where there are no AF_PACKET rings.
func openRings(config LiveConfig) ([]Source, FanoutInfo, error) {
	if Libpcap {
		return single(config, openLibpcap, "libpcap does not divide frames")
	}
	return nil, FanoutInfo{}, errors.New("live capture needs Linux (this is " + runtime.GOOS +
		"): rebuild with -tags libpcap, or capture to a file and use analyze")
}

func openXDP(LiveConfig) (Source, error) {
	return nil, errors.New("capture mode xdp needs Linux (this is " + runtime.GOOS + "): leave the mode out")
}
