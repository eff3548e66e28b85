package pixmed

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// Verifier decides whether a request comes from the gateway.
//
// Verify returns nil to let the request pass and an error to refuse it; the
// error is logged, not sent. body returns the request's body as received; the
// [Handler] reads it at most once, when it is first asked for, so that a
// Verifier which does not ask refuses a request before its body is read.
//
// The gateway specifies neither a signature nor its addresses. Ask it what it
// offers, and combine what there is with [All].
type Verifier interface {
	// Verify returns nil to let the request pass.
	Verify(r *http.Request, body func() ([]byte, error)) error
}

// VerifierFunc is a function that is a [Verifier].
type VerifierFunc func(r *http.Request, body func() ([]byte, error)) error

// Verify calls f.
func (f VerifierFunc) Verify(r *http.Request, body func() ([]byte, error)) error { return f(r, body) }

// verifier is what the functions below return. A bad argument travels inside
// until NewHandler asks for it, so that they nest without error handling; until
// then it refuses every request. Secrets stay in the closure, where printing a
// configuration does not reach them.
type verifier struct {
	problem   error
	challenge string // for WWW-Authenticate
	check     func(r *http.Request, body func() ([]byte, error)) error
}

func (v verifier) Validate() error { return v.problem }

func (v verifier) Verify(r *http.Request, body func() ([]byte, error)) error {
	if v.problem != nil {
		return v.problem
	}
	return v.check(r, body)
}

// HeaderSecret verifies that a header holds one of the secrets. Several are
// accepted at once, so that a secret can be rotated without downtime:
//
//	pixmed.HeaderSecret("X-Webhook-Secret", strings.Fields(os.Getenv("WEBHOOK_SECRETS"))...)
//
// Secrets are compared in constant time, all of them, every time.
func HeaderSecret(header string, secrets ...string) Verifier {
	name := "HeaderSecret"
	problems := append(checkSecrets(name, secrets), checkHeader(name, header))
	for i, s := range secrets {
		if strings.TrimSpace(s) != s || strings.ContainsAny(s, "\r\n\x00") {
			problems = append(problems, fmt.Errorf("%s: secret %d has white space around it or a line break in it, which no header can carry: trim it", name, i+1))
		}
	}
	return holdsSecret("header "+header, secrets, problems, func(r *http.Request) []string { return r.Header.Values(header) })
}

// QuerySecret verifies that a parameter of the URL's query holds one of the
// secrets, as [HeaderSecret] does for a header. URLs end up in access logs:
// prefer a header where the gateway can send one.
func QuerySecret(parameter string, secrets ...string) Verifier {
	name := "QuerySecret"
	problems := checkSecrets(name, secrets)
	if parameter == "" {
		problems = append(problems, fmt.Errorf("%s: the parameter's name is empty", name))
	}
	return holdsSecret("query parameter "+parameter, secrets, problems, func(r *http.Request) []string { return r.URL.Query()[parameter] })
}

// holdsSecret verifies that a place in the request holds one of the secrets.
func holdsSecret(place string, secrets []string, problems []error, values func(*http.Request) []string) Verifier {
	digests := digestAll(secrets)
	return verifier{
		problem: errors.Join(problems...),
		check: func(r *http.Request, _ func() ([]byte, error)) error {
			given, err := single(place, values(r))
			if err != nil {
				return err
			}
			if !digests.contain(given) {
				return fmt.Errorf("%s holds none of the %d secrets", place, len(digests))
			}
			return nil
		},
	}
}

// BasicAuth verifies HTTP Basic authentication with the user name and one of
// the passwords, compared as [HeaderSecret] does.
func BasicAuth(username string, passwords ...string) Verifier {
	name := "BasicAuth"
	problems := checkSecrets(name, passwords)
	if username == "" || strings.Contains(username, ":") {
		problems = append(problems, fmt.Errorf("%s: the user name is empty or has a colon in it", name))
	}
	user := digestAll([]string{username})
	digests := digestAll(passwords)
	return verifier{
		problem:   errors.Join(problems...),
		challenge: `Basic realm="webhook", charset="UTF-8"`,
		check: func(r *http.Request, _ func() ([]byte, error)) error {
			if _, err := single("header Authorization", r.Header.Values("Authorization")); err != nil {
				return err
			}
			u, p, ok := r.BasicAuth()
			if !ok {
				return errors.New("no HTTP Basic credentials")
			}
			rightUser, rightPassword := user.contain(u), digests.contain(p)
			if !rightUser || !rightPassword {
				return errors.New("wrong HTTP Basic user name or password")
			}
			return nil
		},
	}
}

