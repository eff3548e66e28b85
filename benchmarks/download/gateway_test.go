package download_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
)

const basePath = "/v1"

// A gateway serves one receipt at every path.
type gateway struct {
	base  string // of the URLs
	roots []byte // in PEM; nil for plain HTTP

	// The PDF and the envelope around it.
	pdf, envelope content
}

// content is what a client must get.
type content struct {
	Size   int64
	SHA256 [sha256.Size]byte
}

func contentOf(data []byte) content {
	return content{Size: int64(len(data)), SHA256: sha256.Sum256(data)}
}

// startGateway starts a gateway that serves a PDF of the given size until the test
// ends. Over HTTPS too it offers HTTP/1.1 alone, httptest's default.
func startGateway(tb testing.TB, scheme string, size int) *gateway {
	tb.Helper()
	pdf := makePDF(size)
	envelope := seal(pdf)
	server := httptest.NewUnstartedServer(serve(envelope))
	g := &gateway{pdf: contentOf(pdf), envelope: contentOf(envelope)}
	switch scheme {
	case "http":
		server.Start()
	case "https":
		server.StartTLS()
		g.roots = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	default:
		tb.Fatalf("scheme %q", scheme)
	}
	tb.Cleanup(server.Close)
	g.base = server.URL + basePath
	return g
}

// want returns what an implementation must get.
func (g *gateway) want(impl string) content {
	if impl == limitRead {
		return g.envelope
	}
	return g.pdf
}

func serve(envelope []byte) http.Handler {
	length := strconv.Itoa(len(envelope))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != basePath+receiptPath {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", length)
		_, _ = w.Write(envelope) // a client that is gone reports that itself
	})
}

// makePDF returns noise between a PDF's first and last line.
func makePDF(size int) []byte {
	const first, last = "%PDF-1.7\n", "\n%%EOF\n"
	pdf := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{}).Read(pdf)
	copy(pdf, first)
	copy(pdf[size-len(last):], last)
	return pdf
}

// seal returns a PDF's envelope as specified.
func seal(pdf []byte) []byte {
	var b bytes.Buffer
	b.WriteString(`{"status":"SUCCESS","message":"","data":{"receipt":"`)
	b.WriteString(base64.StdEncoding.EncodeToString(pdf))
	b.WriteString(`","mimeType":"application/pdf"}}`)
	return b.Bytes()
}
