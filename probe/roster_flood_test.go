package probe

import (
	"fmt"
	"testing"

	"github.com/nametap/nametap/capture/decode"
)

// TestRosterFlood holds that servers of which several subscribers were told
// outlast any number of answers that one alone was given.
func TestRosterFlood(t *testing.T) {
	const servers, known = 1000, 500
	r, err := newRoster(servers, 1)
	if err != nil {
		t.Fatal(err)
	}
	server := func(i int) decode.Addr {
		return decode.AddrFrom4([]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)})
	}
	told := func(i int, subscriber uint32, name string) {
		var l facts
		l.keep([]byte(name))
		l.add(fact{server: server(i), answered: second, until: 1000 * second, subscriber: subscriber, class: 3})
		r.learn(&l)
	}
	for i := range known {
		told(i, 1, "e1.whatsapp.net")
		told(i, 3, "e1.whatsapp.net")
	}
	for i := range 100_000 {
		told(1<<20+i, uint32(2*i+1), fmt.Sprintf("random%d.example", i))
	}
	lost := 0
	for i := range known {
		if name := r.lookup(nil, server(i), 2*second, 99); string(name) != "e1.whatsapp.net" {
			lost++
		}
	}
	if lost > known/100 {
		t.Errorf("%d of %d known servers were forgotten", lost, known)
	}
	if lost == 0 && r.Evicted == 0 {
		t.Error("nothing was evicted: this tests nothing")
	}
	if r.shared != known-lost {
		t.Errorf("%d servers are counted as shared, %d are", r.shared, known-lost)
	}
}
