package ops_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/ops"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
)

// The page in a server's own mux, behind a password.
func ExampleNewHandler() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "ops")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	in, err := sqlite.Open(ctx, filepath.Join(dir, "inbox.db"), pixmed.ReceiverFunc(pixmed.Ignore))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = in.Stop(ctx) }()

	page, err := ops.NewHandler(in, ops.WithBasicAuth("ops", "a long password"))
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/ops/", http.StripPrefix("/ops", page))

	request := httptest.NewRequest(http.MethodGet, "/ops/", nil)
	stranger := httptest.NewRecorder()
	mux.ServeHTTP(stranger, request)
	request.SetBasicAuth("ops", "a long password")
	operator := httptest.NewRecorder()
	mux.ServeHTTP(operator, request)
	fmt.Println(stranger.Code, operator.Code)
	// Output: 401 200
}

// The page behind a proxy that signs people on: it sets a header, and removes what
// others put there.
func ExampleWithUser() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "ops")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	in, err := sqlite.Open(ctx, filepath.Join(dir, "inbox.db"), pixmed.ReceiverFunc(pixmed.Ignore))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = in.Stop(ctx) }()

	page, err := ops.NewHandler(in, ops.WithAuthenticated(), ops.WithUser(func(r *http.Request) string {
		return r.Header.Get("X-Forwarded-User")
	}))
	if err != nil {
		log.Fatal(err)
	}
	request := httptest.NewRequest(http.MethodGet, "/", nil)
	request.Header.Set("X-Forwarded-User", "joana")
	answer := httptest.NewRecorder()
	page.ServeHTTP(answer, request)
	fmt.Println(answer.Code, strings.Contains(answer.Body.String(), "joana"))
	// Output: 200 true
}
