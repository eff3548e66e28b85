package pixmed

import (
	"fmt"
	"math"
	"math/bits"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Amount is an amount of Brazilian reais, as an integer number of centavos,
// much as time.Duration is a number of nanoseconds. It never passes through a
// float.
//
//	price := 18*pixmed.Real + 50*pixmed.Centavo
type Amount int64

const (
	// Centavo is the hundredth of a real.
	Centavo Amount = 1
	// Real is 100 centavos.
	Real Amount = 100 * Centavo
)

// ParseAmount parses a number of reais that is written as in JSON: 18, 18.5,
// 18.50, 1e2.
//
// A negative number, a comma, anything that is not a number, more than two
// significant decimals, more than an int64 of centavos and an exponent beyond
// ±99 are refused with an error that says so; it is [ErrInvalidAmount].
func ParseAmount(s string) (Amount, error) {
	a, reason := parseAmount(s)
	if reason != "" {
		return 0, fmt.Errorf("%w: %q %s", ErrInvalidAmount, clip(s, maxFound), reason)
	}
	return a, nil
}

// parseAmount returns the amount, or the reason why there is none, as words
// that follow the text itself.
func parseAmount[T ~string | ~[]byte](s T) (amount Amount, reason string) {
	const notNumber = "is not a number of reais such as 18 or 18.50"
	i := 0
	digits := func() bool {
		start := i
		for i < len(s) && '0' <= s[i] && s[i] <= '9' {
			i++
		}
		return i > start
	}

	// The grammar of a JSON number, first.
	if len(s) == 0 {
		return 0, "is empty"
	}
	negative := s[0] == '-'
	if negative {
		i++
	}
	mantissa := i
	if !digits() || s[mantissa] == '0' && i > mantissa+1 {
		return 0, notNumber
	}
	decimals := 0
	if i < len(s) && s[i] == '.' {
		i++
		point := i
		if !digits() {
			return 0, notNumber
		}
		decimals = i - point
	}
	mantissaEnd := i
	exponent := 0
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		i++
		sign := 1
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			if s[i] == '-' {
				sign = -1
			}
			i++
		}
		first := i
		if !digits() {
			return 0, notNumber
		}
		for _, c := range []byte(s[first:i]) {
			if exponent = exponent*10 + int(c-'0'); exponent > 99 {
				return 0, "has an absurd exponent"
			}
		}
		exponent *= sign
	}
	if i < len(s) {
		if s[i] == ',' {
			return 0, "has a comma; the decimal point is a dot and thousands are not separated"
		}
		return 0, notNumber
	}
	if negative {
		return 0, "is negative"
	}

	// Then the value. Zeros count only once a digit follows them, so that
	// 18.50000000000000000000 does not overflow.
	var value uint64
	zeros, fits := 0, true
	for _, c := range []byte(s[mantissa:mantissaEnd]) {
		switch c {
		case '.':
		case '0':
			zeros++
		default:
			if digit := uint64(c - '0'); fits {
				value, fits = scale(value, zeros+1)
				fits = fits && value <= math.MaxInt64-digit
				value += digit
			}
			zeros = 0
		}
	}
	if fits && value == 0 {
		return 0, ""
	}
	// Decimals first: 0.123456789012345678901 is not too large.
	centavos := zeros - decimals + exponent + 2
	if centavos < 0 {
		return 0, "has more than two decimals"
	}
	if fits {
		value, fits = scale(value, centavos)
	}
	if !fits || value > math.MaxInt64 {
		return 0, tooLarge
	}
	return Amount(value), ""
}

const tooLarge = "is more than an int64 of centavos holds"

// scale multiplies v by ten n times; ok is false if that overflows.
func scale(v uint64, n int) (_ uint64, ok bool) {
	if v == 0 {
		return 0, true
	}
	for range n {
		var high uint64
		if high, v = bits.Mul64(v, 10); high != 0 {
			return 0, false
		}
	}
	return v, true
}

// String returns the amount in reais with two decimals: "18.00".
func (a Amount) String() string {
	return string(a.append(nil, '.', ""))
}

// BRL returns the amount as Brazilians write it: "R$ 1.234,56".
func (a Amount) BRL() string {
	if a < 0 {
		return "-R$ " + string(a.append(nil, ',', "."))[1:]
	}
	return "R$ " + string(a.append(nil, ',', "."))
}

func (a Amount) append(b []byte, decimal byte, thousands string) []byte {
	centavos := uint64(a) //nolint:gosec // a negative one is turned around below
	if a < 0 {
		b = append(b, '-')
		centavos = -centavos // right for the smallest int64 too
	}
	reais := strconv.FormatUint(centavos/100, 10)
	for i := range len(reais) {
		if i > 0 && (len(reais)-i)%3 == 0 {
			b = append(b, thousands...)
		}
		b = append(b, reais[i])
	}
	return append(b, decimal, byte('0'+centavos%100/10), byte('0'+centavos%10))
}

// MarshalJSON returns the amount as a JSON string, the type that the spec
// states: "18.00". A negative amount, which no transaction has, marshals but does
// not decode.
func (a Amount) MarshalJSON() ([]byte, error) {
	return append(a.append([]byte{'"'}, '.', ""), '"'), nil
}

// UnmarshalJSON accepts a JSON number, or a JSON string that holds one, as
// [ParseAmount] does: the spec says string and shows a number. Null is an
// error.
func (a *Amount) UnmarshalJSON(data []byte) error {
	v, reason := amountFromJSON(data)
	if reason != "" {
		return fmt.Errorf("%w: %s %s", ErrInvalidAmount, clip(string(data), maxFound), reason)
	}
	*a = v
	return nil
}

// amountFromJSON is parseAmount for a JSON value.
func amountFromJSON(raw jsontext.Value) (Amount, string) {
	switch raw.Kind() {
	case '0':
		return parseAmount(raw)
	case '"':
		text, err := unquote(raw)
		if err != nil {
			return 0, "is not a JSON string"
		}
		return parseAmount(text)
	default:
		return 0, "is neither a number nor a string"
	}
}
