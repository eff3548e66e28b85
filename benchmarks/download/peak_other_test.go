//go:build !linux

package download_test

// peakMemory is for Linux only.
func peakMemory() (uint64, error) { return 0, nil }
