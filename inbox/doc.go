// Package inbox is a durable inbox for infraction (MED) webhooks: a notification
// is on disk before the gateway gets its 200, and your callback is called until it
// succeeds.
//
// # When to use it
//
// Callbacks alone, behind pixmed.Deduplicate, are enough if the work takes
// milliseconds, a single process does it, and the gateway retries what was not
// answered 200. Use the inbox if the work is slow or may fail for hours, if a crash
// must lose nothing, if several replicas share the load, or if somebody has to see
// what was received and what became of it.
//
// An [Inbox] is a [pixmed.Receiver]: the handler calls it, and it calls your
// receiver. Package sqlite opens one in a file, package postgres one in a database:
//
//	in, err := sqlite.Open(ctx, "inbox.db", callbacks)
//	…
//	handler, err := pixmed.NewHandler(in, pixmed.WithVerifier(…), pixmed.WithInvalid(in.Quarantine))
//	…
//	err = in.Start(ctx)
//
// To shut down, stop the server first, and then the inbox with [Inbox.Stop].
//
// # What it promises
//
//	                     SQLite                          PostgreSQL
//	a 200 means          synced to disk                  synced to disk
//	duplicates           across restarts                 across restarts and replicas
//	callbacks            at least once                   at least once; what they write
//	                                                     through postgres.Tx, exactly once
//	order                as accepted, one at a time      the same, across all replicas
//	                     for each transaction
//	processes            one for each file               any number
//	a killed process     continues at its next Start     others take over after
//	                                                     WithOverdue, 45 s
//
// Duplicates: a delivery whose medStatus and value equal those of the last accepted
// one of its transactionId and externalId is answered 200 and goes no further; any
// change is accepted, even back to an earlier status. Without a medStatus, the whole
// body must be the same. If the last accepted one is dead because its attempts were
// used up, the redelivery revives it.
//
// Order: the notifications of a transaction run one at a time in the order in which
// they were accepted; one that fails holds up those after it until it is done or
// dead. Notifications of different transactions run in parallel. At most 64 of a
// transaction may be pending; the next one is answered 503. If a transaction has more
// than a thousand, the oldest that are done are deleted.
//
// At least once: a process can be killed after its callback has done its work but
// before that is recorded; the callback is then called again. Make it
// idempotent, by [pixmed.Notification].Key and MEDStatus, or write through
// postgres.Tx or postgres.SQLTx.
//
// # Failures
//
// An error or a panic is a failed attempt; so is one that takes longer than
// [WithAttemptTimeout], 30 s. After the first failure the inbox waits for a second,
// and after each further one twice as long, up to 4 h; each wait is shortened at
// random by up to half ([WithBackoff]). After 20 attempts ([WithMaxAttempts]), which
// take about a day, the notification is dead: it is kept and listed, those after it
// run, and [Inbox.Replay] gives it all its attempts again. A callback that knows that
// it will never succeed returns [Discard], and one that knows that it is too early
// returns [PutOff], which does not count.
//
// A callback must return when its context ends. One that does not is given up after
// [WithOverdue], which counts as a failure, and is called again while it still runs.
// What it returns later is ignored, and it occupies a worker until it returns.
//
// # Running it
//
// Throughput. Notifications that arrive together are committed together, so a slow
// disk costs latency and little throughput. [WithWorkers] sets how many callbacks
// run at a time; raise it if they spend their time waiting. On PostgreSQL the inbox
// needs three connections of the pool, and one more for each callback that uses
// postgres.Tx.
//
// Cases and deadlines. A [Case] is a transaction: it is open while the gateway's
// last word about any of its external ids is not final. [Inbox.Cases] lists cases,
// those due soonest first, and [Inbox.Stats] sums what is blocked. With
// [WithDefence] each open case has a due time, and a function of yours is called
// ahead of it, whatever restarts in between, until [Inbox.MarkAnswered] is called;
// [Inbox.End] ends a case by hand.
//
// Two steps. A step that may fail on its own, such as downloading a receipt, must not
// fail the step that protects money: [Then] hands a notification to another inbox
// once the first step is done.
//
// What to watch, from [Inbox.Stats]: NearestDue within a day (somebody must answer a
// case), Overdue and RemindersGivenUp above zero, Dead above zero (somebody must look
// into it), Quarantined above zero (the gateway sends what this version does not
// know), OldestPending above what your work may take (callbacks fail, or there are too
// few workers), and the handler's own 500 and 503 (pixmed.WithObserver). [WithObserver] is
// called for each attempt. [Inbox.Ready] is for readiness checks. The log has a line
// for each failed attempt (warning) and each dead notification (error).
//
// Dead letters. [Inbox.Failures] groups them by error; list them with
// [Filter].State set to [Dead]. Fix the cause, then call Replay or [Inbox.ReplayAll];
// [Inbox.Resolve] closes one that a person has dealt with in another way. These
// functions take [By], and what they did is kept in [Case].Notes. [ErrSuperseded] is
// returned when a newer notification of the case is already done: look at
// [Inbox.History] before you use [Force]. What pixmed.WithInvalid hands to
// [Inbox.Quarantine] is [Quarantined]; once an update understands it, Replay accepts
// it.
//
// A case that has ended is deleted when nothing has happened to it for 400 days
// ([WithRetention], [Inbox.Purge]); that is also how far back a duplicate is
// recognised. Open cases are kept, and so is what is dead or quarantined until you
// purge it.
// [Inbox.Delete] erases one case.
//
// # The tables
//
// The inbox has tables of its own, in the schema pixmed_inbox or in the file: cases
// (a row for each transaction), events (a row for each notification), ids (what a
// search finds cases by), notes (what people did) and settings. The row of a case says
// when it may run and which attempt holds it, so there is no queue beside it. Read the
// tables as you like, but change them only through the inbox. They hold the bodies of
// webhooks, which are personal data: SQLite's files are readable by their owner only.
//
// Migrations are applied when an inbox is opened. To remove everything, stop every
// process and drop the schema, or delete the file and those beside it. To back up a
// file, use VACUUM INTO, or copy it while the inbox is stopped.
package inbox
