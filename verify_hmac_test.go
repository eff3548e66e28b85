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
	"sync"
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
		form    = "header X-Signature holds no HMAC-SHA256 in hex or base64 (after the prefix, if one was given)"
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

		{"prefix wanted and missing", "sha256=", []string{hex.EncodeToString(sum)}, form},
		{"prefix in other letter case", "sha256=", []string{"SHA256=" + hex.EncodeToString(sum)}, form},
		{"prefix alone", "sha256=", []string{"sha256="}, form},
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
			if tt.want != "" && tt.want != nothing { // what cannot be right is rejected without the body
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

// Senders that rotate their secret send a signature under each.
func TestHMACSHA256Lists(t *testing.T) {
	t.Parallel()
	const (
		nothing = "header X-Signature matches the body under none of the 1 secrets"
		none    = "header X-Signature holds no HMAC-SHA256 in hex or base64 (after the prefix, if one was given)"
		tooMany = "header X-Signature has more than 16 values"
	)
	right, wrong := hex.EncodeToString(signed("s", specPayload)), hex.EncodeToString(signed("old", specPayload))
	coded := base64.StdEncoding.EncodeToString(signed("s", specPayload))
	times := func(n int, s string) []string { return slices.Repeat([]string{s}, n) }
	list := func(n int, last string) string { return strings.Join(append(times(n-1, "sha256="+wrong), last), ",") }
	for _, tt := range []struct {
		name, prefix string
		headers      []string
		want         string
	}{
		{"old, new", "sha256=", []string{"sha256=" + wrong + ",sha256=" + right}, ""},
		{"new, old", "sha256=", []string{"sha256=" + right + ",sha256=" + wrong}, ""},
		{"two lines", "sha256=", []string{"sha256=" + wrong, "sha256=" + right}, ""},
		{"two lines, new first", "sha256=", []string{"sha256=" + right, "sha256=" + wrong}, ""},
		{"the same twice", "", []string{right, right}, ""},
		{"lists on two lines", "", []string{wrong + "," + wrong, wrong + "," + right}, ""},
		{"hex and base64", "", []string{wrong + "," + coded}, ""},
		{"white space around the parts", "sha256=", []string{" \tsha256=" + wrong + " , sha256=" + right + "\t "}, ""},
		{"all wrong", "sha256=", []string{"sha256=" + wrong + ",sha256=" + wrong, "sha256=" + wrong}, nothing},

		{"parts with other names are skipped", "v1=", []string{"t=1737224692,v1=" + wrong + ",v0=" + right + ",v1=" + right}, ""},
		{"a part with another name does not count", "v1=", []string{"t=1737224692,v0=" + right}, none},
		{"junk is skipped", "", []string{",junk,," + right[:63] + "," + right + ",\x00"}, ""},
		{"junk on another line is skipped", "sha256=", []string{"", "sha256=", "sha256=" + right}, ""},
		{"nothing but junk", "", []string{",junk,," + right[:63], ""}, none},
		{"a prefix for one part does not hold for the next", "sha256=", []string{"sha256=" + wrong + "," + right}, nothing},

		{"a prefix with a comma in it", "v1,", []string{"v1," + coded}, ""},
		{"a prefix with a comma in it, on two lines", "v1,", []string{"v1," + wrong, "v1," + coded}, ""},
		{"a prefix with a comma in it, and another version", "v1,", []string{"v1a," + coded, "v1," + right}, ""},
		{"a prefix with a comma in it, missing", "v1,", []string{coded}, none},

		{"16 in a list", "sha256=", []string{list(16, "sha256="+right)}, ""},
		{"17 in a list", "sha256=", []string{list(17, "sha256="+right)}, tooMany},
		{"17 in a list, the first is right", "", []string{strings.Join(times(17, right), ",")}, tooMany},
		{"16 lines", "", append(times(15, wrong), right), ""},
		{"17 lines", "", append(times(16, wrong), right), tooMany},
		{"16 in lists on two lines", "sha256=", []string{list(8, "sha256="+wrong), list(8, "sha256="+right)}, ""},
		{"17 in lists on two lines", "sha256=", []string{list(8, "sha256="+wrong), list(9, "sha256="+right)}, tooMany},
		{"junk counts", "sha256=", []string{strings.Repeat(",", 16) + "sha256=" + right}, tooMany},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := webhookRequest(t)
			r.Header["X-Signature"] = tt.headers
			body := specBody
			if tt.want != "" && tt.want != nothing { // what cannot be right is rejected without the body
				body = noBody(t)
			}
			checkVerdict(t, pixmed.HMACSHA256("X-Signature", tt.prefix, "s").Verify(r, body), tt.want)
		})
	}
}

// A key of random bytes may begin or end with white space; text may not.
func TestHMACSHA256Keys(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, key string
		text      bool
	}{
		{"trimmed text", "a key", true},
		{"a space at the end", "key ", false},
		{"a line break at the end", "key\n", false},
		{"CRLF at the end", "key\r\n", false},
		{"a tab at the start", "\tkey", false},
		{"other scripts", " chave secreta não", false},
		{"a space that is not ASCII", "key\u00a0", false},
		{"hex with a line break", "00ff00ff\n", false},
		{"white space alone", " \n", false},
		{"bytes", "\x00\x01\x02 ", true},
		{"bytes that begin with a line break", "\n\x80\x81", true},
		{"bytes that end with a space", "abc\x7f ", true},
		{"half a character", "key\xc3\n", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := pixmed.HMACSHA256("X-Signature", "", "other", tt.key)
			_, err := pixmed.NewHandler(answer(nil), pixmed.WithVerifier(v))
			const want = "HMACSHA256: secret 2 has white space around it: trim it"
			if !tt.text {
				if err == nil || err.Error() != want {
					t.Errorf("NewHandler: %v, want %s", err, want)
				}
				return
			}
			if err != nil {
				t.Fatalf("NewHandler: %v", err)
			}
			r := webhookRequest(t)
			r.Header.Set("X-Signature", hex.EncodeToString(signed(tt.key, specPayload)))
			checkVerdict(t, v.Verify(r, specBody), "")
		})
	}
}

