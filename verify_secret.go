package pixmed

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/pixmed-go/pixmed/internal/text"
)

// HeaderSecret verifies that a header holds one of the secrets. Several are
// accepted at once, so that a secret can be rotated without downtime:
//
//	pixmed.HeaderSecret("X-Webhook-Secret", strings.Fields(os.Getenv("PIXMED_WEBHOOK_SECRETS"))...)
//
// All secrets are compared, in constant time, every time. A secret that is empty
// or has white space around it, as a file's last line break leaves it, is an
// error of [NewHandler].
func HeaderSecret(header string, secrets ...string) Verifier {
	problems := append(checkSecrets(secrets, nil), checkHeader(header))
	for i, s := range secrets {
		if text.HasControl(strings.TrimSpace(s)) {
			problems = append(problems, fmt.Errorf("secret %d contains a line break or another control character, which no header can carry", i+1))
		}
	}
	return holdsSecret("HeaderSecret", "header "+header, secrets, problems,
		func(r *http.Request) []string { return r.Header.Values(header) })
}

// QuerySecret verifies that a parameter of the URL's query holds one of the
// secrets, as [HeaderSecret] does for a header. URLs end up in access logs:
// prefer a header if the gateway can send one.
func QuerySecret(parameter string, secrets ...string) Verifier {
	problems := checkSecrets(secrets, nil)
	if parameter == "" {
		problems = append(problems, errors.New("the parameter's name is empty"))
	}
	return holdsSecret("QuerySecret", "query parameter "+parameter, secrets, problems,
		func(r *http.Request) []string { return r.URL.Query()[parameter] })
}

// holdsSecret verifies that a place in the request holds one of the secrets.
func holdsSecret(name, place string, secrets []string, problems []error, values func(*http.Request) []string) Verifier {
	digests := digestAll(secrets)
	return newVerifier(name, func(r *http.Request, _ func() ([]byte, error)) error {
		given, err := single(place, values(r))
		if err != nil {
			return err
		}
		if !digests.contain(given) {
			return fmt.Errorf("%s holds none of the %d secrets", place, len(digests))
		}
		return nil
	}, problems...)
}

// BasicAuth verifies HTTP Basic authentication with the user name and one of
// the passwords, compared as [HeaderSecret] does.
func BasicAuth(username string, passwords ...string) Verifier {
	problems := checkSecrets(passwords, nil)
	if username == "" || username != strings.TrimSpace(username) || strings.Contains(username, ":") {
		problems = append(problems, errors.New("the user name is empty, has a colon in it, or white space around it"))
	}
	user, digests := digestAll([]string{username}), digestAll(passwords)
	v := newVerifier("BasicAuth", func(r *http.Request, _ func() ([]byte, error)) error {
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
	}, problems...)
	v.challenge = `Basic realm="webhook", charset="UTF-8"`
	return v
}

// checkSecrets rejects secrets that are empty, or have white space around them; if
// isText is not nil, white space counts only in those that it takes for text. It
// shows a secret's position only.
func checkSecrets(secrets []string, isText func(string) bool) []error {
	if len(secrets) == 0 {
		return []error{errors.New("no secret was given")}
	}
	var problems []error
	for i, s := range secrets {
		switch {
		case s == "":
			problems = append(problems, fmt.Errorf("secret %d is empty", i+1))
		case strings.TrimSpace(s) != s && (isText == nil || isText(s)):
			problems = append(problems, fmt.Errorf("secret %d has white space around it: trim it", i+1))
		}
	}
	return problems
}

// digests are the SHA-256 of secrets: all of one length, so that a comparison
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

// single returns the only value. Proxies disagree about which of several
// counts, so several are an error.
func single(place string, values []string) (string, error) {
	if len(values) != 1 {
		return "", fmt.Errorf("%s occurs %d times, want once", place, len(values))
	}
	return values[0], nil
}
