package pixmed_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
)

// specNotification has every field set, and a raw body whose text is in no
// other field.
func specNotification() pixmed.Notification {
	return pixmed.Notification{
		Infraction:    specInfraction(),
		Raw:           []byte(`{"debtor":"raw-canary"}`),
		ReceivedAt:    time.Date(2025, 1, 18, 18, 24, 52, 0, time.UTC),
		Previous:      pixmed.Cancelled,
		PreviousValue: 5 * pixmed.Real,
		PreviousAt:    time.Date(2025, 1, 18, 9, 0, 0, 0, time.UTC),
		SeenAt:        time.Date(2025, 1, 17, 9, 0, 0, 0, time.UTC),
		Attempt:       3,
	}
}

func TestMEDStatus(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status       pixmed.MEDStatus
		known, final bool
	}{
		{"ACKNOWLEDGED", true, false},
		{"CANCELLED", true, true},
		{"DEBITED", true, true},
		{"", false, false},
		{"CLOSED", false, false},
		{"acknowledged", false, false},
		{"CANCELLED ", false, false},
	} {
		if got := tt.status.Known(); got != tt.known {
			t.Errorf("MEDStatus(%q).Known() = %v, want %v", tt.status, got, tt.known)
		}
		if got := tt.status.Final(); got != tt.final {
			t.Errorf("MEDStatus(%q).Final() = %v, want %v", tt.status, got, tt.final)
		}
	}
	for got, want := range map[pixmed.MEDStatus]string{
		pixmed.Acknowledged: "ACKNOWLEDGED", pixmed.Cancelled: "CANCELLED", pixmed.Debited: "DEBITED",
	} {
		if string(got) != want {
			t.Errorf("constant is %q, want %q", got, want)
		}
	}
}

func TestTransactionStatusAndType(t *testing.T) {
	t.Parallel()
	for status, known := range map[pixmed.TransactionStatus]bool{
		"MED": true, "PAID": false, "med": false, "": false,
	} {
		if got := status.Known(); got != known {
			t.Errorf("TransactionStatus(%q).Known() = %v, want %v", status, got, known)
		}
	}
	for kind, known := range map[pixmed.TransactionType]bool{
		"CASH_IN": true, "CASH_OUT": false, "cash_in": false, "": false,
	} {
		if got := kind.Known(); got != known {
			t.Errorf("TransactionType(%q).Known() = %v, want %v", kind, got, known)
		}
	}
}

func TestEndToEndID(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		id   pixmed.EndToEndID
		ispb string // "" for a malformed id
		time time.Time
	}{
		{"the spec's", "E082535392025011818245238600338f", "08253539", time.Date(2025, 1, 18, 18, 24, 0, 0, time.UTC)},
		{"letters in the ISPB", "EA1b2C3d4202501181824AbCdEfGhIjK", "A1b2C3d4", time.Date(2025, 1, 18, 18, 24, 0, 0, time.UTC)},
		{"leap day", "E12345678202402292359aaaaaaaaaaa", "12345678", time.Date(2024, 2, 29, 23, 59, 0, 0, time.UTC)},
		{"first minute", "E00000000000101010000aaaaaaaaaaa", "00000000", time.Time{}},
		{"empty", "", "", time.Time{}},
		{"E alone", "E", "", time.Time{}},
		{"27 characters, as in the cash-out example", "E0825353920250118182452386", "", time.Time{}},
		{"31 characters", "E082535392025011818245238600338", "", time.Time{}},
		{"33 characters", "E082535392025011818245238600338ff", "", time.Time{}},
		{"34 characters, as in the Pix API's document", "E12345678202009091221kkkkkkkkkkkkk", "", time.Time{}},
		{"another first letter", "D082535392025011818245238600338f", "", time.Time{}},
		{"lower-case e", "e082535392025011818245238600338f", "", time.Time{}},
		{"month 13", "E082535392025131818245238600338f", "", time.Time{}},
		{"30 February", "E082535392025023018245238600338f", "", time.Time{}},
		{"29 February of a common year", "E082535392025022918245238600338f", "", time.Time{}},
		{"hour 24", "E082535392025011824245238600338f", "", time.Time{}},
		{"minute 60", "E082535392025011818605238600338f", "", time.Time{}},
		{"letter in the time", "E08253539202501181a245238600338f", "", time.Time{}},
		{"underscore at the end", "E08253539202501181824523860033_f", "", time.Time{}},
		{"hyphen in the ISPB", "E0825-5392025011818245238600338f", "", time.Time{}},
		{"space at the end", "E082535392025011818245238600338 ", "", time.Time{}},
		{"32 bytes, not ASCII", "E08253539202501181824523860033é", "", time.Time{}},
		{"invalid UTF-8", "E08253539202501181824523860033\xff\xfe", "", time.Time{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got, want := tt.id.Valid(), tt.ispb != ""; got != want {
				t.Errorf("EndToEndID(%q).Valid() = %v, want %v", tt.id, got, want)
			}
			if got := tt.id.ISPB(); got != tt.ispb {
				t.Errorf("EndToEndID(%q).ISPB() = %q, want %q", tt.id, got, tt.ispb)
			}
			got := tt.id.Time()
			if !got.Equal(tt.time) || got.Location() != time.UTC {
				t.Errorf("EndToEndID(%q).Time() = %v, want %v", tt.id, got, tt.time)
			}
		})
	}
}

