package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// goName matches what only those who write programs know.
var goName = regexp.MustCompile(`\bWith(out)?[A-Z]\w+|\b(pixmed|inbox|ops|postgres|sqlite)\.[A-Z]\w+|\bpackage (postgres|sqlite)\b|MaxConns`)

// unsaid are texts of the SDK's that never reach a user of the command, by why not.
var unsaid = map[string]string{
	"the base URL contains credentials":                                       "--gateway is checked first",
	"the base URL is plain http to ":                                          "--gateway is checked first",
	"no verifier: use WithVerifier":                                           "serve always gives one",
	"WithVerifier and WithoutVerification contradict each other":              "serve gives one of them",
	"Callbacks.Other is nil":                                                  "there are no Callbacks",
	"the page shows personal data and needs authentication":                   "serve always gives some",
	"pixmed: the pool has fewer connections than callbacks with postgres.Tx ": "the pool is large enough",
	"an option of package ":                                                   "none is",
}

// No error and no log line of the SDK's that a user can see is about its Go API.
func TestSDKWords(t *testing.T) {
	t.Parallel()
	texts := sdkTexts(t)
	all := strings.Join(texts, "\n")
	for i := 0; i < len(sdkWords); i += 2 {
		if old := strings.Replace(sdkWords[i], databasePooler.flag, "", 1); !strings.Contains(all, old) {
			t.Errorf("the SDK no longer says %q", old)
		}
	}
	for text, why := range unsaid {
		if !strings.Contains(all, text) {
			t.Errorf("the SDK no longer says %q (%s)", text, why)
		}
	}
	for _, text := range texts {
		if name := goName.FindString(inWords(text)); name != "" && !option.MatchString(text) && !startsAny(text, unsaid) {
			t.Errorf("%s is in %q, and a user may see it", name, inWords(text))
		}
	}
}

func startsAny(text string, beginnings map[string]string) bool {
	for beginning := range beginnings {
		if strings.HasPrefix(text, beginning) {
			return true
		}
	}
	return false
}

// option matches the name of an option, and its errors: the settings are checked
// first.
var option = regexp.MustCompile(`^With(out)?[A-Z]\w+(:|$)`)

// sdkTexts are the strings in the packages that serve uses.
func sdkTexts(t *testing.T) (texts []string) {
	t.Helper()
	for _, dir := range []string{"", "inbox", "inbox/sqlite", "inbox/postgres", "inbox/ops", "inbox/internal/config", "inbox/internal/ledger"} {
		files, err := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(dir), "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", dir, files, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
					text, err := strconv.Unquote(literal.Value)
					if err != nil {
						t.Fatal(err)
					}
					texts = append(texts, text)
				}
				return true
			})
		}
	}
	return texts
}

// Lines of the log are in the words of the command, durations are text, and the
// payer's and the merchant's own ids are left out.
func TestLogWords(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := newLogger(&config{}, &process{err: &out})
	log.With("cause", errors.New("5 MiB are free: free some space, or change sqlite.WithMinFreeDisk")).
		Info("pixmed: invalid webhook kept by WithInvalid's callback", "duration", 1500*time.Millisecond, "n", 1, "external_id", "T&ste378", "e2e_id", "E082535392025011818245238600338f", slog.Group("g", "d", time.Second))
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if _, err := time.Parse(time.RFC3339Nano, got["time"].(string)); err != nil {
		t.Error(err)
	}
	delete(got, "time")
	if diff := cmp.Diff(map[string]any{
		"level": "INFO", "msg": "pixmed: invalid webhook kept in quarantine", "cause": "5 MiB are free: free some space", "duration": "1.5s", "n": 1.0, "g": map[string]any{"d": "1s"},
	}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
