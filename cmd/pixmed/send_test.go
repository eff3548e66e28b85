package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/internal/text"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// receiver is a merchant's webhook, and remembers the statuses that it was called
// with.
type receiver struct {
	url string

	mu       sync.Mutex
	statuses []string
}

func newReceiver(t *testing.T, verifier pixmed.Verifier) *receiver {
	t.Helper()
	r := &receiver{}
	handler, err := pixmed.NewHandler(pixmed.Deduplicate(&pixmed.MemoryStore{}, pixmed.Callbacks{Other: r.note}), pixmed.WithVerifier(verifier))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r *receiver) note(_ context.Context, n *pixmed.Notification) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.statuses = append(r.statuses, string(n.MEDStatus))
	return nil
}

func (r *receiver) got() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.statuses, " ")
}

// Each history arrives as it says, and what a gateway would be content with is no
// failure.
func TestSendHistories(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args  []string
		got   string // what the receiver was called with
		sent  int
		lines []string
	}{
		"sample":    {nil, "ACKNOWLEDGED", 1, []string{"  1  the sample  ", "200 OK", "content"}},
		"single":    {[]string{"single", "--transaction", "B6E0EE4E-b3a3-4042-ac4d-fba92ebd96a5"}, "ACKNOWLEDGED", 1, []string{"ACKNOWLEDGED of b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5"}},
		"duplicate": {[]string{"duplicate"}, "ACKNOWLEDGED", 2, nil},
		"cancelled": {[]string{"cancelled"}, "ACKNOWLEDGED CANCELLED", 2, []string{"  2  CANCELLED of "}},
		"debited":   {[]string{"debited"}, "ACKNOWLEDGED DEBITED", 2, nil},
		"shuffled":  {[]string{"shuffled", "--seed", "7"}, "", 6, []string{"(--seed 7)"}},
		"broken":    {[]string{"broken"}, "", 7, []string{"cut off half way", "400 Bad Request", "not content, and told why", "422 Unprocessable Entity", "malformed JSON", "empty"}},
		"burst":     {[]string{"burst", "--count", "50", "--parallel", "8"}, strings.TrimSpace(strings.Repeat("ACKNOWLEDGED ", 50)), 50, []string{"50 sent, 50 as expected; answered in"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t, pixmed.HeaderSecret("X-Webhook-Secret", webhookSecret))
			got := try(t, map[string]string{"PIXMED_WEBHOOK_SECRETS": webhookSecret + " " + olderSecret}, append([]string{"send", r.url}, test.args...)...)
			if got.code != exitOK || got.err != "" {
				t.Errorf("%+v", got)
			}
			contains(t, strings.ReplaceAll(got.out, "Malformed", "malformed"), append(test.lines, fmt.Sprintf("%d sent, %d as expected", test.sent, test.sent))...)
			if test.got != "" && r.got() != test.got {
				t.Errorf("the receiver got %s, want %s", r.got(), test.got)
			}
			if name == "shuffled" {
				if again := try(t, map[string]string{"PIXMED_WEBHOOK_SECRETS": webhookSecret}, "send", r.url, "shuffled", "--seed", "7"); statusesIn(again.out) != statusesIn(got.out) || strings.Count(statusesIn(got.out), "DEBITED") != 2 {
					t.Errorf("%s, and again %s", statusesIn(got.out), statusesIn(again.out))
				}
			}
		})
	}
}

func statusesIn(text string) string {
	return strings.Join(regexp.MustCompile(`[A-Z]+ED of`).FindAllString(text, -1), " ")
}

