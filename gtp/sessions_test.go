package gtp

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// The nodes of the scenarios.
const (
	mme   = "10.0.0.1"
	sgw   = "10.0.0.2"
	pgw   = "10.0.0.3"
	sgsn  = "10.0.0.4"
	ggsn  = "10.0.0.5"
	enb   = "10.0.1.1"
	enb2  = "10.0.1.2"
	sgwu  = "10.0.2.1"
	pgwu  = "10.0.3.1"
	sgw2  = "10.0.0.12"
	sgwu2 = "10.0.2.12"
	gnb   = "10.0.1.5"
	upf   = "10.0.3.5"
	smf   = "10.0.0.6"
)

// ue is a subscriber with one PDN connection. All its TEIDs derive from base.
type ue struct {
	imsi, apn, v4 string
	ebi           byte
	base          uint32
	seq           uint32
}

func (u *ue) next() uint32 { u.seq++; return u.base<<8 + u.seq }

func (u *ue) mmeC() uint32 { return u.base + 1 }
func (u *ue) sgwC() uint32 { return u.base + 2 }
func (u *ue) s5C() uint32  { return u.base + 3 }
func (u *ue) pgwC() uint32 { return u.base + 4 }
func (u *ue) enbU() uint32 { return u.base + 5 }
func (u *ue) sgwU() uint32 { return u.base + 6 }
func (u *ue) s5U() uint32  { return u.base + 7 }
func (u *ue) pgwU() uint32 { return u.base + 8 }

func anna() *ue {
	return &ue{imsi: "262011111111111", apn: "internet", v4: "10.45.0.2", ebi: 5, base: 0x100}
}

func bert() *ue {
	return &ue{imsi: "262012222222222", apn: "internet", v4: "10.45.0.3", ebi: 5, base: 0x200}
}

func (u *ue) s11Request(seq uint32, more ...[]byte) []byte {
	return v2msg(32, 0, seq, ie(1, tbcd(u.imsi)...), ie(75, tbcd("3572200924513839")...), ie(82, 6),
		fteid(0, 10, u.mmeC(), mme), fteid(1, 7, 0, pgw), ie(71, labels(u.apn)...), paa("0.0.0.0"),
		bearer(0, u.ebi), slices.Concat(more...))
}

func (u *ue) s11Response(seq uint32) []byte {
	return v2msg(33, u.mmeC(), seq, cause2(16), fteid(0, 11, u.sgwC(), sgw), fteid(1, 7, u.pgwC(), pgw), paa(u.v4),
		bearer(0, u.ebi, cause2(16), fteid(0, 1, u.sgwU(), sgwu), fteid(2, 5, u.pgwU(), pgwu)))
}

func (u *ue) s5Request(seq uint32) []byte {
	return v2msg(32, 0, seq, ie(1, tbcd(u.imsi)...), ie(82, 6), fteid(0, 6, u.s5C(), sgw), ie(71, labels(u.apn+".mnc001.mcc262.gprs")...),
		paa("0.0.0.0"), bearer(0, u.ebi, fteid(2, 4, u.s5U(), sgwu)))
}

func (u *ue) s5Response(seq uint32) []byte {
	return v2msg(33, u.s5C(), seq, cause2(16), fteid(1, 7, u.pgwC(), pgw), paa(u.v4),
		bearer(0, u.ebi, cause2(16), fteid(2, 5, u.pgwU(), pgwu)))
}

func modifyRequest(teid, seq uint32, ebi byte, node string, enbTEID uint32) []byte {
	return v2msg(34, teid, seq, bearer(0, ebi, fteid(0, 0, enbTEID, node)))
}

func modifyResponse(teid, seq uint32, ebi, cause byte) []byte {
	return v2msg(35, teid, seq, cause2(cause), bearer(0, ebi, cause2(cause)))
}

// attachS11, attachS5 and attach are the attach as seen at one hop or both
// (TS 23.401 section 5.3.2.1).
func (c *core) attachS11(u *ue) {
	c.t.Helper()
	n := u.next()
	c.send(mme, sgw, u.s11Request(n))
	c.send(sgw, mme, u.s11Response(n))
	c.path(u, enb, u.enbU())
}

func (c *core) attachS5(u *ue) {
	c.t.Helper()
	n := u.next()
	c.send(sgw, pgw, u.s5Request(n))
	c.send(pgw, sgw, u.s5Response(n))
}

func (c *core) attach(u *ue) {
	c.t.Helper()
	n := u.next()
	c.send(mme, sgw, u.s11Request(n))
	c.attachS5(u)
	c.send(sgw, mme, u.s11Response(n))
	c.path(u, enb, u.enbU())
}

// path sets the S1-U path, as after an attach, a service request or an X2
// handover.
func (c *core) path(u *ue, node string, teid uint32) {
	c.t.Helper()
	n := u.next()
	c.send(mme, sgw, modifyRequest(u.sgwC(), n, u.ebi, node, teid))
	c.send(sgw, mme, modifyResponse(u.mmeC(), n, u.ebi, 16))
}

// detach over both hops; OI says that the delete is for the PGW.
func (c *core) detach(u *ue) {
	c.t.Helper()
	a, b := u.next(), u.next()
	c.send(mme, sgw, v2msg(36, u.sgwC(), a, ie(73, u.ebi), ie(77, 0x08, 0)))
	c.send(sgw, pgw, v2msg(36, u.pgwC(), b, ie(73, u.ebi)))
	c.send(pgw, sgw, v2msg(37, u.s5C(), b, cause2(16)))
	c.send(sgw, mme, v2msg(37, u.mmeC(), a, cause2(16)))
}

func (c *core) scope(addr string, teid uint32) uint32 {
	c.t.Helper()
	return c.session(addr, teid).Scope
}

func (c *core) direction(addr string, teid uint32) Direction {
	_, d := c.tunnel(addr, teid)
	return d
}

// allOf asserts that the four endpoints of a path find one session, each in its
// direction.
func (c *core) allOf(u *ue, scope uint32) {
	c.t.Helper()
	for _, e := range []struct {
		addr string
		teid uint32
		dir  Direction
	}{
		{enb, u.enbU(), Downlink},
		{sgwu, u.sgwU(), Uplink},
		{sgwu, u.s5U(), Downlink},
		{pgwu, u.pgwU(), Uplink},
	} {
		c.want("scope at "+e.addr, c.scope(e.addr, e.teid), scope)
		c.want("direction at "+e.addr, c.direction(e.addr, e.teid), e.dir)
	}
}

func TestAttachAtBothHopsIsOneSession(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.attach(u)
	c.want("active", c.tab.Active(), 1)
	c.want("created", c.tab.counters.Created, uint64(1))
	s := c.session(pgwu, u.pgwU())
	c.allOf(u, s.Scope)
	c.want("session", c.truth(s), truth{u.imsi, "", "3572200924513839", "internet", u.v4, 6, 5})
	c.want("gateway", s.Gateway, ip(pgw))
	r, ok := c.tab.ByUE(ip(u.v4), c.tab.APNNumber("internet"))
	c.want("by address", ok && r.Scope == s.Scope, true)
}

func TestAttachWhereTheOuterResponseComesFirst(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	a, b := u.next(), u.next()
	c.send(mme, sgw, u.s11Request(a))
	c.send(sgw, pgw, u.s5Request(b))
	c.send(sgw, mme, u.s11Response(a)) // the mirror of S11 is ahead
	c.send(pgw, sgw, u.s5Response(b))
	c.path(u, enb, u.enbU())
	c.want("active", c.tab.Active(), 1)
	c.allOf(u, c.scope(pgwu, u.pgwU()))
}

