package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
)

// collectIDs returns the ids of the arguments and of a list, each once, and an error
// for each that is none, with where it stands.
func collectIDs(args []string, list string, stdin io.Reader) (ids []string, errs []error) {
	seen := map[string]bool{}
	add := func(where, text string) {
		id, err := parseID(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", where, err))
			return
		}
		if !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	for i, arg := range args {
		add(fmt.Sprintf("argument %d", i+1), arg)
	}
	if list == "" {
		return ids, errs
	}
	in, name := stdin, "standard input"
	if list != "-" {
		f, err := openRegular(list)
		if err != nil {
			return nil, append(errs, fmt.Errorf("--ids: %w", err))
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
	return ids, errs
}

// openRegular opens a file for reading, and nothing but a file: a FIFO would make the
// program wait for whoever writes into it.
func openRegular(name string) (*os.File, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &os.PathError{Op: "open", Path: name, Err: errNotRegular}
	}
	return os.Open(name)
}
