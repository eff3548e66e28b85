// Package ops is a web page for those who operate a durable inbox. Its first screen
// says how much money is blocked, which cases must be answered today, and what
// failed for good, grouped by error. A case has its timeline, and what a person can
// do about it: mark it as answered, end it, replay, resolve, retry or discard a
// notification. Replay and resolve also work on a whole group.
//
//	page, err := ops.NewHandler(in, ops.WithBasicAuth("ops", password))
//	…
//	mux.Handle("/ops/", http.StripPrefix("/ops", page))
//
// It is rendered on the server, works without JavaScript, fits a phone, and speaks
// English or Portuguese, as the browser asks (Accept-Language). All links are
// relative: mount it under any path that ends in a slash. It shows deadlines if the
// inbox was opened with [inbox.WithDefence].
//
// # Actions
//
// Each action has a page that asks for confirmation, and ends with a message that
// says what happened. The name of the person, which is the user of [WithBasicAuth] or
// what [WithUser] returns, is kept with the case ([inbox.Note]) and logged.
//
// # What it costs
//
// Counts are kept for three seconds (the chart, for a minute), and computed by one
// request while others wait. Searches run one at a time, for at most three seconds
// each, and two cases are read at a time. Only the page of a case shows bodies, and
// only a part of long ones. So the page needs a few of the connections that the
// inbox has for reading, and none of those that accept notifications, call the
// receiver or answer Ready.
//
// # Security
//
// The page shows personal data and changes things, so [NewHandler] insists on
// [WithBasicAuth] or, where something in front of it lets only operators through,
// [WithAuthenticated].
//
// After five failed logins from an address (with IPv6, from a /64) the next one has
// to wait for a second, and twice as long after each further one, up to a minute.
// Browsers that were logged in before have a cookie that exempts them, so that a
// stranger behind the same proxy does not lock them out. Each failed login is logged
// and counted, see [Handler.FailedLogins].
//
// What another site's page requests is refused, whether it reads or changes
// something. That includes links from other sites: the answer is a page that says so
// and links to what was requested; that link works. Browsers say where a request
// comes from (Sec-Fetch-Site) over https and from loopback only: serve it over https.
// Nothing is cached, nothing is loaded from elsewhere, no script runs, and receipts
// are attachments.
package ops
