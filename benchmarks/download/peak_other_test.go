//go:build !linux

package download_test

// peakMemory returns 0: it is known on Linux alone.
func peakMemory() (uint64, error) { return 0, nil }
