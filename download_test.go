package pixmed_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/jarcoal/httpmock"

	"github.com/pixmed-go/pixmed"
)

// An answer that is cut anywhere, from the first byte of its header to the last of
// its body, is an error, or resumed if there is a retry left.
func TestAnswerCutAtEveryByte(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(40)
	for mode, raw := range rawAnswers(receiptJSON(pdf)) {
		for entry, get := range entryPoints {
			if entry == "Read by bytes" {
				continue
			}
			t.Run(mode+"/"+entry, func(t *testing.T) {
				t.Parallel()
				step := 1
				if entry == "SaveReceipt" {
					step = 5 // it syncs to disk
				}
				for cut := 0; cut < len(raw); cut += step {
					for retries := range 2 {
						client := mustClient(t, wireBase, pixmed.WithRetries(retries), overTransport(wire(t, func(n int, c net.Conn) {
							if n == 0 {
								_, _ = io.WriteString(c, raw[:cut])
							} else {
								_, _ = io.WriteString(c, raw)
							}
						})))
						got, info, err := get(t, client)
						if retries == 1 {
							wantWhole(t, pdf, got, info, err)
						} else if err == nil || !strings.HasPrefix(err.Error(), "receipt of transaction "+receiptID+": ") {
							t.Errorf("cut at %d: got %v", cut, err)
						}
						if t.Failed() {
							t.Fatalf("cut at byte %d with %d retries", cut, retries)
						}
					}
				}
			})
		}
	}
}

