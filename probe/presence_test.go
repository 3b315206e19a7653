package probe

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/nametap/nametap/capture/decode"
)

// TestPresenceIsASet holds a presence, small enough to be full and to forget time and
// again, against a map.
func TestPresenceIsASet(t *testing.T) {
	type key struct {
		mark  uint64
		class uint8
	}
	forgot := 0
	for seed := uint64(1900); seed < 2100; seed++ { // 2025 has a run of pairs across the end of the slots
		r := rand.New(rand.NewPCG(seed, 1))
		s, err := newPresence(firstSlots / 4 * 3)
		if err != nil {
			t.Fatal(err)
		}
		last := map[key]uint32{}
		for minute := uint32(10); minute < 400; minute += 1 + r.Uint32N(3)*r.Uint32N(40) {
			s.turn(minute)
			active := 0
			for _, m := range last {
				if minute-m < activeMinutes {
					active++
				}
			}
			if got := s.Active[1] + s.Active[2]; got != active {
				t.Fatalf("seed %d, minute %d: %d active, want %d", seed, minute, got, active)
			}
			for range r.IntN(30) {
				k := key{r.Uint64N(60), uint8(1 + r.IntN(2))}
				m, known := last[k]
				refused, shed := s.Refused, s.shedIn
				first := s.seen(k.mark, k.class, minute)
				if want := !known || m != minute; first != want {
					t.Fatalf("seed %d, minute %d: first in this minute: %v, want %v", seed, minute, first, want)
				}
				if s.shedIn != shed { // those that were not active went
					forgot++
					for k, m := range last {
						if minute-m >= activeMinutes {
							delete(last, k)
						}
					}
				}
				if s.Refused == refused {
					last[k] = minute
				}
			}
			if s.n != len(last) {
				t.Fatalf("seed %d, minute %d: %d held, want %d", seed, minute, s.n, len(last))
			}
		}
	}
	if forgot < 100 {
		t.Errorf("%d times something was forgotten: this tests little", forgot)
	}
}

// TestRosterAsTold holds a roster against the answers themselves, gone through from the
// first on for each question.
func TestRosterAsTold(t *testing.T) {
	names := []string{"", "a", "b", "c", "d", "e", "f", "g"} // by class
	for seed := range uint64(100) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		r, err := newRoster(50, seed)
		if err != nil {
			t.Fatal(err)
		}
		var told []fact
		for now := int64(1); now < 600; now++ {
			f := fact{
				server: addr("31.13.86.51"), answered: max(now-rnd.Int64N(3), 1), subscriber: rnd.Uint32N(4) + 1,
				class: uint8(1 + rnd.IntN(1+rnd.IntN(7))),
			}
			f.server.Lo += rnd.Uint64N(20)
			f.until = f.answered + rnd.Int64N(100)
			told = append(told, f)
			var l facts
			l.keep([]byte(names[f.class]))
			l.add(f)
			r.learn(&l)
			server, at, asker := f.server, now-rnd.Int64N(10), rnd.Uint32N(4)+1
			classes, mixed := claimsOf(told, server)
			want := ""
			if fit := slices.DeleteFunc(classes, func(c fact) bool {
				return c.subscriber == asker || at < c.answered || at > c.until
			}); len(fit) == 1 && at > mixed {
				want = names[fit[0].class]
			}
			if got := string(r.lookup(nil, server, at, asker)); got != want {
				t.Fatalf("seed %d, answer %d: %q, want %q", seed, len(told), got, want)
			}
		}
	}
}

// claimsOf is what the answers say of a server: of each class one unbroken run, and up
// to when there were more classes than claims.
func claimsOf(told []fact, server decode.Addr) (list []fact, mixed int64) {
	for _, f := range told {
		if f.server != server {
			continue
		}
		at := slices.IndexFunc(list, func(c fact) bool { return c.class == f.class })
		if at < 0 && len(list) == claims {
			at = slices.IndexFunc(list, func(c fact) bool { return c.until < f.answered })
		} else if at < 0 {
			if at = slices.IndexFunc(list, func(c fact) bool { return c.until < f.answered }); at < 0 {
				at = len(list)
				list = append(list, f)
			}
		}
		if at < 0 {
			mixed = max(mixed, f.until)
			continue
		}
		if c := &list[at]; c.class != f.class || c.until < f.answered {
			*c = f
		} else {
			if c.subscriber != f.subscriber {
				c.subscriber = 0
			}
			c.answered, c.until = min(c.answered, f.answered), max(c.until, f.until)
		}
	}
	return list, mixed
}