func TestAttachAtOneHop(t *testing.T) {
	t.Run("S11", func(t *testing.T) {
		c := newCore(t, Config{})
		u := anna()
		c.attachS11(u)
		c.want("one session", c.scope(enb, u.enbU()), c.scope(sgwu, u.sgwU()))
	})
	t.Run("S5", func(t *testing.T) {
		c := newCore(t, Config{})
		u := anna()
		c.attachS5(u)
		c.want("one session", c.scope(sgwu, u.s5U()), c.scope(pgwu, u.pgwU()))
	})
}

func TestNothingBeforeTheResponse(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.send(sgw, pgw, u.s5Request(1))
	c.gone(sgwu, u.s5U())
	c.want("active", c.tab.Active(), 0)
	c.wait(31)
	c.want("unanswered", c.tab.counters.Unanswered, uint64(1))
	c.want("created", c.tab.counters.Created, uint64(0))
	c.send(pgw, sgw, v2msg(33, u.s5C(), 2, cause2(16))) // an empty answer to nothing
	c.want("created", c.tab.counters.Created, uint64(0))
}

func TestRefusedCreate(t *testing.T) {
	for _, cause := range []byte{0, 15, 64, 73, 255} {
		c := newCore(t, Config{})
		u := anna()
		c.send(sgw, pgw, u.s5Request(1))
		c.send(pgw, sgw, v2msg(33, u.s5C(), 1, cause2(cause), paa(u.v4)))
		c.want("active", c.tab.Active(), 0)
		c.want("refused", c.tab.counters.Refused, uint64(1))
	}
}

func TestRefusedBearer(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.send(sgw, pgw, v2msg(32, 0, 1, ie(1, tbcd(u.imsi)...), fteid(0, 6, u.s5C(), sgw), ie(71, labels(u.apn)...), ie(73, 5),
		bearer(0, 5, fteid(2, 4, 50, sgwu)), bearer(0, 6, fteid(2, 4, 60, sgwu))))
	c.send(pgw, sgw, v2msg(33, u.s5C(), 1, cause2(17), fteid(1, 7, u.pgwC(), pgw), paa(u.v4),
		bearer(0, 5, cause2(16), fteid(2, 5, 51, pgwu)), bearer(0, 6, cause2(73))))
	c.scope(sgwu, 50)
	c.gone(sgwu, 60)
}

func TestDetach(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.attach(u)
	scope := c.scope(enb, u.enbU())
	c.detach(u)
	c.want("active", c.tab.Active(), 0)
	c.want("deleted", c.tab.counters.Deleted, uint64(1))
	c.want("unknown", c.tab.counters.UnknownSession, uint64(0))
	_, ok := c.tab.ByUE(ip(u.v4), NoAPN)
	c.want("address after the delete", ok, false)
	c.allOf(u, scope) // packets are still on their way
	c.wait(2.1)
	c.gone(enb, u.enbU())
	c.want("endpoints", c.tab.Endpoints(), 0)
}

func TestDeleteWithoutAnswer(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.attachS5(u)
	c.send(sgw, pgw, v2msg(36, u.pgwC(), u.next(), ie(73, u.ebi)))
	c.want("active", c.tab.Active(), 1)
	c.wait(31)
	c.want("active", c.tab.Active(), 0)
}

func TestDeleteRefused(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.attachS5(u)
	n := u.next()
	c.send(sgw, pgw, v2msg(36, u.pgwC(), n, ie(73, u.ebi)))
	c.send(pgw, sgw, v2msg(37, u.s5C(), n, cause2(72)))
	c.want("active", c.tab.Active(), 1)
	n = u.next()
	c.send(sgw, pgw, v2msg(36, u.pgwC(), n, ie(73, u.ebi)))
	c.send(pgw, sgw, v2msg(37, 0, n, cause2(64))) // context not found: nothing is left
	c.want("active", c.tab.Active(), 0)
}

func TestHandoverKeepsTheScope(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.attach(u)
	scope := c.scope(enb, u.enbU())
	n := u.next()
	c.send(mme, sgw, modifyRequest(u.sgwC(), n, u.ebi, enb2, 0x77))
	// The SGW sends to the new eNodeB before its answer is seen.
	c.want("new path before the answer", c.scope(enb2, 0x77), scope)
	c.want("direction", c.direction(enb2, 0x77), Downlink)
	c.send(sgw, mme, modifyResponse(u.mmeC(), n, u.ebi, 16))
	c.want("old path, packets on their way", c.scope(enb, u.enbU()), scope)
	c.wait(2.1)
	c.gone(enb, u.enbU())
	c.want("new path", c.scope(enb2, 0x77), scope)
	c.want("created", c.tab.counters.Created, uint64(1))
}

func TestHandoverToTheSameTEIDAtAnotherNode(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.attach(u)
	c.path(u, enb2, u.enbU())
	c.wait(2.1)
	c.gone(enb, u.enbU())
	c.scope(enb2, u.enbU())
}

func TestHandoverAndBack(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.attach(u)
	c.path(u, enb2, 0x77)
	c.path(u, enb, u.enbU())
	c.wait(2.1)
	c.scope(enb, u.enbU()) // the replacement of before must not take it away
	c.gone(enb2, 0x77)
}

func TestHandoverRefused(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.attach(u)
	n := u.next()
	c.send(mme, sgw, modifyRequest(u.sgwC(), n, u.ebi, enb2, 0x77))
	c.send(sgw, mme, modifyResponse(u.mmeC(), n, u.ebi, 72))
	c.gone(enb2, 0x77)
	c.wait(2.1)
	c.scope(enb, u.enbU())
	n = u.next()
	c.send(mme, sgw, modifyRequest(u.sgwC(), n, u.ebi, enb2, 0x78)) // never answered
	c.wait(31)
	c.gone(enb2, 0x78)
	c.scope(enb, u.enbU())
}

func TestHandoverDropsBearers(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.attach(u)
	c.dedicate(u, 6, 0x60)
	n := u.next()
	c.send(mme, sgw, v2msg(34, u.sgwC(), n, bearer(0, 5, fteid(0, 0, 0x77, enb2)), bearer(1, 6)))
	c.send(sgw, mme, v2msg(35, u.mmeC(), n, cause2(16), bearer(0, 5, cause2(16))))
	c.wait(2.1)
	c.gone(enb, 0x60)
	c.scope(enb2, 0x77)
}

// TS 23.401 section 5.5.1.1.3: the MME creates the session at the new SGW, which
// tells the PGW; then the old SGW is cleaned up.
func TestChangeOfSGW(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.attach(u)
	scope := c.scope(enb, u.enbU())
	a, b := u.next(), u.next()
	c.send(mme, sgw2, v2msg(32, 0, a, ie(1, tbcd(u.imsi)...), fteid(0, 10, u.mmeC(), mme), fteid(1, 7, u.pgwC(), pgw),
		ie(71, labels(u.apn)...), ie(73, 5), ie(77, 0x08, 0),
		bearer(0, 5, fteid(0, 0, 0x77, enb2), fteid(3, 5, u.pgwU(), pgwu))))
	c.send(sgw2, pgw, v2msg(34, u.pgwC(), b, fteid(0, 6, 0x91, sgw2), bearer(0, 5, fteid(1, 4, 0x92, sgwu2))))
	c.send(pgw, sgw2, v2msg(35, 0x91, b, cause2(16), bearer(0, 5, cause2(16))))
	c.send(sgw2, mme, v2msg(33, u.mmeC(), a, cause2(16), fteid(0, 11, 0x93, sgw2), fteid(1, 7, u.pgwC(), pgw), paa(u.v4),
		bearer(0, 5, cause2(16), fteid(0, 1, 0x94, sgwu2))))
	// The old SGW forgets; the session goes on.
	n := u.next()
	c.send(mme, sgw, v2msg(36, u.sgwC(), n, ie(73, 5), ie(77, 0, 0x02)))
	c.send(sgw, mme, v2msg(37, u.mmeC(), n, cause2(16)))
	c.wait(2.1)
	c.want("active", c.tab.Active(), 1)
	for _, e := range []struct {
		addr string
		teid uint32
	}{{enb2, 0x77}, {sgwu2, 0x94}, {sgwu2, 0x92}, {pgwu, u.pgwU()}} {
		c.want(e.addr, c.scope(e.addr, e.teid), scope)
	}
	c.gone(enb, u.enbU())
	c.gone(sgwu, u.sgwU())
	c.gone(sgwu, u.s5U())
	// The end is at the new SGW.
	n = u.next()
	c.send(sgw2, pgw, v2msg(36, u.pgwC(), n, ie(73, 5)))
	c.send(pgw, sgw2, v2msg(37, 0x91, n, cause2(16)))
	c.want("active", c.tab.Active(), 0)
}

