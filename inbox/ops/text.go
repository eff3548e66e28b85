package ops

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/language"
)

// texts are all texts of the pages, by language. Those that follow a number have a
// singular and a plural, with a bar between them.
var texts = map[string]map[string]string{
	"en": {
		"title":    "MED inbox",
		"home":     "Overview",
		"search":   "Search",
		"hint":     "Transaction, external or end-to-end id",
		"find":     "Search",
		"user":     "User:",
		"readonly": "This page is for reading only.",

		"blocked_in":      "blocked in 1 open case|blocked in %s open cases",
		"overdue":         "overdue|overdue",
		"due_today":       "due today|due today",
		"dead_count":      "failed for good|failed for good",
		"quarantined_n":   "in quarantine|in quarantine",
		"pending_count":   "pending|pending",
		"oldest":          "oldest",
		"given_up":        "case has a reminder that failed for good: nobody was told.|cases have a reminder that failed for good: nobody was told.",
		"answer_next":     "To answer next",
		"all_to_answer":   "All cases to answer",
		"none_to_answer":  "No case waits for an answer.",
		"failed_title":    "Failed for good, by error",
		"none_failed":     "Nothing has failed for good.",
		"quarantine":      "In quarantine, by error",
		"chart":           "Notifications received in the last 14 days, by state",
		"table":           "As a table",
		"day":             "Day",
		"total":           "notification|notifications",
		"counted_at":      "Counted at",
		"failed_logins":   "failed login since the process started|failed logins since the process started",
		"notifications_n": "Number",

		"show":          "Show",
		"filter":        "Filter",
		"show_all":      "all cases",
		"show_open":     "open",
		"show_answer":   "to answer",
		"show_overdue":  "overdue",
		"show_today":    "due today",
		"show_pending":  "with something pending",
		"show_dead":     "with something that failed for good",
		"show_ended":    "ended",
		"cases":         "Cases",
		"in_quarantine": "In quarantine",
		"next":          "Next",
		"nothing":       "Nothing found.",
		"due":           "Due",
		"opened":        "Opened",
		"amount":        "Amount",
		"external_id":   "External id",
		"status":        "Status",
		"answered_by":   "Answered by",
		"nobody":        "nobody",
		"somebody":      "somebody",
		"no_status":     "no status",
		"no_longer_due": "ended",
		"in":            "in %s",
		"overdue_by":    "%s overdue",
		"ago":           "%s ago",

		"pending":     "pending|pending",
		"running":     "running|running",
		"done":        "done|done",
		"dead":        "failed for good|failed for good",
		"quarantined": "in quarantine|in quarantine",
		"resolved":    "resolved|resolved",

		"case":          "Case",
		"transaction":   "Transaction",
		"end_to_end_id": "End-to-end id",
		"answered":      "Answered",
		"not_answered":  "Nobody has marked it as answered.",
		"next_reminder": "Next reminder",
		"ended":         "Ended",
		"by":            "by",
		"receipt":       "Receipt (PDF)",
		"timeline":      "Timeline",
		"earlier":       "Earlier",
		"later":         "Later",
		"notification":  "Notification",
		"received":      "Received",
		"last_received": "Last received",
		"came":          "It came once|It came %s times, the last time",
		"finished":      "Done",
		"attempts":      "Attempts",
		"state":         "State",
		"next_attempt":  "Next attempt",
		"as_soon_as":    "as soon as a worker is free",
		"after_earlier": "after the earlier ones of this case",
		"error":         "Error",
		"settled_error": "Error that was settled",
		"discarded":     "Discarded: a redelivery does not revive it.",
		"event_id":      "Id in the inbox",
		"body":          "Body",
		"body_apart":    "Body, on a page of its own",
		"cut":           "It is long: this is the beginning, %s of %s bytes.",
		"whole_case":    "The whole case",

		"note_answered":          "Marked as answered",
		"note_ended":             "Ended by hand",
		"note_replayed":          "Replayed",
		"note_resolved":          "Resolved",
		"note_discarded":         "Discarded",
		"note_retried":           "Retried at once",
		"note_reminded":          "Reminder called",
		"note_reminder_given_up": "Reminder failed for good",

		"answer":             "Mark as answered",
		"answer_explained":   "Confirm this once the gateway has your answer. The case stays open until the gateway says how it ends; reminders stop.",
		"end":                "End the case",
		"end_explained":      "The case is over although the gateway has not said so. It is no longer counted as blocked. A later notification opens it again.",
		"replay":             "Replay",
		"replay_explained":   "The notification is processed again, with all its attempts. Repair what made it fail first.|All %s notifications are processed again, with all their attempts. Repair what made them fail first.",
		"resolve":            "Resolve",
		"resolve_explained":  "A person has settled it: it is not processed, and no longer counted as failed.|A person has settled all %s: they are not processed, and no longer counted as failed.",
		"retry":              "Retry now",
		"retry_explained":    "The next attempt runs at once, instead of at its time.",
		"discard":            "Discard",
		"discard_explained":  "The notification is not processed any more, and counts as failed for good. Those of the case that wait for it run.",
		"replay_all":         "Replay all",
		"resolve_all":        "Resolve all",
		"group":              "notification failed with this error|notifications failed with this error",
		"group_of":           "Failed with one error",
		"group_gone":         "No notification fails with this error any more.",
		"note":               "Note",
		"note_hint":          "What was done, for those who read the case later",
		"kept_as":            "Kept with the case as done by",
		"kept_nameless":      "Kept with the case without a name.",
		"cancel":             "Cancel",
		"anyway":             "Replay anyway",
		"did_answer":         "The case is marked as answered.",
		"did_end":            "The case is ended.",
		"did_replay":         "The notification is processed again.",
		"did_resolve":        "The notification is resolved.",
		"did_retry":          "The notification is tried again now.",
		"did_discard":        "The notification is discarded.",
		"did_replay_all":     "notification is processed again.|notifications are processed again.",
		"did_resolve_all":    "notification is resolved.|notifications are resolved.",
		"left_alone":         "was left alone: something newer of its case is done, or it is not valid. Look at it by itself.|were left alone: something newer of their case is done, or they are not valid. Look at each by itself.",
		"more_left":          "It took too long, or something failed; the log says what. Do it again for the rest.",
		"did_late":           "Nothing was changed: somebody else was faster, or it went on by itself.",
		"no_receipt":         "There is no receipt for this transaction.",
		"not_found":          "Case not found. It may have been deleted at the end of its retention.",
		"superseded":         "A newer notification of the case is done. Replaying this one could undo it: look at the whole case first.",
		"not_replayable":     "This notification is neither failed for good nor in quarantine: nothing was changed.",
		"not_pending":        "This notification is not pending any more.",
		"is_running":         "This notification is running now. Wait until it ends.",
		"not_in_turn":        "This notification waits for an earlier one of its case: retry that one.",
		"answered_before":    "This case was answered already: nothing was changed, and the note was not kept.",
		"has_ended":          "This case has ended: nothing was changed, and the note was not kept.",
		"duplicate":          "This body repeats the last accepted status of its case.",
		"still_invalid":      "The body is still not valid, and cannot be taken up.",
		"bad_request":        "Invalid address.",
		"search_busy":        "The search takes too long, or another one runs. Try again in a moment, with a whole id.",
		"failed":             "The inbox does not answer, or something else failed. The log says why. Try again in a moment.",
		"cross_site":         "Another site led here, and nothing was read or changed. If you want to see this page, open it yourself.",
		"open_page":          "Open the page",
		"no_page":            "There is no such page.",
		"method_not_allowed": "This address does not accept such a request.",
		"note_too_long":      "The note is longer than 4,096 bytes.",
		"note_no_text":       "The note holds something other than text: nothing was changed.",
	},
	"pt-BR": {
		"title":    "Inbox do MED",
		"home":     "Visão geral",
		"search":   "Busca",
		"hint":     "Id da transação, externo ou fim a fim",
		"find":     "Buscar",
		"user":     "Usuário:",
		"readonly": "Esta página é somente para leitura.",

		"blocked_in":      "bloqueados em 1 caso aberto|bloqueados em %s casos abertos",
		"overdue":         "vencido|vencidos",
		"due_today":       "vence hoje|vencem hoje",
		"dead_count":      "falha definitiva|falhas definitivas",
		"quarantined_n":   "em quarentena|em quarentena",
		"pending_count":   "pendente|pendentes",
		"oldest":          "há até",
		"given_up":        "caso tem um lembrete que falhou de vez: ninguém foi avisado.|casos têm um lembrete que falhou de vez: ninguém foi avisado.",
		"answer_next":     "Próximos a responder",
		"all_to_answer":   "Todos os casos a responder",
		"none_to_answer":  "Nenhum caso aguarda resposta.",
		"failed_title":    "Falhas definitivas, por erro",
		"none_failed":     "Nenhuma falha definitiva.",
		"quarantine":      "Em quarentena, por erro",
		"chart":           "Notificações recebidas nos últimos 14 dias, por situação",
		"table":           "Ver como tabela",
		"day":             "Dia",
		"total":           "notificação|notificações",
		"counted_at":      "Contado às",
		"failed_logins":   "login recusado desde o início do processo|logins recusados desde o início do processo",
		"notifications_n": "Quantidade",

		"show":          "Mostrar",
		"filter":        "Filtrar",
		"show_all":      "todos os casos",
		"show_open":     "abertos",
		"show_answer":   "a responder",
		"show_overdue":  "vencidos",
		"show_today":    "vencem hoje",
		"show_pending":  "com algo pendente",
		"show_dead":     "com falha definitiva",
		"show_ended":    "encerrados",
		"cases":         "Casos",
		"in_quarantine": "Em quarentena",
		"next":          "Próximos",
		"nothing":       "Nada encontrado.",
		"due":           "Prazo",
		"opened":        "Aberto",
		"amount":        "Valor",
		"external_id":   "Id externo",
		"status":        "Status",
		"answered_by":   "Respondido por",
		"nobody":        "ninguém",
		"somebody":      "alguém",
		"no_status":     "sem status",
		"no_longer_due": "encerrado",
		"in":            "em %s",
		"overdue_by":    "vencido há %s",
		"ago":           "há %s",

		"pending":     "pendente|pendentes",
		"running":     "em execução|em execução",
		"done":        "concluída|concluídas",
		"dead":        "falha definitiva|falhas definitivas",
		"quarantined": "em quarentena|em quarentena",
		"resolved":    "resolvida|resolvidas",

		"case":          "Caso",
		"transaction":   "Transação",
		"end_to_end_id": "Id fim a fim",
		"answered":      "Respondido",
		"not_answered":  "Ninguém marcou este caso como respondido.",
		"next_reminder": "Próximo lembrete",
		"ended":         "Encerrado",
		"by":            "por",
		"receipt":       "Comprovante (PDF)",
		"timeline":      "Linha do tempo",
		"earlier":       "Anteriores",
		"later":         "Posteriores",
		"notification":  "Notificação",
		"received":      "Recebida",
		"last_received": "Última recebida",
		"came":          "Chegou uma vez|Chegou %s vezes, a última",
		"finished":      "Concluída",
		"attempts":      "Tentativas",
		"state":         "Situação",
		"next_attempt":  "Próxima tentativa",
		"as_soon_as":    "assim que houver um worker livre",
		"after_earlier": "depois das anteriores deste caso",
		"error":         "Erro",
		"settled_error": "Erro que foi resolvido",
		"discarded":     "Descartada: um reenvio não a traz de volta.",
		"event_id":      "Id no inbox",
		"body":          "Corpo",
		"body_apart":    "Corpo, em outra página",
		"cut":           "É longo: este é o começo, %s de %s bytes.",
		"whole_case":    "O caso inteiro",

		"note_answered":          "Marcado como respondido",
		"note_ended":             "Encerrado manualmente",
		"note_replayed":          "Reprocessada",
		"note_resolved":          "Resolvida",
		"note_discarded":         "Descartada",
		"note_retried":           "Nova tentativa imediata",
		"note_reminded":          "Lembrete enviado",
		"note_reminder_given_up": "Lembrete falhou de vez",

		"answer":             "Marcar como respondido",
		"answer_explained":   "Confirme quando o gateway já tiver a sua resposta. O caso continua aberto até o gateway dizer como termina; os lembretes param.",
		"end":                "Encerrar o caso",
		"end_explained":      "O caso acabou, embora o gateway não tenha dito. O valor deixa de contar como bloqueado. Uma notificação posterior reabre o caso.",
		"replay":             "Reprocessar",
		"replay_explained":   "A notificação é processada de novo, com todas as tentativas. Antes, corrija o que a fez falhar.|Todas as %s notificações são processadas de novo, com todas as tentativas. Antes, corrija o que as fez falhar.",
		"resolve":            "Dar por resolvida",
		"resolve_explained":  "Uma pessoa já resolveu: a notificação não é processada e deixa de contar como falha.|Uma pessoa já resolveu todas as %s: elas não são processadas e deixam de contar como falhas.",
		"retry":              "Tentar agora",
		"retry_explained":    "A próxima tentativa roda já, em vez de esperar a sua hora.",
		"discard":            "Descartar",
		"discard_explained":  "A notificação não é mais processada e conta como falha definitiva. As do mesmo caso que esperam por ela são liberadas.",
		"replay_all":         "Reprocessar todas",
		"resolve_all":        "Dar todas por resolvidas",
		"group":              "notificação falhou com este erro|notificações falharam com este erro",
		"group_of":           "Falhas com o mesmo erro",
		"group_gone":         "Nenhuma notificação falha mais com este erro.",
		"note":               "Observação",
		"note_hint":          "O que foi feito, para quem ler o caso depois",
		"kept_as":            "Fica registrado no caso, em nome de",
		"kept_nameless":      "Fica registrado no caso, sem nome.",
		"cancel":             "Cancelar",
		"anyway":             "Reprocessar mesmo assim",
		"did_answer":         "O caso está marcado como respondido.",
		"did_end":            "O caso está encerrado.",
		"did_replay":         "A notificação será processada de novo.",
		"did_resolve":        "A notificação foi dada por resolvida.",
		"did_retry":          "A notificação será tentada agora.",
		"did_discard":        "A notificação foi descartada.",
		"did_replay_all":     "notificação será processada de novo.|notificações serão processadas de novo.",
		"did_resolve_all":    "notificação foi dada por resolvida.|notificações foram dadas por resolvidas.",
		"left_alone":         "ficou como estava: já foi concluída uma mais nova do mesmo caso, ou ela não é válida. Veja-a separadamente.|ficaram como estavam: já foi concluída uma mais nova do mesmo caso, ou não são válidas. Veja cada uma separadamente.",
		"more_left":          "Demorou demais, ou algo falhou; veja o motivo no log. Repita para as que restam.",
		"did_late":           "Nada mudou: alguém foi mais rápido, ou a situação mudou sozinha.",
		"no_receipt":         "Não há comprovante desta transação.",
		"not_found":          "Caso não encontrado. Ele pode ter sido apagado ao fim do prazo de retenção.",
		"superseded":         "Uma notificação mais nova do caso já foi concluída. Reprocessar esta poderia desfazê-la: veja antes o caso inteiro.",
		"not_replayable":     "Esta notificação não é uma falha definitiva nem está em quarentena: nada mudou.",
		"not_pending":        "Esta notificação não está mais pendente.",
		"is_running":         "Esta notificação está em execução. Espere terminar.",
		"not_in_turn":        "Esta notificação espera por uma anterior do mesmo caso: tente aquela.",
		"answered_before":    "Este caso já tinha sido respondido: nada mudou, e a observação não foi registrada.",
		"has_ended":          "Este caso já foi encerrado: nada mudou, e a observação não foi registrada.",
		"duplicate":          "Este corpo repete o último status aceito do caso.",
		"still_invalid":      "O corpo continua inválido e não pode ser aceito.",
		"bad_request":        "Endereço inválido.",
		"search_busy":        "A busca demora demais, ou há outra em andamento. Tente de novo em instantes, com um id completo.",
		"failed":             "O inbox não responde, ou houve outra falha. Veja o motivo no log e tente de novo em instantes.",
		"cross_site":         "Outro site trouxe você até aqui, e nada foi lido nem alterado. Se quiser ver esta página, abra-a você mesmo.",
		"open_page":          "Abrir a página",
		"no_page":            "Esta página não existe.",
		"method_not_allowed": "Este endereço não aceita esse tipo de requisição.",
		"note_too_long":      "A observação tem mais de 4.096 bytes.",
		"note_no_text":       "A observação contém algo que não é texto: nada mudou.",
	},
}

