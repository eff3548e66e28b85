package pixmed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"reflect"
	"runtime/debug"
	"strings"
	"time"
)

// Receiver takes care of notifications. It is to them what http.Handler is to
// requests: [Callbacks] are one, [Deduplicate] wraps one, and so can a durable
// inbox be, which returns nil once it has stored the notification.
//
// A nil error says that the notification is taken care of, and only then does
// the [Handler] answer 200. The notification belongs to the receiver; the context
// ends when Receive returns, so that no work may be left behind that needs it.
type Receiver interface {
	// Receive takes care of one notification.
	Receive(ctx context.Context, n *Notification) error
}

// ReceiverFunc is a function that is a [Receiver].
type ReceiverFunc func(ctx context.Context, n *Notification) error

// Receive calls f.
func (f ReceiverFunc) Receive(ctx context.Context, n *Notification) error { return f(ctx, n) }

// Callbacks is a [Receiver] with one function for each status.
type Callbacks struct {
	// Acknowledged is called when a MED request was received: treat the value
	// as blocked and gather evidence.
	Acknowledged func(ctx context.Context, n *Notification) error
	// Cancelled is called when the request was withdrawn: the value is free.
	Cancelled func(ctx context.Context, n *Notification) error
	// Debited is called when the request was upheld: the value is gone.
	Debited func(ctx context.Context, n *Notification) error
	// Other is called for every status whose own field is nil, and for those
	// that this package does not know. It is required, so that no status is
	// swallowed by accident; [Ignore] says that one does not matter.
	Other func(ctx context.Context, n *Notification) error
}

// Ignore is a callback that does nothing: it says that a status does not
// matter. The gateway gets its 200.
func Ignore(context.Context, *Notification) error { return nil }

// Validate reports a missing Other. [NewHandler] calls it.
func (c Callbacks) Validate() error {
	if c.Other == nil {
		return errors.New("pixmed: Callbacks.Other is nil: set it, or set it to pixmed.Ignore if no other status matters")
	}
	return nil
}

// Receive calls the function for the notification's status.
func (c Callbacks) Receive(ctx context.Context, n *Notification) error {
	callback := c.Other
	for _, known := range []struct {
		status   MEDStatus
		callback func(context.Context, *Notification) error
	}{{Acknowledged, c.Acknowledged}, {Cancelled, c.Cancelled}, {Debited, c.Debited}} {
		if n.MEDStatus == known.status && known.callback != nil {
			callback = known.callback
		}
	}
	if callback == nil {
		return c.Validate()
	}
	return callback(ctx, n)
}

// validate asks a part of the configuration, if it can tell, whether it is
// complete.
func validate(part any) error {
	if v, ok := part.(interface{ Validate() error }); ok {
		return v.Validate()
	}
	return nil
}

// isNil finds the nil pointer or function in an interface too, such as the
// result of a constructor whose error was not looked at.
func isNil(part any) bool {
	if part == nil {
		return true
	}
	v := reflect.ValueOf(part)
	return (v.Kind() == reflect.Pointer || v.Kind() == reflect.Func) && v.IsNil()
}

// Defaults of a [Handler].
const (
	// DefaultBodyLimit is the largest webhook body that is accepted, in bytes.
	DefaultBodyLimit = 64 << 10
	// DefaultCallbackTimeout is how long a Receiver may take.
	DefaultCallbackTimeout = 10 * time.Second

	bodyTimeout = 10 * time.Second // for a body to arrive, where the server sets no limit
	retryAfter  = "10"             // seconds, with a 503
)

