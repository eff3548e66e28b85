package pixmed_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/pixmed-go/pixmed"
)

// amountDecoders are all the ways from JSON to an Amount.
var amountDecoders = map[string]func(value string) (pixmed.Amount, error){
	"encoding/json": func(value string) (pixmed.Amount, error) {
		var v struct {
			Value pixmed.Amount `json:"value"`
		}
		err := json.Unmarshal([]byte(`{"value":`+value+`}`), &v)
		return v.Value, err
	},
	"JSON v2": func(value string) (pixmed.Amount, error) {
		var v struct {
			Value pixmed.Amount `json:"value"`
		}
		err := jsonv2.Unmarshal([]byte(`{"value":`+value+`}`), &v)
		return v.Value, err
	},
	"ParseInfraction": func(value string) (pixmed.Amount, error) {
		i, err := pixmed.ParseInfraction([]byte(strings.Replace(specPayload, "18,", value+",", 1)))
		if err != nil {
			return 0, err
		}
		return i.Value, nil
	},
}

func TestAmountAccepted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		want pixmed.Amount
	}{
		{"18", 18 * pixmed.Real},
		{"18.0", 18 * pixmed.Real},
		{"18.00", 18 * pixmed.Real},
		{"18.5", 1850},
		{"18.50", 1850},
		{"18.500", 1850},
		{"18.05", 1805},
		{"100.00", 100 * pixmed.Real},
		{"1", pixmed.Real},
		{"0", 0},
		{"0.00", 0},
		{"0.01", pixmed.Centavo},
		{"0e99", 0},
		{"0.000e-99", 0},
		{"1e2", 100 * pixmed.Real},
		{"1E2", 100 * pixmed.Real},
		{"1e+2", 100 * pixmed.Real},
		{"1e0000000000002", 100 * pixmed.Real},
		{"1.8e1", 18 * pixmed.Real},
		{"1.234e1", 1234},
		{"1e-2", 1},
		{"100e-4", 1},
		{"1850e-2", 1850},
		{"0.00000000000000000001e20", pixmed.Real},
		{"10000000000000000000000e-20", 100 * pixmed.Real},
		{"1" + strings.Repeat("0", 99) + "e-99", pixmed.Real},
		{"0.1", 10}, // not 0.1000000000000000055 of a float
		{"1.15", 115},
		{"4.35", 435},
		{"1234567.89", 123456789},
		{"90071992547409.93", 9007199254740993}, // 2^53 + 1
		{"18." + strings.Repeat("0", 10_000), 18 * pixmed.Real},
		{"18.50" + strings.Repeat("0", 10_000), 1850},
		// The last digits before an int64 is full.
		{"92233720368547757.99", math.MaxInt64 - 8},
		{"92233720368547758.00", math.MaxInt64 - 7},
		{"92233720368547758", math.MaxInt64 - 7},
		{"92233720368547758.01", math.MaxInt64 - 6},
		{"92233720368547758.06", math.MaxInt64 - 1},
		{"92233720368547758.07", math.MaxInt64},
		{"92233720368547758.070000000000000000", math.MaxInt64},
		{"9223372036854775807e-2", math.MaxInt64},
		{"0.9223372036854775807e17", math.MaxInt64},
	} {
		name := tt.text[:min(len(tt.text), 40)]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := pixmed.ParseAmount(tt.text)
			if err != nil || got != tt.want {
				t.Errorf("ParseAmount = %d, %v; want %d", got, err, tt.want)
			}
			for decoder, decode := range amountDecoders {
				for _, form := range []string{tt.text, `"` + tt.text + `"`} {
					got, err := decode(form)
					if err != nil || got != tt.want {
						t.Errorf("%s of %.40s = %d, %v; want %d", decoder, form, got, err, tt.want)
					}
				}
			}
		})
	}
}

