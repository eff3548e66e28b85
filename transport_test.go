package pixmed_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/jarcoal/httpmock"

	"github.com/pixmed-go/pixmed"
)

// A Location is checked in a redirect only.
func TestLocationElsewhere(t *testing.T) {
	t.Parallel()
	client := mustClient(t, mockBase, overTransport(answersOf(codeAnswer(404, "Location", "https://gateway.example:port"))))
	if _, err := client.Receipt(t.Context(), receiptID); !errors.Is(err, pixmed.ErrNotFound) || errors.Is(err, pixmed.ErrRedirect) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

func TestStall(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(3000)
	raw := rawAnswers(receiptJSON(pdf))["length"]
	silence := func(_ int, c net.Conn) { drain(c) }
	after := func(bytes int) func(int, net.Conn) {
		return func(_ int, c net.Conn) {
			_, _ = io.WriteString(c, raw[:bytes])
			drain(c)
		}
	}
	good := func(_ int, c net.Conn) {
		_, _ = io.WriteString(c, raw)
		drain(c)
	}
	const prefix = "receipt of transaction " + receiptID + ": "
	tests := map[string]struct {
		opts  []pixmed.ClientOption
		serve []func(int, net.Conn)
		took  time.Duration
		want  string // "" for the receipt
	}{
		"before the answer, unless set": {
			[]pixmed.ClientOption{pixmed.WithRetries(0)},
			[]func(int, net.Conn){silence},
			time.Minute,
			`Get "http://127.0.0.1/v1/transaction/` + receiptID + `/receipt": the gateway sent nothing for 1m0s`,
		},
		"before the answer, twice": {
			[]pixmed.ClientOption{pixmed.WithRetries(1), pixmed.WithStallTimeout(10 * time.Second)},
			[]func(int, net.Conn){silence, silence},
			20*time.Second + 1,
			`Get "http://127.0.0.1/v1/transaction/` + receiptID + `/receipt": the gateway sent nothing for 10s, after 2 attempts`,
		},
		"in the header": {
			[]pixmed.ClientOption{pixmed.WithRetries(0), pixmed.WithStallTimeout(10 * time.Second)},
			[]func(int, net.Conn){after(30)},
			10 * time.Second,
			`Get "http://127.0.0.1/v1/transaction/` + receiptID + `/receipt": the gateway sent nothing for 10s`,
		},
		"before the answer, then well": {
			[]pixmed.ClientOption{pixmed.WithRetries(1)},
			[]func(int, net.Conn){silence, good},
			time.Minute + 1, "",
		},
		"in the body, then well": {
			[]pixmed.ClientOption{pixmed.WithRetries(1)},
			[]func(int, net.Conn){after(1000), good},
			time.Minute + 1, "",
		},
		"further and further": {
			[]pixmed.ClientOption{pixmed.WithRetries(3), pixmed.WithStallTimeout(time.Second)},
			[]func(int, net.Conn){after(1000), after(2000), after(3000), good},
			3*time.Second + 3, "",
		},
		"in the body, no retries": {
			[]pixmed.ClientOption{pixmed.WithRetries(0), pixmed.WithStallTimeout(10 * time.Second)},
			[]func(int, net.Conn){after(1000)},
			10 * time.Second,
			"the download broke off at byte 666 of the PDF, after 1 attempt: reading the receipt envelope at byte 927: the gateway sent nothing for 10s",
		},
		"in an error's body": { // which is reported as far as it came
			[]pixmed.ClientOption{pixmed.WithRetries(0), pixmed.WithStallTimeout(10 * time.Second)},
			[]func(int, net.Conn){func(_ int, c net.Conn) {
				_, _ = io.WriteString(c, "HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\nout of paper")
				drain(c)
			}},
			10 * time.Second,
			`the gateway answered 500 Internal Server Error: "out of paper"`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var served atomic.Int32
				client := mustClient(t, wireBase, append(test.opts, overTransport(wire(t, func(n int, c net.Conn) {
					served.Add(1)
					test.serve[n](n, c)
				})))...)
				start := time.Now()
				receipt, err := client.Receipt(context.Background(), receiptID) // which has no deadline
				if took := time.Since(start); took != test.took {
					t.Errorf("took %v, want %v", took, test.took)
				}
				if int(served.Load()) != len(test.serve) {
					t.Errorf("%d requests, want %d", served.Load(), len(test.serve))
				}
				if test.want == "" {
					if err != nil || !bytes.Equal(receipt.PDF, pdf) {
						t.Errorf("got %v, want the receipt", err)
					}
					return
				}
				if diff := gocmp.Diff(prefix+test.want, fmt.Sprint(err)); diff != "" {
					t.Error(diff)
				}
				if _, answered := errors.AsType[*pixmed.APIError](err); answered == errors.Is(err, pixmed.ErrStalled) {
					t.Errorf("%v: is ErrStalled: %v", err, !answered)
				}
			})
		})
	}
}

