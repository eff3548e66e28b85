package pixmedtest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

func TestDeliver(t *testing.T) {
	t.Parallel()
	url, bodies := merchant(t, 500, 503, 201, 204, 302, 404, 200)
	var asked []int
	g := pixmedtest.NewGateway(pixmedtest.WithSchedule(func(_ context.Context, attempts []pixmedtest.Attempt) error {
		asked = append(asked, len(attempts))
		return nil
	}))
	defer g.Close()
	i := pixmedtest.NewInfraction()
	attempts, err := g.Deliver(t.Context(), url, i)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{500, 503, 201, 204, 302, 404, 200}, codes(attempts)); diff != "" {
		t.Errorf("status codes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]int{1, 2, 3, 4, 5, 6}, asked); diff != "" {
		t.Errorf("attempts at each call of the schedule (-want +got):\n%s", diff)
	}
	want := slices.Repeat([]string{"POST application/json " + string(pixmedtest.Payload(i))}, 7)
	if diff := cmp.Diff(want, bodies()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if a := attempts[4]; string(a.Body) != "Found" || a.Header.Get("Location") != "/elsewhere" || a.Err != nil {
		t.Errorf("attempts[4] = %+v", a)
	}
}

func TestDeliverGivesUp(t *testing.T) {
	t.Parallel()
	url, _ := merchant(t, 503)
	boom := errors.New("boom")
	for name, tt := range map[string]struct {
		schedule pixmedtest.Schedule
		ended    bool // whether the context has ended
		url      string
		codes    []int
		want     string
		is       error
	}{
		"enough": {
			schedule: pixmedtest.Backoff(0, 0, 3), codes: []int{503, 503, 503},
			want: "not delivered: attempt 3, the last one, got 503 Service Unavailable: the schedule has no more attempts",
		},
		"no attempts": {
			schedule: pixmedtest.Backoff(0, 0, -1), codes: []int{503},
			want: "not delivered: attempt 1, the last one, got 503 Service Unavailable: the schedule has no more attempts",
		},
		"own error": {
			schedule: func(context.Context, []pixmedtest.Attempt) error { return boom }, codes: []int{503},
			want: "not delivered: attempt 1, the last one, got 503 Service Unavailable: boom", is: boom,
		},
		"context": {
			ended: true, schedule: func(context.Context, []pixmedtest.Attempt) error { return nil }, codes: []int{0},
			want: "not delivered: attempt 1, the last one, got no response (context canceled): context canceled", is: context.Canceled,
		},
		"not a URL": {
			url: "http://user:s3cret@\x00", schedule: pixmedtest.Backoff(0, 0, 1), codes: []int{0},
			want: "not delivered: attempt 1, the last one, got no response (net/url: invalid control character in URL): the schedule has no more attempts",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := pixmedtest.NewGateway(pixmedtest.WithSchedule(tt.schedule))
			defer g.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if tt.ended {
				cancel()
			}
			if tt.url == "" {
				tt.url = url
			}
			attempts, err := g.Deliver(ctx, tt.url, pixmedtest.NewInfraction())
			if err == nil || err.Error() != tt.want {
				t.Errorf("error %v\nwant %s", err, tt.want)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("errors.Is(err, %v) is false", tt.is)
			}
			if diff := cmp.Diff(tt.codes, codes(attempts)); diff != "" {
				t.Errorf("status codes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		first, most time.Duration
		attempts    int
		want        []time.Duration
	}{
		"doubles":        {50 * time.Millisecond, 300 * time.Millisecond, 6, []time.Duration{50e6, 100e6, 200e6, 300e6, 300e6}},
		"constant":       {time.Second, time.Second, 3, []time.Duration{1e9, 1e9}},
		"most less":      {time.Hour, time.Second, 2, []time.Duration{1e9}},
		"huge":           {1, 1<<63 - 1, 3, []time.Duration{1, 2}},
		"zero":           {0, time.Hour, 3, []time.Duration{0, 0}},
		"negative":       {-3, -1, 4, []time.Duration{0, 0, 0}},
		"negative first": {-3, time.Hour, 70, make([]time.Duration, 69)},
		"negative most":  {time.Hour, -1, 70, make([]time.Duration, 69)},
		"once":           {time.Hour, time.Hour, 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				schedule := pixmedtest.Backoff(tt.first, tt.most, tt.attempts)
				var got []time.Duration
				for attempts := []pixmedtest.Attempt{{}}; ; attempts = append(attempts, pixmedtest.Attempt{}) {
					start := time.Now()
					if err := schedule(t.Context(), attempts); err != nil {
						break
					}
					got = append(got, time.Since(start))
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("waits (-want +got):\n%s", diff)
				}
			})
		})
	}

	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := pixmedtest.Backoff(time.Hour, time.Hour, 2)(ctx, make([]pixmedtest.Attempt, 1))
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want context.DeadlineExceeded", err)
		}
	})
}

