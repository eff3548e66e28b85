// Package receipt measures how fast a PDF is decoded from its JSON envelope, in
// memory. It has tests only.
package receipt
