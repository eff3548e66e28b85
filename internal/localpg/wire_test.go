package localpg_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/internal/localpg"
)

func TestUntilReady(t *testing.T) {
	t.Parallel()
	const (
		trusted = "R\x00\x00\x00\x08\x00\x00\x00\x00"
		ready   = "Z\x00\x00\x00\x05I"
	)
	for _, tt := range []struct {
		name   string
		answer string
		value  string
		error  string
	}{
		{"ready", trusted + ready, "", ""},
		{"others before", trusted + "S\x00\x00\x00\x08a\x00b\x00" + "K\x00\x00\x00\x0c12345678" + ready + "E", "", ""},
		{"row", "D\x00\x00\x00\x0d\x00\x01\x00\x00\x00\x03abc" + ready, "abc", ""},
		{"two columns", "D\x00\x00\x00\x0f\x00\x02\x00\x00\x00\x01a\x00\x00\x00\x00" + ready, "a", ""},
		{"NULL", "D\x00\x00\x00\x0a\x00\x01\xff\xff\xff\xff" + ready, "", ""},
		{"no column", "D\x00\x00\x00\x06\x00\x00" + ready, "", ""},
		{"column cut", "D\x00\x00\x00\x0b\x00\x01\x00\x00\x00\x03a" + ready, "", ""},
		{
			"starting up",
			"E\x00\x00\x00\x37SFATAL\x00C57P03\x00Mthe database system is starting\x00Fx\x00\x00",
			"", "FATAL: the database system is starting (SQLSTATE 57P03)",
		},
		{"password", "R\x00\x00\x00\x08\x00\x00\x00\x03", "", "the server does not trust us: another one, at the same port?"},
		{"HTTP", "HTTP/1.1 400 Bad Request\r\n", "", "not PostgreSQL: a message of 1414811695 bytes"},
		{"too short", "Z\x00\x00\x00\x03", "", "not PostgreSQL: a message of 3 bytes"},
		{"nothing", "", "", "EOF"},
		{"cut in a head", trusted + "Z\x00", "", "unexpected EOF"},
		{"cut in a body", trusted + "Z\x00\x00\x00\x09I", "", "unexpected EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			value, err := localpg.UntilReady(strings.NewReader(tt.answer))
			text := ""
			if err != nil {
				text = err.Error()
			}
			if diff := cmp.Diff([]string{tt.value, tt.error}, []string{value, text}); diff != "" {
				t.Error("(-want +got)\n", diff)
			}
		})
	}
}
