package pixmed_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/pixmed-go/pixmed"
)

func TestHandlerOptionsGivenTwice(t *testing.T) {
	t.Parallel()
	discard := slog.New(slog.DiscardHandler)
	for name, option := range map[string]func() pixmed.HandlerOption{
		"WithVerifier":        func() pixmed.HandlerOption { return pixmed.WithVerifier(pixmed.VerifierFunc(allow)) },
		"WithoutVerification": pixmed.WithoutVerification,
		"WithFallback":        func() pixmed.HandlerOption { return pixmed.WithFallback(http.NotFoundHandler()) },
		"WithInvalid":         func() pixmed.HandlerOption { return invalidResult(nil) },
		"WithBodyLimit":       func() pixmed.HandlerOption { return pixmed.WithBodyLimit(1) },
		"WithCallbackTimeout": func() pixmed.HandlerOption { return pixmed.WithCallbackTimeout(1) },
		"WithObserver":        func() pixmed.HandlerOption { return pixmed.WithObserver(func(context.Context, pixmed.Outcome) {}) },
		"WithLogger":          func() pixmed.HandlerOption { return pixmed.WithLogger(discard) },
	} {
		opts := []pixmed.HandlerOption{option()}
		if name != "WithVerifier" && name != "WithoutVerification" {
			opts = append(opts, pixmed.WithoutVerification())
		}
		if _, err := pixmed.NewHandler(answer(nil), opts...); err != nil {
			t.Errorf("%s once: %v", name, err)
		}
		for _, again := range []pixmed.HandlerOption{option(), opts[0]} { // another value, and the same one
			h, err := pixmed.NewHandler(answer(nil), append(slices.Clone(opts), again)...)
			if h != nil || err == nil || err.Error() != name+" is given twice" {
				t.Errorf("%s twice: %v, %v", name, h, err)
			}
		}
	}
}

func TestWithLogger(t *testing.T) {
	t.Parallel()
	var log hookLog
	h, err := pixmed.NewHandler(answer(errBoom), pixmed.WithoutVerification(), pixmed.WithLogger(log.logger()))
	if err != nil {
		t.Fatal(err)
	}
	h.ServeHTTP(httptest.NewRecorder(), webhookRequest(t))
	lines := log.lines(t)
	if len(lines) != 1 || lines[0]["msg"] != "pixmed: webhook failed" || lines[0]["level"] != "ERROR" {
		t.Errorf("the log has %v", lines)
	}
}
