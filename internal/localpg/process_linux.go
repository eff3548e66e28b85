package localpg

import "syscall"

// tie has a process end with the thread that starts it; see spawn.
func tie(attr *syscall.SysProcAttr) {
	attr.Pdeathsig = syscall.SIGQUIT
	// Ctrl-C is then for this program alone, which may want to finish with the
	// server before it ends, and the server with it.
	attr.Setpgid = true
}
