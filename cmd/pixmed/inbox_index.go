package main

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/google/uuid"

	"github.com/pixmed-go/pixmed"
)

// maxLines bounds a list, and with it the memory that listIndex takes: 40 bytes for
// each case.
const maxLines = 2_000_000

// listIndex knows which cases a list has.
type listIndex struct {
	seed  maphash.Seed
	lines []listLine // sorted, after sort
}

type listLine struct {
	transaction uuid.UUID
	external    uint64 // a hash
	said        uint64 // a hash
	line        int
}

func (x *listIndex) of(l *listed) listLine {
	if x.seed == (maphash.Seed{}) {
		x.seed = maphash.MakeSeed()
	}
	var value [8]byte
	binary.BigEndian.PutUint64(value[:], uint64(l.infraction.Value))
	return listLine{
		uuid.MustParse(l.infraction.TransactionID), // it is one: the line is valid
		maphash.String(x.seed, l.infraction.ExternalID),
		maphash.String(x.seed, string(value[:])+string(l.infraction.MEDStatus)), l.line,
	}
}

func (x *listIndex) add(l *listed) { x.lines = append(x.lines, x.of(l)) }

// sort makes it ready to be asked, and tells of lines that contradict each other.
func (x *listIndex) sort(problem func(error)) {
	slices.SortFunc(x.lines, func(a, b listLine) int { return cmp.Or(a.compare(b), cmp.Compare(a.line, b.line)) })
	kept := x.lines[:0]
	for _, l := range x.lines {
		if len(kept) == 0 || kept[len(kept)-1].compare(l) != 0 {
			kept = append(kept, l)
			continue
		}
		if first := kept[len(kept)-1]; first.said != l.said {
			problem(&lineError{l.line, fmt.Sprintf("line %d has the same transaction and external id with another status or value: keep the right one", first.line)})
		}
	}
	x.lines = kept
}

func (l listLine) compare(other listLine) int {
	return cmp.Or(slices.Compare(l.transaction[:], other.transaction[:]), cmp.Compare(l.external, other.external))
}

// repeats reports whether a line is of a case that an earlier line has.
func (x *listIndex) repeats(l *listed) bool {
	at, ok := slices.BinarySearchFunc(x.lines, x.of(l), listLine.compare)
	return ok && x.lines[at].line != l.line
}

// hasKey reports whether a transaction is in the list with this external id.
func (x *listIndex) hasKey(key pixmed.Key) bool {
	_, ok := slices.BinarySearchFunc(x.lines, x.of(&listed{infraction: pixmed.Infraction{TransactionID: key.TransactionID, ExternalID: key.ExternalID}}), listLine.compare)
	return ok
}

// has reports whether a transaction is in the list.
func (x *listIndex) has(transaction string) bool {
	id, err := uuid.Parse(transaction)
	_, ok := slices.BinarySearchFunc(x.lines, id, func(l listLine, id uuid.UUID) int { return slices.Compare(l.transaction[:], id[:]) })
	return err == nil && ok
}
