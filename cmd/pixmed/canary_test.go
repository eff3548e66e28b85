package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// TestCredentialsStayWhereTheyAre runs the whole server at the debug level with a
// canary in every credential, through everything that goes well and badly, and
// looks for the canaries in all that it leaves behind: log, answers, metrics,
// operations pages, traces, receipts, and every byte of the database.
func TestCredentialsStayWhereTheyAre(t *testing.T) {
	t.Parallel()
	for name, database := range databases() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testCanaries(t, name, database(t))
		})
	}
}

func testCanaries(t *testing.T, engine, database string) {
	t.Helper()
	gateway := newGateway(t)
	var traced lockedBuffer
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(&traced, r.Body) }))
	t.Cleanup(collector.Close)
	env := settings(gateway, database, t.TempDir())
	env["PIXMED_LOG_LEVEL"], env["PIXMED_TRACES"] = "debug", collector.URL
	databasePassword := "canary-of-the-database"
	application := newApplication(t)
	env["PIXMED_FORWARD"], env["PIXMED_FORWARD_SECRETS"] = application.url, forwardSecret
	if engine == "postgres" {
		u, err := url.Parse(database)
		if err != nil {
			t.Fatal(err)
		}
		if password, ok := u.User.Password(); ok {
			databasePassword = password
		} else { // a server that asks for none
			u.User = url.UserPassword(u.User.Username(), databasePassword)
		}
		env["PIXMED_DB"] = u.String()
	}
	canaries := append(slices.Clone(canaries), databasePassword, strings.TrimPrefix(forwardSecret, "whsec_"))

	i := pixmedtest.NewInfraction()
	left := exercise(t, gateway, env, i, canaries)
	left["traces"] = traced.String()
	for _, r := range application.requests() {
		left["forwarded"] += fmt.Sprint(r.header, string(r.body))
	}
	left["database"] = stored(t, engine, env["PIXMED_DB"])
	receipts, err := filepath.Glob(filepath.Join(env["PIXMED_RECEIPTS"], "*"))
	if err != nil || len(receipts) == 0 {
		t.Errorf("receipts: %v, %v", receipts, err)
	}
	for _, path := range receipts {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
		}
		left["receipts"] += string(b)
	}

	// That there is something to look at, and that it would be found.
	for _, place := range []string{"log", "operations pages", "database"} {
		if !strings.Contains(left[place], i.TransactionID) {
			t.Errorf("%s: not a word of transaction %s", place, i.TransactionID)
		}
	}
	for place, words := range map[string][]string{
		"log": {`"level":"DEBUG"`, "401", "503"}, "traces": {"infraction callback"}, "metrics": {"pixmed_receipt_downloads_total"},
		"answers": {"401 Unauthorized"}, "forwarded": {"infraction.acknowledged"}, "receipts": {"%PDF-"},
	} {
		for _, word := range words {
			if !strings.Contains(left[place], word) {
				t.Errorf("%s: no %q: %s", place, word, left[place])
			}
		}
	}
	for _, place := range slices.Sorted(maps.Keys(left)) {
		for _, canary := range canaries {
			if at := findCredential(left[place], canary); at >= 0 {
				t.Errorf("%s: %q is in it: …%.300s", place, canary, left[place][max(0, at-200):])
			}
		}
	}
}

// findCredential returns where a credential stands in a text, as it is or as it is
// often encoded.
func findCredential(text, credential string) int {
	for _, form := range []string{
		credential, url.QueryEscape(credential), hex.EncodeToString([]byte(credential)),
		base64.StdEncoding.EncodeToString([]byte(credential)),
		base64.StdEncoding.EncodeToString([]byte("ops:" + credential)), // of HTTP Basic
	} {
		if at := strings.Index(text, form); at >= 0 {
			return at
		}
	}
	return -1
}

