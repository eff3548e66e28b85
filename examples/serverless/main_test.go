package main

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"net/netip"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdaurl"
	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/examples/internal/testpg"
	"github.com/pixmed-go/pixmed/inbox/postgres"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// What Lambda passes on is stored before it is answered, and called back by a
// process elsewhere that opens the same database.
func TestFunctionURL(t *testing.T) {
	t.Parallel()
	url := testpg.URL(t)
	handler, in, err := newHandler(t.Context(), url, []string{"a secret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := in.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	invoke := lambdaurl.Wrap(handler)
	body := func(status pixmed.MEDStatus) string {
		i := pixmedtest.NewInfraction(func(i *pixmed.Infraction) {
			i.TransactionID, i.MEDStatus = "5a94d48d-c9f3-46be-8448-83510ca42bde", status
		})
		return string(pixmedtest.Payload(i))
	}
	for _, tt := range []struct {
		name, body, secret string
		encoded            bool
		want               int
	}{
		{"as text", body(pixmed.Acknowledged), "a secret", false, http.StatusOK},
		{"again", body(pixmed.Acknowledged), "a secret", false, http.StatusOK},
		{"as base64", body(pixmed.Debited), "a secret", true, http.StatusOK},
		{"no secret", body(pixmed.Cancelled), "", false, http.StatusUnauthorized},
		{"invalid, and kept", "{", "a secret", false, http.StatusOK},
		{"empty", "", "a secret", false, http.StatusBadRequest},
	} {
		request := newRequest(tt.body, tt.secret)
		if tt.encoded {
			request.Body, request.IsBase64Encoded = base64.StdEncoding.EncodeToString([]byte(tt.body)), true
		}
		response, err := invoke(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != tt.want {
			t.Errorf("%s: answered %d %s, want %d", tt.name, response.StatusCode, text, tt.want)
		}
	}

	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	called := make(chan pixmed.MEDStatus, 10)
	worker, err := postgres.Open(t.Context(), pool, pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
		called <- n.MEDStatus
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	stats, err := worker.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if stats.Pending != 2 || stats.Quarantined != 1 {
		t.Errorf("stored %d notifications and %d invalid bodies, want 2 and 1", stats.Pending, stats.Quarantined)
	}
	if err := worker.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]pixmed.MEDStatus{pixmed.Acknowledged, pixmed.Debited}, []pixmed.MEDStatus{<-called, <-called}); diff != "" {
		t.Errorf("called back (-want +got):\n%s", diff)
	}
	if err := worker.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// The address that a function URL passes on is the one that ClientNetworks judges.
func TestClientNetworks(t *testing.T) {
	t.Parallel()
	for network, want := range map[string]int{"203.0.113.0/24": http.StatusOK, "198.51.100.0/24": http.StatusUnauthorized} {
		handler, err := pixmed.NewHandler(pixmed.ReceiverFunc(pixmed.Ignore),
			pixmed.WithVerifier(pixmed.ClientNetworks([]netip.Prefix{netip.MustParsePrefix(network)})))
		if err != nil {
			t.Fatal(err)
		}
		response, err := lambdaurl.Wrap(handler)(t.Context(), newRequest(pixmedtest.Sample, ""))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != want {
			t.Errorf("only %s is allowed: answered %d, want %d", network, response.StatusCode, want)
		}
	}
}

// newRequest returns what a function URL hands to the function.
func newRequest(body, secret string) *events.LambdaFunctionURLRequest {
	return &events.LambdaFunctionURLRequest{
		RawPath: "/webhooks/infraction", Body: body,
		Headers: map[string]string{"content-type": "application/json", "x-webhook-secret": secret},
		RequestContext: events.LambdaFunctionURLRequestContext{
			DomainName: "abc.lambda-url.sa-east-1.on.aws",
			HTTP:       events.LambdaFunctionURLRequestContextHTTPDescription{Method: http.MethodPost, SourceIP: "203.0.113.7"},
		},
	}
}

// A mistake in the settings is found when the function starts.
func TestNewHandlerFails(t *testing.T) {
	t.Parallel()
	if _, _, err := newHandler(t.Context(), "postgres://localhost:none/pix", []string{"a secret"}); err == nil {
		t.Error("no error for a port that is none")
	}
	if _, _, err := newHandler(t.Context(), testpg.URL(t), nil); err == nil {
		t.Error("no error without a secret")
	}
}
