package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// filledInbox is the environment of an inbox that has a done case, a dead
// notification, and something in quarantine.
func filledInbox(t *testing.T, database string) (env map[string]string, done, dead pixmed.Infraction) {
	t.Helper()
	gateway := newGateway(t)
	env = settings(gateway, database, t.TempDir())
	env["PIXMED_ATTEMPTS"] = "1"
	app := newApplication(t, answerWith(http.StatusOK), answerWith(http.StatusTeapot))
	env["PIXMED_FORWARD"], env["PIXMED_FORWARD_SECRETS"] = app.url, forwardSecret
	s := start(t, env)
	done, dead = pixmedtest.NewInfraction(), pixmedtest.NewInfraction(func(i *pixmed.Infraction) { i.ExternalID = "\x1b[2J\u202e"; i.MEDStatus = pixmed.Debited })
	gateway.AddReceipt(done)
	for i, line := range []string{`pixmed_inbox_notifications{state="done"} 1`, `pixmed_inbox_notifications{state="dead"} 1`} {
		if _, err := gateway.Deliver(t.Context(), s.webhook+webhookPath, []pixmed.Infraction{done, dead}[i]); err != nil {
			t.Fatal(err)
		}
		await(t, s.admin+"/metrics", line)
	}
	if a := gateway.Post(t.Context(), s.webhook+webhookPath, []byte("{\"transactionId\": \"\x1b]0;x\a\"")); a.StatusCode != http.StatusOK {
		t.Fatal(a)
	}
	if strings.HasPrefix(database, "postgres") {
		t.Cleanup(func() { s.end(t) }) // the commands work beside a running server
	} else {
		if got := try(t, env, "inbox", "purge", "--older-than", "1d"); got.code != exitFailed || !strings.Contains(got.err, "is open in another process") {
			t.Errorf("beside a running server: %+v", got)
		}
		s.end(t)
	}
	return env, done, dead
}

func TestInbox(t *testing.T) {
	t.Parallel()
	for name, database := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env, done, dead := filledInbox(t, database(t))
			inbox := func(code int, args ...string) outcome {
				t.Helper()
				got := try(t, env, append([]string{"inbox"}, args...)...)
				if got.code != code || strings.ContainsAny(got.out+got.err, "\x1b\a\u202e") {
					t.Errorf("pixmed inbox %s: %+v, want code %d", strings.Join(args, " "), got, code)
				}
				return got
			}
			contains(t, inbox(exitOK, "stats").out, "pending\t0", "done\t1, of those received in the last 24 hours", "dead\t1", "quarantined\t1")
			contains(t, inbox(exitOK, "stats", "--json").out, `{"dead":1,"doneOfLastDay":1,"oldestPendingSeconds":0,"pending":0,"quarantined":1}`)

			list := inbox(exitOK, "list").out
			contains(t, list, "EVENT", done.TransactionID, dead.TransactionID, "ACKNOWLEDGED", "DEBITED", "not forwarded: the application answered 418", "malformed JSON")
			for args, want := range map[string]int{
				"--state dead": 1, "--state done": 1, "--state pending": 0, "--limit 2": 2, "--since 1d": 3, "--until 2026-01-01": 0, "--since 2000-01-01T00:00:00Z": 3,
				"--search " + string(done.EndToEndID): 1,
			} {
				lines := inbox(exitOK, append([]string{"list", "--json"}, strings.Fields(args)...)...).out
				if got := strings.Count(lines, "\n"); got != want {
					t.Errorf("list %s: %d events, want %d: %s", args, got, want, lines)
				}
				for line := range strings.Lines(lines) {
					var e struct{ ID, State string }
					if err := json.Unmarshal([]byte(line), &e); err != nil || e.ID == "" || e.State == "" {
						t.Errorf("%s: %v", line, err)
					}
				}
			}
			contains(t, inbox(exitOK, "show", strings.ToUpper(dead.TransactionID)).out, "state        dead", `external id  "\x1b[2J\u202e"`, "attempts     1", "not forwarded: the application answered 418", `"medStatus": "DEBITED"`)

			id := regexp.MustCompile(`(?m)^(\S+)  quarantined`).FindStringSubmatch(list)[1]
			contains(t, inbox(exitOK, "show", id).out, "state        quarantined", `\u001b]0;x\u0007`)
			contains(t, inbox(exitOK, "show", "--json", id).out, `"state":"quarantined"`)
			contains(t, inbox(exitFailed, "show", "00000000-0000-4000-8000-000000000000").err, "there is no transaction and no notification")

			contains(t, inbox(exitFailed, "replay", id).out, id+"\tleft alone: it is not valid: ")
			contains(t, inbox(exitFailed, "replay", "00000000-0000-4000-8000-000000000000").out, "there is no such notification")
			doneID := regexp.MustCompile(`(?m)^(\S+)  done`).FindStringSubmatch(list)[1]
			contains(t, inbox(exitFailed, "replay", doneID).out, "left alone: it is neither dead nor quarantined")
			contains(t, inbox(exitOK, "replay", "--dead", "--error", "another").err, "0 replayed, 0 left alone")
			dry := inbox(exitOK, "replay", "--dead", "--dry-run", "--error", "418", "--since", "1d")
			contains(t, dry.out, "would be replayed")
			contains(t, dry.err, "1 would be replayed")
			contains(t, inbox(exitOK, "stats").out, "dead\t1")
			contains(t, inbox(exitOK, "replay", "--dead", "--error", "418").err, "1 replayed, 0 left alone")
			if name == "sqlite" { // and now the server works it
				contains(t, inbox(exitOK, "stats").out, "pending\t1", "The oldest that is pending was received ")
				s := start(t, env)
				await(t, s.admin+"/metrics", `pixmed_inbox_notifications{state="done"} 2`)
				s.end(t)
			} else {
				for !strings.Contains(inbox(exitOK, "stats").out, "done\t2") && t.Context().Err() == nil {
					continue
				}
			}
			contains(t, inbox(exitOK, "purge", "--older-than", "1d").out, "notifications deleted: 0")
			contains(t, inbox(exitOK, "purge", "--older-than", "0").out, "notifications deleted: 1") // the other's case is open
			contains(t, inbox(exitOK, "purge", "--older-than", "0", "--include-dead").out, "notifications deleted: 1")
			contains(t, inbox(exitOK, "stats").out, "done\t1", "quarantined\t0")
		})
	}
}