// Handler is an http.Handler for infraction webhooks. It verifies, reads,
// decodes and validates a request, and hands the notification to a [Receiver]
// before it answers:
//
//	200  handled, or a duplicate of what was handled
//	400  malformed JSON, an empty body, a body that was cut off
//	401  refused by the verifier, before the body is parsed
//	405  not a POST
//	408  the body took longer than 10 seconds, or the server's ReadTimeout
//	413  the body is over the limit
//	415  a Content-Encoding other than identity
//	422  well formed, but not a valid infraction; the fields are named
//	500  the Receiver failed or panicked: the gateway sends it again
//	503  the Receiver failed after its deadline or is busy, with Retry-After
//
// Errors are application/problem+json (RFC 9457). Content-Type is not checked:
// gateways send anything. A Handler is safe for concurrent use.
type Handler struct {
	receiver        Receiver
	verifier        Verifier // nil only WithoutVerification
	fallback        http.Handler
	invalid         func(context.Context, []byte, error) error
	observe         func(context.Context, Outcome)
	logger          *slog.Logger
	bodyLimit       int64
	bodyTimeout     time.Duration
	callbackTimeout time.Duration
	now             func() time.Time
}

// HandlerOption configures [NewHandler].
type HandlerOption interface{ applyHandler(*handlerConfig) error }

type handlerConfig struct {
	Handler
	unverified bool
}

type handlerOption func(*handlerConfig) error

func (o handlerOption) applyHandler(c *handlerConfig) error { return o(c) }