// Every kind of proof is what the SDK's verifier of the same kind asks for, and
// without the right secret the exit code says so.
func TestSendProofs(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(webhookSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	header, hmac := pixmed.HeaderSecret("X-Secret", webhookSecret), pixmed.HMACSHA256("X-Hub", "sha256=", olderSecret)
	for name, test := range map[string]struct {
		verifier pixmed.Verifier
		env      map[string]string
	}{
		"header":    {header, map[string]string{"PIXMED_WEBHOOK_SECRETS": webhookSecret, "PIXMED_WEBHOOK_HEADER": "X-Secret"}},
		"from file": {header, map[string]string{"PIXMED_WEBHOOK_SECRETS_FILE": file, "PIXMED_WEBHOOK_HEADER": "X-Secret"}},
		"query":     {pixmed.QuerySecret("key", webhookSecret), map[string]string{"PIXMED_VERIFY": "query", "PIXMED_WEBHOOK_QUERY_SECRETS": webhookSecret, "PIXMED_WEBHOOK_QUERY": "key"}},
		"basic":     {pixmed.BasicAuth("pix", webhookSecret), map[string]string{"PIXMED_VERIFY": "basic", "PIXMED_WEBHOOK_PASSWORDS": webhookSecret, "PIXMED_WEBHOOK_USER": "pix"}},
		"hmac":      {hmac, map[string]string{"PIXMED_VERIFY": "hmac", "PIXMED_WEBHOOK_HMAC_SECRETS": olderSecret, "PIXMED_WEBHOOK_HMAC_HEADER": "X-Hub", "PIXMED_WEBHOOK_HMAC_PREFIX": "sha256="}},
		"all": {pixmed.All(header, hmac), map[string]string{
			"PIXMED_VERIFY": "header+hmac,basic", "PIXMED_WEBHOOK_SECRETS": webhookSecret, "PIXMED_WEBHOOK_HEADER": "X-Secret", "PIXMED_WEBHOOK_PASSWORDS": webhookSecret,
			"PIXMED_WEBHOOK_HMAC_SECRETS": olderSecret, "PIXMED_WEBHOOK_HMAC_HEADER": "X-Hub", "PIXMED_WEBHOOK_HMAC_PREFIX": "sha256=",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReceiver(t, test.verifier)
			if got := try(t, test.env, "send", r.url); got.code != exitOK {
				t.Errorf("%+v", got)
			}
			got := try(t, map[string]string{"PIXMED_WEBHOOK_SECRETS": opsPass}, "send", r.url)
			if got.code != exitRefused || r.got() != "ACKNOWLEDGED" {
				t.Errorf("another secret: %+v; the receiver was called with %s", got, r.got())
			}
			contains(t, got.out, "401 Unauthorized", "NOT CONTENT: the secret or signature was rejected")
			contains(t, got.err, "compare --verify and the secret")
		})
	}
}

// A gateway is content with exactly 200; and what the webhook answers neither
// reaches the terminal as it is, nor shows the secret that it repeats.
func TestSendVerdicts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		code   int
		want   []string
	}{
		"created":   {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusCreated) }, exitFailed, []string{"201 Created", other}},
		"moved":     {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusPermanentRedirect) }, exitFailed, []string{"308 ", moved}},
		"forbidden": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusForbidden) }, exitRefused, []string{"403 Forbidden", refused}},
		"invalid":   {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusUnprocessableEntity) }, exitFailed, []string{"422 ", other}},
		"hostile": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = fmt.Fprint(w, "\x1b[2J\u202eno\n1  content")
		}, exitFailed, []string{"500 Internal Server Error", other, `"\x1b[2J\u202eno\n1  content"`}},
		"repeats": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = fmt.Fprintf(w, "you sent %s", r.Header.Get("X-Webhook-Secret"))
		}, exitFailed, []string{"500 Internal Server Error", other, text.Redacted}},
		"cut":  {func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, exitFailed, []string{"no answer (", never}},
		"slow": {func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body); <-r.Context().Done() }, exitFailed, []string{"no answer (context deadline exceeded)", never}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(test.answer)
			t.Cleanup(server.Close)
			got := try(t, map[string]string{"PIXMED_WEBHOOK_SECRETS": webhookSecret}, "send", server.URL+"/?debug=1", "--timeout", "300ms")
			if got.code != test.code || strings.ContainsAny(got.out+got.err, "\x1b\u202e") {
				t.Errorf("%+v, want code %d", got, test.code)
			}
			contains(t, got.out, append(test.want, "1 sent, 0 as expected")...)
		})
	}
	if got := try(t, map[string]string{"PIXMED_WEBHOOK_SECRETS": webhookSecret}, "send", "http://127.0.0.1:1/"); got.code != exitFailed || !strings.Contains(got.out, "refused") {
		t.Errorf("nobody listens: %+v", got)
	}
}

func TestSendInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { cancel() }))
	t.Cleanup(server.Close)
	got := tryWith(ctx, t, &process{in: strings.NewReader(""), env: map[string]string{"PIXMED_WEBHOOK_SECRETS": webhookSecret}}, "send", server.URL, "burst", "--count", "100000", "--parallel", "1")
	if got.code != exitInterrupted || !strings.Contains(got.err, "interrupted after ") {
		t.Errorf("%+v", got)
	}
}

func TestSendMistakes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		want []string
	}{
		"no URL":         {nil, []string{"pixmed send: want the webhook's URL"}},
		"too many":       {[]string{"https://x", "single", webhookSecret}, []string{"not 3 arguments"}},
		"no such story":  {[]string{"https://x", webhookSecret}, []string{"there is no history of this name"}},
		"no URL at all":  {[]string{"localhost:8080"}, []string{"it should look like https://"}},
		"does not parse": {[]string{"http://x/%zz" + webhookSecret}, []string{"it should look like https://"}},
		"a password":     {[]string{"https://u:" + webhookSecret + "@x"}, []string{"use --verify basic"}},
		"a secret":       {[]string{"https://x/?token=" + webhookSecret}, []string{"use --verify query and PIXMED_WEBHOOK_QUERY_SECRETS"}},
		"to the network": {[]string{"http://merchant.example/"}, []string{"--webhook-plain-http if you mean it"}},
		"one dash":       {[]string{"https://x", "-timeout", "1s"}, []string{"write --timeout, with two dashes"}},
		"a value":        {[]string{"https://x", "--timeout"}, []string{"--timeout needs a value"}},
		"all at once": {
			[]string{"ftp://x", "--count", "0", "--parallel", "x", "--timeout", "2h", "--seed", "-1", "--transaction", "\x1b[2J"},
			[]string{"should look like", "--count: want", "--parallel: want", "--timeout: want", "--seed: want", "--transaction: it is not an id"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := try(t, map[string]string{"PIXMED_WEBHOOK_SECRETS": webhookSecret}, append([]string{"send"}, test.args...)...)
			if got.code != exitUsage || got.out != "" {
				t.Errorf("%+v", got)
			}
			contains(t, got.err, test.want...)
		})
	}
	if got := try(t, nil, "__complete", "send", "http://x", ""); !strings.Contains(got.out, "debited\tACKNOWLEDGED, then DEBITED") {
		t.Errorf("%+v", got)
	}
}

// What is broken is: no receiver can take it for an infraction.
func TestBrokenHistory(t *testing.T) {
	t.Parallel()
	for _, d := range (plan{}).broken() {
		if i, err := pixmed.ParseInfraction(d.body); err == nil {
			t.Errorf("%s is %v", d.about, i)
		}
	}
	if diff := cmp.Diff(pixmedtest.Sample, string(histories[0].deliveries(plan{})[0].body)); diff != "" {
		t.Errorf("the default (-want +got):\n%s", diff)
	}
}
