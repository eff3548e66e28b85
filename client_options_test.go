package pixmed_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
)

func TestClientOptions(t *testing.T) {
	t.Parallel()
	wantNewClient(t, map[string]newClientTest{
		"nil option":     {opts: []pixmed.ClientOption{nil}, want: "an option is nil"},
		"nil logger":     {opts: []pixmed.ClientOption{pixmed.WithLogger(nil)}, want: "WithLogger: the logger is nil"},
		"nil client":     {opts: []pixmed.ClientOption{pixmed.WithHTTPClient(nil)}, want: "WithHTTPClient: the client is nil"},
		"retries":        {opts: []pixmed.ClientOption{pixmed.WithRetries(-1)}, want: "WithRetries: -1 is negative"},
		"no retries":     {opts: []pixmed.ClientOption{pixmed.WithRetries(0)}},
		"wait of 0":      {opts: []pixmed.ClientOption{pixmed.WithRetryWait(0, time.Second)}, want: "WithRetryWait: want 0 < shortest <= longest, got 0s and 1s"},
		"negative wait":  {opts: []pixmed.ClientOption{pixmed.WithRetryWait(-1, 1)}, want: "WithRetryWait: want 0 < shortest <= longest"},
		"waits swapped":  {opts: []pixmed.ClientOption{pixmed.WithRetryWait(2, 1)}, want: "WithRetryWait: want 0 < shortest <= longest"},
		"one wait":       {opts: []pixmed.ClientOption{pixmed.WithRetryWait(1, 1)}},
		"stall of 0":     {opts: []pixmed.ClientOption{pixmed.WithStallTimeout(0)}, want: "WithStallTimeout: 0s is not a positive duration"},
		"negative stall": {opts: []pixmed.ClientOption{pixmed.WithStallTimeout(-time.Second)}, want: "WithStallTimeout: -1s is not a positive duration"},
		"size of 0":      {opts: []pixmed.ClientOption{pixmed.WithMaxReceiptSize(0)}, want: "WithMaxReceiptSize: 0 is not a positive number of bytes"},
		"negative size":  {opts: []pixmed.ClientOption{pixmed.WithMaxReceiptSize(-1)}, want: "WithMaxReceiptSize: -1 is not a positive number of bytes"},
		"size of 1":      {opts: []pixmed.ClientOption{pixmed.WithMaxReceiptSize(1)}},
	})
}

func TestOptionsGivenTwice(t *testing.T) {
	t.Parallel()
	for name, option := range map[string]pixmed.ClientOption{
		"WithHTTPClient":     pixmed.WithHTTPClient(&http.Client{}),
		"WithRetries":        pixmed.WithRetries(1),
		"WithRetryWait":      pixmed.WithRetryWait(1, 2),
		"WithStallTimeout":   pixmed.WithStallTimeout(1),
		"WithPlainHTTP":      pixmed.WithPlainHTTP(),
		"WithLogger":         pixmed.WithLogger(slog.Default()),
		"WithMaxReceiptSize": pixmed.WithMaxReceiptSize(1),
	} {
		want := name + " is given twice"
		if _, err := pixmed.NewClient(mockBase, option); err != nil {
			t.Errorf("%s once: %v", name, err)
		}
		if _, err := pixmed.NewClient(mockBase, option, pixmed.WithHeader("X-Between", "value"), option); fmt.Sprint(err) != want {
			t.Errorf("NewClient: got %v, want %s", err, want)
		}
		if option, ok := option.(pixmed.ReceiptOption); ok {
			if _, err := pixmed.DecodeReceipt(strings.NewReader(""), option, option); fmt.Sprint(err) != want {
				t.Errorf("DecodeReceipt: got %v, want %s", err, want)
			}
		}
	}
}

func TestNewClientNamesEverythingWrong(t *testing.T) {
	t.Parallel()
	_, err := pixmed.NewClient("http://gateway.example",
		pixmed.WithRetries(-1), nil, pixmed.WithHTTPClient(nil), pixmed.WithBearerToken(""), pixmed.WithLogger(nil))
	want := `WithRetries: -1 is negative
an option is nil
WithHTTPClient: the client is nil
WithBearerToken: the token is empty
WithLogger: the logger is nil
the base URL is plain http to gateway.example, which would show credentials and receipts to the network: use https, or WithPlainHTTP if you mean it`
	if diff := gocmp.Diff(want, fmt.Sprint(err)); diff != "" {
		t.Error(diff)
	}
}
