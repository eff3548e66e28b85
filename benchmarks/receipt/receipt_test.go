package receipt_test

import (
	"runtime"
	"strconv"
	"testing"
)

// BenchmarkDecode decodes the PDF of a receipt. live-KiB is the peak of the live heap,
// in a run of its own, and alloc/size what is allocated in all, in sizes of the PDF.
func BenchmarkDecode(b *testing.B) {
	for _, size := range []int{64 << 10, 1 << 20, 16 << 20, 256 << 20} {
		if size > 16<<20 && testing.Short() {
			continue
		}
		b.Run("size="+human(size), func(b *testing.B) {
			r := newReceipt(size)
			for _, w := range ways() {
				b.Run("impl="+w.name, func(b *testing.B) { w.measure(b, r) })
			}
		})
	}
}

func (w way) measure(b *testing.B, r *receipt) {
	b.Helper()
	run, size := w.to(r), len(r.pdf)
	live := liveHeap(b, run)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		if n, _, err := run(func() {}); n != int64(size) || err != nil {
			b.Fatal(n, err)
		}
	}
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(live)/(1<<10), "live-KiB")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(b.N)/float64(size), "alloc/size")
}

// liveHeap returns the largest live heap of a run, in bytes. It also warms up.
func liveHeap(b *testing.B, run run) (live int64) {
	b.Helper()
	before := liveBytes()
	if _, _, err := run(func() { live = max(live, liveBytes()-before) }); err != nil {
		b.Fatal(err)
	}
	return live
}

func liveBytes() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func human(size int) string {
	if size >= 1<<20 {
		return strconv.Itoa(size>>20) + "MiB"
	}
	return strconv.Itoa(size>>10) + "KiB"
}
