package main

import (
	"fmt"
	"math"
)

// A goal is what the SDK should reach.
type goal struct {
	what     string
	at       string // the conditions
	wanted   string
	value    float64
	measured bool
	met      bool
}

// String is the goal's line in a table.
func (g goal) String() string {
	verdict := map[bool]string{true: "yes", false: "**no**"}[g.met]
	value := digits(g.value)
	if !g.measured {
		verdict, value = "not measured", ""
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s |", g.what, g.at, g.wanted, value, verdict)
}

// goals compares the figures with what is wanted.
func (s *results) goals() (all []goal) {
	atMost := func(what, at string, want, value float64, ok bool) {
		all = append(all, goal{what, at, "at most " + digits(want), value, ok, ok && value <= want})
	}
	atLeast := func(what, at string, want, value float64, ok bool) {
		all = append(all, goal{what, at, "at least " + digits(want), value, ok, ok && value >= want})
	}

	parse := s.find("Parse", "")
	share, ok := times(parse.of("encoding-json"), parse.of(ours), "ns/op")
	atMost("ParseInfraction, of encoding/json's time", "", 0.45, share, ok)
	allocs, ok := parse.of(ours).median("allocs/op")
	atMost("ParseInfraction, allocations", "", 4, allocs, ok)

	handler := s.find("Handler", "")
	mine, ok := handler.of(ours).median("ns/op")
	limit, ok2 := handler.of("limit-hmac").median("ns/op")
	atMost("Handler, µs more than reading and the HMAC", "", 2.5, (mine-limit)/1e3, ok && ok2)
	fastest, ok := math.Inf(1), false
	for _, peer := range []string{"by-hand", "standard-webhooks", "stripe-go", "go-github"} {
		if r, measured := times(handler.of(ours), handler.of(peer), "ns/op"); measured {
			fastest, ok = min(fastest, r), true
		}
	}
	atLeast("Handler, times as fast as the fastest peer", "", 1, fastest, ok)

	for _, size := range []string{"64KiB", "1MiB", "16MiB", "256MiB"} {
		g := s.find("Decode", "size="+size)
		byHand := g.of("encoding-json-string")
		r, ok := times(g.of(ours), byHand, "ns/op")
		atLeast("receipt as a stream, times as fast as by hand", size, 10, r, ok)
		r, ok = times(g.of(ours), g.of("limit-base64"), "ns/op")
		atLeast("receipt as a stream, of the speed of base64 alone", size, 0.85, r, ok)
		live, ok := g.of(ours).median("live-KiB")
		atMost("receipt as a stream, live heap in KiB", size, 128, live, ok)
		r, ok = times(g.of("pixmed-bytes"), byHand, "ns/op")
		atLeast("receipt in memory, times as fast as by hand", size, 8, r, ok)
		r, ok = g.of("pixmed-bytes").median("alloc/size")
		atMost("receipt in memory, allocated, of the PDF's size", size, 1.25, r, ok)
		r, ok = g.of("pixmed-bytes-unknown-length").median("alloc/size")
		atMost("the same without a Content-Length", size, 2.6, r, ok)
	}
	for _, engine := range []string{"sqlite", "postgres"} {
		at := "engine=" + engine
		g := s.find("Accept", at+" conns=64")
		r, ok := times(g.of(ours), g.of("river-tx"), "accepts/s")
		atLeast("accepts from 64 senders, times as many as with river-tx", engine, 1, r, ok)
		after, ok := s.find("Latency", at).of(ours).median("after-the-200-p50-µs")
		atMost("from the 200 to the callback in ms, median", engine, 1, after/1e3, ok)
	}
	return all
}
