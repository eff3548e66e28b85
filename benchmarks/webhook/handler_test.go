package webhook_test

import (
	"net/http"
	"strconv"
	"testing"
)

// BenchmarkHandler answers a signed request with the specification's example, or
// with another kind of event of the same size, without a network.
func BenchmarkHandler(b *testing.B) {
	for _, p := range peers(b, 0) {
		p.run(b)
	}
}

// BenchmarkHandlerGrowing does the same with larger bodies.
func BenchmarkHandlerGrowing(b *testing.B) {
	for _, size := range sizes[:len(sizes)-1] { // the last is at the limit
		b.Run("bytes="+strconv.Itoa(size), func(b *testing.B) {
			for _, p := range peers(b, size) {
				p.run(b)
			}
		})
	}
}

func (p peer) run(b *testing.B) {
	b.Helper()
	b.Run("impl="+p.name, func(b *testing.B) {
		r, w := p.requests(b), newResponse()
		b.ReportAllocs()
		for b.Loop() {
			if r.serve(w); w.status != http.StatusOK {
				b.Fatal(w.status)
			}
		}
	})
}
