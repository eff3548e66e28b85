package main

import (
	"fmt"
	"go/types"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"
)

// listModule lists what the packages of the module in dir export, sorted by import
// path: those that users can import. A line with its path precedes each package.
func listModule(dir string) ([]string, error) {
	loaded, err := packages.Load(&packages.Config{
		Mode: packages.NeedName | packages.NeedTypes | packages.NeedSyntax | packages.NeedTypesInfo | packages.NeedImports,
		Dir:  dir,
	}, "./...")
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, pkg := range loaded {
		if len(pkg.Errors) > 0 {
			return nil, fmt.Errorf("%s: %w", pkg.PkgPath, pkg.Errors[0])
		}
		if pkg.Name == "main" || isInternal(pkg.PkgPath) {
			continue
		}
		if len(lines) > 0 {
			lines = append(lines, "")
		}
		lines = append(lines, "package "+pkg.PkgPath)
		lines = append(lines, listPackage(pkg.Types)...)
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("no packages in %s", dir)
	}
	return lines, nil
}

func isInternal(path string) bool {
	return slices.Contains(strings.Split(path, "/"), "internal")
}

// listPackage lists what the package exports in alphabetical order, each type
// followed by its fields and methods.
func listPackage(pkg *types.Package) []string {
	l := lister{pkg: pkg}
	for _, name := range pkg.Scope().Names() { // sorted
		if object := pkg.Scope().Lookup(name); object.Exported() {
			l.object(object)
		}
	}
	return l.lines
}

type lister struct {
	pkg   *types.Package
	lines []string
}

func (l *lister) add(format string, args ...any) {
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

// string qualifies names of other packages with their import path.
func (l *lister) string(typ types.Type) string {
	return types.TypeString(typ, types.RelativeTo(l.pkg))
}

func (l *lister) signature(function *types.Func) string {
	return strings.TrimPrefix(l.string(function.Signature()), "func")
}

func (l *lister) object(object types.Object) {
	switch object := object.(type) {
	case *types.Const:
		l.add("const %s %s = %s", object.Name(), l.string(object.Type()), object.Val().ExactString())
	case *types.Var:
		l.add("var %s %s", object.Name(), l.string(object.Type()))
	case *types.Func:
		l.add("func %s%s", object.Name(), l.signature(object))
	case *types.TypeName:
		l.typeName(object)
	}
}

func (l *lister) typeName(name *types.TypeName) {
	if alias, ok := name.Type().(*types.Alias); ok && name.IsAlias() {
		l.add("type %s = %s", name.Name(), l.string(alias.Rhs()))
		// An alias is all that makes a type of an internal package public.
		named, ok := types.Unalias(alias).(*types.Named)
		if !ok || named.Obj().Pkg() == nil || !isInternal(named.Obj().Pkg().Path()) {
			return
		}
	}
	parameters := ""
	if generic, ok := name.Type().(interface{ TypeParams() *types.TypeParamList }); ok {
		parameters = l.typeParameters(generic.TypeParams())
	}
	switch underlying := name.Type().Underlying().(type) {
	case *types.Struct:
		l.add("type %s%s struct", name.Name(), parameters)
		l.fields(name.Name(), underlying)
		l.methods(name)
	case *types.Interface:
		l.add("type %s%s interface", name.Name(), parameters)
		l.interfaceMethods(name.Name(), underlying)
	default:
		l.add("type %s%s %s", name.Name(), parameters, l.string(underlying))
		l.methods(name)
	}
}

func (l *lister) typeParameters(list *types.TypeParamList) string {
	if list.Len() == 0 {
		return ""
	}
	var parameters []string
	for parameter := range list.TypeParams() {
		parameters = append(parameters, parameter.Obj().Name()+" "+l.string(parameter.Constraint()))
	}
	return "[" + strings.Join(parameters, ", ") + "]"
}

// fields lists fields in the order of their declaration, and whether there are
// unexported ones: unkeyed literals depend on both.
func (l *lister) fields(of string, structure *types.Struct) {
	hidden := false
	for i := range structure.NumFields() {
		field := structure.Field(i)
		switch {
		case !field.Exported():
			hidden = true
		case field.Embedded():
			l.add("type %s struct, embedded %s", of, l.string(field.Type()))
		case structure.Tag(i) != "":
			l.add("type %s struct, %s %s `%s`", of, field.Name(), l.string(field.Type()), structure.Tag(i))
		default:
			l.add("type %s struct, %s %s", of, field.Name(), l.string(field.Type()))
		}
	}
	if hidden {
		l.add("type %s struct, unexported fields", of)
	}
	if !types.Comparable(structure) {
		l.add("type %s struct, not comparable", of)
	}
}

func (l *lister) interfaceMethods(of string, iface *types.Interface) {
	hidden := false
	for method := range iface.Methods() { // sorted, and including embedded interfaces'
		if method.Exported() {
			l.add("type %s interface, %s%s", of, method.Name(), l.signature(method))
		} else {
			hidden = true
		}
	}
	if hidden {
		l.add("type %s interface, unexported methods", of)
	}
	if !iface.IsMethodSet() {
		for embedded := range iface.EmbeddedTypes() {
			l.add("type %s interface, %s", of, l.string(embedded))
		}
	}
}

// methods lists the methods of the type and of its pointer, promoted ones included.
func (l *lister) methods(name *types.TypeName) {
	values := types.NewMethodSet(name.Type())
	pointers := types.NewMethodSet(types.NewPointer(name.Type()))
	for selection := range pointers.Methods() { // sorted
		method := selection.Obj().(*types.Func)
		if !method.Exported() {
			continue
		}
		receiver := name.Name()
		if values.Lookup(method.Pkg(), method.Name()) == nil {
			receiver = "*" + receiver
		}
		l.add("method (%s) %s%s", receiver, method.Name(), l.signature(method))
	}
}
