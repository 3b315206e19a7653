package contract

import (
	"net/netip"
	"testing"
	"time"
)

// life is a trace, and the connections that must come out of it.
type life struct {
	says  string
	trace func(tr *trace) []*conn
}

func live(t *testing.T, lives []life) {
	for _, l := range lives {
		t.Run(l.says, func(t *testing.T) {
			t.Parallel()
			tr := newTrace()
			conns := l.trace(tr)
			tr.analyzed(t).flows(t, conns...)
		})
	}
}

// again is a new connection on the same 5-tuple: its SYN has another initial
// sequence number.
func (c *conn) again() *conn {
	n := c.tr.connFrom(c.client, c.server)
	n.next = [2]uint32{c.next[up] + 1<<28, c.next[down] + 1<<28}
	return n
}

// rest is what comes of a connection after its record was closed: on the same
// 5-tuple, and going on where it was.
func (c *conn) rest() *conn {
	n := c.tr.connFrom(c.client, c.server)
	n.next = c.next
	return n
}

// repeat sends the last byte of the sequence space again, whatever it was.
func (c *conn) repeat(dir int, flags byte, payload []byte) *conn {
	s := segment{flags: flags, payload: payload, ack: c.next[1-dir]}
	s.seq = c.next[dir] - s.length()
	return c.send(dir, s)
}

// ends sets why the connection's record must have ended.
func (c *conn) ends(reason string) *conn {
	c.reason = reason
	return c
}

// clockwork lets packet time move on by another connection's packets, every so
// often.
func (tr *trace) clockwork(d, every time.Duration) *conn {
	c := tr.conn(carol, serverAt(250))
	for end := tr.now + d; tr.now < end; tr.wait(every) {
		c.up([]byte("tick"))
	}
	return c
}

func TestBeginnings(t *testing.T) {
	live(t, []life{
		{"from SYN to FIN", func(tr *trace) []*conn { return []*conn{tr.conn(alice, server).whole()} }},
		{"a repeated SYN is no new flow", func(tr *trace) []*conn {
			c := tr.conn(alice, server).syn()
			for _, wait := range []time.Duration{time.Second, 3 * time.Second, 7 * time.Second, 15 * time.Second} {
				tr.wait(wait)
				c.repeat(up, syn, nil)
			}
			return []*conn{c.synAck().ackUp().talk().close()}
		}},
		{"nor one after the SYN/ACK, nor a repeated SYN/ACK", func(tr *trace) []*conn {
			c := tr.conn(alice, server).syn().synAck()
			tr.wait(time.Second)
			c.repeat(up, syn, nil).repeat(down, syn|ack, nil)
			return []*conn{c.ackUp().repeat(down, syn|ack, nil).talk().close()}
		}},
		{"a SYN whose answer never comes", func(tr *trace) []*conn { return []*conn{tr.conn(alice, server).syn()} }},
		{"the SYN/ACK before its SYN", func(tr *trace) []*conn {
			c := tr.conn(alice, server)
			c.next[up]++
			c.synAck()
			return []*conn{c.repeat(up, syn, nil).ackUp().talk().close()}
		}},
		{"from the SYN/ACK on", func(tr *trace) []*conn {
			c := tr.conn(alice, server)
			c.next[up]++
			return []*conn{c.synAck().ackUp().talk().close()}
		}},
		{"met in mid-stream", func(tr *trace) []*conn { return []*conn{tr.conn(alice, server).talk().close()} }},
		{"met in mid-stream by what the server sends", func(tr *trace) []*conn {
			return []*conn{tr.conn(alice, server).down([]byte("hello")).talk().close()}
		}},
		{"met at a lone acknowledgment", func(tr *trace) []*conn { return []*conn{tr.conn(alice, server).ackUp()} }},
		{"met at its RST", func(tr *trace) []*conn { return []*conn{tr.conn(alice, server).reset(down)} }},
		{"a RST without ACK", func(tr *trace) []*conn { return []*conn{tr.conn(alice, server).segment(down, rst, nil)} }},
		{"uplink alone", func(tr *trace) []*conn {
			return []*conn{tr.conn(alice, server).syn().ackUp().up(make([]byte, 100)).segment(up, fin|ack, nil)}
		}},
		{"downlink alone", func(tr *trace) []*conn {
			return []*conn{tr.conn(alice, server).synAck().down(make([]byte, 1400)).segment(down, fin|ack, nil)}
		}},
	})
}

