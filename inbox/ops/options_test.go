package ops_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/internal/enginetest"
	"github.com/pixmed-go/pixmed/inbox/ops"
)

func TestNewHandlerFails(t *testing.T) {
	t.Parallel()
	in := enginetest.SQLite(t).Open(t, pixmed.ReceiverFunc(pixmed.Ignore))
	for name, test := range map[string]struct {
		in   *inbox.Inbox
		opts []ops.Option
		want []string
	}{
		"no authentication": {in, nil, []string{"use WithBasicAuth, or WithAuthenticated"}},
		"no inbox":          {nil, []ops.Option{ops.WithAuthenticated()}, []string{"the inbox is nil"}},
		"all at once": {
			in,
			[]ops.Option{{}, ops.WithBasicAuth("", "x"), ops.WithReceipt(nil), ops.WithEnd(nil), ops.WithLocation(nil), ops.WithLogger(nil), ops.WithUser(nil)},
			[]string{"the zero Option", "WithBasicAuth: BasicAuth: the user name is empty", "WithReceipt: the function is nil", "WithEnd: the function is nil", "WithLocation: the location is nil", "WithLogger: the logger is nil", "WithUser: the function is nil"},
		},
		"a colon":        {in, []ops.Option{ops.WithBasicAuth("a:b", "x")}, []string{"has a colon"}},
		"empty password": {in, []ops.Option{ops.WithBasicAuth("a", "")}, []string{"empty"}},
		"twice":          {in, []ops.Option{ops.WithAuthenticated(), ops.WithReadOnly(), ops.WithReadOnly()}, []string{"WithReadOnly is given twice"}},
	} {
		_, err := ops.NewHandler(test.in, test.opts...)
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) || strings.HasPrefix(err.Error(), "ops: ") {
				t.Errorf("%s: %q is not in %v", name, want, err)
			}
		}
	}
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	s := newSite(t, ops.WithReadOnly())
	dead := s.dead(t, errLedger, anything)
	for _, path := range []string{"/", "/case/" + dead.Key.TransactionID, "/event/" + dead.ID} {
		a := s.get(t, path)
		a.mustHold(t, http.StatusOK, "for reading only")
		a.mustNotHold(t, `method="post"`, "/replay", "/answer")
	}
	for _, path := range []string{"/event/" + dead.ID + "/replay", "/case/" + dead.Key.TransactionID + "/answer"} {
		s.get(t, path).mustHold(t, http.StatusNotFound)
		s.post(t, path, nil).mustHold(t, http.StatusNotFound)
	}
	if e, err := s.in.Get(t.Context(), dead.ID); err != nil || e.State != inbox.Dead {
		t.Errorf("it became %v, %v", e, err)
	}
}
