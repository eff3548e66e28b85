package download_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// clientVariable names the environment variable that makes this program a client:
// it reads a job from its standard input and writes reports to its standard output.
const clientVariable = "PIXMED_DOWNLOAD_CLIENT"

func TestMain(m *testing.M) {
	if os.Getenv(clientVariable) == "" {
		os.Exit(m.Run())
	}
	if err := serveJob(context.Background(), os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A job tells a client what to do.
type job struct {
	Impl       string
	Base       string // of the gateway's URLs
	Roots      []byte // trusted certificates in PEM; none for plain HTTP
	Parallel   int    // downloads at once, one operation
	Operations int    // to measure
	Want       content
}

// A report is what a client has measured. The first is empty: the client has warmed
// up.
type report struct {
	Elapsed     time.Duration
	Allocated   uint64 // bytes in all
	Allocations uint64 // their number
	Peak        uint64 // peak of resident memory in bytes; 0 where it is not known
}

// do runs the job in a process of its own, and calls warm when that has warmed up.
func (j *job) do(ctx context.Context, warm func()) (report, error) {
	input, err := json.Marshal(j)
	if err != nil {
		return report{}, err
	}
	program, err := os.Executable()
	if err != nil {
		return report{}, err
	}
	var complaint bytes.Buffer
	client := exec.CommandContext(ctx, program)
	client.Env = append(os.Environ(), clientVariable+"=1")
	client.Stdin = bytes.NewReader(input)
	client.Stderr = &complaint
	output, err := client.StdoutPipe()
	if err != nil {
		return report{}, err
	}
	if err := client.Start(); err != nil {
		return report{}, err
	}
	result, err := readReports(output, warm)
	if e := client.Wait(); e != nil {
		return report{}, fmt.Errorf("the client: %w: %s", e, bytes.TrimSpace(complaint.Bytes()))
	}
	return result, err
}

func readReports(r io.Reader, warm func()) (result report, err error) {
	reports := json.NewDecoder(r)
	if err := reports.Decode(&result); err != nil {
		return report{}, fmt.Errorf("no sign of having warmed up: %w", err)
	}
	warm()
	if err := reports.Decode(&result); err != nil {
		return report{}, fmt.Errorf("no result: %w", err)
	}
	return result, nil
}

// serveJob runs in the client's process.
func serveJob(ctx context.Context, in io.Reader, out io.Writer) error {
	var j job
	if err := json.NewDecoder(in).Decode(&j); err != nil {
		return fmt.Errorf("reading the job: %w", err)
	}
	get, err := j.download()
	if err != nil {
		return err
	}
	if err := j.atOnce(func() error { return j.verify(ctx, get) }); err != nil {
		return fmt.Errorf("warming up: %w", err)
	}
	reports := json.NewEncoder(out)
	if err := reports.Encode(report{}); err != nil {
		return err
	}
	result, err := j.measure(ctx, get)
	if err != nil {
		return err
	}
	return reports.Encode(result)
}

// download returns the implementation to measure.
func (j *job) download() (download, error) {
	i := slices.IndexFunc(peers, func(p peer) bool { return p.name == j.Impl })
	if i < 0 {
		return nil, fmt.Errorf("there is no implementation %q", j.Impl)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	// By default only two idle connections are kept: each operation would open the
	// others again, and handshakes would be compared.
	transport.MaxIdleConnsPerHost = j.Parallel
	if j.Roots != nil {
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(j.Roots) {
			return nil, errors.New("the roots hold no certificate")
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	return peers[i].new(endpoint{base: j.Base, http: &http.Client{Transport: transport}})
}

// measure runs the operations.
func (j *job) measure(ctx context.Context, get download) (report, error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	for range j.Operations {
		if err := j.atOnce(func() error { return j.check(ctx, get) }); err != nil {
			return report{}, err
		}
	}
	elapsed := time.Since(start)
	runtime.ReadMemStats(&after)
	peak, err := peakMemory()
	return report{
		Elapsed:     elapsed,
		Allocated:   after.TotalAlloc - before.TotalAlloc,
		Allocations: after.Mallocs - before.Mallocs,
		Peak:        peak,
	}, err
}

// atOnce runs the downloads of an operation.
func (j *job) atOnce(f func() error) error {
	errs := make([]error, j.Parallel)
	var group sync.WaitGroup
	for i := range errs {
		group.Go(func() { errs[i] = f() })
	}
	group.Wait()
	return errors.Join(errs...)
}

// check downloads the receipt and compares its size alone, which costs nothing.
func (j *job) check(ctx context.Context, get download) error {
	n, err := get(ctx, io.Discard)
	if err == nil && n != j.Want.Size {
		err = fmt.Errorf("got %d bytes, want %d", n, j.Want.Size)
	}
	return err
}

// verify downloads the receipt and compares it.
func (j *job) verify(ctx context.Context, get download) error {
	hash := sha256.New()
	n, err := get(ctx, hash)
	if err != nil {
		return err
	}
	if sum := hash.Sum(nil); n != j.Want.Size || !bytes.Equal(sum, j.Want.SHA256[:]) {
		return fmt.Errorf("got %d bytes with SHA-256 %x, want %d with %x", n, sum, j.Want.Size, j.Want.SHA256)
	}
	return nil
}
