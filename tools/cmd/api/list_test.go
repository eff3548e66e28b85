package main

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestListPackage(t *testing.T) {
	t.Parallel()
	const source = `package p

import "io"

const (
	Limit         = 1 << 10
	Open  State   = "open"
	hidden        = 1
)

var ErrOne, errTwo error

type State string

func (State) Final() bool { return false }

type Pair[K comparable, V any] struct {
	io.Reader
	Key   K ` + "`json:\"key\"`" + `
	Value V
	n     int
}

func (*Pair[K, V]) Set(key K, value V) {}
func (*Pair[K, V]) reset()             {}

type Store interface {
	io.Closer
	Put(p []byte) (n int, err error)
	private()
}

type Number interface{ ~int | ~int64 }

type Alias = io.Reader

func New(r io.Reader, opts ...func(*Pair[string, int])) (*Pair[string, int], error) { return nil, nil }

func unseen() {}

type unexported struct{ Field int }
`
	want := []string{
		"type Alias = io.Reader",
		"var ErrOne error",
		"const Limit untyped int = 1024",
		"func New(r io.Reader, opts ...func(*Pair[string, int])) (*Pair[string, int], error)",
		"type Number interface",
		"type Number interface, ~int | ~int64",
		`const Open State = "open"`,
		"type Pair[K comparable, V any] struct",
		"type Pair struct, embedded io.Reader",
		"type Pair struct, Key K `json:\"key\"`",
		"type Pair struct, Value V",
		"type Pair struct, unexported fields",
		"type Pair struct, not comparable",
		"method (Pair) Read(p []byte) (n int, err error)",
		"method (*Pair) Set(key K, value V)",
		"type State string",
		"method (State) Final() bool",
		"type Store interface",
		"type Store interface, Close() error",
		"type Store interface, Put(p []byte) (n int, err error)",
		"type Store interface, unexported methods",
	}
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "p.go", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	config := types.Config{Importer: importer.ForCompiler(files, "source", nil)}
	pkg, err := config.Check("example.com/p", files, []*ast.File{file}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, listPackage(pkg)); diff != "" {
		t.Errorf("listing (-want +got):\n%s", diff)
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "api", "p.txt")
	lines := []string{"package p", "func A()", "func B()"}
	if err := write(name, lines); err != nil {
		t.Fatal(err)
	}
	if err := compare(name, lines); err != nil {
		t.Errorf("the same surface: %v", err)
	}
	for what, changed := range map[string][]string{
		"gone":    {"package p", "func A()"},
		"added":   {"package p", "func A()", "func B()", "func C()"},
		"changed": {"package p", "func A()", "func B() error"},
	} {
		if err := compare(name, changed); err == nil || !strings.Contains(err.Error(), "-listed +declared") {
			t.Errorf("a declaration is %s, and the error %v", what, err)
		}
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := compare(name, lines); err == nil {
		t.Error("no error for a listing that is not there")
	}
}
