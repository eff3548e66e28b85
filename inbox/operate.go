package inbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pixmed-go/pixmed"
	"github.com/pixmed-go/pixmed/inbox/internal/ledger"
	"github.com/pixmed-go/pixmed/internal/text"
)

// Errors of the functions for operators. Check for them with errors.Is.
var (
	// ErrInvalidArgument is returned when an id is not a UUID, or a filter, a cursor,
	// a limit or an option is not valid. The text says which.
	ErrInvalidArgument = errors.New("invalid argument")
	// ErrNotFound is returned when there is no event, or no case, with the given id.
	ErrNotFound = errors.New("there is no such event or case")
	// ErrNotReplayable is returned by Replay when the event is neither dead nor
	// quarantined nor resolved.
	ErrNotReplayable = errors.New("the event is neither dead nor quarantined nor resolved")
	// ErrSuperseded is returned by Replay when a newer notification of the case is
	// already done: replaying an old one could undo it. Look first, then use [Force].
	ErrSuperseded = errors.New("a newer notification of the case is done; replaying this one could undo it")
	// ErrNotResolvable is returned by Resolve when the event is neither dead nor
	// quarantined; it may be resolved already.
	ErrNotResolvable = errors.New("the event is neither dead nor quarantined")
	// ErrNotPending is returned by Discard and RetryNow when the event is not pending.
	ErrNotPending = errors.New("the event is not pending")
	// ErrRunning is returned by Discard and RetryNow when the receiver is called for
	// the event right now.
	ErrRunning = errors.New("the event is running now")
	// ErrNotInTurn is returned by RetryNow when an earlier event of the transaction is
	// pending: retry that one.
	ErrNotInTurn = errors.New("the event waits for an earlier one of its transaction")
	// ErrPending is returned by Delete when the case has a pending event. Use [Force] to
	// delete it all the same.
	ErrPending = errors.New("the case has a pending event")
	// ErrAnswered is returned by MarkAnswered when the case was already answered since
	// it opened. The text says by whom and when.
	ErrAnswered = errors.New("the case is already answered")
	// ErrEnded is returned by MarkAnswered and End when the case is not open. The text
	// says when it ended, and by whom if a person ended it.
	ErrEnded = errors.New("the case has ended")
)

// ActionOption changes what a function for operators does, or names who calls it.
type ActionOption func(*action) error

type action struct {
	by            string
	named, forced bool
	mayForce      bool
}

// Bounds of what a person may say, in bytes.
const (
	maxName = 200
	maxNote = 4 << 10
)

// By names the person who acts, in at most 200 bytes of printable text. The name is
// kept with the case and logged.
func By(name string) ActionOption {
	return func(a *action) error {
		switch {
		case a.named:
			return errors.New("By is given twice")
		case len(name) > maxName || !utf8.ValidString(name) || strings.ContainsFunc(name, isControl):
			return fmt.Errorf("the name is longer than %d bytes, or holds control characters", maxName)
		}
		a.by, a.named = name, true
		return nil
	}
}