func TestAmountInAnEscapedString(t *testing.T) {
	t.Parallel()
	for decoder, decode := range amountDecoders {
		got, err := decode(`"\u00318\u002e\u0035"`)
		if err != nil || got != 1850 {
			t.Errorf("%s = %d, %v; want 1850", decoder, got, err)
		}
	}
}

const (
	reasonNumber   = "is not a number of reais such as 18 or 18.50"
	reasonComma    = "has a comma; the decimal point is a dot and thousands are not separated"
	reasonNegative = "is negative"
	reasonDecimals = "has more than two decimals"
	reasonLarge    = "is too large"
	reasonExponent = "has an exponent out of range"
	reasonEmpty    = "is empty"
	reasonType     = "is neither a number nor a string"
)

var jsonNumber = regexp.MustCompile(`\A-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?\z`)

func TestAmountRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ text, reason string }{
		{"", reasonEmpty},
		{"-1", reasonNegative},
		{"-0.01", reasonNegative},
		{"-1e2", reasonNegative},
		{"-0", reasonNegative},
		{"1,00", reasonComma},
		{"1.234,56", reasonComma},
		{"1,234.56", reasonComma},
		{"-1,00", reasonComma},
		{"NaN", reasonNumber},
		{"Infinity", reasonNumber},
		{"null", reasonNumber},
		{"true", reasonNumber},
		{"abc", reasonNumber},
		{"R$ 18,00", reasonNumber},
		{"+1", reasonNumber},
		{"-", reasonNumber},
		{"--1", reasonNumber},
		{".5", reasonNumber},
		{"5.", reasonNumber},
		{"5.e1", reasonNumber},
		{"1.2.3", reasonNumber},
		{"00", reasonNumber},
		{"01", reasonNumber},
		{"0x10", reasonNumber},
		{"1_000", reasonNumber},
		{"1e", reasonNumber},
		{"1e+", reasonNumber},
		{"1e1.5", reasonNumber},
		{" 18", reasonNumber},
		{"18 ", reasonNumber},
		{"18\n", reasonNumber},
		{"18\x00", reasonNumber},
		{"１８", reasonNumber}, // full-width digits
		{"18.505", reasonDecimals},
		{"0.001", reasonDecimals},
		{"1e-3", reasonDecimals},
		{"18.5e-2", reasonDecimals},
		{"0.123456789012345678901234567890", reasonDecimals},
		{"18446744073709551616.001", reasonDecimals},
		{"1e-99", reasonDecimals},
		{"92233720368547758.08", reasonLarge},
		{"92233720368547758.09", reasonLarge},
		{"92233720368547758.1", reasonLarge},
		{"92233720368547759", reasonLarge},
		{"9223372036854775808e-2", reasonLarge},
		{"184467440737095516.16", reasonLarge}, // 2^64 centavos
		{"184467440737095516.20", reasonLarge},
		{"18446744073709551616", reasonLarge}, // 2^64 reais
		{"340282366920938463463374607431768211456", reasonLarge},
		{"1e20", reasonLarge},
		{"1e99", reasonLarge},
		{"1" + strings.Repeat("0", 10_000), reasonLarge},
		{strings.Repeat("9", 10_000), reasonLarge},
		{"1e100", reasonExponent},
		{"1e-100", reasonExponent},
		{"0e100", reasonExponent},
		{"1e9223372036854775808", reasonExponent},
		{"1e18446744073709551618", reasonExponent}, // 2 in 64 bits
		{"1e-99999999999999999999999999", reasonExponent},
	} {
		name := tt.text[:min(len(tt.text), 40)]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := pixmed.ParseAmount(tt.text)
			if got != 0 || !errors.Is(err, pixmed.ErrInvalidAmount) {
				t.Fatalf("ParseAmount = %d, %v; want 0 and ErrInvalidAmount", got, err)
			}
			shown := tt.text
			if len(shown) > 64 {
				shown = shown[:64] + "…"
			}
			if want := fmt.Sprintf("invalid amount: %q %s", shown, tt.reason); err.Error() != want {
				t.Errorf("ParseAmount's error:\n got %s\nwant %s", err, want)
			}
			quoted, err := json.Marshal(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			forms := []string{string(quoted)}
			if jsonNumber.MatchString(tt.text) {
				forms = append(forms, tt.text)
			}
			for decoder, decode := range amountDecoders {
				for _, form := range forms {
					got, err := decode(form)
					if got != 0 || err == nil || !strings.Contains(err.Error(), tt.reason) {
						t.Errorf("%s of %.40s = %d, %v; want 0 and %q", decoder, form, got, err, tt.reason)
					}
				}
			}
		})
	}
}

