package gtp

import (
	"math/bits"

	"github.com/nametap/nametap/internal/arena"
)

// mix hashes two words with the Table's secret.
func (t *Table) mix(a, b uint64) uint32 { return mixSeeded(t.seed, a, b) }

func mixSeeded(seed [2]uint64, a, b uint64) uint32 {
	h, l := bits.Mul64(a^seed[0], seed[1])
	h, l = bits.Mul64(h^l^b, seed[1])
	return uint32(h ^ l)
}

// keyOf is the identity that a keyed session stands under.
func (t *Table) keyOf(s uint32) identity {
	r := &t.sessions[s]
	k := identity{r.IMSI, r.keyAPN, r.keyEBI, false}
	if r.is(flagKeyIMEI) {
		k.digits, k.imei = r.IMEI, true
	}
	return k
}

func (t *Table) identityHash(s uint32) uint32 { return t.keyHash(t.keyOf(s)) }

func (t *Table) keyHash(k identity) uint32 {
	return t.mix(uint64(k.digits), uint64(k.apn)<<8|uint64(k.ebi))
}

// withIdentity returns the session that stands under k, 0 for none.
func (t *Table) withIdentity(k identity) uint32 {
	s := t.identities.first(t.keyHash(k))
	for s != 0 && t.keyOf(s) != k {
		s = t.identities.next[s]
	}
	return s
}

// enlist lets s, which is not, be found under its IMSI or IMEI, as k says, and
// the APN and bearer of k.
func (t *Table) enlist(s uint32, k identity) {
	r := &t.sessions[s]
	r.keyAPN, r.keyEBI = k.apn, k.ebi
	r.set(flagKeyIMEI, k.imei)
	r.flags |= flagKeyed
	t.identities.add(s)
}

// withdraw lets s no longer be found so, and returns what it was found under.
func (t *Table) withdraw(s uint32) (k identity, keyed bool) {
	r := &t.sessions[s]
	if !r.is(flagKeyed) {
		return identity{}, false
	}
	k = t.keyOf(s)
	t.identities.remove(s)
	r.flags &^= flagKeyed
	return k, true
}

// family of a user address. A session is in Table.users once for each that it
// has: as item 2s and 2s+1.
type family uint32

const (
	familyV4 family = iota
	familyV6
)

func userItem(s uint32, f family) uint32 { return 2*s + uint32(f) }

// userOf is what addresses are compared by: an IPv4 address whole, of an IPv6
// address the /64, because a UE owns all of it (TS 23.401 section 5.3.1.2.2).
// Neither is taken for the other but where an IPv6 address is in 0:ffff::/32, which
// nobody is assigned.
func userOf(a Addr) uint64 {
	if a.Is4() {
		return a.Lo
	}
	return a.Hi
}

// user64 is that of an item of Table.users.
func (t *Table) user64(item uint32) uint64 {
	r := &t.sessions[item/2]
	if family(item%2) == familyV4 {
		return v4Prefix | uint64(r.ue4)
	}
	return r.ue6
}

func (t *Table) userHash(item uint32) uint32    { return t.addressHash(t.user64(item)) }
func (t *Table) addressHash(user uint64) uint32 { return t.mix(user, 0) }

// listUser lets s be found by its address, and ends sessions that had it before.
func (t *Table) listUser(s uint32, f family) {
	item := userItem(s, f)
	user := t.user64(item)
	hash := t.addressHash(user)
	n, last := 0, uint32(0)
	for i := t.users.first(hash); i != 0; {
		if t.user64(i) != user {
			i = t.users.next[i]
			continue
		}
		if t.holdsStale(i/2, s) {
			t.end(i/2, &t.counters.Replaced)
			i, n = t.users.first(hash), 0
			continue
		}
		n, last = n+1, i
		i = t.users.next[i]
	}
	if n >= maxSharing {
		// ByUE answers nothing for this address until they are gone.
		t.sessions[last/2].flags |= flagCrowdedV4 << (last % 2)
		return
	}
	t.users.add(item)
	t.sessions[s].flags |= flagListedV4 << f
}

