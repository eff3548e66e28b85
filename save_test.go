package pixmed_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/jarcoal/httpmock"

	"github.com/pixmed-go/pixmed"
)

func TestSaveReceipt(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(70 << 10)
	good := func(t *testing.T) *pixmed.Client {
		t.Helper()
		return mustClient(t, mockBase, overTransport(answersOf(goodAnswer(pdf))))
	}
	want := infoOf(pdf)
	check := func(t *testing.T, path string, info *pixmed.ReceiptInfo, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(&want, info); diff != "" {
			t.Error(diff)
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, pdf) {
			t.Errorf("the file has %d bytes, %v", len(got), err)
		}
		stat, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS != "windows" && stat.Mode() != 0o600 {
			t.Errorf("mode is %v", stat.Mode())
		}
	}
	t.Run("new file", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		path := filepath.Join(dir, "receipt.pdf")
		info, err := good(t).SaveReceipt(t.Context(), receiptID, path)
		check(t, path, info, err)
		wantOnly(t, dir, "receipt.pdf")
	})
	t.Run("existing file", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		path := filepath.Join(dir, "receipt.pdf")
		if err := os.WriteFile(path, bytes.Repeat([]byte("old"), 100_000), 0o644); err != nil {
			t.Fatal(err)
		}
		info, err := good(t).SaveReceipt(t.Context(), receiptID, path)
		check(t, path, info, err)
		wantOnly(t, dir, "receipt.pdf")
	})
	t.Run("name as long as names can be", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		path := filepath.Join(dir, strings.Repeat("n", 255))
		info, err := good(t).SaveReceipt(t.Context(), receiptID, path)
		check(t, path, info, err)
	})
	t.Run("odd names", func(t *testing.T) {
		t.Parallel()
		if runtime.GOOS == "windows" {
			t.Skip("names are more restricted there")
		}
		dir := t.TempDir()
		for _, name := range []string{"a*b", "recibo nº 1.pdf", ".hidden", "…", "a\nb"} {
			path := filepath.Join(dir, name)
			info, err := good(t).SaveReceipt(t.Context(), receiptID, path)
			check(t, path, info, err)
		}
	})
}

// A path without a directory is in the working directory, which the whole process
// shares.
func TestSaveReceiptInWorkingDirectory(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	client := mustClient(t, mockBase, overTransport(roundTripFunc(func(r *http.Request) (*http.Response, error) {
		temporary, err := filepath.Glob(filepath.Join(dir, ".receipt-*.tmp")) // in the same file system, or it could not be renamed
		if err != nil || len(temporary) != 1 {
			t.Errorf("temporary files: %v, %v", temporary, err)
		}
		return goodAnswer(receiptPDF(100))(r)
	})))
	if _, err := client.SaveReceipt(t.Context(), receiptID, "receipt.pdf"); err != nil {
		t.Fatal(err)
	}
	wantOnly(t, dir, "receipt.pdf")
}

// No request is sent for what cannot be saved.
func TestSaveReceiptWhereItCannotBe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	slash := string(filepath.Separator)
	for name, test := range map[string]struct{ path, want string }{
		"directory":            {dir, "cannot save the receipt: " + dir + " exists and is not a regular file"},
		"directory with slash": {dir + slash, "cannot save the receipt: " + dir + slash + " exists and is not a regular file"},
		"dot":                  {".", "cannot save the receipt: . exists and is not a regular file"},
		"missing directory":    {filepath.Join(dir, "missing", "receipt.pdf"), "cannot save the receipt: open " + filepath.Join(dir, "missing")},
		"missing with slash":   {filepath.Join(dir, "missing") + slash, "cannot save the receipt: the path "},
		"file as a directory":  {filepath.Join(dir, "file", "receipt.pdf"), "cannot save the receipt: "},
		"empty":                {"", `cannot save the receipt: the path "" does not name a file`},
		"name too long":        {filepath.Join(dir, strings.Repeat("n", 256)), "cannot save the receipt: "},
		"NUL":                  {dir + slash + "a\x00b", "cannot save the receipt: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mock := answersOf(goodAnswer(receiptPDF(100)))
			info, err := mustClient(t, mockBase, overTransport(mock)).SaveReceipt(t.Context(), receiptID, test.path)
			if info != nil || err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got %v, %v, want %s", info, err, test.want)
			}
			if n := mock.GetTotalCallCount(); n != 0 {
				t.Errorf("%d requests", n)
			}
			wantOnly(t, dir, "file")
		})
	}
}

