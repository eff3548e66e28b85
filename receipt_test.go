package pixmed_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/jarcoal/httpmock"

	"github.com/pixmed-go/pixmed"
)

var _ io.WriterTo = (*pixmed.ReceiptReader)(nil) // io.Copy uses it

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
						continue // they are slow
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
		text   string // how the error begins, after the transaction
	}{
		"empty":            {"", nil, pixmed.ErrReceiptTruncated, "the download broke off at byte 0 of the PDF, after 1 attempt: truncated receipt envelope at byte 0: empty body"},
		"HTML":             {"<html><title>Sign in</title>", nil, pixmed.ErrReceiptMalformed, "not a receipt envelope at byte 0: an HTML page, not JSON: is there a proxy in between?"},
		"null":             {"null", nil, pixmed.ErrReceiptMalformed, "not a receipt envelope at byte 0: "},
		"array":            {"[]", nil, pixmed.ErrReceiptMalformed, "not a receipt envelope at byte 0: "},
		"empty object":     {"{}", nil, pixmed.ErrReceiptFailed, "the gateway does not report success at byte 1: no status"},
		"FAILED":           {`{"status":"FAILED","message":"Comprovante indisponível"}`, nil, pixmed.ErrReceiptFailed, `the gateway does not report success at byte 10: status "FAILED", message "Comprovante indisponível"`},
		"an error":         {`{"error":{"message":"not generated yet"}}`, nil, pixmed.ErrReceiptFailed, `the gateway does not report success at byte `},
		"null data":        {`{"status":"SUCCESS","data":null}`, nil, pixmed.ErrReceiptMissing, "no receipt in the envelope at byte 27: data is null"},
		"no data":          {`{"status":"SUCCESS"}`, nil, pixmed.ErrReceiptMissing, "no receipt in the envelope at byte 19: no data"},
		"null receipt":     {`{"status":"SUCCESS","data":{"receipt":null}}`, nil, pixmed.ErrReceiptMissing, "no receipt in the envelope at byte 38: receipt is null"},
		"empty receipt":    {`{"status":"SUCCESS","data":{"receipt":""}}`, nil, pixmed.ErrReceiptEmpty, "empty receipt at byte 39"},
		"not a PDF":        {`{"status":"SUCCESS","data":{"receipt":"PGh0bWw+PGh0bWw+"}}`, nil, pixmed.ErrReceiptNotPDF, "not a PDF at byte 39: no %PDF- in the first 1024 bytes; it starts with \"<html><html>\""},
		"corrupt base64":   {`{"status":"SUCCESS","data":{"receipt":"` + ofPDF + `?AAA"}}`, nil, pixmed.ErrReceiptBase64, "corrupt base64 at byte 51: "},
		"trailing garbage": {pdf(100) + "{}", nil, pixmed.ErrReceiptTrailing, "data after the receipt envelope at byte "},
		"FAILED after":     {`{"data":{"receipt":"` + ofPDF + `"},"status":"FAILED"}`, nil, pixmed.ErrReceiptFailed, `the gateway does not report success at byte 44: status "FAILED"`},
		"over the limit":   {pdf(10_001), nil, pixmed.ErrReceiptTooLarge, "receipt too large at byte "},
		"endless envelope": {`{"x":"` + strings.Repeat("x", 100_000), nil, pixmed.ErrReceiptTooLarge, "receipt too large at byte 85536: the envelope has more than 85536 bytes"},
		"an encoding that is not undone": {
			pdf(100),
			http.Header{"Content-Encoding": {"br"}},
			pixmed.ErrReceiptMalformed,
			`not a receipt envelope: it has the Content-Encoding "br", which the transport does not undo`,
		},
		"an endless encoding": {
			pdf(100),
			http.Header{"Content-Encoding": {"br, " + strings.Repeat("x", 1000)}},
			pixmed.ErrReceiptMalformed,
			`not a receipt envelope: it has the Content-Encoding "br, ` + strings.Repeat("x", 60) + `…"`,
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
				return // it is about HTTP alone
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

// A Content-Encoding that names no compression means nothing.
func TestEncodingsThatCompressNothing(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(100)
	for _, encoding := range []string{"Identity", "utf-8", "UTF-8", "none", "base64", "binary"} {
		client := mustClient(t, mockBase, overTransport(answersOf(goodAnswer(pdf).HeaderSet(http.Header{"Content-Encoding": {encoding}}))))
		if receipt, err := client.Receipt(t.Context(), receiptID); err != nil || !bytes.Equal(receipt.PDF, pdf) {
			t.Errorf("%s: got %v, want the receipt", encoding, err)
		}
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

// A PDF without an envelope is whole if its Content-Length or its %%EOF says so.
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
	for range 2 { // with and without bytes that OpenReceipt has read
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
	want := "receipt of transaction " + receiptID + ": the reader is closed"
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

// io.EOF frees the connection and the context, without Close.
func TestEOFFreesEverything(t *testing.T) {
	t.Parallel()
	var ctx context.Context
	var closed atomic.Int32
	client := mustClient(t, mockBase, overTransport(roundTripFunc(func(r *http.Request) (*http.Response, error) {
		ctx = r.Context() //nolint:fatcontext // to look at it later
		return &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Body: &countedCloser{strings.NewReader(receiptJSON(receiptPDF(3000))), &closed}}, nil
	})))
	receipt, err := client.OpenReceipt(context.Background(), receiptID) // the test's ends by itself
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

// No download is resumed because of a writer's error.
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
				if text = "receipt of transaction " + receiptID + ": writing the PDF: " + text; fmt.Sprint(err) != text {
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
	if _, err := r.Read(make([]byte, 1)); fmt.Sprint(err) != "receipt: the reader is closed" {
		t.Errorf("got %v", err)
	}
}

// The receipt is what the gateway sends, whatever length it claims.
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
			for range 2 { // buffers that are reused hold another receipt
				if receipt, err := client.Receipt(t.Context(), receiptID); err != nil || !bytes.Equal(receipt.PDF, pdf) {
					t.Errorf("%d bytes, with %d claimed: %v", size, claim, err)
				}
			}
		}
	}
}

// The default limit is 32 MiB. No more than that is allocated because a gateway
// claims it, whatever the limit.
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

// Printing a receipt does not print the PDF.
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

// The type may be another, absent, or before the PDF.
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

// After Close, not even what OpenReceipt has read is delivered.
func TestReaderClosedAtOnce(t *testing.T) {
	t.Parallel()
	receipt, err := mustClient(t, mockBase, overTransport(answersOf(goodAnswer(receiptPDF(3000))))).OpenReceipt(t.Context(), receiptID)
	if err != nil {
		t.Fatal(err)
	}
	if err := receipt.Close(); err != nil {
		t.Error(err)
	}
	want := "receipt of transaction " + receiptID + ": the reader is closed"
	if n, err := receipt.Read(make([]byte, 10)); n != 0 || fmt.Sprint(err) != want {
		t.Errorf("read %d, %v", n, err)
	}
	if n, err := receipt.WriteTo(io.Discard); n != 0 || fmt.Sprint(err) != want {
		t.Errorf("wrote %d, %v", n, err)
	}
}

// The MIME type is made printable and shows no credential.
func TestMIMETypeOfAStranger(t *testing.T) {
	t.Parallel()
	for mime, want := range map[string]string{
		`application/pdf\u001b[2J\u2026\n`: `application/pdf\x1b[2J…\n`,
		`application/pdf; key=` + canary:   "[redacted]",
		`\u0063anary-6f1d2c`:               "[redacted]",
		strings.Repeat("x", 255):           strings.Repeat("x", 255),
	} {
		body := `{"status":"SUCCESS","data":{"receipt":"JVBERi0xLjcK","mimeType":"` + mime + `"}}`
		receipt, err := mustClient(t, mockBase, pixmed.WithHeader("api_key", canary), overTransport(answersOf(jsonAnswer(body)))).Receipt(t.Context(), receiptID)
		if err != nil {
			t.Fatal(err)
		}
		var logged bytes.Buffer
		log.New(&logged, "", 0).Printf("%v", receipt.ReceiptInfo)
		slog.New(slog.NewTextHandler(&logged, nil)).Info("got it", slog.Any("receipt", receipt))
		if receipt.MIMEType != want || !strings.Contains(receipt.String(), want) || strings.ContainsAny(receipt.String()+receipt.LogValue().String()+logged.String(), "\x1b") {
			t.Errorf("got %q and %q, want %q", receipt.MIMEType, logged.String(), want)
		}
		if reader, err := pixmed.DecodeReceipt(strings.NewReader(body)); err != nil {
			t.Error(err)
		} else if _, err := io.ReadAll(reader); err != nil || strings.Contains(reader.Info().MIMEType, "\x1b") {
			t.Errorf("got %q, %v", reader.Info().MIMEType, err)
		}
	}
	info := pixmed.ReceiptInfo{MIMEType: "a\x1b/b\n", SHA256: "c0ffee"} // made by hand
	if text := info.String() + info.LogValue().String(); strings.ContainsAny(text, "\x1b\n") {
		t.Errorf("got %q", text)
	}
}

// A 200 that reports an error fails with the gateway's words.
func TestErrorInA200(t *testing.T) {
	t.Parallel()
	client := mustClient(t, mockBase, overTransport(answersOf(jsonAnswer(`{"error":{"message":"not generated yet"}}`))))
	if _, err := client.Receipt(t.Context(), receiptID); !errors.Is(err, pixmed.ErrReceiptFailed) || !strings.Contains(err.Error(), "not generated yet") {
		t.Errorf("got %v, want ErrReceiptFailed with the gateway's words", err)
	}
}

// Bytes before %PDF- are part of the PDF, also when a download is resumed.
func TestTextBeforeThePDF(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]string{"line break": "\n", "byte order mark": "\ufeff", "a line": "%!PS-Adobe-3.0\n", "as much as may be": strings.Repeat("x", 1019)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pdf := append([]byte(before), receiptPDF(50_000)...)
			for _, first := range []httpmock.Responder{goodAnswer(pdf), broken(pdf, 300), broken(pdf, 20_003)} {
				for _, get := range entryPoints {
					got, info, err := get(t, mustClient(t, mockBase, overTransport(answersOf(first, goodAnswer(pdf)))))
					wantWhole(t, pdf, got, info, err)
				}
			}
		})
	}
}

// OpenReceipt returns as soon as it has found %PDF-.
func TestOpenReceiptReturnsWithTheHeader(t *testing.T) {
	t.Parallel()
	text := receiptJSON(append([]byte("\ufeff\n"), receiptPDF(50_000)...))[:200]
	client := mustClient(t, mockBase, overTransport(answersOf(func(r *http.Request) (*http.Response, error) { return unfinished(r, text) })))
	receipt, err := client.OpenReceipt(t.Context(), receiptID)
	if err != nil {
		t.Fatal(err)
	}
	if err := receipt.Close(); err != nil {
		t.Error(err)
	}
}
