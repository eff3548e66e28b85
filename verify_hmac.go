package pixmed

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxSignatures is how many signatures a request may have: more than any sender
// rotates through, few enough to check.
const maxSignatures = 16

// HMACSHA256 verifies that a header holds the HMAC-SHA256 of the body under one
// of the secrets, in hex or base64 (either alphabet, padded or not). prefix is
// what precedes it in the header, such as "sha256=", or "".
//
// Senders that rotate their secret send several signatures, in several headers
// of that name or separated by commas: one that matches is enough, and what is
// not a signature is ignored; more than 16 values are rejected. The signature is
// that of the body as it was sent, before it is decompressed.
//
// White space around a secret is an error of [NewHandler] if the secret is text: a
// random key may begin or end with any byte.
func HMACSHA256(header, prefix string, secrets ...string) Verifier {
	keyed := make([]hash.Cloner, len(secrets)) // cloning is cheaper than keying a new one
	for i, s := range secrets {
		keyed[i] = hmac.New(sha256.New, []byte(s)).(hash.Cloner)
	}
	return newVerifier("HMACSHA256", func(r *http.Request, body func() ([]byte, error)) error {
		signatures, err := signaturesIn(header, prefix, r.Header.Values(header))
		if err != nil {
			return err
		}
		message, err := body()
		if err != nil {
			return err
		}
		match := 0
		for _, k := range keyed {
			mac, err := k.Clone()
			if err != nil {
				return err
			}
			mac.Write(message)
			sum := mac.Sum(nil)
			for _, signature := range signatures {
				match |= subtle.ConstantTimeCompare(sum, signature)
			}
		}
		switch {
		case match == 1:
			return nil
		case len(message) == 0 && r.ContentLength != 0:
			return fmt.Errorf("header %s does not match the body, which is empty though the request announced one: a middleware may have consumed it", header)
		}
		return fmt.Errorf("header %s matches the body under none of the %d secrets", header, len(keyed))
	}, append(checkSecrets(secrets, isText), checkHeader(header))...)
}

// signaturesIn decodes the signatures in a header's values: the whole of each,
// and its parts between commas.
func signaturesIn(header, prefix string, values []string) ([][]byte, error) {
	if len(values) == 0 {
		return nil, fmt.Errorf("header %s is missing", header)
	}
	all := strings.Join(values, ",")
	if strings.Count(all, ",") >= maxSignatures {
		return nil, fmt.Errorf("header %s has more than %d values", header, maxSignatures)
	}
	var signatures [][]byte
	if strings.Contains(all, ",") {
		values = append(strings.Split(all, ","), values...)
	}
	for _, text := range values {
		encoded, hasPrefix := strings.CutPrefix(strings.TrimSpace(text), prefix)
		if signature, ok := decodeSignature(encoded); ok && hasPrefix {
			signatures = append(signatures, signature)
		}
	}
	if len(signatures) == 0 {
		return nil, fmt.Errorf("header %s holds no HMAC-SHA256 in hex or base64 (after the prefix, if one was given)", header)
	}
	return signatures, nil
}

// decodeSignature decodes 32 bytes from hex or from base64.
func decodeSignature(s string) ([]byte, bool) {
	if len(s) == hex.EncodedLen(sha256.Size) {
		b, err := hex.DecodeString(s)
		return b, err == nil
	}
	s = strings.TrimSuffix(strings.NewReplacer("-", "+", "_", "/").Replace(s), "=")
	b, err := base64.RawStdEncoding.DecodeString(s)
	return b, err == nil && len(b) == sha256.Size
}

// isText reports whether a key is text. Only then is white space around it a
// mistake: a random key may begin or end with any byte.
func isText(key string) bool {
	return utf8.ValidString(key) && !strings.ContainsFunc(key, func(r rune) bool { return !unicode.IsPrint(r) && !unicode.IsSpace(r) })
}
