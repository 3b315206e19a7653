package watch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nametap/nametap/classify"
	"github.com/nametap/nametap/detect"
	"github.com/nametap/nametap/probe"
)

// stories tells in a word each what Observe told of: app, verdict, state.
func (x *tap) stories() (out []string) {
	for i := range x.told {
		e := &x.told[i]
		app := e.App
		if app == "" {
			app = "tap"
		}
		out = append(out, fmt.Sprintf("%s %s %s", app, e.Verdict, e.State()))
	}
	return out
}

// TestWatch: what is said of an app, and of the tap, when this or that happens
// after three ordinary hours.
func TestWatch(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long, and has no goroutines for the race detector to watch")
	}
	const before = 3 * time.Hour
	tests := []struct {
		name     string
		then     func(x *tap)
		stories  []string
		problems []string // at the end
	}{
		{"nothing", func(x *tap) { x.run(3*time.Hour, nil) }, nil, nil},
		{
			"an outage", func(x *tap) { x.run(time.Hour, outage) },
			[]string{"whatsapp app-failure lasts"},
			nil,
		},
		{
			"an outage that ends", func(x *tap) { x.run(time.Hour, outage); x.run(time.Hour, nil) },
			[]string{"whatsapp app-failure lasts", "whatsapp app-failure over"},
			nil,
		},
		{"five bad minutes", func(x *tap) { x.run(5*time.Minute, outage); x.run(time.Hour, nil) }, nil, nil},
		{
			"servers that refuse", func(x *tap) {
				x.run(time.Hour, func(d *tick) {
					outage(d)
					d.answered[chat], d.answered[photo] = 0, 0
				})
			},
			[]string{"whatsapp unreachable lasts"},
			nil,
		},
		{
			"the tap is cut", func(x *tap) { x.run(time.Hour, nothing) },
			[]string{"tap tap lasts"},
			[]string{"no_packets", "blind"},
		},
		{
			"the tap is cut in the middle of a bin, and comes back in one", func(x *tap) {
				x.run(150*time.Second, nil)
				x.run(time.Hour, nothing)
				x.run(time.Hour, nil)
			},
			[]string{"tap tap lasts", "tap tap over"},
			nil,
		},
		{
			"the downlink port is unplugged", func(x *tap) { x.run(time.Hour, downlinkGone) },
			[]string{"tap tap lasts"},
			[]string{"one_direction", "dns_missing", "blind"},
		},
		{
			"the downlink port is unplugged in the middle of a bin", func(x *tap) {
				x.run(100*time.Second, nil)
				x.run(30*time.Minute, downlinkGone)
				x.run(time.Hour, nil)
			},
			[]string{"tap tap lasts", "tap tap over"},
			nil,
		},
		{
			"the rings overflow", func(x *tap) {
				x.run(time.Hour, func(d *tick) {
					d.dropped = d.frames / 2
					d.carried[chat] /= 2
				})
			},
			[]string{"tap tap lasts"},
			[]string{"drops", "blind"},
		},
		{"a few drops", func(x *tap) { x.run(time.Hour, func(d *tick) { d.dropped = d.frames / 50 }) }, nil, []string{"drops"}},
		{"hardly any drops", func(x *tap) { x.run(time.Hour, func(d *tick) { d.dropped = 1 }) }, nil, nil},
		{"each packet twice", func(x *tap) { x.run(time.Hour, func(d *tick) { d.duplicates = d.frames / 2 }) }, nil, nil},
		{"each packet four times", func(x *tap) { x.run(time.Hour, func(d *tick) { d.duplicates = d.frames * 3 / 4 }) }, nil, []string{"duplicates"}},
		{"losses before the capture", func(x *tap) { x.run(time.Hour, func(d *tick) { d.unseen = 30 }) }, nil, []string{"unseen_bytes"}},
		{"half of the segments pass while work is left out", func(x *tap) {
			x.run(time.Hour, func(d *tick) { d.shed = d.frames / 2 })
		}, nil, []string{"overload"}},
		{"a burst fills the rings for a moment", func(x *tap) {
			x.run(10*time.Minute, nil)
			x.run(30*time.Second, func(d *tick) { d.shed = d.frames })
			x.run(10*time.Second, nil)
		}, nil, nil},
		{"work was left out, and is done again", func(x *tap) {
			x.run(time.Hour, func(d *tick) { d.shed = d.frames })
			x.run(5*time.Minute, nil)
		}, nil, nil},
		{"copies, and work is left out for a tenth of what is left", func(x *tap) {
			x.run(time.Hour, func(d *tick) { d.duplicates = d.frames / 2; d.shed = d.frames / 20 })
		}, nil, nil},
		{"copies, and work is left out for half of what is left", func(x *tap) {
			x.run(time.Hour, func(d *tick) { d.duplicates = d.frames / 2; d.shed = d.frames / 4 })
		}, nil, []string{"overload"}},
		{"one of the ports is unplugged", func(x *tap) {
			x.run(time.Hour, func(d *tick) { d.deadPort = true })
		}, nil, []string{"port_silent"}},
		{"one of the ports is unplugged for a minute", func(x *tap) {
			x.run(time.Minute, func(d *tick) { d.deadPort = true })
		}, nil, nil},
		{"one of the ports is unplugged, and back", func(x *tap) {
			x.run(time.Hour, func(d *tick) { d.deadPort = true })
			x.run(10*time.Second, nil)
		}, nil, nil},
		{"one of the ports stays away for good", func(x *tap) {
			x.run(4*time.Hour, func(d *tick) { d.deadPort = true })
		}, nil, nil},
		{"the resolver moves off the tap", func(x *tap) {
			x.run(time.Hour, func(d *tick) { d.queries, d.responses = 0, 0 })
		}, nil, []string{"dns_missing"}},
		{"names are resolved elsewhere", func(x *tap) { x.run(time.Hour, func(d *tick) { d.encrypted = 20 }) }, nil, []string{"encrypted_dns"}},
		{"names are guessed", func(x *tap) { x.run(time.Hour, func(d *tick) { d.fromOthers = true }) }, nil, []string{"names_missing"}},
		{
			"a pause in the replay", func(x *tap) { x.now.Time += int64(3 * time.Hour); x.run(time.Hour, nil) },
			nil, nil,
		},
		{
			"a wild step of the clock", func(x *tap) { x.now.Time += int64(400 * 24 * time.Hour); x.run(time.Hour, nil) },
			nil, nil,
		},
		{
			"another engine's snapshots, of an earlier time", func(x *tap) { x.start(epoch - int64(time.Hour)); x.run(3*time.Hour, nil) },
			nil, nil,
		},
		{
			"an outage that others have too", func(x *tap) {
				x.run(time.Hour, func(d *tick) {
					outage(d)
					d.carried[other], d.answered[other], d.bytes[other] = 0, 0, d.bytes[other]/10
				})
			},
			[]string{"whatsapp our-network lasts"},
			nil,
		},
		{
			"one gateway fails", func(x *tap) {
				x.run(2*time.Hour, func(d *tick) { d.tunnels = true })
				x.run(time.Hour, brokenGateway)
				if e := x.told[0]; e.Group != "wap" {
					x.t.Errorf("the group is %q", e.Group)
				}
			},
			[]string{"whatsapp our-network lasts"},
			nil,
		},
		{
			"a night", func(x *tap) {
				for i := range 36 {
					x.run(10*time.Minute, func(d *tick) {
						for c := range d.attempts {
							n := d.attempts[c] * uint64(40-i) / 40
							d.attempts[c], d.carried[c], d.answered[c] = n, n, n
							d.bytes[c] = d.bytes[c] * uint64(40-i) / 40
						}
						d.subscribers = d.subscribers * (40 - i) / 40
					})
				}
			}, nil, nil,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := newTap(t)
			x.run(before, nil)
			if got := x.active(); got != nil {
				t.Errorf("before: problems %v", got)
			}
			tt.then(x)
			if got := x.stories(); !slices.Equal(got, tt.stories) {
				t.Errorf("told of %q, want %q", got, tt.stories)
			}
			if got := x.active(); !slices.Equal(got, tt.problems) {
				t.Errorf("problems %v, want %v", got, tt.problems)
			}
			if got, want := x.watcher.Status().Healthy, len(tt.problems) == 0; got != want {
				t.Errorf("healthy %v, want %v", got, want)
			}
			x.run(30*time.Minute, nil)
			if got := x.active(); got != nil || !x.watcher.Status().Healthy {
				t.Errorf("when all is well again: problems %v", got)
			}
		})
	}
}

