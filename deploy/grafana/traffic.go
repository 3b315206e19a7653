package main

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

const (
	inApp   = `instance=~"$instance",app=~"$app"`
	inClass = `instance=~"$instance",app=~"$app",class=~"$class"`
	onTap   = `instance=~"$instance"`
	byClass = "app, class"
	each    = "{{app}}/{{class}}"
)

func overview() *dashboard.DashboardBuilder {
	return board("nametap-overview", "nametap / Overview", "What is on the tap, and how its connections fare.").
		WithVariable(instances()).WithVariable(apps()).
		WithPanel(health("Tap", "Whether what the tap delivers can be trusted. The dashboard Tap health says why not.")).
		WithPanel(judged("Outages", "Classes for which nametap's own detector sees an outage now.", plain, sixth, steps("green", at(1, "red")),
			query{"sum(max by (app, class) (nametap_outage_active{" + inApp + "}))", "classes"}).Mappings(words("0", "none"))).
		WithPanel(number("Downlink", "IP bytes from servers to subscribers.", bits, sixth,
			query{"8 * sum(rate(nametap_downlink_bytes_total{" + inApp + "}[$__rate_interval]))", "downlink"})).
		WithPanel(number("Uplink", "IP bytes from subscribers to servers.", bits, sixth,
			query{"8 * sum(rate(nametap_uplink_bytes_total{" + inApp + "}[$__rate_interval]))", "uplink"})).
		WithPanel(number("Connections open", "Flows open now.", plain, sixth, query{"sum(nametap_flows_active{" + inApp + "})", "flows"})).
		WithPanel(number("Subscribers", "Of the largest class of each app, in the last five minutes.", plain, sixth,
			query{"sum(max by (instance, app) (nametap_subscribers_active{" + inApp + "}))", "subscribers"})).
		WithRow(row("Volume")).
		WithPanel(stacked("Downlink by class", "An outage takes media away first.", bits, half,
			query{"8 * " + rate(byClass, "nametap_downlink_bytes_total", inApp), each})).
		WithPanel(stacked("Uplink by class", "", bits, half, query{"8 * " + rate(byClass, "nametap_uplink_bytes_total", inApp), each})).
		WithRow(row("Connections")).
		WithPanel(curves("Connection attempts by class", "Flows that a SYN opened. They climb when clients fail and try again.", perSec, third,
			query{rate(byClass, "nametap_tcp_connection_attempts_total", inApp), each})).
		WithPanel(curves("Bytes for each attempt", "Falls in an outage at any hour, because it does not depend on how many people are awake.", octets, third,
			query{
				"(" + rate("app", "nametap_downlink_bytes_total", inApp) + " + " + rate("app", "nametap_uplink_bytes_total", inApp) + ")\n/ " +
					rate("app", "nametap_tcp_connection_attempts_total", inApp), "{{app}}",
			})).
		WithPanel(curves("Connections of use", "Flows with payload both ways, of those opened.", percent, third,
			query{share("app", "nametap_flows_carried_total", "nametap_flows_opened_total", inApp), "{{app}}"}).Max(1)).
		WithPanel(curves("RST segments by class", "Connections that are refused or broken off.", perSec, third,
			query{rate(byClass, "nametap_tcp_rst_segments_total", inApp), each})).
		WithPanel(curves("Round-trip time", "Medians: tap to server, and tap to subscriber.", seconds, third,
			query{quantile(0.5, "app", "nametap_tcp_server_rtt_seconds", inApp), "{{app}} servers"},
			query{quantile(0.5, "app", "nametap_tcp_access_rtt_seconds", inApp), "{{app}} access"})).
		WithPanel(curves("Segments sent again", "Of all packets, both directions.", percent, third,
			query{
				"(" + rate("app", "nametap_tcp_downlink_retransmitted_segments_total", inApp) + " + " + rate("app", "nametap_tcp_uplink_retransmitted_segments_total", inApp) + ")\n/ (" +
					rate("app", "nametap_downlink_packets_total", inApp) + " + " + rate("app", "nametap_uplink_packets_total", inApp) + ")", "{{app}}",
			})).
		WithRow(row("Outages")).
		WithPanel(states("Outages found", "By nametap's own detector, with its verdict.", half, "green", "red",
			query{"max by (app, verdict) (nametap_outage_active{" + inApp + "})", "{{app}} {{verdict}}"})).
		WithPanel(states("Tap problems", "While there is one, no alert about an app is raised.", half, "green", "orange",
			query{"max by (reason) (nametap_tap_problem{" + onTap + "})", "{{reason}}"}))
}