// Force replays an event even if a newer one of its case is done or, if it is
// quarantined, even if it repeats the last accepted one; and deletes a case even if
// an event of it is pending. It is for Replay, ReplayAll and Delete.
func Force() ActionOption {
	return func(a *action) error {
		switch {
		case a.forced:
			return errors.New("Force is given twice")
		case !a.mayForce:
			return errors.New("Force has no effect here")
		}
		a.forced = true
		return nil
	}
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// act reads the options of a function.
func act(function string, mayForce bool, opts []ActionOption) (action, error) {
	a := action{mayForce: mayForce}
	for _, opt := range opts {
		if opt == nil {
			return a, invalidf("%s: an option is nil", function)
		}
		if err := opt(&a); err != nil {
			return a, invalidf("%s: %v", function, err)
		}
	}
	return a, nil
}

func checkNote(function, note string) error {
	if len(note) > maxNote || !isText(note) {
		return invalidf("%s: the note is longer than %d bytes, or not valid text", function, maxNote)
	}
	return nil
}

// MarkAnswered records that a case was answered: no more reminders are called for it.
// It returns [ErrNotFound], [ErrAnswered] if the case was already answered since it
// opened, or [ErrEnded] if it is not open; after an error nothing has changed and the
// note is not kept. A case that opens again counts as not answered.
func (in *Inbox) MarkAnswered(ctx context.Context, transactionID, note string, opts ...ActionOption) error {
	return in.decide(ctx, "MarkAnswered", Answered, transactionID, note, false, opts, (*ledger.Case).MarkAnswered)
}

// End ends a case because a person says that it is over, although the gateway's last
// status is not final. It returns [ErrNotFound], or [ErrEnded] if the case has ended;
// after an error nothing has changed and the note is not kept. Only a later
// notification that is neither final nor a duplicate opens the case again.
func (in *Inbox) End(ctx context.Context, transactionID, note string, opts ...ActionOption) error {
	return in.decide(ctx, "End", Ended, transactionID, note, true, opts, (*ledger.Case).End)
}

func (in *Inbox) decide(ctx context.Context, function string, what Action, transactionID, note string, all bool, opts []ActionOption, decide func(c *ledger.Case, by, note string) ledger.Decided) error {
	a, err := act(function, false, opts)
	if err != nil {
		return err
	}
	if err := checkNote(function, note); err != nil {
		return err
	}
	id, err := parseID("transaction id", transactionID)
	if err != nil {
		return err
	}
	var decided ledger.Decided
	var summary ledger.Summary
	op := &ledger.Op{TransactionID: id, All: all}
	op.Apply = func(c *ledger.Case) {
		d := decide(c, a.by, note)
		if left := d == ledger.DecidedAnswered || d == ledger.DecidedEnded; decided != ledger.Decides || !left {
			decided, summary = d, c.Summary() // a second run, after a lost COMMIT answer, must not report what the first one did
		}
	}
	if err := in.committer.commit(ctx, op); err != nil {
		return err
	}
	switch decided {
	case ledger.DecidedNothing:
		return fmt.Errorf("%w: %s", ErrNotFound, id)
	case ledger.DecidedAnswered:
		return fmt.Errorf("%w, %s: %s", ErrAnswered, byAndWhen(summary.AnsweredBy, summary.AnsweredAt), id)
	case ledger.DecidedEnded:
		return fmt.Errorf("%w, %s: %s", ErrEnded, byAndWhen(summary.EndedBy, summary.EndedAt), id)
	case ledger.Decides:
		in.log.InfoContext(ctx, "pixmed: an operator acted on a case", "action", what, "transaction_id", id, "by", a.by)
	default:
	}
	return nil
}

// byAndWhen says who did something, if that is known, and when.
func byAndWhen(by string, at time.Time) string {
	when := "at " + at.UTC().Format(time.RFC3339)
	if by == "" {
		return when
	}
	return "by " + text.Printable(by, maxName) + " " + when
}

// Replay makes a dead event pending again at its old place, with all its attempts, or
// accepts a quarantined one if it is valid by now, as after an update of this module.
// A resolved event is treated as what it was before. It returns [ErrNotFound],
// [ErrNotReplayable], [ErrSuperseded], [pixmed.ErrDuplicate] for a quarantined event
// that repeats the last accepted one of its case, or why a quarantined body is not
// valid.
func (in *Inbox) Replay(ctx context.Context, id string, opts ...ActionOption) error {
	a, err := act("Replay", true, opts)
	if err != nil {
		return err
	}
	return in.replay(ctx, id, a)
}

func (in *Inbox) replay(ctx context.Context, id string, a action) error {
	e, err := in.get(ctx, id)
	if err != nil {
		return err
	}
	key := *e
	switch {
	case e.State != ledger.Dead && e.State != ledger.Quarantined && e.State != ledger.Resolved:
		return fmt.Errorf("%w: %s is %s", ErrNotReplayable, e.ID, e.State)
	case e.Seq == 0:
		infraction, err := pixmed.ParseInfraction(e.Raw)
		if err != nil {
			return err
		}
		k := infraction.Key()
		key.TransactionID, key.ExternalID, key.EndToEndID = k.TransactionID, k.ExternalID, string(infraction.EndToEndID)
		key.Status, key.Value = string(infraction.MEDStatus), int64(infraction.Value)
	}
	result := ledger.ReplayUnneeded
	op := &ledger.Op{TransactionID: key.TransactionID, Event: e.ID, All: true, Create: e.Seq == 0}
	op.Apply = func(c *ledger.Case) {
		r := c.Replay(e.ID, key, a.forced)
		if r == ledger.ReplayStarted {
			c.Note(ledger.Note{EventID: e.ID, Action: string(Replayed), By: a.by})
		}
		if result != ledger.ReplayStarted || r != ledger.ReplayUnneeded {
			result = r // a second run, after a lost COMMIT answer, must not report what the first one did
		}
	}
	if err := in.committer.commit(ctx, op); err != nil {
		return err
	}
	switch result {
	case ledger.ReplaySuperseded:
		return fmt.Errorf("%w: %s", ErrSuperseded, e.ID)
	case ledger.ReplayDuplicate:
		return pixmed.ErrDuplicate
	case ledger.ReplayUnneeded:
		return fmt.Errorf("%w: %s", ErrNotReplayable, e.ID)
	default:
	}
	in.log.InfoContext(ctx, "pixmed: an operator replayed a notification", "event_id", e.ID, "transaction_id", key.TransactionID, "forced", a.forced, "by", a.by)
	return nil
}

// Discard makes a pending event dead without calling the receiver again, so that the
// events of its transaction that wait for it run. A redelivery does not revive it;
// Replay does. It returns [ErrNotFound], [ErrNotPending], or [ErrRunning] while
// the receiver is called for it. To discard from within the receiver, see the
// function of this name.
func (in *Inbox) Discard(ctx context.Context, id string, opts ...ActionOption) error {
	return in.actOn(ctx, "Discard", Discarded, id, "", opts, func(c *ledger.Case, id string) ledger.Acted {
		return c.Discard(id, "discarded by an operator")
	})
}

// RetryNow runs a pending event at once instead of at its [Event].NextAttempt. The
// attempt counts like any other. It returns [ErrNotFound], [ErrNotPending],
// [ErrRunning], or [ErrNotInTurn] if the event is not the first pending one of its
// transaction.
func (in *Inbox) RetryNow(ctx context.Context, id string, opts ...ActionOption) error {
	return in.actOn(ctx, "RetryNow", Retried, id, "", opts, (*ledger.Case).RetryNow)
}

// Resolve closes a dead or quarantined event that a person has dealt with: it is no
// longer counted, and its case keeps it with the note. It returns [ErrNotFound], or
// [ErrNotResolvable], also if the event is already resolved; after an error the note is
// not kept.
func (in *Inbox) Resolve(ctx context.Context, id, note string, opts ...ActionOption) error {
	if err := checkNote("Resolve", note); err != nil {
		return err
	}
	return in.actOn(ctx, "Resolve", ResolvedByHand, id, note, opts, (*ledger.Case).Resolve)
}

// actOn does something to an event.
func (in *Inbox) actOn(ctx context.Context, function string, what Action, id, note string, opts []ActionOption, do func(*ledger.Case, string) ledger.Acted) error {
	a, err := act(function, false, opts)
	if err != nil {
		return err
	}
	return in.actBy(ctx, what, id, note, a, do)
}

func (in *Inbox) actBy(ctx context.Context, what Action, id, note string, a action, do func(*ledger.Case, string) ledger.Acted) error {
	unneeded := ErrNotPending
	if what == ResolvedByHand {
		unneeded = ErrNotResolvable
	}
	e, err := in.get(ctx, id)
	switch {
	case err != nil:
		return err
	case what == ResolvedByHand && e.State == ledger.Quarantined:
		return in.dismiss(ctx, e.ID, &ledger.Note{EventID: e.ID, Action: string(what), By: a.by, Text: note})
	case e.Seq == 0:
		return fmt.Errorf("%w: %s is %s", unneeded, e.ID, e.State)
	}
	result := ledger.ActsUnneeded
	op := &ledger.Op{TransactionID: e.TransactionID, Event: e.ID}
	op.Apply = func(c *ledger.Case) {
		r := do(c, e.ID)
		if r == ledger.Acts {
			c.Note(ledger.Note{EventID: e.ID, Action: string(what), By: a.by, Text: note})
		}
		if result != ledger.Acts || r != ledger.ActsUnneeded {
			result = r
		}
	}
	if err := in.committer.commit(ctx, op); err != nil {
		return err
	}
	switch result {
	case ledger.ActsRunning:
		return fmt.Errorf("%w: %s", ErrRunning, e.ID)
	case ledger.ActsNotInTurn:
		return fmt.Errorf("%w: %s", ErrNotInTurn, e.ID)
	case ledger.ActsUnneeded:
		return fmt.Errorf("%w: %s is %s", unneeded, e.ID, e.State)
	default:
	}
	in.log.InfoContext(ctx, "pixmed: an operator acted on a notification", "action", what, "event_id", e.ID, "transaction_id", e.TransactionID, "by", a.by)
	return nil
}

// dismiss resolves what is quarantined, or deletes it.
func (in *Inbox) dismiss(ctx context.Context, id string, note *ledger.Note) error {
	err := in.engine.Dismiss(ctx, id, note)
	switch {
	case errors.Is(err, ledger.ErrNone) && note != nil: // it was there a moment ago
		return fmt.Errorf("%w: %s", ErrNotResolvable, id)
	case errors.Is(err, ledger.ErrNone):
		return fmt.Errorf("%w: %s", ErrNotFound, id)
	case err != nil:
		return err
	case note != nil:
		in.log.InfoContext(ctx, "pixmed: an operator resolved a quarantined body", "event_id", id, "by", note.By)
	}
	return nil
}

// Report is what [Inbox.ReplayAll] or [Inbox.ResolveAll] did.
type Report struct {
	// Done is how many were replayed, or resolved.
	Done int
	// Skipped are the ids of events that were left alone because a newer one of their
	// case is done, they repeat the last accepted one, or they are not valid yet.
	Skipped []string
}

// ReplayAll replays all that a filter selects, the oldest first, as [Inbox.Replay]
// does. The filter's State must be Dead or Quarantined; After and Limit must not be
// set. Events that somebody else replays at the same time are not counted. After an
// error it may be called again.
func (in *Inbox) ReplayAll(ctx context.Context, f Filter, opts ...ActionOption) (Report, error) {
	a, err := act("ReplayAll", true, opts)
	if err != nil {
		return Report{}, err
	}
	return in.all(ctx, "ReplayAll", f, func(id string) error { return in.replay(ctx, id, a) })
}

// ResolveAll resolves all that a filter selects, as [Inbox.Resolve] does. The
// filter's State must be Dead or Quarantined; After and Limit must not be set. After
// an error it may be called again.
func (in *Inbox) ResolveAll(ctx context.Context, f Filter, note string, opts ...ActionOption) (Report, error) {
	a, err := act("ResolveAll", false, opts)
	if err == nil {
		err = checkNote("ResolveAll", note)
	}
	if err != nil {
		return Report{}, err
	}
	return in.all(ctx, "ResolveAll", f, func(id string) error {
		return in.actBy(ctx, ResolvedByHand, id, note, a, (*ledger.Case).Resolve)
	})
}

// all does something to all events that a filter selects, the oldest first: once a
// newer event of a case is done, an older one is not replayed.
func (in *Inbox) all(ctx context.Context, function string, f Filter, do func(id string) error) (Report, error) {
	var r Report
	switch {
	case f.State != Dead && f.State != Quarantined:
		return r, invalidf("%s: the state is %q, and must be %s or %s", function, f.State, Dead, Quarantined)
	case f.After != "" || f.Limit != 0:
		return r, invalidf("%s: After or Limit is set", function)
	}
	f.Limit = 1000
	var ids []string
	for {
		page, err := in.list(ctx, function, f, true)
		if err != nil {
			return r, err
		}
		for _, e := range page {
			ids = append(ids, e.ID)
		}
		if len(page) < f.Limit {
			break
		}
		f.After = ids[len(ids)-1]
	}
	for _, id := range slices.Backward(ids) {
		err := do(id)
		switch {
		case err == nil:
			r.Done++
		case errors.Is(err, ErrSuperseded), errors.Is(err, pixmed.ErrDuplicate), errors.Is(err, pixmed.ErrNotInfraction),
			errors.As(err, new(*pixmed.SyntaxError)), errors.As(err, new(*pixmed.ValidationError)):
			r.Skipped = append(r.Skipped, id)
		case errors.Is(err, ErrNotReplayable), errors.Is(err, ErrNotResolvable), errors.Is(err, ErrNotFound):
			// Somebody else was faster.
		default:
			return r, err
		}
	}
	return r, nil
}

// Delete deletes a case with all its notifications and notes, as a person may demand
// by law (LGPD). It returns [ErrNotFound], or [ErrPending] while the case has a pending
// event. With [Force] a pending event is deleted too; a callback that is running then
// finishes, and is not called again. A redelivery of what was deleted is no longer
// recognised as a duplicate. Quarantined bodies belong to no case: see
// [Inbox.DeleteQuarantined]. Backups still hold what was deleted.
func (in *Inbox) Delete(ctx context.Context, transactionID string, opts ...ActionOption) error {
	a, err := act("Delete", true, opts)
	if err != nil {
		return err
	}
	id, err := parseID("transaction id", transactionID)
	if err != nil {
		return err
	}
	var result ledger.Acted
	op := &ledger.Op{TransactionID: id, All: true}
	op.Apply = func(c *ledger.Case) {
		if r := c.Delete(a.forced); result != ledger.Acts || r != ledger.ActsUnneeded {
			result = r
		}
	}
	if err := in.committer.commit(ctx, op); err != nil {
		return err
	}
	switch result {
	case ledger.ActsRunning:
		return fmt.Errorf("%w: %s", ErrPending, id)
	case ledger.Acts:
		in.log.InfoContext(ctx, "pixmed: an operator deleted a case", "forced", a.forced, "by", a.by)
		return nil
	default:
		return fmt.Errorf("%w: %s", ErrNotFound, id)
	}
}

// DeleteQuarantined deletes a body that is quarantined, or was until it was resolved.
// It returns [ErrNotFound].
func (in *Inbox) DeleteQuarantined(ctx context.Context, id string, opts ...ActionOption) error {
	a, err := act("DeleteQuarantined", false, opts)
	if err != nil {
		return err
	}
	if id, err = parseID("event id", id); err != nil {
		return err
	}
	if err := in.dismiss(ctx, id, nil); err != nil {
		return err
	}
	in.log.InfoContext(ctx, "pixmed: an operator deleted a quarantined body", "by", a.by)
	return nil
}
