package pixmed_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/jarcoal/httpmock"

	"github.com/pixmed-go/pixmed"
)

var _ io.WriterTo = (*pixmed.ReceiptReader)(nil) // io.Copy uses it

// infoOf is what must be known about a PDF in the end.
func infoOf(pdf []byte) pixmed.ReceiptInfo {
	sum := sha256.Sum256(pdf)
	return pixmed.ReceiptInfo{
		TransactionID: receiptID,
		MIMEType:      "application/pdf",
		Size:          int64(len(pdf)),
		SHA256:        hex.EncodeToString(sum[:]),
	}
}

// wantOnly checks which files a directory has.
func wantOnly(tb testing.TB, dir string, names ...string) {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if diff := gocmp.Diff(names, got); diff != "" {
		tb.Errorf("files in the directory: %s", diff)
	}
}

// entryPoints are the ways to get a receipt. Each returns the PDF, or as much of
// it as came before the error, and what is known about it.
var entryPoints = map[string]func(*testing.T, *pixmed.Client) ([]byte, pixmed.ReceiptInfo, error){
	"Receipt": func(t *testing.T, c *pixmed.Client) ([]byte, pixmed.ReceiptInfo, error) {
		t.Helper()
		receipt, err := c.Receipt(t.Context(), receiptID)
		if err != nil {
			if receipt != nil {
				t.Errorf("a receipt beside %v", err)
			}
			return nil, pixmed.ReceiptInfo{}, err
		}
		return receipt.PDF, receipt.ReceiptInfo, nil
	},
	"SaveReceipt": func(t *testing.T, c *pixmed.Client) ([]byte, pixmed.ReceiptInfo, error) {
		t.Helper()
		dir := t.TempDir()
		path := filepath.Join(dir, "receipt.pdf")
		info, err := c.SaveReceipt(t.Context(), receiptID, path)
		if err != nil {
			if info != nil {
				t.Errorf("info beside %v", err)
			}
			wantOnly(t, dir)
			return nil, pixmed.ReceiptInfo{}, err
		}
		wantOnly(t, dir, "receipt.pdf")
		pdf, err := os.ReadFile(path)
		return pdf, *info, err
	},
	"Read": func(t *testing.T, c *pixmed.Client) ([]byte, pixmed.ReceiptInfo, error) {
		t.Helper()
		return readAll(t, c, func(r *pixmed.ReceiptReader) io.Reader { return struct{ io.Reader }{r} })
	},
	"Read by bytes": func(t *testing.T, c *pixmed.Client) ([]byte, pixmed.ReceiptInfo, error) {
		t.Helper()
		return readAll(t, c, func(r *pixmed.ReceiptReader) io.Reader { return iotest.OneByteReader(r) })
	},
	"WriteTo": func(t *testing.T, c *pixmed.Client) ([]byte, pixmed.ReceiptInfo, error) {
		t.Helper()
		return readAll(t, c, func(r *pixmed.ReceiptReader) io.Reader { return r })
	},
	"Read, then WriteTo": func(t *testing.T, c *pixmed.Client) ([]byte, pixmed.ReceiptInfo, error) {
		t.Helper()
		return readAll(t, c, func(r *pixmed.ReceiptReader) io.Reader {
			head := make([]byte, 4) // of the 6 that OpenReceipt has looked at
			n, err := io.ReadFull(r, head)
			if err != nil {
				t.Error(err)
			}
			return io.MultiReader(bytes.NewReader(head[:n]), r)
		})
	},
}

func readAll(t *testing.T, c *pixmed.Client, through func(*pixmed.ReceiptReader) io.Reader) ([]byte, pixmed.ReceiptInfo, error) {
	t.Helper()
	receipt, err := c.OpenReceipt(t.Context(), receiptID)
	if err != nil {
		if receipt != nil {
			t.Errorf("a reader beside %v", err)
		}
		return nil, pixmed.ReceiptInfo{}, err
	}
	defer receipt.Close()
	if info := receipt.Info(); info.SHA256 != "" || info.MIMEType != "" {
		t.Errorf("complete before the end: %+v", info)
	}
	var pdf bytes.Buffer
	n, err := io.Copy(&pdf, through(receipt))
	if n != int64(pdf.Len()) {
		t.Errorf("says that it wrote %d bytes, not %d", n, pdf.Len())
	}
	if err != nil {
		// It must go on failing, in the same way.
		_, again := receipt.Read(make([]byte, 1))
		_, andAgain := receipt.WriteTo(io.Discard)
		if !errors.Is(again, err) || !errors.Is(andAgain, err) {
			t.Errorf("%v was followed by %v and %v", err, again, andAgain)
		}
		if info := receipt.Info(); info.SHA256 != "" || info.MIMEType != "" {
			t.Errorf("complete in spite of %v: %+v", err, info)
		}
		return pdf.Bytes(), receipt.Info(), err
	}
	for range 2 { // the end stays the end
		if n, err := receipt.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("got %d, %v behind the end", n, err)
		}
		if n, err := receipt.WriteTo(&fullWriter{}); n != 0 || err != nil {
			t.Errorf("wrote %d, %v behind the end", n, err)
		}
	}
	return pdf.Bytes(), receipt.Info(), nil
}

// wantWhole checks that all of a PDF came.
func wantWhole(t *testing.T, pdf, got []byte, info pixmed.ReceiptInfo, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("got %v, want the receipt", err)
		return
	}
	if !bytes.Equal(got, pdf) {
		t.Errorf("got another PDF, of %d bytes instead of %d", len(got), len(pdf))
	}
	if diff := gocmp.Diff(infoOf(pdf), info); diff != "" {
		t.Error(diff)
	}
}