func TestPortReuse(t *testing.T) {
	live(t, []life{
		{"after a close in good order", func(tr *trace) []*conn {
			first := tr.conn(alice, server).whole()
			return []*conn{first, first.again().whole()}
		}},
		{"after a reset", func(tr *trace) []*conn {
			first := tr.conn(alice, server).open().talk().reset(up)
			return []*conn{first, first.again().whole()}
		}},
		{"of an open connection", func(tr *trace) []*conn {
			first := tr.conn(alice, server).open().talk().ends("reused")
			return []*conn{first, first.again().whole()}
		}},
		{"of one half closed", func(tr *trace) []*conn {
			first := tr.conn(alice, server).open().talk().segment(down, fin|ack, nil).ends("reused")
			return []*conn{first, first.again().whole()}
		}},
		{"of one half open", func(tr *trace) []*conn {
			first := tr.conn(alice, server).syn().ends("reused")
			return []*conn{first, first.again().whole()}
		}},
		{"of one met in mid-stream", func(tr *trace) []*conn {
			first := tr.conn(alice, server).talk().ends("reused")
			tr.wait(10 * time.Second)
			return []*conn{first, first.again().whole()}
		}},
		{"ten times over", func(tr *trace) (all []*conn) {
			c := tr.conn(alice, server).whole()
			for range 10 {
				all = append(all, c)
				tr.wait(time.Second)
				c = c.again().whole()
			}
			return append(all, c)
		}},
		{"the same numbers on another port are another flow", func(tr *trace) []*conn {
			return []*conn{tr.conn(alice, server).whole(), tr.conn(alice, server).whole()}
		}},
		{"of another subscriber are another flow", func(tr *trace) []*conn {
			a := tr.connFrom(netip.AddrPortFrom(alice, 5000), server)
			b := tr.connFrom(netip.AddrPortFrom(bob, 5000), server)
			return []*conn{a.open(), b.open(), a.talk().close(), b.talk().close()}[:2]
		}},
	})
}

func TestReuseTakesTheNameOfItsTime(t *testing.T) {
	prove(t, []rule{{"each flow has the answer of its own first packet", nil, func(tr *trace) []verdict {
		tr.answer(alice, chatName, 5, server.Addr().String())
		first := tr.conn(alice, server).whole()
		tr.wait(time.Second).answer(alice, photoName, 5, server.Addr().String())
		second := first.again().whole()
		tr.wait(time.Minute)
		third := second.again().whole()
		return []verdict{first.is(chatBy("dns")), second.is(photoBy("dns")), third.is(photoBy("dns-stale"))}
	}}})
}

