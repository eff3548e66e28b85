package ops

// NewHandlerOf is NewHandler with a store that may fail.
var NewHandlerOf = newHandler

// Texts are all texts, by language.
var Texts = texts

// LanguageOf returns the language for a browser.
var LanguageOf = languageOf

// Store is what the page needs of an inbox.
type Store = store
