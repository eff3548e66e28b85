// Command rehearse tries a release out before its tags are pushed, which cannot be
// taken back: it packs the modules at HEAD under the version that they require of
// each other, as the module proxy will, runs a program that gets them from there,
// installs cmd/pixmed as its users do, and has that receive, forward and be killed.
// It needs what cmd/pixmed's tests need: Linux, Node and PostgreSQL's programs.
//
//	cd tools && GOWORK=off go run ./cmd/rehearse
//
// It ignores what is not committed.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/zip"
)

const root = "github.com/pixmed-go/pixmed"

// released are the directories of the modules to tag, in the order of their tags: a
// module comes after those that it requires.
var released = []string{"", "inbox", "cmd/pixmed"}

func main() {
	if err := run(".."); err != nil {
		fmt.Fprintln(os.Stderr, "rehearse:", err)
		os.Exit(1)
	}
}

func run(repository string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	tmp, err := os.MkdirTemp("", "rehearse")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if repository, err = filepath.Abs(repository); err != nil {
		return err
	}

	version, err := nextVersion(repository)
	if err != nil {
		return err
	}
	proxy := filepath.Join(tmp, "proxy")
	for _, dir := range released {
		released := module.Version{Path: path.Join(root, dir), Version: version}
		if err := pack(proxy, repository, dir, released); err != nil {
			return fmt.Errorf("%s: %w", released, err)
		}
		fmt.Println("packed", released)
	}
	environment, err := consumersEnvironment(ctx, tmp, proxy, repository)
	if err != nil {
		return err
	}
	if err := consume(ctx, tmp, environment, repository, version); err != nil {
		return err
	}
	installed, err := install(ctx, tmp, environment, version)
	if err != nil {
		return err
	}
	if err := accept(ctx, repository, installed); err != nil {
		return err
	}
	fmt.Println("\nTo release this commit, after the rest of docs/releasing.md:")
	for _, dir := range released {
		fmt.Println("  git tag", path.Join(dir, version))
	}
	return nil
}

// nextVersion reads it from the last module, which requires all the others, and
// fails if the modules do not agree on it.
func nextVersion(repository string) (string, error) {
	version := ""
	for i, dir := range released {
		name := filepath.Join(repository, dir, "go.mod")
		data, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		file, err := modfile.ParseLax(name, data, nil)
		if err != nil {
			return "", err
		}
		for _, before := range released[:i] {
			sibling := path.Join(root, before)
			at := slices.IndexFunc(file.Require, func(r *modfile.Require) bool { return r.Mod.Path == sibling })
			if at < 0 {
				continue
			}
			required := file.Require[at].Mod.Version
			if version == "" {
				version = required
			}
			if required != version {
				return "", fmt.Errorf("%s requires %s %s, another module %s", name, sibling, required, version)
			}
		}
	}
	if version == "" {
		return "", fmt.Errorf("no module requires %s", root)
	}
	return version, nil
}