var languages = language.NewMatcher([]language.Tag{language.English, language.BrazilianPortuguese})

// languageOf returns the language of the texts that suits a browser best.
func languageOf(acceptLanguage string) string {
	tags, _, err := language.ParseAcceptLanguage(acceptLanguage)
	if err != nil {
		return "en"
	}
	if _, i, _ := languages.Match(tags...); i == 1 {
		return "pt-BR"
	}
	return "en"
}

// speech writes texts, numbers and times in a language and for a time zone.
type speech struct {
	Lang     string
	T        map[string]string
	location *time.Location
	now      time.Time
}

func (s speech) portuguese() bool { return s.Lang == "pt-BR" }

// Number writes a number with the separator of thousands.
func (s speech) Number(n int64) string {
	digits := strconv.FormatInt(n, 10)
	separator := ","
	if s.portuguese() {
		separator = "."
	}
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + separator + digits[i:]
	}
	return digits
}

// Words returns the singular or the plural of a text, without the number, or with it
// where the text says so.
func (s speech) Words(key string, n int64) string {
	one, many, _ := strings.Cut(s.T[key], "|")
	if n == 1 {
		return one
	}
	return strings.ReplaceAll(many, "%s", s.Number(n))
}

// Count returns a number and the words that agree with it.
func (s speech) Count(key string, n int64) string { return s.Number(n) + " " + s.Words(key, n) }

