package pixmedtest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
)

// Signer adds to a webhook request what shows its receiver that it comes from
// the gateway. The functions below match the verifiers of package pixmed that
// have their names. A Signer must not keep or change the body.
type Signer func(r *http.Request, body []byte)

// HeaderSecret sets a header to a shared secret, for [pixmed.HeaderSecret].
func HeaderSecret(header, secret string) Signer {
	return func(r *http.Request, _ []byte) { r.Header.Set(header, secret) }
}

// QuerySecret sets a parameter of the URL's query to a shared secret, for
// [pixmed.QuerySecret].
func QuerySecret(parameter, secret string) Signer {
	return func(r *http.Request, _ []byte) {
		query := r.URL.Query()
		query.Set(parameter, secret)
		r.URL.RawQuery = query.Encode()
	}
}

// BasicAuth adds HTTP Basic authentication, for [pixmed.BasicAuth].
func BasicAuth(username, password string) Signer {
	return func(r *http.Request, _ []byte) { r.SetBasicAuth(username, password) }
}

// HMACSHA256 sets a header to the body's HMAC-SHA256 under a shared secret, in
// hex and with a prefix such as "sha256=", or "", for [pixmed.HMACSHA256].
func HMACSHA256(header, prefix, secret string) Signer {
	return func(r *http.Request, body []byte) {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(body)
		r.Header.Set(header, prefix+hex.EncodeToString(mac.Sum(nil)))
	}
}

// sign skips signers that are nil.
func sign(r *http.Request, body []byte, signers []Signer) {
	for _, s := range signers {
		if s != nil {
			s(r, body)
		}
	}
}