func oneClass() *dashboard.DashboardBuilder {
	return board("nametap-class", "nametap / One class", "Everything that is counted of one class, or of a few.").
		WithVariable(instances()).WithVariable(apps().Current(choice("whatsapp", "whatsapp"))).WithVariable(classes().Current(choice("chat", "chat"))).
		WithRow(row("Volume")).
		WithPanel(curves("Volume", "", bits, third,
			query{"8 * " + rate(byClass, "nametap_downlink_bytes_total", inClass), each + " downlink"},
			query{"8 * " + rate(byClass, "nametap_uplink_bytes_total", inClass), each + " uplink"})).
		WithPanel(curves("Packets", "", packets, third,
			query{rate(byClass, "nametap_downlink_packets_total", inClass), each + " downlink"},
			query{rate(byClass, "nametap_uplink_packets_total", inClass), each + " uplink"})).
		WithPanel(curves("TCP payload", "Repeats included.", bits, third,
			query{"8 * " + rate(byClass, "nametap_downlink_payload_bytes_total", inClass), each + " downlink"},
			query{"8 * " + rate(byClass, "nametap_uplink_payload_bytes_total", inClass), each + " uplink"})).
		WithRow(row("Connections")).
		WithPanel(curves("Do they come about?", "Attempts, those established, and flows that carried payload both ways.", perSec, third,
			query{rate(byClass, "nametap_tcp_connection_attempts_total", inClass), each + " attempts"},
			query{rate(byClass, "nametap_tcp_connections_established_total", inClass), each + " established"},
			query{rate(byClass, "nametap_flows_carried_total", inClass), each + " carried"})).
		WithPanel(stacked("How they end", "", perSec, third, query{rate("reason", "nametap_flows_closed_total", inClass), "{{reason}}"})).
		WithPanel(curves("Segments by flag", "Repeats included.", perSec, third,
			query{rate(byClass, "nametap_tcp_syn_segments_total", inClass), each + " SYN"},
			query{rate(byClass, "nametap_tcp_syn_ack_segments_total", inClass), each + " SYN/ACK"},
			query{rate(byClass, "nametap_tcp_fin_segments_total", inClass), each + " FIN"},
			query{rate(byClass, "nametap_tcp_rst_segments_total", inClass), each + " RST"})).
		WithPanel(curves("Open now", "", plain, third, query{"sum by (app, class) (nametap_flows_active{" + inClass + "})", each})).
		WithPanel(curves("Subscribers and servers", "In the last five minutes.", plain, third,
			query{"sum by (app, class) (nametap_subscribers_active{" + inClass + "})", each + " subscribers"},
			query{"sum by (app, class) (nametap_servers_active{" + inClass + "})", each + " servers"})).
		WithPanel(stacked("Named by", "The evidence that named the flows.", perSec, third,
			query{rate("evidence", "nametap_flows_named_total", inClass), "{{evidence}}"})).
		WithRow(row("Sizes and durations")).
		WithPanel(curves("Duration", "First to last packet of flows that ended.", seconds, third,
			quantiles("nametap_flow_duration_seconds", inClass, byClass, each, 0.5, 0.9)...)).
		WithPanel(curves("Downlink size", "IP bytes of flows that ended.", octets, third,
			quantiles("nametap_flow_downlink_size_bytes", inClass, byClass, each, 0.5, 0.9)...)).
		WithPanel(curves("Uplink size", "IP bytes of flows that ended.", octets, third,
			quantiles("nametap_flow_uplink_size_bytes", inClass, byClass, each, 0.5, 0.9)...)).
		WithRow(row("Round-trip times and losses")).
		WithPanel(curves("Tap to server", "", seconds, third, quantiles("nametap_tcp_server_rtt_seconds", inClass, byClass, each, 0.5, 0.95)...)).
		WithPanel(curves("Tap to subscriber", "Delayed acknowledgments and sleeping radios are in it.", seconds, third,
			quantiles("nametap_tcp_access_rtt_seconds", inClass, byClass, each, 0.5, 0.95)...)).
		WithPanel(curves("Sent again", "Lost before the tap: uplink on the access side, downlink on the server side. The others were lost behind it.", perSec, third,
			query{rate("app", "nametap_tcp_downlink_retransmitted_segments_total", inClass), "{{app}} downlink"},
			query{rate("app", "nametap_tcp_downlink_lost_before_tap_segments_total", inClass), "{{app}} downlink, lost before the tap"},
			query{rate("app", "nametap_tcp_uplink_retransmitted_segments_total", inClass), "{{app}} uplink"},
			query{rate("app", "nametap_tcp_uplink_lost_before_tap_segments_total", inClass), "{{app}} uplink, lost before the tap"})).
		WithRow(row("What comes next")).
		WithPanel(curves("Tap to server, expected", "The median of ten seconds, so far ahead. Compare with the median of now.", seconds, third,
			query{"max by (app, class, horizon) (nametap_tcp_server_rtt_forecast_seconds{" + inClass + "}) > 0", each + " in {{horizon}}"},
			query{quantile(0.5, byClass, "nametap_tcp_server_rtt_seconds", inClass), each + " now"})).
		WithPanel(curves("Tap to server, in five minutes", "With the interval in which nine of ten values should be.", seconds, third,
			forecast("nametap_tcp_server_rtt_forecast%s_seconds", " > 0")...)).
		WithPanel(curves("Downlink sent again, in five minutes", "Share of segments, with its interval.", percent, third,
			forecast("nametap_tcp_downlink_loss_forecast%s_ratio", "")...)).
		WithPanel(curves("Skill of the forecasts", "Of their errors, what is less than if the last value were the forecast. 0: no better. Below: worse.", percent, half,
			skill("nametap_tcp_server_rtt", each+" round-trip time in {{horizon}}"),
			skill("nametap_tcp_downlink_loss", each+" loss in {{horizon}}")).Min(-1).Max(1)).
		WithPanel(curves("Values inside their interval", "Should be around 90 %.", percent, half,
			covered("nametap_tcp_server_rtt", each+" round-trip time in {{horizon}}"),
			covered("nametap_tcp_downlink_loss", each+" loss in {{horizon}}")).Max(1))
}

