//go:build unix && !linux

package localpg

import "syscall"

// tie does nothing: such a system does not tell a process that its parent has
// ended. In the process group of this program it at least gets the Ctrl-C that
// ends both.
func tie(*syscall.SysProcAttr) {}
