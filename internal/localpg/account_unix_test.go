//go:build unix

package localpg_test

import (
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed/internal/localpg"
)

func TestFirstAccount(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		names []string
		want  string
		error string
	}{
		{[]string{"root", "nobody"}, " as user root", ""},
		{[]string{"no such user", "root"}, " as user root", ""},
		{[]string{"no such user", "nor this"}, "", `none of the users ["no such user" "nor this"] exists`},
	} {
		t.Run(strings.Join(tt.names, ","), func(t *testing.T) {
			t.Parallel()
			as, err := localpg.FirstAccount(tt.names...)
			if as != tt.want {
				t.Errorf("got %q, want %q", as, tt.want)
			}
			if (err == nil) != (tt.error == "") || err != nil && !strings.Contains(err.Error(), tt.error) {
				t.Errorf("got error %v, want %q", err, tt.error)
			}
		})
	}
}
