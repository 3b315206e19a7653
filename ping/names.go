package ping

import (
	"net/netip"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// maxNames is how many addresses are remembered; the oldest answers go first.
const maxNames = 16384

// Names remembers which name was asked for when an address was the answer. The
// newest answer counts; it is looked up once, when a connection opens. The zero
// value is ready, and safe for concurrent use.
type Names struct {
	mu     sync.Mutex
	byAddr map[netip.Addr]string
	order  []netip.Addr // a ring, by first answer
	next   int
}

// Of returns the name for which the address was the newest answer; empty for none.
func (n *Names) Of(a netip.Addr) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.byAddr[a]
}

// Learn takes an answer as it came over UDP. The name is the one that was asked
// for, not the last of a chain of aliases.
func (n *Names) Learn(b []byte) {
	var m dns.Msg
	if m.Unpack(b) != nil || !m.Response || m.Rcode != dns.RcodeSuccess || len(m.Question) != 1 {
		return
	}
	name := strings.ToLower(strings.TrimSuffix(m.Question[0].Name, "."))
	if name == "" {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			n.put(rr.A, name)
		case *dns.AAAA:
			n.put(rr.AAAA, name)
		}
	}
}

func (n *Names) put(ip []byte, name string) {
	a, ok := netip.AddrFromSlice(ip)
	if !ok {
		return
	}
	a = a.Unmap()
	if n.byAddr == nil {
		n.byAddr = map[netip.Addr]string{}
	}
	if _, known := n.byAddr[a]; !known {
		if len(n.order) < maxNames {
			n.order = append(n.order, a)
		} else {
			delete(n.byAddr, n.order[n.next])
			n.order[n.next] = a
			n.next = (n.next + 1) % maxNames
		}
	}
	n.byAddr[a] = name
}
