package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/pixmed-go/pixmed/pixmedtest"
)

// settings is an environment.
func settings(gateway *pixmedtest.Gateway, database, receipts string) map[string]string {
	return map[string]string{
		"PIXMED_LISTEN": "127.0.0.1:0", "PIXMED_ADMIN": "127.0.0.1:0", "PIXMED_DRAIN": "0s",
		"PIXMED_DB": database, "PIXMED_RECEIPTS": receipts, "PIXMED_GATEWAY": gateway.URL(),
		"PIXMED_WEBHOOK_SECRETS": olderSecret + " " + webhookSecret, "PIXMED_ACKNOWLEDGE_OTHER_EVENTS": "true",
		"PIXMED_GATEWAY_KEY": gatewayKeyText, "PIXMED_GATEWAY_SECRET": gatewayPass,
		"PIXMED_OPS_PASSWORD": opsPass,
	}
}

// server is a run of the program.
type server struct {
	webhook, admin string // base URLs
	log            *lockedBuffer
	stop           context.CancelFunc
	kill           func() // for a process of its own
	ended          chan error
}

func start(t *testing.T, env map[string]string) *server {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &server{log: &lockedBuffer{}, stop: cancel, ended: make(chan error, 1)}
	listening := make(chan struct{})
	p := &process{in: strings.NewReader(""), out: s.log, err: s.log, env: env, keep: time.Millisecond, listening: func(webhook, admin net.Addr) {
		s.webhook, s.admin = "http://"+webhook.String(), "http://"+admin.String()
		close(listening)
	}}
	go func() {
		var err error
		if code := run(ctx, []string{"serve"}, p); code != exitOK {
			err = fmt.Errorf("exit code %d", code)
		}
		s.ended <- err
	}()
	select {
	case <-listening:
	case err := <-s.ended:
		t.Fatalf("it ended: %v: %s", err, s.log.String())
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
	for _, canary := range canaries {
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

// await asks again and again until what is served holds all the texts at a time.
func await(t *testing.T, url string, want ...string) {
	t.Helper()
	awaitUntil(t, url, fmt.Sprintf("%q", want), func(text string) bool {
		return !slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(text, w) })
	})
}

// awaitSome waits until a metric is not zero.
func awaitSome(t *testing.T, admin, metric string) {
	t.Helper()
	some := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(metric) + ` [1-9]`)
	awaitUntil(t, admin+"/metrics", metric, some.MatchString)
}

func awaitUntil(t *testing.T, url, what string, good func(string) bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	patience := time.After(2 * time.Minute)
	for last := ""; ; {
		_, last = get(t, http.DefaultClient, http.MethodGet, url, "")
		if good(last) {
			return
		}
		select {
		case <-tick.C:
		case <-patience:
			t.Fatalf("%s never had %s: %s", url, what, last)
		case <-t.Context().Done():
			t.Fatalf("%s has no %s: %s", url, what, last)
		}
	}
}

// awaitDone waits until so many notifications are done, and all their receipts are
// fetched or given up.
func awaitDone(t *testing.T, admin string, n int) {
	t.Helper()
	await(t, admin+"/metrics", fmt.Sprintf("pixmed_inbox_notifications{state=\"done\"} %d\n", n), `pixmed_receipts{state="pending"} 0`)
}

// A download that fails is tried again, also by the next process, and the receipt
// lies under the transaction id.
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
			awaitSome(t, s.admin, `pixmed_receipt_downloads_total{result="failed"}`)
			s.end(t)

			gateway.FailAlways(pixmedtest.Fault{})
			s = start(t, env)
			awaitDone(t, s.admin, 1)
			got, err := os.ReadFile(filepath.Join(dir, i.TransactionID+".pdf"))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("the receipt has %d bytes, want %d: %v", len(got), len(want), err)
			}
			if attempts, err := gateway.Deliver(t.Context(), s.webhook+webhookPath, i); err != nil || len(attempts) != 1 {
				t.Errorf("the duplicate: %v, %v", attempts, err)
			}
			_, page := get(t, http.DefaultClient, http.MethodGet, s.admin+"/ops/case/"+i.TransactionID, opsPass)
			if link := regexp.MustCompile(`"\.\./(case/[^"]+/receipt)"`).FindStringSubmatch(page); link == nil {
				t.Errorf("no receipt is on the operations page:\n%s", page)
			} else if _, pdf := get(t, http.DefaultClient, http.MethodGet, s.admin+"/ops/"+link[1], opsPass); pdf != string(want) {
				t.Errorf("the operations page has a receipt of %d bytes, want %d", len(pdf), len(want))
			}
			for _, line := range []string{
				`pixmed_webhook_requests_total{result="duplicate"} 1`, `pixmed_receipt_downloads_total{result="saved"} 1`,
				`pixmed_inbox_oldest_pending_seconds 0`, `pixmed_webhook_duration_seconds_count 1`,
				`pixmed_receipts{state="dead"} 0`, `pixmed_receipts_oldest_pending_seconds 0`,
			} {
				await(t, s.admin+"/metrics", line)
			}
			s.end(t)
		})
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for name, database := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gateway := newGateway(t)
			s := start(t, settings(gateway, database(t), t.TempDir()))
			await(t, s.admin+"/readyz", "ready\n")
			for _, test := range []struct {
				method, url, password string
				status                int
			}{
				{http.MethodGet, s.admin + "/healthz", "", http.StatusOK},
				{http.MethodGet, s.admin + "/metrics", "", http.StatusOK},
				{http.MethodGet, s.webhook + webhookPath, "", http.StatusMethodNotAllowed},
				{http.MethodPost, s.webhook + webhookPath, "", http.StatusUnauthorized},
				{http.MethodGet, s.webhook + "/metrics", "", http.StatusNotFound},
				{http.MethodGet, s.webhook + "/ops/", opsPass, http.StatusNotFound},
				{http.MethodPost, s.admin + webhookPath, "", http.StatusNotFound},
				{http.MethodGet, s.admin + "/ops/", "", http.StatusUnauthorized},
				{http.MethodGet, s.admin + "/ops/", "wrong password", http.StatusUnauthorized},
				{http.MethodGet, s.admin + "/ops/", opsPass, http.StatusOK},
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
			await(t, s.admin+"/metrics", "pixmed_ops_failed_logins_total 1")
			s.end(t)
		})
	}
}

