//go:build !unix

package localpg

import (
	"os"
	"syscall"
)

// An account is who runs the server: always the caller, here.
type account struct{ name string }

// serverUser returns the account for a server of this process.
func serverUser() (account, error) { return account{}, nil }

// as says in an error who runs a program, if it is not the caller.
func (account) as() string { return "" }

// own makes the account the owner of a file.
func (account) own(string) error { return nil }

// attributes returns how to start a process of the account.
func (account) attributes() *syscall.SysProcAttr { return nil }

// quit ends the server's main process; the others end when they notice. There
// is no signal here that would do both.
func quit(p *os.Process) error { return p.Kill() }
