package pixmedtest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
)

// Signer adds to a webhook request whatever proves to the receiver that it comes
// from the gateway. Each function below makes what the verifier of the same name
// in package pixmed checks. A Signer must not retain or modify the body.
type Signer func(r *http.Request, body []byte)

// HeaderSecret sets a header to a shared secret, for [pixmed.HeaderSecret]. It
// replaces other values of the header.
func HeaderSecret(header, secret string) Signer {
	return func(r *http.Request, _ []byte) { r.Header.Set(header, secret) }
}

// QuerySecret sets a query parameter of the URL to a shared secret, for
// [pixmed.QuerySecret]. It replaces other values of the parameter.
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

// HMACSHA256 adds a header with the HMAC-SHA256 of the body under a shared
// secret, for [pixmed.HMACSHA256]: in hex, after a prefix such as "sha256=" or
// "".
//
// A gateway that is changing its secret may sign with the old one and the new
// one. Two of these signers do that; each adds a header line of its own:
//
//	pixmedtest.WithSigner(
//		pixmedtest.HMACSHA256("X-Signature", "sha256=", oldSecret),
//		pixmedtest.HMACSHA256("X-Signature", "sha256=", newSecret),
//	)
func HMACSHA256(header, prefix, secret string) Signer {
	return func(r *http.Request, body []byte) {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(body)
		r.Header.Add(header, prefix+hex.EncodeToString(mac.Sum(nil)))
	}
}

func sign(r *http.Request, body []byte, signers []Signer) {
	for _, s := range signers {
		s(r, body)
	}
}

// checkSigners returns an error if a signer is nil.
func checkSigners(signers []Signer) error {
	for n, s := range signers {
		if s == nil {
			return fmt.Errorf("signer %d is nil", n+1)
		}
	}
	return nil
}
