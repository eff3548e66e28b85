package inbox_test

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
)

// defaultWorkers is how many callbacks run at a time unless a benchmark compares
// several numbers: the inbox's default, for all.
const defaultWorkers = 10

// poolConns is how many connections each member has to PostgreSQL, at least: its
// peers, which commit each request by itself, need many for the server to sync
// several of their commits together.
const poolConns = 32

// silent keeps the log out of the figures.
var silent = slog.New(slog.DiscardHandler)

// place is where a member may store, a new folder or an empty database, and how
// many callbacks run at a time there.
type place struct {
	folder   string
	database string // "" if the engine needs none
	workers  int
}

// implementation is a member of the groups of an engine.
type implementation struct {
	name    string
	dedupes bool // a redelivery is recognised, and not stored again
	stores  bool // what is answered 200 is on disk
	works   bool // it has workers
	// start starts the member. If work is not nil, workers call it for what was
	// accepted. The member is also returned with an error if there is something to
	// close.
	start func(ctx context.Context, at place, work pixmed.Receiver) (*peer, error)
}

// engine is a database, and the members that store in it.
type engine struct {
	name            string
	implementations []implementation
}

// engines returns all members, in the order in which they are measured.
func engines() []engine {
	bare := implementation{name: "limit-bare", start: startBare}
	return []engine{
		{"sqlite", []implementation{
			{name: "pixmed", dedupes: true, stores: true, works: true, start: startSQLiteInbox},
			{name: "river-tx", dedupes: true, stores: true, works: true, start: startSQLiteRiverTx},
			{name: "river", stores: true, works: true, start: startSQLiteRiver},
			{name: "raw-insert", stores: true, start: startSQLiteInsert},
			{name: "goqite", stores: true, start: startSQLiteGoqite},
			{name: "nats-jetstream", dedupes: true, stores: true, start: startJetStream},
			bare,
		}},
		{"postgres", []implementation{
			{name: "pixmed", dedupes: true, stores: true, works: true, start: startPostgresInbox},
			{name: "river-tx", dedupes: true, stores: true, works: true, start: startPostgresRiverTx},
			{name: "river", stores: true, works: true, start: startPostgresRiver},
			{name: "raw-insert", stores: true, start: startPostgresInsert},
			{name: "goqite", stores: true, start: startPostgresGoqite},
			bare,
		}},
	}
}

// working returns the members of an engine that have workers.
func (e engine) working() (all []implementation) {
	for _, i := range e.implementations {
		if i.works {
			all = append(all, i)
		}
	}
	return all
}

// peer is a running member.
type peer struct {
	place   place
	handler http.Handler
	// stored counts the stored notifications, whether their callbacks have run or not.
	stored func(ctx context.Context) (int, error)
	// synced returns an error if commits are not synced to disk before they
	// return. For the inbox on SQLite, its own tests check that.
	synced func(ctx context.Context) error

	server  *httptest.Server
	closers []func() error // called in reverse
}

func (p *peer) onClose(f func() error) { p.closers = append(p.closers, f) }

// stop ends the server and then the member with its workers, which finish what they
// have begun.
func (p *peer) stop() error {
	if p == nil {
		return nil
	}
	if p.server != nil {
		p.server.Close()
	}
	var errs []error
	for _, f := range slices.Backward(p.closers) {
		errs = append(errs, f())
	}
	p.closers = nil
	return errors.Join(errs...)
}

// address returns where the member serves.
func (p *peer) address() string { return p.server.Listener.Addr().String() }

// launch starts a member, and an HTTP server in front of it. It stores in the
// folder, or in a new database on the server whose URL is given. Without a number
// of workers it has the default's.
func launch(ctx context.Context, i implementation, folder, database string, workers int, work pixmed.Receiver) (*peer, error) {
	at := place{folder: folder, workers: cmp.Or(workers, defaultWorkers)}
	drop := func() error { return nil }
	if database != "" {
		var err error
		if at.database, drop, err = newDatabase(ctx, database); err != nil {
			return nil, err
		}
	}
	p, err := i.start(ctx, at, work)
	if p == nil {
		p = &peer{}
	}
	p.place = at
	p.closers = slices.Insert(p.closers, 0, drop)
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	p.server = httptest.NewServer(p.handler)
	return p, nil
}

// databaseServer returns the URL of the server of an engine, "" if it needs none.
func databaseServer(tb testing.TB, engine string) string {
	tb.Helper()
	if engine != "postgres" {
		return ""
	}
	return serverURL(tb)
}

// storing returns the handler of a peer: it reads and checks the body as the SDK's
// does, and answers 200 when store has stored it.
func storing(store func(ctx context.Context, i *pixmed.Infraction, body []byte) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, pixmed.DefaultBodyLimit))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		i, err := pixmed.ParseInfraction(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if err := store(r.Context(), i, body); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
}

// startBare starts the handler with nothing behind it.
func startBare(context.Context, place, pixmed.Receiver) (*peer, error) {
	h, err := pixmed.NewHandler(pixmed.ReceiverFunc(pixmed.Ignore), pixmed.WithoutVerification(), pixmed.WithLogger(silent))
	return &peer{handler: h}, err
}

// serveInbox makes an inbox a member, which stops it in the end.
func serveInbox(ctx context.Context, in *inbox.Inbox, start bool) (*peer, error) {
	p := &peer{
		stored: func(ctx context.Context) (int, error) {
			all, err := in.CountReceived(ctx, time.Unix(0, 0), 100*365*24*time.Hour, 1)
			if err != nil {
				return 0, err
			}
			s := all[0]
			return int(s.Pending + s.Done + s.Dead + s.Quarantined), nil
		},
	}
	p.onClose(func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		return in.Stop(ctx)
	})
	var err error
	if p.handler, err = pixmed.NewHandler(in, pixmed.WithoutVerification(), pixmed.WithLogger(silent)); err != nil {
		return p, err
	}
	if start {
		err = in.Start(ctx)
	}
	return p, err
}

// orIgnore returns work, or a receiver for an inbox that is not started.
func orIgnore(work pixmed.Receiver) pixmed.Receiver {
	if work == nil {
		return pixmed.ReceiverFunc(pixmed.Ignore)
	}
	return work
}