func TestLocalReleaseOnS11(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.attach(u)
	n := u.next() // no Operation Indication: to a Gn SGSN, the PGW goes on
	c.send(mme, sgw, v2msg(36, u.sgwC(), n, ie(73, 5), ie(77, 0, 0)))
	c.send(sgw, mme, v2msg(37, u.mmeC(), n, cause2(16)))
	c.want("active", c.tab.Active(), 1)
	// Without any Indication a delete is a delete.
	c = newCore(t, Config{})
	u = anna()
	c.attachS11(u)
	n = u.next()
	c.send(mme, sgw, v2msg(36, u.sgwC(), n, ie(73, 5)))
	c.send(sgw, mme, v2msg(37, u.mmeC(), n, cause2(16)))
	c.want("active", c.tab.Active(), 0)
}

func TestIdleAndServiceRequest(t *testing.T) {
	c := newCore(t, Config{})
	u, v := anna(), bert()
	c.attach(u)
	scope := c.scope(enb, u.enbU())
	n := u.next()
	c.send(mme, sgw, v2msg(170, u.sgwC(), n))
	c.send(sgw, mme, v2msg(171, u.mmeC(), n, cause2(16)))
	c.want("uplink stays", c.scope(sgwu, u.sgwU()), scope)
	// The eNodeB hands the TEID to somebody else at once.
	c.attach(v)
	c.path(v, enb, u.enbU())
	other := c.scope(enb, u.enbU())
	if other == scope {
		t.Fatal("the former owner is credited")
	}
	c.wait(2.1)
	c.want("still the new owner's", c.scope(enb, u.enbU()), other)
	c.path(u, enb, 0x99)
	c.want("after the service request", c.scope(enb, 0x99), scope)
}

func TestEndpointGivenAwayWithoutADelete(t *testing.T) {
	c := newCore(t, Config{})
	u, v := anna(), bert()
	c.attach(u)
	v.base, v.seq = u.base, 100 // gateways that restarted number from the start
	c.attach(v)
	s := c.session(sgwu, v.sgwU())
	c.want("owner", clearDigits(s.IMSI), v.imsi)
	c.allOf(v, s.Scope)
	c.want("the other one is gone", c.tab.Active(), 1)
}

// dedicate adds a bearer, asked for by the network (TS 23.401 section 5.4.1),
// at both hops. Its TEIDs are base, base+1 ... in the order of the path.
func (c *core) dedicate(u *ue, ebi byte, base uint32) {
	c.t.Helper()
	a, b := u.next(), u.next()
	c.send(pgw, sgw, v2msg(95, u.s5C(), a, ie(73, u.ebi), bearer(0, 0, fteid(1, 5, base+3, pgwu))))
	c.send(sgw, mme, v2msg(95, u.mmeC(), b, ie(73, u.ebi), bearer(0, 0, fteid(0, 1, base+1, sgwu), fteid(1, 5, base+3, pgwu))))
	c.send(mme, sgw, v2msg(96, u.sgwC(), b, cause2(16), bearer(0, ebi, cause2(16), fteid(0, 0, base, enb), fteid(1, 1, base+1, sgwu))))
	c.send(sgw, pgw, v2msg(96, u.pgwC(), a, cause2(16), bearer(0, ebi, cause2(16), fteid(2, 4, base+2, sgwu), fteid(3, 5, base+3, pgwu))))
}

func TestDedicatedBearer(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.attach(u)
	scope := c.scope(enb, u.enbU())
	c.dedicate(u, 6, 0x60)
	for i, addr := range []string{enb, sgwu, sgwu, pgwu} {
		c.want(addr, c.scope(addr, 0x60+uint32(i)), scope)
		c.want(addr, c.direction(addr, 0x60+uint32(i)), []Direction{Downlink, Uplink, Downlink, Uplink}[i])
	}
	// Both bearers move.
	n := u.next()
	c.send(mme, sgw, v2msg(34, u.sgwC(), n, bearer(0, 5, fteid(0, 0, 0x77, enb2)), bearer(0, 6, fteid(0, 0, 0x78, enb2))))
	c.send(sgw, mme, v2msg(35, u.mmeC(), n, cause2(16)))
	c.want("dedicated bearer moved", c.scope(enb2, 0x78), scope)
	c.wait(2.1)
	c.gone(enb, 0x60)
	// The dedicated bearer ends, the session stays.
	n = u.next()
	c.send(sgw, mme, v2msg(99, u.mmeC(), n, iei(73, 1, 6)))
	c.send(mme, sgw, v2msg(100, u.sgwC(), n, cause2(16), bearer(0, 6, cause2(16))))
	c.wait(2.1)
	for _, e := range []struct {
		addr string
		teid uint32
	}{{enb2, 0x78}, {sgwu, 0x61}, {sgwu, 0x62}, {pgwu, 0x63}} {
		c.gone(e.addr, e.teid)
	}
	c.want("default bearer", c.scope(enb2, 0x77), scope)
	// The default bearer's end is the session's.
	n = u.next()
	c.send(pgw, sgw, v2msg(99, u.s5C(), n, ie(73, 5)))
	c.send(sgw, pgw, v2msg(100, u.pgwC(), n, cause2(16), ie(73, 5)))
	c.want("active", c.tab.Active(), 0)
}

// TS 29.274 section 5.5.1: the create's response carries the request for a
// dedicated bearer, whose response carries the modify.
func TestPiggybackedBearer(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	n, m, k := u.next(), u.next(), u.next()
	c.sendPorts(mme, sgw, 4711, PortGTPC, u.s11Request(n))
	c.sendPorts(sgw, mme, PortGTPC, 4711, piggyback(u.s11Response(n),
		v2msg(95, u.mmeC(), m, ie(73, 5), bearer(0, 0, fteid(0, 1, 0x61, sgwu)))))
	c.sendPorts(mme, sgw, 4712, PortGTPC, piggyback(
		v2msg(96, u.sgwC(), m, cause2(16), bearer(0, 6, cause2(16), fteid(0, 0, 0x60, enb), fteid(1, 1, 0x61, sgwu))),
		modifyRequest(u.sgwC(), k, 5, enb, u.enbU())))
	c.sendPorts(sgw, mme, PortGTPC, 4713, modifyResponse(u.mmeC(), k, 5, 16))
	c.want("unmatched", c.tab.counters.Unmatched, uint64(0))
	scope := c.scope(sgwu, u.sgwU())
	c.want("dedicated, eNodeB", c.scope(enb, 0x60), scope)
	c.want("dedicated, SGW", c.scope(sgwu, 0x61), scope)
	c.want("default, eNodeB", c.scope(enb, u.enbU()), scope)
}

func TestForwardingDuringHandover(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.attach(u)
	scope := c.scope(enb, u.enbU())
	n := u.next()
	c.send(mme, sgw, v2msg(166, u.sgwC(), n, bearer(0, 5, fteid(0, 19, 0x31, enb2))))
	c.send(sgw, mme, v2msg(167, u.mmeC(), n, cause2(16), bearer(0, 5, cause2(16), fteid(3, 23, 0x32, sgwu))))
	c.want("eNodeB", c.scope(enb2, 0x31), scope)
	c.want("SGW", c.scope(sgwu, 0x32), scope)
	c.want("direction", c.direction(sgwu, 0x32), Downlink)
	n = u.next()
	c.send(mme, sgw, v2msg(168, u.sgwC(), n))
	c.send(sgw, mme, v2msg(169, u.mmeC(), n, cause2(16)))
	c.wait(2.1)
	c.gone(enb2, 0x31)
	c.gone(sgwu, 0x32)
	c.allOf(u, scope)
}

