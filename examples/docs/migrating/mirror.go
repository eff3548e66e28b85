package migrating

import (
	"bytes"
	"io"
	"net/http"
)

// mirror gives each request to the new handler and then to the old one, whose
// answer the gateway gets while the old one still does the work.
func mirror(old, next http.Handler, limit int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
		if err != nil {
			http.Error(w, "the body could not be read", http.StatusBadRequest)
			return
		}
		copied := r.Clone(r.Context())
		copied.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(&discard{header: make(http.Header)}, copied)
		r.Body = io.NopCloser(bytes.NewReader(body))
		old.ServeHTTP(w, r)
	})
}

// discard is where the new handler's answers go; its observer tells of them.
type discard struct{ header http.Header }

// Header implements http.ResponseWriter.
func (d *discard) Header() http.Header { return d.header }

// Write implements http.ResponseWriter.
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }

// WriteHeader implements http.ResponseWriter.
func (d *discard) WriteHeader(int) {}