func TestResume(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(100_000)
	other := bytes.Clone(pdf)
	other[1000] ^= 1
	whole := len(receiptJSON(pdf))
	noEnvelope := httpmock.NewStringResponder(200, "<html>")
	const (
		gets  = "the receipt"
		start = "receipt of transaction " + receiptID + ": "
	)
	brokeAt := func(sent, attempts int) string {
		return fmt.Sprintf("%sthe download broke off at byte %d of the PDF, after %d attempts: reading the receipt envelope at byte %d: connection reset by peer",
			start, delivered(sent), attempts, sent)
	}
	const changed = start + "the receipt has changed since its first bytes were delivered; fetch it again from the start"
	tests := map[string]struct {
		retries    int
		answers    []httpmock.Responder
		want       string // the error of OpenReceipt's reader
		requests   int
		whole      string // the error of Receipt and SaveReceipt, if it differs
		requests2  int    // their requests, if they differ
		isNot      error
		is         error
		resultsNew bool // Receipt and SaveReceipt get the other PDF
	}{
		"once": {
			retries: 1, answers: []httpmock.Responder{broken(pdf, 50_000), goodAnswer(pdf)}, want: gets, requests: 2,
		},
		"often": {
			retries: 4, answers: []httpmock.Responder{broken(pdf, 50), broken(pdf, 5000), broken(pdf, 50_000), broken(pdf, 100_000), goodAnswer(pdf)}, want: gets, requests: 5,
		},
		"after the PDF": {
			retries: 1, answers: []httpmock.Responder{broken(pdf, whole-3), goodAnswer(pdf)}, want: gets, requests: 2,
		},
		"after the envelope": { // only an end proves that nothing follows
			retries: 1, answers: []httpmock.Responder{broken(pdf, whole), goodAnswer(pdf)}, want: gets, requests: 2,
		},
		"no retries": {
			retries: 0, answers: []httpmock.Responder{broken(pdf, 50_003)}, requests: 1,
			want: strings.Replace(brokeAt(50_003, 1), "1 attempts", "1 attempt", 1),
		},
		"retries used up by resuming": {
			retries: 2, answers: []httpmock.Responder{broken(pdf, 10_003), broken(pdf, 20_003), broken(pdf, 30_003), goodAnswer(pdf)}, want: brokeAt(30_003, 3), requests: 3,
		},
		"one budget for errors and for resuming": {
			retries: 3, answers: []httpmock.Responder{codeAnswer(503), refusedAnswer(), broken(pdf, 10_003), broken(pdf, 20_003), goodAnswer(pdf)}, want: brokeAt(20_003, 4), requests: 4,
		},
		"errors while resuming, enough": {
			retries: 3, answers: []httpmock.Responder{broken(pdf, 10_003), codeAnswer(503), refusedAnswer(), goodAnswer(pdf)}, want: gets, requests: 4,
		},
		"errors while resuming, too many": {
			retries: 2, answers: []httpmock.Responder{broken(pdf, 10_003), codeAnswer(503), codeAnswer(502), goodAnswer(pdf)}, requests: 3, is: pixmed.ErrUnavailable,
			want: fmt.Sprintf("%sfetching it again after the download broke off at byte %d of the PDF: the gateway answered 502 Bad Gateway, after 3 attempts", start, delivered(10_003)),
		},
		"gone while resuming": {
			retries: 4, answers: []httpmock.Responder{broken(pdf, 10_003), httpmock.NewStringResponder(404, `{"message":"gone"}`)}, requests: 2, is: pixmed.ErrNotFound,
			want: fmt.Sprintf(`%sfetching it again after the download broke off at byte %d of the PDF: the gateway answered 404 Not Found: "gone", after 2 attempts; check the transaction id and the base URL`, start, delivered(10_003)),
		},
		"an error before the first download is not that of the second": {
			retries: 4, answers: []httpmock.Responder{codeAnswer(503), broken(pdf, 10_003), codeAnswer(302, "Location", "https://evil.example")}, requests: 3,
			is: pixmed.ErrRedirect, isNot: pixmed.ErrUnavailable,
			want: fmt.Sprintf("%sfetching it again after the download broke off at byte %d of the PDF: the gateway redirects to another origin: https://evil.example", start, delivered(10_003)),
		},
		"not a receipt the second time": {
			retries: 4, answers: []httpmock.Responder{broken(pdf, 10_003), noEnvelope}, requests: 2, is: pixmed.ErrReceiptMalformed,
			want: fmt.Sprintf("%sfetching it again after the download broke off at byte %d of the PDF: not a receipt envelope at byte 0: an HTML page, not JSON: is there a proxy in between?", start, delivered(10_003)),
		},
		"twice at the same byte": {
			retries: 4, answers: []httpmock.Responder{broken(pdf, 10_003), broken(pdf, 10_003), goodAnswer(pdf)}, want: gets, requests: 3,
		},
		"the second time before": {
			retries: 4, answers: []httpmock.Responder{broken(pdf, 10_003), broken(pdf, 5000), goodAnswer(pdf)}, want: gets, requests: 3,
		},
		"further, then not": {
			retries: 4, answers: []httpmock.Responder{broken(pdf, 10_003), broken(pdf, 20_003), broken(pdf, 20_003), goodAnswer(pdf)}, want: gets, requests: 4,
		},
		"never further": {
			retries: 2, answers: []httpmock.Responder{broken(pdf, 10_003), broken(pdf, 5000), broken(pdf, 10_003), goodAnswer(pdf)}, requests: 3,
			want: fmt.Sprintf("%sthe download broke off at byte %d of the PDF, after 3 attempts: reading the receipt envelope at byte 10003: connection reset by peer", start, delivered(10_003)),
		},
		"always before the first byte of the PDF": {
			retries: 3, answers: []httpmock.Responder{broken(pdf, 20)}, requests: 4,
			want: start + "the download broke off at byte 0 of the PDF, after 4 attempts: reading the receipt envelope at byte 20: connection reset by peer",
		},
		"some times before the first byte of the PDF": {
			retries: 3, answers: []httpmock.Responder{broken(pdf, 20), broken(pdf, 0), broken(pdf, 20), goodAnswer(pdf)}, want: gets, requests: 4,
		},
		"another PDF": {
			retries: 4, answers: []httpmock.Responder{broken(pdf, 50_000), goodAnswer(other)}, want: changed, requests: 2, is: pixmed.ErrReceiptChanged,
			whole: gets, requests2: 3, resultsNew: true,
		},
		"another PDF, and no retry left": {
			retries: 1, answers: []httpmock.Responder{broken(pdf, 50_000), goodAnswer(other)}, want: changed, requests: 2, is: pixmed.ErrReceiptChanged,
		},
		"another PDF, broken in turn": {
			retries: 3, answers: []httpmock.Responder{broken(pdf, 50_000), broken(other, 60_000), broken(other, 70_000), goodAnswer(other)}, want: changed, requests: 2, is: pixmed.ErrReceiptChanged,
			whole: gets, requests2: 4, resultsNew: true,
		},
		"another PDF, beyond what was delivered": {
			retries: 1, answers: []httpmock.Responder{broken(other, 1000), goodAnswer(pdf)}, want: gets, requests: 2,
		},
		"a shorter PDF": {
			retries: 4, answers: []httpmock.Responder{broken(pdf, 50_000), goodAnswer(pdf[:10_000])}, want: changed, requests: 2, is: pixmed.ErrReceiptChanged,
			whole: "a shorter one", requests2: 3,
		},
		"truncated without an error": {
			retries: 1, answers: []httpmock.Responder{httpmock.NewStringResponder(200, receiptJSON(pdf)[:50_000]), goodAnswer(pdf)}, want: gets, requests: 2,
		},
		"stalled in the middle": {
			retries: 1, answers: []httpmock.Responder{
				func(r *http.Request) (*http.Response, error) {
					return &http.Response{StatusCode: http.StatusOK, ContentLength: int64(whole), Body: io.NopCloser(io.MultiReader(
						strings.NewReader(receiptJSON(pdf)[:50_000]), untilDone{r.Context()}))}, nil
				}, goodAnswer(pdf),
			}, want: gets, requests: 2,
		},
	}
	for name, test := range tests {
		for entry, get := range entryPoints {
			t.Run(name+"/"+entry, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					mock := answersOf(test.answers...)
					client := mustClient(t, mockBase, overTransport(closing(t, mock)), pixmed.WithRetries(test.retries), pixmed.WithRetryWait(time.Second, time.Minute))
					want, requests, result := test.want, test.requests, pdf
					if entry == "Receipt" || entry == "SaveReceipt" {
						if test.requests2 > 0 {
							want, requests = test.whole, test.requests2
						}
						if test.resultsNew {
							result = other
						}
					}
					got, info, err := get(t, client)
					switch want {
					case gets:
						wantWhole(t, result, got, info, err)
					case "a shorter one":
						wantWhole(t, pdf[:10_000], got, info, err)
					default:
						if diff := gocmp.Diff(want, fmt.Sprint(err)); diff != "" {
							t.Error(diff)
						}
						if test.is != nil && !errors.Is(err, test.is) || test.isNot != nil && errors.Is(err, test.isNot) {
							t.Errorf("got %v, want %v and not %v", err, test.is, test.isNot)
						}
						if !bytes.HasPrefix(pdf, got) {
							t.Error("what was delivered is not the start of the PDF")
						}
					}
					if n := mock.GetTotalCallCount(); n != requests {
						t.Errorf("%d requests, want %d", n, requests)
					}
				})
			})
		}
	}
}

