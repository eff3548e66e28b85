package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
)

func TestTally(t *testing.T) {
	t.Parallel()
	const a, c, d = pixmed.Acknowledged, pixmed.Cancelled, pixmed.Debited
	answered := []notification{{"1", a}, {"2", a}, {"1", c}, {"2", c}, {"1", d}, {"2", d}}
	for _, tt := range []struct {
		name    string
		effects []notification
		want    tally // but for answered, which is 6
	}{
		{
			"all is well, in whatever order the transactions are",
			[]notification{{"2", a}, {"2", c}, {"2", d}, {"1", a}, {"1", c}, {"1", d}},
			tally{effects: 6},
		},
		{
			"the first, one in the middle and the last are lost",
			[]notification{{"2", a}, {"1", c}, {"1", d}},
			tally{effects: 3, lost: 3},
		},
		{
			"nothing came",
			nil,
			tally{lost: 6},
		},
		{
			"twice at once, and three times",
			[]notification{{"1", a}, {"1", a}, {"2", a}, {"1", c}, {"2", c}, {"1", d}, {"2", d}, {"2", d}, {"2", d}},
			tally{effects: 9, twice: 3},
		},
		{
			"twice, the second time too late",
			[]notification{{"1", a}, {"2", a}, {"1", c}, {"1", a}, {"2", c}, {"1", d}, {"2", d}},
			tally{effects: 7, twice: 1, disordered: 1},
		},
		{
			"out of order",
			[]notification{{"1", a}, {"2", d}, {"1", d}, {"1", c}, {"2", a}, {"2", c}},
			tally{effects: 6, disordered: 3},
		},
		{
			"one is lost and another twice, so that the sums are right",
			[]notification{{"1", a}, {"1", a}, {"1", c}, {"2", c}, {"1", d}, {"2", d}},
			tally{effects: 6, lost: 1, twice: 1},
		},
		{
			"of another transaction, and of another status",
			[]notification{{"1", a}, {"2", a}, {"3", a}, {"1", c}, {"2", c}, {"1", d}, {"2", d}, {"2", "NEW"}},
			tally{effects: 8, unknown: 2},
		},
	} {
		tt.want.answered = len(answered)
		got := count(answered, tt.effects)
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(tally{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
		holds := tt.want == tally{answered: 6, effects: 6}
		if err := got.err(len(answered)); (err == nil) != holds {
			t.Errorf("%s: error %v", tt.name, err)
		}
		if err := got.err(len(answered) + 1); err == nil {
			t.Errorf("%s: no error although one was not answered", tt.name)
		}
	}
}

func TestPrintTally(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := (tally{1, 2, 3, 4, 5, 6}).print(&out); err != nil {
		t.Fatal(err)
	}
	want := `    notifications answered 200  1
               effects of them  2
                          lost  3
                         twice  4
                  out of order  5
      effects of anything else  6
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}