// After any failure the old content is there, and nothing else.
func TestSaveReceiptIsAtomic(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(70 << 10)
	for name, responder := range map[string]httpmock.Responder{
		"not found":       codeAnswer(404),
		"refused":         refusedAnswer(),
		"broken":          broken(pdf, 50_000),
		"broken, twice":   broken(pdf, 20),
		"changing":        changing(),
		"FAILED":          httpmock.NewStringResponder(200, `{"status":"FAILED"}`),
		"FAILED after it": httpmock.NewStringResponder(200, `{"data":{"receipt":"JVBERi0xLjcK"},"status":"FAILED"}`),
		"too large":       goodAnswer(receiptPDF(100_000)),
		"not a PDF":       httpmock.NewStringResponder(200, `{"status":"SUCCESS","data":{"receipt":"PGh0bWw+"}}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "receipt.pdf")
			if err := os.WriteFile(path, []byte("the old one"), 0o644); err != nil {
				t.Fatal(err)
			}
			client := mustClient(t, mockBase, overTransport(closing(t, answersOf(responder))), pixmed.WithMaxReceiptSize(80<<10))
			info, err := client.SaveReceipt(t.Context(), receiptID, path)
			if info != nil || err == nil || !strings.HasPrefix(err.Error(), "receipt of transaction "+receiptID) {
				t.Errorf("got %v, %v, want an error", info, err)
			}
			wantOnly(t, dir, "receipt.pdf")
			if got, err := os.ReadFile(path); err != nil || string(got) != "the old one" {
				t.Errorf("the file has %q, %v", got, err)
			}
		})
	}
}

// changing sends another PDF each time, and breaks a little later.
func changing() httpmock.Responder {
	var n atomic.Int32
	return func(r *http.Request) (*http.Response, error) {
		i := int(n.Add(1))
		return broken(receiptPDF(50_000+i), 1000+1000*i)(r)
	}
}

func TestSaveReceiptCannotRename(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(path string) error{
		"a directory has come": func(path string) error { return os.MkdirAll(filepath.Join(path, "full"), 0o700) },
		"all is gone":          func(path string) error { return os.RemoveAll(filepath.Dir(path)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if runtime.GOOS == "windows" {
				t.Skip("open files cannot be removed there")
			}
			dir := t.TempDir()
			path := filepath.Join(dir, "sub", "receipt.pdf")
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			client := mustClient(t, mockBase, overTransport(roundTripFunc(func(r *http.Request) (*http.Response, error) {
				if err := meanwhile(path); err != nil {
					t.Error(err)
				}
				return goodAnswer(receiptPDF(100))(r)
			})))
			info, err := client.SaveReceipt(t.Context(), receiptID, path)
			linkError, isLinkError := errors.AsType[*os.LinkError](err)
			if info != nil || !isLinkError || linkError.New != path || !strings.HasPrefix(err.Error(), "cannot save the receipt: rename ") {
				t.Errorf("got %v, %v, want an error of renaming", info, err)
			}
			if entries, err := os.ReadDir(filepath.Dir(path)); err == nil {
				if len(entries) != 1 || entries[0].Name() != "receipt.pdf" {
					t.Errorf("left: %v", entries)
				}
			} else if !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
		})
	}
}

// A symbolic link is replaced; its target is not touched.
func TestSaveReceiptReplacesASymbolicLink(t *testing.T) {
	t.Parallel()
	pdf := receiptPDF(3000)
	for _, target := range []string{"target", "missing"} {
		dir := t.TempDir()
		path := filepath.Join(dir, "receipt.pdf")
		if err := os.WriteFile(filepath.Join(dir, "target"), []byte("not ours"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, path); err != nil {
			if runtime.GOOS == "windows" {
				t.Skip(err) // it takes a privilege there
			}
			t.Fatal(err)
		}
		if _, err := mustClient(t, mockBase, overTransport(answersOf(goodAnswer(pdf)))).SaveReceipt(t.Context(), receiptID, path); err != nil {
			t.Errorf("%s: %v", target, err)
			continue
		}
		if stat, err := os.Lstat(path); err != nil || !stat.Mode().IsRegular() {
			t.Errorf("%s: %v, %v is still a link", target, stat, err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, pdf) {
			t.Errorf("%s: the file has %d bytes, %v", target, len(got), err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, "target")); err != nil || string(got) != "not ours" {
			t.Errorf("%s: it has %q, %v", target, got, err)
		}
		wantOnly(t, dir, "receipt.pdf", "target")
	}
}

// The temporary file is always closed.
func TestSaveReceiptLeavesNoFileOpen(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("open files are listed in /proc")
	}
	for name, responder := range map[string]httpmock.Responder{"good": goodAnswer(receiptPDF(3000)), "not found": codeAnswer(404), "broken": broken(receiptPDF(3000), 1000)} {
		dir := t.TempDir()
		_, _ = mustClient(t, mockBase, overTransport(answersOf(responder))).SaveReceipt(t.Context(), receiptID, filepath.Join(dir, "receipt.pdf"))
		open, err := filepath.Glob("/proc/self/fd/*")
		if err != nil || len(open) == 0 {
			t.Fatalf("%v, %v", open, err)
		}
		for _, fd := range open {
			if file, _ := os.Readlink(fd); strings.HasPrefix(file, dir) {
				t.Errorf("%s: %s is open", name, file)
			}
		}
	}
}

// The content is synced before the rename, and the directory after it.
func TestSaveReceiptSyncs(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("directories cannot be synced there")
	}
	failure := &os.PathError{Op: "sync", Path: "x", Err: errors.New("bad sector")}
	unsupported := &os.PathError{Op: "sync", Path: "x", Err: syscall.EINVAL}
	for name, test := range map[string]struct {
		file, dir error
		want      string // "" for none
		saved     bool
	}{
		"both":                            {nil, nil, "", true},
		"the file cannot be":              {failure, nil, "cannot save the receipt: sync x: bad sector", false},
		"nor on a file system without it": {unsupported, nil, "cannot save the receipt: sync x: invalid argument", false},
		"the directory cannot be":         {nil, failure, "the receipt is saved, but may not survive a crash: sync x: bad sector", true},
		"not all file systems sync them":  {nil, unsupported, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, pdf := t.TempDir(), receiptPDF(3000)
			path := filepath.Join(dir, "receipt.pdf")
			client := mustClient(t, mockBase, overTransport(answersOf(goodAnswer(pdf))))
			var synced []string
			client.SetSync(func(f *os.File) error {
				stat, err := f.Stat()
				if err != nil {
					return err
				}
				_, err = os.Stat(path)
				synced = append(synced, fmt.Sprintf("directory %v, saved %v", stat.IsDir(), err == nil))
				if stat.IsDir() {
					return test.dir
				}
				if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, pdf) {
					t.Errorf("synced with %d bytes, %v", len(got), err)
				}
				return test.file
			})
			_, err := client.SaveReceipt(t.Context(), receiptID, path)
			if got := fmt.Sprint(err); got != test.want && (err != nil || test.want != "") {
				t.Errorf("got %s, want %s", got, test.want)
			}
			want := []string{"directory false, saved false"}
			if test.saved {
				want = append(want, "directory true, saved true")
				wantOnly(t, dir, "receipt.pdf")
			} else {
				wantOnly(t, dir)
			}
			if diff := gocmp.Diff(want, synced); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A killed process's temporary files are removed by the next call, and nothing else.
func TestSaveReceiptRemovesOldTemporaryFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old := time.Now().Add(-time.Hour - time.Minute)
	create := func(name string, modified time.Time) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("personal data"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, modified, modified); err != nil {
			t.Fatal(err)
		}
	}
	gone := []string{".receipt-1.tmp", ".receipt-4294967295.tmp"}
	stays := []string{
		".receipt-.tmp", ".receipt-1.tmp.bak", ".receipt-1a.tmp", ".receipt-1tmp", "receipt-1.tmp", "x.receipt-1.tmp", ".receipt-1.pdf",
	}
	for _, name := range append(gone, stays...) {
		create(name, old)
	}
	create(".receipt-2.tmp", time.Now().Add(-time.Hour+time.Minute)) // another process may be writing it
	if err := os.Mkdir(filepath.Join(dir, ".receipt-3.tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(dir, ".receipt-3.tmp"), old, old); err != nil {
		t.Fatal(err)
	}
	stays = append(stays, ".receipt-2.tmp", ".receipt-3.tmp", "receipt.pdf")
	outside := filepath.Join(t.TempDir(), "not ours")
	if err := os.WriteFile(outside, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(outside, old, old); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, ".receipt-4.tmp")); err == nil { // which takes a privilege on Windows
		stays = append(stays, ".receipt-4.tmp")
	}

	client := mustClient(t, mockBase, overTransport(answersOf(goodAnswer(receiptPDF(100)))))
	if _, err := client.SaveReceipt(t.Context(), receiptID, filepath.Join(dir, "receipt.pdf")); err != nil {
		t.Fatal(err)
	}
	slices.Sort(stays)
	wantOnly(t, dir, stays...)
	if _, err := os.Stat(outside); err != nil {
		t.Error(err)
	}
}

// SaveReceipt works in a directory that it must not list.
func TestSaveReceiptInAnUnreadableDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o300); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o700) })
	path := filepath.Join(dir, "receipt.pdf")
	client := mustClient(t, mockBase, overTransport(answersOf(goodAnswer(receiptPDF(100)))))
	client.SetSync(func(*os.File) error { return nil })
	_, err := client.SaveReceipt(t.Context(), receiptID, path)
	if err != nil && !strings.HasPrefix(err.Error(), "the receipt is saved, but") { // the directory cannot be opened to sync it either
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}
