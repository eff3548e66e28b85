package ledger_test

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

func TestKey(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", ledger.MaxKey-1)
	for name, test := range map[string]struct{ a, b string }{
		"letters":                   {"Order-1", "oRDER-1"},
		"with accents":              {"ação", "AÇÃO"},
		"a sign that is a letter":   {"Kelvin", "\u212aelvin"},
		"three of one":              {"σ", "ς"},
		"what is no UTF-8":          {"a\xff", "A\xfe"},
		"all that follows":          {long + "xy", long + "XZ"},
		"a character that is split": {long + "ção", long},
	} {
		if a, b := ledger.Key(test.a), ledger.Key(test.b); !bytes.Equal(a, b) {
			t.Errorf("%s: %q and %q", name, a, b)
		}
	}
	for name, test := range map[string]struct{ a, b string }{
		"accents": {"acao", "ação"},
		"NUL":     {"a\x00b", "a\x00c"},
		"the end": {long + "a", long + "b"},
	} {
		if a, b := ledger.Key(test.a), ledger.Key(test.b); bytes.Equal(a, b) {
			t.Errorf("%s: both are %q", name, a)
		}
	}
}

func TestNewSearch(t *testing.T) {
	t.Parallel()
	if s := ledger.NewSearch(""); s != nil {
		t.Errorf("a search for nothing: %+v", s)
	}
	const none, least = "ffffffff-ffff-ffff-ffff-ffffffffffff", "00000000-0000-0000-0000-000000000000"
	for text, want := range map[string]struct{ from, to string }{
		"5":                                     {"50000000-0000-0000-0000-000000000000", "5fffffff-ffff-ffff-ffff-ffffffffffff"},
		"5A94D48D-C":                            {"5a94d48d-c000-0000-0000-000000000000", "5a94d48d-cfff-ffff-ffff-ffffffffffff"},
		"5a94d48d-c9f3-46be-8448-83510ca42bde":  {"5a94d48d-c9f3-46be-8448-83510ca42bde", "5a94d48d-c9f3-46be-8448-83510ca42bde"},
		"5a94d48d-c9f3-46be-8448-83510ca42bde0": {none, least},
		"5a94d48dc":                             {none, least},
		"5-":                                    {none, least},
		"g":                                     {none, least},
	} {
		s := ledger.NewSearch(text)
		if diff := cmp.Diff([]string{want.from, want.to}, []string{s.FromID, s.ToID}); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

// What begins an id is found by it, and nothing else is.
func FuzzSearch(f *testing.F) {
	for _, seed := range [][2]string{{"order-12", "ORDER-1"}, {"a%b", "a_"}, {"ação", "AÇ"}, {"a\x00b", "a\x00"}, {"\U0010ffff", "\U0010ffff"}, {"\xff\xff", "\xff"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, id, text string) {
		s := ledger.NewSearch(text)
		if s == nil {
			return
		}
		key := ledger.Key(id)
		found := bytes.Compare(s.FromKey, key) <= 0 && bytes.Compare(key, s.ToKey) <= 0
		if want := bytes.HasPrefix(key, ledger.Key(text)); found != want {
			t.Errorf("%q finds %q: %v", text, id, found)
		}
		if utf8.ValidString(text) && strings.HasPrefix(id, text) && !found {
			t.Errorf("%q does not find %q", text, id)
		}
	})
}
