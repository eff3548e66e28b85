package webhook_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-github/v92/github"
	"github.com/stripe/stripe-go/v85"
	stripewebhook "github.com/stripe/stripe-go/v85/webhook"

	"github.com/pixmed-go/pixmed"
)

// A parser decodes a body. Only the SDK's also validates it.
type parser struct {
	name  string
	parse func() error
}

// parsers returns the parsers of an infraction.
func parsers(body []byte) []parser {
	return []parser{
		{"pixmed", func() error { _, err := pixmed.ParseInfraction(body); return err }},
		{"encoding-json", func() error { var i pixmed.Infraction; return json.Unmarshal(body, &i) }},
		{"json-v2", func() error { var i pixmed.Infraction; return jsonv2.Unmarshal(body, &i) }},
		{"limit-json-valid", func() error {
			if !json.Valid(body) {
				return strconv.ErrSyntax
			}
			return nil
		}},
	}
}

// otherEvents returns the parsers of events of their own, of the same size.
// go-github parses a request, which is created for each.
func otherEvents(tb testing.TB, size int) []parser {
	tb.Helper()
	event, h := stripeEvent(tb, stripe.APIVersion, size), make(http.Header)
	signStripe(event, h)
	signature := h.Get("Stripe-Signature")
	ping := peer{body: githubEvent(tb, size), sign: signHex, handler: handlerFunc(withGitHub)}
	r, w := ping.requests(tb), newResponse()
	return []parser{
		{"stripe-go", func() error {
			_, err := stripewebhook.ConstructEvent(event, signature, secret)
			return err
		}},
		{"go-github", func() error {
			if r.serve(w); w.status != http.StatusOK {
				return errSignature
			}
			return nil
		}},
	}
}

// BenchmarkParse decodes the specification's example.
func BenchmarkParse(b *testing.B) {
	for _, p := range append(parsers(sample), otherEvents(b, len(sample))...) {
		p.run(b)
	}
}

// BenchmarkParseGrowing decodes bodies with more members than the specification has.
func BenchmarkParseGrowing(b *testing.B) {
	for _, size := range sizes {
		b.Run("bytes="+strconv.Itoa(size), func(b *testing.B) {
			for _, p := range append(parsers(infraction(b, size)), otherEvents(b, size)...) {
				p.run(b)
			}
		})
	}
}

func (p parser) run(b *testing.B) {
	b.Helper()
	b.Run("impl="+p.name, func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := p.parse(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// All parsers must decode to the same.
func TestParsersAgree(t *testing.T) {
	t.Parallel()
	for _, body := range [][]byte{sample, infraction(t, 1<<10)} {
		want, err := pixmed.ParseInfraction(body)
		if err != nil {
			t.Fatal(err)
		}
		for name, unmarshal := range map[string]func([]byte, any) error{
			"encoding-json": json.Unmarshal,
			"json-v2":       func(data []byte, v any) error { return jsonv2.Unmarshal(data, v) },
		} {
			var got pixmed.Infraction
			if err := unmarshal(body, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(*want, got); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	}
	ping, err := github.ParseWebHook("ping", githubEvent(t, 256))
	if err != nil || ping.(*github.PingEvent).GetHookID() != 1 {
		t.Errorf("go-github: %v, %v", ping, err)
	}
}
