package envelope

// NewDecoderBuffer is NewDecoder with a given buffer of 2 KiB or more.
var NewDecoderBuffer = newDecoder
