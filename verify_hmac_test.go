package pixmed_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed"
)

func TestHMACSHA256(t *testing.T) {
	t.Parallel()
	// A secret whose signature has both characters in which the alphabets of
	// base64 differ.
	old := "old"
	for {
		text := base64.URLEncoding.EncodeToString(signed(old, specPayload))
		if strings.Contains(text, "-") && strings.Contains(text, "_") {
			break
		}
		old += "-"
	}
	sum := signed(old, specPayload)
	const (
		nothing = "header X-Signature matches the body under none of the 2 secrets"
		form    = "header X-Signature holds no HMAC-SHA256 in hex or base64"
		prefix  = "header X-Signature holds no HMAC-SHA256 in hex or base64 after the expected prefix"
	)
	for _, tt := range []struct {
		name, prefix string
		headers      []string
		want         string
	}{
		{"hex", "", []string{hex.EncodeToString(sum)}, ""},
		{"hex in upper case", "", []string{strings.ToUpper(hex.EncodeToString(sum))}, ""},
		{"base64", "", []string{base64.StdEncoding.EncodeToString(sum)}, ""},
		{"base64 with too much padding", "", []string{base64.StdEncoding.EncodeToString(sum) + "="}, form},
		{"base64 without padding", "", []string{base64.RawStdEncoding.EncodeToString(sum)}, ""},
		{"base64 for URLs", "", []string{base64.URLEncoding.EncodeToString(sum)}, ""},
		{"base64 for URLs without padding", "", []string{base64.RawURLEncoding.EncodeToString(sum)}, ""},
		{"second secret, for rotation", "", []string{hex.EncodeToString(signed("new", specPayload))}, ""},
		{"prefix and hex", "sha256=", []string{"sha256=" + hex.EncodeToString(sum)}, ""},
		{"prefix and base64", "v1,", []string{"v1," + base64.StdEncoding.EncodeToString(sum)}, ""},

		{"another secret", "", []string{hex.EncodeToString(signed("other", specPayload))}, nothing},
		{"another body", "", []string{hex.EncodeToString(signed(old, specPayload+"\n"))}, nothing},
		{"SHA-256 without a key", "", []string{fmt.Sprintf("%x", sha256.Sum256([]byte(specPayload)))}, nothing},
		{"first half wrong", "", []string{strings.Repeat("0", 32) + hex.EncodeToString(sum)[32:]}, nothing},
		{"last byte wrong", "", []string{hex.EncodeToString(append(sum[:31:31], sum[31]+1))}, nothing},

		{"prefix wanted and missing", "sha256=", []string{hex.EncodeToString(sum)}, prefix},
		{"prefix in other letter case", "sha256=", []string{"SHA256=" + hex.EncodeToString(sum)}, prefix},
		{"prefix alone", "sha256=", []string{"sha256="}, prefix},
		{"prefix that is not wanted", "", []string{"sha256=" + hex.EncodeToString(sum)}, form},
		{"empty", "", []string{""}, form},
		{"31 bytes of hex", "", []string{hex.EncodeToString(sum[:31])}, form},
		{"33 bytes of hex", "", []string{hex.EncodeToString(append(sum[:32:32], 0))}, form},
		{"31 bytes of base64", "", []string{base64.StdEncoding.EncodeToString(sum[:31])}, form},
		{"33 bytes of base64", "", []string{base64.StdEncoding.EncodeToString(append(sum[:32:32], 0))}, form},
		{"hex with another letter", "", []string{"g" + hex.EncodeToString(sum)[1:]}, form},
		{"the bytes themselves", "", []string{string(sum)}, form},
		{"missing", "", nil, "header X-Signature is missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := webhookRequest(t)
			for _, value := range tt.headers {
				r.Header.Add("X-Signature", value)
			}
			body := specBody
			if tt.want != "" && tt.want != nothing { // what cannot be right is refused without the body
				body = noBody(t)
			}
			checkVerdict(t, pixmed.HMACSHA256("X-Signature", tt.prefix, old, "new").Verify(r, body), tt.want)
		})
	}

	t.Run("body that a middleware has consumed", func(t *testing.T) {
		t.Parallel()
		const consumed = "header X-Signature does not match the body, which is empty though the request announced one: a middleware may have consumed it"
		empty := func() ([]byte, error) { return nil, nil }
		for length, want := range map[int64]string{int64(len(specPayload)): consumed, -1: consumed, 0: nothing} {
			r := webhookRequest(t)
			r.ContentLength = length
			r.Header.Set("X-Signature", hex.EncodeToString(sum))
			checkVerdict(t, pixmed.HMACSHA256("X-Signature", "", old, "new").Verify(r, empty), want)
		}
	})
	t.Run("empty body, signed", func(t *testing.T) {
		t.Parallel()
		r := webhookRequest(t)
		r.Header.Set("X-Signature", hex.EncodeToString(signed(old, "")))
		checkVerdict(t, pixmed.HMACSHA256("X-Signature", "", old).Verify(r, func() ([]byte, error) { return nil, nil }), "")
	})
	t.Run("body that cannot be read", func(t *testing.T) {
		t.Parallel()
		r := webhookRequest(t)
		r.Header.Set("X-Signature", hex.EncodeToString(sum))
		cut := errors.New("cut off")
		err := pixmed.HMACSHA256("X-Signature", "", old).Verify(r, func() ([]byte, error) { return []byte(specPayload), cut })
		if !errors.Is(err, cut) {
			t.Errorf("Verify = %v, want the body's error", err)
		}
	})
}

