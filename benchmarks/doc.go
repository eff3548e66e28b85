// Package benchmarks measures the SDK beside its peers, in one run on one machine:
//
//	go test -bench . ./benchmarks/...     everything, once
//	go run ./benchmarks/cmd/report        a table of medians of several rounds; with
//	                                      -docs docs it writes docs/performance.md
//
// # Names
//
// A benchmark's name ends in impl=, the implementation that it measures. Benchmarks
// that differ in nothing else form a group, in which impl=pixmed is compared with
// every other. The rest of the name gives the conditions:
//
//	BenchmarkDecode/size=1MiB/impl=pixmed
//	BenchmarkDecode/size=1MiB/impl=encoding-json
//	BenchmarkDecode/size=1MiB/impl=limit-base64
//
// An impl that begins with limit- does only a part of the work that nobody can do
// without, and shows how much is left to gain. The members of a group run one right
// after the other, so that a machine whose speed drifts treats them alike.
//
// The module is separate so that no peer gets into the SDK's requirements.
package benchmarks