func TestReceiptsOfAllSizes(t *testing.T) {
	t.Parallel()
	modes := map[string]func(http.ResponseWriter, string){
		"length": func(w http.ResponseWriter, body string) {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			_, _ = io.WriteString(w, body)
		},
		"chunked": func(w http.ResponseWriter, body string) {
			for len(body) > 0 {
				n := min(len(body), 50_000)
				_, _ = io.WriteString(w, body[:n])
				_ = http.NewResponseController(w).Flush()
				body = body[n:]
			}
		},
		"gzip": func(w http.ResponseWriter, body string) {
			w.Header().Set("Content-Encoding", "gzip")
			level := gzip.BestSpeed
			if len(body) > 1<<20 {
				level = gzip.NoCompression // the race detector makes it slow
			}
			zip, err := gzip.NewWriterLevel(w, level)
			if err != nil {
				t.Error(err)
			}
			_, _ = io.WriteString(zip, body)
			_ = zip.Close()
		},
	}
	for mode, write := range modes {
		for _, size := range []int{5, 6, 7, 64, 65, 70 << 10, 5 << 20} {
			t.Run(fmt.Sprintf("%s/%d", mode, size), func(t *testing.T) {
				t.Parallel()
				pdf := receiptPDF(size)
				body := receiptJSON(pdf)
				srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Accept-Encoding") != "gzip" {
						t.Errorf("Accept-Encoding is %q", r.Header.Get("Accept-Encoding"))
					}
					write(w, body)
				}))
				t.Cleanup(srv.Close)
				client := mustClient(t, srv.URL, overTransport(freshTransport(t)), pixmed.WithRetries(0))
				for name, get := range entryPoints {
					if size > 1<<20 && name != "Receipt" && name != "SaveReceipt" {
						continue // they take their time
					}
					got, info, err := get(t, client)
					wantWhole(t, pdf, got, info, err)
				}
			})
		}
	}
}

func TestReceiptsThatAreNotReceipts(t *testing.T) {
	t.Parallel()
	const ofPDF = "JVBERi0xLjcK"
	pdf := func(size int) string { return receiptJSON(receiptPDF(size)) }
	tests := map[string]struct {
		body   string
		header http.Header
		is     error
		text   string // how the error begins, behind the transaction
	}{
		"empty":            {"", nil, pixmed.ErrReceiptTruncated, "the download broke off at byte 0 of the PDF, after 1 attempt: truncated receipt envelope at byte 0: empty body"},
		"HTML":             {"<html><title>Sign in</title>", nil, pixmed.ErrReceiptMalformed, "not a receipt envelope at byte 0: an HTML page, not JSON: is there a proxy in between?"},
		"null":             {"null", nil, pixmed.ErrReceiptMalformed, "not a receipt envelope at byte 0: "},
		"array":            {"[]", nil, pixmed.ErrReceiptMalformed, "not a receipt envelope at byte 0: "},
		"empty object":     {"{}", nil, pixmed.ErrReceiptFailed, "the gateway does not report success at byte 1: no status"},
		"FAILED":           {`{"status":"FAILED","message":"Comprovante indisponível"}`, nil, pixmed.ErrReceiptFailed, `the gateway does not report success at byte 10: status "FAILED", message "Comprovante indisponível"`},
		"null data":        {`{"status":"SUCCESS","data":null}`, nil, pixmed.ErrReceiptMissing, "no receipt in the envelope at byte 27: data is null"},
		"no data":          {`{"status":"SUCCESS"}`, nil, pixmed.ErrReceiptMissing, "no receipt in the envelope at byte 19: no data"},
		"null receipt":     {`{"status":"SUCCESS","data":{"receipt":null}}`, nil, pixmed.ErrReceiptMissing, "no receipt in the envelope at byte 38: receipt is null"},
		"empty receipt":    {`{"status":"SUCCESS","data":{"receipt":""}}`, nil, pixmed.ErrReceiptEmpty, "empty receipt at byte 39"},
		"not a PDF":        {`{"status":"SUCCESS","data":{"receipt":"PGh0bWw+PGh0bWw+"}}`, nil, pixmed.ErrReceiptNotPDF, "not a PDF at byte 39: no %PDF- in the first 1024 bytes; it starts with \"<html><html>\""},
		"corrupt base64":   {`{"status":"SUCCESS","data":{"receipt":"` + ofPDF + `?AAA"}}`, nil, pixmed.ErrReceiptBase64, "corrupt base64 at byte 51: "},
		"trailing garbage": {pdf(100) + "{}", nil, pixmed.ErrReceiptTrailing, "data after the receipt envelope at byte "},
		"FAILED behind":    {`{"data":{"receipt":"` + ofPDF + `"},"status":"FAILED"}`, nil, pixmed.ErrReceiptFailed, `the gateway does not report success at byte 44: status "FAILED"`},
		"over the limit":   {pdf(10_001), nil, pixmed.ErrReceiptTooLarge, "receipt too large at byte "},
		"endless envelope": {`{"x":"` + strings.Repeat("x", 100_000), nil, pixmed.ErrReceiptTooLarge, "receipt too large at byte 85536: the envelope has more than 85536 bytes"},
		"an encoding that nobody undoes": {
			pdf(100),
			http.Header{"Content-Encoding": {"br"}},
			pixmed.ErrReceiptMalformed,
			`not a receipt envelope: it has the Content-Encoding "br", which the transport does not undo`,
		},
		"an endless encoding": {
			pdf(100),
			http.Header{"Content-Encoding": {strings.Repeat("x", 1000)}},
			pixmed.ErrReceiptMalformed,
			`not a receipt envelope: it has the Content-Encoding "` + strings.Repeat("x", 64) + `…"`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for entry, get := range entryPoints {
				for _, length := range []int64{-1, int64(len(test.body))} {
					var closed atomic.Int32
					client := mustClient(t, mockBase, pixmed.WithRetries(0), pixmed.WithMaxReceiptSize(10_000),
						overTransport(roundTripFunc(func(*http.Request) (*http.Response, error) {
							return &http.Response{
								StatusCode: http.StatusOK, Header: test.header, ContentLength: length,
								Body: &countedCloser{strings.NewReader(test.body), &closed},
							}, nil
						})))
					_, _, err := get(t, client)
					if !errors.Is(err, test.is) {
						t.Errorf("%s: got %v, want %v", entry, err, test.is)
					}
					if want := "receipt of transaction " + receiptID + ": " + test.text; err == nil || !strings.HasPrefix(err.Error(), want) {
						t.Errorf("%s:\ngot  %v\nwant %s", entry, err, want)
					}
					if closed.Load() != 1 {
						t.Errorf("%s: the body was closed %d times", entry, closed.Load())
					}
				}
			}
			if test.header != nil {
				return // it has to do with HTTP alone
			}
			reader, err := pixmed.DecodeReceipt(strings.NewReader(test.body), pixmed.WithMaxReceiptSize(10_000))
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.ReadAll(reader)
			if want := "receipt: "; !errors.Is(err, test.is) || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("DecodeReceipt: got %v, want %v", err, test.is)
			}
		})
	}
}