func TestAmountRefusesOtherTypes(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"null", "true", "false", "{}", `{"value":18}`, "[]", "[18]"} {
		for decoder, decode := range amountDecoders {
			got, err := decode(value)
			if got != 0 || err == nil || !strings.Contains(err.Error(), reasonType) {
				t.Errorf("%s of %s = %d, %v; want %q", decoder, value, got, err, reasonType)
			}
		}
	}
	// By hand, where no JSON package has looked at the text before.
	for value, want := range map[string]string{
		"":       reasonType,
		"NaN":    reasonType,
		`"\x"`:   "is not a JSON string",
		`"18`:    "is not a JSON string",
		"-1":     reasonNegative,
		"18.505": reasonDecimals,
	} {
		a := 7 * pixmed.Real
		err := a.UnmarshalJSON([]byte(value))
		if !errors.Is(err, pixmed.ErrInvalidAmount) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("UnmarshalJSON(%s) = %v, want ErrInvalidAmount and %q", value, err, want)
		}
		if a != 7*pixmed.Real {
			t.Errorf("UnmarshalJSON(%s) failed and left %v", value, a)
		}
	}
}

func TestAmountErrorsSurviveTheDecoders(t *testing.T) {
	t.Parallel()
	for _, decoder := range []string{"encoding/json", "JSON v2"} {
		if _, err := amountDecoders[decoder](`"1,00"`); !errors.Is(err, pixmed.ErrInvalidAmount) {
			t.Errorf("%s: %v is not ErrInvalidAmount", decoder, err)
		}
	}
}

func TestAmountErrorsAreShort(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 100_000) // 64 bytes end between two characters, 63 would not
	for name, err := range map[string]error{
		"ParseAmount":   second(pixmed.ParseAmount("x" + long)),
		"UnmarshalJSON": new(pixmed.Amount).UnmarshalJSON([]byte(`"` + long + `"`)),
	} {
		if text := err.Error(); len(text) > 200 || strings.ContainsRune(text, '\ufffd') || strings.Contains(text, `\x`) {
			t.Errorf("%s: %d bytes, or a broken character: %.300s", name, len(text), text)
		}
	}
}