// HMACSHA256 verifies that a header holds the HMAC-SHA256 of the body under one
// of the secrets, in hex or base64 (either alphabet, padded or not). prefix is
// what stands before it in the header, such as "sha256=", or "".
func HMACSHA256(header, prefix string, secrets ...string) Verifier {
	name := "HMACSHA256"
	problems := append(checkSecrets(name, secrets), checkHeader(name, header))
	macs := make([]*sync.Pool, len(secrets)) // to begin with a key takes as long as a short body
	for i, s := range secrets {
		macs[i] = &sync.Pool{New: func() any { return hmac.New(sha256.New, []byte(s)) }}
	}
	return verifier{
		problem: errors.Join(problems...),
		check: func(r *http.Request, body func() ([]byte, error)) error {
			given, err := single("header "+header, r.Header.Values(header))
			if err != nil {
				return err
			}
			encoded, ok := strings.CutPrefix(given, prefix)
			if !ok {
				return fmt.Errorf("header %s does not start with the expected prefix", header)
			}
			signature, ok := decodeSignature(encoded)
			if !ok {
				return fmt.Errorf("header %s is not an HMAC-SHA256 in hex or base64", header)
			}
			message, err := body()
			if err != nil {
				return err
			}
			match := 0
			var sum [sha256.Size]byte
			for _, pool := range macs {
				mac := pool.Get().(hash.Hash)
				mac.Reset()
				mac.Write(message)
				match |= subtle.ConstantTimeCompare(mac.Sum(sum[:0]), signature)
				pool.Put(mac)
			}
			if match == 0 && len(message) == 0 && r.ContentLength != 0 {
				return fmt.Errorf("header %s does not match the body, which is empty though the request announced one: a middleware may have consumed it", header)
			}
			if match == 0 {
				return fmt.Errorf("header %s matches the body under none of the %d secrets", header, len(macs))
			}
			return nil
		},
	}
}

// decodeSignature decodes 32 bytes from hex or from base64.
func decodeSignature(s string) ([]byte, bool) {
	var (
		b   []byte
		err error
	)
	if len(s) == hex.EncodedLen(sha256.Size) {
		b, err = hex.DecodeString(s)
	} else {
		s = strings.TrimSuffix(strings.NewReplacer("-", "+", "_", "/").Replace(s), "=")
		b, err = base64.RawStdEncoding.DecodeString(s)
	}
	return b, err == nil && len(b) == sha256.Size
}

// ClientNetworks verifies that the client's address is in one of the networks.
//
// The client is the connection's peer. Where that is one of the trusted proxies,
// it is the last address in X-Forwarded-For that is not itself a trusted proxy;
// what stands left of it could have been written by anybody. Without trusted
// proxies X-Forwarded-For is ignored.
func ClientNetworks(networks []netip.Prefix, trustedProxies ...netip.Prefix) Verifier {
	var problems []error
	if len(networks) == 0 {
		problems = append(problems, errors.New("ClientNetworks: no network was given"))
	}
	allowed, err := newPrefixes("network", networks)
	problems = append(problems, err)
	trusted, err := newPrefixes("trusted proxy", trustedProxies)
	problems = append(problems, err)
	return verifier{
		problem: errors.Join(problems...),
		check: func(r *http.Request, _ func() ([]byte, error)) error {
			client, err := clientAddr(r, trusted)
			if err != nil {
				return err
			}
			if !allowed.contain(client) {
				return fmt.Errorf("client address %s is in none of the networks", client)
			}
			return nil
		},
	}
}

func clientAddr(r *http.Request, trusted prefixes) (netip.Addr, error) {
	client, ok := parseHop(r.RemoteAddr)
	if !ok {
		return client, fmt.Errorf("the connection's peer %q has no IP address", clip(r.RemoteAddr, maxFound))
	}
	forwarded := strings.Join(r.Header.Values("X-Forwarded-For"), ",")
	for more := forwarded != ""; more && trusted.contain(client); {
		comma := strings.LastIndexByte(forwarded, ',')
		hop := strings.TrimSpace(forwarded[comma+1:])
		if more = comma >= 0; more {
			forwarded = forwarded[:comma]
		}
		if client, ok = parseHop(hop); !ok {
			return client, fmt.Errorf("X-Forwarded-For has %q in the place of an address", clip(hop, maxFound))
		}
	}
	return client, nil
}

