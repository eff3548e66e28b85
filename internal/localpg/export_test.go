package localpg

import "os"

// FindIn is find.
var FindIn = find

// Programs returns the folder of PostgreSQL's programs.
func Programs() (string, error) { return find(os.Getenv("PATH"), debian) }

// WithTemp makes the folder of the server in dir.
func WithTemp(dir string) Option {
	return func(c *config) { c.temp = dir }
}
