package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

const key, secret = "the-key", "the-secret"

func newGateway(t *testing.T) *pixmedtest.Gateway {
	t.Helper()
	gateway := pixmedtest.NewGateway(pixmedtest.WithCredential("api_key", key), pixmedtest.WithCredential("api_secret", secret))
	t.Cleanup(gateway.Close)
	return gateway
}

// receipts has the gateway hold n receipts.
func receipts(gateway *pixmedtest.Gateway, n int) (ids []string, pdfs [][]byte) {
	for range n {
		i := pixmedtest.NewInfraction(func(i *pixmed.Infraction) { i.TransactionID = uuid.NewString() })
		ids, pdfs = append(ids, i.TransactionID), append(pdfs, gateway.AddReceipt(i))
	}
	return ids, pdfs
}

// outcome is what a run leaves.
type outcome struct {
	code     int
	out, err string
}

func try(ctx context.Context, t *testing.T, base, stdin string, terminal bool, args ...string) outcome {
	t.Helper()
	var out, errs bytes.Buffer
	env := map[string]string{"GATEWAY_URL": base, "GATEWAY_KEY": key, "GATEWAY_SECRET": secret}
	code := run(ctx, args, streams{strings.NewReader(stdin), &out, &errs, func(name string) string { return env[name] }, terminal})
	for _, canary := range []string{key, secret} {
		if strings.Contains(out.String()+errs.String(), canary) {
			t.Errorf("%q is told", canary)
		}
	}
	return outcome{code, out.String(), errs.String()}
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
	ids, pdfs := receipts(gateway, 7)
	stdin := "# ids\n\n" + strings.Join(ids[2:], " # one\n") + "\n" + strings.ToUpper(ids[3]) + "\n"
	args := []string{"-o", dir, "-f", "-", "-p", "3", ids[0], ids[1]}
	var want []string
	for i, id := range ids {
		want = append(want, line(dir, id, pdfs[i]))
	}
	slices.Sort(want)

	got := try(t.Context(), t, gateway.URL(), stdin, false, args...)
	if diff := cmp.Diff(want, sorted(got.out)); got.code != exitOK || diff != "" || !strings.Contains(got.err, "7 saved, 0 there already, 0 failed") {
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
	got = try(t.Context(), t, gateway.URL(), stdin, true, args...)
	if diff := cmp.Diff(want, sorted(got.out)); got.code != exitOK || diff != "" || !strings.Contains(got.err, "2 saved, 5 there already, 0 failed") || !strings.Contains(got.err, "7 of 7 receipts") {
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
	ids, _ := receipts(gateway, 2)
	none := uuid.NewString()
	got := try(t.Context(), t, gateway.URL(), "", false, "-o", dir, ids[0], none, ids[1])
	if got.code != exitMissing || !strings.Contains(got.err, none+": failed: ") || !strings.Contains(got.err, "(check the id and GATEWAY_URL)") ||
		!strings.Contains(got.err, ids[0]+": saved, ") || !strings.Contains(got.err, "2 saved, 0 there already, 1 failed") || len(sorted(got.out)) != 2 {
		t.Errorf("%+v", got)
	}
}

// What no receipt can be had with ends the command at once.
func TestRefused(t *testing.T) {
	t.Parallel()
	gateway := pixmedtest.NewGateway(pixmedtest.WithCredential("api_key", "another"))
	t.Cleanup(gateway.Close)
	ids, _ := receipts(gateway, 20)
	got := try(t.Context(), t, gateway.URL(), "", false, append([]string{"-o", t.TempDir(), "-p", "1"}, ids...)...)
	if got.code != exitRefused || got.out != "" || !strings.Contains(got.err, "check GATEWAY_KEY") || strings.Count(got.err, "failed: ") > 2 {
		t.Errorf("%+v", got)
	}
	if n := len(gateway.Requests()); n > 2 {
		t.Errorf("%d requests", n)
	}
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	gateway, dir := newGateway(t), t.TempDir()
	ids, _ := receipts(gateway, 1)
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
	got := try(ctx, t, server.URL, "", false, "-o", dir, ids[0])
	if got.code != exitInterrupted || !strings.Contains(got.err, "0 saved, 0 there already, 0 failed, 1 not fetched") {
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
	ids, _ := receipts(gateway, 12)
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
	got := try(t.Context(), t, server.URL, "", false, append([]string{"-o", t.TempDir(), "-p", fmt.Sprint(limit)}, ids...)...)
	if got.code != exitOK || most != limit {
		t.Errorf("%d at a time, want %d: %+v", most, limit, got)
	}
}

func TestStandardOutput(t *testing.T) {
	t.Parallel()
	gateway := newGateway(t)
	ids, pdfs := receipts(gateway, 1)
	if got := try(t.Context(), t, gateway.URL(), "", false, "-o", "-", ids[0]); got.code != exitOK || got.out != string(pdfs[0]) || got.err != "" {
		t.Errorf("%d, %d bytes, %s", got.code, len(got.out), got.err)
	}
	none := uuid.NewString()
	if got := try(t.Context(), t, gateway.URL(), "", false, "-o", "-", none); got.code != exitMissing || got.out != "" || !strings.Contains(got.err, none) {
		t.Errorf("%+v", got)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	id := uuid.NewString()
	for name, test := range map[string]struct {
		args  []string
		stdin string
		base  string
		code  int
		want  []string
	}{
		"help":         {[]string{"-h"}, "", "https://x", exitOK, []string{"Exit codes:", "-timeout"}},
		"nothing":      {nil, "", "https://x", exitUsage, []string{"no transaction ids"}},
		"bad ids":      {[]string{"-f", "-", "x", id}, "# all\n" + id + "\n../../etc/passwd\n", "https://x", exitUsage, []string{`argument 1: "x"`, `standard input, line 3: "../../etc/passwd"`}},
		"no list":      {[]string{"-f", "/does/not/exist"}, "", "https://x", exitUsage, []string{"/does/not/exist"}},
		"two to -":     {[]string{"-o", "-", id, uuid.NewString()}, "", "https://x", exitUsage, []string{"single"}},
		"parallel":     {[]string{"-p", "0", id}, "", "https://x", exitUsage, []string{"-p: 0"}},
		"timeout":      {[]string{"-timeout", "0s", id}, "", "https://x", exitUsage, []string{"-timeout"}},
		"size":         {[]string{"-max-size", "0", id}, "", "https://x", exitUsage, []string{"WithMaxReceiptSize"}},
		"no flag":      {[]string{"-x"}, "", "https://x", exitUsage, []string{"-x"}},
		"no gateway":   {[]string{id}, "", "", exitUsage, []string{"GATEWAY_URL"}},
		"plain http":   {[]string{id}, "", "http://gateway.example", exitUsage, []string{"http"}},
		"not a folder": {[]string{"-o", "/dev/null/x", id}, "", "https://x", exitMissing, []string{"/dev/null"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := try(t.Context(), t, test.base, test.stdin, false, test.args...)
			if got.code != test.code || got.out != "" {
				t.Errorf("%+v, want %d", got, test.code)
			}
			for _, want := range test.want {
				if !strings.Contains(got.err, want) {
					t.Errorf("%q is not in %s", want, got.err)
				}
			}
		})
	}
}