// parseHop parses an address with or without a port.
func parseHop(s string) (netip.Addr, bool) {
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		withPort, err := netip.ParseAddrPort(s)
		if err != nil {
			return netip.Addr{}, false
		}
		addr = withPort.Addr()
	}
	return addr.Unmap().WithZone(""), true
}

type prefixes []netip.Prefix

// newPrefixes writes IPv4 networks that are given as IPv6 (::ffff:10.0.0.0/104)
// as IPv4: addresses are compared in that form.
func newPrefixes(what string, given []netip.Prefix) (prefixes, error) {
	ps := make(prefixes, 0, len(given))
	var problems []error
	for i, p := range given {
		if p.IsValid() && p.Addr().Is4In6() {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if !p.IsValid() {
			problems = append(problems, fmt.Errorf("ClientNetworks: %s %d is not a valid prefix", what, i+1))
		}
		ps = append(ps, p)
	}
	return ps, errors.Join(problems...)
}

func (ps prefixes) contain(a netip.Addr) bool {
	for _, p := range ps {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// All verifies that every one of the verifiers lets the request pass.
func All(verifiers ...Verifier) Verifier {
	verifiers = slices.Clone(verifiers) // the caller's slice may change
	return combine("All", verifiers, func(r *http.Request, body func() ([]byte, error)) error {
		for _, v := range verifiers {
			if err := v.Verify(r, body); err != nil {
				return err
			}
		}
		return nil
	})
}

// Any verifies that at least one of the verifiers lets the request pass.
func Any(verifiers ...Verifier) Verifier {
	verifiers = slices.Clone(verifiers)
	return combine("Any", verifiers, func(r *http.Request, body func() ([]byte, error)) error {
		var errs []error
		for _, v := range verifiers {
			err := v.Verify(r, body)
			if err == nil {
				return nil
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}

func combine(name string, verifiers []Verifier, check func(*http.Request, func() ([]byte, error)) error) Verifier {
	v := verifier{check: check}
	var problems []error
	if len(verifiers) == 0 {
		problems = append(problems, fmt.Errorf("%s: no verifier was given", name))
	}
	for i, child := range verifiers {
		if isNil(child) {
			problems = append(problems, fmt.Errorf("%s: verifier %d is nil", name, i+1))
			continue
		}
		problems = append(problems, validate(child))
		if own, ok := child.(verifier); ok && v.challenge == "" {
			v.challenge = own.challenge
		}
	}
	v.problem = errors.Join(problems...)
	return v
}

// checkHeader does not show the name: it may be a secret in the wrong place.
func checkHeader(name, header string) error {
	switch {
	case header == "":
		return fmt.Errorf("%s: the header's name is empty", name)
	case !validToken(header):
		return fmt.Errorf("%s: the header's name has a character in it that no header's name may have", name)
	case strings.EqualFold(header, "Host"):
		return fmt.Errorf("%s: Host says where the request goes, not where it comes from", name)
	}
	return nil
}

// checkSecrets never shows a secret, only its position.
func checkSecrets(name string, secrets []string) []error {
	var problems []error
	if len(secrets) == 0 {
		problems = append(problems, fmt.Errorf("%s: no secret was given", name))
	}
	for i, s := range secrets {
		if s == "" {
			problems = append(problems, fmt.Errorf("%s: secret %d is empty", name, i+1))
		}
	}
	return problems
}

// digests are the SHA-256 of secrets: all of one length, so that comparing
// takes the same time whatever the secrets are.
type digests [][sha256.Size]byte

func digestAll(secrets []string) digests {
	ds := make(digests, len(secrets))
	for i, s := range secrets {
		ds[i] = sha256.Sum256([]byte(s))
	}
	return ds
}

func (ds digests) contain(given string) bool {
	digest := sha256.Sum256([]byte(given))
	match := 0
	for i := range ds {
		match |= subtle.ConstantTimeCompare(ds[i][:], digest[:])
	}
	return match == 1
}

// single returns the only value: which of several would count is a question
// that proxies answer differently.
func single(what string, values []string) (string, error) {
	if len(values) != 1 {
		return "", fmt.Errorf("%s is there %d times, want once", what, len(values))
	}
	return values[0], nil
}
