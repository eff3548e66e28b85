package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/examples/internal/testpg"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

const sampleID = "5a94d48d-c9f3-46be-8448-83510ca42bde"

const firstTime = `It is empty.
1. The gateway posts the specification's sample: ACKNOWLEDGED.
   handler:  200, accepted
   callback: MED ACKNOWLEDGED for transaction 5a94d48d-c9f3-46be-8448-83510ca42bde (R$ 18,00): block the value
   callback: no receipt, so the inbox will call again: ERROR
   callback: saved the receipt, N bytes: FILE
2. It posts the same again, as gateways do. The callback is not called.
   handler:  200, duplicate
3. It posts a broken body. A gateway may give up without a 200, so the body is kept for a person.
   handler:  200, invalid (malformed JSON at byte 100: the body ends too early)
4. It posts CANCELLED for the same transaction.
   handler:  200, accepted
   callback: MED CANCELLED for transaction 5a94d48d-c9f3-46be-8448-83510ca42bde (R$ 18,00), after ACKNOWLEDGED: release the value
What an operator sees: 2 done, 0 pending, 0 dead, 1 in quarantine. The transaction's history:
   1. ACKNOWLEDGED done, attempts: 1
   2. CANCELLED    done, attempts: 1
`

const secondTime = `It holds 3 notifications from before: 2 done, 0 pending, 0 dead, 1 in quarantine.
1. The gateway posts CANCELLED again. The inbox knows it from before: the callback is not called.
   handler:  200, duplicate
2. The gateway posts the specification's sample: ACKNOWLEDGED.
   handler:  200, accepted
   callback: MED ACKNOWLEDGED for transaction 5a94d48d-c9f3-46be-8448-83510ca42bde (R$ 18,00), after CANCELLED: block the value
   callback: the case had ended with CANCELLED: it may be open again
   callback: no receipt, so the inbox will call again: ERROR
   callback: saved the receipt, N bytes: FILE
3. It posts the same again, as gateways do. The callback is not called.
   handler:  200, duplicate
4. It posts a broken body. A gateway may give up without a 200, so the body is kept for a person.
   handler:  200, invalid (malformed JSON at byte 100: the body ends too early)
5. It posts CANCELLED for the same transaction.
   handler:  200, accepted
   callback: MED CANCELLED for transaction 5a94d48d-c9f3-46be-8448-83510ca42bde (R$ 18,00), after ACKNOWLEDGED: release the value
What an operator sees: 4 done, 0 pending, 0 dead, 1 in quarantine. The transaction's history:
   1. ACKNOWLEDGED done, attempts: 1
   2. CANCELLED    done, attempts: 1
   3. ACKNOWLEDGED done, attempts: 1
   4. CANCELLED    done, attempts: 1
`

func TestStory(t *testing.T) {
	t.Parallel()
	testStory(t, filepath.Join(t.TempDir(), "inbox.db"))
}

func TestStoryOnPostgreSQL(t *testing.T) {
	t.Parallel()
	testStory(t, testpg.URL(t))
}

// testStory runs the program twice on one database.
func testStory(t *testing.T, db string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "receipts")
	file := filepath.Join(dir, sampleID+".pdf")
	sample, err := pixmed.ParseInfraction([]byte(pixmedtest.Sample))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{firstTime, secondTime} {
		var out bytes.Buffer
		if err := run(t.Context(), []string{"-out", dir, "-db", db}, &out); err != nil {
			t.Fatal(err)
		}
		got := out.String()
		if !strings.Contains(got, "bytes: "+file+"\n") {
			t.Errorf("run %d: the output does not name %s:\n%s", i+1, file, got)
		}
		got = regexp.MustCompile(`receipt, \d+ bytes: .*`).ReplaceAllString(got, "receipt, N bytes: FILE")
		got = regexp.MustCompile(`call again: .* answered 503 .*`).ReplaceAllString(got, "call again: ERROR")
		first, rest, _ := strings.Cut(got, "\n")
		if !strings.HasPrefix(first, "The inbox is the ") {
			t.Errorf("run %d: the first line is %q", i+1, first)
		}
		if diff := cmp.Diff(want, rest); diff != "" {
			t.Errorf("run %d: output (-want +got):\n%s", i+1, diff)
		}
		pdf, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if want := pixmedtest.PDF(*sample); !bytes.Equal(pdf, want) {
			t.Errorf("run %d: the saved receipt has %d bytes, want the gateway's %d", i+1, len(pdf), len(want))
		}
	}
}

