//go:build unix

package localpg

// FirstAccount is firstAccount.
func FirstAccount(names ...string) (as string, err error) {
	a, err := firstAccount(names...)
	return a.as, err
}
