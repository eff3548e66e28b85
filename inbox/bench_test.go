package inbox_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/config"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

const benchConnections = 64

// BenchmarkAccept measures what committing notifications together gains: a handler
// over loopback, 64 connections, each notification of another transaction. one-by-one
// is the same protocol with batches of one; bare is a handler that stores nothing.
//
//	go test -run='^$' -bench=Accept -benchtime=5s -count=3 ./inbox
func BenchmarkAccept(b *testing.B) {
	rates := make(map[string]float64)
	report := func(b *testing.B, name string, ratioTo ...string) {
		b.Helper()
		rates[name] = float64(b.N) / b.Elapsed().Seconds()
		b.ReportMetric(rates[name], "accepts/s")
		for _, other := range ratioTo {
			if rates[other] > 0 {
				b.ReportMetric(rates[name]/rates[other], "x-"+other[strings.LastIndex(other, "/")+1:])
			}
		}
	}
	b.Run("bare", func(b *testing.B) {
		handler, err := pixmed.NewHandler(pixmed.ReceiverFunc(pixmed.Ignore), pixmed.WithoutVerification(), pixmed.WithLogger(slog.New(slog.DiscardHandler)))
		if err != nil {
			b.Fatal(err)
		}
		post(b, handler)
		report(b, "bare")
	})
	for _, engine := range []string{"sqlite", "postgres"} {
		b.Run(engine, func(b *testing.B) {
			b.Run("one-by-one", func(b *testing.B) {
				post(b, benchHandler(b, engine, enginetest.Configure(func(c *config.Config) { c.MaxBatch = 1 })))
				report(b, engine+"/one-by-one", "bare")
			})
			b.Run("grouped", func(b *testing.B) {
				post(b, benchHandler(b, engine))
				report(b, engine+"/grouped", engine+"/one-by-one", "bare")
			})
		})
	}
}

func benchDatabase(b *testing.B, engine string) *enginetest.Database {
	b.Helper()
	if engine == "sqlite" {
		return enginetest.SQLite(b)
	}
	return enginetest.Postgres(b)
}

func benchHandler(b *testing.B, engine string, opts ...inbox.Option) http.Handler {
	b.Helper()
	opts = append(opts, inbox.WithLogger(slog.New(slog.DiscardHandler)))
	in := benchDatabase(b, engine).Open(b, pixmed.ReceiverFunc(pixmed.Ignore), opts...)
	handler, err := pixmed.NewHandler(in, pixmed.WithoutVerification(), pixmed.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		b.Fatal(err)
	}
	return handler
}

// post sends b.N notifications and expects 200 for each. The client is minimal, since
// it shares the processors with the server.
func post(b *testing.B, handler http.Handler) {
	b.Helper()
	server := httptest.NewServer(handler)
	defer server.Close()
	address := server.Listener.Addr().String()
	var left atomic.Int64
	left.Store(int64(b.N))
	failed := make(chan error, benchConnections)
	b.ResetTimer()
	for range benchConnections {
		go func() { failed <- postUntilNone(address, &left) }()
	}
	for range benchConnections {
		if err := <-failed; err != nil {
			b.Error(err)
		}
	}
	b.StopTimer()
}

func postUntilNone(address string, left *atomic.Int64) error {
	conn, err := new(net.Dialer).DialContext(context.Background(), "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	r := bufio.NewReader(conn)
	const sampleID = "5a94d48d-c9f3-46be-8448-83510ca42bde"
	for left.Add(-1) >= 0 {
		body := strings.Replace(pixmedtest.Sample, sampleID, uuid.NewString(), 1)
		request := "POST / HTTP/1.1\r\nHost: bench\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
		if _, err := conn.Write([]byte(request)); err != nil {
			return err
		}
		status, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(status, []byte("HTTP/1.1 200 ")) {
			return fmt.Errorf("the answer is %q", status)
		}
		for line := status; len(line) > 2; { // no answer has a body
			if line, err = r.ReadSlice('\n'); err != nil {
				return err
			}
		}
	}
	return nil
}

// BenchmarkWork measures how fast callbacks that do nothing work off a backlog on
// PostgreSQL, also while somebody holds a snapshot, as a long query or a backup does,
// so that dead rows cannot be removed. Module benchmarks compares the inbox with
// others.
func BenchmarkWork(b *testing.B) {
	for _, name := range []string{"postgres", "postgres-snapshot"} {
		b.Run(name, func(b *testing.B) {
			s := enginetest.Postgres(b)
			if name == "postgres-snapshot" {
				holdSnapshot(b, s)
			}
			var left atomic.Int64
			left.Store(int64(b.N))
			done := make(chan struct{})
			in := s.Open(b, pixmed.ReceiverFunc(func(context.Context, *pixmed.Notification) error {
				if left.Add(-1) == 0 {
					close(done)
				}
				return nil
			}), enginetest.Configure(func(c *config.Config) { c.PollInterval = time.Second }), inbox.WithLogger(slog.New(slog.DiscardHandler)))
			errs := make(chan error, b.N)
			gate := make(chan struct{}, benchConnections)
			for range b.N {
				gate <- struct{}{}
				go func() {
					errs <- in.Receive(context.Background(), enginetest.Notification(enginetest.NewTransaction(), pixmed.Acknowledged))
					<-gate
				}()
			}
			for range b.N {
				if err := <-errs; err != nil {
					b.Fatal(err)
				}
			}
			b.ResetTimer()
			if err := in.Start(b.Context()); err != nil {
				b.Fatal(err)
			}
			<-done
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "callbacks/s")
		})
	}
}

// BenchmarkMillion measures reads for pages at a million cases, or 10,000 with -short:
// filling the database takes minutes.
func BenchmarkMillion(b *testing.B) {
	cases := 1_000_000
	if testing.Short() {
		cases = 10_000
	}
	for _, engine := range []string{"sqlite", "postgres"} {
		b.Run(engine, func(b *testing.B) {
			s := benchDatabase(b, engine)
			in := s.Open(b, pixmed.ReceiverFunc(pixmed.Ignore))
			s.Fill(b, cases, 10)
			for _, text := range []string{"order-777777", "order-7", "order-", "E90400888", "E9040088800000000000000000777777", "0", "nothing"} {
				b.Run("Search-"+strings.ReplaceAll(text, "-", "_"), func(b *testing.B) {
					for b.Loop() {
						if _, err := in.Cases(b.Context(), inbox.CaseFilter{Search: text}); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
			b.Run("List", func(b *testing.B) {
				for b.Loop() {
					if _, err := in.List(b.Context(), inbox.Filter{Search: "order-"}); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("Cases", func(b *testing.B) {
				for b.Loop() {
					if _, err := in.Cases(b.Context(), inbox.CaseFilter{}); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("Stats", func(b *testing.B) {
				for b.Loop() {
					if _, err := in.Stats(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// holdSnapshot holds a snapshot until the benchmark ends.
func holdSnapshot(b *testing.B, s *enginetest.Database) {
	b.Helper()
	tx, err := s.Pool(b).BeginTx(context.WithoutCancel(b.Context()), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	if _, err := tx.Exec(b.Context(), "SELECT count(*) FROM pg_class"); err != nil {
		b.Fatal(err)
	}
}