// exercise runs the server through what goes well and what goes badly, and returns
// what it says, by place.
func exercise(t *testing.T, gateway *pixmedtest.Gateway, env map[string]string, i pixmed.Infraction, canaries []string) map[string]string {
	t.Helper()
	left := make(map[string]string)
	gateway.AddReceipt(i)
	// The gateway tells its clients' credentials back to them, and fails.
	echo := fmt.Appendf(nil, `{"message":"wrong credentials: %s"}`, gatewayKeyText+" "+gatewayPass)
	gateway.Fail(
		pixmedtest.Fault{Status: http.StatusUnauthorized, Body: echo, Header: http.Header{"X-Request-Id": {gatewayKeyText}}},
		pixmedtest.Fault{Status: http.StatusServiceUnavailable, Body: echo, RetryAfter: "0"},
		pixmedtest.Fault{Status: http.StatusFound, Header: http.Header{"Location": {"http://" + gatewayPass + ".example/?" + gatewayKeyText}}},
		pixmedtest.Fault{Cut: true, At: 100},
	)
	s := start(t, env)
	if _, err := gateway.Deliver(t.Context(), s.webhook+webhookPath, i); err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{"{", `{"transactionStatus":"PAID"}`, `{"medStatus":1}`} {
		if a := gateway.Post(t.Context(), s.webhook+webhookPath, []byte(body)); a.StatusCode != http.StatusOK {
			t.Errorf("%s: %v", body, a)
		}
	}
	// Requests that are refused, with credentials where they do not belong.
	for _, canary := range canaries {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.webhook+webhookPath+"?secret="+url.QueryEscape(canary), bytes.NewReader(pixmedtest.Payload(i)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Webhook-Secret", canary+".")
		r.Header.Set("Authorization", "Bearer "+canary)
		r.SetBasicAuth("ops", canary)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(response.Body)
		_ = response.Body.Close()
		left["answers"] += fmt.Sprint(response.Status, response.Header, string(text))
		if response.StatusCode != http.StatusUnauthorized {
			t.Errorf("got %s", response.Status)
		}
	}
	awaitDone(t, s.admin, 1)
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		_, text := get(t, http.DefaultClient, http.MethodGet, s.admin+path, "")
		left["metrics"] += text
	}
	for _, path := range []string{"/ops/", "/ops/case/" + i.TransactionID, "/ops/cases?show=all", "/ops/case/none"} {
		_, text := get(t, http.DefaultClient, http.MethodGet, s.admin+path, opsPass)
		left["operations pages"] += text
		_, text = get(t, http.DefaultClient, http.MethodGet, s.admin+path, opsPass+".")
		left["operations pages"] += text
	}
	s.end(t)
	left["log"] = s.log.String()
	return left
}

// stored returns every byte of a database.
func stored(t *testing.T, engine, database string) string {
	t.Helper()
	var all strings.Builder
	if engine == "sqlite" {
		files, err := filepath.Glob(filepath.Join(filepath.Dir(database), "*")) // that of receipts too
		if err != nil || len(files) == 0 {
			t.Fatalf("the database: %v, %v", files, err)
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(b)
		}
		return all.String()
	}
	db, err := sql.Open("pgx", database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	query := func(query string) (values []string) {
		rows, err := db.QueryContext(context.WithoutCancel(t.Context()), query)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var value string
			if err := rows.Scan(&value); err != nil {
				t.Fatal(err)
			}
			values = append(values, value)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		return values
	}
	for _, table := range query(`SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')`) {
		for _, row := range query("SELECT row_to_json(t)::text FROM " + table + " t") {
			fmt.Fprintln(&all, table, row)
		}
		// Bodies are bytes, which a row shows in hex.
		for _, column := range query(fmt.Sprintf(`SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = '%s'::regclass AND atttypid = 'bytea'::regtype AND attnum > 0`, table)) {
			for _, value := range query("SELECT coalesce(encode(" + column + ", 'escape'), '') FROM " + table) {
				fmt.Fprintln(&all, table, column, value)
			}
		}
	}
	return all.String()
}