func TestDeliverDefaultSchedule(t *testing.T) {
	t.Parallel()
	url, bodies := merchant(t, 503, 200)
	g := pixmedtest.NewGateway()
	defer g.Close()
	start := time.Now()
	if _, err := g.Deliver(t.Context(), url, pixmedtest.NewInfraction()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < 50*time.Millisecond || len(bodies()) != 2 {
		t.Errorf("%d requests in %v, want 2 in at least 50ms", len(bodies()), took)
	}
}

func TestDeliveryTimeout(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	g := pixmedtest.NewGateway(
		pixmedtest.WithDeliveryTimeout(10*time.Millisecond),
		pixmedtest.WithSigner(pixmedtest.QuerySecret("token", "s3cret")),
		pixmedtest.WithSchedule(pixmedtest.Backoff(0, 0, 2)))
	defer g.Close()
	attempts, err := g.Deliver(t.Context(), server.URL, pixmedtest.NewInfraction())
	if err == nil || len(attempts) != 2 {
		t.Fatalf("%d attempts, error %v", len(attempts), err)
	}
	for _, a := range attempts {
		if !errors.Is(a.Err, context.DeadlineExceeded) || !strings.Contains(a.Err.Error(), "no response within 10ms") {
			t.Errorf("Err = %v, want no response within 10ms", a.Err)
		}
	}
	if s := err.Error(); strings.Contains(s, "s3cret") || strings.Contains(s, server.URL) {
		t.Errorf("the error includes the URL: %s", s)
	}
}

func TestPost(t *testing.T) {
	t.Parallel()
	url, bodies := merchant(t, 400)
	g := pixmedtest.NewGateway()
	defer g.Close()
	a := g.Post(t.Context(), url, []byte("{"))
	if a.StatusCode != http.StatusBadRequest || a.String() != "400 Bad Request" {
		t.Errorf("got %v, want 400 Bad Request", a)
	}
	if diff := cmp.Diff([]string{"POST application/json {"}, bodies()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}

	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("é", 1<<20))
	}))
	defer server.Close()
	a = g.Post(t.Context(), server.URL, nil)
	if a.StatusCode != http.StatusOK || len(a.Body) != 64<<10 || a.Err != nil {
		t.Errorf("got %d, %d bytes, error %v, want 200, 64 KiB, nil", a.StatusCode, len(a.Body), a.Err)
	}
	if want := "200 " + strings.Repeat("é", 100); a.String() != want {
		t.Errorf("String() = %q, want %q", a.String(), want)
	}
	server.Close()
	if a = g.Post(t.Context(), server.URL, nil); a.Err == nil || a.StatusCode != 0 {
		t.Errorf("Post to a closed server: %v, want an error", a)
	}
}

