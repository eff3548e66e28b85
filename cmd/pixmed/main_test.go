package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

// Credentials that no output may hold. Each test that has one of them set looks for
// all of them.
const (
	webhookSecret  = "canary-of-the-webhook"
	olderSecret    = "canary-of-an-older-webhook"
	gatewayKeyText = "canary-of-the-gateways-key"
	gatewayPass    = "canary-of-the-gateways-secret"
	opsPass        = "canary-of-the-operations-page"
)

var canaries = []string{webhookSecret, olderSecret, gatewayKeyText, gatewayPass, opsPass, forwardSecret}

// forwardSecret is one of those too, in the form that it has to have.
const forwardSecret = "whsec_Y2FuYXJ5LW9mLWEtZm9yd2FyZGVkLW1lc3NhZ2U="

// programVariable has the test's program be pixmed itself.
const programVariable = "PIXMED_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(programVariable) != "" {
		main()
		return
	}
	code := m.Run()
	if err := endPostgres(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// outcome is what a run of the program leaves.
type outcome struct {
	code     int
	out, err string
}

// try runs the program in this process.
func try(t *testing.T, env map[string]string, args ...string) outcome {
	t.Helper()
	return tryWith(t.Context(), t, &process{in: strings.NewReader(""), env: env}, args...)
}

func tryWith(ctx context.Context, t *testing.T, p *process, args ...string) outcome {
	t.Helper()
	var out, errs lockedBuffer
	p.out, p.err = &out, &errs
	got := outcome{run(ctx, args, p), out.String(), errs.String()}
	for _, canary := range canaries {
		if strings.Contains(got.out+got.err, canary) {
			t.Errorf("pixmed %s shows %s:\n%s%s", strings.Join(args, " "), canary, got.out, got.err)
		}
	}
	return got
}

// lockedBuffer can be read while it is written.
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

// contains reports the words that are missing in a text.
func contains(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%q is not in:\n%s", word, text)
		}
	}
}