func TestTwoConnectionsOfOneUEShareS11(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	ims := &ue{imsi: u.imsi, apn: "ims", v4: "10.46.0.9", ebi: 6, base: 0x300}
	c.attach(u)
	// MME and SGW use the endpoints that they have for this UE.
	n := ims.next()
	c.send(mme, sgw, v2msg(32, u.sgwC(), n, ie(1, tbcd(u.imsi)...), fteid(0, 10, u.mmeC(), mme), ie(71, labels("ims")...), bearer(0, 6)))
	c.send(sgw, mme, v2msg(33, u.mmeC(), n, cause2(16), fteid(0, 11, u.sgwC(), sgw), fteid(1, 7, ims.pgwC(), pgw), paa(ims.v4),
		bearer(0, 6, cause2(16), fteid(0, 1, ims.sgwU(), sgwu))))
	c.want("active", c.tab.Active(), 2)
	a, b := c.scope(sgwu, u.sgwU()), c.scope(sgwu, ims.sgwU())
	if a == b {
		t.Fatal("two connections have one scope")
	}
	// One modify for both (Modify Access Bearers), one eNodeB TEID each.
	n = u.next()
	c.send(mme, sgw, v2msg(211, u.sgwC(), n, bearer(0, 5, fteid(0, 0, 0x41, enb2)), bearer(0, 6, fteid(0, 0, 0x42, enb2))))
	c.send(sgw, mme, v2msg(212, u.mmeC(), n, cause2(16)))
	c.want("internet", c.scope(enb2, 0x41), a)
	c.want("ims", c.scope(enb2, 0x42), b)
	// A bearer of a connection that was never seen belongs to neither.
	n = u.next()
	c.send(mme, sgw, modifyRequest(u.sgwC(), n, 9, enb2, 0x43))
	c.send(sgw, mme, modifyResponse(u.mmeC(), n, 9, 16))
	c.gone(enb2, 0x43)
	c.want("unknown", c.tab.counters.UnknownSession, uint64(1))
	// Idle means both.
	n = u.next()
	c.send(mme, sgw, v2msg(170, u.sgwC(), n))
	c.send(sgw, mme, v2msg(171, u.mmeC(), n, cause2(16)))
	c.wait(2.1)
	c.gone(enb2, 0x41)
	c.gone(enb2, 0x42)
	// One ends, the other stays.
	n = u.next()
	c.send(mme, sgw, v2msg(36, u.sgwC(), n, ie(73, 6), ie(77, 8, 0)))
	c.send(sgw, mme, v2msg(37, u.mmeC(), n, cause2(16)))
	c.want("active", c.tab.Active(), 1)
	c.want("internet", c.scope(sgwu, u.sgwU()), a)
}

func TestTwoAPNsWithTheSameAddress(t *testing.T) {
	c := newCore(t, Config{})
	u, v := anna(), bert()
	v.apn, v.v4 = "corporate", u.v4
	c.attach(u)
	c.attach(v)
	a, b := c.scope(pgwu, u.pgwU()), c.scope(pgwu, v.pgwU())
	if a == b {
		t.Fatal("two subscribers have one scope")
	}
	if _, ok := c.tab.ByUE(ip(u.v4), NoAPN); ok {
		t.Fatal("an address of two has one owner")
	}
	for apn, scope := range map[string]uint32{"internet": a, "corporate": b} {
		r, ok := c.tab.ByUE(ip(u.v4), c.tab.APNNumber(apn))
		c.want(apn, ok && r.Scope == scope, true)
	}
	c.detach(u)
	r, ok := c.tab.ByUE(ip(u.v4), NoAPN)
	c.want("the one that is left", ok && r.Scope == b, true)
}

func TestAddressHandedOn(t *testing.T) {
	c := newCore(t, Config{})
	u, v := anna(), bert()
	v.v4 = u.v4
	c.attach(u)
	old := c.scope(pgwu, u.pgwU())
	c.detach(u)
	c.attach(v)
	if c.scope(pgwu, v.pgwU()) == old {
		t.Fatal("the new owner has the old scope")
	}
	r, ok := c.tab.ByUE(ip(u.v4), NoAPN)
	c.want("owner", ok && r.Scope == c.scope(pgwu, v.pgwU()), true)
}

func TestAddressHandedOnWithoutADelete(t *testing.T) {
	c := newCore(t, Config{})
	u, v := anna(), bert()
	v.v4 = u.v4
	c.attach(u)
	c.attach(v) // same gateway, APN and address: anna must be gone
	c.want("active", c.tab.Active(), 1)
	c.want("replaced", c.tab.counters.Replaced, uint64(1))
	r, ok := c.tab.ByUE(ip(u.v4), NoAPN)
	c.want("owner", ok && r.Scope == c.scope(pgwu, v.pgwU()), true)
}

func TestNewAttachOfTheSameSubscriber(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.attach(u)
	old := c.scope(pgwu, u.pgwU())
	v := anna()
	v.base, v.v4 = 0x400, "10.45.0.77"
	c.attach(v) // implicit detach
	c.want("active", c.tab.Active(), 1)
	c.want("replaced", c.tab.counters.Replaced, uint64(1))
	if c.scope(pgwu, v.pgwU()) == old {
		t.Fatal("another address has the old scope")
	}
	c.wait(2.1)
	c.gone(pgwu, u.pgwU())
	// With the address it had, it is who it was; the old tunnels end.
	w := anna()
	w.base, w.v4 = 0x500, v.v4
	scope := c.scope(pgwu, v.pgwU())
	c.attach(w)
	c.allOf(w, scope)
	c.wait(2.1)
	c.gone(pgwu, v.pgwU())
	c.gone(enb, v.enbU())
	c.want("active", c.tab.Active(), 1)
}

func TestRepetitions(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	for range 3 {
		c.send(sgw, pgw, u.s5Request(7))
	}
	c.want("repeated requests", c.tab.counters.Repeated, uint64(2))
	for range 3 {
		c.send(pgw, sgw, u.s5Response(7))
	}
	c.want("repeated", c.tab.counters.Repeated, uint64(4))
	c.send(sgw, pgw, u.s5Request(7))
	c.want("repeated", c.tab.counters.Repeated, uint64(5))
	c.want("created", c.tab.counters.Created, uint64(1))
	c.want("unmatched", c.tab.counters.Unmatched, uint64(0))
}

func TestSequenceNumberUsedAnew(t *testing.T) {
	c := newCore(t, Config{})
	u, v := anna(), bert()
	c.send(sgw, pgw, u.s5Request(7))
	c.send(pgw, sgw, u.s5Response(7))
	c.send(sgw, pgw, v.s5Request(7)) // 65536 requests later, within seconds
	c.send(pgw, sgw, v.s5Response(7))
	c.want("active", c.tab.Active(), 2)
	c.want("repeated", c.tab.counters.Repeated, uint64(0))
}

