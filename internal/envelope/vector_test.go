package envelope_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	vectorised "github.com/segmentio/asm/base64"
)

// Whatever stands anywhere in a text, the vectorised decoder takes and refuses
// what the standard library does, with the same bytes, and writes no others.
func TestVectorsAreTheStandardLibrary(t *testing.T) {
	t.Parallel()

	alphabet := []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
	for _, length := range []int{4, 32, 44, 64, 68, 96, 100, 128, 300} {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			t.Parallel()
			text := slices.Repeat(alphabet, 5)[:length]
			const beyond = 40
			want, got := make([]byte, length/4*3+beyond), make([]byte, length/4*3+beyond)
			for at := range text {
				good := text[at]
				for c := range rune(256) {
					text[at] = byte(c)
					clear(want)
					clear(got)
					n, err := base64.StdEncoding.Decode(want[:length/4*3], text)
					m, errVector := vectorised.StdEncoding.Decode(got[:length/4*3], text)
					if n != m || (err == nil) != (errVector == nil) || !bytes.Equal(want[:n], got[:n]) {
						t.Fatalf("%q at %d: %d bytes, %v; the standard library gives %d, %v", c, at, m, errVector, n, err)
					}
					if i := slices.IndexFunc(got[length/4*3:], func(b byte) bool { return b != 0 }); i >= 0 {
						t.Fatalf("%q at %d: wrote %d bytes beyond its room", c, at, i+1)
					}
				}
				text[at] = good
			}
		})
	}
}

// A text of which the decoder has only a byte at a time never meets a vector.
func TestVectorsChangeNothing(t *testing.T) {
	t.Parallel()

	pdf := makePDF(400)
	text := base64.StdEncoding.EncodeToString(pdf)
	for at := range text {
		for _, c := range []string{"", "A", "-", "_", " ", "=", "==", "\n", `\r\n`, `\/`, `\`, `"`, ",", "\x00", "\x80", "é"} {
			input := seal(text[:at] + c + text[at+1:])
			want := decode(iotest.OneByteReader(strings.NewReader(input)))
			if diff := cmp.Diff(want, decode(strings.NewReader(input))); diff != "" {
				t.Fatalf("%q at %d: (-byte by byte +vectors)\n%s", c, at, diff)
			}
		}
	}
}
