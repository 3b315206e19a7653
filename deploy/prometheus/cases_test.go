package prometheus_test

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nametap/nametap/capture/decode"
	"github.com/nametap/nametap/synth"
)

const whatsapp = `app="whatsapp"`

// scenarios are the good and the bad times. In all of them, an alert that is not
// named must never fire.
func scenarios(t testing.TB) []*scenario {
	keep := usedMetrics(t)
	rehearsals := map[string]rehearsal{
		"outage":  {seed: 1, length: 26 * time.Hour, outage: true},
		"monday":  {seed: 2, length: 24 * time.Hour},
		"tuesday": {seed: 3, length: 24 * time.Hour},
	}
	troubles := tapTroubles()
	for i := range troubles {
		x := &troubles[i]
		rehearsals[x.name] = rehearsal{seed: uint64(10 + i), from: 8 * time.Hour, length: 6 * time.Hour, trouble: x.trouble, restart: x.restart}
	}
	pages := play(t, rehearsals, keep)
	outage, monday, tuesday := pages["outage"], pages["monday"], pages["tuesday"]
	days := []page{monday, tuesday}
	asIs := func(_, minute int) (int, float64) { return minute, 1 }
	ordinary := calendar(days, 2*minutesADay, asIs).part(at(9, 0), minutesADay+at(14, 0))
	afternoon := calendar(days, minutesADay, asIs).part(at(8, 30), at(14, 30))

	list := []*scenario{
		// The engine over the generator's outage, as it is: the night, the day,
		// the outage from 18:30 to 23:30, the storm of reconnects.
		{"outage of 2014", outage, []expect{{"NametapAppOutage", whatsapp, at(18, 32), at(18, 40), at(23, 29), at(23, 59)}}, 1},
		{"outage of 2014 behind an unhealthy tap", unhealthy(outage.part(at(15, 0), at(20, 0))), []expect{
			{"NametapTapUnhealthy", "", at(2, 30), at(2, 35), at(4, 59), at(5, 0)},
		}, 1},
		{"nine days with a weekend and summer time", week(days), nil, 5},
		{"four days with a weekend and the end of summer time", autumn(days), nil, 5},
	}
	list = append(list, appCases(ordinary, afternoon)...)
	for _, x := range troubles {
		p := pages[x.name]
		if x.restart > 0 {
			p.restart(x.restart, 2)
		}
		list = append(list, &scenario{x.name, p, x.expect, 1})
	}
	list = append(list, namingCases(ordinary)...)
	return append(list, daemonCases(afternoon.part(at(2, 0), at(5, 0)))...)
}

// play runs rehearsals, several at a time.
func play(t testing.TB, list map[string]rehearsal, keep map[string]bool) map[string]page {
	pages := map[string]page{}
	var mu sync.Mutex
	var work sync.WaitGroup
	for name, x := range list {
		x.keep = keep
		work.Go(func() {
			p := x.page(t)
			mu.Lock()
			defer mu.Unlock()
			pages[name] = p
		})
	}
	work.Wait()
	return pages
}

// unhealthy has nametap say after two hours that its tap is not to be believed.
func unhealthy(p page) page {
	p.of("nametap_tap_healthy").set(at(2, 0), p.minutes(), 0)
	p.of("nametap_tap_problem", "reason=unseen_bytes").set(at(2, 0), p.minutes(), 1)
	return p
}

// week is Monday to the Tuesday after next. On Saturday and Sunday people are up
// later and do less; from the Sunday on, clocks are an hour ahead.
func week(days []page) page {
	return calendar(days, 9*minutesADay, func(day, minute int) (int, float64) {
		factor := 1.0
		if day >= 6 {
			minute += 60
		}
		if weekday := day % 7; weekday == 5 || weekday == 6 {
			minute += minutesADay - 90
			factor = 0.75
		}
		return minute % minutesADay, factor
	})
}

// autumn is the first days of a tap, Friday to Monday: no week before says what a
// Saturday is like. On the Sunday clocks go back an hour.
func autumn(days []page) page {
	return calendar(days, 4*minutesADay, func(day, minute int) (int, float64) {
		factor := 1.0
		if day >= 2 {
			minute += minutesADay - 60
		}
		if day == 1 || day == 2 {
			minute += minutesADay - 90
			factor = 0.75
		}
		return minute % minutesADay, factor
	})
}

