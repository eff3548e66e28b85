package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/pixmedtest"
)

// history is a story that a gateway tells by its deliveries.
type history struct {
	name, about string
	atOnce      bool // whether several are sent at a time
	deliveries  func(plan) []delivery
}

// plan is what the user says about a history.
type plan struct {
	count       int
	transaction string // empty for a new one each
	seed        uint64
}

// delivery is one of its requests.
type delivery struct {
	about  string
	body   []byte
	broken bool // whether it is no valid infraction
}

// histories are all of them; the first is the default.
var histories = []history{
	{"sample", "the sample of the gateway's documentation, byte for byte", false, func(plan) []delivery {
		return []delivery{{about: "the sample", body: []byte(pixmedtest.Sample)}}
	}},
	{"single", "ACKNOWLEDGED, of a new transaction", false, func(p plan) []delivery {
		return p.statuses(pixmed.Acknowledged)
	}},
	{"duplicate", "ACKNOWLEDGED, and the same again", false, func(p plan) []delivery {
		return p.statuses(pixmed.Acknowledged, pixmed.Acknowledged)
	}},
	{"cancelled", "ACKNOWLEDGED, then CANCELLED: the value is released", false, func(p plan) []delivery {
		return p.statuses(pixmed.Acknowledged, pixmed.Cancelled)
	}},
	{"debited", "ACKNOWLEDGED, then DEBITED: the value is gone", false, func(p plan) []delivery {
		return p.statuses(pixmed.Acknowledged, pixmed.Debited)
	}},
	{"shuffled", "the three statuses, each twice, in a random order", false, func(p plan) []delivery {
		var all []pixmed.Infraction
		first := p.infraction()
		for _, status := range []pixmed.MEDStatus{pixmed.Acknowledged, pixmed.Cancelled, pixmed.Debited} {
			first.MEDStatus = status
			all = append(all, first)
		}
		shuffled := deliver(pixmedtest.Shuffled(all, 2, p.seed)...)
		shuffled[0].about += fmt.Sprintf(" (--seed %d)", p.seed)
		return shuffled
	}},
	{"broken", "bodies that are cut, incomplete, of another kind, or empty", false, plan.broken},
	{"burst", "ACKNOWLEDGED for --count transactions, --parallel at a time", true, func(p plan) []delivery {
		all := make([]pixmed.Infraction, p.count)
		for i := range all {
			all[i] = p.infraction()
		}
		return deliver(all...)
	}},
}

func historyHelp() string {
	var b strings.Builder
	for _, h := range histories {
		fmt.Fprintf(&b, "  %-10s %s\n", h.name, h.about)
	}
	return b.String()
}

func (p plan) infraction() pixmed.Infraction {
	return pixmedtest.NewInfraction(func(i *pixmed.Infraction) {
		if p.transaction != "" {
			i.TransactionID = p.transaction
		}
	})
}

// statuses are those of one transaction.
func (p plan) statuses(statuses ...pixmed.MEDStatus) []delivery {
	i, all := p.infraction(), make([]pixmed.Infraction, 0, len(statuses))
	for _, status := range statuses {
		i.MEDStatus = status
		all = append(all, i)
	}
	return deliver(all...)
}

func deliver(infractions ...pixmed.Infraction) (all []delivery) {
	for _, i := range infractions {
		all = append(all, delivery{about: fmt.Sprintf("%s of %s", i.MEDStatus, i.TransactionID), body: pixmedtest.Payload(i)})
	}
	return all
}

// broken are bodies that no receiver can take for an infraction.
func (p plan) broken() []delivery {
	whole := string(pixmedtest.Payload(p.infraction()))
	return []delivery{
		{"cut off half way", []byte(whole[:len(whole)/2]), true},
		{"without a transactionId", []byte(strings.Replace(whole, `"transactionId"`, `"transaction"`, 1)), true},
		{"with a value in words", []byte(strings.Replace(whole, `"value": 18`, `"value": "dezoito"`, 1)), true},
		{"with a member given twice", []byte(strings.Replace(whole, "{", `{"value": 1,`, 1)), true},
		{"not JSON", []byte("<html>"), true},
		{"another kind of event", []byte(`{"transactionId":"` + uuid.NewString() + `","transactionStatus":"PAID","transactionType":"CASH_IN","value":18}`), true},
		{"empty", nil, true},
	}
}

// seed returns the setting as a number, or a random one.
func (v *values) seed(s *setting) uint64 {
	text := v.text(s)
	if text == "" {
		return rand.Uint64N(1_000_000)
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		v.problem(s, "want a number, not %s", quote(text))
	}
	return seed
}

// transaction returns the setting as a transaction id, or nothing.
func (v *values) transaction(s *setting) string {
	text := v.text(s)
	if text == "" {
		return ""
	}
	id, err := parseID(text)
	if err != nil {
		v.problem(s, "%w", err)
	}
	return id
}

// parseID reads the id of a transaction or of an event. What is none is not repeated:
// it may be a secret.
func parseID(text string) (string, error) {
	id, err := uuid.Parse(text)
	if err != nil || len(text) != 36 {
		return "", errors.New("it is not an id: want a UUID of 36 characters")
	}
	return id.String(), nil
}
