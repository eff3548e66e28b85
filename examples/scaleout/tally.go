package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/pixmed-go/pixmed"
)

// notification is what was posted, or what has an effect. A case of this program
// has each status once.
type notification struct {
	transaction string
	status      pixmed.MEDStatus
}

// tally compares what was answered 200 with what came of it.
type tally struct {
	answered   int // notifications that were answered 200
	effects    int // rows that the callbacks have written
	lost       int // answered, but without an effect
	twice      int // effects of notifications that had one already
	disordered int // effects that came after that of a later notification of the transaction
	unknown    int // effects of what was not answered 200
}

// count makes the tally. Both lists are in the order in which it happened.
func count(answered, effects []notification) tally {
	t := tally{answered: len(answered), effects: len(effects)}
	place := make(map[notification]int) // of a notification in its transaction, from 1
	posted := make(map[string]int)
	for _, n := range answered {
		posted[n.transaction]++
		place[n] = posted[n.transaction]
	}
	seen := make(map[notification]bool)
	latest := make(map[string]int) // the place that a transaction has reached
	for _, n := range effects {
		switch {
		case place[n] == 0:
			t.unknown++
			continue
		case seen[n]:
			t.twice++
		}
		if place[n] < latest[n.transaction] {
			t.disordered++
		}
		seen[n] = true
		latest[n.transaction] = max(latest[n.transaction], place[n])
	}
	for n := range place {
		if !seen[n] {
			t.lost++
		}
	}
	return t
}

// err returns an error if the tally is not as promised.
func (t tally) err(posted int) error {
	if t.answered != posted || t.lost+t.twice+t.disordered+t.unknown > 0 || t.answered != t.effects {
		return fmt.Errorf("the tally does not hold: %d posted, %+v", posted, t)
	}
	return nil
}

func (t tally) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range []struct {
		name  string
		count int
	}{
		{"notifications answered 200", t.answered},
		{"effects of them", t.effects},
		{"lost", t.lost},
		{"twice", t.twice},
		{"out of order", t.disordered},
		{"effects of anything else", t.unknown},
	} {
		if _, err := fmt.Fprintf(w, "  %s\t%d\t\n", row.name, row.count); err != nil {
			return err
		}
	}
	return w.Flush()
}
