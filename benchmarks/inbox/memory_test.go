package inbox_test

import (
	"bytes"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"time"
)

// memoryWatch samples how much memory the process holds.
type memoryWatch struct {
	quit, ended chan struct{}
	before      uint64 // resident, 0 if that is not known
	heap        uint64 // the peak
	resident    uint64
}

// watchMemory returns unused memory to the system and begins to sample.
func watchMemory() *memoryWatch {
	debug.FreeOSMemory()
	w := &memoryWatch{quit: make(chan struct{}), ended: make(chan struct{}), before: residentBytes()}
	go w.run()
	return w
}

func (w *memoryWatch) run() {
	defer close(w.ended)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	for {
		metrics.Read(heap)
		w.heap = max(w.heap, heap[0].Value.Uint64())
		w.resident = max(w.resident, residentBytes())
		select {
		case <-tick.C:
		case <-w.quit:
			return
		}
	}
}

// stop returns the peak of objects in Go's heap, and the most by which the process
// has grown, 0 if that is not known, both in bytes.
func (w *memoryWatch) stop() (heap, grown uint64) {
	close(w.quit)
	<-w.ended
	return w.heap, w.resident - min(w.before, w.resident)
}

// residentBytes returns how much of the process is in memory; 0 on systems other
// than Linux.
func residentBytes() uint64 {
	statm, err := os.ReadFile("/proc/self/statm")
	fields := bytes.Fields(statm)
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseUint(string(fields[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}

func mebibytes(bytes uint64) float64 { return float64(bytes) / (1 << 20) }
