package envelope_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/pixmed-go/pixmed/internal/envelope"
)

func TestError(t *testing.T) {
	t.Parallel()

	_, err := io.ReadAll(envelope.NewDecoder(strings.NewReader(seal("J*")), envelope.Options{MaxBytes: 1}))
	var e *envelope.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %T, want *envelope.Error", err)
	}
	if e.Kind != envelope.ErrBase64 || e.Offset != 40 || e.Detail != `unexpected character "*"` {
		t.Errorf("got %+v", *e)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("it is io.ErrUnexpectedEOF")
	}
}

// An error may quote input that has megabytes, credentials and escape sequences:
// it is cut first, then redacted, then quoted.
func TestQuotes(t *testing.T) {
	t.Parallel()

	const secret, hostile = "hunter2", "\x1b[2J\u202e\u0085\x00\xff\n"
	text := secret + hostile + strings.Repeat("é", mib)
	escaped := strings.NewReplacer("\x1b", `\u001b`, "\x00", `\u0000`, "\n", `\n`).Replace(text)
	content := base64.StdEncoding.EncodeToString([]byte(text))
	for _, tt := range []struct {
		name, input string
		quotes      bool
	}{
		{"start", text, true},
		{"status", `{"status":"` + escaped + `"}`, true},
		{"message", `{"message":"` + escaped + `"}`, true},
		{"messages", `{"status":"SUCCESS","data":{"errors":[{"message":"` + escaped + `"}]}}`, true},
		{"content", seal(content), true},

		{"MIME type", `{"data":{"mimeType":"` + escaped + `"}}`, false},
		{"name", `{"` + escaped + `"}`, false},
		{"data URL", seal("data:" + escaped + ";base64,"), false},
		{"base64", seal("JVBERi0x" + escaped), false},
		{"control character", `{"` + text + `":1}`, false},
		{"HTML", "<" + text, false},
		{"bare", "%PDX-" + text, true},
		{"trailing", seal(sampleText) + "\x1b" + text, false},
		{"trailing byte", seal(sampleText) + "\xff", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			redacted := false
			_, err := io.ReadAll(envelope.NewDecoder(strings.NewReader(tt.input), envelope.Options{
				MaxBytes: 4 * mib,
				Redact: func(s string) string {
					if len(s) > 200 {
						t.Errorf("Redact was called with %d bytes", len(s))
					}
					redacted = true
					return strings.ReplaceAll(s, secret, "[redacted]")
				},
			}))
			if err == nil || len(err.Error()) > 1000 || strings.Contains(err.Error(), secret) || strings.ContainsFunc(err.Error(), unprintable) {
				t.Errorf("error of %d bytes: %.1000q", len(fmt.Sprint(err)), fmt.Sprint(err))
			}
			if redacted != tt.quotes {
				t.Errorf("Redact was called: %t, want %t; %v", redacted, tt.quotes, err)
			}
		})
	}
}

func unprintable(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }

func TestErrorTexts(t *testing.T) {
	t.Parallel()

	for name, err := range kinds {
		if text := err.Error(); text == "" || strings.HasPrefix(text, "pixmed") || strings.HasPrefix(text, "envelope:") {
			t.Errorf("%s: %q", name, text)
		}
	}
}

func TestTruncatedIsUnexpectedEOF(t *testing.T) {
	t.Parallel()

	for _, input := range []string{"", "\xef", "%PDF", "%PDF-", "{", `{"status"`, seal(sampleText)[:50]} {
		_, err := io.ReadAll(envelope.NewDecoder(strings.NewReader(input), envelope.Options{MaxBytes: 100}))
		if !errors.Is(err, envelope.ErrTruncated) || !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			t.Errorf("%q: %v", input, err)
		}
	}
}
