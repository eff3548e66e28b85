// Command licences lists what the modules of the repository depend on and under
// which licence, and fails if a licence is not allowed:
//
//	cd tools && GOWORK=off go run ./cmd/licences          # write ../docs/licences.md
//	cd tools && GOWORK=off go run ./cmd/licences -check   # fail if it is not what it would write
//
// It reads the licence files at the root of each module that a go.mod requires, which
// covers every platform and the tests. It skips the tools module, which is linked
// into no program.
package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/google/licensecheck"
	"golang.org/x/mod/modfile"
)

const module = "github.com/pixmed-go/pixmed"

// sections are the modules, in order: each lists the dependencies that none before it
// has.
var sections = []struct{ dir, title, note string }{
	{".", "The SDK", "What a program gets that imports pixmed. go-cmp and httpmock are for tests, and are not compiled into it."},
	{"inbox", "The inbox", "What a program gets in addition that imports `inbox/sqlite` or `inbox/postgres`: of the drivers, only its own."},
	{"cmd/pixmed", "The program", "What `cmd/pixmed` is linked with besides; yaml and standard-webhooks are for its tests."},
	{"examples", "The examples", "Frameworks and libraries of the programs in `examples`; the SDK imports none of them."},
	{"benchmarks", "The benchmarks", "The peers that `benchmarks` measures, and what draws the plots; nobody imports them."},
}

// allowed are the licences, by SPDX identifier, of modules that may be linked into a
// program under any licence and distributed with it.
var allowed = []string{
	"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC-BY-4.0", "CC0-1.0", "FTL", "ISC", "MIT", "MIT-0", "OFL-1.1", "PostgreSQL", "Unlicense",
	"Public-Domain", // not an SPDX identifier: dedicated to the public by its authors
	"MPL-2.0",       // with a duty, which the page explains
}

// known are the licences of files, by module and name, that do not contain the text
// of one.
var known = map[string]string{
	"github.com/ajstarks/svgo LICENSE-link.txt":    "CC-BY-4.0",
	"github.com/aws/aws-lambda-go LICENSE-SUMMARY": "",              // which of the other two files is for what
	"github.com/golang/freetype LICENSE":           "FTL",           // or GPL-2.0, at the user's choice
	"modernc.org/memory LICENSE-LOGO":              "",              // where a picture comes from, which is not compiled
	"modernc.org/sqlite LICENSE-SQLITE":            "Public-Domain", // SQLite's dedication to the public domain
}

// minCovered is the percentage of a file's words that must be the text of known
// licences, so that no unknown one hides between them. The rest are names and
// headings.
const minCovered = 40

func main() {
	check := flag.Bool("check", false, "compare with the page instead of writing it")
	root := flag.String("C", "..", "the repository's `directory`")
	flag.Parse()
	if err := run(*root, *check); err != nil {
		fmt.Fprintln(os.Stderr, "licences:", err)
		os.Exit(1)
	}
}

func run(root string, check bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	page, err := build(ctx, root)
	if err != nil {
		return err
	}
	name := filepath.Join(root, "docs", "licences.md")
	if !check {
		return os.WriteFile(name, page, 0o644)
	}
	written, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if !bytes.Equal(written, page) {
		return errors.New("docs/licences.md does not list the present dependencies; update it with " +
			"cd tools && GOWORK=off go run ./cmd/licences")
	}
	return nil
}

type dependency struct {
	Path, Version string
	Direct        bool
	Licences      []string
}

type section struct {
	Dir, Title, Note string
	Dependencies     []dependency
}

//go:embed licences.md.tmpl
var pageText string

var page = template.Must(template.New("licences").Funcs(template.FuncMap{"join": strings.Join}).Parse(pageText))

func build(ctx context.Context, root string) ([]byte, error) {
	var list []section
	var problems []error
	seen := map[string]bool{}
	for _, s := range sections {
		dependencies, err := dependenciesOf(ctx, filepath.Join(root, s.dir))
		if err != nil {
			return nil, err
		}
		dependencies = slices.DeleteFunc(dependencies, func(d dependency) bool { return seen[d.Path] })
		for _, d := range dependencies {
			seen[d.Path] = true
			problems = append(problems, judge(d))
		}
		list = append(list, section{s.dir, s.title, s.note, dependencies})
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := page.Execute(&out, list); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func judge(d dependency) error {
	if len(d.Licences) == 0 {
		return fmt.Errorf("%s %s: no licence found", d.Path, d.Version)
	}
	for _, licence := range d.Licences {
		if !slices.Contains(allowed, licence) {
			return fmt.Errorf("%s %s: %s is not an allowed licence", d.Path, d.Version, licence)
		}
	}
	return nil
}

// dependenciesOf returns what the module in dir requires, with licences, except the
// repository's own modules.
func dependenciesOf(ctx context.Context, dir string) ([]dependency, error) {
	name := filepath.Join(dir, "go.mod")
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	file, err := modfile.Parse(name, data, nil)
	if err != nil {
		return nil, err
	}
	var dependencies []dependency
	arguments := []string{"mod", "download", "-json"}
	for _, require := range file.Require {
		if require.Mod.Path == module || strings.HasPrefix(require.Mod.Path, module+"/") {
			continue
		}
		dependencies = append(dependencies, dependency{Path: require.Mod.Path, Version: require.Mod.Version, Direct: !require.Indirect})
		arguments = append(arguments, require.Mod.Path+"@"+require.Mod.Version)
	}
	slices.SortFunc(dependencies, func(a, b dependency) int { return strings.Compare(a.Path, b.Path) })
	command := exec.CommandContext(ctx, "go", arguments...)
	command.Dir, command.Env, command.Stderr = dir, append(os.Environ(), "GOWORK=off"), os.Stderr
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("go mod download in %s: %w", dir, err)
	}
	dirs := map[string]string{}
	for decoder := json.NewDecoder(bytes.NewReader(output)); decoder.More(); {
		var downloaded struct{ Path, Dir string }
		if err := decoder.Decode(&downloaded); err != nil {
			return nil, err
		}
		dirs[downloaded.Path] = downloaded.Dir
	}
	var problems []error
	for i, d := range dependencies {
		if dependencies[i].Licences, err = licencesIn(d.Path, os.DirFS(dirs[d.Path])); err != nil {
			problems = append(problems, fmt.Errorf("%s %s: %w", d.Path, d.Version, err))
		}
	}
	return dependencies, errors.Join(problems...)
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|unlicense)`)

// licencesIn identifies the licences in the files at a module's root. It fails on a
// file that is named like a licence and is mostly something else, so that none is
// overlooked.
func licencesIn(path string, module fs.FS) ([]string, error) {
	entries, err := fs.ReadDir(module, ".")
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	var problems []error
	for _, entry := range entries {
		if entry.IsDir() || !licenceFile.MatchString(entry.Name()) || strings.HasSuffix(entry.Name(), ".go") {
			continue
		}
		if licence, ok := known[path+" "+entry.Name()]; ok {
			found[licence] = true
			continue
		}
		text, err := fs.ReadFile(module, entry.Name())
		if err != nil {
			return nil, err
		}
		coverage := licensecheck.Scan(text)
		if coverage.Percent < minCovered {
			problems = append(problems, fmt.Errorf("%s: only %.0f %% of it is the text of known licences, not %d %%", entry.Name(), coverage.Percent, minCovered))
		}
		for _, match := range coverage.Match {
			found[match.ID] = true
		}
	}
	delete(found, "")
	return slices.Sorted(maps.Keys(found)), errors.Join(problems...)
}
