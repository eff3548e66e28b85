package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/examples/internal/testpg"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

const (
	secret      = "the-webhook-secret"
	apiKey      = "the-api-key"
	apiSecret   = "the-api-secret"
	opsPassword = "correct horse battery"
)

func newGateway(t *testing.T) *pixmedtest.Gateway {
	t.Helper()
	gateway := pixmedtest.NewGateway(
		pixmedtest.WithCredential("api_key", apiKey), pixmedtest.WithCredential("api_secret", apiSecret),
		pixmedtest.WithSigner(pixmedtest.HeaderSecret("X-Webhook-Secret", secret)))
	t.Cleanup(gateway.Close)
	return gateway
}

// settings is an environment.
func settings(gateway *pixmedtest.Gateway, database, receipts string) map[string]string {
	return map[string]string{
		"PIXMED_LISTEN": "127.0.0.1:0", "PIXMED_ADMIN": "127.0.0.1:0", "PIXMED_DRAIN": "0s",
		"PIXMED_DATABASE": database, "PIXMED_RECEIPTS": receipts, "PIXMED_GATEWAY": gateway.URL(),
		"PIXMED_WEBHOOK_SECRETS": "an-older-one " + secret,
		"PIXMED_GATEWAY_KEY":     apiKey, "PIXMED_GATEWAY_SECRET": apiSecret,
		"PIXMED_OPS_PASSWORD": opsPassword,
	}
}

// server is a run of the program.
type server struct {
	webhook, admin string // base URLs
	log            *lockedBuffer
	stop           context.CancelFunc
	ended          chan error
}

func start(t *testing.T, env map[string]string) *server {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &server{log: &lockedBuffer{}, stop: cancel, ended: make(chan error, 1)}
	listening := make(chan struct{})
	go func() {
		s.ended <- run(ctx, nil, func(name string) string { return env[name] }, s.log, func(webhook, admin net.Addr) {
			s.webhook, s.admin = "http://"+webhook.String(), "http://"+admin.String()
			close(listening)
		})
	}()
	select {
	case <-listening:
	case err := <-s.ended:
		t.Fatalf("it ended: %v", err)
	}
	t.Cleanup(func() {
		cancel()
		if t.Failed() {
			t.Log(s.log.String())
		}
	})
	return s
}

// end stops the server as a signal does, and waits for it.
func (s *server) end(t *testing.T) {
	t.Helper()
	s.stop()
	if err := <-s.ended; err != nil {
		t.Errorf("run: %v", err)
	}
	for _, canary := range []string{secret, apiKey, apiSecret, opsPassword} {
		if strings.Contains(s.log.String(), canary) {
			t.Errorf("the log holds %q", canary)
		}
	}
}

func get(t *testing.T, client *http.Client, method, url, password string) (status int, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if password != "" {
		r.SetBasicAuth("ops", password)
	}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(b)
}

// await asks again and again until what is served holds the text.
func await(t *testing.T, url, want string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for last := ""; ; {
		_, last = get(t, http.DefaultClient, http.MethodGet, url, "")
		if strings.Contains(last, want) {
			return
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatalf("%s has no %q: %s", url, want, last)
		}
	}
}

// databases are where an inbox may be.
func databases() map[string]func(testing.TB) string {
	return map[string]func(testing.TB) string{
		"sqlite":   func(tb testing.TB) string { return filepath.Join(tb.TempDir(), "inbox.db") }, //nolint:thelper // it cannot fail
		"postgres": testpg.URL,
	}
}

