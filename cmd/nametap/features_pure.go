//go:build !libpcap

package main

const hasLibpcap = false
