package download_test

import (
	"bytes"
	"fmt"
	"os"
)

// peakMemory returns this process's peak of resident memory in bytes. getrusage's
// Maxrss will not do: on Linux a child starts with its parent's.
func peakMemory() (uint64, error) {
	const path = "/proc/self/status"
	status, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	_, found, _ := bytes.Cut(status, []byte("\nVmHWM:"))
	var kib uint64
	if _, err := fmt.Fscanf(bytes.NewReader(found), "%d kB\n", &kib); err != nil {
		return 0, fmt.Errorf("VmHWM in %s: %w", path, err)
	}
	return kib << 10, nil
}