// NewHandler returns a [Handler] that hands notifications to receiver.
//
// The gateway specifies no signature, so one of [WithVerifier] and
// [WithoutVerification] is required. The error names everything that is wrong
// with the arguments.
func NewHandler(receiver Receiver, opts ...HandlerOption) (*Handler, error) {
	c := handlerConfig{Handler: Handler{
		receiver:        receiver,
		bodyLimit:       DefaultBodyLimit,
		bodyTimeout:     bodyTimeout,
		callbackTimeout: DefaultCallbackTimeout,
		logger:          slog.Default(),
		now:             time.Now,
	}}
	var errs []error
	if isNil(receiver) {
		errs = append(errs, errors.New("pixmed: the Receiver is nil"))
	} else {
		errs = append(errs, validate(receiver))
	}
	for _, o := range opts {
		if o == nil {
			errs = append(errs, errors.New("pixmed: an option is nil"))
			continue
		}
		errs = append(errs, o.applyHandler(&c))
	}
	switch {
	case c.verifier == nil && !c.unverified:
		errs = append(errs, errors.New("pixmed: no verifier: use WithVerifier, or WithoutVerification if something in front of the handler verifies requests"))
	case c.verifier != nil && c.unverified:
		errs = append(errs, errors.New("pixmed: WithVerifier and WithoutVerification contradict each other"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &c.Handler, nil
}

// WithVerifier sets what decides whether a request comes from the gateway. To
// combine several, use [All] or [Any].
func WithVerifier(v Verifier) HandlerOption {
	return handlerOption(func(c *handlerConfig) error {
		if isNil(v) {
			return errors.New("pixmed: WithVerifier: the Verifier is nil")
		}
		if c.verifier != nil {
			return errors.New("pixmed: WithVerifier was given twice: combine the verifiers with All or Any")
		}
		c.verifier = v
		return validate(v)
	})
}

// WithoutVerification accepts requests from anybody. It is for handlers behind
// something that verifies, such as a gateway with mutual TLS: whoever can reach
// the handler can otherwise release blocked money in the merchant's books.
func WithoutVerification() HandlerOption {
	return handlerOption(func(c *handlerConfig) error {
		c.unverified = true
		return nil
	})
}

// WithFallback sets the handler of requests that are verified and well formed
// but not infractions ([ErrNotInfraction]), such as cash-in events on the same
// URL. It finds the body as if nobody had read it, and answers for itself: like
// any http.Handler, one that writes nothing answers 200, and its context ends when
// the client hangs up. Without a fallback such requests are answered 422. See
// [AcknowledgeEvent] for one.
func WithFallback(next http.Handler) HandlerOption {
	return handlerOption(func(c *handlerConfig) error {
		if isNil(next) {
			return errors.New("pixmed: WithFallback: the handler is nil")
		}
		c.fallback = next
		return nil
	})
}

// WithInvalid sets a callback for bodies that are verified and not empty, but
// malformed or not valid. It gets the body and what is wrong with it, a
// [*SyntaxError] or [*ValidationError]. When it returns nil the answer is 200,
// so it must have stored the body for a person to look at; its deadline and its
// errors are treated like a Receiver's. Without it the answer is 400 or 422 and
// the gateway may give up on the notification after some retries.
func WithInvalid(callback func(ctx context.Context, body []byte, cause error) error) HandlerOption {
	return handlerOption(func(c *handlerConfig) error {
		if callback == nil {
			return errors.New("pixmed: WithInvalid: the callback is nil")
		}
		c.invalid = callback
		return nil
	})
}

// WithBodyLimit sets the largest body that is accepted, in bytes;
// [DefaultBodyLimit] unless set. The spec's example has 245 bytes.
func WithBodyLimit(bytes int64) HandlerOption {
	return handlerOption(func(c *handlerConfig) error {
		if bytes < 1 {
			return fmt.Errorf("pixmed: WithBodyLimit: %d is not a positive number of bytes", bytes)
		}
		c.bodyLimit = bytes
		return nil
	})
}

// WithCallbackTimeout sets how long a Receiver may take before its context
// ends; [DefaultCallbackTimeout] unless set. One that fails after that is answered
// 503; one that does not heed its context is waited for, and its nil is a 200: the
// notification is taken care of. Gateways stop waiting for the
// answer after 3 to 25 seconds, so slow work belongs behind a durable inbox.
func WithCallbackTimeout(d time.Duration) HandlerOption {
	return handlerOption(func(c *handlerConfig) error {
		if d <= 0 {
			return fmt.Errorf("pixmed: WithCallbackTimeout: %v is not a positive duration", d)
		}
		c.callbackTimeout = d
		return nil
	})
}

// WithObserver sets a function that is called once for each request, after the
// answer is written, for metrics. It must be quick: the answer may leave only
// when it returns. A panic in it is logged and changes nothing.
func WithObserver(observe func(context.Context, Outcome)) HandlerOption {
	return handlerOption(func(c *handlerConfig) error {
		if observe == nil {
			return errors.New("pixmed: WithObserver: the function is nil")
		}
		c.observe = observe
		return nil
	})
}

// Option configures both [NewHandler] and [NewClient].
type Option interface {
	HandlerOption
	ClientOption
}

type loggerOption struct{ logger *slog.Logger }

func (o loggerOption) applyHandler(c *handlerConfig) error {
	c.logger = o.logger
	return o.check()
}

func (o loggerOption) check() error {
	if o.logger == nil {
		return errors.New("pixmed: WithLogger: the logger is nil")
	}
	return nil
}

// WithLogger sets the logger; unless set, it is what slog.Default() returns when
// the Handler or the Client is made. No credential and no body is ever logged, and
// of what a body holds only the transaction's id and the status.
//
// The Handler logs what it handled at debug level, what it turned away at warn
// and what failed at error. The Client logs its retries at info.
func WithLogger(l *slog.Logger) Option { return loggerOption{l} }

// Outcome describes how a request ended.
type Outcome struct {
	Result     Result
	StatusCode int           // the answer's; 0 where the fallback answered or panicked
	Key        Key           // zero unless the body was valid
	MEDStatus  MEDStatus     // empty unless the body was valid
	Err        error         // why, nil when accepted
	Duration   time.Duration // of the whole request, reading the body included
	Callback   time.Duration // of the Receiver, or of WithInvalid's callback
}

// Result is the kind of an [Outcome]. Its values suit a metric's label.
type Result string

// The results, with the status codes that they come with.
const (
	ResultAccepted  Result = "accepted"  // handled: 200
	ResultDuplicate Result = "duplicate" // was handled before: 200
	ResultInvalid   Result = "invalid"   // 400, 408, 413, 415, 422; 200 with WithInvalid
	ResultRefused   Result = "refused"   // 401, 405
	ResultOther     Result = "other"     // another kind of event: the fallback's answer, or 422
	ResultFailed    Result = "failed"    // 500, or no answer: the fallback panicked
	ResultBusy      Result = "busy"      // 503
)

// ServeHTTP handles a webhook request. See [Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := h.now()
	// A panic of the fallback is the server's to handle, as any handler's is, and
	// a callback may end the goroutine; neither goes unnoticed.
	o := Outcome{Result: ResultFailed, Err: errUnanswered}
	defer func() {
		o.Duration = h.now().Sub(start)
		h.log(r, o)
		if h.observe != nil {
			_ = h.guard(r.Context(), "observer", func() error {
				h.observe(r.Context(), o)
				return nil
			})
		}
	}()
	o = h.serve(w, r, start)
}

var errUnanswered = errors.New("pixmed: no answer was written: the fallback panicked, or a callback called runtime.Goexit")

// serve answers the request, step by step in the order of what each step costs.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, start time.Time) Outcome {
	body := h.lazyBody(w, r)
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return reject(w, ResultRefused, fmt.Errorf("pixmed: method %s instead of POST", clip(r.Method, maxFound)),
			problem{Status: http.StatusMethodNotAllowed, Detail: "Webhooks are sent with POST."})
	}

	if outcome, ok := h.verify(w, r, body); !ok {
		return outcome
	}
	for encoding := range strings.SplitSeq(strings.Join(r.Header.Values("Content-Encoding"), ","), ",") {
		if encoding = strings.Trim(encoding, " \t"); encoding != "" && !strings.EqualFold(encoding, "identity") {
			return reject(w, ResultInvalid, fmt.Errorf("pixmed: content encoding %q", clip(encoding, maxFound)),
				problem{Status: http.StatusUnsupportedMediaType, Detail: "Send the body without a Content-Encoding."})
		}
	}
	raw, err := body()
	if err != nil {
		return reject(w, ResultInvalid, err, bodyProblem(err))
	}
	if blank(raw) {
		detail := "The body is empty."
		if len(raw) == 0 && r.ContentLength != 0 {
			detail = "The body is empty, though the request announced one: a middleware in front of this handler may have consumed it."
		}
		return reject(w, ResultInvalid, &SyntaxError{Reason: emptyBody},
			problem{Status: http.StatusBadRequest, Detail: detail})
	}

	infraction, err := ParseInfraction(raw)
	switch {
	case errors.Is(err, ErrNotInfraction):
		return h.other(w, r, raw, err)
	case err != nil && h.invalid != nil:
		o := h.call(w, r, "WithInvalid callback", func(ctx context.Context) error { return h.invalid(ctx, raw, err) })
		if o.Result == ResultAccepted {
			o.Result, o.Err = ResultInvalid, err
		}
		return o
	case err != nil:
		return reject(w, ResultInvalid, err, parseProblem(err))
	}

	n := &Notification{Infraction: *infraction, Raw: raw, ReceivedAt: start, Attempt: 1}
	key, status := n.Key(), n.MEDStatus // the Receiver may change n
	o := h.call(w, r, "Receiver", func(ctx context.Context) error { return h.receiver.Receive(ctx, n) })
	o.Key, o.MEDStatus = key, status
	return o
}

