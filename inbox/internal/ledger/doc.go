// Package ledger holds the rules of the inbox: what becomes of a case when a
// notification is accepted, when it is claimed, when an attempt at it ends and
// when an operator replays or discards one. It does no I/O. An engine locks the
// cases, loads their events, applies operations and writes what changed, all in
// one transaction.
//
// # The states of a case
//
// A case is a transaction's row with its events. Its event_at says when its lowest
// pending event runs, and is none if nothing is pending; its remind_at says when its
// next reminder is called, or tried again. run_at says when it may be claimed; held
// says whether an attempt holds it until then.
//
//	                   run_at   held
//	idle               none     no     nothing is pending, and no reminder planned
//	due                past     no     something is pending, or a reminder due, and nobody runs it
//	waiting            future   no     the lowest pending event waits for its retry, the reminder for its time
//	leased             future   yes    an attempt runs
//	run out            past     yes    an attempt ran and did not end in time
//
//	        accept, replay              claim
//	 idle ------------------> due ------------------> leased ----------+
//	  ^                      ^ ^ ^                      | ^            | time
//	  |                 time | | | settle, more pending | | claim      v
//	  |             waiting -+ | +----------------------+ +-------- run out
//	  |                ^       |                        |
//	  |                |       | replay of an older one |
//	  |                +-------+                        |
//	  |                ^      settle, failed            |
//	  |                +--------------------------------+
//	  |                       settle, nothing pending   |
//	  +-------------------------------------------------+
//
// What may be claimed is exactly what has a run_at that has passed, so that an
// attempt whose process was killed needs nobody to look for it: its lease runs
// out. Whoever claims such a case does not run it but settles the lost attempt as
// failed. While a case is not held, run_at is the lesser of event_at and remind_at. A
// claim runs the event if its time has come, otherwise the reminder. Neither's
// failures, nor what becomes of them, moves the time of the other.
//
// # The rules
//
// They hold after every transaction:
//
//	I1  An event is pending if and only if its case has an event_at. The row counts
//	    the pending events and names the first.
//	I2  A case that is held has a run_at.
//	I3  Only the attempt that has the case's lease settles it, once.
//	I4  A claim hands out the first pending event, which the locked row names.
//	I5  An event gets its place (Seq) while its case is locked.
//	I6  Two attempts of one case, of which neither's lease has ended, never exist.
//	I7  What a callback wrote in its transaction commits together with I3.
//
// A lease is a random number that the claim draws, never a counter: a failover to
// a standby that lags would hand out a number twice. It stays on the row after the
// attempt was settled. Finding it there without held tells an attempt whose COMMIT
// was not answered that its settlement was committed.
//
// # A case as a whole
//
// An event stands for its external id while it is the last accepted one of it: open
// if its status is not final, and closed otherwise or when a person has ended the
// case. The case is open while one of them is. While it is open and not answered, a
// reminder is planned for each time that the settings name; remind_at is the first
// of them after reminded_at, up to when reminders are done or given up. Many that
// were missed are so done at once.
//
// TestModel explores all of this exhaustively for one case and two
// processes, with lost answers, kills and attempts that outlive their lease.
package ledger