// TestSoon: an outage is found well within ten minutes, wherever in a bin it
// begins, and its start is told to within half a bin.
func TestSoon(t *testing.T) {
	for into := time.Duration(0); into < Coarse; into += 20 * time.Second {
		x := newTap(t)
		x.run(3*time.Hour+into, nil)
		begin := x.now.Time
		x.run(20*time.Minute, outage)
		if len(x.told) == 0 {
			t.Fatalf("begun %v into a bin: not found", into)
		}
		if late := time.Duration(x.told[0].Detected - begin); late > 8*time.Minute {
			t.Errorf("begun %v into a bin: found after %v", into, late)
		}
		if off := time.Duration(x.told[0].Start - begin); off.Abs() > detect.Hop {
			t.Errorf("begun %v into a bin: said to begin %v off", into, off)
		}
	}
}

// TestWarmUp: while names are missing nothing is said of apps, and it shows.
func TestWarmUp(t *testing.T) {
	x := newTap(t)
	x.run(15*time.Minute, outage)
	if got := x.active(); !slices.Equal(got, []string{"warm_up"}) {
		t.Errorf("after 15 minutes: %v", got)
	}
	x.run(5*time.Minute, nil)
	if got := x.active(); got != nil {
		t.Errorf("after 20 minutes: %v", got)
	}
	if x.told != nil {
		t.Errorf("told of %v", x.stories())
	}
}

