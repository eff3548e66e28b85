// Package receipt measures how a PDF gets out of the JSON that it comes in, without
// a network: the input is in memory. Its benchmarks are in its tests.
package receipt