// A newer notification that is done keeps an older one from being replayed, unless
// somebody insists.
func TestInboxReplaySuperseded(t *testing.T) {
	t.Parallel()
	gateway := newGateway(t)
	app := newApplication(t, answerWith(http.StatusTeapot))
	env := settings(gateway, filepath.Join(t.TempDir(), "inbox.db"), t.TempDir())
	maps.Copy(env, map[string]string{"PIXMED_ATTEMPTS": "1", "PIXMED_FORWARD": app.url, "PIXMED_FORWARD_SECRETS": forwardSecret})
	s := start(t, env)
	i := pixmedtest.NewInfraction(func(i *pixmed.Infraction) { i.MEDStatus = pixmed.Debited })
	for n, status := range []pixmed.MEDStatus{pixmed.Debited, pixmed.Cancelled} {
		i.MEDStatus = status
		if _, err := gateway.Deliver(t.Context(), s.webhook+webhookPath, i); err != nil {
			t.Fatal(err)
		}
		await(t, s.admin+"/metrics", []string{`pixmed_inbox_notifications{state="dead"} 1`, `pixmed_inbox_notifications{state="done"} 1`}[n])
	}
	s.end(t)
	if got := try(t, env, "inbox", "replay", "--dead"); got.code != exitFailed || !strings.Contains(got.out, "a newer notification of the transaction is done; look at it, then use --force") {
		t.Errorf("%+v", got)
	}
	if got := try(t, env, "inbox", "replay", "--dead", "--force"); got.code != exitOK || !strings.Contains(got.err, "1 replayed") {
		t.Errorf("%+v", got)
	}
}

func TestInboxMistakes(t *testing.T) {
	t.Parallel()
	none := filepath.Join(t.TempDir(), "none.db")
	id := "00000000-0000-4000-8000-000000000000"
	for name, test := range map[string]struct {
		args []string
		want []string
	}{
		"nothing":      {nil, nil},
		"no such":      {[]string{"stat"}, []string{"pixmed inbox: there is no command of this name; did you mean stats?"}},
		"no file":      {[]string{"stats", "--db", none}, []string{"--db: there is no file " + none}},
		"no id":        {[]string{"show"}, []string{"want an id, and not 0"}},
		"bad id":       {[]string{"show", "\x1b"}, []string{`argument 1: "\"\\x1b\"" is not an id`}},
		"no ids":       {[]string{"replay"}, []string{"no ids: give some, or --dead"}},
		"both":         {[]string{"replay", id, "--dead"}, []string{"--dead: give ids or this, not both"}},
		"no choice":    {[]string{"replay", id, "--error", "x"}, []string{"choose among --dead"}},
		"no age":       {[]string{"purge"}, []string{"--older-than: say how old"}},
		"bad settings": {[]string{"list", "--state", "lost", "--since", "yesterday", "--limit", "0"}, []string{"--state: want pending or done or dead or quarantined", "--since: want a time", "--limit: want"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := try(t, map[string]string{"PIXMED_DB": none}, append([]string{"inbox"}, test.args...)...)
			if got.code != exitUsage {
				t.Errorf("%+v", got)
			}
			contains(t, got.err, test.want...)
		})
	}
	if _, err := os.Stat(none); err == nil {
		t.Error("looking has made a file")
	}
}

func TestSince(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Time{
		"": {}, "2026-01-31": time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC), "2026-01-31T12:00:00-03:00": time.Date(2026, 1, 31, 15, 0, 0, 0, time.UTC),
	} {
		v := newTestValues(t, nil, []string{"--since", text}, listSince)
		if got := v.since(listSince); !got.Equal(want) || v.err() != nil {
			t.Errorf("%q: %v, %v", text, got, v.err())
		}
	}
	v := newTestValues(t, nil, []string{"--since", "2d"}, listSince)
	if ago := time.Since(v.since(listSince)); ago < 2*day || ago > 2*day+time.Minute {
		t.Errorf("2d: %v ago", ago)
	}
}
