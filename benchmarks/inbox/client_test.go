package inbox_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pixmed-go/pixmed/pixmedtest"
)

// ids counts the transactions of the process, so that no two notifications have the
// same one.
var ids atomic.Uint64

// newIDs returns the first of n numbers that nobody else gets.
func newIDs(n int) uint64 { return ids.Add(uint64(n)) - uint64(n) }

// appendTransaction appends the transaction id of a number: a UUID that looks random,
// as one of version 4 does, so that indexes grow everywhere. Its last 12 digits are
// the number.
func appendTransaction(b []byte, number uint64) []byte {
	var id [16]byte
	// The finalizer of SplitMix64.
	z := (number + 1) * 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	binary.BigEndian.PutUint64(id[:], z)
	binary.BigEndian.PutUint64(id[8:], number)
	id[6] = id[6]&0x0f | 0x40
	id[8] = 0x80 | id[0]&0x3f
	for i, part := range [][]byte{id[:4], id[4:6], id[6:8], id[8:10], id[10:]} {
		if i > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, part)
	}
	return b
}

// numberOf returns the number of a transaction id.
func numberOf(transactionID string) (uint64, error) {
	return strconv.ParseUint(transactionID[strings.LastIndexByte(transactionID, '-')+1:], 16, 64)
}

const sampleID = "5a94d48d-c9f3-46be-8448-83510ca42bde"

// template is the request, with the sample's id.
var template = "POST / HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: " +
	strconv.Itoa(len(pixmedtest.Sample)) + "\r\n\r\n" + pixmedtest.Sample

// connection is a minimal HTTP client, since it shares the processors with the
// server.
type connection struct {
	net.Conn
	r       *bufio.Reader
	request []byte
	id      []byte // the transaction id in the request
}

// patience bounds a connection's life, so that no benchmark hangs.
const patience = 5 * time.Minute

func dial(ctx context.Context, address string) (*connection, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		_ = conn.Close()
		return nil, err
	}
	c := &connection{Conn: conn, r: bufio.NewReader(conn), request: []byte(template)}
	at := strings.Index(template, sampleID)
	c.id = c.request[at : at+len(sampleID)]
	return c, nil
}

// post sends the notification of a number and returns the status.
func (c *connection) post(number uint64) (status int, err error) {
	appendTransaction(c.id[:0], number)
	if _, err := c.Write(c.request); err != nil {
		return 0, err
	}
	return c.readAnswer()
}

// readAnswer reads an answer with a Content-Length, which every short one has.
func (c *connection) readAnswer() (status int, err error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	version, rest, _ := bytes.Cut(line, []byte(" "))
	if len(rest) < 3 || !bytes.Equal(version, []byte("HTTP/1.1")) {
		return 0, fmt.Errorf("the answer is %q", line)
	}
	if status, err = strconv.Atoi(string(rest[:3])); err != nil {
		return 0, err
	}
	body := 0
	for {
		if line, err = c.r.ReadSlice('\n'); err != nil {
			return 0, err
		}
		if len(line) <= len("\r\n") {
			_, err = c.r.Discard(body)
			return status, err
		}
		if length, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if body, err = strconv.Atoi(string(bytes.TrimSpace(length))); err != nil {
				return 0, err
			}
		}
	}
}

// dialAll opens n connections, or none.
func dialAll(ctx context.Context, address string, n int) ([]*connection, error) {
	conns := make([]*connection, 0, n)
	for range n {
		c, err := dial(ctx, address)
		if err != nil {
			closeAll(conns)
			return nil, err
		}
		conns = append(conns, c)
	}
	return conns, nil
}

func closeAll(conns []*connection) {
	for _, c := range conns {
		_ = c.Close()
	}
}

// sendOnce sends len(took) notifications, and stores there how long each took. All
// must be answered 200.
func sendOnce(conns []*connection, took []time.Duration) error {
	var next atomic.Int64
	first := newIDs(len(took))
	failed := make(chan error, len(conns))
	for _, c := range conns {
		go func() {
			failed <- func() error {
				for {
					i := next.Add(1) - 1
					if i >= int64(len(took)) {
						return nil
					}
					start := time.Now()
					status, err := c.post(first + uint64(i))
					if err != nil {
						return err
					}
					if status != http.StatusOK {
						return fmt.Errorf("the status is %d", status)
					}
					took[i] = time.Since(start)
				}
			}()
		}()
	}
	var err error
	for range conns {
		if e := <-failed; e != nil {
			err = e
		}
	}
	return err
}

// percentile returns the p-th percentile in microseconds. It sorts.
func percentile(took []time.Duration, p int) float64 {
	slices.Sort(took)
	i := (len(took)*p+99)/100 - 1
	return float64(took[max(i, 0)]) / float64(time.Microsecond)
}
