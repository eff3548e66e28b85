package main

import (
	"bytes"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// The programs in deploy/receivers take what is forwarded, and nothing else.
func TestReceivers(t *testing.T) {
	t.Parallel()
	for name, command := range map[string][]string{
		"node":   {"node", "receiver.mjs"},
		"python": {"python3", "receiver.py"},
		"php":    {"php", "-S", "127.0.0.1:PORT", "receiver.php"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			to, log := startReceiver(t, command)
			gateway := newGateway(t)
			i := pixmedtest.NewInfraction()
			gateway.AddReceipt(i)
			env := settings(gateway, filepath.Join(t.TempDir(), "inbox.db"), t.TempDir())
			env["PIXMED_FORWARD"], env["PIXMED_FORWARD_SECRETS"] = to, "whsec_bmV3ZXIuLi5uZXdlci4uLm5ld2VyLi4ubmV3ZXI= "+forwardSecret
			env["PIXMED_DEFENCE"], env["PIXMED_REMIND"] = "1h", "59m59.999s"
			s := start(t, env)
			i.ExternalID = "Olá \"mundo\" \u2028 & <b>"
			for n, status := range []pixmed.MEDStatus{pixmed.Acknowledged, pixmed.Debited} {
				i.MEDStatus = status
				if _, err := gateway.Deliver(t.Context(), s.webhook+webhookPath, i); err != nil {
					t.Fatal(err)
				}
				await(t, s.admin+"/metrics", fmt.Sprintf("pixmed_forwards_total{result=\"done\"} %d", n+2)) // after the reminder
			}
			s.end(t)
			contains(t, log.String(), "infraction.acknowledged "+i.TransactionID+" 18.00 ACKNOWLEDGED", "infraction.debited "+i.TransactionID+" 18.00 DEBITED")
			if !regexp.MustCompile("infraction.reminder " + i.TransactionID + " 18.00 ACKNOWLEDGED, due 20\\S+Z\n").MatchString(log.String()) {
				t.Errorf("no reminder: %s", log.String())
			}

			body, now := []byte(`{"type":"infraction.other","data":{"transactionId":"x","value":"1.00","medStatus":""}}`), time.Now()
			key := forwardKeys(t, forwardSecret)
			for what, test := range map[string]struct {
				id, signature string
				at            time.Time
				body          []byte
				status        int
			}{
				"good":              {"msg_1", signature(key, "msg_1", now, body), now, body, http.StatusNoContent},
				"the same again":    {"msg_1", signature(key, "msg_1", now, body), now, body, http.StatusNoContent},
				"another body":      {"msg_2", signature(key, "msg_2", now, body), now, append([]byte(" "), body...), http.StatusUnauthorized},
				"another id":        {"msg_3", signature(key, "msg_2", now, body), now, body, http.StatusUnauthorized},
				"another time":      {"msg_4", signature(key, "msg_4", now.Add(time.Second), body), now, body, http.StatusUnauthorized},
				"old":               {"msg_5", signature(key, "msg_5", now.Add(-time.Hour), body), now.Add(-time.Hour), body, http.StatusUnauthorized},
				"of the future":     {"msg_6", signature(key, "msg_6", now.Add(time.Hour), body), now.Add(time.Hour), body, http.StatusUnauthorized},
				"no signature":      {"msg_7", "", now, body, http.StatusUnauthorized},
				"another version":   {"msg_8", strings.Replace(signature(key, "msg_8", now, body), "v1,", "v2,", 1), now, body, http.StatusUnauthorized},
				"no id":             {"", signature(key, "", now, body), now, body, http.StatusUnauthorized},
				"broken but signed": {"msg_9", signature(key, "msg_9", now, []byte("{")), now, []byte("{"), http.StatusInternalServerError},
			} {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, to, bytes.NewReader(test.body))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("webhook-id", test.id)
				r.Header.Set("webhook-timestamp", strconv.FormatInt(test.at.Unix(), 10))
				r.Header.Set("webhook-signature", test.signature)
				response, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				_ = response.Body.Close()
				if response.StatusCode != test.status {
					t.Errorf("%s: %s, want %d", what, response.Status, test.status)
				}
			}
		})
	}
}

func forwardKeys(t *testing.T, secrets ...string) [][]byte {
	t.Helper()
	return newTestForwarder(t, "http://127.0.0.1:1/", secrets...).keys
}

// startReceiver starts a program in deploy/receivers, and returns where it listens and
// what it says.
func startReceiver(t *testing.T, command []string) (url string, log *lockedBuffer) {
	t.Helper()
	need(t, command[0])
	port := freePort(t)
	command = strings.Split(strings.ReplaceAll(strings.Join(command, "\n"), "PORT", port), "\n")
	env := []string{"PORT=" + port, "PIXMED_FORWARD_SECRETS=" + forwardSecret}
	log = startProgram(t, "127.0.0.1:"+port, env, filepath.Join("..", "..", "deploy", "receivers"), command)
	return "http://127.0.0.1:" + port + "/infractions", log
}
