// Package webhook measures what becomes of a webhook's body: decoding it, and the
// whole handler around that. Its benchmarks are in its tests.
//
// The payloads are the specification's example, and events of the peers' own kinds
// of the same size. The peers that check a signature cannot decode without; they
// are measured with it, and limit-hmac says how much of that is the HMAC itself.
package webhook
