package localpg

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

const (
	protocol = 3 << 16 // version 3.0, which every server since 7.4 speaks

	// What a server may take for an answer, and the size of the largest message
	// in it. Who answers may be no PostgreSQL at all.
	askTimeout = 5 * time.Second
	maxMessage = 64 << 10
)

// ask sends a query to the server at an address, as the user postgres to the
// database postgres, and returns the first column of the last row. It speaks
// just enough of the protocol to find that a server works, so that nothing
// depends on a driver; see "Message Flow" in PostgreSQL's documentation.
func ask(ctx context.Context, address, query string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	r := bufio.NewReader(conn)

	startup := binary.BigEndian.AppendUint32(nil, protocol)
	startup = append(startup, "user\x00postgres\x00database\x00postgres\x00\x00"...)
	if _, err := conn.Write(message("", startup)); err != nil {
		return "", err
	}
	if _, err := untilReady(r); err != nil {
		return "", err
	}
	if _, err := conn.Write(message("Q", append([]byte(query), 0))); err != nil {
		return "", err
	}
	value, err := untilReady(r)
	if err != nil {
		return "", err
	}
	// Without a farewell the server would log that there was none.
	if _, err := conn.Write(message("X", nil)); err != nil {
		return "", err
	}
	return value, nil
}

// message returns a message of a kind, which only the first one does not have.
func message(kind string, body []byte) []byte {
	m := []byte(kind)
	m = binary.BigEndian.AppendUint32(m, uint32(4+len(body))) //nolint:gosec // G115: a query is short
	return append(m, body...)
}

// untilReady reads messages up to ReadyForQuery. It returns the first column of
// the last row among them, or the first error.
func untilReady(r io.Reader) (value string, err error) {
	for {
		var head [5]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return "", err
		}
		size := binary.BigEndian.Uint32(head[1:])
		if size < 4 || size > maxMessage {
			return "", fmt.Errorf("not PostgreSQL: a message of %d bytes", size)
		}
		body := make([]byte, size-4)
		if _, err := io.ReadFull(r, body); err != nil {
			return "", err
		}
		switch head[0] {
		case 'R': // Authentication
			if string(body) != "\x00\x00\x00\x00" {
				return "", errors.New("the server does not trust us: another one, at the same port?")
			}
		case 'E': // ErrorResponse
			return "", errorResponse(body)
		case 'D': // DataRow
			value = firstColumn(body)
		case 'Z': // ReadyForQuery
			return value, nil
		}
	}
}

// errorResponse returns the error that a server reports, as
// "FATAL: the database system is starting up (SQLSTATE 57P03)".
func errorResponse(body []byte) error {
	var severity, code, text string
	for field := range strings.SplitSeq(string(body), "\x00") {
		if field == "" {
			break
		}
		switch field[0] {
		case 'S':
			severity = field[1:]
		case 'C':
			code = field[1:]
		case 'M':
			text = field[1:]
		}
	}
	return fmt.Errorf("%s: %s (SQLSTATE %s)", severity, text, code)
}

// firstColumn returns the first value of a DataRow, and "" for NULL or none.
func firstColumn(body []byte) string {
	if len(body) < 6 {
		return ""
	}
	value := body[6:]
	size := int32(binary.BigEndian.Uint32(body[2:])) //nolint:gosec // G115: -1 is NULL
	if size < 0 || int(size) > len(value) {
		return ""
	}
	return string(value[:size])
}