// pack writes the module's files where a GOPROXY of the file system has them.
func pack(proxy, repository, dir string, m module.Version) error {
	versions := filepath.Join(proxy, filepath.FromSlash(m.Path), "@v")
	if err := os.MkdirAll(versions, 0o755); err != nil {
		return err
	}
	archive, err := os.Create(filepath.Join(versions, m.Version+".zip"))
	if err != nil {
		return err
	}
	if err := zip.CreateFromVCS(archive, m, repository, "HEAD", dir); err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return err
	}
	mod, err := os.ReadFile(filepath.Join(repository, dir, "go.mod"))
	if err != nil {
		return err
	}
	info, err := json.Marshal(map[string]any{"Version": m.Version, "Time": time.Now().UTC()})
	if err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		m.Version + ".mod":  mod,
		m.Version + ".info": info,
		"list":              []byte(m.Version + "\n"),
	} {
		if err := os.WriteFile(filepath.Join(versions, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// consumersEnvironment is that of a user whose modules come from the proxy.
func consumersEnvironment(ctx context.Context, tmp, proxy, repository string) ([]string, error) {
	settings, err := output(ctx, repository, os.Environ(), "go", "env", "GOMODCACHE", "GOPROXY")
	if err != nil {
		return nil, err
	}
	downloaded, proxies, _ := strings.Cut(strings.TrimSpace(settings), "\n")
	return append(os.Environ(),
		"GOWORK=off",
		// Its own, so that the rehearsed version is not taken for the released one later.
		"GOMODCACHE="+filepath.Join(tmp, "modules"),
		"GOFLAGS=-modcacherw",
		"GOPROXY="+strings.Join([]string{fileURL(proxy), fileURL(filepath.Join(downloaded, "cache", "download")), proxies}, ","),
		"GONOSUMDB="+root+","+root+"/*",
	), nil
}

// consume runs examples/quickstart as the program of a user: in a module of its own,
// which gets pixmed's modules from the proxy and has none of their replacements.
func consume(ctx context.Context, tmp string, environment []string, repository, version string) error {
	consumer := filepath.Join(tmp, "consumer")
	if err := os.CopyFS(consumer, os.DirFS(filepath.Join(repository, "examples", "quickstart"))); err != nil {
		return err
	}
	tests, err := filepath.Glob(filepath.Join(consumer, "*_test.go")) // they use the examples' own helpers
	if err != nil {
		return err
	}
	for _, test := range tests {
		if err := os.Remove(test); err != nil {
			return err
		}
	}
	for _, command := range [][]string{
		{"go", "mod", "init", "example.com/consumer"},
		{"go", "get", root + "@" + version, root + "/inbox@" + version},
		{"go", "mod", "tidy"},
		{"go", "run", "."},
	} {
		if err := show(ctx, consumer, environment, command...); err != nil {
			return err
		}
	}
	listed, err := output(ctx, consumer, environment, "go", "list", "-m", "-f", "{{.Path}} {{.Version}} {{.Replace}}", root, root+"/inbox")
	if err != nil {
		return err
	}
	want := fmt.Sprintf("%s %s <nil>\n%s/inbox %s <nil>\n", root, version, root, version)
	if listed != want {
		return fmt.Errorf("the consumer got\n%sand not\n%s", listed, want)
	}
	return nil
}

// install installs cmd/pixmed from the proxy, in an empty folder, and returns where.
func install(ctx context.Context, tmp string, environment []string, version string) (program string, err error) {
	empty, bin := filepath.Join(tmp, "empty"), filepath.Join(tmp, "bin")
	if err := os.Mkdir(empty, 0o755); err != nil {
		return "", err
	}
	environment = append(environment, "GOBIN="+bin)
	if err := show(ctx, empty, environment, "go", "install", root+"/cmd/pixmed@"+version); err != nil {
		return "", err
	}
	program = filepath.Join(bin, "pixmed")
	printed, err := output(ctx, empty, environment, program, "version")
	if err != nil {
		return "", err
	}
	fmt.Print("$ pixmed version\n", printed)
	if !strings.HasPrefix(printed, "pixmed "+version+" ") {
		return "", fmt.Errorf("what was installed is %q, and not version %s", printed, version)
	}
	return program, nil
}

// accept runs cmd/pixmed's acceptance test on what was installed.
func accept(ctx context.Context, repository, program string) error {
	const test = "TestAcceptance"
	command := []string{"go", "test", "-count=1", "-v", "-run", "^" + test + "$", "./cmd/pixmed"}
	fmt.Println("$", strings.Join(command, " "))
	printed, err := output(ctx, repository, append(os.Environ(), "GOWORK=", "CI=true", "PIXMED_TEST_INSTALLED="+program), command[0], command[1:]...)
	for line := range strings.Lines(printed) {
		if strings.Contains(line, "--- ") || err != nil {
			fmt.Print(line)
		}
	}
	if err == nil && !strings.Contains(printed, "--- PASS: "+test+"/postgres") {
		err = fmt.Errorf("%s did not run", test)
	}
	return err
}

// show runs a command, and prints it and what it prints.
func show(ctx context.Context, dir string, environment []string, command ...string) error {
	fmt.Println("$", strings.Join(command, " "))
	printed, err := output(ctx, dir, environment, command[0], command[1:]...)
	if err != nil {
		return err
	}
	fmt.Print(printed)
	return nil
}

// output returns what the command prints, and in the error what it complains about:
// go tells of every download there.
func output(ctx context.Context, dir string, environment []string, name string, arguments ...string) (string, error) {
	var printed, complaints strings.Builder
	command := exec.CommandContext(ctx, name, arguments...)
	command.Dir, command.Env, command.Stdout, command.Stderr = dir, environment, &printed, &complaints
	if err := command.Run(); err != nil {
		return printed.String(), fmt.Errorf("%s: %w\n%s", strings.Join(command.Args, " "), err, complaints.String())
	}
	return printed.String(), nil
}

func fileURL(name string) string {
	slashed := filepath.ToSlash(name)
	if !strings.HasPrefix(slashed, "/") {
		slashed = "/" + slashed // a drive
	}
	return "file://" + slashed
}
