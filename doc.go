// Package pixmed receives the infraction webhooks of a Brazilian Pix payment
// gateway and fetches transaction receipts.
//
// The gateway posts an infraction when a Pix transaction comes under a MED
// request (Mecanismo Especial de Devolução, the Central Bank's special refund
// mechanism): ACKNOWLEDGED when the value is blocked, CANCELLED when it is
// released, DEBITED when it is gone. A transaction's receipt, the evidence in
// such a case, is a PDF in base64 inside JSON.
//
// # Receiving
//
// A [Handler] is an http.Handler that verifies, decodes and validates a request
// and calls a [Receiver], in the simplest case [Callbacks]:
//
//	callbacks := pixmed.Callbacks{
//		Acknowledged: func(ctx context.Context, n *pixmed.Notification) error {
//			return ledger.Block(ctx, n.TransactionID, n.Value)
//		},
//		Cancelled: func(ctx context.Context, n *pixmed.Notification) error {
//			return ledger.Release(ctx, n.TransactionID)
//		},
//		Other: askSomebody,
//	}
//	handler, err := pixmed.NewHandler(
//		pixmed.Deduplicate(&pixmed.MemoryStore{}, callbacks),
//		pixmed.WithVerifier(pixmed.HeaderSecret("X-Webhook-Secret", secrets...)),
//	)
//	mux.Handle("/webhooks/infraction", handler)
//
// # What a 200 means
//
// The gateway takes exactly 200 as success, and sends a notification again
// otherwise. The handler answers 200 if, and only if, the notification is
// handled: the Receiver returned nil or found a duplicate, or the callback of
// [WithInvalid] or the handler of [WithFallback] took it. Everything else has a
// status code of its own; see [Handler]. Mount it where nothing reads the body
// first.
//
// The callback runs before the answer, in the request's goroutine, and has 10
// seconds unless [WithCallbackTimeout] changes that. Its context does not end
// when the client hangs up. Gateways stop waiting after 3 to 25 seconds and send
// again, so work that is slow, or must not be lost in a crash, belongs behind
// the durable inbox of module github.com/pixmed-go/pixmed/inbox: a Receiver that
// returns nil once it has stored the notification, and calls yours afterwards,
// with retries and in order.
//
// # Duplicates
//
// A delivery whose medStatus and value equal the last ones recorded for its
// transactionId and externalId is answered 200 without calling you; any change
// is delivered, even back to an earlier status, because dropping a reopened case
// would cost you the money. [Deduplicate] does that, and so does the inbox;
// Previous, SeenAt and MaybeReopened of a [Notification] say what came before.
//
// # Gateways that differ
//
// What may be an infraction in a form that this package does not know is a
// [ValidationError] and reaches the callback of [WithInvalid], where a person
// sees it. Only an event whose transactionStatus names another kind, and that
// has no trace of a MED status, is [ErrNotInfraction]. A medStatus that is
// unknown or missing is data: it reaches [Callbacks].Other.
//
// # Who is sending
//
// The gateway specifies no signature, so [NewHandler] returns an error unless it
// gets a [Verifier] or, explicitly, [WithoutVerification]. This package has
// verifiers for secrets, HTTP Basic, HMAC and client networks; [All] and [Any]
// combine them. Several secrets are accepted at once, for rotation.
//
// # Fetching
//
// A [Client] fetches receipts: [Client.Receipt] into memory, [Client.OpenReceipt]
// as a stream in constant memory, [Client.SaveReceipt] into a file, atomically.
// [DecodeReceipt] decodes an envelope from anywhere. A PDF that is short or wrong
// is never called whole: only io.EOF, or a nil error, means that all of it came.
//
// [Client.Get] fetches what this package does not model. Use it to look the
// transaction up before money moves.
//
// # Retries
//
// The client sends a request up to five times ([DefaultRetries]), after a 202 (not
// ready yet), 408, 425, 429, every 5xx but 501, and connection errors. It waits
// half a second before the first retry and twice as long before each further one,
// at most 30 seconds, less up to a half at random. A Retry-After in the future
// replaces the wait, up to that maximum; one that asks for more ends the call with
// an error that says so. A gateway that sends nothing for a minute counts as a
// broken connection.
//
// A download that breaks is resumed: fetched again, compared up to where it broke,
// and continued. This takes from the same budget of retries, which is the only
// limit.
//
// Other status codes, redirects to another origin, certificates that do not verify
// and ports that speak plain http are not retried, and nothing is once the context
// has ended.
//
// # Errors
//
// Errors work with errors.Is and errors.As: [SyntaxError], [ValidationError] and
// [ErrNotInfraction] from parsing; [APIError] with [ErrNotReady],
// [ErrUnauthorized], [ErrForbidden], [ErrNotFound], [ErrRateLimited] and
// [ErrUnavailable] from the gateway's answers; ErrReceipt… from what is wrong with
// a receipt. When a context ends a call, its error and its cause are both found.
//
// No error and no log line holds a credential, or a control character that the
// gateway sent: its texts are cut, and a text that shows a credential is replaced
// as a whole.
//
// # Money
//
// An [Amount] is an integer number of centavos. It never passes through a float.
//
// # Testing
//
// Package pixmedtest has a fake gateway that delivers webhooks and serves
// receipts, with faults on demand.
//
// # What may change
//
// The module is at v0: an exported name may change with a minor version, and the
// change log says how. New statuses and new fields may appear in the payload at
// any time, as they do at the gateway: handle new statuses in [Callbacks].Other.
package pixmed