// With -listen, a person posts after the story has ended, and what is pending
// when the program ends is done by the next one.
func TestListen(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	db, dir := filepath.Join(t.TempDir(), "inbox.db"), t.TempDir()
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, []string{"-listen", ":0", "-out", dir, "-db", db}, in)
		ended <- err
		in.CloseWithError(io.EOF)
	}()

	lines := bufio.NewScanner(out)
	find := func(pattern string) []string {
		t.Helper()
		for lines.Scan() {
			if m := regexp.MustCompile(pattern).FindStringSubmatch(lines.Text()); m != nil {
				return m
			}
		}
		t.Fatalf("the output ends before a line matches %q", pattern)
		return nil
	}
	curl := find(`^curl -i -H '(\S+): (\S+)' '(\S+)' -d '`)
	url := curl[3]
	answered := make(chan int)
	post := func(body string) {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			t.Error(err)
			answered <- 0
			return
		}
		r.Header.Set(curl[1], curl[2])
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Error(err)
			answered <- 0
			return
		}
		defer resp.Body.Close()
		answered <- resp.StatusCode
	}

	go post(pixmedtest.Sample)
	find("handler:  200, accepted")
	find("callback: the case had ended with CANCELLED: it may be open again")
	find("callback: saved the receipt")
	if status := <-answered; status != http.StatusOK {
		t.Errorf("status %d, want 200", status)
	}
	unknown := pixmedtest.NewInfraction()
	go post(string(pixmedtest.Payload(unknown)))
	find("handler:  200, accepted")
	find(`callback: no receipt, so the inbox will call again: .* 404`)
	if status := <-answered; status != http.StatusOK {
		t.Errorf("status %d, want 200", status)
	}

	go func() { // the program may still have something to say
		for lines.Scan() {
		}
	}()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}

	var next bytes.Buffer
	if err := run(t.Context(), []string{"-out", dir, "-db", db}, &next); err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?s)5 notifications from before: 4 done, 0 pending, .*` +
		regexp.QuoteMeta(filepath.Join(dir, unknown.TransactionID)) + `\.pdf\n1\. `).MatchString(next.String()) {
		t.Errorf("the next one does not begin with the receipt that was missing:\n%s", next.String())
	}
}

// Without arguments all that the program writes is in a new folder.
func TestDefaults(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := run(t.Context(), nil, &out); err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`^The inbox is the file (.*)\.\n`).FindStringSubmatch(out.String())
	if m == nil {
		t.Fatalf("the output does not begin with the inbox:\n%s", out.String())
	}
	dir := filepath.Dir(m[1])
	for _, file := range []string{m[1], filepath.Join(dir, sampleID+".pdf")} {
		if _, err := os.Stat(file); err != nil {
			t.Error(err)
		}
	}
	if err := os.RemoveAll(dir); err != nil { // on Windows only what is closed goes
		t.Error(err)
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-h"}, &out); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: error %v, want flag.ErrHelp", err)
	}
	for _, name := range []string{"-listen ADDR", "-db PATH", "-out DIR"} {
		if !strings.Contains(out.String(), name) {
			t.Errorf("-h does not explain %s:\n%s", name, out.String())
		}
	}
	dir := t.TempDir()
	for _, tt := range []struct {
		args []string
		want string // in the error
	}{
		{[]string{"surprise"}, `"surprise"`},
		{[]string{"-nonsense"}, "-nonsense"},
		{[]string{"-listen", "nonsense"}, "nonsense"},
		{[]string{"-out", "main.go"}, "main.go"},
		{[]string{"-db", filepath.Join(dir, "missing", "inbox.db")}, filepath.Join(dir, "missing", "inbox")},
		{[]string{"-db", "mysql://me:hunter2@127.0.0.1/pix"}, "want the path of a file or a postgres:// URL"},
		{[]string{"-db", "postgres://me:hunter2@127.0.0.1:none/pix"}, "-db: cannot parse"},
		{[]string{"-db", "postgres://me:hunter2@127.0.0.1:1/pix"}, "failed to connect"},
	} {
		args := append([]string{"-out", dir, "-db", filepath.Join(dir, "inbox.db")}, tt.args...)
		err := run(t.Context(), args, io.Discard)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: error %v, want one with %q and no password", tt.args, err, tt.want)
		}
	}
}
