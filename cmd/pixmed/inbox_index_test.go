package main

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pixmed-go/pixmed"
)

func TestListIndex(t *testing.T) {
	t.Parallel()
	line := func(n int, id, external string, value pixmed.Amount, status pixmed.MEDStatus) *listed {
		return &listed{line: n, infraction: pixmed.Infraction{TransactionID: id, ExternalID: external, Value: value, MEDStatus: status}}
	}
	lines := []*listed{
		line(2, otherID, "A", 18, pixmed.Acknowledged),
		line(3, listID, "A", 18, pixmed.Acknowledged),
		line(4, listID, "B", 18, pixmed.Cancelled),
		line(5, listID, "A", 18, pixmed.Acknowledged), // repeats line 3
		line(6, listID, "B", 19, pixmed.Cancelled),    // contradicts line 4
		line(7, otherID, "A", 18, pixmed.Cancelled),   // contradicts line 2
	}
	var x listIndex
	for _, l := range lines {
		x.add(l)
	}
	var problems []string
	x.sort(func(err error) { problems = append(problems, err.Error()) })
	const text = "line %d: line %d has the same transaction and external id with another status or value: keep the right one"
	if diff := cmp.Diff([]string{fmt.Sprintf(text, 6, 4), fmt.Sprintf(text, 7, 2)}, problems); diff != "" {
		t.Error(diff)
	}
	var repeats []int
	for _, l := range lines {
		if x.repeats(l) {
			repeats = append(repeats, l.line)
		}
	}
	if diff := cmp.Diff([]int{5, 6, 7}, repeats); diff != "" {
		t.Error(diff)
	}
	for key, want := range map[pixmed.Key]bool{
		{TransactionID: listID, ExternalID: "A"}: true, {TransactionID: listID, ExternalID: "B"}: true, {TransactionID: otherID, ExternalID: "A"}: true,
		{TransactionID: otherID, ExternalID: "B"}: false, {TransactionID: nothing, ExternalID: "A"}: false, {TransactionID: listID}: false,
	} {
		if got := x.hasKey(key); got != want {
			t.Errorf("%v: %v", key, got)
		}
	}
	for id, want := range map[string]bool{listID: true, otherID: true, nothing: false, "ffffffff-0000-4000-8000-000000000000": false} {
		if got := x.has(id); got != want {
			t.Errorf("%s: %v", id, got)
		}
	}
}