type countedCloser struct {
	io.Reader
	closed *atomic.Int32
}

func (c *countedCloser) Close() error { c.closed.Add(1); return nil }

func TestIdentityEncoding(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(100)
	client := mustClient(t, mockBase, overTransport(answersOf(goodAnswer(pdf).HeaderSet(http.Header{"Content-Encoding": {"Identity"}}))))
	if receipt, err := client.Receipt(t.Context(), receiptID); err != nil || !bytes.Equal(receipt.PDF, pdf) {
		t.Errorf("got %v, want the receipt", err)
	}
}

func TestReceiptAtTheLimit(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{5, 6, 7, 100, 10_000, 70_000} {
		for _, over := range []int{0, 1} {
			pdf := receiptPDF(limit + over)
			client := mustClient(t, mockBase, overTransport(answersOf(goodAnswer(pdf))), pixmed.WithMaxReceiptSize(int64(limit)))
			_, err := client.Receipt(t.Context(), receiptID)
			if got := errors.Is(err, pixmed.ErrReceiptTooLarge); got != (over == 1) || over == 0 && err != nil {
				t.Errorf("%d bytes at a limit of %d: %v", len(pdf), limit, err)
			}
		}
	}
}

// A PDF without an envelope is whole when HTTP says so or its own end does.
func TestBarePDF(t *testing.T) {
	t.Parallel()
	whole := receiptPDF(5000)
	endless := whole[:4990]
	for name, test := range map[string]struct {
		body   []byte
		length bool
		whole  bool
	}{
		"length, %%EOF":  {whole, true, true},
		"length alone":   {endless, true, true},
		"%%EOF alone":    {whole, false, true},
		"neither of the": {endless, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/pdf")
				if test.length {
					w.Header().Set("Content-Length", fmt.Sprint(len(test.body)))
				} else {
					_ = http.NewResponseController(w).Flush()
				}
				_, _ = w.Write(test.body)
			}))
			t.Cleanup(srv.Close)
			client := mustClient(t, srv.URL, overTransport(freshTransport(t)), pixmed.WithRetries(0))
			for _, get := range entryPoints {
				got, info, err := get(t, client)
				if test.whole {
					wantWhole(t, test.body, got, info, err)
				} else if !errors.Is(err, pixmed.ErrReceiptTruncated) {
					t.Errorf("got %v, want ErrReceiptTruncated", err)
				}
			}
		})
	}
}

func TestGzipBomb(t *testing.T) {
	t.Parallel()
	var bomb bytes.Buffer
	zip := gzip.NewWriter(&bomb)
	_, _ = io.WriteString(zip, `{"status":"SUCCESS","x":"`)
	block := bytes.Repeat([]byte("x"), 1<<20)
	for range 8 {
		_, _ = zip.Write(block)
	}
	_, _ = io.WriteString(zip, `"}`)
	_ = zip.Close()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb.Bytes())
	}))
	t.Cleanup(srv.Close)
	client := mustClient(t, srv.URL, overTransport(freshTransport(t)), pixmed.WithMaxReceiptSize(1<<10))
	_, err := client.Receipt(t.Context(), receiptID)
	if want := "the envelope has more than 67584 bytes"; !errors.Is(err, pixmed.ErrReceiptTooLarge) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want ErrReceiptTooLarge: %s", err, want)
	}
}

// Cut behind any byte, from the first of the header to the last of the body, an
// answer is an error; and if the next one is whole, the receipt is.
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
					step = 5 // it waits for the disk
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

func TestDecodeCutAtEveryByte(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(40)
	body := receiptJSON(pdf)
	for cut := range len(body) + 1 {
		reader, err := pixmed.DecodeReceipt(strings.NewReader(body[:cut]))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(reader)
		if cut == len(body) {
			if err != nil || !bytes.Equal(got, pdf) {
				t.Errorf("got %v, want the receipt", err)
			}
		} else if !errors.Is(err, pixmed.ErrReceiptTruncated) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: got %v", cut, err)
		}
	}
}

// broken answers with the first bytes of an envelope and then an error.
func broken(pdf []byte, sent int) httpmock.Responder {
	return func(*http.Request) (*http.Response, error) {
		body := receiptJSON(pdf)
		return &http.Response{
			StatusCode: http.StatusOK, ContentLength: int64(len(body)),
			Body: io.NopCloser(io.MultiReader(strings.NewReader(body[:sent]), iotest.ErrReader(errors.New("connection reset by peer")))),
		}, nil
	}
}