// A slow gateway that sends a little now and then is not stalled, and neither is a
// slow reader.
func TestSlowIsNotStalled(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(200_000)
	for mode, raw := range rawAnswers(receiptJSON(pdf)) {
		t.Run("gateway, "+mode, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client := mustClient(t, wireBase, pixmed.WithRetries(0), overTransport(wire(t, func(_ int, c net.Conn) {
					for rest := raw; rest != ""; {
						time.Sleep(59 * time.Second)
						n := min(len(rest), 5000)
						_, _ = io.WriteString(c, rest[:n])
						rest = rest[n:]
					}
					if mode != "close" {
						drain(c)
					}
				})))
				receipt, err := client.Receipt(t.Context(), receiptID)
				if err != nil || !bytes.Equal(receipt.PDF, pdf) {
					t.Errorf("got %v, want the receipt", err)
				}
			})
		})
		t.Run("reader, "+mode, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client := mustClient(t, wireBase, pixmed.WithRetries(0), overTransport(wire(t, func(_ int, c net.Conn) {
					_, _ = io.WriteString(c, raw)
					if mode != "close" {
						drain(c)
					}
				})))
				receipt, err := client.OpenReceipt(t.Context(), receiptID)
				if err != nil {
					t.Fatal(err)
				}
				var got []byte
				for buf := make([]byte, 4096); ; {
					time.Sleep(time.Hour)
					n, err := receipt.Read(buf)
					got = append(got, buf[:n]...)
					if err == io.EOF {
						break
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				if !bytes.Equal(got, pdf) {
					t.Error("another PDF")
				}
			})
		})
	}
}

// A bubble panics if goroutines are left at its end, so each of these ways to end a
// call must free its connection. t.Context() is not used, since its cancellation
// would free it too.
func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	raw := rawAnswers(receiptJSON(receiptPDF(300_000)))["length"]
	ctx := context.Background()
	tests := map[string]func(*pixmed.Client, *pixmed.ReceiptReader) error{
		"closed at once": func(_ *pixmed.Client, r *pixmed.ReceiptReader) error {
			return errors.Join(r.Close(), r.Close())
		},
		"closed in the middle": func(_ *pixmed.Client, r *pixmed.ReceiptReader) error {
			_, err := io.CopyN(io.Discard, r, 100_000)
			return errors.Join(err, r.Close())
		},
		"writer failed, not closed": func(_ *pixmed.Client, r *pixmed.ReceiptReader) error {
			if _, err := r.WriteTo(&fullWriter{room: 50_000}); !errors.Is(err, errFull) {
				return fmt.Errorf("got %w, want the writer's error", err)
			}
			return nil
		},
		"read to the end, not closed": func(_ *pixmed.Client, r *pixmed.ReceiptReader) error {
			_, err := io.ReadAll(r)
			return err
		},
		"cancelled, not closed": func(c *pixmed.Client, r *pixmed.ReceiptReader) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			second, err := c.OpenReceipt(ctx, receiptID)
			if err != nil {
				return err
			}
			cancel()
			if _, err := io.ReadAll(second); !errors.Is(err, context.Canceled) {
				return errors.Join(fmt.Errorf("got %w, want a context error", err), r.Close())
			}
			return r.Close()
		},
		"in memory": func(c *pixmed.Client, r *pixmed.ReceiptReader) error {
			_, err := c.Receipt(ctx, receiptID)
			return errors.Join(err, r.Close())
		},
	}
	for name, use := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				transport := &http.Transport{
					DisableKeepAlives: true,
					DialContext: func(context.Context, string, string) (net.Conn, error) {
						client, server := net.Pipe()
						go func() {
							defer server.Close()
							if _, err := http.ReadRequest(bufio.NewReader(server)); err == nil {
								_, _ = io.WriteString(server, raw)
							}
						}()
						return client, nil
					},
				}
				client := mustClient(t, wireBase, overTransport(transport))
				receipt, err := client.OpenReceipt(ctx, receiptID)
				if err != nil {
					t.Fatal(err)
				}
				if err := use(client, receipt); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// The Timeout of the user's http.Client limits each request, not the call.
