package pixmed_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed"
)

// signed returns the HMAC-SHA256 of the body.
func signed(secret, body string) []byte {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return mac.Sum(nil)
}

// webhookRequest is the gateway's request with the spec's example.
func webhookRequest(t *testing.T) *http.Request {
	t.Helper()
	return httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/webhook", strings.NewReader(specPayload))
}

// noBody is for verifiers that must not ask for the body.
func noBody(t *testing.T) func() ([]byte, error) {
	t.Helper()
	return func() ([]byte, error) {
		t.Error("the verifier asked for the body")
		return nil, nil
	}
}

func specBody() ([]byte, error) { return []byte(specPayload), nil }

func allow(*http.Request, func() ([]byte, error)) error { return nil }

func refuse(text string) pixmed.VerifierFunc {
	return func(*http.Request, func() ([]byte, error)) error { return errors.New(text) }
}

// checkVerdict compares what a verifier says with what is wanted: "" to let the
// request pass.
func checkVerdict(t *testing.T, got error, want string) {
	t.Helper()
	if (got == nil) != (want == "") || got != nil && got.Error() != want {
		t.Errorf("Verify = %v, want %q", got, want)
	}
}

func TestHeaderSecret(t *testing.T) {
	t.Parallel()
	const (
		none2   = "header X-Secret holds none of the 2 secrets"
		missing = "header X-Secret is there 0 times, want once"
		twice   = "header X-Secret is there 2 times, want once"
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
		missing = "query parameter token is there 0 times, want once"
		twice   = "query parameter token is there 2 times, want once"
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
		{"no header", "", "header Authorization is there 0 times, want once"},
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
		checkVerdict(t, pixmed.BasicAuth("gateway", "new").Verify(r, noBody(t)), "header Authorization is there 2 times, want once")
	})
}

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
		form    = "header X-Signature is not an HMAC-SHA256 in hex or base64"
		prefix  = "header X-Signature does not start with the expected prefix"
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
		{"prefix alone", "sha256=", []string{"sha256="}, form},
		{"prefix that is not wanted", "", []string{"sha256=" + hex.EncodeToString(sum)}, form},
		{"empty", "", []string{""}, form},
		{"31 bytes of hex", "", []string{hex.EncodeToString(sum[:31])}, form},
		{"33 bytes of hex", "", []string{hex.EncodeToString(append(sum[:32:32], 0))}, form},
		{"31 bytes of base64", "", []string{base64.StdEncoding.EncodeToString(sum[:31])}, form},
		{"33 bytes of base64", "", []string{base64.StdEncoding.EncodeToString(append(sum[:32:32], 0))}, form},
		{"hex with another letter", "", []string{"g" + hex.EncodeToString(sum)[1:]}, form},
		{"the bytes themselves", "", []string{string(sum)}, form},
		{"two in one header", "", []string{hex.EncodeToString(sum) + "," + hex.EncodeToString(sum)}, form},
		{"missing", "", nil, "header X-Signature is there 0 times, want once"},
		{"twice", "", []string{hex.EncodeToString(sum), hex.EncodeToString(sum)}, "header X-Signature is there 2 times, want once"},
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

func prefixes(texts ...string) []netip.Prefix {
	ps := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		ps[i] = netip.MustParsePrefix(text)
	}
	return ps
}