// verify reports whether the request may go on.
func (h *Handler) verify(w http.ResponseWriter, r *http.Request, body func() ([]byte, error)) (Outcome, bool) {
	if h.verifier == nil {
		return Outcome{}, true
	}
	var bodyErr error
	err := h.guard(r.Context(), "Verifier", func() error {
		return h.verifier.Verify(r, func() (b []byte, err error) {
			b, bodyErr = body()
			return b, bodyErr
		})
	})
	_, panicked := errors.AsType[*panicError](err)
	switch {
	case err == nil:
		return Outcome{}, true
	case panicked:
		return reject(w, ResultFailed, err, problem{Status: http.StatusInternalServerError, Detail: tryAgain}), false
	case bodyErr != nil: // not the verifier's verdict
		return reject(w, ResultInvalid, bodyErr, bodyProblem(bodyErr)), false
	}
	if v, ok := h.verifier.(verifier); ok && v.challenge != "" {
		w.Header().Set("WWW-Authenticate", v.challenge)
	}
	return reject(w, ResultRefused, err,
		problem{Status: http.StatusUnauthorized, Detail: "The request could not be verified to come from the gateway."}), false
}

// lazyBody returns a function that reads the body when it is first called.
func (h *Handler) lazyBody(w http.ResponseWriter, r *http.Request) func() ([]byte, error) {
	h.limitBody(w, r)
	var (
		done bool
		body []byte
		err  error
	)
	return func() ([]byte, error) {
		if !done {
			done = true
			body, err = h.readBody(w, r)
		}
		return body, err
	}
}

