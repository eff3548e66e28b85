package ops

import "time"

// NewHandlerOf is NewHandler with a box that may fail.
var NewHandlerOf = newHandler

// Texts are all texts, by language.
var Texts = texts

// LanguageOf returns the language for a browser.
var LanguageOf = languageOf

// Body and Indented make a body fit to read.
var (
	Body     = body
	Indented = indented
)

// Age rounds a duration.
var Age = age

// Box is what the page needs of an inbox.
type Box = box

// MaxAddresses is how many addresses failed logins are remembered of.
const MaxAddresses = maxAddresses

// WithNow sets the clock.
func WithNow(now func() time.Time) Option {
	return Option{"WithNow", func(c *config) error {
		c.now = now
		return nil
	}}
}

// Addresses returns of how many addresses failed logins are remembered.
func (h *Handler) Addresses() int {
	h.config.login.mu.Lock()
	defer h.config.login.mu.Unlock()
	return len(h.config.login.failures)
}

// Speech returns what says things in a language.
func Speech(lang string, location *time.Location, now time.Time) speech {
	return speech{Lang: lang, T: texts[lang], location: location, now: now}
}
