package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

func newGateway(t *testing.T) *pixmedtest.Gateway {
	t.Helper()
	gateway := pixmedtest.NewGateway(pixmedtest.WithCredential("api_key", gatewayKeyText), pixmedtest.WithCredential("api_secret", gatewayPass),
		pixmedtest.WithSigner(pixmedtest.HeaderSecret("X-Webhook-Secret", webhookSecret)))
	t.Cleanup(gateway.Close)
	return gateway
}

// addReceipts has the gateway hold n receipts.
func addReceipts(gateway *pixmedtest.Gateway, n int) (ids []string, pdfs [][]byte) {
	for range n {
		i := pixmedtest.NewInfraction(func(i *pixmed.Infraction) { i.TransactionID = uuid.NewString() })
		ids, pdfs = append(ids, i.TransactionID), append(pdfs, gateway.AddReceipt(i))
	}
	return ids, pdfs
}

// gatewayEnv is an environment with the gateway and its credentials.
func gatewayEnv(base string) map[string]string {
	return map[string]string{"PIXMED_GATEWAY": base, "PIXMED_GATEWAY_KEY": gatewayKeyText, "PIXMED_GATEWAY_SECRET": gatewayPass}
}

func tryReceipts(t *testing.T, base, stdin string, terminal bool, args ...string) outcome {
	t.Helper()
	return tryWith(t.Context(), t, &process{in: strings.NewReader(stdin), env: gatewayEnv(base), terminal: terminal}, append([]string{"receipts"}, args...)...)
}

func line(dir, id string, pdf []byte) string {
	sum := sha256.Sum256(pdf)
	return fmt.Sprintf("%s\t%d\t%s\t%s", id, len(pdf), hex.EncodeToString(sum[:]), filepath.Join(dir, id+".pdf"))
}

func sorted(text string) []string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	slices.Sort(lines)
	return lines
}

