package probe

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/nametap/nametap/capture"
	"github.com/nametap/nametap/flows"
)

func TestShedding(t *testing.T) {
	var s shedding
	for i, c := range []struct {
		pressure uint8
		sni, rtt bool
	}{
		{0, false, false},
		{49, false, false},
		{50, true, false},
		{30, true, false},
		{25, true, false},
		{24, false, false},
		{30, false, false},
		{75, true, true},
		{60, true, true},
		{40, true, true},
		{100, true, true},
		{10, false, false},
	} {
		s = s.under(c.pressure)
		if s.leavesOut(WorkSNI) != c.sni || s.leavesOut(WorkRTT) != c.rtt {
			t.Errorf("step %d, at %d %%: sni %v, rtt %v", i, c.pressure, s.leavesOut(WorkSNI), s.leavesOut(WorkRTT))
		}
	}
}

// pressed is a Source that says how full its ring is with each batch.
type pressed struct {
	memory
	pressures []uint8 // by frame
}

func (p *pressed) Next(b *capture.Batch) error {
	err := p.memory.Next(b)
	if err == nil {
		b.Pressure, p.pressures = p.pressures[0], p.pressures[1:]
	}
	return err
}

// clientHello returns the first record of a TLS client.
func clientHello(t *testing.T, name string) string {
	t.Helper()
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(client, &tls.Config{ServerName: name}).Handshake() // fails when the pipe is closed
	}()
	head := make([]byte, 5)
	if _, err := io.ReadFull(server, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, int(head[3])<<8|int(head[4]))
	if _, err := io.ReadFull(server, body); err != nil {
		t.Fatal(err)
	}
	_ = server.Close()
	<-done
	_ = client.Close()
	return string(head) + string(body)
}

// strained is a scene in which each frame comes at some pressure.
type strained struct {
	*gn
	pressure  uint8
	pressures []uint8
}

func (s *strained) at(pressure uint8) *strained {
	s.note()
	s.pressure = pressure
	return s
}

// note gives the frames since the last call the pressure.
func (s *strained) note() {
	for len(s.pressures) < len(s.list) {
		s.pressures = append(s.pressures, s.pressure)
	}
}

const tlsServer = "157.240.9.9"

func (s *strained) up(port int, flags string, seq, ack uint32, payload string) {
	s.frame(s.tcp("10.0.0.1", tlsServer, port, 443, flags, seq, ack, payload))
}

func (s *strained) down(port int, flags string, seq, ack uint32, payload string) {
	s.frame(s.tcp(tlsServer, "10.0.0.1", 443, port, flags, seq, ack, payload))
}

// Server and access side are 20 and 30 ms away in everything that follows.
func (s *strained) syn(port int) { s.up(port, "S", 1000, 0, ""); s.wait(20*time.Millisecond - 100_000) }

func (s *strained) synAck(port int) {
	s.down(port, "SA", 5000, 1001, "")
	s.wait(30*time.Millisecond - 100_000)
}
func (s *strained) ack(port int) { s.up(port, "A", 1001, 5001, "") }

func (s *strained) exchange(port int, from uint32, payload string) {
	s.up(port, "A", from, 5001, payload)
	s.wait(20*time.Millisecond - 100_000)
	s.down(port, "A", 5001, from+uint32(len(payload)), "")
	s.wait(10 * time.Millisecond)
}

// TestOverload holds that what is left out is missing and never wrong, that what
// was begun is ended, and that traffic and names by DNS go on.
func TestOverload(t *testing.T) {
	hello := clientHello(t, "mmv777.whatsapp.net")
	first, second := hello[:100], hello[100:]
	s := &strained{gn: newGn(t)}
	s.frame(s.answer("10.255.0.53", "10.0.0.1", "e1.whatsapp.net", tlsServer, 3600))
	open := func(port int) { s.syn(port); s.synAck(port); s.ack(port) }

	open(1)
	s.exchange(1, 1001, first)
	s.at(60).exchange(1, 1101, second) // begun before: ended under pressure
	open(2)                            // times are still taken
	s.exchange(2, 1001, hello)         // but no name is looked for
	open(3)
	s.exchange(3, 1001, first)
	s.exchange(3, 1101, second)
	s.syn(4)
	s.at(80).synAck(4) // nor times
	s.ack(4)
	s.exchange(4, 1001, hello)
	s.syn(5)
	s.at(30).synAck(5) // still
	s.at(80).ack(5)
	s.syn(6)
	s.at(10).synAck(6) // all again
	s.ack(6)
	s.exchange(6, 1001, hello)
	s.exchange(5, 1001, hello)
	s.exchange(4, 1001+uint32(len(hello)), "more")
	s.note()

	type want struct {
		class, evidence string
		rtt             [2]int64 // of the handshake, µs
		server          int64    // least of the server side, µs
	}
	none := int64(flows.NoSample)
	wants := map[uint16]want{
		1: {"video", "sni", [2]int64{20_000, 30_000}, 20_000},
		2: {"chat", "dns", [2]int64{20_000, 30_000}, 20_000},
		3: {"chat", "dns", [2]int64{20_000, 30_000}, 20_000},
		4: {"chat", "dns", [2]int64{none, none}, 20_000},
		5: {"video", "sni", [2]int64{none, none}, 20_000},
		6: {"video", "sni", [2]int64{20_000, 30_000}, 20_000},
	}
	for _, shards := range []int{1, 3} {
		cfg := config(shards)
		var records []flows.Record
		cfg.Records = func(list []flows.Record) { records = append(records, list...) }
		e := newEngine(t, cfg)
		source := &pressed{memory{frames: slices.Clone(s.list), batch: 1}, slices.Clone(s.pressures)}
		if err := e.Run(context.Background(), source); err != nil {
			t.Fatal(err)
		}
		for i := range records {
			r := &records[i]
			got := want{r.Class, r.Evidence, r.RTTHandshake, r.RTTMin[flows.Up]}
			if got != wants[r.Key.SubscriberPort] {
				t.Errorf("%d shards, flow %d: %+v, want %+v", shards, r.Key.SubscriberPort, got, wants[r.Key.SubscriberPort])
			}
		}
		if len(records) != len(wants) {
			t.Errorf("%d shards: %d flows, want %d", shards, len(records), len(wants))
		}
		checkShed(t, e, s.pressures)
	}
}

// checkShed compares the counters with the rule, frame by frame.
func checkShed(t *testing.T, e *Engine, pressures []uint8) {
	t.Helper()
	var want [Works]uint64
	var s shedding
	for _, p := range pressures {
		s = s.under(p)
		for w := range want {
			if s.leavesOut(Work(w)) {
				want[w]++
			}
		}
	}
	o := e.Snapshot().Overload
	if o.Segments != want || o.Unexamined != 3 {
		t.Errorf("%d segments and %d flows left out, want %d and 3", o.Segments, o.Unexamined, want)
	}
	if want[WorkRTT] == 0 || want[WorkSNI] <= want[WorkRTT] {
		t.Errorf("the scene tests nothing: %d", want)
	}
	if o.Shedding != [Works]bool{} || o.Pressure != 10 {
		t.Errorf("in the end: %+v", o)
	}
	for i, p := range e.parts {
		if n := p.hellos.InUse(); n != 0 {
			t.Errorf("partition %d: %d hellos are still being put together", i, n)
		}
	}
}