func TestUsersTimeout(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(3000)
	raw := rawAnswers(receiptJSON(pdf))["length"]
	for name, sent := range map[string]int{"before the answer": 0, "in the body": 1000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client := mustClient(t, wireBase, pixmed.WithHTTPClient(&http.Client{
					Timeout: time.Second,
					Transport: wire(t, func(n int, c net.Conn) {
						if n == 0 {
							_, _ = io.WriteString(c, raw[:sent])
						} else {
							_, _ = io.WriteString(c, raw)
						}
						drain(c)
					}),
				}))
				start := time.Now()
				receipt, err := client.Receipt(t.Context(), receiptID)
				if err != nil || !bytes.Equal(receipt.PDF, pdf) {
					t.Errorf("got %v, want the receipt", err)
				}
				if took := time.Since(start); took != time.Second+1 {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

// Fakes in users' tests often have no body.
func TestAnswerWithoutABody(t *testing.T) {
	t.Parallel()
	for code, is := range map[int]error{200: pixmed.ErrReceiptTruncated, 404: pixmed.ErrNotFound, 503: pixmed.ErrUnavailable} {
		client := mustClient(t, mockBase, overTransport(roundTripFunc(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: code}, nil
		})))
		if _, err := client.Receipt(t.Context(), receiptID); !errors.Is(err, is) {
			t.Errorf("%d: got %v, want %v", code, err, is)
		}
	}
}

// Over real connections: an error, a broken download, and reuse.
func TestOverTheNetwork(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(300_000)
	for name, http2 := range map[string]bool{"HTTP/1.1 over TLS": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests, connections atomic.Int32
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if http2 != (r.ProtoMajor == 2) {
					t.Errorf("%s", r.Proto)
				}
				switch requests.Add(1) {
				case 1:
					http.Error(w, `{"message":"try again"}`, http.StatusBadGateway)
				case 2:
					_, _ = io.WriteString(w, receiptJSON(pdf)[:150_000])
					_ = http.NewResponseController(w).Flush()
					panic(http.ErrAbortHandler)
				default:
					_, _ = io.WriteString(w, receiptJSON(pdf))
				}
			}))
			srv.EnableHTTP2 = http2
			srv.Config.ConnState = countNew(&connections)
			srv.StartTLS()
			t.Cleanup(srv.Close)
			client := mustClient(t, srv.URL, pixmed.WithHTTPClient(srv.Client()))
			for range 3 {
				receipt, err := client.Receipt(t.Context(), receiptID)
				if err != nil || !bytes.Equal(receipt.PDF, pdf) {
					t.Fatalf("got %v, want the receipt", err)
				}
			}
			want := int32(2) // a broken HTTP/1.1 connection is not used again
			if http2 {
				want = 1
			}
			if requests.Load() != 5 || connections.Load() != want {
				t.Errorf("%d requests on %d connections, want 5 on %d", requests.Load(), connections.Load(), want)
			}
		})
	}
}

