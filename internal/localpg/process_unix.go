//go:build unix

package localpg

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// An account is who runs the server: the caller, if it is zero.
type account struct {
	name     string
	uid, gid uint32
}

// serverUser returns the account for a server of this process.
func serverUser() (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	return firstAccount("postgres", "nobody")
}

// firstAccount returns the first of the accounts that exists.
func firstAccount(names ...string) (account, error) {
	var u *user.User
	var err error
	for _, name := range names {
		if u, err = user.Lookup(name); err == nil {
			break
		}
	}
	if err != nil {
		return account{}, fmt.Errorf("localpg: PostgreSQL does not run as root, and of %q there is no user to run it as: run this as another user: %w", names, err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return account{}, fmt.Errorf("localpg: the user %s: %w", u.Username, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return account{}, fmt.Errorf("localpg: the user %s: %w", u.Username, err)
	}
	return account{u.Username, uint32(uid), uint32(gid)}, nil
}

// as says in an error who runs a program, if it is not the caller.
func (a account) as() string {
	if a.name == "" {
		return ""
	}
	return " as user " + a.name
}

// own makes the account the owner of a file.
func (a account) own(path string) error {
	if a.name == "" {
		return nil
	}
	return os.Chown(path, int(a.uid), int(a.gid))
}

// attributes returns how to start a process of the account.
func (a account) attributes() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{}
	if a.name != "" {
		attr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	tie(attr)
	return attr
}

// quit tells PostgreSQL to end as pg_ctl stop -m immediate does.
func quit(p *os.Process) error { return p.Signal(syscall.SIGQUIT) }
