package docs

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pixmed-go/pixmed/examples/internal/markdown"
)

const folder = "../../docs/"

// pages are the pages that this test answers for, and whether they show code.
var pages = map[string]bool{
	"README.md":              false,
	"compatibility.md":       false,
	"compatibility.pt-BR.md": false,
	"design.md":              false,
	"errors.md":              false,
	"errors.pt-BR.md":        false,
	"frameworks.md":          true,
	"frameworks.pt-BR.md":    true,
	"inbox.md":               true,
	"inbox.pt-BR.md":         true,
	"integration.md":         true,
	"integracao.pt-BR.md":    true,
	"med.md":                 true,
	"med.pt-BR.md":           true,
	"migrating.md":           true,
	"releasing.md":           false,
	"reliability.md":         false,
	"security.md":            true,
	"security.pt-BR.md":      true,
	"serverless.md":          true,
	"serverless.pt-BR.md":    true,
}

// elsewhere are pages in other folders, whose links and width are checked too.
var elsewhere = []string{"../CHANGELOG.md", "../CONTRIBUTING.md", "../SECURITY.md", "../deploy/README.md"}

// translations are the pages in Portuguese, by those in English.
var translations = map[string]string{
	"compatibility.md": "compatibility.pt-BR.md",
	"errors.md":        "errors.pt-BR.md",
	"frameworks.md":    "frameworks.pt-BR.md",
	"inbox.md":         "inbox.pt-BR.md",
	"integration.md":   "integracao.pt-BR.md",
	"med.md":           "med.pt-BR.md",
	"security.md":      "security.pt-BR.md",
	"serverless.md":    "serverless.pt-BR.md",
}

// Every Go snippet of a page must be, line by line, in a program or test that
// compiles with everything else.
func TestSnippetsCompile(t *testing.T) {
	t.Parallel()
	var files []string
	for _, programs := range []string{"*/*.go", "../gorm/*.go", "../serverless/*.go"} {
		found, err := filepath.Glob(programs)
		if err != nil || len(found) == 0 {
			t.Fatalf("no programs in %s: %v", programs, err)
		}
		files = append(files, found...)
	}
	var programs strings.Builder
	for _, file := range files {
		programs.WriteString("\n" + markdown.Read(t, file))
	}
	for page, hasCode := range pages {
		found := markdown.Snippets(readPage(t, page), "go")
		if hasCode != (len(found) > 0) {
			t.Errorf("%s has %d Go snippets", page, len(found))
		}
		for _, snippet := range found {
			if !strings.Contains(programs.String(), "\n"+snippet) {
				t.Errorf("%s has a snippet that is in no program of examples:\n%s", page, snippet)
			}
		}
	}
}

// A page in Portuguese has the code of the one in English, and its tables have the
// same names and numbers.
func TestTranslationsAgree(t *testing.T) {
	t.Parallel()
	for english, portuguese := range translations {
		markdown.CheckTranslation(t, folder+english, folder+portuguese)
	}
}

// Portuguese pages lead to Portuguese pages, where there are any.
func TestPortugueseLinks(t *testing.T) {
	t.Parallel()
	check := func(name, page, twin string) {
		for _, m := range regexp.MustCompile(`\]\((?:docs/)?([\w.-]+\.md)`).FindAllStringSubmatch(page, -1) {
			if translation, ok := translations[m[1]]; ok && m[1] != twin {
				t.Errorf("%s leads to %s: there is %s", name, m[1], translation)
			}
		}
	}
	for english, portuguese := range translations {
		check(portuguese, readPage(t, portuguese), english)
	}
	check("README.pt-BR.md", readPage(t, "../README.pt-BR.md"), "")
}

// A test that a page names as its witness must exist.
func TestNamedTestsExist(t *testing.T) {
	t.Parallel()
	var code strings.Builder
	err := filepath.WalkDir("../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		code.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Z][A-Za-z0-9]*)`")
	for page := range pages {
		for _, m := range named.FindAllStringSubmatch(readPage(t, page), -1) {
			if !strings.Contains(code.String(), "\nfunc "+m[1]+"(") {
				t.Errorf("%s names %s, which is no test", page, m[1])
			}
		}
	}
}