func TestConnectionReset(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(300_000)
	for name, sent := range map[string]int{"before the answer": 0, "in the body": 200_000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if requests.Add(1) > 1 {
					_, _ = io.WriteString(w, receiptJSON(pdf))
					return
				}
				c, rw, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = rw.WriteString(rawAnswers(receiptJSON(pdf))["length"][:sent])
				_ = rw.Flush()
				if tcp, isTCP := c.(*net.TCPConn); isTCP {
					_ = tcp.SetLinger(0) // RST
				}
				_ = c.Close()
			}))
			t.Cleanup(srv.Close)
			receipt, err := mustClient(t, srv.URL, overTransport(freshTransport(t))).Receipt(t.Context(), receiptID)
			if err != nil || !bytes.Equal(receipt.PDF, pdf) || requests.Load() != 2 {
				t.Errorf("got %v after %d requests, want the receipt after 2", err, requests.Load())
			}
		})
	}
}

func TestConnectionRefused(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	var dials atomic.Int32
	transport := freshTransport(t)
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	_, err = mustClient(t, "http://"+address, overTransport(transport), pixmed.WithRetries(2)).Receipt(t.Context(), receiptID)
	if dials.Load() != 3 || err == nil || !strings.HasSuffix(err.Error(), ", after 3 attempts") {
		t.Errorf("got %v after %d attempts, want 3", err, dials.Load())
	}
}

// A connection is reused if its response was read to the end, even without a call
// of Close, and after an error response.
func TestConnectionsAreReused(t *testing.T) {
	t.Parallel()
	tests := map[string]func(w http.ResponseWriter){
		"length":    func(w http.ResponseWriter) { _, _ = io.WriteString(w, receiptJSON(receiptPDF(100))) },
		"chunked":   func(w http.ResponseWriter) { _, _ = io.WriteString(w, receiptJSON(receiptPDF(50_000))) },
		"not found": func(w http.ResponseWriter) { http.Error(w, strings.Repeat("not found ", 1000), http.StatusNotFound) },
		"down":      func(w http.ResponseWriter) { http.Error(w, strings.Repeat("down ", 2000), http.StatusBadGateway) },
	}
	for name, answer := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var connections atomic.Int32
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) }))
			srv.Config.ConnState = countNew(&connections)
			srv.Start()
			t.Cleanup(srv.Close)
			client := mustClient(t, srv.URL, overTransport(freshTransport(t)))
			for range 4 {
				receipt, err := client.OpenReceipt(t.Context(), receiptID)
				if err != nil {
					_ = wantAPIError(t, err)
					continue
				}
				if _, err := io.ReadAll(receipt); err != nil {
					t.Error(err)
				}
			}
			if n := connections.Load(); n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
		})
	}
}

// A mock without a responder looks like a connection error.
func TestMockWithoutResponder(t *testing.T) {
	t.Parallel()
	mock := httpmock.NewMockTransport()
	_, err := mustClient(t, mockBase, overTransport(mock), pixmed.WithRetries(1)).Receipt(t.Context(), receiptID)
	if err == nil || !strings.Contains(err.Error(), "no responder found") || !strings.HasSuffix(err.Error(), ", after 2 attempts") {
		t.Errorf("got %v", err)
	}
}

// A request without a response body releases its context: the caller's may last as
// long as the program.
func TestFailuresFreeTheirContext(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]httpmock.Responder{
		"refused": refusedAnswer(),
		"no body": func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusNotFound}, nil
		},
	} {
		var ctx context.Context
		client := mustClient(t, mockBase, pixmed.WithRetries(0), overTransport(roundTripFunc(func(r *http.Request) (*http.Response, error) {
			ctx = r.Context() //nolint:fatcontext // to look at it later
			return answer(r)
		})))
		if _, err := client.Receipt(context.Background(), receiptID); err == nil {
			t.Errorf("%s: no error", name)
		}
		if ctx.Err() == nil {
			t.Errorf("%s: the request's context is still alive", name)
		}
	}
}
