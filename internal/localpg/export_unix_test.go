//go:build unix

package localpg

// FirstAccount returns the name of the first account that exists.
func FirstAccount(names ...string) (string, error) {
	a, err := firstAccount(names...)
	return a.name, err
}
