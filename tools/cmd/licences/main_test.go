package main

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestLicencesIn(t *testing.T) {
	t.Parallel()
	mit, err := os.ReadFile("../../../LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		path  string
		files map[string]string
		want  []string
		err   string
	}{
		{name: "one", files: map[string]string{"LICENSE": string(mit), "README.md": "text"}, want: []string{"MIT"}},
		{name: "British", files: map[string]string{"Licence.txt": string(mit)}, want: []string{"MIT"}},
		{name: "none", files: map[string]string{"README.md": "text", "vendored/LICENSE": string(mit)}},
		{name: "a program's source", files: map[string]string{"license.go": "package licence"}},
		{
			name:  "unknown",
			files: map[string]string{"LICENSE": string(mit), "COPYING": "All rights reserved. Ask us for a licence."},
			want:  []string{"MIT"},
			err:   "COPYING: only 0 % of it is the text of known licences",
		},
		{
			name:  "read by hand",
			path:  "modernc.org/sqlite",
			files: map[string]string{"LICENSE": string(mit), "LICENSE-SQLITE": "Public domain."},
			want:  []string{"MIT", "Public-Domain"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			module := fstest.MapFS{}
			for name, text := range test.files {
				module[name] = &fstest.MapFile{Data: []byte(text)}
			}
			got, err := licencesIn(test.path, module)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("licences (-want +got):\n%s", diff)
			}
			if (err != nil) != (test.err != "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v, want one about %q", err, test.err)
			}
		})
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	for licences, allowed := range map[string]bool{
		"MIT": true, "MPL-2.0": true, "MIT BSD-3-Clause": true,
		"": false, "GPL-3.0": false, "AGPL-3.0": false, "MIT GPL-2.0": false, "BUSL-1.1": false,
	} {
		err := judge(dependency{Path: "example.com/m", Version: "v1.0.0", Licences: strings.Fields(licences)})
		if (err == nil) != allowed {
			t.Errorf("%q: error %v, want it allowed: %t", licences, err, allowed)
		}
	}
}
