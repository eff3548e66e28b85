package webhook_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed/pixmedtest"
)

// sizes are those at which the growth is measured, in bytes. The first one is the
// specification's example, written without white space, or a little more.
var sizes = []int{256, 1 << 10, 4 << 10, 16 << 10, 64 << 10}

// sample is the specification's example as it is printed there.
var sample = []byte(pixmedtest.Sample)

// infraction returns the specification's example in a body of that size: there is
// another member in it, as gateways have more to say than they specify.
func infraction(tb testing.TB, size int) []byte {
	tb.Helper()
	return pad(tb, `{"transactionId":"5a94d48d-c9f3-46be-8448-83510ca42bde","transactionStatus":"MED",`+
		`"transactionType":"CASH_IN","value":18,"externalId":"T&ste378",`+
		`"e2e_id":"E082535392025011818245238600338f","medStatus":"ACKNOWLEDGED","x":[%s]}`, size)
}

// stripeEvent returns a charge.dispute event of that size.
func stripeEvent(tb testing.TB, version string, size int) []byte {
	tb.Helper()
	return pad(tb, `{"id":"evt_1","object":"event","api_version":"`+version+`","created":1737225885,`+
		`"type":"charge.dispute.created","data":{"object":{"id":"dp_1","amount":1800,"x":[%s]}}}`, size)
}

// githubEvent returns a ping of that size.
func githubEvent(tb testing.TB, size int) []byte {
	tb.Helper()
	return pad(tb, `{"zen":"Keep it logically awesome.","hook_id":1,"hook":{"type":"Repository","id":1,"name":"web",`+
		`"active":true,"config":{"content_type":"json"}},"x":[%s]}`, size)
}

// pad fills an array with objects, to a body of that size.
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
