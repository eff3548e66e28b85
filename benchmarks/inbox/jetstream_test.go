package inbox_test

import (
	"context"
	"errors"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pixmed-go/pixmed"
)

// startJetStream starts a NATS server in this process, and a stream in files. A
// message is synced to disk before it is acknowledged (SyncAlways), and the request
// waits for that. Its id recognises a redelivery for two minutes, the default; the
// server holds the ids in memory.
func startJetStream(ctx context.Context, at place, _ pixmed.Receiver) (*peer, error) {
	ns, err := natsserver.NewServer(&natsserver.Options{
		JetStream: true, StoreDir: at.folder, SyncAlways: true,
		DontListen: true, NoSigs: true, NoLog: true,
	})
	if err != nil {
		return nil, err
	}
	p := &peer{synced: func(context.Context) error {
		if c := ns.JetStreamConfig(); c == nil || !c.SyncAlways {
			return errors.New("JetStream does not sync each message")
		}
		return nil
	}}
	p.onClose(func() error { ns.Shutdown(); ns.WaitForShutdown(); return nil })
	ns.Start()
	if !ns.ReadyForConnections(30 * time.Second) {
		return p, errors.New("the NATS server is not ready")
	}
	conn, err := nats.Connect("", nats.InProcessServer(ns))
	if err != nil {
		return p, err
	}
	p.onClose(func() error { conn.Close(); return nil })
	js, err := jetstream.New(conn)
	if err != nil {
		return p, err
	}
	const subject = "notifications"
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name: "NOTIFICATIONS", Subjects: []string{subject},
		Storage: jetstream.FileStorage, Duplicates: 2 * time.Minute,
	})
	if err != nil {
		return p, err
	}
	p.stored = func(ctx context.Context) (int, error) {
		info, err := stream.Info(ctx)
		if err != nil {
			return 0, err
		}
		return int(info.State.Msgs), nil
	}
	p.handler = storing(func(ctx context.Context, i *pixmed.Infraction, body []byte) error {
		id := i.TransactionID + "/" + i.ExternalID + "/" + string(i.MEDStatus)
		_, err := js.Publish(ctx, subject, body, jetstream.WithMsgID(id))
		return err
	})
	return p, nil
}
