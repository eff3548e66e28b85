package pixmed_test

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed"
)

func TestHeaderSecret(t *testing.T) {
	t.Parallel()
	const (
		none2   = "header X-Secret holds none of the 2 secrets"
		missing = "header X-Secret occurs 0 times, want once"
		twice   = "header X-Secret occurs 2 times, want once"
	)
	for _, tt := range []struct {
		name    string
		headers []string
		want    string
	}{
		{"first secret", []string{"old-secret"}, ""},
		{"second secret, for rotation", []string{"new-secret"}, ""},
		{"another", []string{"wrong"}, none2},
		{"empty", []string{""}, none2},
		{"start of one", []string{"old-secre"}, none2},
		{"more than one", []string{"old-secret2"}, none2},
		{"both in one header", []string{"old-secret,new-secret"}, none2},
		{"in other letter case", []string{"OLD-SECRET"}, none2},
		{"missing", nil, missing},
		{"the same twice", []string{"old-secret", "old-secret"}, twice},
		{"right and wrong", []string{"old-secret", "wrong"}, twice},
		{"wrong and right", []string{"wrong", "old-secret"}, twice},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := webhookRequest(t)
			for _, value := range tt.headers {
				r.Header.Add("X-Secret", value)
			}
			checkVerdict(t, pixmed.HeaderSecret("X-Secret", "old-secret", "new-secret").Verify(r, noBody(t)), tt.want)
		})
	}
	t.Run("the name's letter case does not matter", func(t *testing.T) {
		t.Parallel()
		r := webhookRequest(t)
		r.Header.Set("X-Secret", "s")
		checkVerdict(t, pixmed.HeaderSecret("x-sECRET", "s").Verify(r, noBody(t)), "")
	})
}

func TestQuerySecret(t *testing.T) {
	t.Parallel()
	const (
		none2   = "query parameter token holds none of the 2 secrets"
		missing = "query parameter token occurs 0 times, want once"
		twice   = "query parameter token occurs 2 times, want once"
	)
	for _, tt := range []struct{ query, want string }{
		{"?token=old%26secret", ""},
		{"?a=b&token=new+secret", ""},
		{"?token=new%20secret&a=b", ""},
		{"?token=wrong", none2},
		{"?token=", none2},
		{"?token", none2},
		{"", missing},
		{"?Token=old%26secret", missing},
		{"?token=old%26secret&token=old%26secret", twice},
		{"?token=wrong&token=old%26secret", twice},
		{"?token=%zz", missing},
	} {
		t.Run(tt.query, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/webhook"+tt.query, http.NoBody)
			checkVerdict(t, pixmed.QuerySecret("token", "old&secret", "new secret").Verify(r, noBody(t)), tt.want)
		})
	}
}

func TestBasicAuth(t *testing.T) {
	t.Parallel()
	const (
		absent = "no HTTP Basic credentials"
		wrong  = "wrong HTTP Basic user name or password"
	)
	basic := func(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }
	for _, tt := range []struct{ name, header, want string }{
		{"first password", basic("gateway:old:password"), ""},
		{"second password, for rotation", basic("gateway:new"), ""},
		{"scheme in lower case", "b" + basic("gateway:new")[1:], ""},
		{"wrong password", basic("gateway:wrong"), wrong},
		{"wrong user", basic("other:new"), wrong},
		{"empty password", basic("gateway:"), wrong},
		{"empty both", basic(":"), wrong},
		{"no colon", basic("gateway"), absent},
		{"no header", "", "header Authorization occurs 0 times, want once"},
		{"another scheme", "Bearer new", absent},
		{"not base64", "Basic !", absent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := webhookRequest(t)
			if tt.header != "" {
				r.Header.Set("Authorization", tt.header)
			}
			checkVerdict(t, pixmed.BasicAuth("gateway", "old:password", "new").Verify(r, noBody(t)), tt.want)
		})
	}
	t.Run("twice", func(t *testing.T) {
		t.Parallel()
		r := webhookRequest(t)
		r.Header["Authorization"] = []string{basic("gateway:new"), basic("gateway:new")}
		checkVerdict(t, pixmed.BasicAuth("gateway", "new").Verify(r, noBody(t)), "header Authorization occurs 2 times, want once")
	})
}

// Two secrets are accepted while one replaces the other.
func TestRotation(t *testing.T) {
	t.Parallel()
	h := newHook(t, answer(nil), pixmed.WithVerifier(pixmed.HeaderSecret("X-Secret", strings.Fields(" old  new\n")...)))
	for secret, want := range map[string]int{"old": 200, "new": 200, "older": 401, "": 401, "old new": 401} {
		r := webhookRequest(t)
		r.Header.Set("X-Secret", secret)
		if w := h.serve(r); w.Code != want {
			t.Errorf("%q: status %d, want %d", secret, w.Code, want)
		}
	}
}
