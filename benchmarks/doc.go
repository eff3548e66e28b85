// Package benchmarks measures the SDK beside its peers, in one run on one machine:
//
//	go test -bench . ./benchmarks/...     everything, once
//	go run ./benchmarks/cmd/report        a table of medians of several rounds; with
//	                                      -docs docs it is written to docs/performance.md
//
// # Names
//
// A benchmark's name ends in impl=, the implementation that is measured. All that
// differ in nothing else form a group, and are compared: impl=pixmed with every
// other one. What stands before are the conditions:
//
//	BenchmarkDecode/size=1MiB/impl=pixmed
//	BenchmarkDecode/size=1MiB/impl=encoding-json
//	BenchmarkDecode/size=1MiB/impl=limit-base64
//
// An impl that begins with limit- does only a part of the work, what nobody can do
// without, and says how much is left to gain. The members of a group run one right
// after the other, so that a machine whose speed drifts treats them alike.
//
// The module is on its own, so that no peer gets into the SDK's requirements.
package benchmarks