func TestEnds(t *testing.T) {
	live(t, []life{
		{"the server closes first", func(tr *trace) []*conn {
			return []*conn{tr.conn(alice, server).open().talk().segment(down, fin|ack, nil).segment(up, fin|ack, nil).segment(down, ack, nil)}
		}},
		{"both FINs at once", func(tr *trace) []*conn {
			c := tr.conn(alice, server).open().talk()
			a := c.next
			c.send(up, segment{flags: fin | ack, seq: a[up], ack: a[down]})
			return []*conn{c.send(down, segment{flags: fin | ack, seq: a[down], ack: a[up]})}
		}},
		{"one FIN is no end", func(tr *trace) []*conn {
			return []*conn{tr.conn(alice, server).open().talk().segment(up, fin|ack, nil).down(make([]byte, 900)).down(make([]byte, 900))}
		}},
		{"a FIN and a RST", func(tr *trace) []*conn {
			return []*conn{tr.conn(alice, server).open().talk().segment(up, fin|ack, nil).reset(down).ends("rst")}
		}},
		{"a RST after both FINs changes nothing", func(tr *trace) []*conn {
			return []*conn{tr.conn(alice, server).whole().reset(up).ends("fin")}
		}},
		{"a RST answers a SYN", func(tr *trace) []*conn { return []*conn{tr.conn(alice, server).syn().reset(down)} }},
		{"a reset of both", func(tr *trace) []*conn {
			return []*conn{tr.conn(alice, server).open().talk().reset(up).reset(down).reset(down)}
		}},
		{"the trace ends first", func(tr *trace) []*conn { return []*conn{tr.conn(alice, server).open().talk()} }},
		{"late segments open no flow", func(tr *trace) []*conn {
			c := tr.conn(alice, server).whole()
			for _, wait := range []time.Duration{0, 200 * time.Millisecond, time.Second, 10 * time.Second, 50 * time.Second} {
				tr.wait(wait)
				c.repeat(down, fin|ack, nil).repeat(up, ack, nil)
			}
			return []*conn{c}
		}},
		{"nor after a RST", func(tr *trace) []*conn {
			c := tr.conn(alice, server).open().talk().reset(up)
			c.down(make([]byte, 1400)).down(make([]byte, 1400))
			tr.wait(2 * time.Second)
			return []*conn{c.reset(up).ackUp()}
		}},
		{"late data of a closed flow", func(tr *trace) []*conn {
			c := tr.conn(alice, server).open().talk()
			late := c.next[down]
			c.next[down] += 500
			c.close()
			tr.wait(time.Second)
			return []*conn{c.send(down, segment{flags: ack, seq: late, ack: c.next[up], payload: make([]byte, 500)})}
		}},
	})
}

func TestIdleTimeouts(t *testing.T) {
	// A connection of the class says something, is silent, and goes on.
	silent := func(name string, d time.Duration, cut bool) func(tr *trace) []*conn {
		return func(tr *trace) []*conn {
			if name != "" {
				tr.answer(alice, name, 300, server.Addr().String())
			}
			c := tr.conn(alice, server).open().talk()
			tr.wait(d - tr.step)
			if !cut {
				return []*conn{c.talk().close()}
			}
			c.ends("idle")
			return []*conn{c, c.rest().talk().close()}
		}
	}
	live(t, []life{
		{"chat may be silent for an hour", silent(chatName, time.Hour-time.Second, false)},
		{"and not for more", silent(chatName, time.Hour+time.Second, true)},
		{"photo may be silent for five minutes", silent(photoName, 5*time.Minute-time.Second, false)},
		{"and not for more", silent(photoName, 5*time.Minute+time.Second, true)},
		{"so may what has no name", silent("", 5*time.Minute-time.Second, false)},
		{"and not for more", silent("", 5*time.Minute+time.Second, true)},
		{"half open for a minute", func(tr *trace) []*conn {
			c := tr.conn(alice, server).syn()
			tr.wait(59 * time.Second)
			return []*conn{c.repeat(up, syn, nil)}
		}},
		{"and not for more", func(tr *trace) []*conn {
			c := tr.conn(alice, server).syn().ends("idle")
			tr.wait(61 * time.Second)
			return []*conn{c, c.rest().repeat(up, syn, nil)}
		}},
		{"a SYN and its SYN/ACK are half open too", func(tr *trace) []*conn {
			c := tr.conn(alice, server).syn().synAck().ends("idle")
			return []*conn{c, tr.clockwork(70*time.Second, time.Second)}
		}},
		{"an idle flow ends while others go on", func(tr *trace) []*conn {
			c := tr.conn(alice, server).open().talk().ends("idle")
			return []*conn{c, tr.clockwork(320*time.Second, 10*time.Second)}
		}},
		// Fails where the table's wheel, which turns by the second, is not asked for
		// what has fallen due since (flows.Table.Shutdown knows no time).
		{"a flow that is silent for too long when the trace ends is idle", func(tr *trace) []*conn {
			c := tr.conn(alice, server).open().talk().ends("idle")
			tr.wait(5*time.Minute + 100*time.Millisecond)
			return []*conn{c, tr.conn(carol, serverAt(250)).syn()}
		}},
		{"a flow that speaks in time does not", func(tr *trace) []*conn {
			c := tr.conn(alice, server).open().talk()
			other := tr.clockwork(295*time.Second, 5*time.Second)
			return []*conn{c.talk(), other}
		}},
		{"a chat of many silences is one flow", func(tr *trace) []*conn {
			tr.answer(alice, chatName, 300, server.Addr().String())
			c := tr.conn(alice, server).open().talk()
			for range 12 {
				tr.wait(50 * time.Minute)
				c.talk()
			}
			return []*conn{c.close()}
		}},
		{"silence after one FIN is idle", func(tr *trace) []*conn {
			c := tr.conn(alice, server).open().talk().segment(up, fin|ack, nil).ends("idle")
			return []*conn{c, tr.clockwork(320*time.Second, 10*time.Second)}
		}},
		{"a closed flow keeps its reason", func(tr *trace) []*conn {
			c := tr.conn(alice, server).whole()
			return []*conn{c, tr.clockwork(20*time.Minute, 10*time.Second)}
		}},
	})
}

