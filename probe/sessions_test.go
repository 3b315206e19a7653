package probe

import (
	"fmt"
	"testing"
)

// TestGnOwnersAreKept holds that a record tells whose it is though the session had
// ended long before the flow did, and others had its tunnel and its address since.
func TestGnOwnersAreKept(t *testing.T) {
	const sessions = 40
	g := newGn(t)
	var want []string
	first := g.attach("001010000009999", "mms", "10.0.0.9", "", 9000)
	first.connects(server, 40000)
	for i := range sessions {
		s := g.attach(fmt.Sprintf("0010100000%05d", i), "internet", "10.0.0.1", "", 100)
		s.connects(other, 41000)
		s.detach()
		want = append(want, fmt.Sprintf("10.0.0.1:41000 none  other/other apn=internet imsi=hashed 0010100000%05d", i))
	}
	first.connects(other, 42000)
	want = append(want,
		"10.0.0.9:40000 none  other/other apn=mms imsi=hashed 001010000009999",
		"10.0.0.9:42000 none  other/other apn=mms imsi=hashed 001010000009999")
	records, s := run(t, g.list, nil)
	expect(t, records, want...)
	if s.GTP.Sessions != 1 || s.GTP.Created != sessions+1 || s.GTP.Deleted != sessions {
		t.Errorf("%d sessions; %d created, %d deleted", s.GTP.Sessions, s.GTP.Created, s.GTP.Deleted)
	}
}
