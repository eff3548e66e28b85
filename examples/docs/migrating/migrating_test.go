package migrating

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/inboxtest"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// ledger are books that record what was done, and fail as often as they are told to.
type ledger struct {
	mu       sync.Mutex
	done     []string
	failures int
}

func (l *ledger) note(entry string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failures > 0 {
		l.failures--
		return errors.New("the books are closed for a moment")
	}
	l.done = append(l.done, entry)
	return nil
}

func (l *ledger) Block(_ context.Context, _ string, value pixmed.Amount) error {
	return l.note("block " + value.String())
}
func (l *ledger) Release(context.Context, string) error  { return l.note("release") }
func (l *ledger) WriteOff(context.Context, string) error { return l.note("write off") }

func (l *ledger) entries() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.done)
}

const secret = "a shared secret"

var signer = pixmedtest.HeaderSecret("X-Webhook-Secret", secret)

// What the handwritten handler loses or does twice, and pixmed does not.
func TestBeforeAndAfter(t *testing.T) {
	t.Parallel()
	sample := pixmedtest.Sample
	status := func(s string) string { return strings.Replace(sample, "ACKNOWLEDGED", s, 1) }
	value := func(v string) string { return strings.Replace(sample, `"value": 18`, `"value": `+v, 1) }
	for _, tt := range []struct {
		name          string
		bodies        []string
		failures      int
		unsigned      bool
		before, after []string
		kept          inbox.Stats // what the inbox holds for a person
	}{
		{
			name:   "one of each kind that it knows",
			bodies: []string{sample, status("CANCELLED")},
			before: []string{"block 18.00", "release"},
			after:  []string{"block 18.00", "release"},
		},
		{
			name:   "delivered twice",
			bodies: []string{sample, sample},
			before: []string{"block 18.00", "block 18.00"},
			after:  []string{"block 18.00"},
		},
		{
			name:     "the work fails once",
			bodies:   []string{sample},
			failures: 1,
			after:    []string{"block 18.00"},
		},
		{
			name:   "the value is a string, as the documentation says",
			bodies: []string{value(`"18.50"`)},
			after:  []string{"block 18.50"},
		},
		{
			name:   "a value that a float cuts",
			bodies: []string{value("19.99")},
			before: []string{"block 19.98"},
			after:  []string{"block 19.99"},
		},
		{
			name:   "the value is gone",
			bodies: []string{status("DEBITED")},
			after:  []string{"write off"},
		},
		{
			name:   "a status that nobody knows",
			bodies: []string{status("APPEALED")},
			kept:   inbox.Stats{Dead: 1},
		},
		{
			name:   "a broken body",
			bodies: []string{sample[:100]},
			kept:   inbox.Stats{Quarantined: 1},
		},
		{
			name:     "from anybody",
			bodies:   []string{status("CANCELLED")},
			unsigned: true,
			before:   []string{"release"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			post := func(h http.Handler) {
				for _, body := range tt.bodies {
					var signers []pixmedtest.Signer
					if !tt.unsigned {
						signers = append(signers, signer)
					}
					h.ServeHTTP(httptest.NewRecorder(), pixmedtest.NewRequest("/", []byte(body), signers...))
				}
			}

			old := &ledger{failures: tt.failures}
			post(newBefore(t, old))
			if diff := cmp.Diff(tt.before, old.entries()); diff != "" {
				t.Errorf("by hand (-want +got):\n%s", diff)
			}

			next := &ledger{failures: tt.failures}
			handler, in := startAfter(t, next)
			post(handler)
			stats := settle(t, in)
			if diff := cmp.Diff(tt.after, next.entries()); diff != "" {
				t.Errorf("with pixmed (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.kept, stats); diff != "" {
				t.Errorf("kept (-want +got):\n%s", diff)
			}
		})
	}
}

// Side by side, the old handler answers and does the work, and the new one says
// what it would have done.
func TestMirror(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	old := &ledger{}
	next, in := startAfter(t, watching{slog.New(slog.NewTextHandler(&said, nil))})
	handler := mirror(newBefore(t, old), next, pixmed.DefaultBodyLimit)

	w := httptest.NewRecorder()
	handler.ServeHTTP(w, pixmedtest.NewRequest("/", []byte(pixmedtest.Sample), signer))
	if w.Code != http.StatusOK {
		t.Errorf("the answer is %d, want the old handler's 200", w.Code)
	}
	stats := settle(t, in)
	if diff := cmp.Diff([]string{"block 18.00"}, old.entries()); diff != "" {
		t.Errorf("the old handler's work (-want +got):\n%s", diff)
	}
	if stats != (inbox.Stats{}) || !strings.Contains(said.String(), `msg="would block"`) {
		t.Errorf("the new handler left %+v and said %q", stats, said.String())
	}

	w = httptest.NewRecorder()
	large := bytes.Repeat([]byte(" "), pixmed.DefaultBodyLimit+1)
	handler.ServeHTTP(w, pixmedtest.NewRequest("/", large, signer))
	if w.Code != http.StatusBadRequest {
		t.Errorf("a body over the limit: %d, want 400", w.Code)
	}
}

func newBefore(t *testing.T, b books) http.Handler {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(t.TempDir(), "before.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE med_events (transaction_id TEXT, status TEXT, body BLOB)"); err != nil {
		t.Fatal(err)
	}
	return &before{db, b}
}

// startAfter returns the new handler with its inbox.
func startAfter(t *testing.T, b books) (http.Handler, *inbox.Inbox) {
	t.Helper()
	handler, in, err := newAfter(t.Context(), filepath.Join(t.TempDir(), "inbox.db"), b, []string{secret},
		inbox.WithBackoff(time.Millisecond, time.Millisecond),
		inbox.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := in.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	if err := in.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return handler, in
}

// settle waits until nothing is pending, and returns what the inbox holds for a
// person to look at.
func settle(t *testing.T, in *inbox.Inbox) inbox.Stats {
	t.Helper()
	stats, err := inboxtest.Idle(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return inbox.Stats{Dead: stats.Dead, Quarantined: stats.Quarantined}
}