func TestAttemptString(t *testing.T) {
	t.Parallel()
	for want, a := range map[string]pixmedtest.Attempt{
		"200":                             {StatusCode: 200},
		"503 a b":                         {StatusCode: 503, Body: []byte("\n a \t\r\n b \n")},
		"400 [2Jé ]0;title":               {StatusCode: 400, Body: []byte("\x1b[2J\xffé\u202e\x1b]0;title\a")},
		"no response (x [2J y)":           {Err: errors.New("x\x1b[2J\ny")},
		"500 " + strings.Repeat("x", 199): {StatusCode: 500, Body: []byte(strings.Repeat("x", 199) + "éyz")},
	} {
		if got := a.String(); got != want {
			t.Errorf("String() = %q, want %q", got, want)
		}
	}
}

// TestGzip checks that deliveries and other posts are compressed before they are
// signed.
func TestGzip(t *testing.T) {
	t.Parallel()
	type request struct {
		Encoding, Signature, Body string
		Length                    int64
	}
	requests := make(chan request, 2)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- request{r.Header.Get("Content-Encoding"), r.Header.Get("X-Signature"), string(body), r.ContentLength}
	}))
	defer server.Close()
	signer := pixmedtest.HMACSHA256("X-Signature", "sha256=", "s3cret")
	g := pixmedtest.NewGateway(pixmedtest.WithGzip(), pixmedtest.WithSigner(signer))
	defer g.Close()

	check := func(want []byte) {
		t.Helper()
		got := <-requests
		if body := gunzip(t, got.Body); body != string(want) {
			t.Errorf("decompressed body %q, want %q", body, want)
		}
		signed := pixmedtest.NewRequest("/", []byte(got.Body), signer)
		if diff := cmp.Diff(request{"gzip", signed.Header.Get("X-Signature"), got.Body, int64(len(got.Body))}, got); diff != "" {
			t.Errorf("request (-want +got):\n%s", diff)
		}
	}
	i := pixmedtest.NewInfraction()
	if _, err := g.Deliver(t.Context(), server.URL, i); err != nil {
		t.Fatal(err)
	}
	check(pixmedtest.Payload(i))
	if a := g.Post(t.Context(), server.URL, []byte("{")); a.Err != nil {
		t.Fatal(a.Err)
	}
	check([]byte("{"))
}

func TestDeliverTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(newHandler(t, pixmed.Callbacks{Other: pixmed.Ignore}, pixmed.WithoutVerification()))
	defer server.Close()
	g := pixmedtest.NewGateway(pixmedtest.WithTLS(), pixmedtest.WithSchedule(pixmedtest.Backoff(0, 0, 1)))
	defer g.Close()
	if _, err := g.Deliver(t.Context(), server.URL, pixmedtest.NewInfraction()); err != nil {
		t.Error(err)
	}
}

// TestDuplicates delivers everything three times, out of order and concurrently,
// to a handler that deduplicates.
func TestDuplicates(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	handled := make(map[pixmed.Key]int)
	handler := newHandler(t, pixmed.Deduplicate(&pixmed.MemoryStore{}, receive(func(n *pixmed.Notification) error {
		mu.Lock()
		defer mu.Unlock()
		handled[n.Key()]++
		return nil
	})), pixmed.WithoutVerification())
	server := httptest.NewServer(handler)
	defer server.Close()
	g := pixmedtest.NewGateway()
	defer g.Close()

	want := make(map[pixmed.Key]int)
	infractions := make([]pixmed.Infraction, 20)
	for n := range infractions {
		infractions[n] = pixmedtest.NewInfraction()
		want[infractions[n].Key()] = 1
	}
	var all sync.WaitGroup
	for batch := range slices.Chunk(pixmedtest.Shuffled(infractions, 3, 42), 15) {
		all.Go(func() {
			for _, i := range batch {
				if _, err := g.Deliver(t.Context(), server.URL, i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if diff := cmp.Diff(want, handled); diff != "" {
		t.Errorf("handled (-want +got):\n%s", diff)
	}
}