// TestBeforeTheFirstPacket: an idle live tap moves time on without a packet.
func TestBeforeTheFirstPacket(t *testing.T) {
	x := &tap{t: t, watcher: New(nil)}
	if got := x.active(); !slices.Equal(got, []string{"warm_up", "no_packets"}) {
		t.Errorf("nothing observed: %v", got)
	}
	for n := range int64(200) {
		x.watcher.Observe(&probe.Snapshot{Time: epoch + n*int64(Fine)})
	}
	if got := x.active(); !slices.Equal(got, []string{"warm_up", "no_packets"}) {
		t.Errorf("silent: %v", got)
	}
	if s := x.watcher.Summary(); s.Since != nil || s.Healthy {
		t.Errorf("silent: since %v, healthy %v", s.Since, s.Healthy)
	}
}

// restart saves, and goes on as a new daemon that loads, after a pause.
func (x *tap) restart(pause time.Duration) {
	x.t.Helper()
	b, err := json.Marshal(x.watcher)
	if err != nil {
		x.t.Fatal(err)
	}
	x.watcher = New(func(e Event) { x.told = append(x.told, e) })
	if err := json.Unmarshal(b, x.watcher); err != nil {
		x.t.Fatal(err)
	}
	x.start(x.now.Time + int64(pause))
}

func TestRestart(t *testing.T) {
	tests := []struct {
		name    string
		then    func(x *tap)
		stories []string
		events  int
	}{
		{"in good times", func(x *tap) { x.restart(time.Minute); x.run(2*time.Hour, nil) }, nil, 0},
		{"many times", func(x *tap) {
			for range 20 {
				x.restart(10 * time.Second)
				x.run(7*time.Minute, nil)
			}
			x.run(time.Hour, nil)
		}, nil, 0},
		{
			"what was learned holds", func(x *tap) {
				x.restart(time.Minute)
				x.run(30*time.Minute, nil)
				x.run(15*time.Minute, outage)
			},
			[]string{"whatsapp app-failure lasts"},
			1,
		},
		{
			"in the middle of an outage", func(x *tap) {
				x.run(30*time.Minute, outage)
				x.restart(time.Minute)
				x.run(time.Hour, outage)
				x.run(time.Hour, nil)
			},
			[]string{"whatsapp app-failure lasts", "whatsapp app-failure over"},
			1,
		},
		{
			"the outage ends meanwhile", func(x *tap) {
				x.run(30*time.Minute, outage)
				x.restart(time.Hour)
				x.run(time.Hour, nil)
			},
			[]string{"whatsapp app-failure lasts", "whatsapp app-failure over"},
			1,
		},
		{"few names are known at first", func(x *tap) {
			x.restart(time.Minute)
			x.run(20*time.Minute, func(d *tick) {
				for _, i := range []int{chat, photo} {
					d.attempts[i], d.carried[i], d.answered[i], d.bytes[i] = 0, 0, 0, 0
				}
			})
			x.run(2*time.Hour, nil)
		}, nil, 0},
		{"the clock was set back a little", func(x *tap) { x.restart(-10 * time.Minute); x.run(2*time.Hour, nil) }, nil, 0},
		{
			"the state is from another year", func(x *tap) {
				x.run(30*time.Minute, outage)
				x.restart(-300 * 24 * time.Hour)
				x.run(3*time.Hour, nil)
				x.run(30*time.Minute, outage)
			},
			[]string{"whatsapp app-failure lasts", "whatsapp app-failure lasts"},
			1,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := newTap(t)
			x.run(3*time.Hour, nil)
			tt.then(x)
			if got := x.stories(); !slices.Equal(got, tt.stories) {
				t.Errorf("told of %q, want %q", got, tt.stories)
			}
			if got := x.watcher.Events().Events; len(got) != tt.events {
				t.Errorf("%d events, want %d", len(got), tt.events)
			}
		})
	}
}

