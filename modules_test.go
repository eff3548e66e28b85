package pixmed_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

const modulePath = "github.com/pixmed-go/pixmed"

// Programs that import the SDK compile these modules, and no other.
func TestModulesImported(t *testing.T) {
	t.Parallel()
	want := []string{
		"github.com/go-json-experiment/json",
		"github.com/google/uuid",
		"github.com/hashicorp/go-cleanhttp",
		"github.com/hashicorp/go-retryablehttp",
		modulePath,
		"github.com/segmentio/asm",
	}
	onAMD64 := append(slices.Clone(want), "golang.org/x/sys") // asm asks what the processor can do
	for platform, want := range map[string][]string{
		"linux/amd64": onAMD64, "windows/amd64": onAMD64, "darwin/arm64": want, "linux/arm64": want,
	} {
		t.Run(platform, func(t *testing.T) {
			t.Parallel()
			system, architecture, _ := strings.Cut(platform, "/")
			listed := goCommand(t, ".", []string{"GOOS=" + system, "GOARCH=" + architecture},
				"list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "./...")
			got := strings.Fields(listed)
			slices.Sort(got)
			if diff := gocmp.Diff(want, slices.Compact(got)); diff != "" {
				t.Errorf("modules (-want +got):\n%s", diff)
			}
		})
	}
}

// The flags of package testing would be those of every program.
func TestNoPackageForTestsImported(t *testing.T) {
	t.Parallel()
	for line := range strings.Lines(goCommand(t, ".", nil, "list", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", "./...")) {
		fields := strings.Fields(line)
		for _, imported := range fields[1:] {
			if imported == "testing" || strings.HasPrefix(imported, "testing/") {
				t.Errorf("%s imports %s", fields[0], imported)
			}
		}
	}
}

// What the module graph holds, tests and the tests of others included, is what the
// checksums in go.sum cover. A line here is a decision.
func TestModuleGraph(t *testing.T) {
	t.Parallel()
	want := []string{
		modulePath,
		"github.com/davecgh/go-spew",
		"github.com/fatih/color",
		"github.com/go-json-experiment/json",
		"github.com/google/go-cmp",
		"github.com/google/uuid",
		"github.com/hashicorp/go-cleanhttp",
		"github.com/hashicorp/go-hclog",
		"github.com/hashicorp/go-retryablehttp",
		"github.com/jarcoal/httpmock",
		"github.com/mattn/go-colorable",
		"github.com/mattn/go-isatty",
		"github.com/maxatome/go-testdeep",
		"github.com/segmentio/asm",
		"golang.org/x/sys",
	}
	// Without permission to add to go.mod or go.sum: both have to be committed whole.
	got := strings.Fields(goCommand(t, ".", nil, "list", "-mod=readonly", "-m", "-f", "{{.Path}}", "all"))
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("module graph (-want +got):\n%s", diff)
	}
}

// No module is replaced but the repository's own, each by the folder beside it.
func TestReplacements(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 4 {
		t.Fatalf("only %v found", files)
	}
	for _, file := range append(files, "go.mod") {
		dir := filepath.Dir(file)
		var module struct {
			Replace []struct {
				Old, New struct{ Path, Version string }
			}
		}
		if err := json.Unmarshal([]byte(goCommand(t, dir, nil, "mod", "edit", "-json")), &module); err != nil {
			t.Fatal(err)
		}
		for _, replace := range module.Replace {
			sibling, ours := strings.CutPrefix(replace.Old.Path, modulePath)
			if want := path.Join("..", sibling); !ours || path.Clean(replace.New.Path) != want || dir == "." {
				t.Errorf("%s replaces %s by %s", file, replace.Old.Path, replace.New.Path)
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "go.sum")); err != nil {
			t.Errorf("checksums: %v", err)
		}
	}
}

// goCommand runs go in the module in dir, outside of the workspace.
func goCommand(t *testing.T, dir string, environment []string, arguments ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", arguments...)
	command.Dir = dir
	command.Env = append(os.Environ(), append(environment, "GOWORK=off", "GOFLAGS=")...)
	var complaints strings.Builder
	command.Stderr = &complaints
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", command.Args, err, complaints.String())
	}
	return string(output)
}
