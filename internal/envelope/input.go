package envelope

import (
	"errors"
	"fmt"
	"io"
)

// maxEmptyReads is how many times in a row a reader may return neither data nor
// an error.
const maxEmptyReads = 100

// offset returns the offset in the input of the next byte to read.
func (d *Decoder) offset() int64 { return d.base + int64(d.r) }

// next returns the next byte of the input, which must not end here.
// Until the next call, d.r-- unreads the byte.
func (d *Decoder) next() (byte, error) {
	if d.r == d.w {
		err := d.fill()
		if err == io.EOF {
			return 0, d.truncated("")
		}
		if err != nil {
			return 0, err
		}
	}
	c := d.buf[d.r]
	d.r++
	return c, nil
}

// fill reads more input when the buffer has been used up. It returns io.EOF only
// when the reader does.
func (d *Decoder) fill() error {
	if d.readErr != nil {
		return d.readErr
	}
	if d.keep == 0 || d.w == len(d.buf) {
		keep := min(d.keep, d.w)
		copy(d.buf, d.buf[d.w-keep:d.w])
		d.base += int64(d.w - keep)
		d.r, d.w = keep, keep
	}
	for range maxEmptyReads {
		n, err := d.src.Read(d.buf[d.w:])
		d.w += n
		// An error that comes with the last bytes counts after them.
		if over := d.base + int64(d.w) - d.limit; over > 0 {
			d.w -= int(over)
			d.readErr = errorf(ErrTooLarge, d.limit, "the envelope has more than %d bytes", d.limit)
		} else if err != nil {
			d.readErr = d.readError(err)
		}
		if d.r < d.w {
			return nil
		}
		if d.readErr != nil {
			return d.readErr
		}
	}
	d.readErr = d.readError(io.ErrNoProgress)
	return d.readErr
}

// readError adds the position to err, which the reader returned after buf[:w].
func (d *Decoder) readError(err error) error {
	offset := d.base + int64(d.w)
	switch {
	case err == io.EOF:
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &Error{Kind: ErrTruncated, Offset: offset, cause: err}
	}
	return fmt.Errorf("reading the receipt envelope at byte %d: %w", offset, err)
}
