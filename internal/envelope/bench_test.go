package envelope_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"testing"

	"github.com/pixmed-go/pixmed/internal/envelope"
)

var benchmarkSizes = []int{1 << 20, 16 << 20}

// BenchmarkDecode compares with BenchmarkBase64, the standard library's decoding
// of the text alone.
func BenchmarkDecode(b *testing.B) {
	for _, size := range benchmarkSizes {
		pdf := makePDF(size)
		text := base64.StdEncoding.EncodeToString(pdf)
		for _, bm := range []struct{ name, text string }{
			{"plain", text},
			{"escaped-lines", wrap(text, `\r\n`)},
			{"raw-lines", wrap(text, "\r\n")},
			{"url", base64.URLEncoding.EncodeToString(pdf)},
		} {
			input := []byte(seal(bm.text))
			b.Run(fmt.Sprintf("%s/%dMiB", bm.name, size>>20), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					d := envelope.NewDecoder(bytes.NewReader(input), envelope.Options{MaxBytes: int64(size)})
					if n, err := io.Copy(io.Discard, d); n != int64(size) || err != nil {
						b.Fatal(n, err)
					}
				}
			})
		}
	}
}

func BenchmarkBase64(b *testing.B) {
	for _, size := range benchmarkSizes {
		text := base64.StdEncoding.AppendEncode(nil, makePDF(size))
		dst := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
		b.Run(fmt.Sprintf("%dMiB", size>>20), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := base64.StdEncoding.Decode(dst, text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