func TestResponseBeforeItsRequest(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.send(pgw, sgw, u.s5Response(7))
	c.want("unmatched", c.tab.counters.Unmatched, uint64(1))
	s := c.session(pgwu, u.pgwU())
	scope := s.Scope
	c.want("what the response has", c.truth(s), truth{"", "", "", "", u.v4, 0, 5})
	c.send(sgw, pgw, u.s5Request(7))
	c.want("with the request", c.truth(c.session(sgwu, u.s5U())), truth{u.imsi, "", "", "internet", u.v4, 6, 5})
	c.want("scope", c.scope(sgwu, u.s5U()), scope)
	c.want("active", c.tab.Active(), 1)
	// The other hop, inverted too, is the same session.
	c.send(sgw, mme, u.s11Response(8))
	c.want("active", c.tab.Active(), 1)
	c.send(mme, sgw, u.s11Request(8))
	c.path(u, enb, u.enbU())
	c.allOf(u, scope)
	// A modify, inverted.
	c.send(sgw, mme, modifyResponse(u.mmeC(), 9, 5, 16))
	c.send(mme, sgw, modifyRequest(u.sgwC(), 9, 5, enb2, 0x77))
	c.want("handover", c.scope(enb2, 0x77), scope)
	c.wait(2.1)
	c.gone(enb, u.enbU())
	// One that was refused does nothing.
	c.send(sgw, mme, modifyResponse(u.mmeC(), 10, 5, 72))
	c.send(mme, sgw, modifyRequest(u.sgwC(), 10, 5, enb, 0x79))
	c.gone(enb, 0x79)
	// A delete, inverted.
	c.send(pgw, sgw, v2msg(37, u.s5C(), 11, cause2(16)))
	c.send(sgw, pgw, v2msg(36, u.pgwC(), 11, ie(73, 5)))
	c.want("active", c.tab.Active(), 0)
}

func TestResponseOfAKnownUE(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.attach(u)
	// The request of a second connection was lost; the MME's endpoint tells
	// whose it is.
	c.send(sgw, mme, v2msg(33, u.mmeC(), 99, cause2(16), fteid(0, 11, u.sgwC(), sgw), fteid(1, 7, 0x999, pgw), paa("10.46.0.9"),
		bearer(0, 6, cause2(16), fteid(0, 1, 0x998, sgwu))))
	c.want("active", c.tab.Active(), 2)
	c.want("IMSI", clearDigits(c.session(sgwu, 0x998).IMSI), u.imsi)
	c.allOf(u, c.scope(pgwu, u.pgwU()))
}

func TestEmergencyByIMEI(t *testing.T) {
	c := newCore(t, Config{})
	create := func(imei, v4 string, base, seq uint32) {
		c.send(mme, sgw, v2msg(32, 0, seq, ie(75, tbcd(imei)...), fteid(0, 10, base, mme), ie(71, labels("sos")...), bearer(0, 5)))
		c.send(sgw, mme, v2msg(33, base, seq, cause2(16), fteid(0, 11, base+1, sgw), fteid(1, 7, base+2, pgw), paa(v4),
			bearer(0, 5, cause2(16), fteid(0, 1, base+3, sgwu))))
	}
	create("3572200924513839", "10.47.0.1", 0x10, 1)
	create("3572200924513847", "10.47.0.2", 0x20, 2)
	c.want("active", c.tab.Active(), 2)
	create("3572200924513839", "10.47.0.3", 0x30, 3)
	c.want("active", c.tab.Active(), 2)
	c.want("replaced", c.tab.counters.Replaced, uint64(1))
}

func TestUnknownInterfaceType(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.attach(u)
	n := u.next()
	c.send(mme, sgw, v2msg(34, u.sgwC(), n, bearer(0, 5, fteid(0, 62, 0x88, "10.9.9.9"))))
	c.send(sgw, mme, modifyResponse(u.mmeC(), n, 5, 16))
	c.want("scope", c.scope("10.9.9.9", 0x88), c.scope(enb, u.enbU()))
	c.want("direction", c.direction("10.9.9.9", 0x88), DirectionUnknown)
	c.want("counted", c.tab.counters.UnknownInterfaces, uint64(1))
}

func TestDualStack(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	n := u.next()
	c.send(sgw, pgw, v2msg(32, 0, n, ie(1, tbcd(u.imsi)...), fteid(0, 6, u.s5C(), sgw, "fd00::2"), ie(71, labels(u.apn)...), ie(73, 5),
		bearer(0, 5, fteid(2, 4, u.s5U(), sgwu, "fd00:2::1"))))
	c.send(pgw, sgw, v2msg(33, u.s5C(), n, cause2(19), fteid(1, 7, u.pgwC(), pgw, "fd00::3"), paa(u.v4, "2001:db8:7::1"),
		bearer(0, 5, cause2(16), fteid(2, 5, u.pgwU(), pgwu, "fd00:3::1"))))
	scope := c.scope(pgwu, u.pgwU())
	for _, addr := range []string{"fd00:3::1", pgwu} {
		c.want(addr, c.scope(addr, u.pgwU()), scope)
	}
	for _, addr := range []string{"fd00:2::1", sgwu} {
		c.want(addr, c.scope(addr, u.s5U()), scope)
	}
	for _, a := range []string{u.v4, "2001:db8:7::1", "2001:db8:7:0:1234::99"} {
		r, ok := c.tab.ByUE(ip(a), NoAPN)
		c.want(a, ok && r.Scope == scope, true)
	}
	c.want("prefix", c.session(pgwu, u.pgwU()).UEv6Prefix, uint8(64))
	// The modify comes over IPv6.
	n = u.next()
	c.send("fd00::2", "fd00::3", v2msg(36, u.pgwC(), n, ie(73, 5)))
	c.send("fd00::3", "fd00::2", v2msg(37, u.s5C(), n, cause2(16)))
	c.want("active", c.tab.Active(), 0)
}

func TestToWiFiAndBack(t *testing.T) {
	const epdg = "10.0.0.9"
	c := newCore(t, Config{})
	u := anna()
	c.attachS5(u)
	scope := c.scope(pgwu, u.pgwU())
	// TS 23.402 section 8.6.2.1: handover indication, the address it has, and a
	// bearer number of the ePDG's own.
	n := u.next()
	c.send(epdg, pgw, v2msg(32, 0, n, ie(1, tbcd(u.imsi)...), ie(82, 3), ie(77, 0x20, 0), fteid(0, 30, 0x71, epdg),
		ie(71, labels(u.apn)...), paa(u.v4), bearer(0, 7, fteid(5, 31, 0x72, epdg))))
	c.send(pgw, epdg, v2msg(33, 0x71, n, cause2(16), fteid(1, 32, 0x73, pgw), paa(u.v4), bearer(0, 7, cause2(16), fteid(4, 33, 0x74, pgwu))))
	c.want("active", c.tab.Active(), 1)
	c.want("ePDG", c.scope(epdg, 0x72), scope)
	c.want("PGW", c.scope(pgwu, 0x74), scope)
	c.want("RAT", c.session(pgwu, 0x74).RAT, uint8(3))
	// The PGW closes the old access: not the session's end.
	n = u.next()
	c.send(pgw, sgw, v2msg(99, u.s5C(), n, cause2(4), ie(73, 5)))
	c.send(sgw, pgw, v2msg(100, u.pgwC(), n, cause2(16), ie(73, 5)))
	c.want("active", c.tab.Active(), 1)
	c.want("ePDG", c.scope(epdg, 0x72), scope)
}

// GTPv1.

func (u *ue) v1Request(seq int) []byte {
	return v1msg(16, 0, seq, v1imsi(u.imsi), v1teid(16, u.enbU()), v1teid(17, u.mmeC()), tv(20, u.ebi), v1eua(),
		tlv(131, labels(u.apn)...), tlv(133, raw(sgsn)...), tlv(133, raw(enb)...), tlv(151, 1))
}

func (u *ue) v1Response(seq int) []byte {
	return v1msg(17, u.mmeC(), seq, tv(1, 128), v1teid(16, u.pgwU()), v1teid(17, u.pgwC()), v1eua(u.v4),
		tlv(133, raw(ggsn)...), tlv(133, raw(pgwu)...))
}

func (c *core) activate(u *ue) {
	c.t.Helper()
	n := int(u.next())
	c.send(sgsn, ggsn, u.v1Request(n))
	c.send(ggsn, sgsn, u.v1Response(n))
}

