package ops

import "golang.org/x/text/language"

// texts are all texts of the pages, by language.
var texts = map[string]map[string]string{
	"en": {
		"title":          "MED inbox",
		"pending":        "pending",
		"done":           "done",
		"dead":           "dead",
		"quarantined":    "quarantined",
		"all":            "all",
		"oldest":         "Oldest pending",
		"none":           "none",
		"chart":          "Notifications received in the last 14 days, by what became of them",
		"day":            "Day",
		"table":          "As a table",
		"search":         "Search",
		"search_hint":    "Transaction, external or end-to-end id",
		"show":           "Show",
		"transaction":    "Transaction",
		"status":         "Status",
		"amount":         "Amount",
		"state":          "State",
		"attempts":       "Attempts",
		"updated":        "Last activity",
		"error":          "Last error",
		"notifications":  "Notifications",
		"older":          "Older",
		"nothing":        "Nothing is here.",
		"received":       "Received",
		"finished":       "Done",
		"external_id":    "External id",
		"end_to_end_id":  "End-to-end id",
		"body":           "Body",
		"receipt":        "Receipt (PDF)",
		"replay":         "Replay",
		"replay_anyway":  "Replay anyway",
		"case":           "Case",
		"notification":   "Notification",
		"back":           "All cases",
		"event_id":       "Id in the inbox",
		"whole_case":     "The whole case",
		"no_receipt":     "There is no receipt of this transaction.",
		"not_found":      "There is no such case or notification. It may have been purged.",
		"superseded":     "A newer notification of the case is done. To replay this one could undo it: look at the whole case first.",
		"not_replayable": "This notification is neither dead nor quarantined: there is nothing to replay.",
		"duplicate":      "The status of this body is the last accepted one of its case already.",
		"still_invalid":  "The body is still not valid, and cannot be taken up.",
		"bad_request":    "The address is not right.",
		"failed":         "The inbox does not answer, or something else failed. The log says why. Try again in a moment.",
	},
	"pt-BR": {
		"title":          "Inbox do MED",
		"pending":        "pendentes",
		"done":           "concluídas",
		"dead":           "mortas",
		"quarantined":    "em quarentena",
		"all":            "todas",
		"oldest":         "Pendente mais antiga",
		"none":           "nenhuma",
		"chart":          "Notificações recebidas nos últimos 14 dias, pelo que foi feito delas",
		"day":            "Dia",
		"table":          "Em tabela",
		"search":         "Buscar",
		"search_hint":    "Id da transação, externo ou end-to-end",
		"show":           "Mostrar",
		"transaction":    "Transação",
		"status":         "Status",
		"amount":         "Valor",
		"state":          "Situação",
		"attempts":       "Tentativas",
		"updated":        "Última atividade",
		"error":          "Último erro",
		"notifications":  "Notificações",
		"older":          "Mais antigas",
		"nothing":        "Não há nada aqui.",
		"received":       "Recebida",
		"finished":       "Concluída",
		"external_id":    "Id externo",
		"end_to_end_id":  "Id end-to-end",
		"body":           "Corpo",
		"receipt":        "Comprovante (PDF)",
		"replay":         "Reprocessar",
		"replay_anyway":  "Reprocessar mesmo assim",
		"case":           "Caso",
		"notification":   "Notificação",
		"back":           "Todos os casos",
		"event_id":       "Id no inbox",
		"whole_case":     "O caso inteiro",
		"no_receipt":     "Não há comprovante desta transação.",
		"not_found":      "Não há tal caso ou notificação. Pode ter sido apagado pelo tempo de retenção.",
		"superseded":     "Uma notificação mais nova do caso já foi concluída. Reprocessar esta poderia desfazê-la: veja antes o caso inteiro.",
		"not_replayable": "Esta notificação não está morta nem em quarentena: não há o que reprocessar.",
		"duplicate":      "O status deste corpo já é o último aceito do seu caso.",
		"still_invalid":  "O corpo continua inválido, e não pode ser aceito.",
		"bad_request":    "O endereço não está certo.",
		"failed":         "O inbox não responde, ou outra coisa falhou. O log diz por quê. Tente de novo daqui a pouco.",
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
