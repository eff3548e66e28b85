package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestInboxList(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *filled) {
		t.Helper()
		contains(t, f.inbox(t, exitOK, "list").out, "EVENT", f.open.TransactionID, f.dead.TransactionID, f.deadEvent, "ACKNOWLEDGED", "1234.56", `the application answered 418 \x1b]0;x\a`, "malformed JSON")
		for args, want := range map[string]int{
			"--state dead": 1, "--state done": 3, "--state pending": 0, "--state resolved": 0, "--limit 2": 2, "--since 1d": 5, "--until 2026-01-01": 0, "--since 2000-01-01T00:00:00Z": 5,
			"--search " + string(f.open.EndToEndID): 1, "--error 418": 1, "--error JSON": 1,
		} {
			lines := f.inbox(t, exitOK, append([]string{"list", "--json"}, strings.Fields(args)...)...).out
			if got := strings.Count(lines, "\n"); got != want {
				t.Errorf("list %s: %d notifications, want %d: %s", args, got, want, lines)
			}
			for line := range strings.Lines(lines) {
				var e struct{ ID, State string }
				if err := json.Unmarshal([]byte(line), &e); err != nil || e.ID == "" || e.State == "" {
					t.Errorf("%s: %v", line, err)
				}
			}
		}
	})
}
