package tun

import (
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// key names a connection of an interface that has one address.
type key struct {
	sourcePort  uint16
	destination netip.AddrPort
}

func keyOf(id stack.TransportEndpointID) key {
	return key{id.RemotePort, addrPort(id.LocalAddress, id.LocalPort)}
}

// table holds connections. Where a second source address uses the same key, the
// newer connection is found under it, and the older one lives on unmeasured.
type table[C comparable] struct {
	mu    sync.Mutex
	byKey map[key]C
	gone  []C // ended since the last sample
	used  int // also those that are being opened, or have lost their key
	limit int
	shed  int // ended ones that found no room in gone, since the last sample
}

func (t *table[C]) init(limit int) { t.byKey, t.limit = map[key]C{}, limit }

// reserve takes a place, if there is one.
func (t *table[C]) reserve() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.used >= t.limit {
		return false
	}
	t.used++
	return true
}

// release gives a place back.
func (t *table[C]) release() {
	t.mu.Lock()
	t.used--
	t.mu.Unlock()
}

func (t *table[C]) put(k key, c C) {
	t.mu.Lock()
	t.byKey[k] = c
	t.mu.Unlock()
}

// end takes c out, unless another one has taken its key, and keeps it for the
// next sample.
func (t *table[C]) end(k key, c C) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byKey[k] == c {
		delete(t.byKey, k)
	}
	if len(t.gone) >= t.limit {
		t.shed++
		return
	}
	t.gone = append(t.gone, c)
}

// all returns those that live.
func (t *table[C]) all() []C {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := make([]C, 0, len(t.byKey))
	for _, c := range t.byKey {
		list = append(list, c)
	}
	return list
}

// takeGone returns those that ended since the last call, and how many more did.
func (t *table[C]) takeGone() (gone []C, shed int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	gone, shed = t.gone, t.shed
	t.gone, t.shed = nil, 0
	return gone, shed
}
