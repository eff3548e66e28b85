// Package markdown reads the pages whose code the tests compare with programs.
package markdown

import (
	"os"
	"regexp"
	"testing"
)

// Read returns a file's text.
func Read(tb testing.TB, name string) string {
	tb.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

// Snippets returns a page's blocks of code in a language.
func Snippets(page, language string) (found []string) {
	for _, m := range regexp.MustCompile("(?ms)^```"+regexp.QuoteMeta(language)+"\n(.*?)^```$").FindAllStringSubmatch(page, -1) {
		found = append(found, m[1])
	}
	return found
}
