// Package download measures the whole download of a receipt over loopback HTTP and
// HTTPS: from the call until the last byte of the PDF has been handed over. Its
// benchmarks are in its tests.
//
// An operation is as many downloads at once as parallel= says. They are done by a
// process of its own, so that its peak memory (peak-MiB, of the whole process) is
// that of one implementation; time and allocations are what that process counts,
// behind a first operation whose PDFs are compared in full. The gateway runs in the
// process that reports, and so not in that memory, but it does share the processors:
// limit-read says how fast a client could be at most.
//
// All implementations use the same kind of transport, with the defaults of net/http
// but for the connections to keep, which are as many as there are downloads at once.
// Both schemes speak HTTP/1.1. The body has a Content-Length and is not compressed.
//
// What is compared is not quite the same: pixmed computes the SHA-256 of the PDF,
// checks that the PDF is one and that the envelope is whole, and resumes a download
// that breaks. The others do none of this, but for limit-scalar and limit-vectorised,
// which compute the SHA-256: two streams that are as simple as can be and differ in
// the base64 alone, of the standard library and of a module that uses vector
// instructions. What the latter gains is what pixmed would gain by them.
package download
