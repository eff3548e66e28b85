package receipt_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-resty/resty/v2"
	asmbase64 "github.com/segmentio/asm/base64"

	"github.com/pixmed-go/pixmed"
)

// receipt is what a gateway answers.
type receipt struct {
	envelope []byte // the JSON
	text     []byte // the base64 in it
	pdf      []byte
}

const (
	before = `{"status":"SUCCESS","data":{"receipt":"`
	behind = `","mimeType":"application/pdf"}}`
)

// newReceipt returns a receipt with an incompressible PDF of the given size.
func newReceipt(size int) *receipt {
	pdf := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{}).Read(pdf) // never fails
	copy(pdf, "%PDF-1.7\n")
	text := base64.StdEncoding.AppendEncode(nil, pdf)
	return &receipt{
		envelope: append(append([]byte(before), text...), behind...),
		text:     text,
		pdf:      pdf,
	}
}

// A way decodes a PDF from its envelope. It calls peak while it holds the most, and
// returns the size of the PDF, and the PDF unless it is a stream.
type way struct {
	name string
	to   func(*receipt) run // prepares what a program prepares once
}

type run func(peak func()) (size int64, pdf []byte, err error)

// simple is for ways that need no preparation.
func simple(f func(r *receipt, peak func()) (int64, []byte, error)) func(*receipt) run {
	return func(r *receipt) run {
		return func(peak func()) (int64, []byte, error) { return f(r, peak) }
	}
}

func ways() []way {
	return []way{
		{"pixmed", simple(stream)},
		{"pixmed-bytes", toBytes(true)},
		{"pixmed-bytes-unknown-length", toBytes(false)},
		{"encoding-json-string", simple(jsonString)},
		{"encoding-json-bytes", unmarshal(json.Unmarshal)},
		{"json-v2-bytes", unmarshal(func(data []byte, v any) error { return jsonv2.Unmarshal(data, v) })},
		{"json-v2-bytes-stream", simple(jsonV2Stream)},
		{"resty", withResty},
		{"limit-base64", base64Only(base64.StdEncoding.Decode, false)},
		{"limit-base64-sha256", base64Only(base64.StdEncoding.Decode, true)},
		{"limit-vectorised", base64Only(asmbase64.StdEncoding.Decode, false)},
		{"limit-vectorised-sha256", base64Only(asmbase64.StdEncoding.Decode, true)},
		{"limit-copy", copyOnly},
	}
}

// stream is the SDK's decoder, to a writer that keeps nothing.
func stream(r *receipt, peak func()) (int64, []byte, error) {
	receipt, err := pixmed.DecodeReceipt(bytes.NewReader(r.envelope), pixmed.WithMaxReceiptSize(int64(len(r.pdf))))
	if err != nil {
		return 0, nil, err
	}
	n, err := io.Copy(&discard{at: int64(len(r.pdf)) / 2, call: peak}, receipt)
	return n, nil, err
}

// discard is a writer that calls a function once, in the middle.
type discard struct {
	at, n int64
	call  func()
}

func (d *discard) Write(p []byte) (int, error) {
	if d.n <= d.at && d.at < d.n+int64(len(p)) {
		d.call()
	}
	d.n += int64(len(p))
	return len(p), nil
}

// toBytes is the SDK's client, with a transport that answers from memory.
func toBytes(known bool) func(*receipt) run {
	return func(r *receipt) run {
		client, err := pixmed.NewClient("https://gateway.example", pixmed.WithBearerToken("token-of-eight-bytes"),
			pixmed.WithHTTPClient(&http.Client{Transport: memory{r, known}}), pixmed.WithMaxReceiptSize(int64(len(r.pdf))))
		return func(peak func()) (int64, []byte, error) {
			if err != nil {
				return 0, nil, err
			}
			receipt, err := client.Receipt(context.Background(), transactionID)
			if err != nil {
				return 0, nil, err
			}
			peak()
			return receipt.Size, receipt.PDF, nil
		}
	}
}

const transactionID = "5a94d48d-c9f3-46be-8448-83510ca42bde"

// memory is a transport that answers every request with the receipt.
type memory struct {
	*receipt
	known bool // the length
}

func (m memory) RoundTrip(r *http.Request) (*http.Response, error) {
	length := int64(-1)
	if m.known {
		length = int64(len(m.envelope))
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"application/json"}},
		Body:          io.NopCloser(bytes.NewReader(m.envelope)),
		ContentLength: length,
		Request:       r,
	}, nil
}

