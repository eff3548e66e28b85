package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReadProof(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		env  map[string]string
		args []string
		want [][]string
		err  []string // one for each line
	}{
		"header":       {map[string]string{"PIXMED_WEBHOOK_SECRETS": webhookSecret}, nil, [][]string{{"header"}}, nil},
		"both":         {map[string]string{"PIXMED_WEBHOOK_SECRETS": webhookSecret, "PIXMED_WEBHOOK_HMAC_SECRETS": olderSecret}, []string{"--verify", "HMAC + header"}, [][]string{{"hmac", "header"}}, nil},
		"alternatives": {map[string]string{"PIXMED_WEBHOOK_PASSWORDS": webhookSecret, "PIXMED_WEBHOOK_QUERY_SECRETS": olderSecret}, []string{"--verify", "basic+networks,query"}, [][]string{{"basic", "networks"}, {"query"}}, nil},
		"none":         {nil, []string{"--verify", "none"}, [][]string{{"none"}}, nil},
		"nothing set":  {nil, nil, nil, []string{"PIXMED_WEBHOOK_SECRETS: it is not set, but --verify asks for header"}},
		"unused":       {map[string]string{"PIXMED_WEBHOOK_SECRETS": webhookSecret, "PIXMED_WEBHOOK_HMAC_SECRETS_FILE": "/none"}, nil, nil, []string{"PIXMED_WEBHOOK_HMAC_SECRETS_FILE: it is set, but --verify does not ask for hmac"}},
		"none of many": {map[string]string{"PIXMED_WEBHOOK_SECRETS": webhookSecret}, []string{"--verify", "none,header"}, nil, []string{"--verify: none cannot be combined"}},
		"all at once": {
			map[string]string{"PIXMED_WEBHOOK_SECRETS": webhookSecret[:10] + " " + olderSecret + "\x01"},
			[]string{"--verify", "header,signature,", "--webhook-header", "X Y", "--webhook-hmac-header", "host", "--webhook-query", "", "--webhook-user", "a:b"},
			nil,
			[]string{`--webhook-header: "X Y" is not`, `--webhook-user: a user`, `--webhook-hmac-header: "host" is`, "--webhook-query: the parameter's name", `"sign"… is not one of header`, `"" is not one of header`, "secret 1 has fewer than 16", "secret 2 contains a control"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newTestValues(t, test.env, test.args, proofSettings...)
			p := readProof(v, minSecret)
			if len(test.err) == 0 {
				if diff := cmp.Diff(test.want, p.any); diff != "" || v.err() != nil {
					t.Errorf("%v (-want +got):\n%s", v.err(), diff)
				}
				return
			}
			err := v.err()
			if err == nil {
				t.Fatal("no error")
			}
			contains(t, err.Error(), test.err...)
			if lines := strings.Count(err.Error(), "\n") + 1; lines != len(test.err) {
				t.Errorf("%d lines, want %d: %v", lines, len(test.err), err)
			}
			for _, canary := range canaries {
				if strings.Contains(err.Error(), canary[:10]) {
					t.Errorf("a secret is in %v", err)
				}
			}
		})
	}
}
