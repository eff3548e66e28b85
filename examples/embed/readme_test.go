// Package embed has the servers that docs/frameworks.md names.
package embed

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/modfile"
)

// The versions in the page's table are those that go.mod requires, and each line has
// its server.
func TestTableOfFrameworks(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := modfile.Parse("go.mod", b, nil)
	if err != nil {
		t.Fatal(err)
	}
	modules := map[string]string{
		"github.com/go-chi/chi/v5": "chi", "github.com/gin-gonic/gin": "gin", "github.com/labstack/echo/v5": "echo",
		"github.com/gofiber/fiber/v3": "fiber", "github.com/gofiber/fiber/v2": "fiberv2",
	}
	want := map[string]string{}
	for _, r := range mod.Require {
		if name, ok := modules[r.Mod.Path]; ok {
			want[name] = r.Mod.Version
		}
	}
	if len(want) != len(modules) {
		t.Fatalf("go.mod requires %v", want)
	}
	line := regexp.MustCompile(`(?m)^\| [\w ]+ \| (v\S+) \| \[examples/embed/(\w+)\]\(\.\./examples/embed/(\w+)\) \|`)
	for _, page := range []string{"frameworks.md", "frameworks.pt-BR.md"} {
		text, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, m := range line.FindAllStringSubmatch(string(text), -1) {
			got[m[2]] = m[1]
			if m[2] != m[3] {
				t.Errorf("%s: %s", page, strings.TrimSpace(m[0]))
			}
			if _, err := os.Stat(m[3] + "/main_test.go"); err != nil {
				t.Error(err)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-go.mod +table):\n%s", page, diff)
		}
	}
}
