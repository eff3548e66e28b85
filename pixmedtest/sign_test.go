package pixmedtest_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

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
				{"absolute", pixmedtest.NewRequest("https://merchant.example/hook", body, nil, tt.signer), http.StatusOK},
				{"unsigned", pixmedtest.NewRequest("/hook?a=b", body), http.StatusUnauthorized},
			} {
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, c.request)
				if w.Code != c.want {
					t.Errorf("%s: got %d, want %d", c.name, w.Code, c.want)
				}
			}

			server := httptest.NewServer(handler)
			defer server.Close()
			gateway := pixmedtest.NewGateway(pixmedtest.WithSigner(tt.signer))
			defer gateway.Close()
			if _, err := gateway.Deliver(t.Context(), server.URL, pixmedtest.NewInfraction()); err != nil {
				t.Errorf("delivered: %v", err)
			}
		})
	}
}