// A download that fails is tried again, also by the next process, and the receipt
// lies under the end-to-end id.
func TestReceiptIsSaved(t *testing.T) {
	t.Parallel()
	for name, database := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gateway, dir := newGateway(t), t.TempDir()
			i := pixmedtest.NewInfraction()
			want := gateway.AddReceipt(i)
			gateway.FailAlways(pixmedtest.Fault{Status: http.StatusServiceUnavailable})
			env := settings(gateway, database(t), dir)
			s := start(t, env)
			if _, err := gateway.Deliver(t.Context(), s.webhook+webhookPath, i); err != nil {
				t.Fatal(err)
			}
			await(t, s.admin+"/metrics", `pixmed_receipt_downloads_total{result="failed"} 1`)
			s.end(t)

			gateway.FailAlways(pixmedtest.Fault{})
			s = start(t, env)
			await(t, s.admin+"/metrics", `pixmed_inbox_notifications{state="done"} 1`)
			got, err := os.ReadFile(filepath.Join(dir, string(i.EndToEndID)+".pdf"))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("the receipt has %d bytes, want %d: %v", len(got), len(want), err)
			}
			if attempts, err := gateway.Deliver(t.Context(), s.webhook+webhookPath, i); err != nil || len(attempts) != 1 {
				t.Errorf("the duplicate: %v, %v", attempts, err)
			}
			_, page := get(t, http.DefaultClient, http.MethodGet, s.admin+"/ops/case/"+i.TransactionID, opsPassword)
			if link := regexp.MustCompile(`"\.\./(event/[^"]+/receipt)"`).FindStringSubmatch(page); link == nil {
				t.Errorf("no receipt is on the operations page:\n%s", page)
			} else if _, pdf := get(t, http.DefaultClient, http.MethodGet, s.admin+"/ops/"+link[1], opsPassword); pdf != string(want) {
				t.Errorf("the operations page has a receipt of %d bytes, want %d", len(pdf), len(want))
			}
			for _, line := range []string{
				`pixmed_webhook_requests_total{result="duplicate"} 1`, `pixmed_receipt_downloads_total{result="saved"} 1`,
				`pixmed_inbox_attempts_total{result="done"} 1`, `pixmed_inbox_oldest_pending_seconds 0`,
				`pixmed_webhook_duration_seconds_count 1`, `pixmed_inbox_attempt_duration_seconds_count 1`,
			} {
				await(t, s.admin+"/metrics", line)
			}
			s.end(t)
		})
	}
}

// Where there is no end-to-end id, or none to make a file's name of, the
// transaction id is the name.
func TestPath(t *testing.T) {
	t.Parallel()
	r := &receipts{dir: "dir"}
	for id, want := range map[pixmed.EndToEndID]string{
		"E9040088820260301120000000000001": "E9040088820260301120000000000001.pdf",
		"":                                 "b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5.pdf",
		"../../../../etc/cron.d/x":         "b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5.pdf",
	} {
		got := r.path(&pixmed.Infraction{TransactionID: "B6E0EE4E-b3a3-4042-ac4d-fba92ebd96a5", EndToEndID: id})
		if got != filepath.Join("dir", want) {
			t.Errorf("%q: %s, want %s", id, got, want)
		}
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for name, database := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gateway := newGateway(t)
			s := start(t, settings(gateway, database(t), t.TempDir()))
			for _, test := range []struct {
				method, url, password string
				status                int
			}{
				{http.MethodGet, s.admin + "/healthz", "", http.StatusOK},
				{http.MethodGet, s.admin + "/readyz", "", http.StatusOK},
				{http.MethodGet, s.admin + "/metrics", "", http.StatusOK},
				{http.MethodGet, s.webhook + webhookPath, "", http.StatusMethodNotAllowed},
				{http.MethodPost, s.webhook + webhookPath, "", http.StatusUnauthorized},
				{http.MethodGet, s.webhook + "/metrics", "", http.StatusNotFound},
				{http.MethodGet, s.webhook + "/ops/", opsPassword, http.StatusNotFound},
				{http.MethodPost, s.admin + webhookPath, "", http.StatusNotFound},
				{http.MethodGet, s.admin + "/ops/", "", http.StatusUnauthorized},
				{http.MethodGet, s.admin + "/ops/", "wrong password", http.StatusUnauthorized},
				{http.MethodGet, s.admin + "/ops/", opsPassword, http.StatusOK},
			} {
				if got, body := get(t, http.DefaultClient, test.method, test.url, test.password); got != test.status {
					t.Errorf("%s %s: %d, want %d: %.200s", test.method, test.url, got, test.status, body)
				}
			}
			// What is not valid is kept, and other events are acknowledged.
			if a := gateway.Post(t.Context(), s.webhook+webhookPath, []byte("{")); a.StatusCode != http.StatusOK {
				t.Errorf("an invalid body: %v", a)
			}
			if a := gateway.Post(t.Context(), s.webhook+webhookPath, []byte(`{"transactionStatus":"PAID"}`)); a.StatusCode != http.StatusOK {
				t.Errorf("another event: %v", a)
			}
			await(t, s.admin+"/metrics", `pixmed_inbox_notifications{state="quarantined"} 1`)
			s.end(t)
		})
	}
}