// State is the word for the state of one notification.
func (s speech) State(state string) string { return s.Words(state, 1) }

// Format fills texts into a text.
func (s speech) Format(key string, values ...any) string { return fmt.Sprintf(s.T[key], values...) }

// when is a point in time, for people and for machines.
type when struct{ Text, Machine string }

// Time writes a date and a time.
func (s speech) Time(t time.Time) when {
	layout := "2006-01-02 15:04:05"
	if s.portuguese() {
		layout = "02/01/2006 15:04:05"
	}
	return s.format(t, layout)
}

// Short writes what a list has room for: no seconds, and the time of day only in this
// year.
func (s speech) Short(t time.Time) when {
	layout := "01-02 15:04"
	switch thisYear := t.In(s.location).Year() == s.now.In(s.location).Year(); {
	case s.portuguese() && thisYear:
		layout = "02/01 15:04"
	case s.portuguese():
		layout = "02/01/2006"
	case !thisYear:
		layout = time.DateOnly
	}
	return s.format(t, layout)
}

// Day writes a day without its year.
func (s speech) Day(t time.Time) string {
	layout := "01-02"
	if s.portuguese() {
		layout = "02/01"
	}
	return s.format(t, layout).Text
}

func (s speech) format(t time.Time, layout string) when {
	if t.IsZero() {
		return when{}
	}
	return when{t.In(s.location).Format(layout), t.UTC().Format(time.RFC3339)}
}

// Ago says how long ago something was.
func (s speech) Ago(t time.Time) string { return s.Format("ago", age(s.now.Sub(t))) }

// Until says how long there is until a time, or how long it is overdue.
func (s speech) Until(t time.Time) string {
	if d := t.Sub(s.now); d > 0 {
		return s.Format("in", age(d))
	}
	return s.Format("overdue_by", age(s.now.Sub(t)))
}

// age rounds a duration down to what matters. The units are the same in all
// languages.
func age(d time.Duration) string {
	const day = 24 * time.Hour
	two := func(n time.Duration, unit string, rest time.Duration, smaller string) string {
		if rest == 0 {
			return fmt.Sprintf("%d %s", n, unit)
		}
		return fmt.Sprintf("%d %s %d %s", n, unit, rest, smaller)
	}
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < day:
		return two(d/time.Hour, "h", d%time.Hour/time.Minute, "min")
	case d < 7*day:
		return two(d/day, "d", d%day/time.Hour, "h")
	}
	return fmt.Sprintf("%d d", d/day)
}
