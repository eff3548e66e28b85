package localpg

// FindIn is Find with a way to search PATH, and the folder of the versions.
var FindIn = find

// Ask sends a query to a server.
var Ask = ask

// UntilReady reads what a server answers.
var UntilReady = untilReady

// FreePort returns a port that nobody listens on.
var FreePort = freePort

// WithTemp makes the server's folder in this one.
func WithTemp(dir string) Option {
	return func(c *config) { c.temp = dir }
}

// WithPorts has Start try the ports that next returns.
func WithPorts(next func() (int, error)) Option {
	return func(c *config) { c.port = next }
}