// The wait before resuming is that before a first retry.
func TestResumeWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pdf := receiptPDF(50_000)
		mock := answersOf(broken(pdf, 10_000), broken(pdf, 20_000), broken(pdf, 30_000), goodAnswer(pdf))
		client := mustClient(t, mockBase, overTransport(mock), pixmed.WithRetryWait(8*time.Second, time.Minute))
		start := time.Now()
		if _, err := client.Receipt(t.Context(), receiptID); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took < 12*time.Second || took > 24*time.Second {
			t.Errorf("took %v, want three waits of 4 to 8 seconds", took)
		}
	})
}

func TestStartingOverIsLogged(t *testing.T) {
	t.Parallel()
	pdf, other := receiptPDF(3000), receiptPDF(3001)
	logged := &logRecords{}
	client := mustClient(t, mockBase, pixmed.WithLogger(slog.New(logged)), overTransport(answersOf(broken(pdf, 1000), goodAnswer(other))))
	receipt, err := client.Receipt(t.Context(), receiptID)
	if err != nil || !bytes.Equal(receipt.PDF, other) {
		t.Fatalf("got %v, want the other receipt", err)
	}
	want := []string{
		"INFO pixmed: receipt download broke, resuming transaction_id=" + receiptID + " attempt=1 error=at byte 720 of the PDF: reading the receipt envelope at byte 1000: connection reset by peer",
		"INFO pixmed: the receipt changed during its download, starting over transaction_id=" + receiptID + " attempt=2 error=receipt of transaction " + receiptID + ": the receipt has changed since its first bytes were delivered; fetch it again from the start",
	}
	if diff := gocmp.Diff(want, logged.all()); diff != "" {
		t.Error(diff)
	}
}

