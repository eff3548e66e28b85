package pixmed_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed"
)

func TestVerifierAnswers(t *testing.T) {
	t.Parallel()
	secret := pixmed.HeaderSecret("X-Secret", "s3cret")
	basic := map[string]string{"WWW-Authenticate": `Basic realm="webhook", charset="UTF-8"`}
	refused := pixmed.Outcome{Result: pixmed.ResultRefused}
	testAnswers(t, []answerTest{
		{
			name: "accepted", receiver: answer(nil), verifier: secret, body: specPayload, change: withHeader("X-Secret", "s3cret"),
			status: 200, outcome: about(pixmed.ResultAccepted),
		},
		{
			name: "rejected", verifier: secret, unread: true, change: withHeader("X-Secret", "wrong"),
			status: 401, detail: detailVerify, outcome: refused, err: "header X-Secret holds none of the 1 secrets",
		},
		{
			name: "rejected before anything else is looked at", verifier: secret,
			opts:   []pixmed.HandlerOption{pixmed.WithBodyLimit(1), invalidResult(nil), pixmed.WithFallback(http.NotFoundHandler())},
			unread: true, change: func(r *http.Request) { r.Header.Set("Content-Encoding", "br"); r.ContentLength = 1 << 40 },
			status: 401, detail: detailVerify, outcome: refused, err: "header X-Secret occurs 0 times, want once",
		},
		{
			name: "rejected, the body is not parsed", verifier: pixmed.HMACSHA256("X-Signature", "", "s"), opts: []pixmed.HandlerOption{invalidResult(nil)},
			body: "not JSON", change: withHeader("X-Signature", strings.Repeat("0", 64)),
			status: 401, detail: detailVerify, outcome: refused, err: "header X-Signature matches the body under none of the 1 secrets",
		},
		{
			name: "rejected, empty body", verifier: secret, opts: []pixmed.HandlerOption{invalidResult(nil)},
			status: 401, detail: detailVerify, outcome: refused, err: "header X-Secret occurs 0 times, want once",
		},
		{
			name: "rejected by Basic", verifier: pixmed.BasicAuth("u", "p"), unread: true,
			status: 401, header: basic, detail: detailVerify, outcome: refused, err: "header Authorization occurs 0 times, want once",
		},
		{
			name: "rejected by Basic inside others", verifier: pixmed.Any(pixmed.HeaderSecret("X-Secret", "s"), pixmed.All(pixmed.BasicAuth("u", "p"))), unread: true,
			status: 401, header: basic, detail: detailVerify, outcome: refused,
			err: "header X-Secret occurs 0 times, want once\nheader Authorization occurs 0 times, want once",
		},
		{
			name: "rejected by Basic before others", verifier: pixmed.Any(pixmed.BasicAuth("u", "p"), pixmed.HeaderSecret("X-Secret", "s"), refuse("no")), unread: true,
			status: 401, header: basic, detail: detailVerify, outcome: refused,
			err: "header Authorization occurs 0 times, want once\nheader X-Secret occurs 0 times, want once\nno",
		},
		{
			name: "the user's own panics", verifier: pixmed.VerifierFunc(func(*http.Request, func() ([]byte, error)) error { panic("boom") }), unread: true,
			status: 500, detail: detailAgain, outcome: pixmed.Outcome{Result: pixmed.ResultFailed}, err: "the Verifier panicked: boom",
		},
	})
}

func TestAllAndAny(t *testing.T) {
	t.Parallel()
	yes := pixmed.VerifierFunc(allow)
	a, b, c := refuse("a"), refuse("b"), refuse("c")
	all, anyOf := pixmed.All, pixmed.Any
	for _, tt := range []struct {
		name string
		v    pixmed.Verifier
		want string
	}{
		{"All of one", all(yes), ""},
		{"All of two", all(yes, yes), ""},
		{"All, first refuses", all(a, yes), "a"},
		{"All, last refuses", all(yes, b), "b"},
		{"All, both refuse", all(a, b), "a"},
		{"Any of one", anyOf(yes), ""},
		{"Any, first allows", anyOf(yes, a), ""},
		{"Any, last allows", anyOf(a, b, yes), ""},
		{"Any, one refuses", anyOf(a), "a"},
		{"Any, all refuse", anyOf(a, b, c), "a\nb\nc"},
		{"Any of All, one branch allows", anyOf(all(yes, a), all(yes, yes)), ""},
		{"Any of All, each branch refuses", anyOf(all(yes, a), all(b, yes)), "a\nb"},
		{"All of Any", all(anyOf(a, yes), anyOf(yes, b)), ""},
		{"All of Any, one refuses", all(anyOf(a, yes), anyOf(b, c)), "b\nc"},
		// A configuration that NewHandler has not seen lets nobody in.
		{"All of none", all(), "All: no verifier was given"},
		{"Any of none", anyOf(), "Any: no verifier was given"},
		{"All with nil", all(yes, nil), "All: verifier 2 is nil"},
		{"Any with nil", anyOf(yes, nil), "Any: verifier 2 is nil"},
		{"Any with a nil function", anyOf(pixmed.VerifierFunc(nil), yes), "Any: verifier 1 is nil"},
		{"Any with a bad verifier beside a good one", anyOf(yes, pixmed.HeaderSecret("X")), "HeaderSecret: no secret was given"},
		{"nested", all(yes, anyOf(yes, all())), "All: no verifier was given"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			checkVerdict(t, tt.v.Verify(webhookRequest(t), specBody), tt.want)
		})
	}
}