// TestIdleTimeoutOfTheRules: the rules set the time-out of their classes.
func TestIdleTimeoutOfTheRules(t *testing.T) {
	rules := savedAs(t, "rules.yaml", []byte(`apps:
  - app: example
    domains: [example.org]
    classes:
      - {class: short, names: ['^short\.example\.org$'], idle_timeout: 30s}
      - {class: long, names: ['^long\.example\.org$'], idle_timeout: 24h}
`))
	tr := newTrace()
	tr.answer(alice, "short.example.org", 300, serverAt(1).Addr().String())
	tr.answer(alice, "long.example.org", 300, serverAt(2).Addr().String())
	short := tr.conn(alice, serverAt(1)).open().talk().ends("idle")
	long := tr.conn(alice, serverAt(2)).open().talk()
	tr.wait(31 * time.Second)
	rest := short.rest().talk().ends("idle")
	tr.wait(23 * time.Hour)
	long.talk()
	recs := tr.analyzed(t, "--rules", rules).flows(t, short, long, rest)
	recs[0].namedAs(t, named{"short.example.org", "dns", "example", "short"})
	recs[1].namedAs(t, named{"long.example.org", "dns", "example", "long"})
	recs[2].namedAs(t, named{"short.example.org", "dns", "example", "short"})
}

// TestOrderOfRecords: by end, then start, then 5-tuple, whatever the order in
// which flows began or were found to be over.
func TestOrderOfRecords(t *testing.T) {
	tr := newTrace()
	tr.step = 0 // ends that are the same to the nanosecond
	idle := tr.at(0).conn(carol, serverAt(3)).open().talk().ends("idle")
	early := tr.at(time.Minute).conn(bob, serverAt(2)).open()
	late := tr.at(2*time.Minute).conn(alice, serverAt(1)).open()
	twin := tr.conn(alice, serverAt(1)).open()
	other := tr.conn(alice, serverAt(2)).open()
	tr.at(3 * time.Minute)
	for _, c := range []*conn{other, twin, early, late} {
		c.talk().close()
	}
	last := tr.at(time.Hour).conn(bob, serverAt(9)).whole()
	r := tr.analyzed(t)
	r.flows(t, idle, early, late, twin, other, last)
	// The three that began and ended together stand in the order of their
	// servers' addresses, then of their ports.
	for i, c := range []*conn{idle, early, late, twin, other, last} {
		if rec := &r.records[i]; rec.client() != c.client || rec.server() != c.server {
			t.Errorf("record %d is %s, want %v -> %v", i, rec, c.client, c.server)
		}
	}
}

