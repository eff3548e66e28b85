package pixmedtest

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/pixmed-go/pixmed"
)

// RecordedRequest is a request that the gateway received.
type RecordedRequest struct {
	Time   time.Time   // when it was received
	Method string      // such as GET
	Path   string      // without the query, such as /transaction/…/receipt
	Header http.Header // a copy; it includes credentials
}

// AddReceipt makes a receipt for an infraction's transaction as [PDF] does,
// serves it from now on, and returns it.
func (g *Gateway) AddReceipt(i pixmed.Infraction) []byte {
	pdf := PDF(i)
	g.SetReceipt(i.TransactionID, pdf)
	return pdf
}

// SetReceipt serves a copy of content as a transaction's receipt, replacing any
// previous one. Nil removes the receipt. The case of letters in the id does not
// matter. Requests with an id that is not a UUID get 400, whatever was set.
//
// The content may be anything: a PDF of your own, a large one from [PDFOfSize],
// or no PDF at all. Some gateways send something before the PDF, such as a line
// break or a byte order mark. It is part of the content:
//
//	gateway.SetReceipt(id, append([]byte("\ufeff"), pdf...))
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

// Fail queues faults. Each of the next receipt requests takes one of them, in
// order, whether or not its id and credentials are right. Requests after those
// get the fault of FailAlways, or none. The zero [Fault] lets a request succeed.
// Fail panics if a fault's Status is not valid.
func (g *Gateway) Fail(faults ...Fault) {
	for _, f := range faults {
		f.check()
	}
	g.receipts.mu.Lock()
	defer g.receipts.mu.Unlock()
	g.receipts.faults = append(g.receipts.faults, faults...)
}

// FailAlways applies a fault to every receipt request for which none is queued.
// FailAlways(Fault{}) ends that. It panics if the fault's Status is not valid.
func (g *Gateway) FailAlways(f Fault) {
	f.check()
	g.receipts.mu.Lock()
	defer g.receipts.mu.Unlock()
	g.receipts.always = f
}

// Requests returns all HTTP requests that the gateway has received, in order,
// including those that failed.
func (g *Gateway) Requests() []RecordedRequest {
	g.receipts.mu.Lock()
	defer g.receipts.mu.Unlock()
	requests := slices.Clone(g.receipts.requests)
	for n := range requests {
		requests[n].Header = requests[n].Header.Clone()
	}
	return requests
}

// receipts is the handler of the gateway's server.
type receipts struct {
	credentials []credential
	encoding    Encoding
	done        <-chan struct{} // closed when Close begins

	mu       sync.Mutex
	contents map[string][]byte // by transaction id in lower case
	faults   []Fault
	always   Fault
	requests []RecordedRequest
}

type credential struct{ header, value string }

func (s *receipts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, isReceipt := transactionID(r)
	fault := s.record(r, isReceipt)
	if !s.pause(r.Context(), fault.Latency) {
		panic(http.ErrAbortHandler)
	}
	encoding := s.encoding | fault.Encoding
	a := jsonError(http.StatusNotFound, "Cannot "+r.Method+" "+r.URL.Path)
	if isReceipt {
		a = s.receipt(r, id, encoding)
	}
	a.with(fault).send(w, encoding, fault, func() {
		select {
		case <-r.Context().Done():
		case <-s.done:
		}
	})
}

// transactionID returns the id in GET /transaction/{id}/receipt.
func transactionID(r *http.Request) (id string, ok bool) {
	rest, okPrefix := strings.CutPrefix(r.URL.Path, "/transaction/")
	id, okSuffix := strings.CutSuffix(rest, "/receipt")
	return id, r.Method == http.MethodGet && okPrefix && okSuffix && !strings.Contains(id, "/")
}

// record records the request and takes a fault for it.
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

// pause waits for d. It returns false if the client disconnected or the gateway
// was closed first.
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

// receipt returns the answer to a request for a transaction's receipt.
func (s *receipts) receipt(r *http.Request, id string, e Encoding) answer {
	for _, c := range s.credentials {
		if !slices.Equal(r.Header.Values(c.header), []string{c.value}) {
			return jsonError(http.StatusUnauthorized, fmt.Sprintf("Unauthorized: header %s is missing or wrong", c.header))
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
	return answer{http.StatusOK, e.contentType(), e.encode(content)}
}