// While it drains it is not ready and still accepts; nothing is lost.
func TestShutdown(t *testing.T) {
	t.Parallel()
	gateway := newGateway(t)
	i := pixmedtest.NewInfraction()
	gateway.AddReceipt(i)
	env := settings(gateway, filepath.Join(t.TempDir(), "inbox.db"), t.TempDir())
	env["PIXMED_DRAIN"] = "2s"
	s := start(t, env)
	s.stop()
	await(t, s.admin+"/readyz", "draining")
	if _, err := gateway.Deliver(t.Context(), s.webhook+webhookPath, i); err != nil {
		t.Error(err)
	}
	s.end(t)
	// If its callback had no time to begin, the next process calls it.
	s = start(t, env)
	await(t, s.admin+"/metrics", `pixmed_inbox_notifications{state="done"} 1`)
	s.end(t)
	if _, err := os.Stat(filepath.Join(env["PIXMED_RECEIPTS"], string(i.EndToEndID)+".pdf")); err != nil {
		t.Error(err)
	}
}

// One trace leads from the webhook through the inbox to the download.
func TestTrace(t *testing.T) {
	t.Parallel()
	for name, database := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gateway := newGateway(t)
			i := pixmedtest.NewInfraction()
			gateway.AddReceipt(i)
			env := settings(gateway, database(t), t.TempDir())
			c, err := parseConfig(nil, func(name string) string { return env[name] }, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			exporter := tracetest.NewInMemoryExporter()
			traces := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
			s, err := newService(t.Context(), c, slog.New(slog.DiscardHandler), traces)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.inbox.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			webhook, admin, served := make(chan string, 1), make(chan string, 1), make(chan error, 1)
			go func() { served <- s.serve(ctx, c, func(w, a net.Addr) { webhook <- w.String(); admin <- a.String() }) }()
			if _, err := gateway.Deliver(t.Context(), "http://"+<-webhook+webhookPath, i); err != nil {
				t.Fatal(err)
			}
			await(t, "http://"+<-admin+"/metrics", `pixmed_inbox_notifications{state="done"} 1`)
			cancel()
			if err := errors.Join(<-served, s.close(t.Context())); err != nil { // the callback has ended
				t.Fatal(err)
			}
			type span struct {
				Parent string
				Kind   trace.SpanKind
			}
			spans := exporter.GetSpans()
			names := map[trace.SpanID]string{}
			for _, s := range spans {
				names[s.SpanContext.SpanID()] = s.Name
				if s.SpanContext.TraceID() != spans[0].SpanContext.TraceID() {
					t.Errorf("%s is of another trace", s.Name)
				}
			}
			got := map[string]span{}
			for _, s := range spans {
				got[s.Name] = span{names[s.Parent.SpanID()], s.SpanKind}
			}
			want := map[string]span{
				"POST " + webhookPath: {"", trace.SpanKindServer},
				"infraction callback": {"POST " + webhookPath, trace.SpanKindConsumer},
				"HTTP GET":            {"infraction callback", trace.SpanKindClient},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			for _, s := range spans {
				if s.Name == "infraction callback" && !slices.Contains(s.Attributes, attribute.String("pixmed.med_status", "ACKNOWLEDGED")) {
					t.Errorf("the callback's attributes are %v", s.Attributes)
				}
			}
			for _, r := range gateway.Requests() {
				if r.Header.Get("Traceparent") != "" {
					t.Error("the gateway is told of the trace")
				}
			}
		})
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	cert, key, pool := selfSigned(t)
	gateway := newGateway(t)
	env := settings(gateway, filepath.Join(t.TempDir(), "inbox.db"), t.TempDir())
	env["PIXMED_TLS_CERT"], env["PIXMED_TLS_KEY"], env["PIXMED_ADMIN"] = cert, key, ""
	s := start(t, env)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}}
	defer transport.CloseIdleConnections()
	url := strings.Replace(s.webhook, "http:", "https:", 1)
	if status, body := get(t, &http.Client{Transport: transport}, http.MethodGet, url+"/readyz", ""); status != http.StatusOK {
		t.Errorf("%d: %s", status, body)
	}
	transport.CloseIdleConnections()
	s.end(t)
}