func TestAllStopsAtTheFirstRefusal(t *testing.T) {
	t.Parallel()
	r := webhookRequest(t)
	r.Header.Set("X-Signature", hex.EncodeToString(signed("s", specPayload)))
	v := pixmed.All(pixmed.HeaderSecret("X-Secret", "s"), pixmed.HMACSHA256("X-Signature", "", "s"))
	checkVerdict(t, v.Verify(r, noBody(t)), "header X-Secret occurs 0 times, want once")
}

func TestCombinationsKeepTheirVerifiers(t *testing.T) {
	t.Parallel()
	given := []pixmed.Verifier{refuse("a")}
	for name, v := range map[string]pixmed.Verifier{"All": pixmed.All(given...), "Any": pixmed.Any(given...)} {
		given[0] = pixmed.VerifierFunc(allow) // the caller's slice is the caller's again
		if err := v.Verify(webhookRequest(t), specBody); err == nil {
			t.Errorf("%s changed with the slice it was made from", name)
		}
		given[0] = refuse("a")
	}
}

// verifierProblems returns verifiers with bad arguments, and NewHandler's errors.
func verifierProblems() map[string]struct {
	v    pixmed.Verifier
	want []string
} {
	type problem = struct {
		v    pixmed.Verifier
		want []string
	}
	white := func(name string, n int) string {
		return fmt.Sprintf("%s: secret %d has white space around it: trim it", name, n)
	}
	const (
		badName = "the header's name contains an invalid character"
		badUser = "BasicAuth: the user name is empty, has a colon in it, or white space around it"
	)
	return map[string]problem{
		"header: no secret":           {pixmed.HeaderSecret("X"), []string{"HeaderSecret: no secret was given"}},
		"header: empty secret":        {pixmed.HeaderSecret("X", "a", ""), []string{"HeaderSecret: secret 2 is empty"}},
		"header: no name":             {pixmed.HeaderSecret("", "a"), []string{"HeaderSecret: the header's name is empty"}},
		"header: no name at all":      {pixmed.HeaderSecret("", ""), []string{"HeaderSecret: secret 1 is empty", "HeaderSecret: the header's name is empty"}},
		"header: name":                {pixmed.HeaderSecret("X Secret", "a"), []string{"HeaderSecret: " + badName}},
		"header: name with colon":     {pixmed.HeaderSecret("X-Secret:", "a"), []string{"HeaderSecret: " + badName}},
		"header: Host":                {pixmed.HeaderSecret("host", "a"), []string{"HeaderSecret: Host is where the request goes, not where it comes from"}},
		"header: white space":         {pixmed.HeaderSecret("X", " a", "b\n", "c", "\u00a0d"), []string{white("HeaderSecret", 1), white("HeaderSecret", 2), white("HeaderSecret", 4)}},
		"header: line break":          {pixmed.HeaderSecret("X", "a\r\nb"), []string{"HeaderSecret: secret 1 contains a line break or another control character, which no header can carry"}},
		"query: no secret":            {pixmed.QuerySecret("t"), []string{"QuerySecret: no secret was given"}},
		"query: empty secret":         {pixmed.QuerySecret("t", ""), []string{"QuerySecret: secret 1 is empty"}},
		"query: white space":          {pixmed.QuerySecret("t", "a", "b "), []string{white("QuerySecret", 2)}},
		"query: no name":              {pixmed.QuerySecret("", "a"), []string{"QuerySecret: the parameter's name is empty"}},
		"basic: no password":          {pixmed.BasicAuth("u"), []string{"BasicAuth: no secret was given"}},
		"basic: empty password":       {pixmed.BasicAuth("u", "a", "b", ""), []string{"BasicAuth: secret 3 is empty"}},
		"basic: no user":              {pixmed.BasicAuth("", "a"), []string{badUser}},
		"basic: white space":          {pixmed.BasicAuth("u", "a\n"), []string{white("BasicAuth", 1)}},
		"basic: user white space":     {pixmed.BasicAuth("u ", "a"), []string{badUser}},
		"basic: colon":                {pixmed.BasicAuth("u:v", "a"), []string{badUser}},
		"hmac: no secret":             {pixmed.HMACSHA256("X", ""), []string{"HMACSHA256: no secret was given"}},
		"hmac: empty secret":          {pixmed.HMACSHA256("X", "", ""), []string{"HMACSHA256: secret 1 is empty"}},
		"hmac: text with white space": {pixmed.HMACSHA256("X", "", "key\n", "ação\t", "\r\n"), []string{white("HMACSHA256", 1), white("HMACSHA256", 2), white("HMACSHA256", 3)}},
		"hmac: no name":               {pixmed.HMACSHA256("", "", "a"), []string{"HMACSHA256: the header's name is empty"}},
		"hmac: name":                  {pixmed.HMACSHA256("X\nY", "", "a"), []string{"HMACSHA256: " + badName}},
		"networks: none":              {pixmed.ClientNetworks(nil), []string{"ClientNetworks: no network was given"}},
		"networks: none, proxies":     {pixmed.ClientNetworks(nil, prefixes("10.0.0.0/8")...), []string{"ClientNetworks: no network was given"}},
		"networks: bad ones": {
			pixmed.ClientNetworks([]netip.Prefix{netip.MustParsePrefix("::/0"), {}}, netip.Prefix{}),
			[]string{"ClientNetworks: network 2 is not a valid prefix", "ClientNetworks: trusted proxy 1 is not a valid prefix"},
		},
		"networks: several bad ones": {
			pixmed.ClientNetworks([]netip.Prefix{{}, {}}),
			[]string{"ClientNetworks: network 1 is not a valid prefix", "ClientNetworks: network 2 is not a valid prefix"},
		},
		"networks: wider than IPv4 in IPv6": {
			pixmed.ClientNetworks(prefixes("::ffff:0.0.0.0/90")),
			[]string{"ClientNetworks: network 1 is not a valid prefix"},
		},
		"all: none":         {pixmed.All(), []string{"All: no verifier was given"}},
		"any: none":         {pixmed.Any(), []string{"Any: no verifier was given"}},
		"all: nil":          {pixmed.All(nil, pixmed.VerifierFunc(nil)), []string{"All: verifier 1 is nil", "All: verifier 2 is nil"}},
		"a type of its own": {validatingVerifier{errors.New("my own problem")}, []string{"my own problem"}},
	}
}

