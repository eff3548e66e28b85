package webhook_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-github/v92/github"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stripe/stripe-go/v85"
	stripewebhook "github.com/stripe/stripe-go/v85/webhook"

	"github.com/pixmed-go/pixmed"
)

const (
	secret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	bodyLimit = pixmed.DefaultBodyLimit
)

// A peer is a handler as a user of a library would write it, with a request for it.
type peer struct {
	name    string
	handler http.Handler
	body    []byte
	sign    func(body []byte, h http.Header)
}

// peers returns the handlers, for bodies of the given size; 0 means the sample.
func peers(tb testing.TB, size int) []peer {
	tb.Helper()
	ours, event, ping := sample, []byte(nil), []byte(nil)
	if size > 0 {
		ours = infraction(tb, size)
	}
	event, ping = stripeEvent(tb, stripe.APIVersion, len(ours)), githubEvent(tb, len(ours))
	standard, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		tb.Fatal(err)
	}
	return []peer{
		{"pixmed", ourHandler(tb), ours, signHex},
		{"by-hand", handlerFunc(byHand), ours, signHex},
		{"standard-webhooks", handlerFunc(func(r *http.Request) error { return withStandardWebhooks(standard, r) }), ours, signStandard(tb, standard)},
		{"stripe-go", handlerFunc(withStripe), event, signStripe},
		{"go-github", handlerFunc(withGitHub), ping, signHex},
		{"limit-read", handlerFunc(readOnly), ours, signHex},
		{"limit-hmac", handlerFunc(readAndVerify), ours, signHex},
	}
}

const signatureHeader = "X-Hub-Signature-256"

// ourHandler returns the SDK's handler, with a callback that does nothing.
func ourHandler(tb testing.TB) http.Handler {
	tb.Helper()
	h, err := pixmed.NewHandler(
		pixmed.ReceiverFunc(func(context.Context, *pixmed.Notification) error { return nil }),
		pixmed.WithVerifier(pixmed.HMACSHA256(signatureHeader, "sha256=", secret)),
		pixmed.WithLogger(slog.New(slog.DiscardHandler)),
	)
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

// handlerFunc is the smallest handler around the rest.
type handlerFunc func(*http.Request) error

func (f handlerFunc) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, bodyLimit)
	if err := f(r); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusOK)
}

var errSignature = errors.New("the signature is wrong")

// readAndVerify is what every handler that checks a signature does.
func readAndVerify(r *http.Request) error {
	_, err := verified(r)
	return err
}

func verified(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal([]byte("sha256="+hex.EncodeToString(sum(body))), []byte(r.Header.Get(signatureHeader))) {
		return nil, errSignature
	}
	return body, nil
}

func readOnly(r *http.Request) error {
	_, err := io.ReadAll(r.Body)
	return err
}

// byHand is the standard library alone.
func byHand(r *http.Request) error {
	body, err := verified(r)
	if err != nil {
		return err
	}
	return dispatch(body)
}

// dispatch decodes a notification and takes care of it.
func dispatch(body []byte) error {
	var i pixmed.Infraction
	if err := json.Unmarshal(body, &i); err != nil {
		return err
	}
	switch i.MEDStatus {
	case pixmed.Acknowledged, pixmed.Cancelled, pixmed.Debited:
		return nil
	default:
		return fmt.Errorf("the status is %q", i.MEDStatus)
	}
}

func withStandardWebhooks(wh *standardwebhooks.Webhook, r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if err := wh.Verify(body, r.Header); err != nil {
		return err
	}
	return dispatch(body)
}

func withStripe(r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	event, err := stripewebhook.ConstructEvent(body, r.Header.Get("Stripe-Signature"), secret)
	if err != nil {
		return err
	}
	if event.Type != stripe.EventTypeChargeDisputeCreated {
		return fmt.Errorf("the type is %q", event.Type)
	}
	return nil
}

func withGitHub(r *http.Request) error {
	body, err := github.ValidatePayload(r, []byte(secret))
	if err != nil {
		return err
	}
	event, err := github.ParseWebHook("ping", body)
	if err != nil {
		return err
	}
	if _, ok := event.(*github.PingEvent); !ok {
		return fmt.Errorf("the event is %T", event)
	}
	return nil
}

func sum(body []byte) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return mac.Sum(nil)
}

func signHex(body []byte, h http.Header) {
	h.Set("Content-Type", "application/json")
	h.Set(signatureHeader, "sha256="+hex.EncodeToString(sum(body)))
}

func signStripe(body []byte, h http.Header) {
	now := time.Now()
	h.Set("Stripe-Signature", "t="+strconv.FormatInt(now.Unix(), 10)+",v1="+hex.EncodeToString(stripewebhook.ComputeSignature(now, body, secret)))
}

func signStandard(tb testing.TB, wh *standardwebhooks.Webhook) func([]byte, http.Header) {
	tb.Helper()
	return func(body []byte, h http.Header) {
		now := time.Now()
		signature, err := wh.Sign("msg_1", now, body)
		if err != nil {
			tb.Fatal(err)
		}
		h.Set("Webhook-Id", "msg_1")
		h.Set("Webhook-Timestamp", strconv.FormatInt(now.Unix(), 10))
		h.Set("Webhook-Signature", signature)
	}
}

// requests returns the same request again and again, so that only the handler
// allocates.
type requests struct {
	http.Request
	body bytes.Reader
	peer peer
}

func (p peer) requests(tb testing.TB) *requests {
	tb.Helper()
	r, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, "/webhooks/infraction", nil)
	if err != nil {
		tb.Fatal(err)
	}
	p.sign(p.body, r.Header)
	r.ContentLength = int64(len(p.body))
	return &requests{Request: *r, peer: p}
}

// serve has the handler answer a request.
func (r *requests) serve(w *response) {
	r.body.Reset(r.peer.body)
	r.Body = io.NopCloser(&r.body)
	clear(w.header)
	w.status = 0
	r.peer.handler.ServeHTTP(w, &r.Request)
}

// response is a reusable http.ResponseWriter. Like a server's, it accepts a read
// deadline from [http.ResponseController].
type response struct {
	header http.Header
	status int
}

func newResponse() *response { return &response{header: make(http.Header)} }

func (w *response) SetReadDeadline(time.Time) error { return nil }

func (w *response) Header() http.Header         { return w.header }
func (w *response) WriteHeader(status int)      { w.status = status }
func (w *response) Write(p []byte) (int, error) { return len(p), nil }

// Each handler must do its work: accept a right request, and refuse another
// signature.
func TestPeers(t *testing.T) {
	t.Parallel()
	for _, size := range append([]int{0}, sizes...) {
		for _, p := range peers(t, size) {
			t.Run(fmt.Sprintf("%d/%s", size, p.name), func(t *testing.T) {
				t.Parallel()
				r, w := p.requests(t), newResponse()
				for range 2 {
					if r.serve(w); w.status != http.StatusOK {
						t.Fatalf("the answer is %d", w.status)
					}
				}
				for name, values := range r.Header {
					for i, v := range values {
						r.Header[name][i] = flip(v)
					}
				}
				r.serve(w)
				if refused := w.status != http.StatusOK; refused != (p.name != "limit-read") {
					t.Errorf("with a wrong signature: %d", w.status)
				}
			})
		}
	}
}

// flip changes a header's value to another of the same form.
func flip(value string) string {
	if decoded, err := base64.StdEncoding.DecodeString(value); err == nil && len(decoded) > 0 {
		decoded[0]++
		return base64.StdEncoding.EncodeToString(decoded)
	}
	last := value[len(value)-1]
	return value[:len(value)-1] + string(last^1)
}
