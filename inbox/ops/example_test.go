package ops_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"

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
