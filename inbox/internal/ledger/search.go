package ledger

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxKey is how many bytes of an id a search compares: some gateways send
	// kilobytes, which no index could hold.
	MaxKey = 128
	// MaxMatches is how many ids of a kind a search reads, as engines write it into
	// their statements.
	MaxMatches = "1000"
)

// Search finds cases by the beginning of an id. Both ranges include their ends; the
// second is empty if no transaction id begins like this.
type Search struct {
	FromKey, ToKey []byte // keys of external and end-to-end ids
	FromID, ToID   string // transaction ids
}

// NewSearch returns the search for a text, nil for none.
func NewSearch(text string) *Search {
	if text == "" {
		return nil
	}
	const first, last = "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"
	key := Key(text)
	s := &Search{FromKey: key, ToKey: slices.Concat(key, []byte{0xff}), FromID: last, ToID: first} // no key holds 0xff
	if id := strings.ToLower(text); isIDStart(id, first) {
		s.FromID, s.ToID = id+first[len(id):], id+last[len(id):]
	}
	return s
}

// isIDStart reports whether a text is the beginning of a UUID in lower case, which
// has its hyphens where layout has them.
func isIDStart(text, layout string) bool {
	if len(text) > len(layout) {
		return false
	}
	for i := range len(text) {
		if hyphen := layout[i] == '-'; hyphen != (text[i] == '-') || !hyphen && !strings.ContainsRune("0123456789abcdef", rune(text[i])) {
			return false
		}
	}
	return true
}

// Key returns an id as searches compare it: its beginning, in one letter case.
func Key(id string) []byte { return fold(id, MaxKey) }

// Fold returns a text in one letter case, and in valid UTF-8.
func Fold(text string) []byte { return fold(text, len(text)*utf8.UTFMax) }

// fold replaces each character with the least of those that differ from it by letter
// case alone. Whatever begins a text begins the folded text, too.
func fold(text string, most int) []byte {
	folded := make([]byte, 0, min(len(text), most))
	for _, r := range text {
		least := r
		for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
			least = min(least, other)
		}
		if len(folded)+utf8.RuneLen(least) > most {
			break
		}
		folded = utf8.AppendRune(folded, least)
	}
	return folded
}