func names(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// All are saved; a second run fetches what is missing or is not what it was.
func TestResume(t *testing.T) {
	t.Parallel()
	gateway, dir := newGateway(t), filepath.Join(t.TempDir(), "evidence")
	ids, pdfs := addReceipts(gateway, 7)
	stdin := "# ids\n\n" + strings.Join(ids[2:], " # one\n") + "\n" + strings.ToUpper(ids[3]) + "\n"
	args := []string{"--receipts", dir, "--ids", "-", "--parallel", "3", ids[0], ids[1]}
	var want []string
	for i, id := range ids {
		want = append(want, line(dir, id, pdfs[i]))
	}
	slices.Sort(want)

	got := tryReceipts(t, gateway.URL(), stdin, false, args...)
	if diff := cmp.Diff(want, sorted(got.out)); got.code != exitOK || diff != "" || !strings.Contains(got.err, "7 saved, 0 already there, 0 failed") {
		t.Fatalf("%d, %s (-want +got):\n%s", got.code, got.err, diff)
	}
	sums, err := os.ReadFile(filepath.Join(dir, sumsName))
	if err != nil || len(sorted(string(sums))) != 7 {
		t.Errorf("%s, %v", sums, err)
	}
	if n := len(gateway.Requests()); n != 7 {
		t.Errorf("%d requests", n)
	}

	for i, name := range []string{ids[1] + ".pdf", ids[4] + ".pdf"} {
		path := filepath.Join(dir, name)
		if i == 0 {
			err = os.Remove(path)
		} else {
			err = os.WriteFile(path, []byte("%PDF-tampered"), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	got = tryReceipts(t, gateway.URL(), stdin, true, args...)
	if diff := cmp.Diff(want, sorted(got.out)); got.code != exitOK || diff != "" || !strings.Contains(got.err, "2 saved, 5 already there, 0 failed") || !strings.Contains(got.err, "7 of 7 receipts after ") {
		t.Errorf("%d, %s (-want +got):\n%s", got.code, got.err, diff)
	}
	if n := len(gateway.Requests()); n != 9 {
		t.Errorf("%d requests, want 2 more", n)
	}
}

// One that fails does not keep the others.
func TestFailures(t *testing.T) {
	t.Parallel()
	gateway, dir := newGateway(t), t.TempDir()
	ids, _ := addReceipts(gateway, 2)
	none := uuid.NewString()
	got := tryReceipts(t, gateway.URL(), "", false, "--receipts", dir, ids[0], none, ids[1])
	if got.code != exitFailed || !strings.Contains(got.err, none+": failed: ") || !strings.Contains(got.err, "(check the id and --gateway)") ||
		!strings.Contains(got.err, ids[0]+": saved, ") || !strings.Contains(got.err, "2 saved, 0 already there, 1 failed") || len(sorted(got.out)) != 2 {
		t.Errorf("%+v", got)
	}
}

// What no receipt can be had with ends the command at once.
func TestRefused(t *testing.T) {
	t.Parallel()
	gateway := pixmedtest.NewGateway(pixmedtest.WithCredential("api_key", "another"))
	t.Cleanup(gateway.Close)
	ids, _ := addReceipts(gateway, 20)
	got := tryReceipts(t, gateway.URL(), "", false, append([]string{"--receipts", t.TempDir(), "--parallel", "1"}, ids...)...)
	if got.code != exitRefused || got.out != "" || !strings.Contains(got.err, "check the gateway's credentials") || strings.Count(got.err, "failed: ") > 2 {
		t.Errorf("%+v", got)
	}
	if n := len(gateway.Requests()); n > 2 {
		t.Errorf("%d requests", n)
	}
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	gateway, dir := newGateway(t), t.TempDir()
	ids, _ := addReceipts(gateway, 1)
	gateway.FailAlways(pixmedtest.Fault{Stall: true, At: 200})
	target, err := url.Parse(gateway.URL())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.FlushInterval = -1
	proxy.ModifyResponse = func(*http.Response) error { cancel(); return nil } // in the middle of it
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	got := tryWith(ctx, t, &process{in: strings.NewReader(""), env: gatewayEnv(server.URL)}, "receipts", "--receipts", dir, ids[0])
	if got.code != exitInterrupted || !strings.Contains(got.err, "0 saved, 0 already there, 0 failed, 1 not fetched") {
		t.Errorf("%+v", got)
	}
	if left := names(t, dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// No more are under way at a time than -p says.
func TestParallel(t *testing.T) {
	t.Parallel()
	gateway := newGateway(t)
	ids, _ := addReceipts(gateway, 12)
	target, err := url.Parse(gateway.URL())
	if err != nil {
		t.Fatal(err)
	}
	const limit = 3
	var mu sync.Mutex
	var now, most int
	full := make(chan struct{})
	proxy := httputil.NewSingleHostReverseProxy(target)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		now++
		if most = max(most, now); now == limit && most == limit {
			select {
			case <-full:
			default:
				close(full)
			}
		}
		mu.Unlock()
		select {
		case <-full: // there have been as many as there may be
		case <-r.Context().Done():
		}
		proxy.ServeHTTP(w, r)
		mu.Lock()
		now--
		mu.Unlock()
	}))
	t.Cleanup(server.Close)
	got := tryReceipts(t, server.URL, "", false, append([]string{"--receipts", t.TempDir(), "--parallel", fmt.Sprint(limit)}, ids...)...)
	if got.code != exitOK || most != limit {
		t.Errorf("%d at a time, want %d: %+v", most, limit, got)
	}
}

func TestStandardOutput(t *testing.T) {
	t.Parallel()
	gateway := newGateway(t)
	ids, pdfs := addReceipts(gateway, 1)
	if got := tryReceipts(t, gateway.URL(), "", false, "--receipts", "-", ids[0]); got.code != exitOK || got.out != string(pdfs[0]) || got.err != "" {
		t.Errorf("%d, %d bytes, %s", got.code, len(got.out), got.err)
	}
	none := uuid.NewString()
	if got := tryReceipts(t, gateway.URL(), "", false, "--receipts", "-", none); got.code != exitFailed || got.out != "" || !strings.Contains(got.err, none) {
		t.Errorf("%+v", got)
	}
}

func TestReceiptsMistakes(t *testing.T) {
	t.Parallel()
	id, folder := uuid.NewString(), t.TempDir()
	for name, test := range map[string]struct {
		args  []string
		stdin string
		base  string
		code  int
		want  []string
	}{
		"nothing":           {nil, "", "https://x", exitUsage, []string{"no transaction ids"}},
		"bad ids":           {[]string{"--ids", "-", "x", id}, "# all\n" + id + "\n../../etc/passwd\n\x1b[2J\n", "https://x", exitUsage, []string{"argument 1: it is not an id", "standard input, line 3: it is not", "standard input, line 4: it is not"}},
		"no list":           {[]string{"--ids", "/does/not/exist"}, "", "https://x", exitUsage, []string{"--ids: ", "/does/not/exist"}},
		"a folder of ids":   {[]string{"--ids", folder}, "", "https://x", exitUsage, []string{"--ids: ", "it is not a regular file"}},
		"two to -":          {[]string{"--receipts", "-", id, uuid.NewString()}, "", "https://x", exitUsage, []string{"--receipts: - is for a single receipt"}},
		"one dash":          {[]string{"-receipts", "x", id}, "", "https://x", exitUsage, []string{"write --receipts, with two dashes"}},
		"all at once":       {[]string{"--parallel", "0", id, "--timeout", "0s", "--max-size", "none", "--receipts", ""}, "", "", exitUsage, []string{"--parallel: want", "--timeout: want", "--max-size: want", "--receipts: it is empty", "--gateway: it is not set"}},
		"plain http":        {[]string{id}, "", "http://gateway.example", exitUsage, []string{"PIXMED_GATEWAY: http:// would expose", "--gateway-plain-http if you mean it"}},
		"a password":        {[]string{id}, "", "https://u:" + webhookSecret + "@gateway.example", exitUsage, []string{"PIXMED_GATEWAY: it must not contain a user name"}},
		"not a folder":      {[]string{"--receipts", "/dev/null/x", id}, "", "https://x", exitFailed, []string{"/dev/null"}},
		"flags behind both": {[]string{id, "--receipts", folder, "--gateway", "ftp://x"}, "", "", exitUsage, []string{"--gateway: it should look like"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := tryReceipts(t, test.base, test.stdin, false, test.args...)
			if got.code != test.code || got.out != "" || strings.Contains(got.err, "\x1b") {
				t.Errorf("%+v, want %d", got, test.code)
			}
			contains(t, got.err, test.want...)
		})
	}
}

// A line in SHA256SUMS makes no receipt of what is no PDF.
func TestReceiptsSumOfNoPDF(t *testing.T) {
	t.Parallel()
	gateway, dir := newGateway(t), t.TempDir()
	ids, pdfs := addReceipts(gateway, 1)
	page := []byte("<html>Service unavailable")
	sum := sha256.Sum256(page)
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, ids[0]+".pdf"), page, 0o600),
		os.WriteFile(filepath.Join(dir, sumsName), fmt.Appendf(nil, "%x *%s.pdf\nabc  another\n", sum, ids[0]), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	if got := tryReceipts(t, gateway.URL(), "", false, "--receipts", dir, ids[0]); got.code != exitOK || !strings.Contains(got.err, "1 saved, 0 already there") {
		t.Errorf("%+v", got)
	}
	if got, err := os.ReadFile(filepath.Join(dir, ids[0]+".pdf")); err != nil || !bytes.Equal(got, pdfs[0]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, sumsName)); err != nil || !strings.Contains(string(got), "abc  another\n") {
		t.Errorf("another's line is gone: %s, %v", got, err)
	}
	if got := tryReceipts(t, gateway.URL(), "", false, "--receipts", dir, ids[0]); got.code != exitOK || !strings.Contains(got.err, "0 saved, 1 already there") {
		t.Errorf("%+v", got)
	}
}

// While the gateway answers 503 the command says so, on a terminal and elsewhere.
func TestReceiptsProgress(t *testing.T) {
	t.Parallel()
	for name, terminal := range map[string]bool{"terminal": true, "file": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, errs lockedBuffer
			told := make(chan struct{})
			gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusServiceUnavailable)
			}))
			t.Cleanup(gateway.Close)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			p := &process{in: strings.NewReader(""), out: &out, err: &errs, env: gatewayEnv(gateway.URL), terminal: terminal, tick: time.Millisecond}
			go func() {
				defer close(told)
				for !strings.Contains(errs.String(), "0 of 1 receipts after 0s; waiting: the gateway answers 503 Service Unavailable") && ctx.Err() == nil {
					runtime.Gosched()
				}
				cancel()
			}()
			if code := run(ctx, []string{"receipts", uuid.NewString(), "--receipts", t.TempDir()}, p); code != exitInterrupted {
				t.Errorf("exit code %d: %s", code, errs.String())
			}
			<-told
			if redrawn := strings.Contains(errs.String(), clearLine); redrawn != terminal {
				t.Errorf("%q", errs.String())
			}
		})
	}
}