func appCases(ordinary, afternoon page) []*scenario {
	noon := at(3, 30)
	zero := afternoon.clone()
	zero.app("whatsapp").set(noon, at(5, 30), 0)

	// Volume falls to exactly zero while clients try twice as often.
	mute := afternoon.clone()
	for _, name := range []string{"nametap_uplink_bytes_total", "nametap_downlink_bytes_total"} {
		mute.of(name, "app=whatsapp").set(noon, at(5, 30), 0)
	}
	mute.of("nametap_tcp_connection_attempts_total", "app=whatsapp").times(noon, at(5, 30), 2)

	// Nothing but SYNs, and no more of them than ever.
	unreachable := afternoon.clone()
	for _, name := range []string{"nametap_uplink_bytes_total", "nametap_downlink_bytes_total"} {
		unreachable.of(name, "app=whatsapp").times(noon, at(5, 30), 0.01)
	}

	absent := afternoon.clone()
	absent.app("whatsapp").vanish(noon, at(5, 30))

	// Three of ten connections fail and are tried again; as many as ever work.
	partial := ordinary.clone()
	from, to := at(25, 0), at(28, 0)
	partial.of("nametap_tcp_connection_attempts_total", "app=whatsapp").times(from, to, 1.43)
	partial.of("nametap_flows_opened_total", "app=whatsapp").times(from, to, 1.43)

	// Half of all round trips take twice as long, or longer: a bucket further.
	slow := ordinary.clone()
	delay(slow, "chat", from, to)

	lossy := ordinary.clone()
	for _, name := range []string{"nametap_tcp_uplink_retransmitted_segments_total", "nametap_tcp_downlink_retransmitted_segments_total"} {
		lossy.of(name, "app=whatsapp").times(from, to, 6)
	}

	// The storm after an outage elsewhere: three times the connections, all of
	// which go well.
	storm := afternoon.clone()
	storm.app("whatsapp").times(noon, noon+40, 3)

	return []*scenario{
		{"outage to zero", zero, []expect{{"NametapAppSilent", whatsapp, noon + 5, noon + 20, at(5, 29), at(5, 50)}}, 1},
		{"volume to zero with attempts climbing", mute, []expect{{"NametapAppOutage", whatsapp, noon + 2, noon + 13, at(5, 29), at(5, 50)}}, 1},
		{"servers unreachable", unreachable, []expect{{"NametapAppOutage", whatsapp, noon + 2, noon + 14, at(5, 29), at(5, 50)}}, 1},
		{"app absent from the page", absent, []expect{{"NametapAppSilent", whatsapp, noon + 5, noon + 20, at(5, 29), at(5, 50)}}, 1},
		{"partial outage", partial, []expect{{"NametapAppDegraded", whatsapp, from + 10, from + 120, to - 1, to + 60}}, 5},
		{"servers far away", slow, []expect{{"NametapServerDelay", whatsapp, from + 10, from + 100, to - 1, to + 60}}, 5},
		{"losses", lossy, []expect{{"NametapRetransmissions", whatsapp, from + 10, from + 100, to - 1, to + 60}}, 5},
		{"recovery storm", storm, nil, 1},
	}
}

// delay doubles the round-trip times of a class: what was below a bound is below
// twice of it.
func delay(p page, class string, from, to int) {
	const name = "nametap_tcp_server_rtt_seconds_bucket"
	below := map[float64][]float64{}
	buckets := p.of(name, "app=whatsapp", "class="+class)
	for _, s := range buckets {
		below[bound(s)] = slices.Clone(s.v[from:to])
	}
	for _, s := range buckets {
		if s.labels["le"] == "+Inf" {
			continue
		}
		half, ok := below[bound(s)/2]
		if !ok {
			half = make([]float64, to-from)
		}
		copy(s.v[from:to], half)
	}
}

func bound(s *series) float64 {
	le, err := strconv.ParseFloat(s.labels["le"], 64)
	if err != nil {
		panic(err)
	}
	return le
}

// tapTrouble is what goes wrong with the tap, not with an app. nametap sees it
// happen, so that what it says of its tap is what it would say.
type tapTrouble struct {
	name    string
	trouble *trouble
	restart int
	expect  []expect
}