// FuzzHMACSHA256 gives the verifier any signature: it lets in what an HMAC under a
// secret reads as, in hex or in an alphabet of base64, and nothing else.
func FuzzHMACSHA256(f *testing.F) {
	secrets := []string{"current", "former"}
	right := signed(secrets[0], specPayload)
	for _, given := range []string{
		"", "=", "sha256=", "sha256=sha256=",
		hex.EncodeToString(right), "sha256=" + hex.EncodeToString(right),
		"sha256=" + strings.ToUpper(hex.EncodeToString(right)),
		"sha256=" + hex.EncodeToString(signed(secrets[1], specPayload)),
		"sha256=" + hex.EncodeToString(signed("", specPayload)),
		"sha256=" + hex.EncodeToString(right[:31]),
		"sha256=" + base64.StdEncoding.EncodeToString(right),
		"sha256=" + base64.RawURLEncoding.EncodeToString(right),
		"sha256=" + base64.StdEncoding.EncodeToString(right) + "=",
		"sha256=" + strings.Repeat("0", 64),
		"sha256=\x00\xff",
	} {
		f.Add(given, specPayload)
	}
	f.Add("sha256="+hex.EncodeToString(signed(secrets[0], "")), "")
	v := pixmed.HMACSHA256("X-Signature", "sha256=", secrets...)
	verdict := func(given, body string) error {
		r := &http.Request{Header: http.Header{"X-Signature": {given}}}
		return v.Verify(r, func() ([]byte, error) { return []byte(body), nil })
	}
	decoders := []func(string) ([]byte, error){
		hex.DecodeString, base64.StdEncoding.DecodeString, base64.RawStdEncoding.DecodeString,
		base64.URLEncoding.DecodeString, base64.RawURLEncoding.DecodeString,
	}
	f.Fuzz(func(t *testing.T, given, body string) {
		if err := verdict(given, body); err == nil {
			signature, prefixed := strings.CutPrefix(given, "sha256=")
			// A mix of the two alphabets is as good.
			plain := strings.NewReplacer("-", "+", "_", "/").Replace(signature)
			genuine := slices.ContainsFunc(decoders, func(decode func(string) ([]byte, error)) bool {
				sum, err := decode(plain)
				return err == nil && slices.ContainsFunc(secrets, func(s string) bool { return bytes.Equal(sum, signed(s, body)) })
			})
			if !prefixed || !genuine {
				t.Errorf("the signature %q lets %q in", given, body)
			}
		}
		for _, secret := range secrets {
			sum := signed(secret, body)
			for _, good := range []string{
				hex.EncodeToString(sum), strings.ToUpper(hex.EncodeToString(sum)),
				base64.StdEncoding.EncodeToString(sum), base64.RawStdEncoding.EncodeToString(sum),
				base64.URLEncoding.EncodeToString(sum), base64.RawURLEncoding.EncodeToString(sum),
			} {
				if err := verdict("sha256="+good, body); err != nil {
					t.Errorf("the right signature %q: %v", good, err)
				}
				if err := verdict("sha256="+good, body+given+"."); err == nil {
					t.Errorf("the signature of %q lets another body in", body)
				}
			}
		}
		if err := verdict("sha256="+hex.EncodeToString(signed(given+".", body)), body); err == nil {
			t.Errorf("a signature under the secret %q is let in", given+".")
		}
	})
}
