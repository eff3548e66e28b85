// Package pixmedtest is a fake payment gateway for testing code that uses
// package pixmed, much as net/http/httptest provides fake servers. It does not
// import package testing, so programs can use it too: a demo, a load test, a
// sandbox for other teams.
//
// There are three levels at which to test code that handles notifications.
//
// A callback is a function. Call it with a notification:
//
//	err := blockFunds(ctx, pixmedtest.NewNotification(func(n *pixmed.Notification) {
//		n.Value = 250 * pixmed.Real
//	}))
//
// A handler, including its verifier and its route, can be called with a request
// and a recorder. It needs no server:
//
//	w := httptest.NewRecorder()
//	router.ServeHTTP(w, pixmedtest.NewRequest("/webhooks/med", []byte(pixmedtest.Sample),
//		pixmedtest.HeaderSecret("X-Webhook-Secret", secret)))
//
// A whole program can be run against a [Gateway] over the network. Like a real
// gateway, it sends each webhook until it gets 200, and it serves the receipts
// that the program fetches:
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
// A Gateway also fails on demand. [Gateway.Fail] and [Gateway.FailAlways] make
// receipt requests fail with a [Fault]: a status code, Retry-After, a proxy's
// HTML page, latency, or a connection that breaks or stalls at a given byte. An
// [Encoding] makes receipts look as unusual encoders write them. A [Schedule]
// lets the test decide when a webhook is sent again, [Shuffled] returns
// duplicates out of order, [WithGzip] compresses webhooks, and [Gateway.Post]
// sends any other body.
//
// Everything is deterministic except the ids made by [NewInfraction] and the
// port that a Gateway listens on.
package pixmedtest