// forecast are the value expected in five minutes and the ends of its interval.
// known leaves out what is not known yet: that is 0 on the page, which a
// round-trip time cannot be.
func forecast(metric, known string) (out []query) {
	for _, x := range []struct{ part, name string }{{"_upper", "upper end"}, {"", "expected"}, {"_lower", "lower end"}} {
		name := fmt.Sprintf(metric, x.part)
		out = append(out, query{"max by (app, class) (" + name + "{" + inClass + `,horizon="5m"})` + known, each + " " + x.name})
	}
	return out
}

func skill(metric, legend string) query {
	const by = byClass + ", horizon"
	return query{"1 - " + rate(by, metric+"_forecast_error_total", inClass) + "\n/ (" + rate(by, metric+"_forecast_naive_error_total", inClass) + " > 0)", legend}
}

func covered(metric, legend string) query {
	const by = byClass + ", horizon"
	return query{
		rate(by, metric+"_forecast_intervals_covered_total", inClass) + "\n/ (" + rate(by, metric+"_forecast_intervals_scored_total", inClass) + " > 0)",
		legend,
	}
}

func servers() *dashboard.DashboardBuilder {
	return board("nametap-servers", "nametap / Servers", "The far end: how many servers there are, how far, and how they answer. Which ones they are is in flow records, never in metrics.").
		WithVariable(instances()).WithVariable(apps()).
		WithPanel(curves("Active servers by class", "Addresses with a packet in the last five minutes. Chat keeps its pool busy all day, media come and go.", plain, half,
			query{"sum by (app, class) (nametap_servers_active{" + inApp + "})", each})).
		WithPanel(curves("New servers", "Addresses never seen before. A jump means that the app has moved.", perSec, half,
			query{rate(byClass, "nametap_servers_seen_total", inApp), each})).
		WithPanel(curves("Active networks", "IPv4 networks in which active servers are, by the length of their prefix.", plain, half,
			query{"sum by (app, class, prefix_length) (nametap_server_networks_active{" + inApp + "}) > 0", each + " /{{prefix_length}}"})).
		WithPanel(curves("New networks", "Never seen before. Whole new networks mean another hoster or another site.", perSec, half,
			query{rate("app, prefix_length", "nametap_server_networks_seen_total", inApp), "{{app}} /{{prefix_length}}"})).
		WithPanel(curves("Connections for each server", "", plain, third,
			query{"sum by (app, class) (nametap_flows_active{" + inApp + "}) / (sum by (app, class) (nametap_servers_active{" + inApp + "}) > 0)", each})).
		WithPanel(curves("SYNs that are answered", "SYN/ACK segments for each SYN segment.", percent, third,
			query{share(byClass, "nametap_tcp_syn_ack_segments_total", "nametap_tcp_syn_segments_total", inApp), each})).
		WithPanel(curves("Resets for each attempt", "", plain, third,
			query{share(byClass, "nametap_tcp_rst_segments_total", "nametap_tcp_connection_attempts_total", inApp), each})).
		WithPanel(curves("Round-trip time to servers", "The median: it steps when traffic moves to another site.", seconds, half,
			query{quantile(0.5, byClass, "nametap_tcp_server_rtt_seconds", inApp), each})).
		WithPanel(curves("Slowest twentieth", "Of the samples of round-trip time to servers.", seconds, half,
			query{quantile(0.95, byClass, "nametap_tcp_server_rtt_seconds", inApp), each})).
		WithPanel(curves("Lost on the server side", "Downlink segments lost before the tap, of all downlink packets.", percent, half,
			query{share("app", "nametap_tcp_downlink_lost_before_tap_segments_total", "nametap_downlink_packets_total", inApp), "{{app}}"})).
		WithPanel(bars("Flows named through other subscribers' answers", "Evidence server, of all named: servers that are known though this subscriber's answer was not seen.", percent, half,
			query{
				"sum by (app) (rate(nametap_flows_named_total{" + inApp + `,evidence="server"}[$__rate_interval])) / ` +
					rate("app", "nametap_flows_named_total", inApp), "{{app}}",
			}))
}