// Of an envelope, sent bytes bring so many of the PDF.
func delivered(sent int) int { return (sent - len(`{"status":"SUCCESS","data":{"receipt":"`)) / 4 * 3 }

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
	again := func(sent, at int) string {
		return fmt.Sprintf("%sthe download broke off again without getting beyond byte %d of the PDF: reading the receipt envelope at byte %d: connection reset by peer",
			start, delivered(sent), at)
	}
	const changed = start + "the receipt has changed since its first bytes were delivered; fetch it anew"
	tests := map[string]struct {
		retries    int
		answers    []httpmock.Responder
		want       string // the error of OpenReceipt's reader
		requests   int
		whole      string // the error of Receipt and SaveReceipt, if it is another one
		requests2  int    // their requests, if there are others
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
		"behind the PDF": {
			retries: 1, answers: []httpmock.Responder{broken(pdf, whole-3), goodAnswer(pdf)}, want: gets, requests: 2,
		},
		"behind the envelope": { // an end that is not there is not an end
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
			retries: 4, answers: []httpmock.Responder{broken(pdf, 10_003), broken(pdf, 10_003), goodAnswer(pdf)}, want: again(10_003, 10_003), requests: 2,
		},
		"the second time before": {
			retries: 4, answers: []httpmock.Responder{broken(pdf, 10_003), broken(pdf, 5000), goodAnswer(pdf)}, want: again(10_003, 5000), requests: 2,
		},
		"further, then not": {
			retries: 4, answers: []httpmock.Responder{broken(pdf, 10_003), broken(pdf, 20_003), broken(pdf, 20_003), goodAnswer(pdf)}, want: again(20_003, 20_003), requests: 3,
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
		"another PDF, from where nobody has read": { // what counts is what was delivered
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

// untilDone is a body that brings nothing until its request is cancelled.
type untilDone struct{ ctx context.Context } //nolint:containedctx // as in a response's body

func (b untilDone) Read([]byte) (int, error) {
	<-b.ctx.Done()
	return 0, b.ctx.Err()
}

// The wait before a resumption is that before a first retry.
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
		"INFO pixmed: receipt download broke, resuming transaction_id=" + receiptID + " attempt=1 delivered=720 error=reading the receipt envelope at byte 1000: connection reset by peer",
		"INFO pixmed: the receipt changed during its download, starting over transaction_id=" + receiptID + " attempt=2",
	}
	if diff := gocmp.Diff(want, logged.all()); diff != "" {
		t.Error(diff)
	}
}

// Nothing is fetched for a caller who has gone.
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
			}, "context canceled; before that: reading the receipt envelope at byte 10003: connection reset by peer",
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

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func TestReaderAfterClose(t *testing.T) {
	t.Parallel()
	var closed atomic.Int32
	client := mustClient(t, mockBase, overTransport(roundTripFunc(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Body: &countedCloser{strings.NewReader(receiptJSON(receiptPDF(3000))), &closed}}, nil
	})))
	receipt, err := client.OpenReceipt(t.Context(), receiptID)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // with and without bytes that OpenReceipt has read already
		if n, err := receipt.Read(nil); n != 0 || err != nil {
			t.Errorf("read %d, %v into nothing", n, err)
		}
		if _, err := io.CopyN(io.Discard, receipt, 100); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		if err := receipt.Close(); err != nil {
			t.Error(err)
		}
	}
	if closed.Load() != 1 {
		t.Errorf("the body was closed %d times", closed.Load())
	}
	want := "receipt of transaction " + receiptID + ": read after Close"
	if n, err := receipt.Read(make([]byte, 10)); n != 0 || fmt.Sprint(err) != want {
		t.Errorf("read %d, %v", n, err)
	}
	var w bytes.Buffer
	if n, err := receipt.WriteTo(&w); n != 0 || fmt.Sprint(err) != want || w.Len() != 0 {
		t.Errorf("wrote %d, %v", n, err)
	}
	if receipt.Info().SHA256 != "" {
		t.Error("complete")
	}
}

func TestCloseAfterEOFKeepsTheInfo(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(3000)
	receipt, err := mustClient(t, mockBase, overTransport(closing(t, answersOf(goodAnswer(pdf))))).OpenReceipt(t.Context(), receiptID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(receipt); err != nil {
		t.Error(err)
	}
	if err := receipt.Close(); err != nil {
		t.Error(err)
	}
	if diff := gocmp.Diff(infoOf(pdf), receipt.Info()); diff != "" {
		t.Error(diff)
	}
	if _, err := receipt.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("got %v, want io.EOF", err)
	}
}

// The context is not the test's, which ends with it.
func TestEOFFreesEverything(t *testing.T) {
	t.Parallel()
	var ctx context.Context
	var closed atomic.Int32
	client := mustClient(t, mockBase, overTransport(roundTripFunc(func(r *http.Request) (*http.Response, error) {
		ctx = r.Context() //nolint:fatcontext // to look at it later
		return &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Body: &countedCloser{strings.NewReader(receiptJSON(receiptPDF(3000))), &closed}}, nil
	})))
	receipt, err := client.OpenReceipt(context.Background(), receiptID) // see above
	if err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil || closed.Load() != 0 {
		t.Error("ended before it was read")
	}
	if _, err := io.ReadAll(receipt); err != nil {
		t.Error(err)
	}
	if ctx.Err() == nil || closed.Load() != 1 {
		t.Errorf("the context ended with %v, and the body was closed %d times", ctx.Err(), closed.Load())
	}
}

// A writer's error is the writer's: no download is resumed for it.
func TestWriterFails(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(100_000)
	for _, room := range []int{0, 3, 6, 7, 50_000, len(pdf) - 1} {
		for _, short := range []bool{false, true} {
			t.Run(fmt.Sprint(room, short), func(t *testing.T) {
				t.Parallel()
				mock := answersOf(goodAnswer(pdf))
				receipt, err := mustClient(t, mockBase, overTransport(closing(t, mock))).OpenReceipt(t.Context(), receiptID)
				if err != nil {
					t.Fatal(err)
				}
				w := &fullWriter{room: room, short: short}
				want, text := errFull, "no space left on device"
				if short {
					want, text = io.ErrShortWrite, "short write"
				}
				n, err := receipt.WriteTo(w)
				if n != int64(room) || !errors.Is(err, want) || !bytes.Equal(w.got, pdf[:room]) {
					t.Errorf("wrote %d of %d: %v", n, room, err)
				}
				if text = "receipt of transaction " + receiptID + ": writing it: " + text; fmt.Sprint(err) != text {
					t.Errorf("got %v, want %s", err, text)
				}
				if _, again := receipt.Read(make([]byte, 1)); !errors.Is(again, want) {
					t.Errorf("then %v", again)
				}
				if n := mock.GetTotalCallCount(); n != 1 {
					t.Errorf("%d requests", n)
				}
			})
		}
	}
}

