// Command api lists what the modules that users import export, one declaration per
// line, so that a review shows every change to it:
//
//	cd tools && GOWORK=off go run ./cmd/api          # write ../api
//	cd tools && GOWORK=off go run ./cmd/api -check   # fail if ../api is not what it would write
package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
)

// published are the directories of the modules with an API, and their files.
var published = []struct{ dir, file string }{
	{".", "pixmed.txt"},
	{"inbox", "inbox.txt"},
}

func main() {
	check := flag.Bool("check", false, "compare with the files instead of writing them")
	root := flag.String("C", "..", "the repository's `directory`")
	flag.Parse()
	if err := run(*root, *check); err != nil {
		fmt.Fprintln(os.Stderr, "api:", err)
		os.Exit(1)
	}
}

func run(root string, check bool) error {
	for _, module := range published {
		lines, err := listModule(filepath.Join(root, module.dir))
		if err != nil {
			return err
		}
		name := filepath.Join(root, "api", module.file)
		if check {
			err = compare(name, lines)
		} else {
			err = write(name, lines)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func write(name string, lines []string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}

// compare returns an error that shows what is declared but not listed, and the
// reverse.
func compare(name string, lines []string) error {
	data, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	listed := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	if slices.Equal(listed, lines) {
		return nil
	}
	return fmt.Errorf("the exported API differs from %s (-listed +declared):\n%s\n"+
		"If you mean it, update the list with cd tools && GOWORK=off go run ./cmd/api, and tell users in CHANGELOG.md",
		name, cmp.Diff(listed, lines))
}