func TestPDPContext(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.activate(u)
	s := c.session(pgwu, u.pgwU())
	scope := s.Scope
	c.want("session", c.truth(s), truth{u.imsi, "", "", "internet", u.v4, 1, 5})
	c.want("SGSN", c.scope(enb, u.enbU()), scope)
	c.want("direction", [2]Direction{c.direction(enb, u.enbU()), c.direction(pgwu, u.pgwU())}, [2]Direction{Downlink, Uplink})

	// Direct tunnel: the RNC's endpoint in place of the SGSN's.
	n := int(u.next())
	c.send(sgsn, ggsn, v1msg(18, u.pgwC(), n, v1teid(16, 0x81), tv(20, 5), tlv(133, raw(sgsn)...), tlv(133, raw(enb2)...), tlv(182, 1)))
	c.want("announced", c.scope(enb2, 0x81), scope)
	c.send(ggsn, sgsn, v1msg(19, u.mmeC(), n, tv(1, 128)))
	// Another SGSN (inter-SGSN routing area update): new TEIDs everywhere.
	n = int(u.next())
	const sgsn2 = "10.0.0.14"
	c.send(sgsn2, ggsn, v1msg(18, u.pgwC(), n, v1teid(16, 0x82), v1teid(17, 0x83), tv(20, 5), tlv(133, raw(sgsn2)...), tlv(133, raw(enb)...)))
	c.send(ggsn, sgsn2, v1msg(19, 0x83, n, tv(1, 128), v1teid(16, u.pgwU()), tlv(133, raw(ggsn)...), tlv(133, raw(pgwu)...)))
	c.wait(2.1)
	c.gone(enb, u.enbU())
	c.gone(enb2, 0x81)
	c.want("new SGSN", c.scope(enb, 0x82), scope)
	c.want("GGSN", c.scope(pgwu, u.pgwU()), scope)
	c.want("GGSN's direction", c.direction(pgwu, u.pgwU()), Uplink)
	// GGSN-initiated update: now the response has the SGSN's endpoint.
	n = int(u.next())
	c.send(ggsn, sgsn2, v1msg(18, 0x83, n, tv(20, 5)))
	c.send(sgsn2, ggsn, v1msg(19, u.pgwC(), n, tv(1, 128), v1teid(16, 0x84), tlv(133, raw(enb2)...)))
	c.want("SGSN's answer", c.scope(enb2, 0x84), scope)
	c.want("direction", c.direction(enb2, 0x84), Downlink)
	// Deactivation.
	n = int(u.next())
	c.send(sgsn2, ggsn, v1msg(20, u.pgwC(), n, tv(19, 0xff), tv(20, 5)))
	c.send(ggsn, sgsn2, v1msg(21, 0x83, n, tv(1, 128)))
	c.want("active", c.tab.Active(), 0)
	c.want("created", c.tab.counters.Created, uint64(1))
}

func TestPDPContextWithoutGSNAddresses(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.activate(u)
	n := int(u.next())
	c.send(sgsn, ggsn, v1msg(18, u.pgwC(), n, v1teid(16, 0x81), tv(20, 5)))
	c.send(ggsn, sgsn, v1msg(19, u.mmeC(), n, tv(1, 128)))
	c.want("the sender's address", c.scope(sgsn, 0x81), c.scope(pgwu, u.pgwU()))
}

func TestSecondaryPDPContext(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.activate(u)
	scope := c.scope(pgwu, u.pgwU())
	secondary := func() {
		n := int(u.next())
		c.send(sgsn, ggsn, v1msg(16, u.pgwC(), n, v1teid(16, 0x61), tv(20, 6), tv(20, 5), tlv(133, raw(sgsn)...), tlv(133, raw(enb)...)))
		c.send(ggsn, sgsn, v1msg(17, u.mmeC(), n, tv(1, 128), v1teid(16, 0x62), tlv(133, raw(ggsn)...), tlv(133, raw(pgwu)...)))
	}
	remove := func(ies ...[]byte) {
		n := int(u.next())
		c.send(sgsn, ggsn, v1msg(20, u.pgwC(), n, ies...))
		c.send(ggsn, sgsn, v1msg(21, u.mmeC(), n, tv(1, 128)))
		c.wait(2.1)
	}
	secondary()
	c.want("SGSN", c.scope(enb, 0x61), scope)
	c.want("GGSN", c.scope(pgwu, 0x62), scope)
	c.want("active", c.tab.Active(), 1)
	remove(tv(20, 6))
	c.gone(enb, 0x61)
	c.gone(pgwu, 0x62)
	c.want("primary", c.scope(pgwu, u.pgwU()), scope)
	secondary()
	remove(tv(20, 5)) // the primary alone
	c.gone(pgwu, u.pgwU())
	c.want("secondary", c.scope(pgwu, 0x62), scope)
	remove(tv(20, 6)) // the last one
	c.want("active", c.tab.Active(), 0)
	// A secondary of an unknown primary is nobody's.
	secondary()
	c.gone(pgwu, 0x62)
	c.want("unknown", c.tab.counters.UnknownSession, uint64(1))
}

func TestFromUMTSToLTE(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.activate(u)
	scope := c.scope(pgwu, u.pgwU())
	v := anna()
	v.base = 0x700
	c.attach(v) // other TEIDs, the address it had
	c.allOf(v, scope)
	c.want("active", c.tab.Active(), 1)
	c.want("RAT", c.session(enb, v.enbU()).RAT, uint8(6))
	c.wait(2.1)
	c.gone(enb, u.enbU())
	// And back: the SGSN takes over at the PGW's endpoint; the SGW is out.
	n := int(v.next())
	c.send(sgsn, pgw, v1msg(18, v.pgwC(), n, v1teid(16, 0x81), v1teid(17, 0x82), tv(20, 5), tlv(133, raw(sgsn)...), tlv(133, raw(enb2)...)))
	c.send(pgw, sgsn, v1msg(19, 0x82, n, tv(1, 128)))
	c.wait(2.1)
	c.want("SGSN", c.scope(enb2, 0x81), scope)
	c.gone(enb, v.enbU())
	c.gone(sgwu, v.sgwU())
	c.gone(sgwu, v.s5U())
	c.want("PGW", c.scope(pgwu, v.pgwU()), scope)
}

// PFCP.

func TestPDUSession(t *testing.T) {
	for name, choose := range map[string]bool{"UPF chooses": true, "SMF chooses": false} {
		t.Run(name, func(t *testing.T) {
			c := newCore(t, Config{})
			ue4, n3 := "10.60.0.1", pfteid(0x31, upf)
			if choose {
				n3 = pchoose()
			}
			c.n4(smf, upf, pfcpmsg(50, 0, 1, fseid(0x5, smf), pdr(1, 1, 0, n3, pue(ue4)), pdr(1, 2, 1, pue(ue4)),
				far(3, 1, 1), far(3, 2, 0), pie(159, labels("internet")), pie(141, []byte{1, 8}, tbcd("999700000000001"))))
			c.n4(upf, smf, pfcpmsg(51, 0x5, 1, pie(19, []byte{1}), fseid(0x9, upf), pie(8, pie(56, be16(1)), pfteid(0x31, upf))))
			s := c.session(upf, 0x31)
			scope := s.Scope
			c.want("session", c.truth(s), truth{"999700000000001", "", "", "internet", ue4, 0, 0})
			c.want("direction", c.direction(upf, 0x31), Uplink)
			// The gNB's endpoint comes later.
			c.n4(smf, upf, pfcpmsg(52, 0x9, 2, far(10, 2, 0, outer(0x41, gnb))))
			c.want("announced", c.scope(gnb, 0x41), scope)
			c.n4(upf, smf, pfcpmsg(53, 0x5, 2, pie(19, []byte{1})))
			c.want("direction", c.direction(gnb, 0x41), Downlink)
			// Handover; the update does not repeat where it goes to.
			c.n4(smf, upf, pfcpmsg(52, 0x9, 3, far(10, 2, pfcpNone, outer(0x42, enb2))))
			c.n4(upf, smf, pfcpmsg(53, 0x5, 3, pie(19, []byte{1})))
			c.wait(2.1)
			c.gone(gnb, 0x41)
			c.want("new gNB", c.scope(enb2, 0x42), scope)
			c.want("direction", c.direction(enb2, 0x42), Downlink)
			// Refused.
			c.n4(smf, upf, pfcpmsg(52, 0x9, 4, far(10, 2, 0, outer(0x43, gnb))))
			c.n4(upf, smf, pfcpmsg(53, 0x5, 4, pie(19, []byte{73})))
			c.gone(gnb, 0x43)
			c.n4(smf, upf, pfcpmsg(54, 0x9, 5))
			c.n4(upf, smf, pfcpmsg(55, 0x5, 5, pie(19, []byte{1})))
			c.want("active", c.tab.Active(), 0)
			_, ok := c.tab.ByUE(ip(ue4), NoAPN)
			c.want("address", ok, false)
		})
	}
}

