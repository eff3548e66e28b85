package main

import (
	"log/slog"
	"strings"
	"time"
)

// sdkWords are what the SDK says to those who write programs, each followed by what
// the command says instead.
var sdkWords = []string{
	": free some space, or change sqlite.WithMinFreeDisk", ": free some space",
	"; use package postgres to share an inbox", "; several processes may share an inbox in PostgreSQL",
	", or use WithPollOnly and read its documentation", ", or set --" + databasePooler.flag,
	": drop the schema, or choose another one with WithSchema", ": drop the schema, or use another database",
	"raise its MaxConns (pool_max_conns in the URL)", "set a larger pool_max_conns in the URL",
	"WithDefence: ", "set the deadlines: ",
	"this process was opened without WithDefence", "this process runs without --" + serveRemind.flag,
	" (see WithRetryWait)", "",
	"invalid webhook kept by WithInvalid's callback", "invalid webhook kept in quarantine",
	"WithInvalid callback", "inbox",
}

var wordsReplacer = strings.NewReplacer(sdkWords...)

// inWords returns a text of the SDK's in the words of the command.
func inWords(text string) string { return wordsReplacer.Replace(text) }

// attrInWords does that for the texts of a log line. It writes durations as text,
// which JSON would show in nanoseconds, and leaves out ids that the transaction id
// makes unnecessary.
func attrInWords(_ []string, a slog.Attr) slog.Attr {
	if a.Key == "external_id" || a.Key == "e2e_id" {
		return slog.Attr{}
	}
	switch value := a.Value.Any().(type) {
	case string:
		return slog.String(a.Key, inWords(value))
	case error:
		return slog.String(a.Key, inWords(value.Error()))
	case time.Duration:
		return slog.String(a.Key, value.String())
	}
	return a
}