// FuzzHMACSHA256 gives the verifier any header values, one for each line. It
// must accept those that hold an HMAC under a secret, in hex or either alphabet
// of base64, and nothing else.
func FuzzHMACSHA256(f *testing.F) {
	const most = 16
	secrets := []string{"current", "former"}
	right := signed(secrets[0], specPayload)
	inHex := hex.EncodeToString(right)
	for _, given := range []string{
		"", "=", "sha256=", "sha256=sha256=",
		inHex, "sha256=" + inHex,
		"sha256=" + strings.ToUpper(inHex),
		"sha256=" + hex.EncodeToString(signed(secrets[1], specPayload)),
		"sha256=" + hex.EncodeToString(signed("", specPayload)),
		"sha256=" + hex.EncodeToString(right[:31]),
		"sha256=" + base64.StdEncoding.EncodeToString(right),
		"sha256=" + base64.RawURLEncoding.EncodeToString(right),
		"sha256=" + base64.StdEncoding.EncodeToString(right) + "=",
		"sha256=" + strings.Repeat("0", 64),
		"sha256=\x00\xff",
		"sha256=" + strings.Repeat("0", 64) + ", sha256=" + inHex,
		"sha256=" + strings.Repeat("0", 64) + "\nsha256=" + inHex,
		"t=5,v1=x,sha256=" + inHex + ",,",
		strings.Repeat(",", most-1) + "sha256=" + inHex,
		strings.Repeat(",", most) + "sha256=" + inHex,
		strings.Repeat("\n", most) + "sha256=" + inHex,
	} {
		f.Add(given, specPayload)
	}
	f.Add("sha256="+hex.EncodeToString(signed(secrets[0], "")), "")
	v := pixmed.HMACSHA256("X-Signature", "sha256=", secrets...)
	verdict := func(body string, values ...string) error {
		r := &http.Request{Header: http.Header{"X-Signature": values}}
		return v.Verify(r, func() ([]byte, error) { return []byte(body), nil })
	}
	decoders := []func(string) ([]byte, error){
		hex.DecodeString, base64.StdEncoding.DecodeString, base64.RawStdEncoding.DecodeString,
		base64.URLEncoding.DecodeString, base64.RawURLEncoding.DecodeString,
	}
	f.Fuzz(func(t *testing.T, given, body string) {
		values := strings.Split(given, "\n")
		parts := strings.FieldsFunc(strings.ReplaceAll(given, ",", "\n,"), func(r rune) bool { return r == '\n' })
		count := len(values) + strings.Count(given, ",")
		if err := verdict(body, values...); err == nil {
			genuine := slices.ContainsFunc(parts, func(part string) bool {
				signature, prefixed := strings.CutPrefix(strings.TrimSpace(strings.TrimPrefix(part, ",")), "sha256=")
				// A mix of the two alphabets is as good.
				plain := strings.NewReplacer("-", "+", "_", "/").Replace(signature)
				return prefixed && slices.ContainsFunc(decoders, func(decode func(string) ([]byte, error)) bool {
					sum, err := decode(plain)
					return err == nil && slices.ContainsFunc(secrets, func(s string) bool { return bytes.Equal(sum, signed(s, body)) })
				})
			})
			if !genuine || count > most {
				t.Errorf("the header %q lets %q in", values, body)
			}
		}
		for _, secret := range secrets {
			sum := signed(secret, body)
			for _, good := range []string{
				hex.EncodeToString(sum), strings.ToUpper(hex.EncodeToString(sum)),
				base64.StdEncoding.EncodeToString(sum), base64.RawStdEncoding.EncodeToString(sum),
				base64.URLEncoding.EncodeToString(sum), base64.RawURLEncoding.EncodeToString(sum),
			} {
				good = "sha256=" + good
				// Alone, and beside other values.
				for _, values := range [][]string{{good}, {given + "," + good}, {good + "," + given}, append(slices.Clone(values), good)} {
					n := len(values) + strings.Count(strings.Join(values, ""), ",")
					if err := verdict(body, values...); (err == nil) != (n <= most) {
						t.Errorf("the right signature among %d, %q: %v", n, values, err)
					}
				}
				if err := verdict(body+given+".", good); err == nil {
					t.Errorf("the signature of %q lets another body in", body)
				}
			}
		}
		if err := verdict(body, "sha256="+hex.EncodeToString(signed(given+".", body))); err == nil {
			t.Errorf("a signature under the secret %q is accepted", given+".")
		}
	})
}

// Requests that come at once are verified each by itself.
func TestHMACSHA256Concurrently(t *testing.T) {
	t.Parallel()
	v := pixmed.HMACSHA256("X-Signature", "", "old", "new")
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			body := strings.Repeat("x", i*100)
			r := webhookRequest(t)
			r.Header.Set("X-Signature", hex.EncodeToString(signed("new", body)))
			for range 50 {
				if err := v.Verify(r, func() ([]byte, error) { return []byte(body), nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
