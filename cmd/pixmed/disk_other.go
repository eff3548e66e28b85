//go:build !unix

package main

// freeDisk returns how many bytes are free on a folder's disk, if that is known.
func freeDisk(string) (bytes uint64, known bool) { return 0, false }