// TestStateComesBack: the coarse bins, the events and their counts are the same
// after a restart, also where the rules have a class more.
func TestStateComesBack(t *testing.T) {
	x := newTap(t)
	x.run(6*time.Hour, nil)
	x.run(30*time.Minute, outage)
	x.run(30*time.Minute, nil)
	before := x.watcher.Series(6*time.Hour, "")
	events, begun := x.watcher.Events().Events, x.watcher.Status().Begun
	b, err := json.Marshal(x.watcher)
	if err != nil {
		t.Fatal(err)
	}
	w := New(nil)
	if err := json.Unmarshal(b, w); err != nil {
		t.Fatal(err)
	}
	s := x.now
	s.Classes = append([]probe.ClassSnapshot{{ClassInfo: classify.ClassInfo{App: "new", Class: "one"}}}, s.Classes...)
	w.Observe(&s)
	after := w.Series(6*time.Hour, "whatsapp")
	want := x.watcher.Series(6*time.Hour, "whatsapp")
	after.Time, want.Time = nil, nil
	if !reflect.DeepEqual(after, want) || len(before.Classes) != 3 || len(after.Classes) != 2 {
		t.Errorf("series differ:\n%+v\n%+v", after, want)
	}
	if got := w.Events().Events; !reflect.DeepEqual(got, events) || len(got) != 1 {
		t.Errorf("events %+v, want %+v", got, events)
	}
	if got := w.Status().Begun; !reflect.DeepEqual(got, begun) || got["whatsapp"][detect.AppFailure] != 1 {
		t.Errorf("begun %v, want %v", got, begun)
	}
}

func TestDamagedState(t *testing.T) {
	x := newTap(t)
	x.run(3*time.Hour, nil)
	good, err := json.Marshal(x.watcher)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"empty":         {},
		"cut":           good[:len(good)/2],
		"of the future": bytes.Replace(good, []byte(`"version":1`), []byte(`"version":99`), 1),
		"no detector":   []byte(`{"version":1}`),
		"too many bins": []byte(`{"version":1,"bins":[` + strings.TrimSuffix(strings.Repeat("{},", coarseBins+1), ",") + `]}`),
	} {
		w := New(nil)
		if err := json.Unmarshal(b, w); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// What is odd in it must do no harm.
	w := New(nil)
	odd := bytes.ReplaceAll(good, []byte(`"start_ns":`), []byte(`"start_ns":-`))
	if err := json.Unmarshal(odd, w); err == nil {
		w.Observe(&x.now)
		w.Series(time.Hour, "")
	}
}