func TestClientNetworks(t *testing.T) {
	t.Parallel()
	networks := prefixes("203.0.113.0/24", "2001:db8:1::/48", "198.51.100.7/32")
	proxies := prefixes("10.0.0.0/8", "fd00::/8")
	outside := func(addr string) string { return "client address " + addr + " is in none of the networks" }
	malformed := func(hop string) string {
		return fmt.Sprintf("X-Forwarded-For has %q in the place of an address", hop)
	}
	peer := func(addr string) string {
		return fmt.Sprintf("the connection's peer %q has no IP address", addr)
	}
	for _, tt := range []struct {
		name, peer string
		forwarded  []string
		want       string
	}{
		{"peer inside", "203.0.113.5:4711", nil, ""},
		{"first address of the network", "203.0.113.0:1", nil, ""},
		{"last address of the network", "203.0.113.255:1", nil, ""},
		{"next address", "203.0.114.0:1", nil, outside("203.0.114.0")},
		{"single address", "198.51.100.7:1", nil, ""},
		{"its neighbour", "198.51.100.6:1", nil, outside("198.51.100.6")},
		{"peer inside, no port", "203.0.113.5", nil, ""},
		{"IPv4 in IPv6", "[::ffff:203.0.113.5]:4711", nil, ""},
		{"IPv6", "[2001:db8:1::9]:4711", nil, ""},
		{"IPv6 without a port", "2001:db8:1::9", nil, ""},
		{"IPv6 with a zone", "[2001:db8:1::9%eth0]:4711", nil, ""},
		{"IPv6 outside", "[2001:db8:2::9]:4711", nil, outside("2001:db8:2::9")},

		{"peer inside and not a proxy: the header is not looked at", "203.0.113.5:1", []string{"junk"}, ""},
		{"peer outside and not a proxy: neither", "192.0.2.1:1", []string{"203.0.113.5"}, outside("192.0.2.1")},

		{"one proxy", "10.0.0.1:1", []string{"203.0.113.5"}, ""},
		{"one proxy, client outside", "10.0.0.1:1", []string{"192.0.2.1"}, outside("192.0.2.1")},
		{"one proxy, spoofed leftmost", "10.0.0.1:1", []string{"203.0.113.5, 192.0.2.1"}, outside("192.0.2.1")},
		{"one proxy, spoofed in a header of its own", "10.0.0.1:1", []string{"203.0.113.5", "192.0.2.1"}, outside("192.0.2.1")},
		{"one proxy, junk leftmost", "10.0.0.1:1", []string{"junk, ,203.0.113.5"}, ""},
		{"three proxies", "10.0.0.1:1", []string{"192.0.2.1, 203.0.113.5, 10.0.0.3,10.0.0.2"}, ""},
		{"three proxies in three headers", "10.0.0.1:1", []string{"203.0.113.5", "10.0.0.3", "10.0.0.2"}, ""},
		{"proxies of both families", "[fd00::1]:1", []string{"203.0.113.5, 10.0.0.3, fd00::2"}, ""},
		{"spoofed left of a hop that is no proxy", "10.0.0.1:1", []string{"203.0.113.5, 192.0.2.1, 10.0.0.2"}, outside("192.0.2.1")},
		{"hop with a port", "10.0.0.1:1", []string{"203.0.113.5:9999"}, ""},
		{"IPv6 hop", "10.0.0.1:1", []string{"2001:db8:1::9"}, ""},
		{"IPv6 hop in brackets", "10.0.0.1:1", []string{"[2001:db8:1::9]"}, ""},
		{"IPv6 hop with a port and a zone", "10.0.0.1:1", []string{"[2001:db8:1::9%eth0]:9999"}, ""},
		{"IPv4 hop in IPv6", "10.0.0.1:1", []string{"::ffff:203.0.113.5"}, ""},
		{"proxy as IPv4 in IPv6", "[::ffff:10.0.0.1]:1", []string{"203.0.113.5"}, ""},
		{"white space around", "10.0.0.1:1", []string{" \t203.0.113.5 "}, ""},

		{"proxy alone", "10.0.0.1:1", nil, outside("10.0.0.1")},
		{"proxy and an empty header", "10.0.0.1:1", []string{""}, outside("10.0.0.1")},
		{"proxies alone", "10.0.0.1:1", []string{"10.0.0.3, 10.0.0.2"}, outside("10.0.0.3")},
		{"junk", "10.0.0.1:1", []string{"junk"}, malformed("junk")},
		{"unknown", "10.0.0.1:1", []string{"203.0.113.5, unknown"}, malformed("unknown")},
		{"obfuscated", "10.0.0.1:1", []string{"_hidden"}, malformed("_hidden")},
		{"comma at the end", "10.0.0.1:1", []string{"203.0.113.5,"}, malformed("")},
		{"junk left of a proxy", "10.0.0.1:1", []string{"junk, 10.0.0.2"}, malformed("junk")},
		{"nothing left of a proxy", "10.0.0.1:1", []string{",10.0.0.2"}, malformed("")},
		{"address cut off", "10.0.0.1:1", []string{"203.0.113"}, malformed("203.0.113")},
		{"address with leading zeros", "10.0.0.1:1", []string{"203.0.113.05"}, malformed("203.0.113.05")},
		{"network in the place of an address", "10.0.0.1:1", []string{"203.0.113.5/24"}, malformed("203.0.113.5/24")},
		{"kilobytes of junk", "10.0.0.1:1", []string{strings.Repeat("j", 5000)}, malformed(strings.Repeat("j", 64) + "…")},

		{"unix socket", "@", []string{"203.0.113.5"}, peer("@")},
		{"unix socket with a path", "/run/app.sock", nil, peer("/run/app.sock")},
		{"no peer", "", nil, peer("")},
		{"host name", "gateway.example:443", nil, peer("gateway.example:443")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := webhookRequest(t)
			r.RemoteAddr = tt.peer
			for _, value := range tt.forwarded {
				r.Header.Add("X-Forwarded-For", value)
			}
			checkVerdict(t, pixmed.ClientNetworks(networks, proxies...).Verify(r, noBody(t)), tt.want)
		})
	}

	t.Run("without proxies the header is ignored", func(t *testing.T) {
		t.Parallel()
		r := webhookRequest(t)
		r.RemoteAddr = "192.0.2.1:1"
		r.Header.Set("X-Forwarded-For", "203.0.113.5")
		checkVerdict(t, pixmed.ClientNetworks(networks).Verify(r, noBody(t)), outside("192.0.2.1"))
	})
	t.Run("other headers are ignored", func(t *testing.T) {
		t.Parallel()
		r := webhookRequest(t)
		r.RemoteAddr = "10.0.0.1:1"
		for _, name := range []string{"X-Real-Ip", "Forwarded", "X-Client-Ip", "True-Client-Ip"} {
			r.Header.Set(name, "203.0.113.5")
		}
		checkVerdict(t, pixmed.ClientNetworks(networks, proxies...).Verify(r, noBody(t)), outside("10.0.0.1"))
	})
	t.Run("networks given as IPv4 in IPv6", func(t *testing.T) {
		t.Parallel()
		v := pixmed.ClientNetworks(prefixes("::ffff:203.0.113.0/120"), prefixes("::ffff:10.0.0.0/104")...)
		r := webhookRequest(t)
		r.RemoteAddr = "10.0.0.1:1"
		r.Header.Set("X-Forwarded-For", "203.0.113.5")
		checkVerdict(t, v.Verify(r, noBody(t)), "")
		r.Header.Set("X-Forwarded-For", "203.0.112.5")
		checkVerdict(t, v.Verify(r, noBody(t)), outside("203.0.112.5"))
	})
	t.Run("network with bits behind its mask", func(t *testing.T) {
		t.Parallel()
		v := pixmed.ClientNetworks(prefixes("203.0.113.77/24"))
		r := webhookRequest(t)
		r.RemoteAddr = "203.0.113.5:1"
		checkVerdict(t, v.Verify(r, noBody(t)), "")
	})
	t.Run("the arguments may change afterwards", func(t *testing.T) {
		t.Parallel()
		given := prefixes("203.0.113.0/24")
		v := pixmed.ClientNetworks(given)
		given[0] = netip.MustParsePrefix("0.0.0.0/0")
		r := webhookRequest(t)
		r.RemoteAddr = "192.0.2.1:1"
		checkVerdict(t, v.Verify(r, noBody(t)), outside("192.0.2.1"))
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

func FuzzClientNetworks(f *testing.F) {
	for _, seed := range [][2]string{
		{"198.51.100.9:1", "203.0.113.5"},
		{"198.51.100.9:1", "203.0.113.5, 10.0.0.1"},
		{"10.0.0.1:1", "203.0.113.5"},
		{"10.0.0.1:1", "203.0.113.5,198.51.100.9"},
		{"[::ffff:10.0.0.1]:1", "::ffff:203.0.113.5"},
		{"[fe80::1%eth0]:1", "[2001:db8::1%25eth0]:80"},
		{"@", "@"},
		{"", ""},
		{"10.0.0.1", ",,,"},
		{"10.0.0.1:1", "203.0.113.5\x00"},
		{"10.0.0.1:1", "[[203.0.113.5]]"},
		{"10.0.0.1:1", "10.0.0.2, ::ffff:10.0.0.3,\t10.0.0.4:5"},
	} {
		f.Add(seed[0], seed[1])
	}
	networks, proxies := prefixes("203.0.113.0/24"), prefixes("10.0.0.0/8")
	v := pixmed.ClientNetworks(networks, proxies...)
	verdict := func(t *testing.T, peer string, forwarded ...string) error {
		t.Helper()
		r := &http.Request{RemoteAddr: peer, Header: http.Header{"X-Forwarded-For": forwarded}}
		return v.Verify(r, noBody(t))
	}
	f.Fuzz(func(t *testing.T, peer, forwarded string) {
		// A peer that is neither inside nor a proxy gets in with no header.
		if err := verdict(t, "198.51.100.9:1", forwarded); err == nil {
			t.Errorf("X-Forwarded-For %q lets a stranger in", forwarded)
		}
		// Nor does one that a proxy has seen: the proxy appends its address, on
		// the same line or on the next.
		for _, lines := range [][]string{{forwarded + ", 198.51.100.9"}, {forwarded, "198.51.100.9"}, {forwarded + ",198.51.100.9, 10.0.0.2"}} {
			if err := verdict(t, "10.0.0.1:1", lines...); err == nil {
				t.Errorf("X-Forwarded-For %q lets a stranger in through the proxy", lines)
			}
		}
		// What a client sends does not keep it out either.
		if err := verdict(t, "10.0.0.1:1", forwarded+", 203.0.113.5"); err != nil {
			t.Errorf("X-Forwarded-For %q keeps the gateway out: %v", forwarded, err)
		}
		if err := verdict(t, "203.0.113.5:1", forwarded); err != nil {
			t.Errorf("X-Forwarded-For %q keeps the gateway out: %v", forwarded, err)
		}
		// Any peer: it has an address inside, or a proxy's.
		if err := verdict(t, peer, forwarded); err == nil {
			host := peer
			if at, err := netip.ParseAddrPort(peer); err == nil {
				host = at.Addr().String()
			}
			addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
			if err != nil {
				t.Fatalf("peer %q got in without an address", peer)
			}
			addr = addr.Unmap().WithZone("")
			if !networks[0].Contains(addr) && !proxies[0].Contains(addr) {
				t.Errorf("peer %q got in with X-Forwarded-For %q", peer, forwarded)
			}
		}
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
	checkVerdict(t, v.Verify(r, noBody(t)), "header X-Secret is there 0 times, want once")
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

// verifierProblems are bad arguments, each with what NewHandler says.
func verifierProblems() map[string]struct {
	v    pixmed.Verifier
	want []string
} {
	type problem = struct {
		v    pixmed.Verifier
		want []string
	}
	white := func(n int) string {
		return fmt.Sprintf("HeaderSecret: secret %d has white space around it or a line break in it, which no header can carry: trim it", n)
	}
	const badName = "the header's name has a character in it that no header's name may have"
	return map[string]problem{
		"header: no secret":       {pixmed.HeaderSecret("X"), []string{"HeaderSecret: no secret was given"}},
		"header: empty secret":    {pixmed.HeaderSecret("X", "a", ""), []string{"HeaderSecret: secret 2 is empty"}},
		"header: no name":         {pixmed.HeaderSecret("", "a"), []string{"HeaderSecret: the header's name is empty"}},
		"header: no name at all":  {pixmed.HeaderSecret("", ""), []string{"HeaderSecret: secret 1 is empty", "HeaderSecret: the header's name is empty"}},
		"header: name":            {pixmed.HeaderSecret("X Secret", "a"), []string{"HeaderSecret: " + badName}},
		"header: name with colon": {pixmed.HeaderSecret("X-Secret:", "a"), []string{"HeaderSecret: " + badName}},
		"header: Host":            {pixmed.HeaderSecret("host", "a"), []string{"HeaderSecret: Host says where the request goes, not where it comes from"}},
		"header: white space":     {pixmed.HeaderSecret("X", " a", "b\n", "c"), []string{white(1), white(2)}},
		"header: line break":      {pixmed.HeaderSecret("X", "a\r\nb"), []string{white(1)}},
		"query: no secret":        {pixmed.QuerySecret("t"), []string{"QuerySecret: no secret was given"}},
		"query: empty secret":     {pixmed.QuerySecret("t", ""), []string{"QuerySecret: secret 1 is empty"}},
		"query: no name":          {pixmed.QuerySecret("", "a"), []string{"QuerySecret: the parameter's name is empty"}},
		"basic: no password":      {pixmed.BasicAuth("u"), []string{"BasicAuth: no secret was given"}},
		"basic: empty password":   {pixmed.BasicAuth("u", "a", "b", ""), []string{"BasicAuth: secret 3 is empty"}},
		"basic: no user":          {pixmed.BasicAuth("", "a"), []string{"BasicAuth: the user name is empty or has a colon in it"}},
		"basic: colon":            {pixmed.BasicAuth("u:v", "a"), []string{"BasicAuth: the user name is empty or has a colon in it"}},
		"hmac: no secret":         {pixmed.HMACSHA256("X", ""), []string{"HMACSHA256: no secret was given"}},
		"hmac: empty secret":      {pixmed.HMACSHA256("X", "", ""), []string{"HMACSHA256: secret 1 is empty"}},
		"hmac: no name":           {pixmed.HMACSHA256("", "", "a"), []string{"HMACSHA256: the header's name is empty"}},
		"hmac: name":              {pixmed.HMACSHA256("X\nY", "", "a"), []string{"HMACSHA256: " + badName}},
		"networks: none":          {pixmed.ClientNetworks(nil), []string{"ClientNetworks: no network was given"}},
		"networks: none, proxies": {pixmed.ClientNetworks(nil, prefixes("10.0.0.0/8")...), []string{"ClientNetworks: no network was given"}},
		"networks: bad ones": {
			pixmed.ClientNetworks([]netip.Prefix{netip.MustParsePrefix("::/0"), {}}, netip.Prefix{}),
			[]string{"ClientNetworks: network 2 is not a valid prefix", "ClientNetworks: trusted proxy 1 is not a valid prefix"},
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
				t.Error("the verifier lets requests pass all the same")
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

// No way of printing a verifier shows a secret, be the arguments good or bad.
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
