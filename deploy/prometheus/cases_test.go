package prometheus_test

import (
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

const whatsapp = `app="whatsapp"`

// scenarios are the good and the bad times. In all of them, an alert that is not
// named must never fire.
func scenarios(t testing.TB) []*scenario {
	keep := usedMetrics(t)
	var outage, monday, tuesday page
	var work sync.WaitGroup
	for _, x := range []struct {
		to     *page
		seed   uint64
		length time.Duration
		outage bool
	}{{&outage, 1, 26 * time.Hour, true}, {&monday, 2, 24 * time.Hour, false}, {&tuesday, 3, 24 * time.Hour, false}} {
		work.Go(func() { *x.to = rehearse(t, x.seed, x.length, x.outage, keep) })
	}
	work.Wait()
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
	}
	list = append(list, appCases(ordinary, afternoon)...)
	list = append(list, tapCases(afternoon)...)
	list = append(list, namingCases(ordinary)...)
	return append(list, daemonCases(afternoon.part(at(2, 0), at(5, 0)))...)
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

func tapCases(afternoon page) []*scenario {
	noon := at(3, 30)
	cut := afternoon.clone()
	cut.traffic().times(noon, noon+40, 0)
	for _, x := range cut.traffic() {
		if !x.counter { // seen in the last five minutes
			copy(x.v[noon:noon+5], x.v[noon-5:noon])
		}
	}

	// At its start nametap knows no names: for half an hour most of the app's
	// traffic goes by none.
	restart := afternoon.clone()
	for _, name := range []string{"nametap_uplink_bytes_total", "nametap_downlink_bytes_total", "nametap_tcp_connection_attempts_total"} {
		for _, class := range []string{"chat", "photo", "audio", "video"} {
			restart.of(name, "class="+class).moveTo(restart.of(name, "app=other"), noon, noon+30, 0.6)
		}
	}
	restart.restart(noon, 2)

	// The downlink's port goes dark.
	half := afternoon.clone()
	for _, name := range []string{"nametap_downlink_bytes_total", "nametap_downlink_packets_total", "nametap_dns_responses_total"} {
		half.of(name).set(noon, noon+60, 0)
	}
	half.of("nametap_capture_packets_total", "interface=downlink").set(noon, noon+60, 0)

	drops := afternoon.clone()
	drops.of("nametap_capture_drops_total", "reason=ring_full", "interface=uplink").set(noon, noon+60, 40)

	// The resolver's traffic takes another way; apps lose their names.
	blind := afternoon.clone()
	blind.of("nametap_dns_responses_total").times(noon, noon+120, 0.02)
	for _, name := range []string{"nametap_uplink_bytes_total", "nametap_downlink_bytes_total", "nametap_tcp_connection_attempts_total"} {
		for _, class := range []string{"chat", "photo", "audio", "video"} {
			blind.of(name, "class="+class).moveTo(blind.of(name, "app=other"), noon+10, noon+120, 0.97)
		}
	}

	gone := afternoon.clone()
	gone.traffic().times(noon, noon+40, 0.04)

	return []*scenario{
		{"tap cut", cut, []expect{{"NametapNoPackets", "", noon + 2, noon + 9, noon + 39, noon + 42}}, 1},
		{"restart", restart, nil, 1},
		{"one direction cut", half, []expect{
			{"NametapOneSided", "", noon + 5, noon + 15, noon + 59, noon + 75},
			{"NametapDNSMissing", "", noon + 10, noon + 25, noon + 59, noon + 80},
		}, 1},
		{"packets dropped", drops, []expect{{"NametapDrops", "", noon + 4, noon + 10, noon + 59, noon + 66}}, 1},
		{"dns off the tap", blind, []expect{{"NametapDNSMissing", "", noon + 10, noon + 22, noon + 119, noon + 130}}, 1},
		{"everything falls", gone, []expect{{"NametapTrafficGone", "", noon + 4, noon + 18, noon + 38, noon + 60}}, 1},
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
	return []*scenario{
		{"flow table full", full, []expect{{"NametapFlowTableFull", "", noon + 15, noon + 16, noon + 59, noon + 60}}, 1},
		{"dns map short", short, []expect{{"NametapDNSMapShort", "", noon + 15, noon + 18, noon + 59, noon + 75}}, 1},
		{"dns map of good length", old, nil, 1},
		{"table refuses", refused, []expect{{"NametapTableRefusals", `table="names"`, noon + 15, noon + 18, noon + 59, noon + 75}}, 1},
		{"crash loop", crashing, []expect{{"NametapRestarts", "", noon + 8, noon + 11, noon + 59, noon + 80}}, 1},
		{"nametap down", down, []expect{
			{"NametapDown", "", noon + 2, noon + 3, noon + 59, noon + 60},
			{"NametapAbsent", "", noon + 10, noon + 11, noon + 59, noon + 60},
		}, 1},
		{"nametap lost", lost, []expect{{"NametapAbsent", "", noon + 10, noon + 11, noon + 59, noon + 60}}, 1},
		{"reload failed", reload, []expect{{"NametapReloadFailed", "", noon + 5, noon + 6, noon + 59, noon + 60}}, 1},
	}
}
