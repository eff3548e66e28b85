package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

func newTestValues(t *testing.T, env map[string]string, args []string, settings ...*setting) *values {
	t.Helper()
	cmd := &cobra.Command{}
	addSettings(cmd, settings...)
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	return newValues(cmd, &process{env: env})
}

// A flag wins over its variable, and an empty variable is as good as none.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	s := &setting{flag: "place", variable: "PIXMED_PLACE", arg: "NAME", value: "default", usage: "a place"}
	for name, test := range map[string]struct {
		env  map[string]string
		args []string
		want string
		name string
		set  bool
	}{
		"neither":          {nil, nil, "default", "--place", false},
		"variable":         {map[string]string{"PIXMED_PLACE": "env"}, nil, "env", "PIXMED_PLACE", true},
		"empty variable":   {map[string]string{"PIXMED_PLACE": ""}, nil, "default", "--place", false},
		"flag":             {nil, []string{"--place", "flag"}, "flag", "--place", true},
		"both":             {map[string]string{"PIXMED_PLACE": "env"}, []string{"--place=flag"}, "flag", "--place", true},
		"flag set to none": {map[string]string{"PIXMED_PLACE": "env"}, []string{"--place="}, "", "--place", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newTestValues(t, test.env, test.args, s)
			if diff := cmp.Diff([]any{test.want, test.name, test.set}, []any{v.text(s), v.name(s), v.isSet(s)}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParsers(t *testing.T) {
	t.Parallel()
	s := &setting{flag: "x", variable: "PIXMED_X", arg: "X", usage: "x"}
	for name, test := range map[string]struct {
		value string
		read  func(*values) any
		want  any
		err   string
	}{
		"seconds":         {"90", func(v *values) any { return v.duration(s, time.Second, day) }, 90 * time.Second, ""},
		"text":            {"1h30m", func(v *values) any { return v.duration(s, time.Second, day) }, 90 * time.Minute, ""},
		"days":            {"400d", func(v *values) any { return v.duration(s, day, 1000*day) }, 400 * day, ""},
		"no time":         {"soon", func(v *values) any { v.duration(s, 0, day); return 0 }, 0, `PIXMED_X: want a time from 0s to 1d, such as 90s, 1h30m, 2d, or 90 for seconds, not "soon"`},
		"negative":        {"-1s", func(v *values) any { v.duration(s, 0, day); return 0 }, 0, "want a time"},
		"too long":        {"2d", func(v *values) any { v.duration(s, 0, day); return 0 }, 0, "want a time"},
		"days without":    {"d", func(v *values) any { v.duration(s, 0, day); return 0 }, 0, "want a time"},
		"a number":        {"7", func(v *values) any { return v.number(s, 7) }, 7, ""},
		"a large number":  {"8", func(v *values) any { v.number(s, 7); return 0 }, 0, `PIXMED_X: want a number from 1 to 7, not "8"`},
		"a choice":        {"b", func(v *values) any { return v.oneOf(s, "a", "b") }, "b", ""},
		"no choice":       {"c", func(v *values) any { v.oneOf(s, "a", "b"); return 0 }, 0, `PIXMED_X: want a or b, not "c"`},
		"a secret's text": {webhookSecret, func(v *values) any { v.oneOf(s, "a", "b"); return 0 }, 0, `not "cana"…`},
		"a switch":        {"1", func(v *values) any { return v.on(s) }, true, ""},
		"no switch":       {"ja", func(v *values) any { v.on(s); return 0 }, 0, "PIXMED_X: want true or false"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newTestValues(t, map[string]string{"PIXMED_X": test.value}, nil, s)
			got := test.read(v)
			if test.err == "" {
				if diff := cmp.Diff(test.want, got); diff != "" || v.err() != nil {
					t.Errorf("%v (-want +got):\n%s", v.err(), diff)
				}
				return
			}
			if err := v.err(); err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), webhookSecret) {
				t.Errorf("%v, want %q", err, test.err)
			}
		})
	}
}

// A secret comes from its variable or from a file, whose last line break is not
// part of it; and no error shows one.
func TestSecrets(t *testing.T) {
	t.Parallel()
	s := &setting{variable: "PIXMED_S", usage: "secrets"}
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, test := range map[string]struct {
		env  map[string]string
		want []string
		err  string
	}{
		"none":      {nil, []string{}, ""},
		"variable":  {map[string]string{"PIXMED_S": webhookSecret + "  " + olderSecret}, []string{webhookSecret, olderSecret}, ""},
		"file":      {map[string]string{"PIXMED_S_FILE": write("good", webhookSecret+"\r\n")}, []string{webhookSecret}, ""},
		"both":      {map[string]string{"PIXMED_S": webhookSecret, "PIXMED_S_FILE": "x"}, nil, "PIXMED_S and PIXMED_S_FILE are both set"},
		"short":     {map[string]string{"PIXMED_S": webhookSecret + " " + webhookSecret[:15]}, nil, "PIXMED_S: secret 2 has fewer than 16 characters"},
		"no file":   {map[string]string{"PIXMED_S_FILE": dir + "/none"}, nil, "PIXMED_S_FILE: want the path of a file that can be read: no such file or directory"},
		"no path":   {map[string]string{"PIXMED_S_FILE": webhookSecret}, nil, "PIXMED_S_FILE: want the path of a file that can be read: "},
		"a URL":     {map[string]string{"PIXMED_S_FILE": "postgres://u:" + webhookSecret + "@h/d"}, nil, "PIXMED_S_FILE: want the path"},
		"folder":    {map[string]string{"PIXMED_S_FILE": dir}, nil, "it is not a regular file"},
		"empty":     {map[string]string{"PIXMED_S_FILE": write("empty", "\n")}, nil, "PIXMED_S_FILE: the file is empty"},
		"too large": {map[string]string{"PIXMED_S_FILE": write("large", strings.Repeat(webhookSecret, 5000))}, nil, "more than 65536 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newTestValues(t, test.env, nil, s)
			got, err := v.several(s, minSecret), v.err()
			if test.err == "" {
				if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
					t.Errorf("%v (-want +got):\n%s", err, diff)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Fatalf("%v, want %q", err, test.err)
			}
			for _, canary := range canaries {
				if strings.Contains(err.Error(), canary[:15]) {
					t.Errorf("a secret is in %v", err)
				}
			}
		})
	}
}
