package pixmed

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Verifier decides whether a request comes from the gateway.
//
// Verify returns nil to let the request pass and an error to reject it; the
// error is logged, not sent. body returns the request's body as received; the
// [Handler] reads it at most once, when it is first asked for, so that a
// Verifier which does not ask rejects a request before its body is read.
//
// The gateway specifies neither a signature nor its addresses. Ask it what it
// offers, and combine it with [All].
type Verifier interface {
	// Verify returns nil to let the request pass.
	Verify(r *http.Request, body func() ([]byte, error)) error
}

// VerifierFunc is a function that is a [Verifier].
type VerifierFunc func(r *http.Request, body func() ([]byte, error)) error

// Verify calls f.
func (f VerifierFunc) Verify(r *http.Request, body func() ([]byte, error)) error { return f(r, body) }

// verifier is what the package's own functions return. A bad argument is kept
// in problem until NewHandler asks for it, so that verifiers nest without error
// handling; until then every request is rejected. Secrets stay in the closure,
// where printing a configuration does not reach them.
type verifier struct {
	problem   error
	challenge string // for WWW-Authenticate
	check     func(r *http.Request, body func() ([]byte, error)) error
}

// newVerifier returns the verifier that the function of that name makes, and what is
// wrong with the function's arguments. No problem shows a secret.
func newVerifier(name string, check func(*http.Request, func() ([]byte, error)) error, problems ...error) verifier {
	for i, problem := range problems {
		if problem != nil {
			problems[i] = fmt.Errorf("%s: %w", name, problem)
		}
	}
	return verifier{problem: errors.Join(problems...), check: check}
}

func (v verifier) Validate() error { return v.problem }

func (v verifier) Verify(r *http.Request, body func() ([]byte, error)) error {
	if v.problem != nil {
		return v.problem
	}
	return v.check(r, body)
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
	var problems []error
	if len(verifiers) == 0 {
		problems = append(problems, fmt.Errorf("%s: no verifier was given", name))
	}
	challenge := ""
	for i, child := range verifiers {
		problems = append(problems, validate(fmt.Sprintf("%s: verifier %d", name, i+1), child))
		if own, ok := child.(verifier); ok {
			challenge = cmp.Or(challenge, own.challenge)
		}
	}
	return verifier{errors.Join(problems...), challenge, check}
}

// checkHeader does not show the name: it may be a secret in the wrong place.
func checkHeader(name string) error {
	switch {
	case name == "":
		return errors.New("the header's name is empty")
	case !token.MatchString(name):
		return errors.New("the header's name contains an invalid character")
	case strings.EqualFold(name, "Host"):
		return fmt.Errorf("%s is where the request goes, not where it comes from", http.CanonicalHeaderKey(name))
	}
	return nil
}
