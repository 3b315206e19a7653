package probe

import (
	"github.com/nametap/nametap/capture/decode"
)

// PrefixLengths are those of the IPv4 networks by which servers are counted, from
// the smallest network to the largest.
var PrefixLengths = [...]int{24, 16, 8}

// networks are the IPv4 networks of the servers, for each of PrefixLengths.
type networks [len(PrefixLengths)]*presence

// NetworkCounts are numbers of networks, for each of PrefixLengths.
type NetworkCounts [len(PrefixLengths)]int

// newNetworks returns sets with room for so many pairs of network and class each.
func newNetworks(entries int) (n networks, err error) {
	for i := range n {
		if n[i], err = newPresence(entries); err != nil {
			return n, err
		}
	}
	return n, nil
}

// seen notes a server. Where its smallest network was noted in this minute already, so
// were those around it.
func (n *networks) seen(server decode.Addr, class uint8, minute uint32) {
	if !server.Is4() {
		return
	}
	for i, length := range PrefixLengths {
		if !n[i].seen(uint64(uint32(server.Lo)>>(32-length)), class, minute) {
			return
		}
	}
}

// turn recounts what is active at the start of a minute.
func (n *networks) turn(minute uint32) {
	for _, set := range n {
		set.turn(minute)
	}
}

// counts returns how many networks of the class there have ever been, and how
// many are active.
func (n *networks) counts(class int) (ever, active NetworkCounts) {
	for i, set := range n {
		ever[i], active[i] = set.Ever[class], set.Active[class]
	}
	return ever, active
}

func (n *networks) refused() (sum uint64) {
	for _, set := range n {
		sum += set.Refused
	}
	return sum
}

func (c *NetworkCounts) merge(o *NetworkCounts) {
	for i := range c {
		c[i] = max(c[i], o[i])
	}
}
