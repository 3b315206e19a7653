package web

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/nametap/nametap/watch"
)

// bits writes a rate in bits a second.
func bits(v float64) string { return prefixed(v) + "bit/s" }

// number writes a count or rate with at most three digits.
func number(v float64) string { return strings.TrimSuffix(prefixed(v), "\u202f") }

// prefixed writes v with an SI prefix and a narrow space before it.
func prefixed(v float64) string {
	unit := 0
	for math.Abs(v) >= 999.5 && unit < 4 {
		v /= 1000
		unit++
	}
	return short(v) + "\u202f" + [...]string{"", "k", "M", "G", "T"}[unit]
}

// short writes v with three digits at most.
func short(v float64) string {
	digits := 0
	switch a := math.Abs(v); {
	case a == 0 || a >= 99.95:
	case a >= 9.995:
		digits = 1
	default:
		digits = 2
	}
	text := strconv.FormatFloat(v, 'f', digits, 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

// level returns how the vertical axis of a chart writes its numbers, where the
// greatest is most, and their unit; unit is that of the values themselves.
func level(unit string, most float64) (string, func(float64) string) {
	divide := 1.0
	switch unit {
	case "bit/s":
		for _, prefix := range []string{"k", "M", "G", "T"} {
			if most/divide < 1000 {
				break
			}
			divide *= 1000
			unit = prefix + "bit/s"
		}
	case "ms":
		divide = 0.001
	case "%":
		divide = 0.01
	default:
		return unit, number
	}
	return unit, func(v float64) string { return strconv.FormatFloat(v/divide, 'g', 4, 64) }
}

func percent(v *float64) string {
	if v == nil {
		return "–"
	}
	return short(100**v) + "\u202f%"
}

func share(v float64) string { return percent(&v) }

// whole writes a share that is no more than all: a bin may have more SYN/ACKs than
// SYNs, which came before it or are repeated.
func whole(v *float64) string {
	if v != nil && *v > 1 {
		return share(1)
	}
	return percent(v)
}

// milliseconds writes seconds.
func milliseconds(v float64) string { return short(1000*v) + "\u202fms" }

// label writes what may be missing.
func label(format string, v *float64) string {
	switch {
	case v == nil:
		return "–"
	case format == "ms":
		return milliseconds(*v)
	}
	return number(*v)
}

// clock writes packet time for people. A nil or zero time is one that is not
// known.
func clock(v any) string {
	var t time.Time
	switch v := v.(type) {
	case *string:
		t = parse(v)
	case int64:
		if v != 0 {
			t = time.Unix(0, v)
		}
	}
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2 Jan 2006 15:04:05 UTC")
}

// checkState is how a check stands, in a word and as a class of the CSS: one that
// cannot judge is neither in order nor a problem.
func checkState(c watch.Check) state {
	switch {
	case c.Active:
		return state{"bad", "problem"}
	case c.Value == nil:
		return state{"unknown", "cannot tell"}
	}
	return state{"ok", "in order"}
}

type state struct{ Class, Word string }

// unjudged counts the checks that cannot judge.
func unjudged(checks []watch.Check) (n int) {
	for _, c := range checks {
		if checkState(c).Class == "unknown" {
			n++
		}
	}
	return n
}

// portState puts an interface's state into words.
func portState(p watch.Port) state {
	switch p.State {
	case "delivers":
		return state{"ok", "delivers"}
	case "down":
		return state{"bad", "down, without a carrier or gone"}
	case "silent":
		return state{"bad", "silent, while others go on"}
	}
	return state{"unknown", "no packet"}
}

// moment writes the time of day of packet time, with seconds where it has some.
func moment(t time.Time) string {
	if t.Second() != 0 {
		return t.UTC().Format("15:04:05")
	}
	return t.UTC().Format("15:04")
}

// soFar says how an event did as a whole: the reasons are those of one moment.
func soFar(e watch.Event) string {
	if e.App == "" || e.Attempts == 0 && e.ResidueDown == 0 && e.SuccessBefore == 0 {
		return ""
	}
	when := "On the whole"
	if e.End == 0 {
		when = "So far"
	}
	return fmt.Sprintf("%s: %s times the usual connection attempts, payload both ways in %s of the connections (before: %s), %s of the usual downlink bytes",
		when, short(e.Attempts), share(e.Success), share(e.SuccessBefore), share(e.ResidueDown))
}

// checkValue writes what was measured for a reason, with its limit where it has
// one.
func checkValue(c watch.Check) string {
	if c.Value == nil {
		if c.Reason == watch.PortSilent.String() {
			return "no second interface to compare with"
		}
		return "too little traffic to tell"
	}
	switch c.Reason {
	case watch.WarmUp.String():
		return fmt.Sprintf("watched for %s of %s min", short(*c.Value/60), short(c.Limit/60))
	case watch.NoPackets.String(), watch.PortSilent.String():
		return fmt.Sprintf("%s s (limit %s s)", short(*c.Value), short(c.Limit))
	case watch.DNSMissing.String():
		return fmt.Sprintf("%s (at least %s)", short(*c.Value), short(c.Limit))
	case watch.Blind.String():
		return map[bool]string{true: "yes", false: "no"}[c.Active]
	}
	return fmt.Sprintf("%s (limit %s)", percent(c.Value), percent(&c.Limit))
}