func TestPDUSessionInverted(t *testing.T) {
	c := newCore(t, Config{})
	c.n4(upf, smf, pfcpmsg(51, 0x5, 1, pie(19, []byte{1}), fseid(0x9, upf), pie(8, pie(56, be16(1)), pfteid(0x31, upf))))
	c.want("direction", c.direction(upf, 0x31), DirectionUnknown)
	c.n4(smf, upf, pfcpmsg(50, 0, 1, fseid(0x5, smf), pdr(1, 1, 0, pchoose(), pue("10.60.0.1"))))
	c.want("direction", c.direction(upf, 0x31), Uplink)
	c.want("active", c.tab.Active(), 1)
	c.want("created", c.tab.counters.Created, uint64(1))
}

// Two UP functions in a row (SGW-U and PGW-U, or I-UPF and PSA): the second's FAR
// names the first's endpoint.
func (c *core) chain(seq uint32, seid uint64, near, far5, far8 uint32, ue4 string) {
	c.n4(sgw, sgwu, pfcpmsg(50, 0, seq, fseid(seid, sgw), pdr(1, 1, 1, pchoose()), pdr(1, 2, 0, pchoose()), far(3, 1, pfcpNone), far(3, 2, pfcpNone)))
	c.n4(sgwu, sgw, pfcpmsg(51, seid, seq, pie(19, []byte{1}), fseid(seid, sgwu),
		pie(8, pie(56, be16(1)), pfteid(near, sgwu)), pie(8, pie(56, be16(2)), pfteid(far5, sgwu))))
	c.n4(pgw, pgwu, pfcpmsg(50, 0, seq, fseid(seid, pgw), pdr(1, 1, 1, pue(ue4)), pdr(1, 2, 0, pchoose(), pue(ue4)),
		far(3, 1, 0, outer(near, sgwu)), far(3, 2, 1)))
	c.n4(pgwu, pgw, pfcpmsg(51, seid, seq, pie(19, []byte{1}), fseid(seid, pgwu), pie(8, pie(56, be16(2)), pfteid(far8, pgwu))))
	c.n4(sgw, sgwu, pfcpmsg(52, seid, seq+1, far(10, 2, 1, outer(far8, pgwu)), far(10, 1, 0, outer(far8+100, enb))))
	c.n4(sgwu, sgw, pfcpmsg(53, seid, seq+1, pie(19, []byte{1})))
}

func TestTwoUPFunctionsAreOneSession(t *testing.T) {
	c := newCore(t, Config{})
	c.chain(1, 1, 0x11, 0x12, 0x13, "10.60.0.1")
	c.chain(11, 2, 0x21, 0x22, 0x23, "10.60.0.2")
	c.want("active", c.tab.Active(), 2)
	var scopes [2]uint32
	for i, base := range []uint32{0x10, 0x20} {
		scope := c.scope(pgwu, base+3)
		scopes[i] = scope
		c.want("SGW-U, core side", c.scope(sgwu, base+1), scope)
		c.want("SGW-U, access side", c.scope(sgwu, base+2), scope)
		c.want("eNodeB", c.scope(enb, base+3+100), scope)
		for _, e := range []struct {
			addr string
			teid uint32
			dir  Direction
		}{{sgwu, base + 1, Downlink}, {sgwu, base + 2, Uplink}, {pgwu, base + 3, Uplink}, {enb, base + 103, Downlink}} {
			c.want(fmt.Sprint(e), c.direction(e.addr, e.teid), e.dir)
		}
	}
	if scopes[0] == scopes[1] {
		t.Fatal("two users have one scope")
	}
	// The SGW-U's half goes, then the PGW-U's: only then it ends.
	c.n4(sgw, sgwu, pfcpmsg(54, 1, 50))
	c.n4(sgwu, sgw, pfcpmsg(55, 1, 50, pie(19, []byte{1})))
	c.want("active", c.tab.Active(), 2)
	c.n4(pgw, pgwu, pfcpmsg(54, 1, 51))
	c.n4(pgwu, pgw, pfcpmsg(55, 1, 51, pie(19, []byte{1})))
	c.want("active", c.tab.Active(), 1)
}

// An endpoint that its own node names again is a new owner's, however much the
// rest looks alike; an eNodeB's proves nothing.
func TestEndpointsThatAreNoEvidence(t *testing.T) {
	c := newCore(t, Config{})
	c.chain(1, 1, 0x11, 0x12, 0x13, "10.60.0.1")
	scope := c.scope(pgwu, 0x13)
	c.n4(smf, pgwu, pfcpmsg(50, 0, 70, fseid(77, smf), pdr(1, 1, 0, pfteid(0x13, pgwu))))
	c.n4(pgwu, smf, pfcpmsg(51, 77, 70, pie(19, []byte{1}), fseid(78, pgwu)))
	if c.scope(pgwu, 0x13) == scope {
		t.Fatal("PGW-U: the old owner is credited")
	}
	c.n4(smf, pgwu, pfcpmsg(52, 78, 71, far(10, 1, 0, outer(0x13+100, enb))))
	c.n4(pgwu, smf, pfcpmsg(53, 77, 71, pie(19, []byte{1})))
	if c.scope(enb, 0x13+100) == scope {
		t.Fatal("eNodeB: the old owner is credited")
	}
	c.want("active", c.tab.Active(), 2)
}

func TestUPFunctionFindsItsGTPSession(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	// Sx: the SGW-U and its endpoints are made before GTP-C speaks of them.
	c.n4(sgw, sgwu, pfcpmsg(50, 0, 1, fseid(1, sgw), pdr(1, 1, 1, pchoose()), pdr(1, 2, 0, pchoose())))
	c.n4(sgwu, sgw, pfcpmsg(51, 1, 1, pie(19, []byte{1}), fseid(2, sgwu),
		pie(8, pie(56, be16(1)), pfteid(u.s5U(), sgwu)), pie(8, pie(56, be16(2)), pfteid(u.sgwU(), sgwu))))
	scope := c.scope(sgwu, u.sgwU())
	c.attach(u)
	c.allOf(u, scope)
	c.want("active", c.tab.Active(), 1)
	// The SGW-U tells the new eNodeB before GTP-C is answered.
	c.n4(sgw, sgwu, pfcpmsg(52, 2, 2, far(10, 1, 0, outer(0x77, enb2))))
	c.want("N4 first", c.scope(enb2, 0x77), scope)
	c.n4(sgwu, sgw, pfcpmsg(53, 1, 2, pie(19, []byte{1})))
	c.path(u, enb2, 0x77)
	c.wait(2.1)
	c.gone(enb, u.enbU())
	// Its half goes at a change of SGW-U; GTP-C holds the session.
	c.n4(sgw, sgwu, pfcpmsg(54, 2, 3))
	c.n4(sgwu, sgw, pfcpmsg(55, 1, 3, pie(19, []byte{1})))
	c.want("active", c.tab.Active(), 1)
	c.detach(u)
	c.want("active", c.tab.Active(), 0)
}

