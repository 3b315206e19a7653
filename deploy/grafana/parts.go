package main

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/bargauge"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
	"github.com/grafana/grafana-foundation-sdk/go/units"
)

// source is the data source that the variable of that name selects.
var source = common.DataSourceRef{Type: cog.ToPtr("prometheus"), Uid: cog.ToPtr("${datasource}")}

const (
	full   = 24
	half   = 12
	third  = 8
	fourth = 6
	sixth  = 4
)

// board begins a dashboard. All of them link to each other, keeping time and
// variables.
func board(uid, title, description string) *dashboard.DashboardBuilder {
	return dashboard.NewDashboardBuilder(title).
		Uid(uid).
		Description(description).
		Tags([]string{"nametap"}).
		Editable().
		Refresh("30s").
		Time("now-6h", "now").
		Timezone("browser").
		Tooltip(dashboard.DashboardCursorSyncCrosshair).
		Link(dashboard.NewDashboardLinkBuilder("nametap").
			Type(dashboard.DashboardLinkTypeDashboards).Tags([]string{"nametap"}).AsDropdown(true).KeepTime(true).IncludeVars(true)).
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus"))
}

// variable is one that a query fills, and of which several values or all may be
// chosen.
func variable(name, label, query string) *dashboard.QueryVariableBuilder {
	return dashboard.NewQueryVariableBuilder(name).
		Label(label).
		Datasource(source).
		Query(dashboard.StringOrMap{Map: map[string]any{"query": query, "refId": name}}).
		Definition(query).
		Refresh(dashboard.VariableRefreshOnTimeRangeChanged).
		Sort(dashboard.VariableSortAlphabeticalAsc).
		Multi(true).IncludeAll(true).AllValue(".+").
		Current(choice("All", "$__all"))
}

func choice(text, value string) dashboard.VariableOption {
	return dashboard.VariableOption{
		Selected: cog.ToPtr(true),
		Text:     dashboard.StringOrArrayOfString{ArrayOfString: []string{text}},
		Value:    dashboard.StringOrArrayOfString{ArrayOfString: []string{value}},
	}
}

func instances() *dashboard.QueryVariableBuilder {
	return variable("instance", "Tap", "label_values(nametap_tap_healthy, instance)")
}

func apps() *dashboard.QueryVariableBuilder {
	return variable("app", "App", `label_values(nametap_flows_active{instance=~"$instance"}, app)`)
}

func classes() *dashboard.QueryVariableBuilder {
	return variable("class", "Class", `label_values(nametap_flows_active{instance=~"$instance",app=~"$app"}, class)`)
}

// query is one curve, or one for each value of its labels.
type query struct{ expr, legend string }

func (q query) target(id int) *prometheus.DataqueryBuilder {
	return prometheus.NewDataqueryBuilder().
		Expr(q.expr).LegendFormat(q.legend).RefId(string(rune('A' + id))).Range().
		EditorMode(prometheus.QueryEditorModeCode).Datasource(source)
}

// rate is the rate of a counter, summed up by labels.
func rate(by, metric, selector string) string {
	return fmt.Sprintf("sum by (%s) (rate(%s{%s}[$__rate_interval]))", by, metric, selector)
}

// share is one counter's part of another.
func share(by, of, all, selector string) string {
	return rate(by, of, selector) + " / " + rate(by, all, selector)
}

// quantile of a histogram, from its classic buckets where they are scraped, else
// from the native ones.
func quantile(q float64, by, metric, selector string) string {
	return fmt.Sprintf("histogram_quantile(%g, %s)\nor histogram_quantile(%g, %s)",
		q, rate(by+", le", metric+"_bucket", selector), q, rate(by, metric, selector))
}

// quantiles are the median and what lies above or below most others.
func quantiles(metric, selector, by, legend string, qs ...float64) (out []query) {
	for _, q := range qs {
		out = append(out, query{quantile(q, by, metric, selector), fmt.Sprintf("%s p%g", legend, 100*q)})
	}
	return out
}

// least is how far up an axis goes at least, by unit: a panel of noughts would
// have one up to a hundred otherwise, which is 10000 % of a share.
var least = map[string]float64{perSec: 1, packets: 10, plain: 1, bits: 1000, octets: 1024, percent: 0.01, seconds: 0.001}

// curves is a panel of curves over time. Colours go by the order of the series,
// which is the same everywhere, because all classes are there from the start.
func curves(title, description, unit string, width uint32, queries ...query) *timeseries.PanelBuilder {
	p := timeseries.NewPanelBuilder().
		Title(title).Description(description).Datasource(source).
		Unit(unit).Min(0).AxisSoftMax(least[unit]).Height(8).Span(width).
		LineWidth(1).FillOpacity(0).ShowPoints(common.VisibilityModeNever).
		ColorScheme(dashboard.NewFieldColorBuilder().Mode(dashboard.FieldColorModeIdPaletteClassic)).
		Legend(common.NewVizLegendOptionsBuilder().
			DisplayMode(common.LegendDisplayModeList).Placement(common.LegendPlacementBottom).ShowLegend(true)).
		Tooltip(common.NewVizTooltipOptionsBuilder().Mode(common.TooltipDisplayModeMulti).Sort(common.SortOrderDescending))
	for i, q := range queries {
		p.WithTarget(q.target(i))
	}
	return p
}

