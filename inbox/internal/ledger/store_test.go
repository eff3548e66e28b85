package ledger_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
)

// A commit may refuse the data of some operations, set the error of others by
// itself, and fail as a whole; no operation may come out of it as done that was
// not.
func TestIsolate(t *testing.T) {
	t.Parallel()
	errRefused, errGone, errLocked := errors.New("refused"), errors.New("gone"), errors.New("locked")
	for name, test := range map[string]struct {
		ops  []string
		gone bool
		want []string // what becomes of each
		err  error
	}{
		"all well":               {[]string{"a", "b"}, false, []string{"done", "done"}, nil},
		"one refused":            {[]string{"a", "bad", "b"}, false, []string{"done", "kept", "done"}, nil},
		"alone and refused":      {[]string{"bad"}, false, []string{"kept"}, nil},
		"refused beside locked":  {[]string{"bad", "locked", "a"}, false, []string{"kept", "locked", "done"}, nil},
		"nothing to keep":        {[]string{"a", "bad settlement"}, false, []string{"done", "refused"}, nil},
		"alone, nothing to keep": {[]string{"bad settlement"}, false, []string{""}, errRefused},
		"cannot be kept":         {[]string{"a", "hopeless"}, false, []string{"done", "refused"}, nil},
		"gone":                   {[]string{"a", "bad"}, true, []string{"", ""}, errGone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var done []string
			ops := make([]*ledger.Op, len(test.ops))
			for i, id := range test.ops {
				ops[i] = &ledger.Op{TransactionID: id, New: &ledger.Event{ID: id, Raw: []byte(id)}}
				if id == "bad settlement" {
					ops[i].New = nil
				}
			}
			commit := func(ops []*ledger.Op) error {
				if test.gone {
					return errGone
				}
				for _, op := range ops {
					op.Err = nil
					if op.TransactionID == "locked" {
						op.Err = errLocked
					}
					if op.TransactionID == "bad" || op.TransactionID == "bad settlement" || op.TransactionID == "hopeless" ||
						(op.Quarantine != nil && op.Quarantine.ID == "hopeless") {
						return errRefused
					}
				}
				for _, op := range ops {
					if op.Err == nil {
						done = append(done, op.TransactionID)
					}
				}
				return nil
			}
			err := ledger.Isolate(ops, func(err error) bool { return errors.Is(err, errRefused) }, commit)
			if !errors.Is(err, test.err) {
				t.Errorf("error %v, want %v", err, test.err)
			}
			got := make([]string, len(ops))
			for i, op := range ops {
				switch {
				case op.Kept:
					got[i] = "kept"
				case op.Err != nil:
					got[i] = op.Err.Error()
				case slices.Contains(done, op.TransactionID):
					got[i] = "done"
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
