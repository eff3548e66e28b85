package ops_test

import (
	"maps"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed/inbox"
	"github.com/pixmed-go/pixmed/inbox/ops"
)

func TestLanguages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for accept, want := range map[string]string{
		"": "en", "en-US,en;q=0.9": "en", "pt-BR,pt;q=0.9,en;q=0.8": "pt-BR", "pt": "pt-BR", "pt-PT": "pt-BR", "de": "en", "de,pt;q=0.5": "pt-BR", ";;;": "en",
	} {
		a := s.do(t, http.MethodGet, "/", http.Header{"Accept-Language": {accept}}, nil)
		a.mustHold(t, http.StatusOK, `<html lang="`+want+`">`, ops.Texts[want]["answer_next"])
	}
}

// Each language has all texts, with as many parts, and no text is there that no page
// uses.
func TestTexts(t *testing.T) {
	t.Parallel()
	en, pt := ops.Texts["en"], ops.Texts["pt-BR"]
	if diff := cmp.Diff(slices.Sorted(maps.Keys(en)), slices.Sorted(maps.Keys(pt))); diff != "" {
		t.Errorf("texts (-en +pt-BR):\n%s", diff)
	}
	for key := range en {
		for _, part := range []string{"|", "%s"} {
			if strings.Count(en[key], part) != strings.Count(pt[key], part) {
				t.Errorf("%s: %q is not alike in %q and %q", key, part, en[key], pt[key])
			}
		}
	}
	for _, action := range []inbox.Action{inbox.Answered, inbox.Ended, inbox.Replayed, inbox.ResolvedByHand, inbox.Discarded, inbox.Retried, inbox.ReminderCalled, inbox.ReminderGivenUp} {
		if key := "note_" + strings.ReplaceAll(string(action), " ", "_"); en[key] == "" {
			t.Errorf("there is no text for %s", action)
		}
	}
	var sources strings.Builder
	for _, pattern := range []string{"pages/*.html", "*.go"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%v, %v", names, err)
		}
		for _, name := range names {
			if name == "text.go" || strings.HasSuffix(name, "_test.go") {
				continue
			}
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			sources.Write(b)
		}
	}
	for _, m := range regexp.MustCompile(`\.T\.([a-z_]+)`).FindAllStringSubmatch(sources.String(), -1) {
		if en[m[1]] == "" {
			t.Errorf("there is no text %q", m[1])
		}
	}
	made := regexp.MustCompile(`^(show|note|did)_|_explained$`) // by the pages' tests
	for key := range en {
		if !made.MatchString(key) && !strings.Contains(sources.String(), ".T."+key) && !strings.Contains(sources.String(), `"`+key+`"`) &&
			!slices.Contains([]string{"in", "ago", "overdue_by", "pending", "running", "done", "dead", "quarantined", "resolved"}, key) {
			t.Errorf("nothing uses the text %q", key)
		}
	}
}

// Words that the Brazilian team was promised.
func TestPortuguese(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"filter": "Filtrar", "table": "Ver como tabela", "hint": "Id da transação, externo ou fim a fim", "bad_request": "Endereço inválido.",
		"not_found":      "Caso não encontrado. Ele pode ter sido apagado ao fim do prazo de retenção.",
		"not_replayable": "Esta notificação não é uma falha definitiva nem está em quarentena: nada mudou.",
		"duplicate":      "Este corpo repete o último status aceito do caso.",
		"failed":         "O inbox não responde, ou houve outra falha. Veja o motivo no log e tente de novo em instantes.",
		"dead":           "falha definitiva|falhas definitivas",
		"chart":          "Notificações recebidas nos últimos 14 dias, por situação",
	} {
		if got := ops.Texts["pt-BR"][key]; got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
}

func TestSpeech(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, time.November, 27, 15, 4, 5, 0, time.UTC)
	brasilia := time.FixedZone("UTC-3", -3*60*60)
	en, pt := ops.Speech("en", brasilia, now), ops.Speech("pt-BR", brasilia, now)
	for _, test := range []struct{ got, want string }{
		{pt.Number(10012), "10.012"},
		{en.Number(10012), "10,012"},
		{pt.Number(0), "0"},
		{pt.Number(999), "999"},
		{pt.Number(-1000), "-1.000"},
		{en.Number(math.MaxInt64), "9,223,372,036,854,775,807"},
		{pt.Count("done", 1), "1 concluída"},
		{pt.Count("done", 2), "2 concluídas"},
		{pt.Count("done", 0), "0 concluídas"},
		{pt.Count("dead", 1), "1 falha definitiva"},
		{pt.Count("dead", 10012), "10.012 falhas definitivas"},
		{pt.Words("blocked_in", 1), "bloqueados em 1 caso aberto"},
		{pt.Words("blocked_in", 10012), "bloqueados em 10.012 casos abertos"},
		{en.Words("blocked_in", 2), "blocked in 2 open cases"},
		{pt.Time(now).Text, "27/11/2026 12:04:05"},
		{pt.Time(now).Machine, "2026-11-27T15:04:05Z"},
		{en.Time(now).Text, "2026-11-27 12:04:05"},
		{pt.Time(time.Time{}).Text, ""},
		{pt.Short(now).Text, "27/11 12:04"},
		{en.Short(now).Text, "11-27 12:04"},
		{pt.Short(now.AddDate(-1, 0, 0)).Text, "27/11/2025"},
		{en.Short(now.AddDate(-1, 0, 0)).Text, "2025-11-27"},
		{pt.Day(now), "27/11"},
		{en.Day(now.Add(-13 * time.Hour)), "11-26"},
		{pt.Until(now.Add(5*time.Hour + 10*time.Minute)), "em 5 h 10 min"},
		{pt.Until(now.Add(-49 * time.Hour)), "vencido há 2 d 1 h"},
		{en.Until(now), "0 s overdue"},
		{en.Ago(now.Add(-90 * time.Second)), "1 min ago"},
		{ops.Age(-time.Second), "0 s"},
		{ops.Age(59 * time.Second), "59 s"},
		{ops.Age(24*time.Hour - 1), "23 h 59 min"},
		{ops.Age(3 * time.Hour), "3 h"},
		{ops.Age(48 * time.Hour), "2 d"},
		{ops.Age(400 * 24 * time.Hour), "400 d"},
	} {
		if test.got != test.want {
			t.Errorf("%q, want %q", test.got, test.want)
		}
	}
}