func (h *Handler) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	if r.ContentLength > h.bodyLimit {
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close") // or the server would read it before the answer
		}
		return nil, &http.MaxBytesError{Limit: h.bodyLimit}
	}
	lift := h.limitBody(w, r) // once more: a verifier may have taken its time
	var b bytes.Buffer
	if r.ContentLength > 0 {
		// ReadFrom wants room for one more read to see the end.
		b.Grow(int(min(r.ContentLength, DefaultBodyLimit)) + bytes.MinRead)
	}
	_, err := b.ReadFrom(http.MaxBytesReader(w, r.Body, h.bodyLimit))
	if err == nil {
		lift()
	}
	return b.Bytes(), err
}

// limitBody limits the time that the body may take, since a server without a
// ReadTimeout would wait for a slow one forever. Where it has one, that one
// counts. Setting a deadline may be unsupported by a middleware's
// ResponseWriter; then the server's is all there is.
//
// The limit must be lifted once the body is there, or it would end the request's
// context in the middle of a callback. After an error, and where the answer does
// not need the body, it stays: the server reads what is left of a body before it
// sends the answer. It does not outlast the request.
func (h *Handler) limitBody(w http.ResponseWriter, r *http.Request) (lift func()) {
	if s, ok := r.Context().Value(http.ServerContextKey).(*http.Server); ok && s.ReadTimeout > 0 || r.ContentLength == 0 {
		return func() {}
	}
	rc := http.NewResponseController(w)
	if rc.SetReadDeadline(time.Now().Add(h.bodyTimeout)) != nil {
		return func() {}
	}
	return func() { _ = rc.SetReadDeadline(time.Time{}) } // as it was, by all that can be known
}

// other answers an event that is not an infraction.
func (h *Handler) other(w http.ResponseWriter, r *http.Request, raw []byte, err error) Outcome {
	if h.fallback == nil {
		return reject(w, ResultOther, err, parseProblem(err))
	}
	again := r.WithContext(r.Context()) // a shallow copy: the caller's request keeps its drained body
	again.Body = restoredBody{bytes.NewReader(raw)}
	again.ContentLength = int64(len(raw))
	h.fallback.ServeHTTP(w, again)
	return Outcome{Result: ResultOther, Err: err}
}

// restoredBody is a body that was read, within the Handler's limit, and can be
// read again.
type restoredBody struct{ *bytes.Reader }

func (restoredBody) Close() error { return nil }

// call runs a callback of the user and answers by its outcome.
func (h *Handler) call(w http.ResponseWriter, r *http.Request, what string, callback func(context.Context) error) Outcome {
	// A client that hangs up must not undo half of the callback's work, so the
	// context keeps the request's values but not its end.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), h.callbackTimeout)
	defer cancel()
	start := h.now()
	var duplicate, busy bool
	err := h.guard(ctx, what, func() error {
		err := callback(ctx)
		if err != nil { // whose methods are the user's, and may panic as well
			duplicate, busy = isDuplicate(err), errors.Is(err, ErrBusy)
			_ = err.Error()
		}
		return err
	})
	took := h.now().Sub(start)

	var o Outcome
	switch {
	case err == nil:
		o = Outcome{Result: ResultAccepted, StatusCode: http.StatusOK}
		w.WriteHeader(http.StatusOK)
	case duplicate:
		o = Outcome{Result: ResultDuplicate, StatusCode: http.StatusOK, Err: err}
		w.WriteHeader(http.StatusOK)
	case busy, ctx.Err() != nil:
		w.Header().Set("Retry-After", retryAfter)
		o = reject(w, ResultBusy, err, problem{Status: http.StatusServiceUnavailable, Detail: tryAgain})
	default:
		o = reject(w, ResultFailed, err, problem{Status: http.StatusInternalServerError, Detail: tryAgain})
	}
	o.Callback = took
	return o
}

