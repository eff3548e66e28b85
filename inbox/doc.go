// Package inbox is a durable inbox for infraction (MED) webhooks: a notification
// is on disk before the gateway gets its 200, and a callback is called until it is
// done.
//
// # When to use it
//
// Callbacks alone, behind pixmed.Deduplicate, are right where the work takes
// milliseconds, a single process does it, and the gateway sends again what was not
// answered 200. Use the inbox where work is slow or may fail for hours, where a
// crash must lose nothing, where several replicas share the load, or where
// somebody has to look at what came and what became of it.
//
// An [Inbox] is a [pixmed.Receiver]: it goes behind the handler, and your receiver
// goes behind it. Package sqlite opens one in a file, package postgres one in a
// database:
//
//	in, err := sqlite.Open(ctx, "inbox.db", callbacks)
//	…
//	handler, err := pixmed.NewHandler(in, pixmed.WithVerifier(…), pixmed.WithInvalid(in.Quarantine))
//	…
//	err = in.Start(ctx)
//
// At the end stop the server first and then the inbox, with [Inbox.Stop].
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
//	a killed process     goes on at its next Start       others take over after
//	                                                     WithOverdue, 45 s
//
// Duplicates: a delivery whose medStatus and value equal those of the last accepted
// one of its transactionId and externalId is answered 200 and goes no further; any
// change is accepted, even back to an earlier status. Without a medStatus the whole
// body has to be the same. If that last one is dead because its attempts were used
// up, the redelivery revives it.
//
// Order: the notifications of a transaction run one at a time in the order in which
// they were accepted; one that fails holds up those after it until it is done or
// dead. Those of different transactions run side by side. At most 64 of a
// transaction may be pending; the next one is answered 503. Of a transaction with
// more than a thousand, the oldest that are done are deleted.
//
// At least once: a process can be killed after its callback has done its work and
// before that is written down; the callback is then called again. Make it
// idempotent, by [pixmed.Notification].Key and MEDStatus, or write through
// postgres.Tx or postgres.SQLTx.
//
// # Failures
//
// An error or a panic is a failed attempt; so is one that takes longer than
// [WithAttemptTimeout], 30 s. After a failure the inbox waits for a second, then
// twice as long after each further one, up to 4 h; each wait is shortened at random
// by up to half ([WithBackoff]). After 20 attempts ([WithMaxAttempts]), which is
// about a day, the notification is dead: it is kept and listed, those after it run,
// and [Inbox.Replay] gives it all its attempts again. A callback that knows that it
// will never succeed returns [Discard], and one that knows that it is too early
// [PutOff], which does not count.
//
// A callback must heed its context. One that does not is given up after
// [WithOverdue], which counts as a failure, and called again while it still runs.
// What it returns then does not count, and it occupies a worker until it returns.
//
// # Running it
//
// Throughput. Notifications that arrive together are committed together, so a slow
// disk costs latency and little throughput. [WithWorkers] sets how many callbacks
// run at a time; raise it where they wait for others. On PostgreSQL the inbox needs
// three connections of the pool, and one more for each callback that uses
// postgres.Tx.
//
// Cases and deadlines. A [Case] is a transaction: it is open while the gateway's
// last word about any of its external ids is not final. [Inbox.Cases] lists cases,
// what is due first first, and [Inbox.Stats] sums what is blocked. With
// [WithDefence] each open case is due, and a function of yours is called before,
// durably, until [Inbox.MarkAnswered] is; [Inbox.End] ends a case by hand.
//
// Two steps. What may fail by itself, such as to fetch a receipt, must not fail what
// money hangs on: [Then] hands a notification to another inbox once its first step
// is done.
//
// What to watch, from [Inbox.Stats]: NearestDue within a day (somebody must answer a
// case), Overdue and RemindersGivenUp above zero, Dead above zero (somebody has to look),
// Quarantined above zero (the gateway sends what this version does not know),
// OldestPending above what your work may take (callbacks fail, or workers are too
// few), and the handler's own 500 and 503 (pixmed.WithObserver). [WithObserver] is
// called for each attempt. [Inbox.Ready] is for readiness checks. The log has a line
// for each failed attempt (warning) and each dead notification (error).
//
// Dead letters. [Inbox.Failures] groups them by error; list them with
// [Filter].State set to [Dead]. Repair the cause, then Replay, or [Inbox.ReplayAll];
// [Inbox.Resolve] closes what a person has settled otherwise. What a person does
// takes [By], and is kept in [Case].Notes. [ErrSuperseded] is returned when a newer
// notification of the case is done already: look at [Inbox.History] before you use
// [Force]. What pixmed.WithInvalid hands to [Inbox.Quarantine] is [Quarantined];
// after an update that understands it, Replay takes it up.
//
// Cases that have ended are deleted 400 days after the last thing that happened to them
// ([WithRetention], [Inbox.Purge]); that is also how far back a duplicate is
// recognised. What is open stays, and what is dead or quarantined until you purge it.
// [Inbox.Delete] erases one case.
//
// # The tables
//
// The inbox has tables of its own, in the schema pixmed_inbox or in the file: cases
// (a row for each transaction), events (a row for each notification), notes (what
// persons did) and settings. The row of a case says from when on it may be run and
// which attempt holds it, so that there is no queue beside it. Read them as you like; change them through the
// inbox alone. They hold the bodies of webhooks, which are personal data: SQLite's
// files are readable by their owner only.
//
// Migrations are applied when an inbox is opened. To be rid of it all, stop every
// process and drop the schema, or delete the file with those beside it. To back up
// a file, use VACUUM INTO, or copy it while the inbox is stopped.
package inbox