func TestAmountErrorsArePrintable(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"\u202e1", "\x7f1", "\u0085[2J"} { // JSON permits them
		if err := new(pixmed.Amount).UnmarshalJSON([]byte(`"` + value + `"`)); strings.Contains(err.Error(), value) || !strings.Contains(err.Error(), `\`) {
			t.Errorf("%q shows %q", err, value)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestAmountStrings(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		amount      pixmed.Amount
		string, brl string
	}{
		{0, "0.00", "R$ 0,00"},
		{pixmed.Centavo, "0.01", "R$ 0,01"},
		{10, "0.10", "R$ 0,10"},
		{99, "0.99", "R$ 0,99"},
		{pixmed.Real, "1.00", "R$ 1,00"},
		{18 * pixmed.Real, "18.00", "R$ 18,00"},
		{18*pixmed.Real + 50*pixmed.Centavo, "18.50", "R$ 18,50"},
		{99999, "999.99", "R$ 999,99"},
		{100000, "1000.00", "R$ 1.000,00"},
		{123456, "1234.56", "R$ 1.234,56"},
		{12345678, "123456.78", "R$ 123.456,78"},
		{123456789, "1234567.89", "R$ 1.234.567,89"},
		{math.MaxInt64, "92233720368547758.07", "R$ 92.233.720.368.547.758,07"},
		{-1, "-0.01", "-R$ 0,01"},
		{-100, "-1.00", "-R$ 1,00"},
		{-123456, "-1234.56", "-R$ 1.234,56"},
		{math.MinInt64, "-92233720368547758.08", "-R$ 92.233.720.368.547.758,08"},
	} {
		if got := tt.amount.String(); got != tt.string {
			t.Errorf("Amount(%d).String() = %q, want %q", int64(tt.amount), got, tt.string)
		}
		if got := tt.amount.BRL(); got != tt.brl {
			t.Errorf("Amount(%d).BRL() = %q, want %q", int64(tt.amount), got, tt.brl)
		}
		for name, marshal := range map[string]func(any) ([]byte, error){
			"encoding/json": json.Marshal,
			"JSON v2":       func(v any) ([]byte, error) { return jsonv2.Marshal(v) },
		} {
			got, err := marshal(tt.amount)
			if want := `"` + tt.string + `"`; err != nil || string(got) != want {
				t.Errorf("%s of Amount(%d) = %s, %v; want %s", name, int64(tt.amount), got, err, want)
			}
		}
		if tt.amount < 0 {
			continue
		}
		for name, decode := range amountDecoders {
			if got, err := decode(`"` + tt.string + `"`); err != nil || got != tt.amount {
				t.Errorf("%s does not read %q back: %d, %v", name, tt.string, int64(got), err)
			}
		}
	}
}

func FuzzParseAmount(f *testing.F) {
	for _, seed := range []string{
		"18", "18.50", "18.500", "1e2", "1E+2", "100e-4", "0", "-0", "-1", "0.001", "1e-3", "1,00", "1.234,56", "", "NaN", "null",
		"92233720368547758.07", "92233720368547758.08", "184467440737095516.16", "1e99", "1e-99", "1e100", "0e999",
		"1e18446744073709551618", "0.123456789012345678901234567890", "00.1", ".5", "5.", "+1", "１８", "\xff",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		// What exact arithmetic says.
		want, reason := pixmed.Amount(0), ""
		grammar := jsonNumber.FindStringSubmatch(text)
		switch {
		case grammar == nil:
			reason = "any of the grammar's"
		case strings.HasPrefix(text, "-"):
			reason = reasonNegative
		default:
			exponent := 0
			if grammar[3] != "" {
				exponent, _ = strconv.Atoi(grammar[3][1:]) // the nearest int where it overflows
			}
			if exponent < -99 || exponent > 99 {
				reason = reasonExponent
				break
			}
			r, ok := new(big.Rat).SetString(text)
			if !ok {
				return // too long for the oracle
			}
			centavos := r.Mul(r, big.NewRat(100, 1))
			switch {
			case !centavos.IsInt():
				reason = reasonDecimals
			case !centavos.Num().IsInt64():
				reason = reasonLarge
			default:
				want = pixmed.Amount(centavos.Num().Int64())
			}
		}

		got, err := pixmed.ParseAmount(text)
		if reason == "" {
			if err != nil || got != want {
				t.Fatalf("ParseAmount(%q) = %d, %v; want %d", text, got, err, want)
			}
			if back, err := pixmed.ParseAmount(got.String()); err != nil || back != got {
				t.Fatalf("%q: String() is %q, which parses to %d, %v", text, got, back, err)
			}
			return
		}
		if got != 0 || !errors.Is(err, pixmed.ErrInvalidAmount) {
			t.Fatalf("ParseAmount(%q) = %d, %v; want an error: %s", text, got, err, reason)
		}
		if grammar != nil {
			allowed := strings.HasSuffix(err.Error(), reason)
			if reason == reasonNegative { // of several reasons any will do
				allowed = allowed || strings.HasSuffix(err.Error(), reasonExponent)
			}
			if !allowed {
				t.Fatalf("ParseAmount(%q): %v; want the reason %q", text, err, reason)
			}
		}
	})
}
