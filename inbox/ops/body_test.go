package ops_test

import (
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pixmed-go/pixmed/inbox/ops"
)

func TestBody(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		raw   string
		want  string
		shown int
	}{
		"an object":          {`{"a":[1,{}],"b":"}"}`, "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": \"}\"\n}", 20},
		"an escaped quote":   {`{"a":"\"{[\t"}`, "{\n  \"a\": \"\\\"{[\\t\"\n}", 14},
		"no JSON":            {`{"a"`, `{"a"`, 4},
		"closed too often":   {`]]]`, `]]]`, 3},
		"empty":              {"", "", 0},
		"control characters": {"a\x1b[2J\u202eb\tc\r\nd\xff", "a\\x1b[2J\\u202eb\tc\nd\ufffd", 15},
		"long":               {strings.Repeat("x", 1500), strings.Repeat("x", 1000), 1000},
		"deep":               {strings.Repeat("[", 40) + strings.Repeat("]", 40), strings.Repeat("[", 40) + strings.Repeat("]", 40), 80},
		"wide when indented": {"[" + strings.Repeat("[],", 300) + "1]", "[" + strings.Repeat("[],", 300) + "1]", 903},
	} {
		got, shown := ops.Body([]byte(test.raw), 1000)
		if got != test.want || shown != test.shown {
			t.Errorf("%s: %d of it:\n%s\nwant %d:\n%s", name, shown, got, test.shown, test.want)
		}
	}
}

// A body that is nested as deeply as anything goes costs no more than its length.
func TestBodyThatIsDeep(t *testing.T) { //nolint:paralleltest // it measures what is allocated
	raw := []byte(strings.Repeat(`[`, 9990) + strings.Repeat(`]`, 9990))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	got, shown := ops.Body(raw, 64<<10)
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	if got != string(raw) || shown != len(raw) {
		t.Errorf("%d bytes became %d", shown, len(got))
	}
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 1<<20 || took > time.Second {
		t.Errorf("%d bytes allocated in %v", allocated, took)
	}
}

// Whatever a body is, what is shown is text, and not much longer than may be.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{`{"a":[1,{"b":"\"}"}]}`, `[[[[`, "\xff\x00\r\n\t", `"\`, strings.Repeat("[1,", 50), `{"a":` + strings.Repeat(" ", 300)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		const most = 256
		got, shown := ops.Body(raw, most)
		if !utf8.ValidString(got) || shown != min(len(raw), most) || len(got) > 10*2*most {
			t.Errorf("%d of %d bytes became %d: %q", shown, len(raw), len(got), got)
		}
	})
}
