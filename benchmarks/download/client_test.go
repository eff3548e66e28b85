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

// A job is what a client is to do.
type job struct {
	Impl       string
	Base       string // of the gateway's URLs
	Roots      []byte // to trust, in PEM; none for plain HTTP
	Parallel   int    // downloads at once, which are an operation
	Operations int    // to measure
	Want       content
}

// A report is what a client has measured. The first one is empty: it says that the
// client has warmed up.
type report struct {
	Elapsed     time.Duration
	Allocated   uint64 // bytes, all together
	Allocations uint64 // how many they were
	Peak        uint64 // bytes of memory resident at most; 0 where that is not known
}

// do has a process of its own do the job, and calls warm when it has warmed up.
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

// serveJob is what a client does.
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

// download returns the implementation that is to be measured.
func (j *job) download() (download, error) {
	i := slices.IndexFunc(peers, func(p peer) bool { return p.name == j.Impl })
	if i < 0 {
		return nil, fmt.Errorf("there is no implementation %q", j.Impl)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	// By default two connections are kept, and the others are made anew in each
	// operation: it would be handshakes that are compared.
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

// measure does the operations.
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

// atOnce calls f as many times at once as there are downloads in an operation.
func (j *job) atOnce(f func() error) error {
	errs := make([]error, j.Parallel)
	var group sync.WaitGroup
	for i := range errs {
		group.Go(func() { errs[i] = f() })
	}
	group.Wait()
	return errors.Join(errs...)
}

// check downloads the receipt and looks at its size only, which costs nothing.
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