func tapTroubles() []tapTrouble {
	noon := at(3, 30)
	all := func(*synth.Frame, *decode.Packet) bool { return true }
	uplink := func(f *synth.Frame, _ *decode.Packet) bool { return !f.Downlink }
	downlink := func(f *synth.Frame, _ *decode.Packet) bool { return f.Downlink }
	dns := func(_ *synth.Frame, p *decode.Packet) bool { return p.SrcPort == 53 || p.DstPort == 53 }
	// share loses that share of all subscribers.
	share := func(of uint32) func(*synth.Frame, *decode.Packet) bool {
		return func(f *synth.Frame, p *decode.Packet) bool {
			subscriber := p.Src
			if f.Downlink {
				subscriber = p.Dst
			}
			h := fnv.New32a()
			_, _ = fmt.Fprint(h, subscriber)
			return h.Sum32()%100 < of
		}
	}
	some := func(share float64) func(*synth.Frame, *decode.Packet) bool {
		rng := rand.New(rand.NewPCG(5, 6))
		return func(*synth.Frame, *decode.Packet) bool { return rng.Float64() < share }
	}
	dnsOr := func(other func(*synth.Frame, *decode.Packet) bool) func(*synth.Frame, *decode.Packet) bool {
		return func(f *synth.Frame, p *decode.Packet) bool { return dns(f, p) && other(f, p) }
	}
	return []tapTrouble{
		{"tap cut", &trouble{noon, noon + 40, all, false}, 0, []expect{{"NametapNoPackets", "", noon + 2, noon + 5, noon + 39, noon + 42}}},
		{"downlink cut", &trouble{noon, noon + 60, downlink, false}, 0, []expect{
			{"NametapOneSided", "", noon + 5, noon + 15, noon + 59, noon + 75},
			{"NametapDNSMissing", "", noon + 10, noon + 25, noon + 59, noon + 75},
		}},
		{"uplink cut", &trouble{noon, noon + 60, uplink, false}, 0, []expect{
			{"NametapOneSided", "", noon + 5, noon + 15, noon + 59, noon + 75},
		}},
		{"packets dropped", &trouble{noon, noon + 60, some(0.03), true}, 0, []expect{
			{"NametapDrops", "", noon + 4, noon + 10, noon + 59, noon + 68},
		}},
		{"packets lost before the capture", &trouble{noon, noon + 60, some(0.03), false}, 0, []expect{
			{"NametapTapUnhealthy", `reason="unseen_bytes"`, noon + 30, noon + 40, noon + 59, noon + 68},
		}},
		{"dns off the tap", &trouble{noon, noon + 120, dns, false}, 0, []expect{
			{"NametapDNSMissing", "", noon + 10, noon + 22, noon + 119, noon + 130},
		}},
		{"most dns off the tap", &trouble{noon, noon + 120, dnsOr(some(0.9)), false}, 0, nil},
		{"everything falls", &trouble{noon, noon + 40, share(88), false}, 0, []expect{
			{"NametapTrafficGone", "", noon + 4, noon + 18, noon + 38, noon + 60},
		}},
		{"half of the subscribers off the tap", &trouble{noon, noon + 60, share(50), false}, 0, nil},
		{"restart", nil, noon, nil},
	}
}

func namingCases(ordinary page) []*scenario {
	from, to := at(25, 0), at(28, 0)
	drift := ordinary.clone()
	drift.of("nametap_flows_opened_total", "class=chat").
		moveTo(drift.of("nametap_flows_opened_total", "app=whatsapp", "class=other"), from, to, 0.15)

	names := ordinary.clone()
	names.of("nametap_naming_drift_total").set(from, to, 3)

	unnamed := ordinary.clone()
	unnamed.of("nametap_flows_named_total", "class=chat", "evidence=dns").
		moveTo(unnamed.of("nametap_flows_named_total", "app=other", "evidence=none"), from, to, 0.4)

	return []*scenario{
		{"classes unknown", drift, []expect{{"NametapNamingDrift", whatsapp, from + 30, from + 75, to - 1, to + 60}}, 5},
		{"new names", names, []expect{{"NametapNewNames", "", from + 70, from + 95, to - 1, to + 60}}, 5},
		{"names missing", unnamed, []expect{{"NametapFlowsUnnamed", "", from + 30, from + 75, to - 1, to + 60}}, 5},
	}
}

