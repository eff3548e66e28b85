package pixmed_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed"
)

func TestCallbacks(t *testing.T) {
	t.Parallel()
	all := []pixmed.MEDStatus{statusA, statusC, statusD, "NEW", "", "acknowledged"}
	for _, tt := range []struct {
		name string
		set  string // the fields that are set, by their first letters
		want map[pixmed.MEDStatus]string
	}{
		{"all", "ACDO", map[pixmed.MEDStatus]string{statusA: "A", statusC: "C", statusD: "D"}},
		{"Other alone", "O", nil},
		{"one", "CO", map[pixmed.MEDStatus]string{statusC: "C"}},
		{"without Debited", "ACO", map[pixmed.MEDStatus]string{statusA: "A", statusC: "C"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			called := ""
			callback := func(name string) func(context.Context, *pixmed.Notification) error {
				if !strings.Contains(tt.set, name) {
					return nil
				}
				return func(context.Context, *pixmed.Notification) error {
					called += name
					return errCallback
				}
			}
			c := pixmed.Callbacks{Acknowledged: callback("A"), Cancelled: callback("C"), Debited: callback("D"), Other: callback("O")}
			if err := c.Validate(); err != nil {
				t.Fatal(err)
			}
			for _, status := range all {
				called = ""
				want, ok := tt.want[status]
				if !ok {
					want = "O"
				}
				err := c.Receive(t.Context(), notification(status))
				if called != want || !errors.Is(err, errCallback) {
					t.Errorf("%q called %q, %v; want %q and its error", status, called, err, want)
				}
			}
		})
	}

	t.Run("the context and the notification are passed on", func(t *testing.T) {
		t.Parallel()
		type key struct{}
		n := notification(statusA)
		ctx := context.WithValue(t.Context(), key{}, 1)
		c := pixmed.Callbacks{Other: func(gotCtx context.Context, got *pixmed.Notification) error {
			if got != n || gotCtx.Value(key{}) != 1 {
				t.Error("the callback got others")
			}
			return nil
		}}
		if err := c.Receive(ctx, n); err != nil {
			t.Error(err)
		}
	})
	t.Run("without Other nothing is swallowed", func(t *testing.T) {
		t.Parallel()
		c := pixmed.Callbacks{Acknowledged: pixmed.Ignore}
		if err := c.Receive(t.Context(), notification(statusA)); err != nil {
			t.Error(err)
		}
		for _, status := range []pixmed.MEDStatus{statusC, statusD, "NEW"} {
			if err := c.Receive(t.Context(), notification(status)); err == nil || err.Error() != otherIsNil {
				t.Errorf("%q: %v", status, err)
			}
		}
	})
	t.Run("Ignore", func(t *testing.T) {
		t.Parallel()
		h := newHook(t, pixmed.Callbacks{Other: pixmed.Ignore}, pixmed.WithoutVerification())
		if w := h.serve(webhookRequest(t)); w.Code != 200 {
			t.Errorf("status %d", w.Code)
		}
	})
}
