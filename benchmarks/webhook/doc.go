// Package webhook measures decoding a webhook's body, and the whole handler around
// that. It has tests only.
//
// The payloads are the specification's example, and events of the peers' own kinds
// of the same size. Some peers cannot decode without checking a signature; they are
// measured with it, and limit-hmac shows how much of that is the HMAC itself.
package webhook