func FuzzEndToEndID(f *testing.F) {
	for _, seed := range []string{
		"E082535392025011818245238600338f", "EA1b2C3d4202501181824AbCdEfGhIjK", "E0825353920250118182452386",
		"E12345678202009091221kkkkkkkkkkkkk", "E08253539202501181a245238600338f", "E08253539202502301824aaaaaaaaaaa",
		"E08253539202501189924aaaaaaaaaaa", "E08253539.02501181824aaaaaaaaaaa", "", "E", "é", "\xff",
	} {
		f.Add(seed)
	}
	form := regexp.MustCompile(`\AE[0-9A-Za-z]{8}([0-9]{12})[0-9A-Za-z]{11}\z`)
	f.Fuzz(func(t *testing.T, text string) {
		id := pixmed.EndToEndID(text)
		var (
			want     time.Time
			wantISPB string
			valid    bool
		)
		if m := form.FindStringSubmatch(text); m != nil {
			if at, err := time.Parse("200601021504", m[1]); err == nil {
				want, wantISPB, valid = at, text[1:9], true
			}
		}
		if got := id.Valid(); got != valid {
			t.Errorf("EndToEndID(%q).Valid() = %v, want %v", text, got, valid)
		}
		if got := id.ISPB(); got != wantISPB {
			t.Errorf("EndToEndID(%q).ISPB() = %q, want %q", text, got, wantISPB)
		}
		if got := id.Time(); !got.Equal(want) {
			t.Errorf("EndToEndID(%q).Time() = %v, want %v", text, got, want)
		}
	})
}

func TestKeyFoldsTheCaseOfTheUUIDAlone(t *testing.T) {
	t.Parallel()
	lower, upper := specInfraction(), specInfraction()
	upper.TransactionID = strings.ToUpper(upper.TransactionID)
	if diff := cmp.Diff(lower.Key(), upper.Key()); diff != "" {
		t.Errorf("keys of one UUID in two letter cases differ (-lower +upper):\n%s", diff)
	}
	if want := (pixmed.Key{TransactionID: "5a94d48d-c9f3-46be-8448-83510ca42bde", ExternalID: "T&ste378"}); upper.Key() != want {
		t.Errorf("Key() = %v, want %v", upper.Key(), want)
	}
	upper.ExternalID = strings.ToUpper(upper.ExternalID)
	if lower.Key() == upper.Key() {
		t.Error("external ids that differ in letter case have the same key")
	}
	if got, err := json.Marshal(lower.Key()); err != nil || string(got) != `{"transactionId":"5a94d48d-c9f3-46be-8448-83510ca42bde","externalId":"T\u0026ste378"}` {
		t.Errorf("in JSON it is %s, %v", got, err)
	}
	if got, want := lower.Key().String(), "5a94d48d-c9f3-46be-8448-83510ca42bde/T&ste378"; got != want {
		t.Errorf("Key.String() = %q, want %q", got, want)
	}
}

