package webhook_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed/pixmedtest"
)

// sizes are the sizes at which growth is measured, in bytes. The first is about that
// of the specification's example without white space.
var sizes = []int{256, 1 << 10, 4 << 10, 16 << 10, 64 << 10}

// sample is the specification's example as it is printed there.
var sample = []byte(pixmedtest.Sample)

// infraction returns the specification's example in a body of the given size. The
// rest is one more member, since gateways send more than they specify.
func infraction(tb testing.TB, size int) []byte {
	tb.Helper()
	return pad(tb, `{"transactionId":"5a94d48d-c9f3-46be-8448-83510ca42bde","transactionStatus":"MED",`+
		`"transactionType":"CASH_IN","value":18,"externalId":"T&ste378",`+
		`"e2e_id":"E082535392025011818245238600338f","medStatus":"ACKNOWLEDGED","x":[%s]}`, size)
}

// stripeEvent returns a charge.dispute event of the given size.
func stripeEvent(tb testing.TB, version string, size int) []byte {
	tb.Helper()
	return pad(tb, `{"id":"evt_1","object":"event","api_version":"`+version+`","created":1737225885,`+
		`"type":"charge.dispute.created","data":{"object":{"id":"dp_1","amount":1800,"x":[%s]}}}`, size)
}

// githubEvent returns a ping of the given size.
func githubEvent(tb testing.TB, size int) []byte {
	tb.Helper()
	return pad(tb, `{"zen":"Keep it logically awesome.","hook_id":1,"hook":{"type":"Repository","id":1,"name":"web",`+
		`"active":true,"config":{"content_type":"json"}},"x":[%s]}`, size)
}

// pad fills an array with objects, up to a body of the given size.
func pad(tb testing.TB, format string, size int) []byte {
	tb.Helper()
	const item = `{"at":"2025-01-18T18:24:52Z","n":12.5,"ok":true},`
	room := size - (len(format) - len("%s"))
	if room < 3 {
		tb.Fatalf("%d bytes are too few", size)
	}
	items := strings.Repeat(item, room/len(item))
	items += `"` + strings.Repeat("x", room-len(items)-2) + `"`
	return fmt.Appendf(nil, format, items)
}

func TestPad(t *testing.T) {
	t.Parallel()
	for _, size := range sizes {
		for _, body := range [][]byte{infraction(t, size), stripeEvent(t, "x", size), githubEvent(t, size)} {
			if len(body) != size || !bytes.HasSuffix(body, []byte("}")) {
				t.Errorf("%d bytes instead of %d: %s", len(body), size, body)
			}
		}
	}
}
