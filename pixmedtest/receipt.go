package pixmedtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/pixmed-go/pixmed"
)

// RecordedRequest is a request that the gateway got.
type RecordedRequest struct {
	Time   time.Time   // when it came in
	Method string      // such as GET
	Path   string      // without the query, such as /transaction/…/receipt
	Header http.Header // a copy; credentials are in it
}

// AddReceipt makes a receipt for an infraction's transaction, as [PDF] does,
// serves it from now on and returns it.
func (g *Gateway) AddReceipt(i pixmed.Infraction) []byte {
	pdf := PDF(i)
	g.SetReceipt(i.TransactionID, pdf)
	return pdf
}

// SetReceipt serves a copy of content as the receipt of a transaction, in the
// place of what was served before: a PDF of one's own, a large one from
// [PDFOfSize], or something that is not a PDF. Nil removes the receipt. Letter
// case in the id does not matter.
func (g *Gateway) SetReceipt(transactionID string, content []byte) {
	s := g.receipts
	s.mu.Lock()
	defer s.mu.Unlock()
	if content == nil {
		delete(s.contents, strings.ToLower(transactionID))
		return
	}
	s.contents[strings.ToLower(transactionID)] = bytes.Clone(content)
}

// Fail queues faults: each of the following receipt requests takes one, in
// order, before anything else about it is looked at. The requests after them
// are answered well, or as FailAlways says. A zero [Fault] lets a request pass.
func (g *Gateway) Fail(faults ...Fault) {
	g.receipts.mu.Lock()
	defer g.receipts.mu.Unlock()
	g.receipts.faults = append(g.receipts.faults, faults...)
}

// FailAlways gives the fault to every receipt request for which none is queued.
// FailAlways(Fault{}) ends that.
func (g *Gateway) FailAlways(f Fault) {
	g.receipts.mu.Lock()
	defer g.receipts.mu.Unlock()
	g.receipts.always = f
}

// Requests returns the HTTP requests that the gateway got so far, in order,
// whatever they asked for and however they were answered.
func (g *Gateway) Requests() []RecordedRequest {
	g.receipts.mu.Lock()
	defer g.receipts.mu.Unlock()
	requests := slices.Clone(g.receipts.requests)
	for n := range requests {
		requests[n].Header = requests[n].Header.Clone()
	}
	return requests
}

// receipts is the gateway's HTTP side.
type receipts struct {
	credentials []func(*http.Request) (header string, ok bool)
	encoding    Encoding
	done        <-chan struct{} // closed first of all by Close, for requests that come in meanwhile

	mu       sync.Mutex
	contents map[string][]byte // by transaction id in lower case
	faults   []Fault
	always   Fault
	requests []RecordedRequest
}

func (s *receipts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, isReceipt := transactionID(r.URL.Path)
	fault := s.record(r, isReceipt)
	if !s.pause(r.Context(), fault.Latency) {
		panic(http.ErrAbortHandler)
	}
	a := jsonError(http.StatusNotFound, "Cannot "+r.Method+" "+r.URL.Path)
	if isReceipt {
		a = s.receipt(r, id, s.encoding|fault.Encoding)
	}
	a = a.with(fault)
	a.encoding = s.encoding | fault.Encoding
	a.send(w, func() {
		select {
		case <-r.Context().Done():
		case <-s.done:
		}
	})
}

// transactionID takes the id out of /transaction/{id}/receipt.
func transactionID(path string) (id string, ok bool) {
	rest, okPrefix := strings.CutPrefix(path, "/transaction/")
	id, okSuffix := strings.CutSuffix(rest, "/receipt")
	return id, okPrefix && okSuffix && !strings.Contains(id, "/")
}

// record notes the request and takes its fault.
func (s *receipts) record(r *http.Request, isReceipt bool) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, RecordedRequest{
		Time: time.Now(), Method: r.Method, Path: r.URL.Path, Header: r.Header.Clone(),
	})
	if !isReceipt {
		return Fault{}
	}
	if len(s.faults) == 0 {
		return s.always
	}
	fault := s.faults[0]
	s.faults = s.faults[1:]
	return fault
}

// pause reports whether the client and the gateway were still there after d.
func (s *receipts) pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-s.done:
	}
	return false
}

// receipt answers a request for the receipt of a transaction.
func (s *receipts) receipt(r *http.Request, id string, e Encoding) answer {
	if r.Method != http.MethodGet {
		a := jsonError(http.StatusMethodNotAllowed, "Cannot "+r.Method+" "+r.URL.Path)
		a.allow = http.MethodGet
		return a
	}
	for _, credential := range s.credentials {
		if header, ok := credential(r); !ok {
			return jsonError(http.StatusUnauthorized, fmt.Sprintf("Unauthorized: header %s is missing or wrong", header))
		}
	}
	if len(id) != 36 || uuid.Validate(id) != nil {
		return jsonError(http.StatusBadRequest, "Validation failed (uuid is expected)")
	}
	s.mu.Lock()
	content, ok := s.contents[strings.ToLower(id)]
	s.mu.Unlock()
	if !ok {
		return jsonError(http.StatusNotFound, "Transaction not found")
	}
	return answer{
		status:      http.StatusOK,
		contentType: e.contentType(),
		body:        func(w io.Writer) error { return e.write(w, content) },
	}
}
