package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newTestRoot() *cobra.Command {
	return newRoot(&process{in: strings.NewReader(""), out: io.Discard, err: io.Discard, raw: io.Discard})
}

// commands are all that the program has, without cobra's own.
func commands(cmd *cobra.Command) (all []*cobra.Command) {
	all = append(all, cmd)
	for _, c := range cmd.Commands() {
		all = append(all, commands(c)...)
	}
	return all
}

func words(cmd *cobra.Command) []string { return strings.Fields(cmd.CommandPath())[1:] }

// secretsSet is an environment with a canary in every secret that any command has.
func secretsSet() map[string]string {
	env := map[string]string{}
	variable := regexp.MustCompile(`(?m)^  (PIXMED_\w+)`)
	for _, cmd := range commands(newTestRoot()) {
		for _, found := range variable.FindAllStringSubmatch(cmd.Annotations[settingAnnotation], -1) {
			env[found[1]] = webhookSecret
		}
	}
	return env
}

// Neither the help nor the text after a mistake shows what a secret is set to.
func TestNoSecretInHelp(t *testing.T) {
	t.Parallel()
	env := secretsSet()
	env["PIXMED_DB"] = "postgres://user:" + webhookSecret + "@db.example/pixmed"
	for _, cmd := range commands(newTestRoot()) {
		for _, args := range [][]string{{"--help"}, {"--no-such-flag"}, {"--no-such-flag=" + webhookSecret}, {"-z" + webhookSecret}, {"--help=" + webhookSecret}} {
			args = append(words(cmd), args...)
			got := try(t, env, args...)
			want := exitUsage
			if args[len(args)-1] == "--help" {
				want = exitOK
				contains(t, got.out, "Usage:\n  "+cmd.CommandPath(), "Exit codes:")
			} else {
				contains(t, got.err, cmd.CommandPath()+": ", "See "+cmd.CommandPath()+" --help.")
			}
			if got.code != want {
				t.Errorf("pixmed %s: exit code %d, want %d: %+v", strings.Join(args, " "), got.code, want, got)
			}
		}
	}
}

