// Package inbox measures package inbox of the SDK beside other ways to keep a
// notification until its callback has run: River, a raw INSERT, goqite, and an
// embedded NATS JetStream. It has tests only.
//
//	go test -bench . ./benchmarks/inbox                  everything, some 4 minutes
//	go test -bench Accept ./benchmarks/inbox             accepts alone, a minute
//	go test -bench Burst ./benchmarks/inbox -burst 5000  a smaller burst
//
// The flags -burst and -backlog come after the package, or go test takes the package
// for their value. On a machine slower than one with two processors and a
// solid-state disk, -timeout must be above go test's 10 minutes.
//
// It starts a PostgreSQL server, or uses the one at the URL in
// PIXMED_TEST_DATABASE_URL, which must allow 100 connections.
//
// # Accept
//
// BenchmarkAccept sends notifications to a server over loopback, from 1, 8 and 64
// connections that each wait for the answer before they send the next one. Each
// notification is of another transaction, and no callback runs. It reports
//
//	accepts/s   answers of status 200 a second, over all connections
//	p50-µs      how long a request took, from the first byte sent until the head of
//	p99-µs      the answer was read: median and 99th percentile
//
// All members but limit-bare answer only once the notification is synced to disk, and
// all read and check the body as the SDK does. Where they differ, TestPeersDeduplicate
// and TestPeersSync check what this table says:
//
//	impl                  redelivery               transactions
//	pixmed                a duplicate, by status   one for all that wait
//	river-tx              a duplicate, by key      one for each request: a row and a job
//	river                 stored again             one for each request: a job with the body
//	nats-jetstream        a duplicate, for 2 min   one sync for each request
//	goqite                stored again             one for each request
//	raw-insert            stored again             one for each request
//	limit-bare            nothing is stored
//
// # Work
//
// BenchmarkWork sends 3,000 notifications, or as many as -backlog says, while no
// callback returns, and then measures how fast the rest is worked when callbacks do
// nothing, with 10 and with 50 workers. It reports
//
//	callbacks/s     callbacks a second, until the last one was called
//	cpu-µs          CPU of this process for each of them, on Linux
//	server-cpu-µs   CPU of the PostgreSQL server's processes for the connections, the same
//	connections     connections to the PostgreSQL server, the most
//
// # Latency
//
// BenchmarkLatency sends 300 notifications one after the other and reports
//
//	p50-µs                 from the first byte of the request until the callback was
//	p99-µs                 called: median and 99th percentile
//	after-the-200-p50-µs   from when its 200 was read until then; 0 if the callback
//	after-the-200-p99-µs   was called first
//
// # Burst
//
// BenchmarkBurst sends what has gathered during an outage, 20,000 notifications or
// as many as -burst says (500 with -short), over 64 connections, until each is
// answered 200, while ten workers call a callback that does nothing. One operation
// is the whole burst. It reports
//
//	answered-s      seconds until all were answered 200
//	worked-s        seconds until the callback was called for all
//	accepts/s       notifications by answered-s
//	p99-µs          how long a request took that was answered 200, the 99th percentile
//	cpu-µs, server-cpu-µs  as for BenchmarkWork, with the senders
//	resent          requests that had to be sent again
//	lost            notifications answered 200 whose callback was not called
//	twice           notifications whose callback was called more than once
//	heap-MiB        peak of Go's heap, live and dead objects
//	rss-growth-MiB  peak growth of the process on Linux. SQLite's own memory is not in
//	                the heap; a PostgreSQL server's is in neither
//
// Senders and receiver are one process, so both figures of memory are of both. The
// senders' share is some 2 MiB.
package inbox