// What the gateway says reaches no terminal as it is, and what is said of it is in
// the words of the command and not of a Go API.
func TestReceiptsWords(t *testing.T) {
	t.Parallel()
	hostile := []byte(`{"message":"\u001b]0;title\u0007 \u202e","code":"\u009b31m","given":"` + gatewayPass + `"}`)
	for name, test := range map[string]struct {
		fault pixmedtest.Fault
		args  []string
		code  int
		want  []string
	}{
		"unauthorized": {pixmedtest.Fault{Status: 401, Body: hostile}, nil, exitRefused, []string{"the gateway answered 401 Unauthorized: ", `\x1b]0;title\a`, "(check the gateway's credentials)"}},
		"not found":    {pixmedtest.Fault{Status: 404, Header: http.Header{"X-Request-Id": {"abc\u202e"}}}, nil, exitFailed, []string{"request id ", "(check the id and --gateway)"}},
		"much later":   {pixmedtest.Fault{Status: 429, RetryAfter: "86400"}, nil, exitFailed, []string{"it asks to wait 24h0m0s", "run the command again later"}},
		"page":         {pixmedtest.Fault{Status: 400, HTML: true}, nil, exitFailed, []string{"the gateway answered 400 Bad Request"}},
		"elsewhere":    {pixmedtest.Fault{Status: 302, Header: http.Header{"Location": {"https://evil.example/" + gatewayPass}}}, nil, exitFailed, []string{"redirects to another host", "change --gateway"}},
		"large":        {pixmedtest.Fault{}, []string{"--max-size", "1"}, exitFailed, []string{"the receipt is too large (raise --max-size)"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gateway := newGateway(t)
			i := pixmedtest.NewInfraction()
			gateway.SetReceipt(i.TransactionID, pixmedtest.PDFOfSize(i, 2<<20))
			gateway.FailAlways(test.fault)
			for _, dir := range []string{t.TempDir(), "-"} {
				got := tryReceipts(t, gateway.URL(), "", dir != "-", append([]string{i.TransactionID, "--receipts", dir}, test.args...)...)
				text := strings.ReplaceAll(got.err, clearLine, "")
				if got.code != test.code || strings.ContainsAny(text, "\x1b\u009b\u202e\a") {
					t.Errorf("%+v, want code %d", got, test.code)
				}
				contains(t, text, test.want...)
				if regexp.MustCompile(`With[A-Z]|NewClient|pixmed:`).MatchString(strings.ReplaceAll(text, "pixmed receipts", "")) {
					t.Errorf("words of the Go API: %s", text)
				}
			}
		})
	}
}