func TestDecodeReceipt(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(70 << 10)
	want := infoOf(pdf)
	want.TransactionID = ""
	for name, copyTo := range map[string]func(io.Writer, *pixmed.ReceiptReader) (int64, error){
		"Read":    func(w io.Writer, r *pixmed.ReceiptReader) (int64, error) { return io.Copy(w, struct{ io.Reader }{r}) },
		"WriteTo": func(w io.Writer, r *pixmed.ReceiptReader) (int64, error) { return r.WriteTo(w) },
		"Read, then WriteTo": func(w io.Writer, r *pixmed.ReceiptReader) (int64, error) {
			m, err := io.CopyN(w, r, 1000)
			if err != nil {
				return m, err
			}
			n, err := r.WriteTo(w)
			return m + n, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var closed atomic.Int32
			receipt, err := pixmed.DecodeReceipt(&countedCloser{strings.NewReader(receiptJSON(pdf)), &closed}, pixmed.WithMaxReceiptSize(70<<10))
			if err != nil {
				t.Fatal(err)
			}
			if info := receipt.Info(); info != (pixmed.ReceiptInfo{}) {
				t.Errorf("knows %v before it has read", info)
			}
			var got bytes.Buffer
			if n, err := copyTo(&got, receipt); err != nil || n != int64(len(pdf)) || !bytes.Equal(got.Bytes(), pdf) {
				t.Errorf("got %d bytes, %v", n, err)
			}
			if diff := gocmp.Diff(want, receipt.Info()); diff != "" {
				t.Error(diff)
			}
			if err := receipt.Close(); err != nil || closed.Load() != 0 {
				t.Errorf("closed %v, the reader %d times", err, closed.Load())
			}
		})
	}
}

func TestDecodeReceiptErrors(t *testing.T) {
	t.Parallel()
	if r, err := pixmed.DecodeReceipt(nil, nil, pixmed.WithMaxReceiptSize(-3)); r != nil || fmt.Sprint(err) !=
		"DecodeReceipt: the reader is nil\nan option is nil\nWithMaxReceiptSize: -3 is not a positive number of bytes" {
		t.Errorf("got %v, %v", r, err)
	}

	failure := errors.New("bad sector")
	var closed atomic.Int32
	r, err := pixmed.DecodeReceipt(&countedCloser{io.MultiReader(strings.NewReader(receiptJSON(receiptPDF(3000))[:2000]), iotest.ErrReader(failure)), &closed})
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if want := "receipt: reading the receipt envelope at byte 2000: bad sector"; !errors.Is(err, failure) || fmt.Sprint(err) != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if !bytes.HasPrefix(receiptPDF(3000), got) {
		t.Error("another PDF")
	}

	r, err = pixmed.DecodeReceipt(strings.NewReader(receiptJSON(receiptPDF(3000))))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.Read(make([]byte, 1)); fmt.Sprint(err) != "receipt: read after Close" {
		t.Errorf("got %v", err)
	}
}

// Whatever length a gateway claims, the receipt is what it sends.
func TestClaimedLength(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1000, 96 << 10, 96<<10 + 1, 300_000, 5 << 20} {
		pdf := receiptPDF(size)
		body := receiptJSON(pdf)
		for _, claim := range []int64{-1, 0, 1, int64(len(body)) / 2, int64(len(body)), 2 * int64(len(body)), 64 << 20, math.MaxInt64} {
			transport := roundTripFunc(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: http.StatusOK, ContentLength: claim, Body: io.NopCloser(strings.NewReader(body))}, nil
			})
			client := mustClient(t, mockBase, overTransport(transport), pixmed.WithMaxReceiptSize(math.MaxInt64))
			for range 2 { // what is used again holds the end of another
				if receipt, err := client.Receipt(t.Context(), receiptID); err != nil || !bytes.Equal(receipt.PDF, pdf) {
					t.Errorf("%d bytes, with %d claimed: %v", size, claim, err)
				}
			}
		}
	}
}

// The default limit is 32 MiB, and the length that a gateway claims is not
// reserved beyond it, whatever the limit.
func TestLimits(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(3000)
	claims := func(length int64) pixmed.ClientOption {
		return overTransport(roundTripFunc(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, ContentLength: length, Body: io.NopCloser(strings.NewReader(receiptJSON(pdf)))}, nil
		}))
	}
	client := mustClient(t, mockBase, claims(math.MaxInt64), pixmed.WithMaxReceiptSize(math.MaxInt64))
	if receipt, err := client.Receipt(t.Context(), receiptID); err != nil || !bytes.Equal(receipt.PDF, pdf) {
		t.Errorf("got %v, want the receipt", err)
	}

	if pixmed.DefaultMaxReceiptSize != 32<<20 {
		t.Errorf("the default limit is %d", pixmed.DefaultMaxReceiptSize)
	}
	for name, newReader := range map[string]func(io.Reader) (io.Reader, error){
		"DecodeReceipt": func(r io.Reader) (io.Reader, error) { return pixmed.DecodeReceipt(r) },
		"OpenReceipt": func(r io.Reader) (io.Reader, error) {
			return mustClient(t, mockBase, overTransport(roundTripFunc(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Body: io.NopCloser(r)}, nil
			}))).OpenReceipt(t.Context(), receiptID)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for over := range 2 {
				r, err := newReader(generated(pixmed.DefaultMaxReceiptSize + over*6))
				if err != nil {
					t.Fatal(err)
				}
				_, err = io.Copy(io.Discard, r)
				if errors.Is(err, pixmed.ErrReceiptTooLarge) != (over == 1) || over == 0 && err != nil {
					t.Errorf("got %v for %d bytes over 32 MiB", err, over*6)
				}
			}
		})
	}
}

// generated returns an envelope around a PDF of about so many bytes, at most,
// and at most 5 fewer, that nobody holds in memory.
func generated(size int) io.Reader {
	return io.MultiReader(
		strings.NewReader(`{"status":"SUCCESS","data":{"receipt":"JVBERi0x`),
		io.LimitReader(letters{}, int64(size-6)/3*4),
		strings.NewReader(`","mimeType":"application/pdf"}}`),
	)
}

type letters struct{}

var manyLetters = strings.Repeat("A", 64<<10)