// jsonString is what a first attempt looks like.
func jsonString(r *receipt, peak func()) (int64, []byte, error) {
	body, err := io.ReadAll(bytes.NewReader(r.envelope))
	if err != nil {
		return 0, nil, err
	}
	var answer struct {
		Status string `json:"status"`
		Data   struct {
			Receipt  string `json:"receipt"`
			MimeType string `json:"mimeType"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return 0, nil, err
	}
	peak()
	runtime.KeepAlive(body)
	pdf, err := base64.StdEncoding.DecodeString(answer.Data.Receipt)
	if err != nil {
		return 0, nil, err
	}
	peak()
	runtime.KeepAlive(answer)
	return checked(answer.Status, pdf)
}

// answerBytes is an envelope whose base64 is left to the JSON package.
type answerBytes struct {
	Status string `json:"status"`
	Data   struct {
		Receipt  []byte `json:"receipt"`
		MimeType string `json:"mimeType"`
	} `json:"data"`
}

func unmarshal(unmarshal func([]byte, any) error) func(*receipt) run {
	return simple(func(r *receipt, peak func()) (int64, []byte, error) {
		body, err := io.ReadAll(bytes.NewReader(r.envelope))
		if err != nil {
			return 0, nil, err
		}
		var answer answerBytes
		if err := unmarshal(body, &answer); err != nil {
			return 0, nil, err
		}
		peak()
		runtime.KeepAlive(body)
		return checked(answer.Status, answer.Data.Receipt)
	})
}

func jsonV2Stream(r *receipt, peak func()) (int64, []byte, error) {
	var answer answerBytes
	if err := jsonv2.UnmarshalRead(bytes.NewReader(r.envelope), &answer); err != nil {
		return 0, nil, err
	}
	peak()
	return checked(answer.Status, answer.Data.Receipt)
}

// withResty uses a general client.
func withResty(r *receipt) run {
	client := resty.New().SetTransport(memory{r, true})
	return func(peak func()) (int64, []byte, error) {
		var answer answerBytes
		response, err := client.R().SetResult(&answer).Get("https://gateway.example/receipt")
		if err != nil {
			return 0, nil, err
		}
		peak()
		runtime.KeepAlive(response)
		return checked(answer.Status, answer.Data.Receipt)
	}
}

// base64Only decodes the text into a buffer that exists already, and computes the
// SHA-256 if asked to.
func base64Only(decode func(dst, src []byte) (int, error), hash bool) func(*receipt) run {
	return func(r *receipt) run {
		pdf := make([]byte, base64.StdEncoding.DecodedLen(len(r.text)))
		return func(peak func()) (size int64, _ []byte, err error) {
			digest := sha256.New()
			// Piece by piece, as a stream is: what was decoded is still in the cache.
			const piece = 32 << 10
			for text := range slices.Chunk(r.text, piece) {
				n, err := decode(pdf[size:], text)
				if err != nil {
					return 0, nil, err
				}
				if hash {
					digest.Write(pdf[size : size+int64(n)])
				}
				size += int64(n)
			}
			digest.Sum(nil)
			peak()
			return size, pdf[:size], nil
		}
	}
}

func copyOnly(r *receipt) run {
	pdf := make([]byte, len(r.pdf))
	return func(peak func()) (int64, []byte, error) {
		n := copy(pdf, r.pdf)
		peak()
		return int64(n), pdf, nil
	}
}

func checked(status string, pdf []byte) (int64, []byte, error) {
	if status != "SUCCESS" {
		return 0, nil, fmt.Errorf("the status is %q", status)
	}
	return int64(len(pdf)), pdf, nil
}

// All ways must give the same PDF.
func TestWays(t *testing.T) {
	t.Parallel()
	r := newReceipt(100_000)
	for _, w := range ways() {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			peaks := 0
			size, pdf, err := w.to(r)(func() { peaks++ })
			if err != nil || size != int64(len(r.pdf)) || pdf != nil && !bytes.Equal(pdf, r.pdf) {
				t.Errorf("%d bytes of %d, %v", size, len(r.pdf), err)
			}
			if peaks == 0 {
				t.Error("its memory is not measured")
			}
		})
	}
}