func selfSigned(t *testing.T) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	if err := errors.Join(os.WriteFile(certFile, certPEM, 0o600), os.WriteFile(keyFile, keyPEM, 0o600)); err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return certFile, keyFile, pool
}

func TestConfig(t *testing.T) {
	t.Parallel()
	good := map[string]string{
		"PIXMED_WEBHOOK_SECRETS": "a  b", "PIXMED_GATEWAY_KEY": "k", "PIXMED_GATEWAY_SECRET": "s", "PIXMED_GATEWAY": "https://gateway.example",
	}
	for name, test := range map[string]struct {
		args []string
		env  map[string]string // beside the good
		want []string          // in the error
	}{
		"good":         {nil, nil, nil},
		"flags win":    {[]string{"-drain", "1s"}, map[string]string{"PIXMED_DRAIN": "2s"}, nil},
		"an ops page":  {nil, map[string]string{"PIXMED_OPS_PASSWORD": opsPassword}, nil},
		"no argument":  {[]string{"serve"}, nil, []string{`"serve"`}},
		"a bad time":   {nil, map[string]string{"PIXMED_DRAIN": "5"}, []string{"PIXMED_DRAIN"}},
		"another base": {[]string{"-database", "mysql://u:hidden@h/db"}, nil, []string{"URL of mysql"}},
		"all at once": {
			[]string{"-listen", "x", "-admin", "y", "-tls-cert", "/does/not/exist", "-drain", "-1s", "-gateway", "", "-traces", "collector", "-ops-user", "a:b", "-log-level", "loud"},
			map[string]string{"PIXMED_WEBHOOK_SECRETS": " ", "PIXMED_GATEWAY_SECRET": "", "PIXMED_OPS_PASSWORD": "hidden"},
			[]string{
				`-listen: "x"`, `-admin: "y"`, "-tls-cert: open", "one is set without the other", "-drain: -1s", "-gateway is not set",
				"-traces", `-ops-user: "a:b"`, "PIXMED_WEBHOOK_SECRETS is not set", "PIXMED_GATEWAY_SECRET: both", "PIXMED_OPS_PASSWORD has fewer than 12", "-log-level: want",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := parseConfig(test.args, func(name string) string {
				if v, ok := test.env[name]; ok {
					return v
				}
				return good[name]
			}, io.Discard)
			if len(test.want) == 0 {
				if err != nil || len(c.secrets) != 2 || c.listen != ":8080" {
					t.Errorf("%+v, %v", c, err)
				}
				return
			}
			if err == nil {
				t.Fatal("no error")
			}
			if lines := strings.Count(err.Error(), "\n") + 1; lines != len(test.want) {
				t.Errorf("%d lines, want %d: %v", lines, len(test.want), err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in %v", want, err)
				}
			}
			if strings.Contains(err.Error(), "hidden") {
				t.Errorf("a secret is in %v", err)
			}
		})
	}
	if _, err := parseConfig([]string{"-h"}, func(string) string { return "" }, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
}

// lockedBuffer is a log that may be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