func (t *Table) unlistUser(s uint32, f family) {
	r := &t.sessions[s]
	if r.is(flagListedV4 << f) {
		t.users.remove(userItem(s, f))
	}
	r.flags &^= (flagListedV4 | flagCrowdedV4) << f
}

func (t *Table) scopeHash(s uint32) uint32 { return t.mix(uint64(t.tags[s].scope), 0) }

// rescope gives s the scope of another, and returns the tag that it had.
func (t *Table) rescope(s uint32, as tag) (had tag) {
	had = t.tags[s]
	t.scopes.remove(s)
	t.tags[s] = tag{scope: as.scope, met: as.met}
	t.scopes.add(s)
	return had
}

// Owner is whose a scope is.
type Owner struct {
	IMSI Digits
	// TAC of the device, see Digits.TAC; 0 is none.
	TAC   uint32
	scope uint32
	APN   APN
}

func ownerOf(scope uint32, r *record) Owner {
	tac, _ := r.IMEI.TAC()
	return Owner{IMSI: r.IMSI, TAC: tac, scope: scope, APN: r.APN}
}

// Owner returns whose a scope is, or was: of the sessions that had a note, some
// that have ended are remembered, as many as a fourth of Config.Sessions.
func (t *Table) Owner(scope uint32) (o Owner, ok bool) {
	s := t.scopes.first(t.mix(uint64(scope), 0))
	for s != 0 && t.tags[s].scope != scope {
		s = t.scopes.next[s]
	}
	if s != 0 {
		return ownerOf(scope, &t.sessions[s]), true
	}
	return t.past.find(scope)
}

// remember keeps whose a scope was.
func (t *Table) remember(scope uint32, r *record) { t.past.add(ownerOf(scope, r)) }

// past is a ring of the owners of scopes that have ended. 32 bytes each.
type past struct {
	ring     []Owner // from 1
	last     uint32
	byScope  directory
	seed     [2]uint64
	complete bool // every place has an owner
}

func (p *past) init(n int, seed [2]uint64) (err error) {
	p.seed = seed
	if p.ring, err = arena.Make[Owner](n + 1); err != nil {
		return err
	}
	return p.byScope.init(n, n, func(i uint32) uint32 { return p.hash(p.ring[i].scope) })
}

func (p *past) close() {
	_ = arena.Free(p.ring)
	p.byScope.close()
	*p = past{}
}

func (p *past) hash(scope uint32) uint32 { return mixSeeded(p.seed, uint64(scope), 0) }

// add remembers o in place of the oldest.
func (p *past) add(o Owner) {
	if p.last++; int(p.last) == len(p.ring) {
		p.last, p.complete = 1, true
	}
	if p.complete {
		p.byScope.remove(p.last)
	}
	p.ring[p.last] = o
	p.byScope.add(p.last)
}

func (p *past) find(scope uint32) (o Owner, ok bool) {
	for i := p.byScope.first(p.hash(scope)); i != 0; i = p.byScope.next[i] {
		if p.ring[i].scope == scope {
			o, ok = p.ring[i], true // the latest: they come in their order
		}
	}
	return o, ok
}

// gateways numbers the control addresses of PGWs and GGSNs from 1: a network has
// dozens. Those that find no place are 0, as unknown ones.
type gateways struct {
	numbers map[Addr]uint16
	addrs   []Addr
}

const maxGateways = 4096

func newGateways() gateways {
	return gateways{numbers: map[Addr]uint16{}, addrs: []Addr{{}}}
}

func (g *gateways) number(a Addr) uint16 {
	n, ok := g.numbers[a]
	if !ok && len(g.addrs) <= maxGateways {
		n = uint16(len(g.addrs))
		g.addrs = append(g.addrs, a)
		g.numbers[a] = n
	}
	return n
}

func (g *gateways) addr(n uint16) Addr { return g.addrs[n] }
