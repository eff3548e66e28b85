// Package inbox measures package inbox of the SDK beside what else keeps a
// notification until it is worked: River in one transaction for each request, a
// raw INSERT, goqite, and an embedded NATS JetStream. It has tests only.
//
//	go test -bench . ./benchmarks/inbox                  all of it, some 7 minutes
//	go test -bench Accept ./benchmarks/inbox             the accepts alone, 80 seconds
//	go test -bench Burst ./benchmarks/inbox -burst 5000  a smaller burst
//
// The flag comes after the package, or go test takes the package for the flag's. On
// a machine slower than one with two processors and a solid-state disk, -timeout
// must be above the 10 minutes that go test allows.
//
// PostgreSQL is started for it, or is at the URL in PIXMED_TEST_DATABASE_URL, with
// room for 100 connections.
//
// # Accept
//
// BenchmarkAccept sends notifications to a server over loopback, from 1, 8, 64 and
// 256 connections that each wait for the answer before they send the next one.
// Every notification is of another transaction. Nothing works what was accepted.
// It reports
//
//	accepts/s   answers of status 200 in a second, of all connections together
//	p50-µs      how long a request took, from the first byte sent until the head of
//	p99-µs      the answer was read: the median, and what 1 in 100 exceeds
//
// All members but limit-bare answer when the notification is synced to disk, and
// not before, and all read the body and check it as the SDK does. What they do
// beyond that differs, and is said where each is made: TestPeersDeduplicate and
// TestPeersSync hold them to it.
//
//	impl                  redelivery               transactions
//	pixmed                a duplicate, by status   one for all that wait
//	river-tx              a duplicate, by key      one for each request
//	nats-jetstream        a duplicate, for 2 min   one sync for each request
//	goqite                stored again             one for each request
//	raw-insert            stored again             one for each request
//	limit-bare            nothing is stored
//
// # Burst
//
// BenchmarkBurst sends what has gathered in an outage, 50,000 notifications unless
// -burst says otherwise (500 with -short), over 64 connections, again and again until each is
// answered 200, while ten workers call a callback that does nothing. One operation
// is the whole burst. It reports
//
//	answered-s      seconds until all were answered 200
//	worked-s        seconds until the callback was called for all
//	accepts/s       notifications by answered-s
//	p99-µs          how long a request took that was answered 200: 1 in 100 exceeds it
//	resent          requests that had to be sent again
//	lost            notifications answered 200 whose callback was not called
//	twice           notifications whose callback was called more than once
//	heap-MiB        the most that live and dead objects took in the heap of Go
//	rss-growth-MiB  the most that the process grew in memory, on Linux: SQLite's own
//	                memory is not in the heap; that of a PostgreSQL server is in
//	                neither
//
// Sender and receiver are one process, so that both figures of memory are of both.
// The sender's share is some 2 MiB.
package inbox
