//go:build unix

package localpg

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// serverUser returns the caller or, because PostgreSQL refuses to run as root, the
// user postgres or nobody. Programs run in a session of their own, where they do not
// get the Ctrl-C that is meant for this one.
func serverUser() (account, error) {
	if os.Geteuid() == 0 {
		return firstAccount("postgres", "nobody")
	}
	return account{uid: -1, gid: -1, attr: &syscall.SysProcAttr{Setsid: true}}, nil
}

// firstAccount returns the first of the users who exists.
func firstAccount(names ...string) (account, error) {
	for _, name := range names {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		return account{
			as:   " as user " + name,
			uid:  int(uid),
			gid:  int(gid),
			attr: &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}},
		}, errors.Join(uidErr, gidErr)
	}
	return account{}, fmt.Errorf("PostgreSQL does not run as root, and none of the users %q exists to run it: run this program as another user", names)
}
