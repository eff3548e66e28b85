// Package embedtest tests a server in which pixmed's handler is embedded, over a
// real socket.
package embedtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// Receive is what a server must call with a tenant's notification.
type Receive = func(ctx context.Context, tenant string, n *pixmed.Notification) error

// Serve starts a server on a listener. Its webhook, with a secret in the header
// X-Webhook-Secret, is /tenants/{tenant}/webhooks/infraction; /healthz is another
// route. No request may have more than 1 MiB.
type Serve func(l net.Listener, secrets []string, receive Receive) (stop func(context.Context) error, err error)

const secret = "embedded-secret"

// call is one call of the callback.
type call struct {
	tenant string
	n      *pixmed.Notification
	err    error // of its context
}

// Run tests a server.
func Run(t *testing.T, serve Serve) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	calls := make(chan call, 10)
	stop, err := serve(listener, []string{secret}, func(ctx context.Context, tenant string, n *pixmed.Notification) error {
		calls <- call{tenant, n, ctx.Err()}
		switch n.MEDStatus {
		case pixmed.Cancelled:
			return errors.New("not now")
		case pixmed.Debited:
			panic("the callback panics")
		default:
			return nil
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})

	base := "http://" + listener.Addr().String()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	do := func(r *http.Request) (int, string) {
		t.Helper()
		response, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(body)
	}
	webhook := func(body []byte, withSecret string) *http.Request {
		r := pixmedtest.NewRequest(base+"/tenants/loja-7/webhooks/infraction", body, pixmedtest.HeaderSecret("X-Webhook-Secret", withSecret))
		r.RequestURI = "" // that is a server's, and this is a client
		return r.WithContext(t.Context())
	}
	payload := func(status pixmed.MEDStatus) []byte {
		return pixmedtest.Payload(pixmedtest.NewInfraction(func(i *pixmed.Infraction) { i.MEDStatus = status }))
	}

	for _, test := range []struct {
		name   string
		body   []byte
		secret string
		want   int
		text   string // in the answer
		called bool
	}{
		{"a notification", payload(pixmed.Acknowledged), secret, http.StatusOK, "", true},
		{"a wrong secret", payload(pixmed.Acknowledged), "wrong", http.StatusUnauthorized, "", false},
		{"an error", payload(pixmed.Cancelled), secret, http.StatusInternalServerError, `"status":500`, true},
		{"a panic", payload(pixmed.Debited), secret, http.StatusInternalServerError, `"status":500`, true},
		{"no JSON", []byte("{"), secret, http.StatusBadRequest, "Malformed", false},
		{"more than pixmed takes", bytes.Repeat([]byte(" "), 100<<10), secret, http.StatusRequestEntityTooLarge, "", false},
		{"another notification", payload(pixmed.Acknowledged), secret, http.StatusOK, "", true},
	} {
		status, body := do(webhook(test.body, test.secret))
		if status != test.want || !strings.Contains(body, test.text) {
			t.Errorf("%s: %d, want %d: %s", test.name, status, test.want, body)
		}
		select {
		case c := <-calls:
			if !test.called || c.tenant != "loja-7" || c.err != nil || !bytes.Equal(c.n.Raw, test.body) {
				t.Errorf("%s: the callback was called with tenant %q, %v, a context with %v", test.name, c.tenant, c.n, c.err)
			}
		default:
			if test.called {
				t.Errorf("%s: the callback was not called", test.name)
			}
		}
	}

	// The framework's own limit, which may break the connection.
	big := webhook(bytes.Repeat([]byte(" "), 2<<20), secret)
	if response, err := transport.RoundTrip(big); err == nil {
		_ = response.Body.Close()
		if response.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("2 MiB: %d", response.StatusCode)
		}
	}
	if len(calls) > 0 {
		t.Error("2 MiB: the callback was called")
	}

	health, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	if status, body := do(health); status != http.StatusOK || !strings.Contains(body, "ok") {
		t.Errorf("the other route: %d, %s", status, body)
	}
}