// What proves a request is what --verify says, for the server and for pixmed send
// alike.
func TestServeVerifies(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		env       map[string]string
		forwarded string // of X-Forwarded-For
	}{
		"none":         {map[string]string{"PIXMED_VERIFY": "none"}, ""},
		"query":        {map[string]string{"PIXMED_VERIFY": "query", "PIXMED_WEBHOOK_QUERY_SECRETS": webhookSecret}, ""},
		"basic":        {map[string]string{"PIXMED_VERIFY": "basic", "PIXMED_WEBHOOK_PASSWORDS": webhookSecret}, ""},
		"hmac":         {map[string]string{"PIXMED_VERIFY": "hmac", "PIXMED_WEBHOOK_HMAC_SECRETS": webhookSecret, "PIXMED_WEBHOOK_HMAC_PREFIX": "sha256="}, ""},
		"both":         {map[string]string{"PIXMED_VERIFY": "header+hmac", "PIXMED_WEBHOOK_SECRETS": olderSecret, "PIXMED_WEBHOOK_HMAC_SECRETS": webhookSecret}, ""},
		"alternatives": {map[string]string{"PIXMED_VERIFY": "header,hmac", "PIXMED_WEBHOOK_SECRETS": olderSecret, "PIXMED_WEBHOOK_HMAC_SECRETS": webhookSecret}, ""},
		"network":      {map[string]string{"PIXMED_VERIFY": "networks", "PIXMED_NETWORKS": "127.0.0.0/8"}, ""},
		"proxy":        {map[string]string{"PIXMED_VERIFY": "header+networks", "PIXMED_WEBHOOK_SECRETS": olderSecret, "PIXMED_NETWORKS": "203.0.113.7", "PIXMED_TRUSTED_PROXIES": "127.0.0.1"}, "203.0.113.7"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := settings(newGateway(t), filepath.Join(t.TempDir(), "inbox.db"), t.TempDir())
			delete(env, "PIXMED_WEBHOOK_SECRETS")
			maps.Copy(env, test.env)
			s := start(t, env)
			target, err := url.Parse(s.webhook)
			if err != nil {
				t.Fatal(err)
			}
			proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(target)
				if test.forwarded != "" {
					r.Out.Header.Set("X-Forwarded-For", test.forwarded)
				}
			}})
			t.Cleanup(proxy.Close)
			for url, want := range map[string]int{proxy.URL: exitOK, s.webhook: map[bool]int{true: exitOK, false: exitRefused}[test.forwarded == ""]} {
				if got := try(t, env, "send", url+webhookPath); got.code != want {
					t.Errorf("%s: %+v, want code %d", url, got, want)
				}
			}
			// And without any proof.
			got := try(t, map[string]string{"PIXMED_VERIFY": "none"}, "send", s.webhook+webhookPath)
			if open := name == "none" || name == "network"; (got.code == exitOK) != open || (got.code == exitRefused) == open {
				t.Errorf("without proof: %+v", got)
			}
			s.end(t)
		})
	}
}

// Other events are refused, so that the gateway sends them where they are handled,
// unless it is said that they are handled.
func TestServeOtherEvents(t *testing.T) {
	t.Parallel()
	gateway := newGateway(t)
	env := settings(gateway, filepath.Join(t.TempDir(), "inbox.db"), t.TempDir())
	delete(env, "PIXMED_ACKNOWLEDGE_OTHER_EVENTS")
	env["PIXMED_LOG_FORMAT"] = "text"
	withoutGateway(env)
	s := start(t, env)
	if a := gateway.Post(t.Context(), s.webhook+webhookPath, []byte(`{"transactionStatus":"PAID"}`)); a.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("%v", a)
	}
	if _, err := gateway.Deliver(t.Context(), s.webhook+webhookPath, pixmedtest.NewInfraction()); err != nil {
		t.Error(err)
	}
	await(t, s.admin+"/metrics", `pixmed_inbox_notifications{state="done"} 1`)
	s.end(t)
	contains(t, s.log.String(), "level=WARN", "notifications are stored, and nothing is done about them: set --forward, --gateway or both", `level=INFO msg="pixmed: stopped"`)
}

