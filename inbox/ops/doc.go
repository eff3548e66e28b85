// Package ops has a page for those who operate a durable inbox: the cases, what is
// dead and why, the timeline of a case with every body, and a button to replay.
//
//	page, err := ops.NewHandler(in, ops.WithBasicAuth("ops", password))
//	…
//	mux.Handle("/ops/", http.StripPrefix("/ops", page))
//
// It is rendered on the server, works without JavaScript, fits a phone, and speaks
// English or Portuguese, as the browser asks (Accept-Language). All links are
// relative: mount it under any path that ends in a slash.
//
// # Security
//
// The page shows personal data and repeats work, so [NewHandler] insists on
// [WithBasicAuth] or, where something in front of it lets only operators through,
// [WithAuthenticated]. A replay is refused when another site's page asks for it
// (http.CrossOriginProtection). Nothing is cached, nothing is loaded from elsewhere,
// and no script runs. Serve it over https.
package ops
