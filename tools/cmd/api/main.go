// Command api lists the public surface of the modules that users import, one
// declaration a line, so that a change of it is seen in review:
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

// compare reports what is declared and not in the file, and the other way round.
func compare(name string, lines []string) error {
	data, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	listed := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	if slices.Equal(listed, lines) {
		return nil
	}
	return fmt.Errorf("the public surface is not what %s says (-listed +declared):\n%s\n"+
		"If that is meant, write it anew: cd tools && GOWORK=off go run ./cmd/api; and tell users in CHANGELOG.md",
		name, cmp.Diff(listed, lines))
}
