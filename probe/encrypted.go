package probe

import (
	"net/netip"

	"github.com/nametap/nametap/capture/decode"
)

const (
	portDoT   = 853 // RFC 7858
	portHTTPS = 443
)

// encryptedDNS reports whether a flow leads to a resolver in a way that hides
// the answers: DNS over TLS by its port, DNS over HTTPS (RFC 8484) by the
// addresses of the public resolvers. It is asked once a flow, and is a lower
// bound: any web server may resolve names.
func encryptedDNS(server decode.Addr, port uint16) bool {
	switch port {
	case portDoT:
		return true
	case portHTTPS:
		for i := range publicResolvers {
			if publicResolvers[i] == server {
				return true
			}
		}
	}
	return false
}

// publicResolvers are those that browsers and handsets offer as a choice.
var publicResolvers = addrs(
	"1.1.1.1", "1.0.0.1", "2606:4700:4700::1111", "2606:4700:4700::1001", // Cloudflare
	"8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844", // Google
	"9.9.9.9", "149.112.112.112", "2620:fe::fe", "2620:fe::9", // Quad9
	"208.67.222.222", "208.67.220.220", "2620:119:35::35", "2620:119:53::53", // OpenDNS
	"94.140.14.14", "94.140.15.15", "2a10:50c0::ad1:ff", "2a10:50c0::ad2:ff", // AdGuard
)

func addrs(list ...string) []decode.Addr {
	out := make([]decode.Addr, len(list))
	for i, text := range list {
		out[i] = decode.AddrFrom(netip.MustParseAddr(text))
	}
	return out
}
