package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v3"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/sqlite"
)

// deployed returns a file in deploy.
func deployed(t *testing.T, name ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{"..", "..", "deploy"}, name...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// command runs a program in a folder of deploy, and returns what it says.
func command(t *testing.T, dir, program string, arguments ...string) string {
	t.Helper()
	need(t, program)
	cmd := exec.CommandContext(t.Context(), program, arguments...)
	cmd.Dir = filepath.Join("..", "..", "deploy", dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", program, strings.Join(arguments, " "), err, out)
	}
	return string(out)
}

// exportedMetrics are the names that Prometheus finds, with the series of histograms,
// and those of metrics that are left out while there is nothing to tell.
func exportedMetrics(t *testing.T) map[string]bool {
	t.Helper()
	m, in := newMetrics(), openInbox(t)
	m.watch(in, in, keepCounts)
	if _, err := newOps(&config{opsUser: "ops", opsPass: opsPass}, in, nil, nil, m, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range families {
		names[f.GetName()] = true
		if f.GetType().String() == "HISTOGRAM" {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				names[f.GetName()+suffix] = true
			}
		}
	}
	described := make(chan *prometheus.Desc, 100)
	m.registry.Describe(described)
	close(described)
	for d := range described {
		names[regexp.MustCompile(`fqName: "(\w+)"`).FindStringSubmatch(d.String())[1]] = true
	}
	return names
}

func openInbox(t *testing.T) *inbox.Inbox {
	t.Helper()
	in, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "inbox.db"), pixmed.ReceiverFunc(pixmed.Ignore), inbox.WithWorkers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Stop(context.WithoutCancel(t.Context())) })
	return in
}

var metricName = regexp.MustCompile(`\b(pixmed|process|go)_[a-z_]+`)

// The alerts are about metrics that there are, and fire when they should.
func TestDeployAlerts(t *testing.T) {
	t.Parallel()
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal([]byte(deployed(t, "prometheus", "alerts.yml")), &rules); err != nil {
		t.Fatal(err)
	}
	exported, tests := exportedMetrics(t), deployed(t, "prometheus", "alerts_test.yml")
	for _, rule := range rules.Groups[0].Rules {
		for _, name := range metricName.FindAllString(rule.Expr, -1) {
			if !exported[name] {
				t.Errorf("%s is about %s, which is not exported", rule.Alert, name)
			}
		}
		if !regexp.MustCompile(`alertname: ` + rule.Alert + `\n\s+exp_alerts:\n`).MatchString(tests) {
			t.Errorf("no test has %s fire", rule.Alert)
		}
		if rule.Alert != "PixmedBlind" && !strings.Contains(tests, "alertname: "+rule.Alert+", exp_alerts: []") {
			t.Errorf("no test has %s be silent", rule.Alert)
		}
	}
	command(t, "prometheus", "promtool", "check", "rules", "alerts.yml")
	command(t, "prometheus", "promtool", "test", "rules", "alerts_test.yml")
}

// The guides say where each metric comes from.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	for _, page := range []string{"inbox.md", "inbox.pt-BR.md"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
		if err != nil {
			t.Fatal(err)
		}
		for name := range exportedMetrics(t) {
			base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
			if strings.HasPrefix(name, "pixmed_") && !strings.Contains(string(text), "`"+base+"{") && !strings.Contains(string(text), "`"+base+"`") {
				t.Errorf("%s does not name %s", page, base)
			}
		}
	}
}