func (letters) Read(p []byte) (int, error) {
	return copy(p, manyLetters), nil
}

func TestConstantMemory(t *testing.T) { //nolint:paralleltest // it measures what the process allocates
	const size = 8 << 20
	length := int64(-1)
	client := mustClient(t, mockBase, overTransport(roundTripFunc(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, ContentLength: length, Body: io.NopCloser(generated(size))}, nil
	})))
	open := func(copyTo func(*pixmed.ReceiptReader) error) func() error {
		return func() error {
			r, err := client.OpenReceipt(t.Context(), receiptID)
			if err != nil {
				return err
			}
			defer r.Close()
			return copyTo(r)
		}
	}
	path := filepath.Join(t.TempDir(), "receipt.pdf")
	tests := []struct {
		name   string
		length int64
		most   uint64
		get    func() error
	}{
		{"WriteTo", -1, 256 << 10, open(func(r *pixmed.ReceiptReader) error { _, err := r.WriteTo(io.Discard); return err })},
		{"Read", -1, 256 << 10, open(func(r *pixmed.ReceiptReader) error {
			_, err := io.Copy(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r})
			return err
		})},
		{"SaveReceipt", -1, 256 << 10, func() error { _, err := client.SaveReceipt(t.Context(), receiptID, path); return err }},
		{"DecodeReceipt", -1, 256 << 10, func() error {
			r, err := pixmed.DecodeReceipt(generated(size))
			if err != nil {
				return err
			}
			_, err = r.WriteTo(io.Discard)
			return err
		}},
		{"Receipt, length known", size / 3 * 4, size*11/10 + 256<<10, func() error { _, err := client.Receipt(t.Context(), receiptID); return err }},
	}
	for _, test := range tests {
		length = test.length
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := test.get()
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > test.most {
			t.Errorf("%s: allocated %d bytes, want %d at most", test.name, got, test.most)
		}
	}
}

func TestSaveReceipt(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(70 << 10)
	good := func(t *testing.T) *pixmed.Client {
		t.Helper()
		return mustClient(t, mockBase, overTransport(answersOf(goodAnswer(pdf))))
	}
	want := infoOf(pdf)
	check := func(t *testing.T, path string, info *pixmed.ReceiptInfo, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(&want, info); diff != "" {
			t.Error(diff)
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, pdf) {
			t.Errorf("the file has %d bytes, %v", len(got), err)
		}
		stat, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS != "windows" && stat.Mode() != 0o600 {
			t.Errorf("mode is %v", stat.Mode())
		}
	}
	t.Run("new file", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		path := filepath.Join(dir, "receipt.pdf")
		info, err := good(t).SaveReceipt(t.Context(), receiptID, path)
		check(t, path, info, err)
		wantOnly(t, dir, "receipt.pdf")
	})
	t.Run("existing file", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		path := filepath.Join(dir, "receipt.pdf")
		if err := os.WriteFile(path, bytes.Repeat([]byte("old"), 100_000), 0o644); err != nil {
			t.Fatal(err)
		}
		info, err := good(t).SaveReceipt(t.Context(), receiptID, path)
		check(t, path, info, err)
		wantOnly(t, dir, "receipt.pdf")
	})
	t.Run("name as long as names can be", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		path := filepath.Join(dir, strings.Repeat("n", 255))
		info, err := good(t).SaveReceipt(t.Context(), receiptID, path)
		check(t, path, info, err)
	})
	t.Run("odd names", func(t *testing.T) {
		t.Parallel()
		if runtime.GOOS == "windows" {
			t.Skip("names are more restricted there")
		}
		dir := t.TempDir()
		for _, name := range []string{"a*b", "recibo nº 1.pdf", ".hidden", "…", "a\nb"} {
			path := filepath.Join(dir, name)
			info, err := good(t).SaveReceipt(t.Context(), receiptID, path)
			check(t, path, info, err)
		}
	})
}

// In the working directory, a path needs no directory. The working directory
// belongs to the process.
func TestSaveReceiptInWorkingDirectory(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	client := mustClient(t, mockBase, overTransport(roundTripFunc(func(r *http.Request) (*http.Response, error) {
		temporary, err := filepath.Glob(filepath.Join(dir, ".receipt-*.tmp")) // on the same disk, or it could not be renamed
		if err != nil || len(temporary) != 1 {
			t.Errorf("temporary files: %v, %v", temporary, err)
		}
		return goodAnswer(receiptPDF(100))(r)
	})))
	if _, err := client.SaveReceipt(t.Context(), receiptID, "receipt.pdf"); err != nil {
		t.Fatal(err)
	}
	wantOnly(t, dir, "receipt.pdf")
}

// Nothing is fetched that could not be saved.
func TestSaveReceiptWhereItCannotBe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	slash := string(filepath.Separator)
	for name, test := range map[string]struct{ path, want string }{
		"directory":            {dir, "cannot save the receipt: " + dir + " exists and is not a regular file"},
		"directory with slash": {dir + slash, "cannot save the receipt: " + dir + slash + " exists and is not a regular file"},
		"dot":                  {".", "cannot save the receipt: . exists and is not a regular file"},
		"missing directory":    {filepath.Join(dir, "missing", "receipt.pdf"), "cannot save the receipt: open " + filepath.Join(dir, "missing")},
		"missing with slash":   {filepath.Join(dir, "missing") + slash, "cannot save the receipt: the path "},
		"file as a directory":  {filepath.Join(dir, "file", "receipt.pdf"), "cannot save the receipt: "},
		"empty":                {"", `cannot save the receipt: the path "" does not name a file`},
		"name too long":        {filepath.Join(dir, strings.Repeat("n", 256)), "cannot save the receipt: "},
		"NUL":                  {dir + slash + "a\x00b", "cannot save the receipt: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mock := answersOf(goodAnswer(receiptPDF(100)))
			info, err := mustClient(t, mockBase, overTransport(mock)).SaveReceipt(t.Context(), receiptID, test.path)
			if info != nil || err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got %v, %v, want %s", info, err, test.want)
			}
			if n := mock.GetTotalCallCount(); n != 0 {
				t.Errorf("%d requests", n)
			}
			wantOnly(t, dir, "file")
		})
	}
}