// TestSeries: rates of the bins, and nothing where nothing was watched.
func TestSeries(t *testing.T) {
	x := newTap(t)
	x.run(time.Hour, nil)
	x.now.Time += int64(time.Hour)
	x.run(2*time.Hour, nil)
	// A minute in which nothing passes is no gap.
	x.now.Time += int64(time.Minute - Fine)
	x.run(Fine, nil)
	s := x.watcher.Series(6*time.Hour, "whatsapp")
	if s.Bins != 72 || s.Step != 300 || len(s.Classes) != 2 || len(s.Apps) != 1 {
		t.Fatalf("%d bins of %g s, %d classes, %d apps", s.Bins, s.Step, len(s.Classes), len(s.Apps))
	}
	c := s.Classes[0]
	known := ""
	for _, v := range c.Flows {
		if v == nil {
			known += "."
		} else {
			known += "x"
		}
	}
	// Two hours, before them an hour's pause with the bin in which it ended, and
	// before that an hour whose first bin was not watched from its beginning.
	if want := strings.Repeat(".", 72-47) + strings.Repeat("x", 11) + strings.Repeat(".", 13) + strings.Repeat("x", 23); known != want {
		t.Errorf("bins known of %s:\n%s, want\n%s", c.Class, known, want)
	}
	last := func(v []*float64) float64 {
		if v[len(v)-1] == nil {
			t.Fatal("the newest bin is not known")
		}
		return *v[len(v)-1]
	}
	if got := last(c.Flows); got < 30*18 || got > 30*21 {
		t.Errorf("%g flows in five minutes", got)
	}
	if got := last(c.ServerRTT); got < 0.100 || got > 0.120 {
		t.Errorf("round-trip time %g", got)
	}
	if got := last(s.Apps[0].Flows); got != last(c.Flows)+last(s.Classes[1].Flows) {
		t.Errorf("the app has %g flows", got)
	}
	if got := last(s.Classes[1].GoodTransfers); got != 360 {
		t.Errorf("%g good transfers", got)
	}
	fine := x.watcher.Series(time.Hour, "")
	if fine.Step != 10 || fine.Bins != 360 {
		t.Errorf("%d bins of %g s in the last hour", fine.Bins, fine.Step)
	}
	for i, v := range fine.Apps[0].Flows {
		if v == nil {
			t.Fatalf("fine bin %d is not known", i)
		}
	}
}

// TestBounded: nothing grows with time.
func TestBounded(t *testing.T) {
	x := newTap(t)
	x.run(3*time.Hour, nil)
	for i := range int64(1000) {
		x.watcher.keep(&detect.Event{App: "whatsapp", Start: epoch + i, End: epoch + i + 1, Verdict: detect.AppFailure}, epoch)
	}
	if n := len(x.watcher.Events().Events); n != mostEvents {
		t.Errorf("%d events are kept, want %d", n, mostEvents)
	}
	if got := x.watcher.Status().Begun["whatsapp"][detect.AppFailure]; got != 1000 {
		t.Errorf("%d events counted", got)
	}
	s := x.now
	for i := range 60 {
		s.Classes = append(s.Classes, probe.ClassSnapshot{ClassInfo: classify.ClassInfo{App: "app", Class: fmt.Sprint(i)}})
	}
	for range 500 {
		s.Time += int64(Fine)
		x.watcher.Observe(&s)
	}
	if n := len(x.watcher.Summary().Classes); n != 63 {
		t.Errorf("%d classes", n)
	}
}

// TestNews wakes who waits, once.
func TestNews(t *testing.T) {
	x := newTap(t)
	version, newer := x.watcher.News()
	select {
	case <-newer:
		t.Fatal("news before there is any")
	default:
	}
	x.run(Fine, nil)
	select {
	case <-newer:
	default:
		t.Fatal("no news of a new bin")
	}
	if again, _ := x.watcher.News(); again == version {
		t.Error("the number stays")
	}
}

func TestEventJSON(t *testing.T) {
	e := Event{Event: detect.Event{App: "whatsapp", Start: epoch, Verdict: detect.AppFailure, ResidueDown: 0.123456}, Detected: epoch + int64(10*time.Minute)}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"id":"` + e.ID() + `","state":"lasts","verdict":"app-failure","app":"whatsapp","classes":[],"group":"",` +
		`"start":"2014-02-18T12:00:00Z","detected":"2014-02-18T12:10:00Z","end":null,"recovery_end":null,"confidence":0,"calibrated":false,` +
		`"uplink_residue":0,"downlink_residue":0.1235,"attempts_factor":0,"success_before":0,"success_during":0,"reasons":[],"reasons_from":null}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
}

func TestReasonsAreDescribed(t *testing.T) {
	seen := map[string]bool{}
	for r := range Reasons {
		if r.String() == "" || criteria[r].text == "" || seen[r.String()] {
			t.Errorf("reason %d: %q", r, r)
		}
		seen[r.String()] = true
	}
}

func BenchmarkObserve(b *testing.B) {
	x := newTap(&testing.T{})
	x.run(3*time.Hour, nil)
	for b.Loop() {
		x.run(Fine, nil)
	}
}
