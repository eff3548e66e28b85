// Package download measures the whole download of a receipt over loopback HTTP and
// HTTPS, from the call until the caller has the last byte of the PDF. It has tests
// only.
//
// An operation is parallel= downloads at once. A process of its own does them, so that
// its peak memory (peak-MiB) is that of one implementation. That process counts time
// and allocations, after a first operation whose PDFs are compared in full. The
// gateway runs in the reporting process, so it is not in that memory, but it shares
// the processors: limit-read shows how fast a client could be at most.
//
// All implementations use the same transport, with the defaults of net/http but for
// the idle connections to keep, as many as there are downloads at once. Both schemes
// speak HTTP/1.1. The body has a Content-Length and is not compressed.
//
// pixmed does more than the others: it computes the SHA-256 of the PDF, checks that it
// is a PDF and that the envelope is complete, and resumes a broken download. Of the
// others only limit-scalar and limit-vectorised compute the SHA-256. They are two
// minimal streams that differ in their base64 alone, the standard library's and a
// vectorised one: the difference is what pixmed gains from vectors at most.
package download
