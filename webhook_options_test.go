package pixmed_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
)

func TestNewHandlerProblems(t *testing.T) {
	t.Parallel()
	const (
		noVerifier = "no verifier: use WithVerifier, or WithoutVerification if something in front of the handler verifies requests"
		noReceiver = "the Receiver is nil"
		nilOption  = "an option is nil"
		twice      = "WithVerifier is given twice"
		both       = "WithVerifier and WithoutVerification contradict each other"
	)
	var (
		ignore = pixmed.ReceiverFunc(pixmed.Ignore)
		open   = pixmed.WithoutVerification()
		secret = pixmed.WithVerifier(pixmed.HeaderSecret("X-Secret", "s"))
	)
	type options = []pixmed.HandlerOption
	for _, tt := range []struct {
		name     string
		receiver pixmed.Receiver
		opts     options
		want     []string
	}{
		{"nothing at all", nil, nil, []string{noReceiver, noVerifier}},
		{"no verifier", ignore, nil, []string{noVerifier}},
		{"no receiver", nil, options{open}, []string{noReceiver}},
		{"nil function", pixmed.ReceiverFunc(nil), options{open}, []string{noReceiver}},
		{"nil pointer", (*pixmed.Callbacks)(nil), options{open}, []string{noReceiver}},
		{"Callbacks without Other", pixmed.Callbacks{Acknowledged: pixmed.Ignore}, options{open}, []string{otherIsNil}},
		{"pointer to Callbacks without Other", &pixmed.Callbacks{}, options{open}, []string{otherIsNil}},
		{"a Receiver with a problem of its own", problematicReceiver{}, options{open}, []string{"my own problem"}},
		{"nil option", ignore, options{open, nil}, []string{nilOption}},
		{"nil verifier", ignore, options{pixmed.WithVerifier(nil), open}, []string{"WithVerifier: the Verifier is nil"}},
		{"nil verifier function", ignore, options{pixmed.WithVerifier(pixmed.VerifierFunc(nil)), open}, []string{"WithVerifier: the Verifier is nil"}},
		{"verifier twice", ignore, options{secret, secret}, []string{twice}},
		{"verifier and none", ignore, options{secret, open}, []string{both}},
		{"none and verifier", ignore, options{open, secret}, []string{both}},
		{"bad verifier", ignore, options{pixmed.WithVerifier(pixmed.HeaderSecret("X-Secret"))}, []string{"HeaderSecret: no secret was given"}},
		{"nil fallback", ignore, options{open, pixmed.WithFallback(nil)}, []string{"WithFallback: the handler is nil"}},
		{"nil fallback function", ignore, options{open, pixmed.WithFallback(http.HandlerFunc(nil))}, []string{"WithFallback: the handler is nil"}},
		{"nil invalid", ignore, options{open, pixmed.WithInvalid(nil)}, []string{"WithInvalid: the callback is nil"}},
		{"nil observer", ignore, options{open, pixmed.WithObserver(nil)}, []string{"WithObserver: the function is nil"}},
		{"nil logger", ignore, options{open, pixmed.WithLogger(nil)}, []string{"WithLogger: the logger is nil"}},
		{"no limit", ignore, options{open, pixmed.WithBodyLimit(0)}, []string{"WithBodyLimit: 0 is not a positive number of bytes"}},
		{"negative limit", ignore, options{open, pixmed.WithBodyLimit(-1)}, []string{"WithBodyLimit: -1 is not a positive number of bytes"}},
		{"no time", ignore, options{open, pixmed.WithCallbackTimeout(0)}, []string{"WithCallbackTimeout: 0s is not a positive duration"}},
		{"negative time", ignore, options{open, pixmed.WithCallbackTimeout(-time.Second)}, []string{"WithCallbackTimeout: -1s is not a positive duration"}},
		{
			"everything at once",
			pixmed.Callbacks{},
			options{
				pixmed.WithVerifier(pixmed.All(pixmed.HeaderSecret("", ""), pixmed.Any())), secret, open, nil, pixmed.WithBodyLimit(-5),
				pixmed.WithCallbackTimeout(-5), pixmed.WithFallback(nil), pixmed.WithInvalid(nil), pixmed.WithObserver(nil), pixmed.WithLogger(nil),
			},
			[]string{
				otherIsNil, twice, nilOption,
				"WithBodyLimit: -5 is not a positive number of bytes", "WithCallbackTimeout: -5ns is not a positive duration",
				"WithFallback: the handler is nil", "WithInvalid: the callback is nil", "WithObserver: the function is nil",
				"WithLogger: the logger is nil",
				"HeaderSecret: secret 1 is empty", "HeaderSecret: the header's name is empty", "Any: no verifier was given", both,
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, err := pixmed.NewHandler(tt.receiver, tt.opts...)
			if h != nil || err == nil {
				t.Fatalf("NewHandler = %v, %v", h, err)
			}
			if diff := cmp.Diff(tt.want, strings.Split(err.Error(), "\n")); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("the smallest limits", func(t *testing.T) {
		t.Parallel()
		if _, err := pixmed.NewHandler(ignore, open, pixmed.WithBodyLimit(1), pixmed.WithCallbackTimeout(1)); err != nil {
			t.Error(err)
		}
	})
}

type problematicReceiver struct{}

func (problematicReceiver) Validate() error { return errors.New("my own problem") }

func (problematicReceiver) Receive(context.Context, *pixmed.Notification) error { return nil }

func TestWithInvalid(t *testing.T) {
	t.Parallel()
	const limit = 300
	type call struct {
		body  string
		cause string
	}
	signature := func(body string) string { return hex.EncodeToString(signed("s", body)) }
	for _, tt := range []struct {
		name, body string
		signature  string // the right one if empty
		want       []call
	}{
		{name: "not JSON", body: "transactionId=5", want: []call{{"transactionId=5", "*pixmed.SyntaxError"}}},
		{name: "not UTF-8", body: "{\"\xff\x00\":1}", want: []call{{"{\"\xff\x00\":1}", "*pixmed.SyntaxError"}}},
		{name: "with white space and a byte order mark", body: bom + "\r\n {x} \n", want: []call{{bom + "\r\n {x} \n", "*pixmed.SyntaxError"}}},
		{name: "an array", body: "[" + specPayload + "]", want: []call{{"[" + specPayload + "]", "*pixmed.SyntaxError"}}},
		{name: "a bad field", body: `{"medStatus":"X"}`, want: []call{{`{"medStatus":"X"}`, "*pixmed.ValidationError"}}},
		{name: "valid", body: specPayload},
		{name: "another event", body: `{"transactionStatus":"PAID"}`},
		{name: "empty", body: ""},
		{name: "white space", body: " \n"},
		{name: "too large", body: strings.Repeat("x", limit+1)},
		{name: "unverified", body: "transactionId=5", signature: strings.Repeat("0", 64)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var calls []call
			h := newHook(t, answer(nil), pixmed.WithVerifier(pixmed.HMACSHA256("X-Signature", "", "s")), pixmed.WithBodyLimit(limit),
				pixmed.WithInvalid(func(_ context.Context, body []byte, cause error) error {
					calls = append(calls, call{string(body), fmt.Sprintf("%T", cause)})
					return nil
				}))
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(tt.body))
			r.Header.Set("X-Signature", signature(tt.body))
			if tt.signature != "" {
				r.Header.Set("X-Signature", tt.signature)
			}
			w := h.serve(r)
			if diff := cmp.Diff(tt.want, calls, cmp.AllowUnexported(call{})); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
			if taken := w.Code == 200; taken != (tt.want != nil || tt.name == "valid") {
				t.Errorf("status %d", w.Code)
			}
		})
	}
}

// What may be an infraction in an unknown form is kept, even beside
// AcknowledgeEvent; another event is acknowledged and not kept.
func TestWithInvalidBesideAcknowledgeEvent(t *testing.T) {
	t.Parallel()
	pascal := strings.NewReplacer(`"t`, `"T`, `"v`, `"V`, `"ext`, `"Ext`, `"e2e`, `"E2e`, `"m`, `"M`).Replace(specPayload)
	snake := strings.NewReplacer("transactionId", "transaction_id", "transactionStatus", "transaction_status",
		"transactionType", "transaction_type", "externalId", "external_id", "medStatus", "med_status").Replace(specPayload)
	for _, tt := range []struct {
		name, body string
		result     pixmed.Result
	}{
		{"wrapped", `{"event":"med","data":` + specPayload + `}`, pixmed.ResultInvalid},
		{"wrapped under another name", `{"payload":{"body":` + specPayload + `}}`, pixmed.ResultInvalid},
		{"wrapped in an array", `{"events":[` + specPayload + `]}`, pixmed.ResultInvalid},
		{"an array", `[` + specPayload + `]`, pixmed.ResultInvalid},
		{"as text", `{"message":` + strconv.Quote(specPayload) + `}`, pixmed.ResultInvalid},
		{"as a string", strconv.Quote(specPayload), pixmed.ResultInvalid},
		{"PascalCase", pascal, pixmed.ResultInvalid},
		{"snake_case", snake, pixmed.ResultInvalid},
		{"lower case", strings.ToLower(specPayload), pixmed.ResultInvalid},
		{"upper case", strings.ToUpper(specPayload), pixmed.ResultInvalid},
		{"the status in lower case", payloadWith(t, `"transactionStatus": "med"`), pixmed.ResultInvalid},
		{"med_status in place of medStatus", strings.Replace(specPayload, "medStatus", "med_status", 1), pixmed.ResultInvalid},
		{"medStatus of 65 bytes", payloadWith(t, `"medStatus": "`+strings.Repeat("x", 65)+`"`), pixmed.ResultInvalid},
		{"an empty object", `{}`, pixmed.ResultInvalid},
		{"a ping", `{"evento":"teste_webhook"}`, pixmed.ResultInvalid},
		{"another ping", `{"type":"ping","data":null}`, pixmed.ResultInvalid},
		{"PAID with a medStatus", payloadWith(t, `"transactionStatus": "PAID"`), pixmed.ResultInvalid},
		{"PAID with a medStatus inside", `{"transactionStatus":"PAID","med":{"status":"DEBITED"}}`, pixmed.ResultInvalid},

		{"an infraction", specPayload, pixmed.ResultAccepted},
		{"an infraction without a medStatus", payloadWith(t, `"medStatus"`), pixmed.ResultAccepted},

		{"cash-in", `{"transactionId":"5a94d48d-c9f3-46be-8448-83510ca42bde","transactionStatus":"PAID","transactionType":"CASH_IN","value":"100.00"}`, pixmed.ResultOther},
		{"cash-out", `{"transactionStatus":"FAILED","transactionType":"CASH_OUT","value":100.00}`, pixmed.ResultOther},
		{"CONFIRMED", `{"transactionStatus":"CONFIRMED"}`, pixmed.ResultOther},
		{"PERFORMED", `{"transactionStatus":"PERFORMED"}`, pixmed.ResultOther},
	} {
		for _, body := range []string{tt.body, gzipOf(tt.body)} {
			var kept, received []string
			var events hookLog
			h := newHook(t, pixmed.ReceiverFunc(func(_ context.Context, n *pixmed.Notification) error {
				received = append(received, string(n.Raw))
				return nil
			}), pixmed.WithoutVerification(), pixmed.WithFallback(pixmed.AcknowledgeEvent(events.logger())),
				pixmed.WithInvalid(func(_ context.Context, body []byte, _ error) error {
					kept = append(kept, string(body))
					return nil
				}))
			w := h.serve(httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body)))
			var wantKept, wantReceived []string
			if tt.result == pixmed.ResultInvalid {
				wantKept = []string{body}
			}
			if tt.result == pixmed.ResultAccepted {
				wantReceived = []string{tt.body}
			}
			if w.Code != 200 || h.outcome(t).Result != tt.result {
				t.Errorf("%s: status %d, %+v; want %s", tt.name, w.Code, h.outcome(t), tt.result)
			}
			if diff := cmp.Diff(wantKept, kept); diff != "" {
				t.Errorf("%s: kept (-want +got):\n%s", tt.name, diff)
			}
			if diff := cmp.Diff(wantReceived, received); diff != "" {
				t.Errorf("%s: received (-want +got):\n%s", tt.name, diff)
			}
			if acknowledged := strings.Contains(events.String(), "acknowledged"); acknowledged != (tt.result == pixmed.ResultOther) {
				t.Errorf("%s: acknowledged: %v", tt.name, acknowledged)
			}
		}
	}
}
