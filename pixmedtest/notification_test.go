package pixmedtest_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

func TestSample(t *testing.T) {
	t.Parallel()
	want, err := pixmed.ParseInfraction([]byte(pixmedtest.Sample))
	if err != nil {
		t.Fatal(err)
	}
	n := pixmedtest.NewNotification(func(n *pixmed.Notification) {
		n.TransactionID, n.EndToEndID = want.TransactionID, want.EndToEndID
	})
	if diff := cmp.Diff(*want, n.Infraction); diff != "" {
		t.Errorf("NewNotification (-sample +got):\n%s", diff)
	}
	if diff := cmp.Diff(pixmedtest.Sample, string(n.Raw)); diff != "" {
		t.Errorf("NewNotification's Raw (-sample +got):\n%s", diff)
	}
	if other := pixmedtest.NewNotification(); other.Key() == pixmedtest.NewNotification().Key() {
		t.Errorf("two notifications are of one transaction: %v", other)
	}
}

func TestNewInfraction(t *testing.T) {
	t.Parallel()
	a := pixmedtest.NewInfraction()
	b := pixmedtest.NewInfraction(
		func(i *pixmed.Infraction) { i.MEDStatus = pixmed.Cancelled },
		func(i *pixmed.Infraction) { i.Value++ })
	if a.Key() == b.Key() || a.EndToEndID == b.EndToEndID {
		t.Errorf("two infractions have the same ids: %v, %v", a, b)
	}
	for _, i := range []pixmed.Infraction{a, b} {
		if err := i.Validate(); err != nil {
			t.Error(err)
		}
		if !i.EndToEndID.Valid() {
			t.Errorf("EndToEndID %q is not valid", i.EndToEndID)
		}
	}
	if b.MEDStatus != pixmed.Cancelled || b.Value != 1801 {
		t.Errorf("the infraction was not modified: %v", b)
	}
}

func TestNewNotification(t *testing.T) {
	t.Parallel()
	n := pixmedtest.NewNotification(
		func(n *pixmed.Notification) { n.MEDStatus, n.Previous = pixmed.Cancelled, pixmed.Acknowledged },
		func(n *pixmed.Notification) { n.Attempt = 2 })
	parsed, err := pixmed.ParseInfraction(n.Raw)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*parsed, n.Infraction); diff != "" {
		t.Errorf("Raw and the fields differ (-raw +fields):\n%s", diff)
	}
	if n.MEDStatus != pixmed.Cancelled || n.Previous != pixmed.Acknowledged || n.Attempt != 2 {
		t.Errorf("the notification was not modified: %v", n)
	}
	if want := time.Date(2025, 1, 18, 18, 25, 0, 0, time.UTC); !n.ReceivedAt.Equal(want) {
		t.Errorf("ReceivedAt = %v, want %v", n.ReceivedAt, want)
	}
	n = pixmedtest.NewNotification(func(n *pixmed.Notification) { n.Raw = []byte("own") })
	if string(n.Raw) != "own" {
		t.Errorf("Raw = %q, want the value that was set", n.Raw)
	}
}

func TestPayload(t *testing.T) {
	t.Parallel()
	for value, want := range map[pixmed.Amount]string{
		0: "0", 1: "0.01", 50: "0.5", 1800: "18", 1850: "18.5", 1805: "18.05", 100000: "1000", -5: "-0.05",
		1<<63 - 1: "92233720368547758.07",
	} {
		body := pixmedtest.Payload(pixmed.Infraction{Value: value})
		var got struct{ Value json.RawMessage }
		if err := json.Unmarshal(body, &got); err != nil {
			t.Errorf("Amount(%d): %v", value, err)
		}
		if string(got.Value) != want {
			t.Errorf("Amount(%d): value = %s, want %s", value, got.Value, want)
		}
	}

	awkward := pixmedtest.NewInfraction(func(i *pixmed.Infraction) {
		i.ExternalID = "<\"a\\b\"> & \x00\u2028 é"
		i.MEDStatus = "UNDER_REVIEW"
	})
	got, err := pixmed.ParseInfraction(pixmedtest.Payload(awkward))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(awkward, *got); diff != "" {
		t.Errorf("after a round trip (-want +got):\n%s", diff)
	}
}

func TestNewRequest(t *testing.T) {
	t.Parallel()
	r := pixmedtest.NewRequest("/hook?a=b", []byte("body"),
		pixmedtest.QuerySecret("token", "s"), pixmedtest.HeaderSecret("X-A", "1"), pixmedtest.HeaderSecret("X-B", "2"))
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	got := []any{r.Method, r.RequestURI, r.URL.Path, r.ContentLength, r.Header, string(body)}
	want := []any{
		http.MethodPost, "/hook?a=b&token=s", "/hook", int64(4),
		http.Header{"Content-Type": {"application/json"}, "X-A": {"1"}, "X-B": {"2"}},
		"body",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}

	const nilSigner = "NewRequest: signer 2 is nil"
	if got := panicked(func() { pixmedtest.NewRequest("/hook", nil, pixmedtest.BasicAuth("u", "p"), nil) }); got != nilSigner {
		t.Errorf("panicked with %q, want %q", got, nilSigner)
	}
}

func TestShuffled(t *testing.T) {
	t.Parallel()
	infractions := make([]pixmed.Infraction, 10)
	for n := range infractions {
		infractions[n] = pixmedtest.NewInfraction()
	}
	count := func(is []pixmed.Infraction) map[pixmed.Key]int {
		counts := make(map[pixmed.Key]int)
		for _, i := range is {
			counts[i.Key()]++
		}
		return counts
	}
	before := slices.Clone(infractions)
	thrice := pixmedtest.Shuffled(infractions, 3, 1)
	if diff := cmp.Diff(before, infractions); diff != "" {
		t.Errorf("the argument was modified (-before +after):\n%s", diff)
	}
	if got := slices.Collect(maps.Values(count(thrice))); !slices.Equal(got, slices.Repeat([]int{3}, 10)) {
		t.Errorf("numbers of copies %v, want 3 of each infraction", got)
	}
	if diff := cmp.Diff(thrice, pixmedtest.Shuffled(infractions, 3, 1)); diff != "" {
		t.Errorf("the same seed gave another order (-first +second):\n%s", diff)
	}
	if cmp.Equal(thrice, pixmedtest.Shuffled(infractions, 3, 2)) {
		t.Error("another seed gave the same order")
	}
	if cmp.Equal(infractions, thrice[:10]) {
		t.Error("the order did not change")
	}
	if got := pixmedtest.Shuffled(infractions, -1, 1); len(got) != 10 {
		t.Errorf("copies = -1 gave %d infractions, want 10", len(got))
	}
}
