package detect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestBadState(t *testing.T) {
	good, err := json.Marshal(New())
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		``, `{`, `{"version":2}`, `{"version":1,"series":[{"app":"x"}]}`, `{"version":1,"incidents":[null]}`,
		`{"version":1,"series":[{"app":"x","state":{"history":{"recent":"AA=="}}}]}`,
		`{"version":1,"series":[{"app":"x","state":{"history":{"recent":"!","learned":-1}}}]}`,
	} {
		d := New()
		if err := d.UnmarshalJSON([]byte(text)); err == nil {
			t.Errorf("%s: loaded", text)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: more than a line: %v", text, err)
		}
		if b, _ := json.Marshal(d); !bytes.Equal(b, good) {
			t.Errorf("%s: changed the detector", text)
		}
	}
}

func TestSeriesAreBounded(t *testing.T) {
	d := New()
	for i := range 1000 {
		s := &Step{Start: int64(i+1) * int64(Hop), Samples: []Sample{{Key: Key{App: "a", Class: "c", Group: fmt.Sprint(i)}, Bin: Bin{Flows: 1}}}}
		d.Step(s)
	}
	if len(d.series) > maxSeries || d.Refused == 0 {
		t.Errorf("%d series, %d refused", len(d.series), d.Refused)
	}
}

// steps feeds a detector with one app's even traffic, n flows a step, of which as
// many carry as carried says, from the number of the first step on.
func steps(d *Detector, first int, n uint64, carried ...uint64) (told []Event, at []int) {
	for i, c := range carried {
		b := Bin{Attempts: n, SYN: n, SYNACK: n, Flows: n, Carried: c, BytesUp: 1000 * c, BytesDown: 1000 * c, Subscribers: 50}
		s := &Step{Start: int64(first+i) * int64(Hop), Samples: []Sample{{Key{App: "a", Class: "c"}, b}, {Key{App: OtherApp, Class: OtherApp}, Bin{
			Attempts: 40, SYN: 40, SYNACK: 40, Flows: 40, Carried: 40, BytesUp: 9000, BytesDown: 9000, Subscribers: 50,
		}}}}
		for _, e := range d.Step(s) {
			told, at = append(told, e), append(at, first+i)
		}
	}
	return told, at
}

// TestConfirmation: two bins with no time in common, and what they alarm of must
// not be over. Each case begins with the first step of a bin.
func TestConfirmation(t *testing.T) {
	const fine, half, dead = 100, 30, 0
	tests := []struct {
		name    string
		carried []uint64
		told    int // number of the step after which the event is told of, 0: never
		start   int // of the event
	}{
		{"one bad step", []uint64{dead, fine, fine, fine}, 0, 0},
		{"one bad bin", []uint64{dead, dead, fine, fine, fine}, 0, 0},
		{"three bad steps", []uint64{dead, dead, dead, dead}, 3, 0},
		{"from the middle of a step on", []uint64{half, dead, dead, dead}, 3, 0},
		{"from the end of a step on", []uint64{95, dead, dead, dead, dead}, 4, 1},
		{"a bad bin that begins in the middle of a step", []uint64{half, dead, half, fine}, 3, 0},
		{"bad, good, bad", []uint64{dead, dead, fine, fine, dead, dead, fine, fine}, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := New()
			const usual = 40
			for i := range usual {
				if told, _ := steps(d, 2+i, 100, fine); told != nil {
					t.Fatalf("told of %+v before", told)
				}
			}
			first := 2 + usual
			told, at := steps(d, first, 100, tt.carried...)
			if tt.told == 0 {
				if told != nil {
					t.Errorf("told of %+v", told)
				}
				return
			}
			if len(told) == 0 || at[0] != first+tt.told-1 || told[0].Start != int64(first+tt.start)*int64(Hop) {
				t.Errorf("told %v after step %v, want one that begins with step %d, after %d", told, at, first+tt.start, first+tt.told-1)
			}
		})
	}
}

