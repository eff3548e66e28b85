package main

import (
	"bytes"
	"image/color"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// plot draws memory and latency over the time of the run.
func (r *result) plot() ([]byte, error) {
	var heap, rss, p99 plotter.XYs
	for _, s := range r.samples {
		x := s.at.Minutes()
		heap, rss = append(heap, plotter.XY{X: x, Y: s.heap}), append(rss, plotter.XY{X: x, Y: s.rss})
		if s.p99 > 0 { // nothing was answered while the database was away
			p99 = append(p99, plotter.XY{X: x, Y: float64(s.p99.Microseconds()) / 1000})
		}
	}
	memory := plot.New()
	memory.Title.Text, memory.Y.Label.Text, memory.Y.Min = "Memory", "MiB", 0
	latency := plot.New()
	latency.Title.Text = "From due to 200, 99th percentile"
	latency.X.Label.Text, latency.Y.Label.Text = "minutes", "ms"
	latency.Y.Scale, latency.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	for _, p := range []*plot.Plot{memory, latency} {
		p.Add(plotter.NewGrid())
		p.X.Min, p.X.Max = 0, r.worked.Minutes()
	}
	if err := plotutil.AddLines(memory, "resident", rss, "live heap", heap); err != nil {
		return nil, err
	}
	memory.Legend.Top, memory.Y.Min = true, 0
	if err := plotutil.AddScatters(latency, p99); err != nil {
		return nil, err
	}
	canvas := vgsvg.New(20*vg.Centimeter, 14*vg.Centimeter)
	whole := draw.New(canvas)
	whole.SetColor(color.White)
	whole.Fill(whole.Rectangle.Path())
	tiles := draw.Tiles{Rows: 2, Cols: 1, PadY: vg.Centimeter / 2, PadTop: vg.Millimeter, PadRight: 2 * vg.Millimeter}
	for i, row := range plot.Align([][]*plot.Plot{{memory}, {latency}}, tiles, whole) {
		[]*plot.Plot{memory, latency}[i].Draw(row[0])
	}
	var b bytes.Buffer
	_, err := canvas.WriteTo(&b)
	return b.Bytes(), err
}
