package ops

import (
	"time"

	"github.com/pixmed-go/pixmed/inbox"
)

// The chart's measures, in its own units.
const (
	barWidth    = 20
	barGap      = 6
	chartHeight = 60
)

// chart shows how many notifications came on each day, and what became of them.
type chart struct {
	Width, Height int
	Days          []day
	Total, Done   int64
}

// First is the day on the left.
func (c chart) First() string { return c.Days[0].Name }

// Last is the day on the right, today.
func (c chart) Last() string { return c.Days[len(c.Days)-1].Name }

type day struct {
	Name                       string // 11-24
	Done, Pending, Dead, Other int64  // Other is quarantined
	Bars                       []bar  // from the bottom to the top
}

type bar struct {
	State               string
	X, Y, Width, Height int
}

func newChart(received []inbox.Received, location *time.Location) chart {
	c := chart{Width: len(received)*(barWidth+barGap) - barGap, Height: chartHeight}
	highest := int64(1)
	for _, r := range received {
		total := r.Done + r.Pending + r.Dead + r.Quarantined
		highest, c.Total, c.Done = max(highest, total), c.Total+total, c.Done+r.Done
	}
	for i, r := range received {
		d := day{Name: r.From.In(location).Format("01-02"), Done: r.Done, Pending: r.Pending, Dead: r.Dead, Other: r.Quarantined}
		y := chartHeight
		for _, part := range []struct {
			state inbox.State
			n     int64
		}{{inbox.Done, r.Done}, {inbox.Pending, r.Pending}, {inbox.Dead, r.Dead}, {inbox.Quarantined, r.Quarantined}} {
			if part.n == 0 {
				continue
			}
			height := max(int(part.n*chartHeight/highest), 1) // what is there is seen
			y -= height
			d.Bars = append(d.Bars, bar{string(part.state), i * (barWidth + barGap), y, barWidth, height})
		}
		c.Days = append(c.Days, d)
	}
	return c
}