func TestSEIDIsNoTEID(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.attachS5(u)
	// The PGW numbers its PFCP sessions like its TEIDs.
	c.n4(upf, pgw, pfcpmsg(54, uint64(u.pgwC()), 1))
	c.n4(pgw, upf, pfcpmsg(55, uint64(u.s5C()), 1, pie(19, []byte{1})))
	c.want("active", c.tab.Active(), 1)
}

// Time and caps.

func TestIdleSessionExpires(t *testing.T) {
	c := newCore(t, Config{Idle: time.Hour})
	u, v := anna(), bert()
	c.attachS5(u)
	c.attachS5(v)
	for range 10 {
		c.wait(600)
		c.scope(pgwu, u.pgwU()) // a G-PDU
	}
	c.want("active", c.tab.Active(), 1)
	c.want("expired", c.tab.counters.Expired, uint64(1))
	c.gone(pgwu, v.pgwU())
	c.check()
}

func TestTimeNeverGoesBack(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.attachS5(u)
	c.tab.Advance(-5)
	c.tab.Advance(c.now - 3600*second)
	c.scope(pgwu, u.pgwU())
	c.want("now", c.tab.now, c.now)
}

func TestFullTableEvictsTheQuietest(t *testing.T) {
	c := newCore(t, Config{Sessions: 8})
	busy := anna()
	c.attachS5(busy)
	for i := range 30 {
		c.wait(1)
		c.scope(pgwu, busy.pgwU())
		c.attachS5(&ue{imsi: fmt.Sprintf("26203%010d", i), apn: "internet", v4: fmt.Sprintf("10.50.0.%d", i+1), ebi: 5, base: uint32(0x1000 * (i + 1))})
		if n := c.tab.Active(); n > 8 {
			t.Fatalf("%d sessions of 8", n)
		}
	}
	c.scope(pgwu, busy.pgwU())
	c.want("evicted", c.tab.counters.Evicted, uint64(31-8))
	c.check()
}

func TestFullEndpointTableEvictsSessions(t *testing.T) {
	c := newCore(t, Config{Sessions: 50, Endpoints: 9})
	for i := range 20 {
		u := &ue{imsi: fmt.Sprintf("26203%010d", i), apn: "internet", v4: fmt.Sprintf("10.50.0.%d", i+1), ebi: 5, base: uint32(0x1000 * (i + 1))}
		c.attachS5(u)
		c.want("IMSI", clearDigits(c.session(pgwu, u.pgwU()).IMSI), u.imsi)
		c.want("IMSI", clearDigits(c.session(sgwu, u.s5U()).IMSI), u.imsi)
	}
	c.want("active", c.tab.Active(), 4)
	c.want("evicted", c.tab.counters.Evicted, uint64(16))
	c.want("dropped", c.tab.counters.EndpointsDropped, uint64(0))
}

func TestDeleteBearerCauses(t *testing.T) {
	for cause, active := range map[byte]int{0: 0, 4: 1, 5: 1, 8: 0, 10: 1, 15: 1} {
		c := newCore(t, Config{})
		u := anna()
		c.attachS5(u)
		n := u.next()
		var why []byte
		if cause != 0 {
			why = cause2(cause)
		}
		c.send(pgw, sgw, v2msg(99, u.s5C(), n, why, ie(73, 5)))
		c.send(sgw, pgw, v2msg(100, u.pgwC(), n, cause2(16), ie(73, 5)))
		c.want(fmt.Sprint("active after cause ", cause), c.tab.Active(), active)
	}
}

func TestRefDies(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.attachS5(u)
	r, _, _ := c.tab.ByTEID(ip(pgwu), u.pgwU())
	if c.tab.Session(r) == nil {
		t.Fatal("no session")
	}
	for _, bad := range []Ref{{}, {Index: r.Index}, {Index: r.Index, Scope: r.Scope + 1}, {Index: 1 << 31, Scope: 1}} {
		if c.tab.Session(bad) != nil {
			t.Errorf("%v is a session", bad)
		}
	}
	c.detach(u)
	c.wait(2.1)
	c.attachS5(bert()) // the record is used again
	if c.tab.Session(r) != nil {
		t.Error("an old Ref means the new session")
	}
}

func TestExchangesAreBounded(t *testing.T) {
	c := newCore(t, Config{Exchanges: 16})
	u := anna()
	for i := range 100 {
		c.send(sgw, pgw, u.s5Request(uint32(i)))
	}
	c.want("evicted", c.tab.counters.ExchangesEvicted, uint64(84))
	c.send(pgw, sgw, u.s5Response(99))
	c.want("the latest is there", clearDigits(c.session(pgwu, u.pgwU()).IMSI), u.imsi)
}

func TestAPNsAreBounded(t *testing.T) {
	c := newCore(t, Config{APNs: 2})
	for i, apn := range []string{"a", "b", "c", "d"} {
		u := &ue{imsi: "262011111111111", apn: apn, v4: fmt.Sprintf("10.9.0.%d", i+1), ebi: byte(5 + i), base: uint32(0x100 * (i + 1))}
		c.attachS5(u)
		want := apn
		if i > 1 {
			want = "other"
		}
		c.want(apn, c.tab.APNName(c.session(pgwu, u.pgwU()).APN), want)
	}
	c.want("unknown number", c.tab.APNName(999), "")
	if c.tab.counters.APNsRefused == 0 {
		t.Error("nothing counted")
	}
}

func TestCrowdedAddressHasNoOwner(t *testing.T) {
	c := newCore(t, Config{})
	for i := range 40 {
		c.attachS5(&ue{imsi: fmt.Sprintf("26203%010d", i), apn: fmt.Sprintf("vpn%d", i), v4: "10.0.0.1", ebi: 5, base: uint32(0x100 * (i + 1))})
	}
	c.want("active", c.tab.Active(), 40)
	_, ok := c.tab.ByUE(ip("10.0.0.1"), NoAPN)
	c.want("owner", ok, false)
	_, ok = c.tab.ByUE(ip("10.0.0.1"), c.tab.APNNumber("vpn3"))
	c.want("owner in an APN, once some are not kept", ok, false)
}

func TestASessionHoldsOnlySoMuch(t *testing.T) {
	c := newCore(t, Config{})
	u := anna()
	c.attach(u)
	for i := range uint32(11 * 22) { // no two of one slot and bearer
		n := u.next()
		c.send(mme, sgw, v2msg(34, u.sgwC(), n, ie(73, 5), bearer(0, byte(i%11)+5, fteid(0, 42+byte(i/11), 0x10000+i, enb))))
		c.send(sgw, mme, v2msg(35, u.mmeC(), n, cause2(16)))
		if i < 11 { // make the bearers the session's
			c.dedicate(u, byte(i)+5, 0x9000+16*i)
		}
	}
	c.wait(2.1)
	c.want("endpoints", c.tab.Endpoints(), maxUserEndpoints)
}

func TestConfigForMemory(t *testing.T) {
	for _, budget := range []int64{10 << 20, 100 << 20, 1 << 30} {
		c := Config{}.ForMemory(budget)
		if n := c.Bytes(); n > budget || n < budget*9/10 {
			t.Errorf("budget %d: %d sessions take %d", budget, c.Sessions, n)
		}
	}
	if _, err := New(Config{Sessions: 1 << 30}); err == nil {
		t.Error("a table beyond all bounds was made")
	}
}

func TestKinds(t *testing.T) {
	seen := map[string]bool{}
	for k := range NumKinds {
		name := Kind(k).String()
		if seen[name] {
			t.Errorf("%s twice", name)
		}
		seen[name] = true
	}
	if k := kinds[V1][222]; k.String() != "gtpv1_other" {
		t.Errorf("unknown type is %s", k)
	}
}
