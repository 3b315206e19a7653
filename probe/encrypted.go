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
		bit := resolverBit(server)
		return resolverBits[bit/64]>>(bit%64)&1 != 0 && publicResolver(server)
	}
	return false
}

func publicResolver(server decode.Addr) bool {
	for i := range publicResolvers {
		if publicResolvers[i] == server {
			return true
		}
	}
	return false
}

// resolverBits has the bits of publicResolvers, few enough that one look rules out
// nearly every other server.
var resolverBits = func() (bits [16]uint64) {
	for _, a := range publicResolvers {
		bits[resolverBit(a)/64] |= 1 << (resolverBit(a) % 64)
	}
	return bits
}()

func resolverBit(a decode.Addr) uint64 { return mix(a.Hi, a.Lo) % (16 * 64) }

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
