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
	"github.com/pixmed-go/pixmed/pixmedtest"
)

const sampleID = "5a94d48d-c9f3-46be-8448-83510ca42bde"

func TestStory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "receipts")
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-out", dir}, &out); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, sampleID+".pdf")
	pdf, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sample, err := pixmed.ParseInfraction([]byte(pixmedtest.Sample))
	if err != nil {
		t.Fatal(err)
	}
	if want := pixmedtest.PDF(*sample); !bytes.Equal(pdf, want) {
		t.Errorf("the saved receipt has %d bytes, want the gateway's %d", len(pdf), len(want))
	}
	got := regexp.MustCompile(`receipt, \d+ bytes: .*`).ReplaceAllString(out.String(), "receipt, N bytes: FILE")
	if !strings.Contains(out.String(), "bytes: "+file+"\n") {
		t.Errorf("the output does not name %s:\n%s", file, out.String())
	}
	want := `1. The gateway posts the specification's sample: ACKNOWLEDGED.
   callback: MED ACKNOWLEDGED for transaction 5a94d48d-c9f3-46be-8448-83510ca42bde (R$ 18,00): block the value
   callback: saved the receipt, N bytes: FILE
   handler:  200, accepted
2. It posts the same again, as gateways do. The callback is not called.
   handler:  200, duplicate
3. It posts a broken body.
   handler:  400, invalid (malformed JSON at byte 100: the body ends too early)
4. It posts CANCELLED for the same transaction.
   callback: MED CANCELLED for transaction 5a94d48d-c9f3-46be-8448-83510ca42bde (R$ 18,00), after ACKNOWLEDGED: release the value
   handler:  200, accepted
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

// With -listen, a person posts after the story has ended.
func TestListen(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, []string{"-listen", ":0", "-out", t.TempDir()}, in)
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
	curl := find(`^curl -i -H '(\S+): (\S+)' '(\S+)' -d '(.*)'?$`)
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
	find("callback: the case had ended with CANCELLED: it may be open again")
	find("handler:  200, accepted")
	if status := <-answered; status != http.StatusOK {
		t.Errorf("status %d, want 200", status)
	}
	go post(string(pixmedtest.Payload(pixmedtest.NewInfraction())))
	find("callback: the gateway has no receipt of this transaction")
	find("handler:  200, accepted")
	if status := <-answered; status != http.StatusOK {
		t.Errorf("status %d, want 200", status)
	}

	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-h"}, &out); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: error %v, want flag.ErrHelp", err)
	}
	if !strings.Contains(out.String(), "-listen ADDR") {
		t.Errorf("-h does not explain -listen:\n%s", out.String())
	}
	for _, args := range [][]string{{"surprise"}, {"-listen", "nonsense"}, {"-nonsense"}, {"-out", "main.go"}} {
		if err := run(t.Context(), args, io.Discard); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