// Nothing is fetched after the context has ended.
func TestContextEndsDuringDownload(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(50_000)
	tests := map[string]struct {
		answer func(cancel func()) httpmock.Responder
		want   string
	}{
		"while reading": {
			func(cancel func()) httpmock.Responder {
				return func(r *http.Request) (*http.Response, error) {
					time.AfterFunc(time.Second, cancel)
					return &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Body: io.NopCloser(io.MultiReader(
						strings.NewReader(receiptJSON(pdf)[:10_003]), untilDone{r.Context()}))}, nil
				}
			}, "reading the receipt envelope at byte 10003: context canceled",
		},
		"while waiting to resume": {
			func(cancel func()) httpmock.Responder {
				return func(r *http.Request) (*http.Response, error) {
					time.AfterFunc(time.Second, cancel)
					return broken(pdf, 10_003)(r)
				}
			}, "context canceled; before that, reading the receipt envelope at byte 10003: connection reset by peer",
		},
		"with another error": {
			func(cancel func()) httpmock.Responder {
				return func(r *http.Request) (*http.Response, error) {
					resp, err := broken(pdf, 10_003)(r)
					resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(receiptJSON(pdf)[:10_003]), readFunc(func([]byte) (int, error) {
						cancel()
						return 0, io.ErrUnexpectedEOF
					})))
					return resp, err
				}
			}, "reading the receipt envelope at byte 10003: context canceled",
		},
	}
	for name, test := range tests {
		for _, entry := range []string{"Receipt", "SaveReceipt", "Read", "WriteTo"} {
			t.Run(name+"/"+entry, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					mock := answersOf(test.answer(cancel))
					client := mustClient(t, mockBase, overTransport(closing(t, mock)), pixmed.WithRetryWait(time.Minute, time.Minute))
					dir := t.TempDir()
					start := time.Now()
					var err error
					switch entry {
					case "Receipt":
						_, err = client.Receipt(ctx, receiptID)
					case "SaveReceipt":
						_, err = client.SaveReceipt(ctx, receiptID, filepath.Join(dir, "receipt.pdf"))
					default:
						var r *pixmed.ReceiptReader
						if r, err = client.OpenReceipt(ctx, receiptID); err == nil {
							if entry == "Read" {
								_, err = io.ReadAll(r)
							} else {
								_, err = r.WriteTo(io.Discard)
							}
							_ = r.Close()
						}
					}
					if !errors.Is(err, context.Canceled) {
						t.Errorf("got %v, want a context error", err)
					}
					if diff := gocmp.Diff("receipt of transaction "+receiptID+": "+test.want, fmt.Sprint(err)); diff != "" {
						t.Error(diff)
					}
					if n := mock.GetTotalCallCount(); n != 1 {
						t.Errorf("%d requests, want 1", n)
					}
					if time.Since(start) > time.Second {
						t.Errorf("took %v", time.Since(start))
					}
					wantOnly(t, dir)
				})
			})
		}
	}
}