// Whatever fails, the old content stays and nothing else is left.
func TestSaveReceiptIsAtomic(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(70 << 10)
	for name, responder := range map[string]httpmock.Responder{
		"not found":        codeAnswer(404),
		"refused":          refusedAnswer(),
		"broken":           broken(pdf, 50_000),
		"broken, twice":    broken(pdf, 20),
		"changing":         changing(),
		"FAILED":           httpmock.NewStringResponder(200, `{"status":"FAILED"}`),
		"FAILED behind it": httpmock.NewStringResponder(200, `{"data":{"receipt":"JVBERi0xLjcK"},"status":"FAILED"}`),
		"too large":        goodAnswer(receiptPDF(100_000)),
		"not a PDF":        httpmock.NewStringResponder(200, `{"status":"SUCCESS","data":{"receipt":"PGh0bWw+"}}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "receipt.pdf")
			if err := os.WriteFile(path, []byte("the old one"), 0o644); err != nil {
				t.Fatal(err)
			}
			client := mustClient(t, mockBase, overTransport(closing(t, answersOf(responder))), pixmed.WithMaxReceiptSize(80<<10))
			info, err := client.SaveReceipt(t.Context(), receiptID, path)
			if info != nil || err == nil || !strings.HasPrefix(err.Error(), "receipt of transaction "+receiptID) {
				t.Errorf("got %v, %v, want an error", info, err)
			}
			wantOnly(t, dir, "receipt.pdf")
			if got, err := os.ReadFile(path); err != nil || string(got) != "the old one" {
				t.Errorf("the file has %q, %v", got, err)
			}
		})
	}
}

// changing breaks off every time, a little later, in another PDF.
func changing() httpmock.Responder {
	var n atomic.Int32
	return func(r *http.Request) (*http.Response, error) {
		i := int(n.Add(1))
		return broken(receiptPDF(50_000+i), 1000+1000*i)(r)
	}
}

func TestSaveReceiptCannotRename(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(path string) error{
		"a directory has come": func(path string) error { return os.MkdirAll(filepath.Join(path, "full"), 0o700) },
		"all is gone":          func(path string) error { return os.RemoveAll(filepath.Dir(path)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if runtime.GOOS == "windows" {
				t.Skip("open files cannot be removed there")
			}
			dir := t.TempDir()
			path := filepath.Join(dir, "sub", "receipt.pdf")
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			client := mustClient(t, mockBase, overTransport(roundTripFunc(func(r *http.Request) (*http.Response, error) {
				if err := meanwhile(path); err != nil {
					t.Error(err)
				}
				return goodAnswer(receiptPDF(100))(r)
			})))
			info, err := client.SaveReceipt(t.Context(), receiptID, path)
			linkError, isLinkError := errors.AsType[*os.LinkError](err)
			if info != nil || !isLinkError || linkError.New != path || !strings.HasPrefix(err.Error(), "cannot save the receipt: rename ") {
				t.Errorf("got %v, %v, want an error of renaming", info, err)
			}
			if entries, err := os.ReadDir(filepath.Dir(path)); err == nil {
				if len(entries) != 1 || entries[0].Name() != "receipt.pdf" {
					t.Errorf("left: %v", entries)
				}
			} else if !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
		})
	}
}

// What is printed by accident has no PDF in it.
func TestReceiptsInTextAndLogs(t *testing.T) {
	t.Parallel()
	receipt := pixmed.Receipt{
		ReceiptInfo: pixmed.ReceiptInfo{TransactionID: receiptID, MIMEType: "application/pdf", Size: 15, SHA256: "c0ffee"},
		PDF:         []byte("%PDF-the-secret"),
	}
	const want = "receipt of transaction " + receiptID + " (application/pdf, 15 bytes, SHA-256 c0ffee)"
	for format, got := range map[string]string{
		"String":  receipt.String(),
		"%v":      fmt.Sprint(receipt),
		"%+v":     fmt.Sprintf("%+v", receipt),
		"%q":      strings.Trim(fmt.Sprintf("%q", receipt), `"`),
		"pointer": fmt.Sprintf("%+v", &receipt),
		"info":    fmt.Sprint(receipt.ReceiptInfo),
	} {
		if got != want {
			t.Errorf("%s: got %s", format, got)
		}
	}
	for info, want := range map[pixmed.ReceiptInfo]string{
		{}:                                    "receipt (0 bytes so far)",
		{Size: 6}:                             "receipt (6 bytes so far)",
		{TransactionID: receiptID, Size: 100}: "receipt of transaction " + receiptID + " (100 bytes so far)",
		{MIMEType: "x/y", SHA256: "c0ffee"}:   "receipt (x/y, 0 bytes, SHA-256 c0ffee)",
	} {
		if got := info.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}

	var text, structured bytes.Buffer
	for _, log := range []*slog.Logger{slog.New(slog.NewTextHandler(&text, nil)), slog.New(slog.NewJSONHandler(&structured, nil))} {
		for _, value := range []any{receipt, &receipt} {
			log.Info("got it", slog.Any("receipt", value))
		}
	}
	for line := range strings.SplitSeq(strings.TrimSpace(structured.String()), "\n") {
		var got struct {
			Receipt map[string]any `json:"receipt"`
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatal(err)
		}
		want := map[string]any{"transaction_id": receiptID, "mime_type": "application/pdf", "size": 15.0, "sha256": "c0ffee"}
		if diff := gocmp.Diff(want, got.Receipt); diff != "" {
			t.Error(diff)
		}
	}
	if all := text.String() + structured.String(); strings.Contains(all, "secret") || strings.Contains(all, "JVBER") {
		t.Error(all)
	}
}

// Another type, none, and one that comes before the PDF.
func TestMIMEType(t *testing.T) {
	t.Parallel()
	const text = `"receipt":"JVBERi0xLjcK"`
	for body, want := range map[string]string{
		`{"status":"SUCCESS","data":{` + text + `}}`:                                 "application/pdf",
		`{"status":"SUCCESS","data":{` + text + `,"mimeType":null}}`:                 "application/pdf",
		`{"status":"SUCCESS","data":{` + text + `,"mimeType":""}}`:                   "application/pdf",
		`{"status":"success","data":{` + text + `,"mimeType":"application/x-pdf"}}`:  "application/x-pdf",
		`{"data":{"mimeType":"application/x-pdf",` + text + `},"status":"Success"}`:  "application/x-pdf",
		`{"x":[1],"data":{"mimeType":"a/b",` + text + `,"y":{}},"status":"SUCCESS"}`: "a/b",
	} {
		receipt, err := mustClient(t, mockBase, overTransport(answersOf(httpmock.NewStringResponder(200, body)))).Receipt(t.Context(), receiptID)
		if err != nil || receipt.MIMEType != want {
			t.Errorf("%s: got %v, %v, want %s", body, receipt, err, want)
		}
	}
}

// Reading ends with the context even where the body would bring more.
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

// While the prefix is read again, too, a user's cause does not hide that it is a
// context error.
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

// Not even what OpenReceipt has read already is delivered after Close.
func TestReaderClosedAtOnce(t *testing.T) {
	t.Parallel()
	receipt, err := mustClient(t, mockBase, overTransport(answersOf(goodAnswer(receiptPDF(3000))))).OpenReceipt(t.Context(), receiptID)
	if err != nil {
		t.Fatal(err)
	}
	if err := receipt.Close(); err != nil {
		t.Error(err)
	}
	want := "receipt of transaction " + receiptID + ": read after Close"
	if n, err := receipt.Read(make([]byte, 10)); n != 0 || fmt.Sprint(err) != want {
		t.Errorf("read %d, %v", n, err)
	}
	if n, err := receipt.WriteTo(io.Discard); n != 0 || fmt.Sprint(err) != want {
		t.Errorf("wrote %d, %v", n, err)
	}
}

// A symbolic link is replaced by the file; what it leads to stays as it was.
func TestSaveReceiptReplacesASymbolicLink(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(3000)
	for _, target := range []string{"target", "missing"} {
		dir := t.TempDir()
		path := filepath.Join(dir, "receipt.pdf")
		if err := os.WriteFile(filepath.Join(dir, "target"), []byte("not ours"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, path); err != nil {
			if runtime.GOOS == "windows" {
				t.Skip(err) // it takes a privilege there
			}
			t.Fatal(err)
		}
		if _, err := mustClient(t, mockBase, overTransport(answersOf(goodAnswer(pdf)))).SaveReceipt(t.Context(), receiptID, path); err != nil {
			t.Errorf("%s: %v", target, err)
			continue
		}
		if stat, err := os.Lstat(path); err != nil || !stat.Mode().IsRegular() {
			t.Errorf("%s: %v, %v is still a link", target, stat, err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, pdf) {
			t.Errorf("%s: the file has %d bytes, %v", target, len(got), err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "target")); err != nil || string(got) != "not ours" {
			t.Errorf("%s: it has %q, %v", target, got, err)
		}
		wantOnly(t, dir, "receipt.pdf", "target")
	}
}

// The temporary file is closed whatever happens.
func TestSaveReceiptLeavesNoFileOpen(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("open files are listed in /proc")
	}
	for name, responder := range map[string]httpmock.Responder{"good": goodAnswer(receiptPDF(3000)), "not found": codeAnswer(404), "broken": broken(receiptPDF(3000), 1000)} {
		dir := t.TempDir()
		_, _ = mustClient(t, mockBase, overTransport(answersOf(responder))).SaveReceipt(t.Context(), receiptID, filepath.Join(dir, "receipt.pdf"))
		open, err := filepath.Glob("/proc/self/fd/*")
		if err != nil || len(open) == 0 {
			t.Fatalf("%v, %v", open, err)
		}
		for _, fd := range open {
			if file, _ := os.Readlink(fd); strings.HasPrefix(file, dir) {
				t.Errorf("%s: %s is open", name, file)
			}
		}
	}
}

// The content is durable before the name leads to it, and the name before
// SaveReceipt returns.
func TestSaveReceiptSyncs(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("directories cannot be synced there")
	}
	failure := &os.PathError{Op: "sync", Path: "x", Err: errors.New("bad sector")}
	unsupported := &os.PathError{Op: "sync", Path: "x", Err: syscall.EINVAL}
	for name, test := range map[string]struct {
		file, dir error
		want      string // "" for none
		saved     bool
	}{
		"both":                            {nil, nil, "", true},
		"the file cannot be":              {failure, nil, "cannot save the receipt: sync x: bad sector", false},
		"nor on a file system without it": {unsupported, nil, "cannot save the receipt: sync x: invalid argument", false},
		"the directory cannot be":         {nil, failure, "the receipt is saved, but may not outlast a crash: sync x: bad sector", true},
		"not all file systems sync them":  {nil, unsupported, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, pdf := t.TempDir(), receiptPDF(3000)
			path := filepath.Join(dir, "receipt.pdf")
			client := mustClient(t, mockBase, overTransport(answersOf(goodAnswer(pdf))))
			var synced []string
			client.SetSync(func(f *os.File) error {
				stat, err := f.Stat()
				if err != nil {
					return err
				}
				_, err = os.Stat(path)
				synced = append(synced, fmt.Sprintf("directory %v, saved %v", stat.IsDir(), err == nil))
				if stat.IsDir() {
					return test.dir
				}
				if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, pdf) {
					t.Errorf("synced with %d bytes, %v", len(got), err)
				}
				return test.file
			})
			_, err := client.SaveReceipt(t.Context(), receiptID, path)
			if got := fmt.Sprint(err); got != test.want && (err != nil || test.want != "") {
				t.Errorf("got %s, want %s", got, test.want)
			}
			want := []string{"directory false, saved false"}
			if test.saved {
				want = append(want, "directory true, saved true")
				wantOnly(t, dir, "receipt.pdf")
			} else {
				wantOnly(t, dir)
			}
			if diff := gocmp.Diff(want, synced); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
