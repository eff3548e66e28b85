package pixmed

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Amount is an amount of money in centavos, as time.Duration is a time in
// nanoseconds. It never passes through a float.
//
//	price := 18*pixmed.Real + 50*pixmed.Centavo
type Amount int64

const (
	// Centavo is a hundredth of a real.
	Centavo Amount = 1
	// Real is 100 centavos.
	Real Amount = 100 * Centavo
)

// ParseAmount parses a number of reais as JSON writes it: 18, 18.5, 18.50, 1e2.
//
// The error is [ErrInvalidAmount] and gives the reason: a negative number, a
// comma, text that is not a number, more than two significant decimals, more
// centavos than an int64 holds, or an exponent beyond ±99.
func ParseAmount(s string) (Amount, error) {
	a, reason := parseAmount([]byte(s))
	if reason != "" {
		return 0, fmt.Errorf("%w: %q %s", ErrInvalidAmount, clip(s), reason)
	}
	return a, nil
}

// parseAmount returns the amount, or the reason why there is none, in words
// that follow the text itself.
func parseAmount(number jsontext.Value) (Amount, string) {
	reais := string(number)
	switch {
	case reais == "":
		return 0, "is empty"
	case strings.Contains(reais, ",") && strings.Trim(reais, "-0123456789.,") == "":
		return 0, "has a comma; the decimal point is a dot and thousands are not separated"
	case strings.Trim(reais, "-+.0123456789eE") != "" || !number.IsValid():
		return 0, "is not a number of reais such as 18 or 18.50"
	}
	return amountOf(reais)
}

// amountOf is parseAmount for a JSON number.
func amountOf(number string) (Amount, string) {
	if number[0] == '-' {
		return 0, "is negative"
	}
	mantissa, shift := number, 0
	if i := strings.IndexAny(number, "eE"); i >= 0 {
		var err error
		if shift, err = strconv.Atoi(number[i+1:]); err != nil || shift < -99 || shift > 99 {
			return 0, "has an exponent out of range"
		}
		mantissa = number[:i]
	}

	// The value is all digits, without the zeros on both sides, times a power of
	// ten: centavos if it is 0.
	whole, decimals, _ := strings.Cut(mantissa, ".")
	all := strings.TrimLeft(whole+decimals, "0")
	significant := strings.TrimRight(all, "0")
	power := len(all) - len(significant) - len(decimals) + shift + 2
	switch {
	case significant == "":
		return 0, ""
	case power < 0:
		return 0, "has more than two decimals"
	case len(significant)+power > len("9223372036854775807"):
		return 0, "is too large"
	}
	centavos, err := strconv.ParseInt(significant+strings.Repeat("0", power), 10, 64)
	if err != nil {
		return 0, "is too large"
	}
	return Amount(centavos), ""
}

// String returns the amount in reais with two decimals: "18.00".
func (a Amount) String() string {
	return string(a.append(nil, '.', ""))
}

// BRL returns the amount as Brazilians write it: "R$ 1.234,56".
func (a Amount) BRL() string {
	return strings.Replace("R$ "+string(a.append(nil, ',', ".")), "R$ -", "-R$ ", 1)
}

func (a Amount) append(b []byte, decimal byte, thousands string) []byte {
	centavos := uint64(a) //nolint:gosec // a negative one is negated below
	if a < 0 {
		b = append(b, '-')
		centavos = -centavos // correct for the smallest int64 too
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
// states: "18.00". A negative amount, which no transaction has, does not decode
// again.
func (a Amount) MarshalJSON() ([]byte, error) {
	return append(a.append([]byte{'"'}, '.', ""), '"'), nil
}

// UnmarshalJSON accepts a JSON number, or a JSON string that holds one, as
// [ParseAmount] does: the spec says string and shows a number. Null is an
// error.
func (a *Amount) UnmarshalJSON(data []byte) error {
	v, reason := amountFromJSON(data)
	if reason != "" {
		return fmt.Errorf("%w: %s %s", ErrInvalidAmount, found(data), reason)
	}
	*a = v
	return nil
}

// amountFromJSON is parseAmount for a JSON value.
func amountFromJSON(raw jsontext.Value) (Amount, string) {
	switch raw.Kind() {
	case jsontext.KindNumber:
		return amountOf(string(raw)) // the decoder has checked it
	case jsontext.KindString:
		number, err := unquote(raw)
		if err != nil {
			return 0, "is not a JSON string"
		}
		return parseAmount(number)
	}
	return 0, "is neither a number nor a string"
}
