package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/google/uuid"
)

// collectIDs returns the ids of the arguments and of a list, each once. Its error
// names all that are none, and where they stand.
func collectIDs(args []string, list string, stdin io.Reader) (ids []string, err error) {
	var errs []error
	seen := map[string]bool{}
	add := func(where, text string) {
		id, err := uuid.Parse(text)
		if err != nil || len(text) != 36 {
			errs = append(errs, fmt.Errorf("%s: %q is not a transaction id, a UUID of 36 characters", where, text))
			return
		}
		if !seen[id.String()] {
			seen[id.String()] = true
			ids = append(ids, id.String())
		}
	}
	for i, arg := range args {
		add(fmt.Sprintf("argument %d", i+1), arg)
	}
	if list != "" {
		in, name := stdin, "standard input"
		if list != "-" {
			f, err := os.Open(list)
			if err != nil {
				return nil, err
			}
			defer func() { _ = f.Close() }()
			in, name = f, list
		}
		lines := bufio.NewScanner(in)
		for n := 1; lines.Scan(); n++ {
			text, _, _ := strings.Cut(lines.Text(), "#")
			if text = strings.TrimSpace(text); text != "" {
				add(fmt.Sprintf("%s, line %d", name, n), text)
			}
		}
		if err := lines.Err(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return ids, errors.Join(errs...)
}