type validatingVerifier struct{ problem error }

func (v validatingVerifier) Validate() error { return v.problem }

func (v validatingVerifier) Verify(*http.Request, func() ([]byte, error)) error { return nil }

func TestVerifierProblemsAreReportedAtConstruction(t *testing.T) {
	t.Parallel()
	for name, tt := range verifierProblems() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := strings.Join(tt.want, "\n")
			nested := pixmed.All(pixmed.VerifierFunc(allow), pixmed.Any(pixmed.All(tt.v)))
			for _, v := range []pixmed.Verifier{tt.v, nested} {
				h, err := pixmed.NewHandler(pixmed.ReceiverFunc(pixmed.Ignore), pixmed.WithVerifier(v))
				if h != nil || err == nil || err.Error() != want {
					t.Errorf("NewHandler = %v, %v; want %s", h, err, want)
				}
			}
			if _, own := tt.v.(validatingVerifier); own {
				return
			}
			r := webhookRequest(t)
			r.RemoteAddr = "10.0.0.1:1"
			r.Header.Set("X", "")
			if err := tt.v.Verify(r, specBody); err == nil {
				t.Error("the verifier lets requests pass nevertheless")
			}
		})
	}

	t.Run("all at once", func(t *testing.T) {
		t.Parallel()
		var nested []pixmed.Verifier
		var want []string
		for _, tt := range verifierProblems() {
			nested = append(nested, tt.v)
			want = append(want, tt.want...)
		}
		_, err := pixmed.NewHandler(pixmed.ReceiverFunc(pixmed.Ignore), pixmed.WithVerifier(pixmed.All(pixmed.Any(nested...))))
		if err == nil {
			t.Fatal("accepted")
		}
		if got := strings.Split(err.Error(), "\n"); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// Printing a verifier never shows a secret, whether its arguments are good or bad.
func TestVerifiersDoNotPrintTheirSecrets(t *testing.T) {
	t.Parallel()
	const canary = "canary"
	forms := []string{ // of text, and of bytes
		canary, hex.EncodeToString([]byte(canary)), "99 97 110 97 114 121", "0x63, 0x61, 0x6e, 0x61, 0x72, 0x79",
	}
	leaks := func(text string) bool {
		return slices.ContainsFunc(forms, func(form string) bool { return strings.Contains(text, form) })
	}
	verifiers := map[string]pixmed.Verifier{
		"header":         pixmed.HeaderSecret("X", "canary-1", "canary-2"),
		"query":          pixmed.QuerySecret("t", "canary-3"),
		"basic":          pixmed.BasicAuth("u", "canary-4"),
		"hmac":           pixmed.HMACSHA256("X", "", "canary-5"),
		"header, bad":    pixmed.HeaderSecret("X", " canary-6", "canary-7\n", ""),
		"header, turned": pixmed.HeaderSecret("canary 8", "X"),
		"basic, bad":     pixmed.BasicAuth(":", "canary-9"),
		"hmac, bad":      pixmed.HMACSHA256("", "", "canary-10"),
		"hmac, turned":   pixmed.HMACSHA256("canary 11", "X", "Y"),
	}
	all := make([]pixmed.Verifier, 0, len(verifiers))
	for _, v := range verifiers {
		all = append(all, v)
	}
	verifiers["all"], verifiers["any"] = pixmed.All(all...), pixmed.Any(all...)
	for name, v := range verifiers {
		h, err := pixmed.NewHandler(pixmed.ReceiverFunc(pixmed.Ignore), pixmed.WithVerifier(v))
		for _, value := range []any{v, &v, h, err, pixmed.WithVerifier(v)} {
			for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
				text := fmt.Sprintf(format, value)
				if leaks(text) {
					t.Errorf("%s: %s of a %T shows a secret: %s", name, format, value, text)
				}
			}
		}
		if h != nil {
			if text := fmt.Sprintf("%+v %#v", *h, *h); leaks(text) {
				t.Errorf("%s: a Handler shows a secret: %s", name, text)
			}
		}
	}
}

// No answer, log line or outcome shows a secret or what a sender tried.
func TestSecretsStaySecret(t *testing.T) {
	t.Parallel()
	const canary = "canary"
	v := pixmed.All(
		pixmed.Any(pixmed.ClientNetworks(prefixes("10.0.0.0/8")), pixmed.HeaderSecret("X-Secret", canary+"-header-1", canary+"-header-2")),
		pixmed.Any(pixmed.BasicAuth("user", canary+"-password"), pixmed.HMACSHA256("X-Signature", "", canary+"-hmac")),
		pixmed.QuerySecret("token", canary+"-query"),
	)
	right := func(r *http.Request) {
		r.Header.Set("X-Secret", canary+"-header-2")
		r.SetBasicAuth("user", canary+"-password")
		r.URL.RawQuery = "token=" + canary + "-query"
	}
	for name, change := range map[string]func(*http.Request){
		"none":           func(r *http.Request) { r.Header, r.URL.RawQuery = http.Header{}, "" },
		"all right":      func(*http.Request) {},
		"method":         func(r *http.Request) { r.Method = http.MethodGet },
		"header wrong":   func(r *http.Request) { r.Header.Set("X-Secret", canary) },
		"header twice":   func(r *http.Request) { r.Header.Add("X-Secret", canary) },
		"basic wrong":    func(r *http.Request) { r.SetBasicAuth(canary, canary) },
		"basic odd":      func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+canary) },
		"hmac wrong":     func(r *http.Request) { r.Header.Del("Authorization"); r.Header.Set("X-Signature", canary) },
		"query wrong":    func(r *http.Request) { r.URL.RawQuery = "token=" + canary },
		"query twice":    func(r *http.Request) { r.URL.RawQuery += "&token=" + canary },
		"malformed body": func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("{")) },
		"encoded":        func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") },
	} {
		for _, result := range []error{nil, errors.New("no"), pixmed.ErrBusy} {
			h := newHook(t, answer(result), pixmed.WithVerifier(v))
			r := webhookRequest(t)
			right(r)
			change(r)
			w := h.serve(r)
			o := h.outcome(t)
			text := fmt.Sprint(w.Header(), w.Body, h.log.String()) + fmt.Sprintf("%v %+v %#v %v", o, o, o, o.Err)
			if strings.Contains(text, canary) || strings.Contains(text, "Y2FuYXJ5") { // in base64
				t.Errorf("%s: %s", name, text)
			}
			if name == "all right" && result == nil && w.Code != 200 {
				t.Errorf("%s: status %d", name, w.Code)
			}
		}
	}
}