func TestMaybeReopened(t *testing.T) {
	t.Parallel()
	statuses := []pixmed.MEDStatus{"", pixmed.Acknowledged, pixmed.Cancelled, pixmed.Debited, "REOPENED"}
	// Every other combination of the three is false.
	type question struct {
		status, previous pixmed.MEDStatus
		seen             bool
	}
	yes := []question{
		{"", pixmed.Cancelled, true},
		{"", pixmed.Debited, true},
		{pixmed.Acknowledged, pixmed.Cancelled, true},
		{pixmed.Acknowledged, pixmed.Debited, true},
		{"REOPENED", pixmed.Cancelled, true},
		{"REOPENED", pixmed.Debited, true},
	}
	for _, status := range statuses {
		for _, previous := range statuses {
			for _, seen := range []bool{false, true} {
				n := &pixmed.Notification{Infraction: pixmed.Infraction{MEDStatus: status}, Previous: previous}
				if seen {
					n.SeenAt = time.Date(2025, 1, 18, 0, 0, 0, 0, time.UTC)
				}
				want := slices.Contains(yes, question{status, previous, seen})
				if got := n.MaybeReopened(); got != want {
					t.Errorf("%q after %q, seen before: %v: MaybeReopened() = %v, want %v", status, previous, seen, got, want)
				}
			}
		}
	}
}

func TestNotificationMarshal(t *testing.T) {
	t.Parallel()
	const want = `{"transactionId":"5a94d48d-c9f3-46be-8448-83510ca42bde","transactionStatus":"MED","transactionType":"CASH_IN",` +
		`"value":"18.00","externalId":"T&ste378","e2e_id":"E082535392025011818245238600338f","medStatus":"ACKNOWLEDGED",` +
		`"raw":"eyJkZWJ0b3IiOiJyYXctY2FuYXJ5In0=","receivedAt":"2025-01-18T18:24:52Z","previous":"CANCELLED","previousValue":"5.00","previousAt":"2025-01-18T09:00:00Z",` +
		`"seenAt":"2025-01-17T09:00:00Z","attempt":3}`
	n := specNotification()

	v1, err := json.Marshal(n)
	if err != nil {
		t.Fatalf("encoding/json: %v", err)
	}
	v1 = bytes.ReplaceAll(v1, []byte(`\u0026`), []byte(`&`)) // its escape for HTML
	if diff := cmp.Diff(want, string(v1)); diff != "" {
		t.Errorf("encoding/json (-want +got):\n%s", diff)
	}
	v2, err := jsonv2.Marshal(&n)
	if err != nil {
		t.Fatalf("JSON v2: %v", err)
	}
	if diff := cmp.Diff(want, string(v2)); diff != "" {
		t.Errorf("JSON v2 (-want +got):\n%s", diff)
	}

	for name, unmarshal := range map[string]func([]byte, any) error{
		"encoding/json": json.Unmarshal,
		"JSON v2":       func(b []byte, v any) error { return jsonv2.Unmarshal(b, v) },
	} {
		var back pixmed.Notification
		if err := unmarshal(v1, &back); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(n, back); diff != "" {
			t.Errorf("%s: round trip (-want +got):\n%s", name, diff)
		}
	}
}

func TestInfractionMarshalHasEveryFieldEvenWhenEmpty(t *testing.T) {
	t.Parallel()
	got, err := json.Marshal(pixmed.Infraction{})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"transactionId":"","transactionStatus":"","transactionType":"","value":"0.00","externalId":"","e2e_id":"","medStatus":""}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("zero Infraction (-want +got):\n%s", diff)
	}
}

// rawLeaks reports whether text shows the content of specNotification's Raw in
// any of the ways in which Go prints bytes.
func rawLeaks(text string) bool {
	raw := specNotification().Raw
	decimal := strings.Trim(fmt.Sprint(raw), "[]") // %v of a []byte
	for _, form := range []string{
		"raw-canary", base64.StdEncoding.EncodeToString(raw)[:12], decimal[:12], fmt.Sprintf("%x", raw[:8]),
	} {
		if strings.Contains(strings.ToLower(text), strings.ToLower(form)) {
			return true
		}
	}
	return false
}

