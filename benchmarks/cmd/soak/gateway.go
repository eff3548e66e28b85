package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"

	"github.com/pixmed-go/pixmed/pixmedtest"
)

// What goes wrong at the gateway, as a share of the requests for receipts.
const unavailable, cut = 0.05, 0.03

// A gateway serves the same receipt for every transaction, and is unreliable. It
// remembers nothing: there are too many requests.
type gateway struct {
	url    string
	server *http.Server
	answer []byte
	sum    string
}

func newGateway(ctx context.Context) (*gateway, error) {
	pdf := pixmedtest.PDFOfSize(pixmedtest.NewInfraction(), 32<<10)
	g := &gateway{
		answer: fmt.Appendf(nil, `{"status":"SUCCESS","message":"","data":{"receipt":%q}}`, base64.StdEncoding.EncodeToString(pdf)),
		sum:    fmt.Sprintf("%x", sha256.Sum256(pdf)),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /transaction/{id}/receipt", g.receipt)
	var err error
	g.server, g.url, err = serve(ctx, mux)
	return g, err
}

func (g *gateway) receipt(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(g.answer)))
	switch luck := rand.Float64(); {
	case luck < unavailable:
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusServiceUnavailable)
	case luck < unavailable+cut:
		_, _ = w.Write(g.answer[:rand.N(len(g.answer))])
		panic(http.ErrAbortHandler)
	default:
		_, _ = w.Write(g.answer)
	}
}