// A file that design.md names must exist.
func TestNamedFilesExist(t *testing.T) {
	t.Parallel()
	named := regexp.MustCompile("`([a-z0-9_*/]+\\.go)`").FindAllStringSubmatch(readPage(t, "design.md"), -1)
	if len(named) == 0 {
		t.Fatal("design.md names no file")
	}
	for _, m := range named {
		if found, err := filepath.Glob("../../" + m[1]); err != nil || len(found) == 0 {
			t.Errorf("design.md names %s, which is not there", m[1])
		}
	}
}

// A file of these packages has its tests beside it, as CONTRIBUTING.md says.
func TestFilesHaveTwins(t *testing.T) {
	t.Parallel()
	exempt := regexp.MustCompile(`^doc\.go$|_test\.go$|_(unix|windows|linux)\.go$`)
	for _, folder := range []string{".", "inbox", "inbox/sqlite", "inbox/postgres", "inbox/ops"} {
		files, err := filepath.Glob("../../" + folder + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("%s has %d files, %v", folder, len(files), err)
		}
		for _, file := range files {
			if exempt.MatchString(filepath.Base(file)) {
				continue
			}
			if twin := strings.TrimSuffix(file, ".go") + "_test.go"; !slices.Contains(files, twin) {
				t.Errorf("%s is not there", twin)
			}
		}
	}
}

// Links to files of the repository lead to files, and to headings that exist.
func TestLinksLead(t *testing.T) {
	t.Parallel()
	for _, page := range slices.AppendSeq(elsewhere, maps.Keys(pages)) {
		markdown.CheckLinks(t, folder+page)
	}
}

// Prose fits a terminal; tables and code may be wider.
func TestProseFits(t *testing.T) {
	t.Parallel()
	for _, page := range slices.AppendSeq(elsewhere, maps.Keys(pages)) {
		markdown.CheckWidth(t, folder+page)
	}
}

// Every error that a caller may check is in errors.md.
func TestErrorsAreListed(t *testing.T) {
	t.Parallel()
	page := readPage(t, "errors.md")
	for _, surface := range []string{"pixmed.txt", "inbox.txt"} {
		for _, m := range regexp.MustCompile(`(?m)^var (Err\w+) error$`).FindAllStringSubmatch(markdown.Read(t, "../../api/"+surface), -1) {
			if !strings.Contains(page, "`"+m[1]+"`") {
				t.Errorf("errors.md does not name %s of api/%s", m[1], surface)
			}
		}
	}
}

// The flags and variables of cmd/pixmed that pages name are there.
func TestNamedSettingsExist(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../cmd/pixmed/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no program: %v", err)
	}
	exist := map[string]bool{
		"--help": true, "--no-cpu-throttling": true, "--min-instances": true, // of gcloud
		"--repo": true, "--dead": true, // of gh, and of the past
	}
	setting := regexp.MustCompile(`flag: "([a-z-]+)"|variable: "(PIXMED_[A-Z_]+)"`)
	for _, file := range files {
		for _, m := range setting.FindAllStringSubmatch(markdown.Read(t, file), -1) {
			exist["--"+m[1]], exist[m[2]], exist[m[2]+"_FILE"] = true, true, true
		}
	}
	named := regexp.MustCompile(`--[a-z]+(?:-[a-z]+)*|PIXMED_[A-Z_]*[A-Z]`)
	for _, page := range slices.AppendSeq(append(elsewhere, "../README.md", "../README.pt-BR.md"), maps.Keys(pages)) {
		for _, name := range named.FindAllString(readPage(t, page), -1) {
			if !exist[name] && !strings.HasPrefix(name, "PIXMED_TEST_") {
				t.Errorf("%s names %s, which cmd/pixmed does not have", page, name)
			}
		}
	}
}

// Workflows run code of others at a commit, not at a tag that can be moved, and may
// write nothing unless a job says so.
func TestWorkflows(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../.github/workflows/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no workflows: %v", err)
	}
	pinned := regexp.MustCompile(`^\S+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
	for _, file := range files {
		workflow := markdown.Read(t, file)
		for _, m := range regexp.MustCompile(`(?m)^\s*(?:- )?uses: (.*)$`).FindAllStringSubmatch(workflow, -1) {
			if !pinned.MatchString(m[1]) {
				t.Errorf("%s: %s is not pinned by commit, with its version behind", file, m[1])
			}
		}
		if !strings.Contains(workflow, "\npermissions:\n  contents: read\n\n") {
			t.Errorf("%s: what it may do is not limited to reading", file)
		}
	}
}

func readPage(t *testing.T, name string) string {
	t.Helper()
	return markdown.Read(t, folder+name)
}