func daemonCases(afternoon page) []*scenario {
	noon := at(1, 30)
	with := func(change func(p *page)) page {
		p := afternoon.clone()
		change(&p)
		return p
	}
	full := with(func(p *page) {
		limit := p.of("nametap_flow_table_entries_limit")[0].v[0]
		p.of("nametap_flow_table_entries").set(noon, noon+60, 0.95*limit)
	})
	short := with(func(p *page) {
		p.of("nametap_dnsmap_evictions_total").set(noon, noon+60, 5)
		p.of("nametap_dnsmap_last_evicted_age_seconds").set(noon, p.minutes(), 600)
	})
	// An eviction of what is old is no trouble.
	old := with(func(p *page) {
		p.of("nametap_dnsmap_evictions_total").set(noon, noon+60, 5)
		p.of("nametap_dnsmap_last_evicted_age_seconds").set(noon, p.minutes(), 20000)
	})
	refused := with(func(p *page) { p.of("nametap_names_refused_total").set(noon, noon+60, 3) })
	overload := with(func(p *page) {
		p.of("nametap_overload_shedding", "work=rtt").set(noon, noon+60, 1)
		p.of("nametap_tap_problem", "reason=overload").set(noon+1, noon+65, 1)
		p.of("nametap_tap_healthy").set(noon+1, noon+65, 0)
	})
	// An overload that has its own alert hides no other reason, nor does that reason
	// bring it back; where the kernel drops packets too, that alert says more.
	besides := func(reason string) page {
		p := overload.clone()
		p.of("nametap_tap_problem", "reason="+reason).set(noon-20, noon+90, 1)
		p.of("nametap_tap_healthy").set(noon-20, noon+90, 0)
		return p
	}
	// Work is left out and done again all the time.
	bursts := with(func(p *page) {
		for i := noon; i < noon+60; i += 2 {
			p.of("nametap_overload_shedding", "work=sni").set(i, i+1, 1)
		}
		p.of("nametap_tap_problem", "reason=overload").set(noon+5, noon+65, 1)
		p.of("nametap_tap_healthy").set(noon+5, noon+65, 0)
	})
	crashing := afternoon.clone().restart(noon, 1).restart(noon+10, 1).restart(noon+20, 1)
	down := with(func(p *page) {
		selection(*p).vanish(noon, noon+60)
		for _, s := range p.of("up") {
			s.gone = make([]bool, p.minutes())
		}
		p.of("up").set(noon, noon+60, 0)
	})
	lost := with(func(p *page) { selection(*p).vanish(noon, noon+60) })
	reload := with(func(p *page) { p.of("nametap_config_last_reload_successful").set(noon, noon+60, 0) })
	unwritten := with(func(p *page) { p.of("nametap_output_lines_lost_total", "output=flows").set(noon, noon+60, 40) })
	return []*scenario{
		{"disk full", unwritten, []expect{{"NametapOutputLost", `output="flows"`, noon, noon + 2, noon + 59, noon + 70}}, 1},
		{"flow table full", full, []expect{{"NametapFlowTableFull", "", noon + 15, noon + 16, noon + 59, noon + 60}}, 1},
		{"dns map short", short, []expect{{"NametapDNSMapShort", "", noon + 15, noon + 18, noon + 59, noon + 75}}, 1},
		{"dns map of good length", old, nil, 1},
		{"table refuses", refused, []expect{{"NametapTableRefusals", `table="names"`, noon + 15, noon + 18, noon + 59, noon + 75}}, 1},
		{"overload", overload, []expect{{"NametapOverload", `work="rtt"`, noon + 10, noon + 11, noon + 59, noon + 60}}, 1},
		{"overload beside encrypted dns", besides("encrypted_dns"), []expect{
			{"NametapOverload", `work="rtt"`, noon + 10, noon + 11, noon + 59, noon + 60},
			{"NametapTapUnhealthy", `reason="encrypted_dns"`, noon + 10, noon + 11, noon + 89, noon + 90},
		}, 1},
		{"overload beside drops", besides("drops"), []expect{
			{"NametapOverload", `work="rtt"`, noon + 10, noon + 11, noon + 59, noon + 60},
			{"NametapDrops", "", noon - 15, noon - 14, noon + 89, noon + 90},
		}, 1},
		{"overload in bursts", bursts, []expect{{"NametapTapUnhealthy", `reason="overload"`, noon + 35, noon + 36, noon + 64, noon + 65}}, 1},
		{"crash loop", crashing, []expect{{"NametapRestarts", "", noon + 8, noon + 11, noon + 59, noon + 80}}, 1},
		{"nametap down", down, []expect{
			{"NametapDown", "", noon + 2, noon + 3, noon + 59, noon + 60},
			{"NametapAbsent", "", noon + 10, noon + 11, noon + 59, noon + 60},
		}, 1},
		{"nametap lost", lost, []expect{{"NametapAbsent", "", noon + 10, noon + 11, noon + 59, noon + 60}}, 1},
		{"reload failed", reload, []expect{{"NametapReloadFailed", "", noon + 5, noon + 6, noon + 59, noon + 60}}, 1},
	}
}
