package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/internal/localpg"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// A short run on each engine finds nothing and writes its figures to the page.
func TestSoak(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"sqlite", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			docs := t.TempDir()
			page := filepath.Join(docs, "reliability.md")
			if err := os.WriteFile(page, []byte("before\n<!-- soak "+engine+" -->\nold\n<!-- end "+engine+" -->\nafter\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			localpg.Need(t, soak(t.Context(), []string{"-engine", engine, "-duration", "3s", "-rate", "100", "-docs", docs}))
			b, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			text := string(b)
			for _, want := range []string{"before\n", "\nafter\n", "| Answered 200 | 300 |", "**Answered 200 and without effect** | **0**", "**Out of order** | **0**"} {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in %s", want, text)
				}
			}
			if strings.Contains(text, "old") {
				t.Errorf("the old figures are still there: %s", text)
			}
			if svg, err := os.ReadFile(filepath.Join(docs, "reliability-"+engine+".svg")); err != nil || !strings.Contains(string(svg), "<svg") {
				t.Errorf("the plot: %.100s, %v", svg, err)
			}
		})
	}
}

// A server comes back although the load ends when an outage begins.
func TestAwayAtTheEnd(t *testing.T) {
	t.Parallel()
	s, err := localpg.Start(t.Context())
	localpg.Need(t, err)
	d := &server{Server: s}
	t.Cleanup(d.close)
	ended, end := context.WithCancel(t.Context())
	end()
	if err := d.away(ended, time.Hour); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), s.URL())
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// Everything that goes wrong is reported and makes the program fail.
func TestVerdict(t *testing.T) {
	t.Parallel()
	notification := func(number, step int) *pixmed.Notification {
		return &pixmed.Notification{Infraction: pixmedtest.NewInfraction(func(i *pixmed.Infraction) {
			i.TransactionID, i.MEDStatus = transactionID(number), story[step]
		})}
	}
	for name, test := range map[string]struct {
		change func(*result)
		want   string // "" for nothing
	}{
		"all is well":              {func(*result) {}, ""},
		"one missing":              {func(r *result) { r.ledger.accepted[0].Store(3); r.ledger.effects[0].Store(2) }, "1 notifications were answered 200 and had no effect"},
		"too few":                  {func(r *result) { r.ledger.accepted[0].Store(2) }, "2 notifications were answered 200, want 3"},
		"out of order":             {func(r *result) { r.ledger.effect(notification(1, 2)) }, "1 effects came before an earlier one"},
		"repeated":                 {func(r *result) { r.ledger.effect(notification(0, 0)) }, "1 effects were repeated"},
		"repeated after an outage": {func(r *result) { r.outages = 1; r.ledger.effect(notification(0, 0)) }, ""},
		"of nobody":                {func(r *result) { r.ledger.effect(notification(1000, 0)) }, "1 effects are of notifications that were never sent"},
		"dead":                     {func(r *result) { r.attempts[inbox.AttemptDead]++ }, "1 notifications are dead"},
		"memory": {func(r *result) {
			r.duration = 10 * time.Minute
			r.samples = []sample{{at: 4 * time.Minute, heap: 10}, {at: 9 * time.Minute, heap: 30}}
		}, "the live heap grew from 10.0 to 30.0 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newResult(settings{duration: time.Second, rate: 3, workers: 4}, newLedger(2))
			r.attempts = make(map[inbox.AttemptResult]int64)
			r.ledger.accepted[0].Store(3)
			for step := range story {
				r.ledger.effect(notification(0, step))
			}
			test.change(r)
			switch err := r.verdict(); {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}
