package forecast

import (
	"fmt"
	"image/color"
	"io"
	"math"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// colors tell the models apart, also for most of those who see few colours
// (Okabe and Ito); the selector is black.
var colors = [models + 1]color.Color{
	LastValue:     color.RGBA{153, 153, 153, 255},
	SeasonalNaive: color.RGBA{230, 159, 0, 255},
	Holt:          color.RGBA{86, 180, 233, 255},
	AR:            color.RGBA{0, 158, 115, 255},
	Regression:    color.RGBA{213, 94, 0, 255},
	Median:        color.RGBA{204, 121, 167, 255},
	Selected:      color.RGBA{0, 0, 0, 255},
}

// mostMASE is where the axis ends: what is three times as bad as the last value
// need not be told apart.
const mostMASE = 3

// Draw writes an SVG: for each result a row of three charts, MASE, pinball loss
// and coverage against the horizon, a line a model.
func Draw(w io.Writer, results []*Result) error {
	const width, height = 12 * vg.Inch, 3 * vg.Inch
	rows := make([][]*plot.Plot, len(results))
	for i, r := range results {
		charts, err := r.charts()
		if err != nil {
			return err
		}
		rows[i] = charts
	}
	canvas := vgsvg.New(width, height*vg.Length(max(1, len(results))))
	margin := vg.Points(12)
	tiles := draw.Tiles{
		Rows: len(rows), Cols: 3, PadX: margin, PadY: margin,
		PadLeft: margin, PadRight: margin, PadTop: margin, PadBottom: margin,
	}
	for i, row := range plot.Align(rows, tiles, draw.New(canvas)) {
		for j := range row {
			rows[i][j].Draw(row[j])
		}
	}
	_, err := canvas.WriteTo(w)
	return err
}

func (r *Result) charts() ([]*plot.Plot, error) {
	kinds := []struct {
		title string
		of    func(*Score) float64
		line  float64 // reference; NaN: none
		// The axis shows from min to max at least, so that small
		// differences look small.
		min, max float64
	}{
		{"MASE (last value: 1)", func(s *Score) float64 { return min(mostMASE, s.MASE) }, 1, 0, 1.5},
		{"pinball loss", func(s *Score) float64 { return s.Pinball }, math.NaN(), 0, 0},
		{"coverage of the 90 % interval", func(s *Score) float64 { return s.Covered }, Coverage, 0.8, 1},
	}
	var out []*plot.Plot
	for i, k := range kinds {
		p := plot.New()
		p.Title.Text = k.title
		if i == 0 {
			p.Title.Text = r.Label + ": " + k.title
		}
		p.Title.TextStyle.Font.Size = font.Points(9)
		p.X.Label.Text = "periods ahead"
		p.X.Tick.Marker = r.ticks()
		p.Legend.TextStyle.Font.Size = font.Points(7)
		for _, m := range Models() {
			if err := r.curve(p, m, k.of, i == 0); err != nil {
				return nil, err
			}
		}
		if !math.IsNaN(k.line) {
			reference, err := plotter.NewLine(plotter.XYs{{X: 0, Y: k.line}, {X: float64(len(r.Horizons) - 1), Y: k.line}})
			if err != nil {
				return nil, err
			}
			reference.Dashes = []vg.Length{vg.Points(3), vg.Points(3)}
			p.Add(reference)
		}
		p.Y.Min, p.Y.Max = min(p.Y.Min, k.min), max(p.Y.Max, k.max)
		p.X.Min, p.X.Max = 0, max(1, float64(len(r.Horizons)-1))
		out = append(out, p)
	}
	return out, nil
}

// ticks puts the horizons side by side at equal distances.
func (r *Result) ticks() plot.ConstantTicks {
	var t plot.ConstantTicks
	for i, h := range r.Horizons {
		t = append(t, plot.Tick{Value: float64(i), Label: strconv.Itoa(h)})
	}
	return t
}

func (r *Result) curve(p *plot.Plot, m Model, of func(*Score) float64, legend bool) error {
	var points plotter.XYs
	for i := range r.Horizons {
		if v := of(&r.Scores[i][m]); !math.IsNaN(v) && !math.IsInf(v, 0) {
			points = append(points, plotter.XY{X: float64(i), Y: v})
		}
	}
	if len(points) == 0 {
		return nil
	}
	line, dots, err := plotter.NewLinePoints(points)
	if err != nil {
		return fmt.Errorf("drawing: %w", err)
	}
	line.Color, dots.Color = colors[m], colors[m]
	line.Width = vg.Points(1)
	if m == Selected {
		line.Width = vg.Points(2)
	}
	dots.Shape = draw.CircleGlyph{}
	dots.Radius = vg.Points(1.5)
	p.Add(line, dots)
	if legend {
		p.Legend.Add(m.String(), line)
	}
	return nil
}