func experience() *dashboard.DashboardBuilder {
	const transfers = inClass
	// Classes of sessions, such as chat, have no transfers.
	transfer := func(q query) query {
		return query{"(" + q.expr + ")\nand on (app, class) sum by (app, class) (nametap_transfer_experience_total{" + transfers + "}) > 0", q.legend}
	}
	took := quantiles("nametap_flow_duration_seconds", transfers, byClass, each, 0.5, 0.9)
	for i := range took {
		took[i] = transfer(took[i])
	}
	rated, shares := stacked("Transfers by experience", "Ratings as docs/metrics.md explains them. Bad is not always slow: a connection that is kept open after its transfer counts its idle time too.", perSec, half,
		query{rate("rating", "nametap_transfer_experience_total", transfers), "{{rating}}"}),
		bars("Share of each rating", "", percent, half,
			query{
				rate("rating", "nametap_transfer_experience_total", transfers) + "\n/ ignoring (rating) group_left () (sum(rate(nametap_transfer_experience_total{" +
					transfers + "}[$__rate_interval])) > 0)", "{{rating}}",
			}).Max(1)
	for _, rating := range []string{"good", "acceptable", "bad"} {
		rated.OverrideByName(rating, fixed(ratingColours[rating]))
		shares.OverrideByName(rating, fixed(ratingColours[rating]))
	}
	return board("nametap-experience", "nametap / Experience", "What people notice: how long transfers take and how fast they are.").
		WithVariable(instances()).WithVariable(apps()).WithVariable(classes()).
		WithPanel(rated).WithPanel(shares).
		WithPanel(curves("How long transfers take", "First to last packet, with the time that a connection is kept open afterwards.", seconds, half, took...)).
		WithPanel(curves("Volume for each active subscriber", "", bits, half,
			query{
				"8 * " + rate(byClass, "nametap_downlink_bytes_total", transfers) + " / (sum by (app, class) (nametap_subscribers_active{" + transfers + "}) > 0)",
				each + " downlink",
			},
			query{
				"8 * " + rate(byClass, "nametap_uplink_bytes_total", transfers) + " / (sum by (app, class) (nametap_subscribers_active{" + transfers + "}) > 0)",
				each + " uplink",
			})).
		WithPanel(curves("Downlink throughput", "Mean rate of flows over 1 MB: the median, and what one in ten does not reach.", "Bps", half,
			quantiles("nametap_flow_downlink_throughput_bytes_per_second", transfers, "app", "{{app}}", 0.5, 0.1)...)).
		WithPanel(curves("Uplink throughput", "Mean rate of flows over 1 MB.", "Bps", half,
			quantiles("nametap_flow_uplink_throughput_bytes_per_second", transfers, "app", "{{app}}", 0.5, 0.1)...)).
		WithPanel(curves("Round-trip time, subscriber to server", "Medians of both sides added: a rough sum, as the two are measured apart.", seconds, half,
			query{
				"(" + quantile(0.5, "app", "nametap_tcp_server_rtt_seconds", transfers) + ")\n+ (" +
					quantile(0.5, "app", "nametap_tcp_access_rtt_seconds", transfers) + ")", "{{app}}",
			})).
		WithPanel(curves("Transfers broken off", "Flows that ended in a reset, of all that ended.", percent, half,
			transfer(query{
				"sum by (app, class) (rate(nametap_flows_closed_total{" + transfers + `,reason="rst"}[$__rate_interval])) / ` +
					rate(byClass, "nametap_flows_closed_total", transfers), each,
			})))
}