// Reading ends with the context even if there is more in the body.
func TestReadingEndsWithTheContextAtOnce(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	receipt, err := mustClient(t, mockBase, overTransport(answersOf(goodAnswer(receiptPDF(300_000))))).OpenReceipt(ctx, receiptID)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.Copy(io.Discard, receipt); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want a context error", err)
	}
}

// The context may end while the delivered bytes are read again.
func TestContextEndsWhileResuming(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pdf, cause := receiptPDF(50_000), errors.New("the server is shutting down")
		ctx, cancel := context.WithCancelCause(t.Context())
		mock := answersOf(broken(pdf, 10_003), func(r *http.Request) (*http.Response, error) {
			time.AfterFunc(time.Second, func() { cancel(cause) })
			return &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Body: io.NopCloser(io.MultiReader(
				strings.NewReader(receiptJSON(pdf)[:5000]), untilDone{r.Context()}))}, nil
		})
		_, err := mustClient(t, mockBase, overTransport(mock)).Receipt(ctx, receiptID)
		if !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
			t.Errorf("got %v, want a context error and its cause", err)
		}
		if n := mock.GetTotalCallCount(); n != 2 {
			t.Errorf("%d requests, want 2", n)
		}
	})
}

// On a line that breaks three downloads of ten at a random byte, a call with 4
// retries fails no more often than five plain attempts would: 0.3 to the power of
// 5, or 2.4 times in 1,000. The size of the receipt does not matter.
func TestFlakyLine(t *testing.T) {
	t.Parallel()
	const calls, most = 1000, 6
	pdf := receiptPDF(20 << 10)
	body := receiptJSON(pdf)
	random := rand.New(rand.NewPCG(1, 0))
	client := mustClient(t, mockBase, pixmed.WithRetries(4), overTransport(roundTripFunc(func(r *http.Request) (*http.Response, error) {
		if random.Float64() < 0.3 {
			return broken(pdf, random.IntN(len(body)))(r)
		}
		return &http.Response{StatusCode: http.StatusOK, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body))}, nil
	})))
	failed := 0
	for range calls {
		receipt, err := client.Receipt(t.Context(), receiptID)
		if err != nil {
			failed++
		} else if !bytes.Equal(receipt.PDF, pdf) {
			t.Fatal("another PDF")
		}
	}
	if failed > most {
		t.Errorf("%d of %d calls failed, want at most %d", failed, calls, most)
	}
}

// stuckBody sends a text and then nothing until it is closed: it ignores the
// request's context.
type stuckBody struct {
	io.Reader
	closed chan struct{}
	once   sync.Once
}

func newStuckBody(text string) *stuckBody {
	b := &stuckBody{closed: make(chan struct{})}
	b.Reader = io.MultiReader(strings.NewReader(text), readFunc(func([]byte) (int, error) {
		<-b.closed
		return 0, errors.New("read on a closed body")
	}))
	return b
}

func (b *stuckBody) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

