package ops

import (
	"context"
	"time"

	"github.com/pixmed-go/pixmed/inbox"
)

// days is how many the chart shows.
const days = 14

// The chart's measures, in its own units.
const (
	barWidth    = 20
	barGap      = 6
	chartHeight = 60
)

// chart shows how many notifications came on each day, by state.
type chart struct {
	Width, Height int
	Days          []day
	Total         int64
}

// First is the day on the left.
func (c *chart) First() string { return c.Days[0].Name }

// Last is the day on the right, today.
func (c *chart) Last() string { return c.Days[len(c.Days)-1].Name }

type day struct {
	Name   string
	Counts []int64 // as states
	Bars   []bar   // from the bottom to the top
}

type bar struct {
	State               string
	X, Y, Width, Height int
}

// States are those that the chart shows, from the bottom to the top.
func (c *chart) States() []string {
	return []string{string(inbox.Done), string(inbox.Resolved), string(inbox.Pending), string(inbox.Dead), string(inbox.Quarantined)}
}

// countReceived counts what came on each of the last days, today included.
func (h *Handler) countReceived(ctx context.Context) ([]inbox.Received, error) {
	return h.in.CountReceived(ctx, h.tomorrow(h.config.now()).AddDate(0, 0, -days), 24*time.Hour, days)
}

func newChart(s speech, received []inbox.Received) *chart {
	c := &chart{Width: len(received)*(barWidth+barGap) - barGap, Height: chartHeight}
	highest := int64(1)
	for _, r := range received {
		total := r.Done + r.Resolved + r.Pending + r.Dead + r.Quarantined
		highest, c.Total = max(highest, total), c.Total+total
	}
	for i, r := range received {
		d := day{Name: s.Day(r.From), Counts: []int64{r.Done, r.Resolved, r.Pending, r.Dead, r.Quarantined}}
		y := chartHeight
		for j, n := range d.Counts {
			if n == 0 {
				continue
			}
			height := max(int(n*chartHeight/highest), 1) // one notification is visible too
			y -= height
			d.Bars = append(d.Bars, bar{c.States()[j], i * (barWidth + barGap), y, barWidth, height})
		}
		c.Days = append(c.Days, d)
	}
	return c
}