// Each query of the dashboard parses, and is about metrics that there are.
func TestDeployDashboard(t *testing.T) {
	t.Parallel()
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Templating struct{ List []struct{ Query string } }
	}
	if err := json.Unmarshal([]byte(deployed(t, "grafana", "pixmed.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	exported, shown := exportedMetrics(t), map[string]bool{}
	rules := &strings.Builder{}
	fmt.Fprintln(rules, "groups:\n  - name: dashboard\n    rules:")
	for _, p := range dashboard.Panels {
		if len(p.Targets) == 0 {
			t.Errorf("%s shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			for _, name := range metricName.FindAllString(target.Expr, -1) {
				shown[strings.TrimSuffix(name, "_bucket")] = true
				if !exported[name] {
					t.Errorf("%s shows %s, which is not exported", p.Title, name)
				}
			}
			expr := strings.NewReplacer("$__rate_interval", "5m", "$job", "pixmed").Replace(target.Expr)
			fmt.Fprintf(rules, "      - record: query:%d\n        expr: %q\n", len(shown), expr)
		}
	}
	for _, v := range dashboard.Templating.List {
		for _, name := range metricName.FindAllString(v.Query, -1) {
			if !exported[name] {
				t.Errorf("a variable takes its values from %s, which is not exported", name)
			}
		}
	}
	for name := range exported {
		base := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
		if strings.HasPrefix(name, "pixmed_") && !shown[base] {
			t.Errorf("no panel shows %s", name)
		}
	}
	file := filepath.Join(t.TempDir(), "queries.yml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	command(t, ".", "promtool", "check", "rules", "--lint=none", file)
}

// The unit is one that systemd takes, and as closed as it can be.
func TestDeploySystemd(t *testing.T) {
	t.Parallel()
	unit := filepath.Join(t.TempDir(), "pixmed.service")
	program, err := os.Executable() // in the place of one that is not installed here
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(deployed(t, "systemd", "pixmed.service"), "/usr/local/bin/pixmed", program, 1)
	if err := os.WriteFile(unit, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if out := command(t, ".", "systemd-analyze", "verify", unit); out != "" {
		t.Errorf("systemd says: %s", out)
	}
	command(t, ".", "systemd-analyze", "security", "--offline=yes", "--threshold=15", "--no-pager", unit) // 1.5 of 10
}

// deployment is what a file says of pixmed's process.
type deployment struct {
	env   map[string]string
	grace time.Duration
}

// Each of the files has settings that pixmed serve takes, names files for secrets that
// there are, and waits longer than ending may take.
func TestDeploySettings(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]deployment{
		"compose":    composed(t),
		"systemd":    ofUnit(t),
		"postgres":   ofKubernetesFile(t, "postgres.yaml"),
		"sqlite":     ofKubernetesFile(t, "sqlite.yaml"),
		"Dockerfile": {ofDockerfile(t), time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			known, env := knownVariables(newTestRoot()), map[string]string{}
			for variable, value := range d.env {
				if strings.HasPrefix(variable, "PIXMED_") && !known[strings.TrimSuffix(variable, fileSuffix)] {
					t.Errorf("there is no setting %s", variable)
				}
				if secret, ok := strings.CutSuffix(variable, fileSuffix); ok { // the secret itself is not here
					variable, value = secret, map[string]string{
						"PIXMED_DB": "postgres://u@h/db", "PIXMED_FORWARD_SECRETS": forwardSecret,
					}[secret]
					if value == "" {
						value = webhookSecret
					}
				}
				if value != "" || env[variable] == "" {
					env[variable] = value
				}
			}
			if env["PIXMED_WEBHOOK_SECRETS"] == "" && name != "Dockerfile" {
				t.Error("no secret")
			}
			c, err := readTestConfig(t, env)
			if err != nil {
				t.Fatal(err)
			}
			const stopGrace = 2 * 5 * time.Second // for callbacks that do not end, of two inboxes
			if need := c.drain + shutdownTimeout + stopTimeout + stopGrace; d.grace < need {
				t.Errorf("it is killed after %v, and ending may take %v", d.grace, need)
			}
			if name == "systemd" || name == "Dockerfile" || name == "sqlite" {
				if !filepath.IsAbs(c.db.path) || !filepath.IsAbs(c.receipts) {
					t.Errorf("%s, %s", c.db.path, c.receipts)
				}
			} else if c.db.pool == nil {
				t.Errorf("the database is %s", c.db.path)
			}
		})
	}
}

func composed(t *testing.T) deployment {
	t.Helper()
	var file struct {
		Services map[string]struct {
			Environment map[string]string
			Secrets     []string
			Grace       string `yaml:"stop_grace_period"`
			ReadOnly    bool   `yaml:"read_only"`
		}
		Secrets map[string]struct{ File string }
	}
	if err := yaml.Unmarshal([]byte(deployed(t, "compose.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	for service, s := range file.Services {
		for variable, value := range s.Environment {
			if secret, ok := strings.CutPrefix(value, "/run/secrets/"); ok && (!slices.Contains(s.Secrets, secret) || file.Secrets[secret].File != "secrets/"+secret) {
				t.Errorf("%s: %s names a secret that is not there", service, variable)
			}
		}
	}
	s := file.Services["pixmed"]
	if !s.ReadOnly {
		t.Error("the root file system can be written")
	}
	return deployment{s.Environment, mustDuration(t, s.Grace)}
}

func ofUnit(t *testing.T) deployment {
	t.Helper()
	d := deployment{env: map[string]string{}}
	credentials := map[string]bool{}
	for lines := bufio.NewScanner(strings.NewReader(deployed(t, "systemd", "pixmed.service"))); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), "=")
		switch name {
		case "Environment":
			variable, value, _ := strings.Cut(value, "=")
			d.env[variable] = value
			if credential, ok := strings.CutPrefix(value, "%d/"); ok && !credentials[credential] {
				t.Errorf("%s names a credential that is not there", variable)
			}
		case "LoadCredential":
			credential, _, _ := strings.Cut(value, ":")
			credentials[credential] = true
		case "TimeoutStopSec":
			d.grace = mustDuration(t, value)
		}
	}
	return d
}

func ofKubernetesFile(t *testing.T, name string) deployment {
	t.Helper()
	for decoder := yaml.NewDecoder(strings.NewReader(deployed(t, "kubernetes", name))); ; {
		var object struct {
			Kind string
			Spec struct {
				Replicas int
				Strategy struct{ Type string }
				Template struct {
					Spec struct {
						Grace      int `yaml:"terminationGracePeriodSeconds"`
						Containers []struct {
							Env []struct{ Name, Value string }
						}
					}
				}
			}
		}
		if err := decoder.Decode(&object); err != nil {
			t.Fatal(err)
		}
		if object.Kind != "Deployment" {
			continue
		}
		if sqlite := name == "sqlite.yaml"; sqlite != (object.Spec.Strategy.Type == "Recreate") || sqlite && object.Spec.Replicas != 1 {
			t.Errorf("%s: %d replicas, %s", name, object.Spec.Replicas, object.Spec.Strategy.Type)
		}
		d := deployment{map[string]string{}, time.Duration(object.Spec.Template.Spec.Grace) * time.Second}
		for _, e := range object.Spec.Template.Spec.Containers[0].Env {
			d.env[e.Name] = e.Value
			if secret, ok := strings.CutPrefix(e.Value, "/secrets/"); ok && !strings.Contains(deployed(t, "kubernetes", name), "--from-literal="+secret+"=") {
				t.Errorf("%s: nothing says how to make the secret %s", name, secret)
			}
		}
		return d
	}
}

func ofDockerfile(t *testing.T) map[string]string {
	t.Helper()
	env := map[string]string{}
	for line := range strings.Lines(deployed(t, "Dockerfile")) {
		if variables, ok := strings.CutPrefix(line, "ENV PIXMED_"); ok {
			maps.Copy(env, environment(strings.Fields("PIXMED_"+variables)))
		}
	}
	if len(env) != 2 {
		t.Errorf("the image sets %v", env)
	}
	return env
}

func mustDuration(t *testing.T, text string) time.Duration {
	t.Helper()
	d, err := parseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
