package pixmedtest_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

func TestSigners(t *testing.T) {
	t.Parallel()
	const secret = "s3cret & more"
	for name, tt := range map[string]struct {
		signer   pixmedtest.Signer
		verifier pixmed.Verifier
	}{
		"header":           {pixmedtest.HeaderSecret("X-Secret", secret), pixmed.HeaderSecret("X-Secret", secret)},
		"query":            {pixmedtest.QuerySecret("token", secret), pixmed.QuerySecret("token", secret)},
		"basic":            {pixmedtest.BasicAuth("gateway", secret), pixmed.BasicAuth("gateway", secret)},
		"hmac":             {pixmedtest.HMACSHA256("X-Signature", "", secret), pixmed.HMACSHA256("X-Signature", "", secret)},
		"hmac with prefix": {pixmedtest.HMACSHA256("X-Signature", "sha256=", secret), pixmed.HMACSHA256("X-Signature", "sha256=", secret)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			handler := newHandler(t, pixmed.Callbacks{Other: pixmed.Ignore}, pixmed.WithVerifier(tt.verifier))
			body := []byte(pixmedtest.Sample)
			for _, c := range []struct {
				name    string
				request *http.Request
				want    int
			}{
				{"signed", pixmedtest.NewRequest("/hook?a=b", body, tt.signer), http.StatusOK},
				{"absolute", pixmedtest.NewRequest("https://merchant.example/hook", body, tt.signer), http.StatusOK},
				{"unsigned", pixmedtest.NewRequest("/hook?a=b", body), http.StatusUnauthorized},
			} {
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, c.request)
				if w.Code != c.want {
					t.Errorf("%s: got status %d, want %d", c.name, w.Code, c.want)
				}
			}

			server := httptest.NewServer(handler)
			defer server.Close()
			gateway := pixmedtest.NewGateway(pixmedtest.WithSigner(tt.signer))
			defer gateway.Close()
			if _, err := gateway.Deliver(t.Context(), server.URL, pixmedtest.NewInfraction()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRotation signs with an old and a new secret.
func TestRotation(t *testing.T) {
	t.Parallel()
	const body = "body"
	var signers []pixmedtest.Signer
	var want []string
	for _, secret := range []string{"old", "new"} {
		signer := pixmedtest.HMACSHA256("X-Signature", "sha256=", secret)
		signers = append(signers, signer)
		want = append(want, pixmedtest.NewRequest("/", []byte(body), signer).Header.Get("X-Signature"))
	}
	if want[0] == want[1] {
		t.Fatal("two secrets give the same signature")
	}
	lines := make(chan []string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		lines <- r.Header.Values("X-Signature")
	}))
	defer server.Close()
	g := pixmedtest.NewGateway(pixmedtest.WithSigner(signers[0]), pixmedtest.WithSigner(signers[1]))
	defer g.Close()
	if a := g.Post(t.Context(), server.URL, []byte(body)); a.Err != nil {
		t.Fatal(a.Err)
	}
	for name, got := range map[string][]string{
		"NewRequest": pixmedtest.NewRequest("/", []byte(body), signers...).Header.Values("X-Signature"),
		"Post":       <-lines,
	} {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: header lines (-want +got):\n%s", name, diff)
		}
	}
}
