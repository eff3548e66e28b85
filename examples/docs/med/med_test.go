package med

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// The table of the page says what becomes of each delivery of a case.
func TestSequencesOfThePage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/med.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(page), "| delivered, in this order |")
	if !found {
		t.Fatal("med.md has no table of deliveries")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	var want, got []string
	rows := strings.Split(table, "\n")[2:] // without the heading and the line under it
	for _, row := range rows {
		want = append(want, row)
		cells := strings.Split(row, "|")
		got = append(got, fmt.Sprintf("|%s| %s |", cells[1], deliver(t, strings.Split(strings.Trim(cells[1], " `"), ", "))))
	}
	if len(rows) < 6 {
		t.Errorf("the table has %d rows", len(rows))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the table (-page +pixmed):\n%s", diff)
	}
}

// deliver delivers the statuses of one case and says what comes of the last.
func deliver(t *testing.T, statuses []string) string {
	t.Helper()
	var called *pixmed.Notification
	receiver := pixmed.Deduplicate(&pixmed.MemoryStore{}, pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
		called = n
		return nil
	}))
	infraction := pixmedtest.NewInfraction() // all are about one transaction
	for _, status := range statuses {
		called = nil
		err := receiver.Receive(t.Context(), pixmedtest.NewNotification(func(n *pixmed.Notification) {
			n.Infraction, n.MEDStatus = infraction, pixmed.MEDStatus(status)
		}))
		if err != nil && !errors.Is(err, pixmed.ErrDuplicate) {
			t.Fatal(err)
		}
	}
	if called == nil {
		return "no | - | nothing"
	}
	return fmt.Sprintf("yes | %t | %s", called.MaybeReopened(), advise(called))
}