// TestStorm: a storm of reconnects after an event is told of, also where it has
// passed before it is sure that the event is over; without one the event is over
// and that is that.
func TestStorm(t *testing.T) {
	const usual, first = 100, 44 // flows a step; the outage's first step
	tests := []struct {
		name  string
		after []uint64 // flows in the steps after the outage
		end   int      // step at which the recovery ends, counted from the first of after; 0: there is none
	}{
		{"none", []uint64{100, 101, 99, 100, 100, 100, 100, 100}, 0},
		{"a few more than usual", []uint64{115, 110, 105, 100, 100, 100, 100, 100}, 0},
		{"gone before the event is over", []uint64{250, 100, 100, 100, 100, 100, 100, 100}, 1},
		{"a little longer", []uint64{250, 250, 200, 100, 100, 100, 100, 100}, 3},
		{"a pause in it", []uint64{250, 100, 100, 200, 200, 100, 100, 100, 100, 100}, 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := New()
			for i := range first - 2 {
				steps(d, 2+i, usual, usual)
			}
			told, _ := steps(d, first, 3*usual, 0, 0, 0, 0, 0, 0)
			if len(told) != 1 {
				t.Fatalf("told of %+v", told)
			}
			over := first + 6
			for i, n := range tt.after {
				more, _ := steps(d, over+i, n, n)
				told = append(told, more...)
			}
			states := 2
			if tt.end != 0 {
				states = 3
			}
			if len(told) != states || told[1].End == 0 || told[1].RecoveryEnd != 0 {
				t.Fatalf("told of %+v", told)
			}
			want := int64(0)
			if tt.end != 0 {
				want = int64(over+tt.end) * int64(Hop)
			}
			if last := told[len(told)-1]; last.RecoveryEnd != want {
				t.Errorf("recovered at step %d after the outage, want %d", last.RecoveryEnd/int64(Hop)-int64(over), tt.end)
			}
		})
	}
}

// TestReasonsSayWhen: the figures in words are those of one bin, and the event says
// of which.
func TestReasonsSayWhen(t *testing.T) {
	const usual, first = 100, 44
	d := New()
	for i := range first - 2 {
		steps(d, 2+i, usual, usual)
	}
	told, at := steps(d, first, 15*usual, 0, 0, 0, 0)
	more, _ := steps(d, first+4, 2*usual, 0, 0, 0, 0, 0, 0)
	again, _ := steps(d, first+10, usual, usual, usual, usual, usual, usual)
	told = append(append(told, more...), again...)
	if len(told) != 2 || len(at) != 1 {
		t.Fatalf("told of %+v", told)
	}
	worst := int64(at[0]-1) * int64(Hop) // the bin that ends with the step that told
	for _, e := range told {
		if !strings.HasPrefix(e.Reasons[0], "14.9 times") || e.ReasonsFrom != worst {
			t.Errorf("%q from %v after the start, want the bin that begins %v after it", e.Reasons, time.Duration(e.ReasonsFrom-e.Start), time.Duration(worst-e.Start))
		}
	}
	if told[1].Attempts > 8 {
		t.Errorf("%.1f times the attempts in the mean of it all", told[1].Attempts)
	}
}

// TestMedians: both medians are those of a list that is sorted whole.
func TestMedians(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	middle := func(v []float64) float64 {
		v = slices.Sorted(slices.Values(v))
		return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
	}
	for n := range 2000 {
		values := make([]float64, 1+n%26)
		for i := range values {
			values[i] = math.Floor(r.NormFloat64()*10) / 4 // some are equal
		}
		mid := middle(values)
		var distances []float64
		for _, v := range values {
			distances = append(distances, math.Abs(v-mid))
		}
		if got := median(values); got != mid {
			t.Fatalf("%v: median %v, want %v", values, got, mid)
		}
		if got, want := medianDistance(values, mid), middle(distances); got != want {
			t.Fatalf("%v: median distance %v, want %v", values, got, want)
		}
	}
}