// Close ends a Read or WriteTo in another goroutine, whatever it is waiting for, and
// no request is sent afterwards.
func TestCloseBesideReading(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(50_000)
	stuck := func(text string) httpmock.Responder {
		return func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Body: newStuckBody(text)}, nil
		}
	}
	half := receiptJSON(pdf)[:10_003]
	tests := map[string][]httpmock.Responder{
		"in the body":                    {stuck(half)},
		"in a body that heeds a context": {func(r *http.Request) (*http.Response, error) { return unfinished(r, half) }},
		"in the wait":                    {broken(pdf, 10_003)},
		"in the next request":            {broken(pdf, 10_003), hangingAnswer},
		"in the wait after an answer":    {broken(pdf, 10_003), codeAnswer(503)},
		"in what was delivered":          {broken(pdf, 10_003), stuck(half[:5000])},
		"after what was delivered":       {broken(pdf, 10_003), stuck(half)},
	}
	for name, answers := range tests {
		for entry, read := range map[string]func(*pixmed.ReceiptReader) error{
			"Read":    func(r *pixmed.ReceiptReader) error { _, err := io.ReadAll(r); return err },
			"WriteTo": func(r *pixmed.ReceiptReader) error { _, err := r.WriteTo(io.Discard); return err },
		} {
			t.Run(name+"/"+entry, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					mock := answersOf(answers...)
					client := mustClient(t, mockBase, overTransport(closing(t, mock)), pixmed.WithRetryWait(time.Hour, time.Hour), pixmed.WithStallTimeout(1000*time.Hour))
					receipt, err := client.OpenReceipt(context.Background(), receiptID)
					if err != nil {
						t.Fatal(err)
					}
					result := make(chan error)
					go func() { result <- read(receipt) }()
					time.Sleep(time.Duration(len(answers)-1)*time.Hour + time.Minute) // longer than the waits before the requests
					synctest.Wait()
					start, requests := time.Now(), mock.GetTotalCallCount()
					if err := receipt.Close(); err != nil {
						t.Error(err)
					}
					want := "receipt of transaction " + receiptID + ": "
					if err := <-result; !errors.Is(err, pixmed.ErrClosed) || errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), want) {
						t.Errorf("got %v, want ErrClosed", err)
					}
					if _, err := receipt.Read(make([]byte, 1)); !errors.Is(err, pixmed.ErrClosed) {
						t.Errorf("then, Read returned %v", err)
					}
					if _, err := receipt.WriteTo(io.Discard); !errors.Is(err, pixmed.ErrClosed) {
						t.Errorf("then, WriteTo returned %v", err)
					}
					if err := receipt.Close(); err != nil {
						t.Error(err)
					}
					if took := time.Since(start); took != 0 {
						t.Errorf("took %v", took)
					}
					time.Sleep(10 * time.Hour)
					if n := mock.GetTotalCallCount(); n != requests || n != len(answers) {
						t.Errorf("%d requests, %d of them before Close, want %d", n, requests, len(answers))
					}
				})
			})
		}
	}
}

// unfinished sends a text, and then nothing until the request's context ends.
func unfinished(r *http.Request, text string) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Body: io.NopCloser(io.MultiReader(
		strings.NewReader(text), untilDone{r.Context()}))}, nil
}

// From DecodeReceipt, Close returns at once, and Read ends when the given reader's
// Read does, whatever that brings.
func TestCloseBesideDecoding(t *testing.T) {
	t.Parallel()
	body := receiptJSON(receiptPDF(50_000))
	for name, last := range map[string]func([]byte) (int, error){
		"bytes":    func(p []byte) (int, error) { return copy(p, body[20_000:]), nil },
		"an end":   func([]byte) (int, error) { return 0, io.EOF },
		"an error": func([]byte) (int, error) { return 0, errors.New("bad sector") },
	} {
		for entry, read := range map[string]func(*pixmed.ReceiptReader) error{
			"Read":    func(r *pixmed.ReceiptReader) error { _, err := io.ReadAll(r); return err },
			"WriteTo": func(r *pixmed.ReceiptReader) error { _, err := r.WriteTo(io.Discard); return err },
		} {
			t.Run(name+"/"+entry, func(t *testing.T) {
				t.Parallel()
				reading, goOn := make(chan struct{}), make(chan struct{})
				receipt, err := pixmed.DecodeReceipt(io.MultiReader(strings.NewReader(body[:20_000]), readFunc(func(p []byte) (int, error) {
					close(reading)
					<-goOn
					return last(p)
				})))
				if err != nil {
					t.Fatal(err)
				}
				result := make(chan error)
				go func() { result <- read(receipt) }()
				<-reading
				if err := receipt.Close(); err != nil {
					t.Error(err)
				}
				close(goOn)
				if err := <-result; !errors.Is(err, pixmed.ErrClosed) {
					t.Errorf("got %v, want ErrClosed", err)
				}
				if _, err := receipt.Read(make([]byte, 1)); !errors.Is(err, pixmed.ErrClosed) {
					t.Errorf("then, Read returned %v", err)
				}
			})
		}
	}
}