func TestSequenceNumbers(t *testing.T) {
	tests := []struct {
		says                      string
		retransmitted, outOfOrder [2]uint64 // uplink, downlink
		send                      func(c *conn)
	}{
		{says: "in order", send: func(c *conn) { c.open().talk().close() }},
		{says: "sequence numbers wrap", send: func(c *conn) {
			c.next = [2]uint32{1<<32 - 40, 1<<32 - 1500}
			c.open()
			for range 5 {
				c.up(make([]byte, 100)).down(make([]byte, 1400))
			}
			c.close()
		}},
		{says: "the SYN is the last number before the wrap", send: func(c *conn) {
			c.next = [2]uint32{1<<32 - 1, 1<<32 - 1}
			c.open().talk().talk().close()
		}},
		{says: "a repeat of what passed is a retransmission", retransmitted: [2]uint64{1, 2}, send: func(c *conn) {
			c.open().up(make([]byte, 50)).tr.wait(300 * time.Millisecond)
			c.repeat(up, ack|psh, make([]byte, 50)).down(make([]byte, 500)).tr.wait(300 * time.Millisecond)
			c.repeat(down, ack, make([]byte, 500)).tr.wait(600 * time.Millisecond)
			c.repeat(down, ack, make([]byte, 500)).close()
		}},
		{says: "a repeated SYN is a retransmission", retransmitted: [2]uint64{1, 0}, send: func(c *conn) {
			c.syn().tr.wait(time.Second)
			c.repeat(up, syn, nil).synAck().ackUp().talk().close()
		}},
		{says: "a segment that fills a hole at once was out of order", outOfOrder: [2]uint64{0, 1}, send: func(c *conn) {
			c.open().down(make([]byte, 500))
			at := c.next[down]
			c.next[down] += 500
			c.down(make([]byte, 500)).tr.step = 0
			c.send(down, segment{flags: ack, seq: at, ack: c.next[up], payload: make([]byte, 500)})
			c.tr.step = time.Millisecond
			c.close()
		}},
		{says: "a hole that is filled late is a retransmission", retransmitted: [2]uint64{0, 1}, send: func(c *conn) {
			c.open().down(make([]byte, 500))
			at := c.next[down]
			c.next[down] += 500
			c.down(make([]byte, 500)).tr.wait(400 * time.Millisecond)
			c.send(down, segment{flags: ack, seq: at, ack: c.next[up], payload: make([]byte, 500)})
			c.close()
		}},
		{says: "a keep-alive is none", send: func(c *conn) {
			c.open().talk()
			for range 3 {
				c.tr.wait(45 * time.Second)
				c.send(up, segment{flags: ack, seq: c.next[up] - 1, ack: c.next[down]}) // RFC 9293 section 3.8.4
				c.segment(down, ack, nil)
				c.tr.wait(45 * time.Second)
				c.send(up, segment{flags: ack, seq: c.next[up] - 1, ack: c.next[down], payload: []byte{0}})
				c.segment(down, ack, nil)
			}
			c.close()
		}},
		{says: "a repeated acknowledgment is none", send: func(c *conn) {
			c.open().talk().ackUp().ackUp().ackUp().close()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.says, func(t *testing.T) {
			t.Parallel()
			tr := newTrace()
			c := tr.conn(alice, server)
			tt.send(c)
			r := tr.analyzed(t).flows(t, c)[0]
			if got := [2]uint64{r.UplinkRetransmitted, r.DownlinkRetransmitted}; got != tt.retransmitted {
				t.Errorf("retransmitted %v, want %v", got, tt.retransmitted)
			}
			if got := [2]uint64{r.UplinkOutOfOrder, r.DownlinkOutOfOrder}; got != tt.outOfOrder {
				t.Errorf("out of order %v, want %v", got, tt.outOfOrder)
			}
		})
	}
}

func TestRoundTripTimes(t *testing.T) {
	const access, beyond = 30 * time.Millisecond, 110 * time.Millisecond
	handshake := func(c *conn) {
		c.tr.step = 0
		c.syn().tr.wait(beyond)
		c.synAck().tr.wait(access)
		c.ackUp()
	}
	tests := []struct {
		says           string
		server, access any // seconds, or nil for null
		send           func(c *conn)
	}{
		{"SYN to SYN/ACK, SYN/ACK to ACK", 0.11, 0.03, handshake},
		{"nothing where only the client's packets pass", nil, nil, func(c *conn) { c.syn().ackUp().up([]byte("x")) }},
		{"nothing where only the server's packets pass", nil, nil, func(c *conn) { c.synAck().down([]byte("x")) }},
		{"nothing of a flow met in mid-stream", nil, nil, func(c *conn) { c.talk() }},
		{"the server does not answer", nil, nil, func(c *conn) { c.syn() }},
		{"no sample of a SYN that was repeated (Karn)", nil, 0.03, func(c *conn) {
			c.tr.step = 0
			c.syn().tr.wait(time.Second)
			c.repeat(up, syn, nil).tr.wait(beyond)
			c.synAck().tr.wait(access)
			c.ackUp()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.says, func(t *testing.T) {
			t.Parallel()
			tr := newTrace()
			c := tr.conn(alice, server)
			tt.send(c)
			r := tr.analyzed(t).flows(t, c)[0]
			for what, pair := range map[string][2]any{
				"server_rtt_handshake_s": {value(r.ServerHandshake), tt.server},
				"access_rtt_handshake_s": {value(r.AccessHandshake), tt.access},
			} {
				if pair[0] != pair[1] {
					t.Errorf("%s is %v, want %v", what, pair[0], pair[1])
				}
			}
		})
	}
}

func value(v *float64) any {
	if v == nil {
		return nil
	}
	return *v
}

// TestRunningRoundTripTimes: data and its acknowledgment, on both sides of the
// tap, with and without timestamps.
func TestRunningRoundTripTimes(t *testing.T) {
	for _, stamps := range []bool{false, true} {
		t.Run(map[bool]string{false: "SEQ and ACK", true: "timestamps"}[stamps], func(t *testing.T) {
			t.Parallel()
			tr := newTrace()
			tr.step = 0
			c := tr.conn(alice, server)
			clock := [2]uint32{1000, 9000}
			send := func(dir int, flags byte, payload []byte) {
				s := segment{flags: flags, seq: c.next[dir], ack: c.next[1-dir], payload: payload}
				if clock[dir]++; stamps {
					s.options = join([]byte{1, 1, 8, 10}, be.AppendUint32(nil, clock[dir]), be.AppendUint32(nil, clock[1-dir]))
				}
				c.next[dir] += s.length()
				c.send(dir, s)
			}
			for range 3 {
				send(up, ack|psh, []byte("request"))
				tr.wait(80 * time.Millisecond)
				send(down, ack|psh, make([]byte, 700))
				tr.wait(20 * time.Millisecond)
			}
			send(up, ack, nil)
			r := tr.analyzed(t).flows(t, c)[0]
			if value(r.ServerMin) != 0.08 || value(r.ServerMean) != 0.08 {
				t.Errorf("server_rtt min %v mean %v, want 0.08", value(r.ServerMin), value(r.ServerMean))
			}
			if value(r.AccessMin) != 0.02 || value(r.AccessMean) != 0.02 {
				t.Errorf("access_rtt min %v mean %v, want 0.02", value(r.AccessMin), value(r.AccessMean))
			}
		})
	}
}