// What helps and files tell people to type is a command with flags that there are, and
// every command that does something has an example of itself.
func TestNamedCommands(t *testing.T) {
	t.Parallel()
	texts := map[string]string{}
	for _, pattern := range []string{"deploy/*", "deploy/*/*", "README*.md", "docs/*.md"} {
		files, err := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(pattern)))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", pattern, files, err)
		}
		for _, file := range files {
			if text, err := os.ReadFile(file); err == nil && filepath.Ext(file) != ".png" { // not a folder
				texts[filepath.ToSlash(file)] = string(text)
			}
		}
	}
	for _, cmd := range commands(newTestRoot()) {
		texts[cmd.CommandPath()+" --help"] = cmd.Long + "\n" + cmd.Example
		if runs := cmd.Args != nil || cmd.ValidArgsFunction != nil; runs && !cmd.HasSubCommands() && cmd.Name() != "version" && !strings.Contains(cmd.Example, "  "+cmd.CommandPath()) {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
	}
	found := 0
	for where, text := range texts {
		for _, m := range regexp.MustCompile("(?:^|[\"`(; ])pixmed((?: [a-z]+)+)((?: [^`;|&#\n,.]*)?)").FindAllStringSubmatch(text, -1) {
			cmd, rest, err := newTestRoot().Find(strings.Fields(m[1]))
			if err != nil || cmd.Name() == "pixmed" {
				continue // "pixmed serves", as in a sentence
			}
			found++
			if cmd.HasSubCommands() && len(rest) > 0 {
				t.Errorf("%s: there is no command pixmed%s", where, m[1])
			}
			for _, flag := range regexp.MustCompile(`(?:^| )--([a-z-]+)`).FindAllStringSubmatch(m[2], -1) {
				if cmd.Flags().Lookup(flag[1]) == nil && flag[1] != "help" {
					t.Errorf("%s: %s has no flag --%s", where, cmd.CommandPath(), flag[1])
				}
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d commands were found", found)
	}
}

// One name, one meaning: a flag and a variable of the same setting go together
// everywhere, and no two settings share either.
func TestSettingsAreNamedOnce(t *testing.T) {
	t.Parallel()
	byFlag, byVariable := map[string]string{}, map[string]string{}
	variable := regexp.MustCompile(`\[(PIXMED_[A-Z_]+)\]$`)
	for _, cmd := range commands(newTestRoot()) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			found := variable.FindStringSubmatch(f.Usage)
			if found == nil {
				if strings.Contains(f.Usage, "PIXMED_") {
					t.Errorf("%s --%s: no variable at the end of %q", cmd.CommandPath(), f.Name, f.Usage)
				}
				return
			}
			text := found[1] + " " + f.Usage + " " + f.DefValue
			if before, ok := byFlag[f.Name]; ok && before != text {
				t.Errorf("%s --%s is %q, and %q elsewhere", cmd.CommandPath(), f.Name, text, before)
			}
			if before, ok := byVariable[found[1]]; ok && before != f.Name {
				t.Errorf("%s is of --%s and of --%s", found[1], f.Name, before)
			}
			byFlag[f.Name], byVariable[found[1]] = text, f.Name
			if want := "PIXMED_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_")); found[1] != want {
				t.Errorf("--%s has the variable %s, want %s", f.Name, found[1], want)
			}
		})
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		code int
		want []string
	}{
		"nothing":             {nil, exitUsage, nil},
		"no such command":     {[]string{"versions"}, exitUsage, []string{"pixmed: there is no command of this name; did you mean version?", "See pixmed --help."}},
		"nothing like it":     {[]string{webhookSecret}, exitUsage, []string{"pixmed: there is no command of this name\n"}},
		"an argument":         {[]string{"version", webhookSecret}, exitUsage, []string{"pixmed version takes none, and got 1"}},
		"a flag":              {[]string{"version", "--x"}, exitUsage, []string{"there is no flag --x"}},
		"a letter":            {[]string{"version", "-x=1"}, exitUsage, []string{"there is no flag -x"}},
		"a switch's value":    {[]string{"version", "--help=perhaps"}, exitUsage, []string{"--help does not take this value"}},
		"no name before =":    {[]string{"version", "--=" + webhookSecret}, exitUsage, []string{"cannot be read"}},
		"a terminal's orders": {[]string{"version", "--\x1b]0;x\a"}, exitUsage, []string{`\u001b`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := try(t, nil, test.args...)
			if got.code != test.code || strings.Contains(got.err, "\x1b") {
				t.Errorf("%+v, want code %d", got, test.code)
			}
			contains(t, got.err, test.want...)
		})
	}
}

// The scripts load in their shells, and complete commands and flags.
func TestCompletion(t *testing.T) {
	t.Parallel()
	for shell, check := range map[string][]string{
		"bash": {"bash", "-n"}, "zsh": {"zsh", "-n"}, "fish": {"fish", "--no-execute"}, "powershell": nil,
	} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			got := try(t, nil, "completion", shell)
			if got.code != exitOK || len(got.out) < 1000 || got.err != "" {
				t.Fatalf("%d, %d bytes: %s", got.code, len(got.out), got.err)
			}
			if check == nil {
				return
			}
			if _, err := exec.LookPath(check[0]); err != nil {
				t.Logf("not loaded: %v", err) // no system has all of them
				return
			}
			cmd := exec.CommandContext(t.Context(), check[0], check[1:]...)
			cmd.Stdin = strings.NewReader(got.out)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	if got := try(t, nil, "__complete", "ver"); got.code != exitOK || !strings.HasPrefix(got.out, "version\t") {
		t.Errorf("%+v", got)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	got := try(t, nil, "version")
	if !regexp.MustCompile(`^pixmed \S+ \(go1\.\d+\S*, \w+/\w+(, commit [0-9a-f]+)?\)\n$`).MatchString(got.out) || got.code != exitOK || got.err != "" {
		t.Errorf("%+v", got)
	}
}