// stacked is a panel of areas that add up.
func stacked(title, description, unit string, width uint32, queries ...query) *timeseries.PanelBuilder {
	return curves(title, description, unit, width, queries...).
		FillOpacity(40).Stacking(common.NewStackingConfigBuilder().Mode(common.StackingModeNormal))
}

// number is a panel of the newest value. It is as high as Grafana needs to draw
// the curve behind it.
func number(title, description, unit string, width uint32, queries ...query) *stat.PanelBuilder {
	p := stat.NewPanelBuilder().
		Title(title).Description(description).Datasource(source).Unit(unit).Height(5).Span(width).
		ColorMode(common.BigValueColorModeNone).GraphMode(common.BigValueGraphModeArea).
		ColorScheme(dashboard.NewFieldColorBuilder().Mode(dashboard.FieldColorModeIdFixed).FixedColor("blue")).
		ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"}))
	for i, q := range queries {
		p.WithTarget(q.target(i))
	}
	return p
}

// judged is a number with a colour by its value.
func judged(title, description, unit string, width uint32, colours *dashboard.ThresholdsConfigBuilder, queries ...query) *stat.PanelBuilder {
	return number(title, description, unit, width, queries...).
		ColorMode(common.BigValueColorModeValue).
		ColorScheme(dashboard.NewFieldColorBuilder().Mode(dashboard.FieldColorModeIdThresholds)).
		Thresholds(colours)
}

// health is whether the taps can be trusted, in words.
func health(title, description string) *stat.PanelBuilder {
	return judged(title, description, plain, sixth, steps("red", at(1, "green")),
		query{"min(nametap_tap_healthy{" + onTap + "})", "healthy"}).
		Mappings(words("0", "not healthy", "1", "healthy")).GraphMode(common.BigValueGraphModeNone)
}

// words are written in place of values.
func words(pairs ...string) []dashboard.ValueMapping {
	m := dashboard.NewValueMap()
	for i := 0; i < len(pairs); i += 2 {
		m.Options[pairs[i]] = dashboard.ValueMappingResult{Text: cog.ToPtr(pairs[i+1])}
	}
	return []dashboard.ValueMapping{{ValueMap: m}}
}

// ratingColours paints experience as people read it.
var ratingColours = map[string]string{"good": "green", "acceptable": "yellow", "bad": "red"}

func fixed(colour string) []dashboard.DynamicConfigValue {
	return []dashboard.DynamicConfigValue{{Id: "color", Value: map[string]string{"mode": "fixed", "fixedColor": colour}}}
}

// bars is a panel of the newest values side by side.
func bars(title, description, unit string, width uint32, queries ...query) *bargauge.PanelBuilder {
	p := bargauge.NewPanelBuilder().
		Title(title).Description(description).Datasource(source).Unit(unit).Min(0).Height(8).Span(width).
		Orientation(common.VizOrientationHorizontal).DisplayMode(common.BarGaugeDisplayModeBasic).
		Text(common.NewVizTextDisplayOptionsBuilder().TitleSize(14).ValueSize(18)).
		ColorScheme(dashboard.NewFieldColorBuilder().Mode(dashboard.FieldColorModeIdPaletteClassic)).
		ReduceOptions(common.NewReduceDataOptionsBuilder().Calcs([]string{"lastNotNull"}))
	for i, q := range queries {
		p.WithTarget(q.target(i))
	}
	return p
}

// states is a panel of what held when. Its values are 0 and 1.
func states(title, description string, width uint32, off, on string, queries ...query) *statetimeline.PanelBuilder {
	p := statetimeline.NewPanelBuilder().
		Title(title).Description(description).Datasource(source).Height(6).Span(width).
		MergeValues(true).ShowValue(common.VisibilityModeNever).FillOpacity(80).
		ColorScheme(dashboard.NewFieldColorBuilder().Mode(dashboard.FieldColorModeIdThresholds)).
		Thresholds(steps(off, at(0.5, on)))
	for i, q := range queries {
		p.WithTarget(q.target(i))
	}
	return p
}

func at(value float64, color string) dashboard.Threshold {
	return dashboard.Threshold{Value: cog.ToPtr(value), Color: color}
}

// steps are colours: the first from below on, each other from its value on.
func steps(first string, others ...dashboard.Threshold) *dashboard.ThresholdsConfigBuilder {
	return dashboard.NewThresholdsConfigBuilder().
		Mode(dashboard.ThresholdsModeAbsolute).
		Steps(append([]dashboard.Threshold{{Color: first}}, others...))
}

func row(title string) *dashboard.RowBuilder { return dashboard.NewRowBuilder(title) }

const (
	bits    = units.BitsPerSecondSI
	perSec  = units.CountsPerSecond
	packets = units.PacketsPerSecond
	octets  = units.BytesIEC
	seconds = units.Seconds
	percent = units.PercentUnit
	plain   = units.Short
)
