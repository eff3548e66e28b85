package main

import (
	"bytes"
	"image/color"
	"maps"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A growth is a benchmark at several sizes.
type growth struct {
	base, condition string // "Decode", "size"
	title, x        string
}

var growths = []growth{
	{"ParseGrowing", "bytes", "Parsing a webhook", "size of the body in bytes"},
	{"HandlerGrowing", "bytes", "Handling a webhook", "size of the body in bytes"},
	{"Decode", "size", "Decoding a receipt", "size of the PDF in bytes"},
	{"DeduplicateGrowing", "cases", "Telling a duplicate", "cases in the store"},
}

// plotted are the units, each of which has a plot.
var plotted = []struct{ unit, name, y string }{
	{"ns/op", "time", "time in nanoseconds"},
	{"B/op", "allocated", "allocated, in bytes"},
	{"allocs/op", "allocations", "allocations"},
}

// A drawing is a plot of one growth in one unit.
type drawing struct {
	Name  string // of the file
	g     growth
	unit  string
	y     string
	lines map[string]plotter.XYs // by implementation
}

// drawings returns the plots for which there are figures.
func (s *results) drawings() (all []drawing) {
	for _, g := range growths {
		for _, p := range plotted {
			if lines := s.lines(g, p.unit); len(lines) > 0 {
				name := "performance-" + strings.ToLower(strings.TrimSuffix(g.base, growing)) + "-" + p.name + ".svg"
				all = append(all, drawing{name, g, p.unit, p.y, lines})
			}
		}
	}
	return all
}

// Title is the plot's heading.
func (d drawing) Title() string { return d.g.title + ": " + d.y }

// svg draws the plot.
func (d drawing) svg() ([]byte, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = d.Title(), d.g.x, d.y
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.LogTicks{Prec: -1}, plot.LogTicks{Prec: -1}
	p.Add(plotter.NewGrid())
	legend := plot.NewLegend() // beside the plot, so that it hides nothing
	legend.Left, legend.Top = true, true
	for i, impl := range slices.Sorted(maps.Keys(d.lines)) {
		line, points, err := plotter.NewLinePoints(d.lines[impl])
		if err != nil {
			return nil, err
		}
		line.Color, points.Color = plotutil.Color(i), plotutil.Color(i)
		points.Shape = plotutil.Shape(i)
		if impl == ours {
			line.Width = vg.Points(2.5)
		}
		p.Add(line, points)
		legend.Add(impl, line, points)
	}
	canvas := vgsvg.New(25*vg.Centimeter, 11*vg.Centimeter)
	whole := draw.New(canvas)
	whole.SetColor(color.White)
	whole.Fill(whole.Rectangle.Path())
	p.Draw(draw.Crop(whole, 0, -9*vg.Centimeter, 0, 0))
	legend.Draw(draw.Crop(whole, 16.5*vg.Centimeter, 0, 0, -vg.Centimeter))
	var b bytes.Buffer
	_, err := canvas.WriteTo(&b)
	return b.Bytes(), err
}

// lines returns the points of each implementation. Zero has no place on a logarithmic
// scale.
func (s *results) lines(g growth, unit string) map[string]plotter.XYs {
	lines := make(map[string]plotter.XYs)
	for _, group := range s.groups {
		text, ok := strings.CutPrefix(group.conditions, g.condition+"=")
		if group.base != g.base || !ok {
			continue
		}
		x, err := number(text)
		if err != nil {
			continue
		}
		for _, m := range group.members {
			if y, ok := m.median(unit); ok && y > 0 {
				lines[m.impl] = append(lines[m.impl], plotter.XY{X: x, Y: y})
			}
		}
	}
	return lines
}

// number parses 1000, 64KiB, 16MiB.
func number(text string) (float64, error) {
	factor := 1.0
	for suffix, f := range map[string]float64{"KiB": 1 << 10, "MiB": 1 << 20} {
		if before, ok := strings.CutSuffix(text, suffix); ok {
			text, factor = before, f
		}
	}
	n, err := strconv.ParseFloat(text, 64)
	return n * factor, err
}
