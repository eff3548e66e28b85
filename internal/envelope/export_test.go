package envelope

// NewDecoderBuffer is NewDecoder with a buffer that tests may use again, and
// that may be small, though not much less than 2 KiB.
var NewDecoderBuffer = newDecoder
