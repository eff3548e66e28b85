package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	t.Parallel()
	const good = "apiVersion: v1\nkind: Service\nspec:\n  ports: [{port: 80}]\n"
	for name, test := range map[string]struct{ text, want string }{
		"good":          {good + "---\n" + good, ""},
		"unknown field": {good + "---\n" + good + "  port: 80\n", `unknown field "spec.port"`},
		"given twice":   {good + "kind: Service\n", `key "kind" already set`},
		"wrong type":    {strings.Replace(good, "80", "[]", 1), "cannot unmarshal"},
		"unknown kind":  {strings.Replace(good, "Service", "Servant", 1), `no kind "Servant"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "x.yaml"), []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			err := run(dir)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "x.yaml")) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
	if err := run(t.TempDir()); err == nil {
		t.Error("an empty folder is no error")
	}
}
