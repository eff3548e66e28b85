package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/pixmedtest"
)

// The requests of the page get the answers of the page.
func TestRequestsOfThePage(t *testing.T) {
	t.Parallel()
	handler, err := newHandler([]string{"change-me"})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	page, err := os.ReadFile("../../../docs/integration.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "```json\n"+pixmedtest.Sample+"\n```\n") {
		t.Error("integration.md does not show pixmedtest.Sample as infraction.json")
	}
	var said, got strings.Builder
	blocks := strings.Split(string(page), "\n```console\n")[1:]
	for _, block := range blocks {
		block, _, _ = strings.Cut(block, "```")
		said.WriteString(block)
		for _, m := range regexp.MustCompile(`(?m)^\$ post (.*)$`).FindAllStringSubmatch(block, -1) {
			fmt.Fprintf(&got, "$ post %s\n%s", m[1], post(t, server.URL, m[1]))
		}
	}
	if len(blocks) == 0 {
		t.Error("integration.md shows no requests")
	}
	if diff := cmp.Diff(said.String(), got.String()); diff != "" {
		t.Errorf("answers (-page +server):\n%s", diff)
	}
}

// post does what curl does with the arguments, as far as the page uses them, and
// returns what it prints.
func post(t *testing.T, url, arguments string) string {
	t.Helper()
	method, body, header := http.MethodGet, "", http.Header{}
	words := regexp.MustCompile(`'([^']*)'|(\S+)`).FindAllStringSubmatch(arguments, -1)
	for i := 0; i < len(words); i += 2 {
		if i+1 == len(words) {
			t.Fatalf("%s: the last option has no value", arguments)
		}
		value := words[i+1][1] + words[i+1][2]
		switch option := words[i][0]; option {
		case "-H":
			name, value, _ := strings.Cut(value, ": ")
			header.Set(name, value)
		case "-d":
			method, body = http.MethodPost, value
			if value == "@infraction.json" {
				body = strings.ReplaceAll(pixmedtest.Sample, "\n", "") // as curl does
			}
		case "-X":
			method = value
		default:
			t.Fatalf("%s: the option %s is not known here", arguments, option)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s%d\n", answer, resp.StatusCode)
}