// An address that is taken, or a database that another process has, ends the command
// with what is wrong.
func TestServeCannot(t *testing.T) {
	t.Parallel()
	gateway, db := newGateway(t), filepath.Join(t.TempDir(), "inbox.db")
	env := settings(gateway, db, t.TempDir())
	s := start(t, env)
	if got := try(t, env, "serve"); got.code != exitFailed || !strings.Contains(got.err, strings.TrimSuffix(db, ".db")+"-receipts.db is open in another process") {
		t.Errorf("the same file: %+v", got)
	}
	env["PIXMED_DB"], env["PIXMED_LISTEN"] = filepath.Join(t.TempDir(), "another.db"), strings.TrimPrefix(s.webhook, "http://")
	if got := try(t, env, "serve"); got.code != exitFailed || !strings.Contains(got.err, "listen tcp ") {
		t.Errorf("the same address: %+v", got)
	}
	env["PIXMED_DB"] = "postgres://u:" + webhookSecret + "@127.0.0.1:1/db"
	if got := try(t, env, "serve"); got.code != exitFailed || !strings.Contains(got.err, "refused") {
		t.Errorf("no server: %+v", got)
	}
	s.end(t)
}

// While it drains it is not ready and still accepts; nothing is lost.
func TestShutdown(t *testing.T) {
	t.Parallel()
	gateway := newGateway(t)
	i := pixmedtest.NewInfraction()
	gateway.AddReceipt(i)
	env := settings(gateway, filepath.Join(t.TempDir(), "inbox.db"), t.TempDir())
	env["PIXMED_DRAIN"] = "1"
	s := start(t, env)
	s.stop()
	await(t, s.admin+"/readyz", "draining")
	if _, err := gateway.Deliver(t.Context(), s.webhook+webhookPath, i); err != nil {
		t.Error(err)
	}
	s.end(t)
	// If its callback had no time to begin, the next process calls it.
	s = start(t, env)
	awaitDone(t, s.admin, 1)
	s.end(t)
	if _, err := os.Stat(filepath.Join(env["PIXMED_RECEIPTS"], i.TransactionID+".pdf")); err != nil {
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
			application := newApplication(t)
			env["PIXMED_FORWARD"], env["PIXMED_FORWARD_SECRETS"] = application.url, forwardSecret
			v := newTestValues(t, env, nil, slices.Concat(proofSettings, serveSettings, gatewaySettings, databaseSettings)...)
			c := readConfig(v)
			if err := v.err(); err != nil {
				t.Fatal(err)
			}
			exporter := tracetest.NewInMemoryExporter()
			traces := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
			s, err := newService(t.Context(), c, slog.New(slog.DiscardHandler), traces, time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.start(t.Context()); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			webhook, admin, served := make(chan string, 1), make(chan string, 1), make(chan error, 1)
			go func() { served <- s.serve(ctx, c, func(w, a net.Addr) { webhook <- w.String(); admin <- a.String() }) }()
			if _, err := gateway.Deliver(t.Context(), "http://"+<-webhook+webhookPath, i); err != nil {
				t.Fatal(err)
			}
			awaitDone(t, "http://"+<-admin, 1)
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
				"HTTP POST":           {"infraction callback", trace.SpanKindClient},
				"receipt":             {"infraction callback", trace.SpanKindConsumer},
				"HTTP GET":            {"receipt", trace.SpanKindClient},
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
			if got := application.requests(); len(got) != 1 || !strings.Contains(got[0].header.Get("Traceparent"), spans[0].SpanContext.TraceID().String()) {
				t.Errorf("the application is not told of the trace: %v", got)
			}
		})
	}
}

const webhookPath = "/webhooks/infraction"

// The webhook and what is for operators are served over https where they have a
// certificate, and each has its own.
func TestServeTLS(t *testing.T) {
	t.Parallel()
	cert, key, pool := selfSigned(t)
	adminCert, adminKey, adminPool := selfSigned(t)
	gateway := newGateway(t)
	env := settings(gateway, filepath.Join(t.TempDir(), "inbox.db"), t.TempDir())
	env["PIXMED_TLS_CERT"], env["PIXMED_TLS_KEY"] = cert, key
	env["PIXMED_ADMIN_TLS_CERT"], env["PIXMED_ADMIN_TLS_KEY"] = adminCert, adminKey
	s := start(t, env)
	for url, pool := range map[string]*x509.CertPool{s.webhook + webhookPath: pool, s.admin + "/readyz": adminPool} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}}
		status, body := get(t, &http.Client{Transport: transport}, http.MethodGet, strings.Replace(url, "http:", "https:", 1), "")
		if status != http.StatusOK && status != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d: %s", url, status, body)
		}
		transport.CloseIdleConnections()
	}
	s.end(t)
}
