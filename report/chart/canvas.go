package chart

import (
	"fmt"
	"html"
	"image"
	"image/color"
	"math"
	"strconv"
	"strings"

	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
)

// ink is a colour that is a class of the style sheet. gonum/plot hands colours
// through as they are.
type ink struct {
	class  string
	anchor string // of text: start, middle or end
}

// RGBA satisfies color.Color; nobody mixes with it.
func (ink) RGBA() (r, g, b, a uint32) { return 0, 0, 0, math.MaxUint16 }

// canvas is a vg.Canvas that writes SVG. A unit is a CSS pixel; gonum's origin
// is at the bottom, SVG's at the top.
type canvas struct {
	strings.Builder
	width, height float64
	state
	stack []state
}

// state is what Push saves.
type state struct {
	ink    ink
	line   float64
	dashes []vg.Length
	matrix [6]float64 // x' = m0·x + m2·y + m4, y' = m1·x + m3·y + m5
}

func newCanvas(width, height float64) *canvas {
	return &canvas{width: width, height: height, state: state{line: 1, matrix: [6]float64{1, 0, 0, 1, 0, 0}}}
}

// Size is part of vg.CanvasSizer.
func (c *canvas) Size() (w, h vg.Length) { return vg.Length(c.width), vg.Length(c.height) }

func (c *canvas) SetLineWidth(w vg.Length)               { c.line = float64(w) }
func (c *canvas) SetLineDash(d []vg.Length, _ vg.Length) { c.dashes = d }
func (c *canvas) Push()                                  { c.stack = append(c.stack, c.state) }
func (c *canvas) DrawImage(vg.Rectangle, image.Image)    {}
func (c *canvas) Translate(p vg.Point)                   { c.concat([6]float64{1, 0, 0, 1, float64(p.X), float64(p.Y)}) }
func (c *canvas) Scale(x, y float64)                     { c.concat([6]float64{x, 0, 0, y, 0, 0}) }
func (c *canvas) Rotate(rad float64) {
	sin, cos := math.Sincos(rad)
	c.concat([6]float64{cos, sin, -sin, cos, 0, 0})
}

func (c *canvas) Pop() {
	c.state = c.stack[len(c.stack)-1]
	c.stack = c.stack[:len(c.stack)-1]
}

func (c *canvas) SetColor(col color.Color) {
	if i, ok := col.(ink); ok {
		c.ink = i
		return
	}
	c.ink = ink{class: "axis"}
}

func (c *canvas) concat(n [6]float64) {
	m := c.matrix
	c.matrix = [6]float64{
		m[0]*n[0] + m[2]*n[1], m[1]*n[0] + m[3]*n[1],
		m[0]*n[2] + m[2]*n[3], m[1]*n[2] + m[3]*n[3],
		m[0]*n[4] + m[2]*n[5] + m[4], m[1]*n[4] + m[3]*n[5] + m[5],
	}
}

// place returns a point in SVG's coordinates.
func (c *canvas) place(p vg.Point) (x, y float64) {
	m := c.matrix
	x = m[0]*float64(p.X) + m[2]*float64(p.Y) + m[4]
	y = m[1]*float64(p.X) + m[3]*float64(p.Y) + m[5]
	return x, c.height - y
}

// Stroke draws the line of a path.
func (c *canvas) Stroke(p vg.Path) {
	if c.line <= 0 || len(p) == 0 {
		return
	}
	c.WriteString(`<path class="l ` + c.ink.class + `" d="`)
	c.path(p)
	c.WriteString(`"/>`)
}

// Fill fills a path.
func (c *canvas) Fill(p vg.Path) {
	if len(p) == 0 {
		return
	}
	c.WriteString(`<path class="f ` + c.ink.class + `" d="`)
	c.path(p)
	c.WriteString(`"/>`)
}

func (c *canvas) path(p vg.Path) {
	for _, step := range p {
		switch step.Type {
		case vg.MoveComp:
			c.point('M', step.Pos)
		case vg.LineComp:
			c.point('L', step.Pos)
		case vg.CloseComp:
			c.WriteByte('Z')
		}
	}
}

func (c *canvas) point(command byte, p vg.Point) {
	x, y := c.place(p)
	c.WriteByte(command)
	c.WriteString(short(x))
	c.WriteByte(' ')
	c.WriteString(short(y))
}

// FillString writes text. gonum has placed it by the widths of its own font;
// the anchor puts it right in whatever font the reader has.
func (c *canvas) FillString(f font.Face, p vg.Point, text string) {
	if text == "" {
		return
	}
	width := f.Width(text)
	anchor := c.ink.anchor
	switch anchor {
	case "middle":
		p.X += width / 2
	case "end":
		p.X += width
	default:
		anchor = "start"
	}
	x, y := c.place(p)
	fmt.Fprintf(c, `<text class="%s" x="%s" y="%s" text-anchor="%s">%s</text>`, c.ink.class, short(x), short(y), anchor, html.EscapeString(text))
}

// short writes a coordinate with a tenth of a pixel.
func short(v float64) string {
	s := strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64)
	if s == "-0" {
		return "0"
	}
	return s
}