// isDuplicate is errors.Is(err, ErrDuplicate) but for joined errors: what was
// joined with ErrDuplicate is a failure that a 200 would lose.
func isDuplicate(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if err == ErrDuplicate { //nolint:errorlint // see above
			return true
		}
	}
	return false
}

// guard calls f and turns a panic into an error, after logging its stack.
func (h *Handler) guard(ctx context.Context, what string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{what, v}
			h.logger.LogAttrs(ctx, slog.LevelError, "pixmed: recovered from a panic",
				slog.String("error", err.Error()), slog.String("stack", string(debug.Stack())))
		}
	}()
	return f()
}

type panicError struct {
	what  string
	value any
}

func (e *panicError) Error() string {
	return fmt.Sprintf("pixmed: the %s panicked: %v", e.what, e.value)
}

func (h *Handler) log(r *http.Request, o Outcome) {
	level, text := slog.LevelWarn, "pixmed: webhook turned away"
	switch o.Result {
	case ResultRefused:
	case ResultAccepted, ResultDuplicate:
		level, text = slog.LevelDebug, "pixmed: webhook handled"
	case ResultInvalid:
		if o.StatusCode == http.StatusOK {
			text = "pixmed: invalid webhook taken by WithInvalid's callback"
		}
	case ResultOther:
		if h.fallback != nil {
			level, text = slog.LevelDebug, "pixmed: webhook passed to the fallback"
		}
	case ResultFailed, ResultBusy:
		level, text = slog.LevelError, "pixmed: webhook failed"
	}
	if !h.logger.Enabled(r.Context(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("result", string(o.Result)),
		slog.Int("status", o.StatusCode),
		slog.String("remote", r.RemoteAddr),
		slog.Duration("duration", o.Duration),
	}
	if o.Key != (Key{}) {
		attrs = append(attrs, slog.String("transaction_id", o.Key.TransactionID), slog.String("med_status", clip(string(o.MEDStatus), maxFound)))
	}
	if invalid, ok := errors.AsType[*ValidationError](o.Err); ok {
		attrs = append(attrs, slog.String("error", "pixmed: invalid infraction"), slog.Any("fields", invalid.names()))
	} else if o.Err != nil {
		attrs = append(attrs, slog.String("error", o.Err.Error()))
	}
	h.logger.LogAttrs(r.Context(), level, text, attrs...) //nolint:sloglint // one of the constants above
}

// bodyProblem answers an error of reading the body.
func bodyProblem(err error) problem {
	var timeout interface{ Timeout() bool }
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return problem{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("The body is larger than %d bytes.", tooLarge.Limit)}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return problem{Status: http.StatusRequestTimeout, Detail: "The body took too long to arrive."}
	}
	if errors.Is(err, http.ErrBodyReadAfterClose) {
		return problem{Status: http.StatusBadRequest, Detail: "The body was closed before this handler could read it: a middleware in front of it may have consumed it."}
	}
	return problem{Status: http.StatusBadRequest, Detail: "The body was cut off."}
}

// parseProblem answers an error of [ParseInfraction].
func parseProblem(err error) problem {
	if _, ok := errors.AsType[*SyntaxError](err); ok {
		return problem{Status: http.StatusBadRequest, Detail: sentence(err)}
	}
	p := problem{Status: http.StatusUnprocessableEntity, Detail: sentence(err)}
	if invalid, ok := errors.AsType[*ValidationError](err); ok {
		p.Errors = invalid.Fields
	}
	return p
}

// sentence is an error of this package as a sentence for the sender.
func sentence(err error) string {
	text := strings.TrimPrefix(err.Error(), "pixmed: ")
	return strings.ToUpper(text[:1]) + text[1:] + "."
}
