package capture

import (
	"math"
	"testing"
	"time"
)

func TestOrder(t *testing.T) {
	const never = math.MaxInt64
	none := head{}
	at := func(t int64) head { return head{t, true} }
	for _, test := range []struct {
		name  string
		b     bounds
		heads []head
		first int
		limit int64
	}{
		{"nothing", bounds{never, never}, []head{none, none}, -1, never},
		{"one lane", bounds{never, never}, []head{at(5)}, 0, never},
		{"the earlier one, up to the other", bounds{never, never}, []head{at(7), at(5)}, 1, 7},
		{"three", bounds{never, never}, []head{at(7), at(9), at(5)}, 2, 7},
		{"three, the earliest first", bounds{never, never}, []head{at(5), at(9), at(7)}, 0, 7},
		{"equal times: the first lane's turn", bounds{never, never}, []head{at(5), at(5)}, 0, 5},
		{"an empty lane: only what is certain", bounds{6, never}, []head{at(5), none, at(9)}, 0, 6},
		{"not yet certain", bounds{4, never}, []head{none, at(5)}, 1, 4},
		{"stamped before the clock was set back", bounds{4, 100}, []head{at(5), at(200)}, 1, never},
	} {
		if first, limit := test.b.first(test.heads); first != test.first || limit != test.limit {
			t.Errorf("%s: lane %d up to %d, want %d up to %d", test.name, first, limit, test.first, test.limit)
		}
	}
	looked := time.Now()
	now := looked.UnixNano()
	if b := boundsOf(looked, []head{none}, time.Second); b != (bounds{never, never}) {
		t.Errorf("one lane waits for nothing: %+v", b)
	}
	if b := boundsOf(looked, []head{at(1), at(2)}, time.Second); b.certain != never || b.absurd < now {
		t.Errorf("no lane is empty: %+v", b)
	}
	if b := boundsOf(looked, []head{at(1), none}, time.Second); b.certain != now-1e9 {
		t.Errorf("%+v, a second ago was %d", b, now-1e9)
	}
	if until(9e6, 4e6) != 5*time.Millisecond || until(5, 4) != time.Millisecond {
		t.Error("until")
	}
}