func TestNotificationLog(t *testing.T) {
	t.Parallel()
	n := specNotification()

	t.Run("JSON", func(t *testing.T) {
		t.Parallel()
		for _, value := range []any{n, &n} {
			var out bytes.Buffer
			slog.New(slog.NewJSONHandler(&out, nil)).InfoContext(t.Context(), "got", slog.Any("notification", value))
			var line struct {
				Notification map[string]any `json:"notification"`
			}
			if err := json.Unmarshal(out.Bytes(), &line); err != nil {
				t.Fatal(err)
			}
			want := map[string]any{
				"transaction_id": "5a94d48d-c9f3-46be-8448-83510ca42bde", "transaction_status": "MED",
				"transaction_type": "CASH_IN", "value": "18.00", "external_id": "T&ste378",
				"e2e_id": "E082535392025011818245238600338f", "med_status": "ACKNOWLEDGED",
				"raw_bytes": 23.0, "received_at": "2025-01-18T18:24:52Z", "previous": "CANCELLED",
				"previous_value": "5.00", "previous_at": "2025-01-18T09:00:00Z",
				"seen_at": "2025-01-17T09:00:00Z", "attempt": 3.0,
			}
			if diff := cmp.Diff(want, line.Notification); diff != "" {
				t.Errorf("%T (-want +got):\n%s", value, diff)
			}
			if rawLeaks(out.String()) {
				t.Errorf("%T: the raw body is in the log: %s", value, out.String())
			}
		}
	})

	t.Run("text", func(t *testing.T) {
		t.Parallel()
		for _, value := range []any{n, &n} {
			var out bytes.Buffer
			slog.New(slog.NewTextHandler(&out, nil)).InfoContext(t.Context(), "got", slog.Any("n", value))
			_, got, _ := strings.Cut(strings.TrimSpace(out.String()), "msg=got ")
			const want = `n.transaction_id=5a94d48d-c9f3-46be-8448-83510ca42bde n.transaction_status=MED ` +
				`n.transaction_type=CASH_IN n.value=18.00 n.external_id=T&ste378 n.e2e_id=E082535392025011818245238600338f ` +
				`n.med_status=ACKNOWLEDGED n.raw_bytes=23 n.received_at=2025-01-18T18:24:52.000Z n.previous=CANCELLED ` +
				`n.previous_value=5.00 n.previous_at=2025-01-18T09:00:00.000Z ` +
				`n.seen_at=2025-01-17T09:00:00.000Z n.attempt=3`
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%T (-want +got):\n%s", value, diff)
			}
		}
	})

	t.Run("an infraction", func(t *testing.T) {
		t.Parallel()
		var out bytes.Buffer
		slog.New(slog.NewTextHandler(&out, nil)).InfoContext(t.Context(), "got", slog.Any("i", specInfraction()))
		_, got, _ := strings.Cut(strings.TrimSpace(out.String()), "msg=got ")
		const want = `i.transaction_id=5a94d48d-c9f3-46be-8448-83510ca42bde i.transaction_status=MED ` +
			`i.transaction_type=CASH_IN i.value=18.00 i.external_id=T&ste378 i.e2e_id=E082535392025011818245238600338f ` +
			`i.med_status=ACKNOWLEDGED`
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestPrinting(t *testing.T) {
	t.Parallel()
	full := specNotification()
	first := pixmed.Notification{Infraction: specInfraction(), Raw: full.Raw, Attempt: 1}
	unnamed := pixmed.Notification{Infraction: specInfraction(), PreviousAt: full.PreviousAt, Attempt: 1}
	unnamed.MEDStatus = ""
	const infraction = "MED ACKNOWLEDGED for transaction 5a94d48d-c9f3-46be-8448-83510ca42bde (R$ 18,00)"
	for _, tt := range []struct {
		value any
		want  string
	}{
		{specInfraction(), infraction},
		{first, infraction},
		{&first, infraction},
		{full, infraction + ", after CANCELLED, attempt 3"},
		{&full, infraction + ", after CANCELLED, attempt 3"},
		{unnamed, "MED (no status) for transaction 5a94d48d-c9f3-46be-8448-83510ca42bde (R$ 18,00), after (no status)"},
	} {
		for _, format := range []string{"%v", "%+v", "%s"} {
			if got := fmt.Sprintf(format, tt.value); got != tt.want {
				t.Errorf("%s of a %T = %q, want %q", format, tt.value, got, tt.want)
			}
		}
	}
	// Inside something else.
	for _, value := range []any{
		[]pixmed.Notification{full},
		[]*pixmed.Notification{&full},
		struct{ N pixmed.Notification }{full},
		map[string]pixmed.Notification{"n": full},
	} {
		if got := fmt.Sprintf("%v %+v", value, value); rawLeaks(got) || !strings.Contains(got, infraction) {
			t.Errorf("%T prints as %q", value, got)
		}
	}
}
