// Package pixmedtest is a fake payment gateway for testing code that uses
// package pixmed, much as net/http/httptest is a fake of servers and clients.
// It does not import package testing, so that programs can use it too: a demo,
// a load test, a sandbox for other teams.
//
// Code that acts on notifications is tested at three levels.
//
// A callback is a function. Call it with a notification:
//
//	err := blockFunds(ctx, pixmedtest.NewNotification(func(n *pixmed.Notification) {
//		n.Value = 250 * pixmed.Real
//	}))
//
// A handler, with its verifier and its place in the router, takes requests and
// a recorder, without a server:
//
//	w := httptest.NewRecorder()
//	router.ServeHTTP(w, pixmedtest.NewRequest("/webhooks/med", []byte(pixmedtest.Sample),
//		pixmedtest.HeaderSecret("X-Webhook-Secret", secret)))
//
// The whole program, over the network, takes a [Gateway]. It delivers webhooks
// as a real one does, again until it gets 200, and serves the receipts that the
// program asks for:
//
//	gateway := pixmedtest.NewGateway(
//		pixmedtest.WithCredential("api_key", "key"),
//		pixmedtest.WithSigner(pixmedtest.HeaderSecret("X-Webhook-Secret", secret)),
//	)
//	defer gateway.Close()
//	infraction := pixmedtest.NewInfraction()
//	pdf := gateway.AddReceipt(infraction)
//	attempts, err := gateway.Deliver(ctx, programURL+"/webhooks/med", infraction)
//
// What goes wrong with gateways goes wrong here on demand. [Gateway.Fail] and
// [Gateway.FailAlways] make receipt requests fail by a [Fault]: a status code,
// Retry-After, a proxy's HTML page, latency, a connection that breaks or stalls
// at a byte. An [Encoding] writes receipts as odd encoders do. A [Schedule]
// lets the test decide when a webhook is sent again, [Shuffled] makes
// duplicates and disorder, and [Gateway.Post] sends what is no infraction.
//
// All of this is deterministic, but for the ids of [NewInfraction] and the port
// that a Gateway listens on.
package pixmedtest
