package main

import "runtime"

// features lists what this binary can capture from and read.
func features() []string {
	list := []string{"pcap", "pcapng", "gzip", "zstd"}
	if runtime.GOOS == "linux" {
		list = append(list, "af_packet")
	}
	if hasLibpcap {
		list = append(list, "libpcap")
	}
	return list
}
