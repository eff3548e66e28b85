package sqlite

import (
	"strings"
	"testing"
)

// Absolute paths of every system, none of whose parts is taken for a host, a
// parameter or a fragment.
func TestDSN(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/var/lib/inbox.db":    "file:///var/lib/inbox.db?",
		"C:/data/inbox.db":     "file:///C:/data/inbox.db?",
		"//server/share/in.db": "file:////server/share/in.db?",
		"/a b/x?y#z%25.db":     "file:///a%20b/x%3Fy%23z%2525.db?",
	} {
		got := dsn(path)
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s…", path, got, want)
		}
	}
}
