package main

import (
	"runtime"

	"github.com/nametap/nametap/capture"
)

// features lists what this binary can capture from and read.
func features() []string {
	list := []string{"pcap", "pcapng", "gzip", "zstd"}
	if runtime.GOOS == "linux" {
		list = append(list, "af_packet", "xdp")
	}
	if capture.Libpcap {
		list = append(list, "libpcap")
	}
	return list
}
