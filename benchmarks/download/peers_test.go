package download_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-resty/resty/v2"
	asmbase64 "github.com/segmentio/asm/base64"

	"github.com/pixmed-go/pixmed"
)

const (
	transactionID = "b6e0ee4e-b3a3-4042-ac4d-fba92ebd96a5"
	receiptPath   = "/transaction/" + transactionID + "/receipt"

	// limitRead is the implementation that does not decode the envelope.
	limitRead = "limit-read"

	// readSize is how much limitRead reads at once, as pixmed does.
	readSize = 32 << 10
)

// credentials are in every request.
var credentials = map[string]string{"api_key": "key", "api_secret": "secret"}

// A peer is an implementation.
type peer struct {
	name string
	new  func(endpoint) (download, error)
}

// A download fetches the receipt once, writes it to w in one or more pieces and
// returns its size. It is safe for concurrent use.
type download func(ctx context.Context, w io.Writer) (int64, error)

var peers = []peer{
	{"pixmed", newPixmed},
	{"pixmed-bytes", newPixmedBytes},
	{"encoding-json-string", inMemory(encodingJSONString)},
	{"encoding-json-bytes", inMemory(encodingJSONBytes)},
	{"json-v2-bytes", inMemory(jsonV2Bytes)},
	{"resty", newResty},
	{"limit-scalar", newStream(base64.StdEncoding.Decode)},
	{"limit-vectorised", newStream(asmbase64.StdEncoding.Decode)},
	{limitRead, newLimitRead},
}

// An endpoint is a gateway as a client sees it.
type endpoint struct {
	base string
	http *http.Client
}

// An envelope is what users declare for the response: encoding/json decodes the
// base64 for those who have a []byte in it.
type envelope[Receipt string | []byte] struct {
	Status string `json:"status"`
	Data   struct {
		Receipt  Receipt `json:"receipt"`
		MIMEType string  `json:"mimeType"`
	} `json:"data"`
}

func (e endpoint) newClient() (*pixmed.Client, error) {
	opts := []pixmed.ClientOption{pixmed.WithHTTPClient(e.http)}
	for name, value := range credentials {
		opts = append(opts, pixmed.WithHeader(name, value))
	}
	return pixmed.NewClient(e.base, opts...)
}

func newPixmed(e endpoint) (download, error) {
	client, err := e.newClient()
	return func(ctx context.Context, w io.Writer) (int64, error) {
		r, err := client.OpenReceipt(ctx, transactionID)
		if err != nil {
			return 0, err
		}
		defer r.Close()
		return io.Copy(w, r)
	}, err
}

func newPixmedBytes(e endpoint) (download, error) {
	client, err := e.newClient()
	return func(ctx context.Context, w io.Writer) (int64, error) {
		receipt, err := client.Receipt(ctx, transactionID)
		if err != nil {
			return 0, err
		}
		return writeTo(w, receipt.PDF)
	}, err
}

func newResty(e endpoint) (download, error) {
	client := resty.NewWithClient(e.http).SetBaseURL(e.base).SetHeaders(credentials)
	return func(ctx context.Context, w io.Writer) (int64, error) {
		var result envelope[[]byte]
		resp, err := client.R().SetContext(ctx).SetResult(&result).Get(receiptPath)
		if err != nil {
			return 0, err
		}
		if resp.StatusCode() != http.StatusOK {
			return 0, errStatus(resp.StatusCode())
		}
		return writeTo(w, result.Data.Receipt)
	}, nil
}

// newStream decodes a response as fast as the given base64 decoder allows. It computes
// the SHA-256 as pixmed does, and knows where the text begins.
func newStream(decode func(dst, src []byte) (int, error)) func(endpoint) (download, error) {
	return func(e endpoint) (download, error) {
		return func(ctx context.Context, w io.Writer) (int64, error) {
			body, err := e.get(ctx)
			if err != nil {
				return 0, err
			}
			defer body.Close()
			return stream(w, bufio.NewReaderSize(body, readSize), decode)
		}, nil
	}
}

func stream(w io.Writer, in *bufio.Reader, decode func(dst, src []byte) (int, error)) (size int64, err error) {
	for found := false; !found; {
		before, err := in.ReadSlice(':')
		if err != nil {
			return 0, err
		}
		found = bytes.HasSuffix(before, []byte(`"receipt":`))
	}
	if _, err := in.Discard(len(`"`)); err != nil {
		return 0, err
	}
	digest, pdf := sha256.New(), make([]byte, readSize)
	for last := false; !last; {
		if _, err := in.Peek(4); err != nil {
			return size, err
		}
		text, _ := in.Peek(in.Buffered()) // no error, since it is there
		if end := bytes.IndexByte(text, '"'); end >= 0 {
			text, last = text[:end], true
		}
		text = text[:len(text)&^3]
		n, err := decode(pdf, text)
		if err != nil {
			return size, err
		}
		digest.Write(pdf[:n])
		if _, err := w.Write(pdf[:n]); err != nil {
			return size, err
		}
		size += int64(n)
		if _, err := in.Discard(len(text)); err != nil {
			return size, err
		}
	}
	digest.Sum(nil)
	_, err = io.Copy(io.Discard, in)
	return size, err
}

// newLimitRead only reads the response.
func newLimitRead(e endpoint) (download, error) {
	return func(ctx context.Context, w io.Writer) (n int64, err error) {
		body, err := e.get(ctx)
		if err != nil {
			return 0, err
		}
		defer body.Close()
		// io.Copy would let io.Discard use a smaller buffer.
		return io.CopyBuffer(struct{ io.Writer }{w}, body, make([]byte, readSize))
	}, nil
}

// inMemory returns an implementation that decodes a response with the function.
func inMemory(decode func(io.Reader) ([]byte, error)) func(endpoint) (download, error) {
	return func(e endpoint) (download, error) {
		return func(ctx context.Context, w io.Writer) (int64, error) {
			body, err := e.get(ctx)
			if err != nil {
				return 0, err
			}
			defer body.Close()
			pdf, err := decode(body)
			if err != nil {
				return 0, err
			}
			return writeTo(w, pdf)
		}, nil
	}
}

// encodingJSONString does what most users write.
func encodingJSONString(body io.Reader) ([]byte, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	var e envelope[string]
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(e.Data.Receipt)
}

func encodingJSONBytes(body io.Reader) ([]byte, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	var e envelope[[]byte]
	err = json.Unmarshal(data, &e)
	return e.Data.Receipt, err
}

func jsonV2Bytes(body io.Reader) ([]byte, error) {
	var e envelope[[]byte]
	err := jsonv2.UnmarshalRead(body, &e)
	return e.Data.Receipt, err
}

// get requests the receipt with net/http alone. The caller closes the body.
func (e endpoint) get(ctx context.Context) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, e.base+receiptPath, http.NoBody)
	if err != nil {
		return nil, err
	}
	for name, value := range credentials {
		r.Header.Set(name, value)
	}
	resp, err := e.http.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, errStatus(resp.StatusCode)
	}
	return resp.Body, nil
}

func errStatus(code int) error { return fmt.Errorf("status %d", code) }

func writeTo(w io.Writer, pdf []byte) (int64, error) {
	n, err := w.Write(pdf)
	return int64(n), err
}
