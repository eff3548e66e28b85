package main

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

func newTestEvidence(t *testing.T, gateway *pixmedtest.Gateway) *evidence {
	t.Helper()
	client, err := pixmed.NewClient(gateway.URL(), pixmed.WithHeader("api_key", gatewayKeyText), pixmed.WithHeader("api_secret", gatewayPass),
		pixmed.WithRetries(0), pixmed.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	return &evidence{client: client, dir: t.TempDir(), log: slog.New(slog.DiscardHandler), metrics: newMetrics(), tracer: noop.NewTracerProvider().Tracer("")}
}

func (e *evidence) read(t *testing.T, i *pixmed.Infraction) string {
	t.Helper()
	r, err := e.open(t.Context(), i)
	if err != nil {
		t.Fatal(err)
	}
	if r == nil {
		return ""
	}
	defer func() { _ = r.Close() }()
	content, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// Two cases with one end-to-end id have a receipt each, and what is there is not
// fetched again.
func TestEvidence(t *testing.T) {
	t.Parallel()
	gateway := newGateway(t)
	e := newTestEvidence(t, gateway)
	for range 2 {
		n := pixmedtest.NewNotification(func(n *pixmed.Notification) {
			n.TransactionID = strings.ToUpper(pixmedtest.NewInfraction().TransactionID)
		})
		small := n.Infraction
		small.TransactionID = n.Key().TransactionID
		if got := e.read(t, &n.Infraction); got != "" {
			t.Errorf("before: %d bytes", len(got))
		}
		want := gateway.AddReceipt(small)
		for range 2 {
			if err := e.save(t.Context(), n); err != nil {
				t.Fatal(err)
			}
		}
		if got := e.read(t, &n.Infraction); got != string(want) {
			t.Errorf("%d bytes, want %d", len(got), len(want))
		}
	}
	if got := names(t, e.dir); len(got) != 2 {
		t.Errorf("the folder holds %v", got)
	}
	if n := len(gateway.Requests()); n != 2 {
		t.Errorf("%d requests", n)
	}
}

// What lies in the receipt's place is left alone, whatever it is.
func TestEvidenceReplacesNothing(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{"another's file": "mine", "an empty file": "", "another PDF": "%PDF-1.4 mine"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gateway := newGateway(t)
			e := newTestEvidence(t, gateway)
			n := pixmedtest.NewNotification()
			pdf := gateway.AddReceipt(n.Infraction)
			path := filepath.Join(e.dir, n.TransactionID+".pdf")
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := e.save(t.Context(), n); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != content {
				t.Errorf("%q, %v", got, err)
			}
			want, files := string(pdf), 2
			if name == "another PDF" { // the receipt, as far as anybody can tell
				want, files = content, 1
			}
			if got := e.read(t, &n.Infraction); got != want {
				t.Errorf("the page shows %d bytes, want %d", len(got), len(want))
			}
			if got := names(t, e.dir); len(got) != files {
				t.Errorf("the folder holds %v", got)
			}
		})
	}
}

// Of a download that failed nothing is left, and of one whose process was killed
// nothing after the next.
func TestEvidenceFails(t *testing.T) {
	t.Parallel()
	gateway := newGateway(t)
	e := newTestEvidence(t, gateway)
	n := pixmedtest.NewNotification()
	err := e.save(t.Context(), n)
	if err == nil || !strings.HasPrefix(err.Error(), "the receipt was not saved: the gateway answered 404 Not Found") {
		t.Errorf("%v", err)
	}
	if diff := cmp.Diff([]string(nil), names(t, e.dir)); diff != "" {
		t.Errorf("left behind (-want +got):\n%s", diff)
	}
	if err := os.WriteFile(filepath.Join(e.dir, "."+n.TransactionID+".part"), []byte("%PDF-half"), 0o600); err != nil {
		t.Fatal(err)
	}
	pdf := gateway.AddReceipt(n.Infraction)
	if err := e.save(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if got := names(t, e.dir); len(got) != 1 {
		t.Errorf("the folder holds %v", got)
	}
	if !bytes.Equal([]byte(e.read(t, &n.Infraction)), pdf) {
		t.Error("another receipt")
	}
}
