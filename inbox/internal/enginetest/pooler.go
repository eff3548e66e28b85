package enginetest

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// Pooler starts a pooler in transaction mode before a server and returns its URL.
// Like PgBouncer it gives a client the session that was used last for each of its
// transactions, and knows neither prepared statements nor notifications.
func Pooler(tb testing.TB, server string) string {
	tb.Helper()
	u, err := url.Parse(server)
	if err != nil {
		tb.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is there at once
	if err != nil {
		tb.Fatal(err)
	}
	p := &pooler{network: "tcp", address: u.Host}
	if u.Port() == "" {
		p.address = net.JoinHostPort(u.Hostname(), "5432")
	}
	if host := u.Query().Get("host"); host != "" { // a folder with a socket
		port := u.Query().Get("port")
		if port == "" {
			port = "5432"
		}
		p.network, p.address = "unix", host+"/.s.PGSQL."+port
	}
	go p.serve(l)
	tb.Cleanup(func() {
		_ = l.Close()
		p.close()
	})
	q := u.Query()
	q.Del("host")
	q.Del("port")
	q.Set("sslmode", "disable")
	u.Host, u.RawQuery = l.Addr().String(), q.Encode()
	return u.String()
}

type pooler struct {
	network, address string

	mu    sync.Mutex
	all   []net.Conn
	idle  []net.Conn // sessions, the one that was used last at the end
	ended bool
}

func (p *pooler) serve(l net.Listener) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = client.Close() }()
			_ = p.client(client) // whatever is wrong, the client learns of it by the end of its connection
		}()
	}
}

func (p *pooler) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	for _, c := range p.all {
		_ = c.Close()
	}
}

func (p *pooler) keep(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all = append(p.all, c); p.ended {
		_ = c.Close()
	}
}

func (p *pooler) put(session net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, session)
}

func (p *pooler) take() net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return nil
	}
	session := p.idle[len(p.idle)-1]
	p.idle = p.idle[:len(p.idle)-1]
	return session
}

// client serves a client. It begins a session for each, to which the client logs
// in, and which all share.
func (p *pooler) client(client net.Conn) error {
	p.keep(client)
	startup, err := readStartup(client)
	if err != nil {
		return err
	}
	session, err := net.Dial(p.network, p.address) //nolint:noctx // a server of the tests'
	if err != nil {
		return err
	}
	p.keep(session)
	if _, err := session.Write(startup); err != nil {
		return err
	}
	for ready := false; !ready; {
		kind, message, err := readMessage(session)
		if err != nil {
			return err
		}
		if _, err := client.Write(message); err != nil {
			return err
		}
		if kind == 'R' && needsAnswer(message) {
			if _, message, err = readMessage(client); err != nil {
				return err
			}
			if _, err := session.Write(message); err != nil {
				return err
			}
		}
		ready = kind == 'Z'
	}
	p.put(session)
	for {
		if err := p.transaction(client); err != nil {
			return err
		}
	}
}

// transaction serves a client until its transaction has ended.
func (p *pooler) transaction(client net.Conn) error {
	kind, message, err := readMessage(client)
	if err != nil || kind == 'X' {
		return errors.Join(err, io.EOF)
	}
	session := p.take()
	if session == nil {
		return errors.New("there is no session")
	}
	ended := make(chan error, 1)
	syncs := make(chan bool, 1000) // one for each message that is answered by ReadyForQuery
	go func() { ended <- p.answers(client, session, syncs) }()
	for {
		if kind == 'S' || kind == 'Q' {
			syncs <- true
		}
		if _, err := session.Write(message); err != nil {
			return err
		}
		if kind == 'S' || kind == 'Q' {
			if err := <-ended; err != nil {
				if errors.Is(err, errOpen) {
					go func() { ended <- p.answers(client, session, syncs) }()
				} else {
					return err
				}
			} else {
				return nil
			}
		}
		if kind, message, err = readMessage(client); err != nil || kind == 'X' {
			_ = session.Close()
			return errors.Join(err, io.EOF)
		}
	}
}

var errOpen = errors.New("the transaction is open")

// answers passes on what a session says until it is ready: nil if its transaction
// has ended.
func (p *pooler) answers(client, session net.Conn, syncs <-chan bool) error {
	for {
		kind, message, err := readMessage(session)
		if err != nil {
			return err
		}
		ended := kind == 'Z' && message[5] == 'I'
		if ended {
			p.put(session) // before the client knows
		}
		if _, err := client.Write(message); err != nil {
			return err
		}
		switch {
		case ended:
			<-syncs
			return nil
		case kind == 'Z':
			<-syncs
			return errOpen
		}
	}
}

func readStartup(client net.Conn) ([]byte, error) {
	for {
		var length [4]byte
		if _, err := io.ReadFull(client, length[:]); err != nil {
			return nil, err
		}
		rest := make([]byte, binary.BigEndian.Uint32(length[:])-4)
		if _, err := io.ReadFull(client, rest); err != nil {
			return nil, err
		}
		const ssl, gss = 80877103, 80877104
		if code := binary.BigEndian.Uint32(rest); code != ssl && code != gss {
			return append(length[:], rest...), nil
		}
		if _, err := client.Write([]byte{'N'}); err != nil {
			return nil, err
		}
	}
}

func readMessage(c net.Conn) (kind byte, message []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return 0, nil, err
	}
	message = make([]byte, 1+binary.BigEndian.Uint32(head[1:]))
	copy(message, head[:])
	_, err = io.ReadFull(c, message[5:])
	return head[0], message, err
}

// needsAnswer reports whether a message of the log-in asks the client for one.
func needsAnswer(message []byte) bool {
	switch binary.BigEndian.Uint32(message[5:]) {
	case 3, 5, 10, 11: // a password, MD5, SASL and its continuation
		return true
	default:
		return false
	}
}