// Closing readers while they are read does not corrupt what others read at the same
// time.
func TestCloseHarmsNoStranger(t *testing.T) {
	t.Parallel()
	pdfs := make([][]byte, 4)
	bodies := make([]string, len(pdfs))
	for i := range pdfs {
		pdfs[i] = receiptPDF(150_000 + i)
		bodies[i] = receiptJSON(pdfs[i])
	}
	var n atomic.Int32
	client := mustClient(t, mockBase, overTransport(roundTripFunc(func(*http.Request) (*http.Response, error) {
		body := bodies[int(n.Add(1))%len(bodies)]
		return &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Body: io.NopCloser(yielding{strings.NewReader(body)})}, nil
	})))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 40 {
				receipt, err := client.OpenReceipt(t.Context(), receiptID)
				if err != nil {
					t.Error(err)
					return
				}
				if i%2 == 0 { // closed while it is read
					var reading sync.WaitGroup
					reading.Go(func() {
						if j%2 == 0 {
							_, err = receipt.WriteTo(io.Discard)
						} else {
							_, err = io.Copy(io.Discard, struct{ io.Reader }{receipt})
						}
						if err != nil && !errors.Is(err, pixmed.ErrClosed) {
							t.Error(err)
						}
					})
					for range j {
						runtime.Gosched()
					}
					_ = receipt.Close()
					reading.Wait()
					continue
				}
				got, err := io.ReadAll(receipt) // a stranger
				if err != nil || len(got) < 150_000 || !bytes.Equal(got, pdfs[len(got)-150_000]) {
					t.Errorf("a stranger got %d bytes, another PDF, and %v", len(got), err)
				}
			}
		})
	}
	wg.Wait()
}

// yielding lets others run between two reads.
type yielding struct{ r io.Reader }

func (y yielding) Read(p []byte) (int, error) {
	runtime.Gosched()
	return y.r.Read(p[:min(len(p), 8<<10)])
}

// The same with real connections: Close ends a Read that waits for a server.
func TestCloseOverTheNetwork(t *testing.T) {
	t.Parallel()
	body := receiptJSON(receiptPDF(300_000))[:200_000]
	for name, test := range map[string]struct{ http2, compressed bool }{
		"HTTP/1.1": {false, false}, "HTTP/1.1, gzip": {false, true}, "HTTP/2": {true, false}, "HTTP/2, gzip": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var to io.Writer = w
				if test.compressed {
					w.Header().Set("Content-Encoding", "gzip")
					zip := gzip.NewWriter(w)
					to = zip
				}
				_, _ = io.WriteString(to, body)
				if zip, ok := to.(*gzip.Writer); ok {
					_ = zip.Flush()
				}
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}))
			srv.EnableHTTP2 = test.http2
			srv.StartTLS()
			t.Cleanup(srv.Close)
			client := mustClient(t, srv.URL, pixmed.WithHTTPClient(srv.Client()))
			for i := range 10 {
				receipt, err := client.OpenReceipt(t.Context(), receiptID)
				if err != nil {
					t.Fatal(err)
				}
				half := make(chan struct{})
				result := make(chan error)
				go func() {
					_, err := io.CopyN(io.Discard, receipt, 100_000)
					close(half)
					if err == nil {
						_, err = io.Copy(io.Discard, receipt)
					}
					result <- err
				}()
				if i%2 == 0 {
					<-half
				}
				if err := receipt.Close(); err != nil {
					t.Error(err)
				}
				if err := <-result; !errors.Is(err, pixmed.ErrClosed) {
					t.Errorf("got %v, want ErrClosed", err)
				}
			}
		})
	}
}
