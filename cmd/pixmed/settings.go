package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// setting is something that a command is told by a flag or by an environment
// variable, or by a variable alone if it is secret.
type setting struct {
	flag     string // its name without dashes; empty if it is secret
	variable string // empty if there is none
	arg      string // what the help calls its value; empty for a switch
	value    string // the default
	usage    string
}

func (s *setting) secret() bool { return s.flag == "" }

func (s *setting) help() string {
	if s.variable == "" {
		return s.usage
	}
	return s.usage + " [" + s.variable + "]"
}

const settingAnnotation = "pixmed_setting"

// addSettings gives a command its settings.
func addSettings(cmd *cobra.Command, settings ...*setting) {
	for _, s := range settings {
		switch {
		case s.secret():
			annotate(cmd, s)
		case s.arg == "":
			cmd.Flags().Bool(s.flag, false, s.help())
		default:
			cmd.Flags().Var(&textValue{s.value, s.arg}, s.flag, s.help())
		}
	}
}

// textValue is the value of a flag, which the help calls by the setting's own word.
type textValue struct{ text, arg string }

func (t *textValue) String() string { return t.text }
func (t *textValue) Type() string   { return t.arg }
func (t *textValue) Set(text string) error {
	t.text = text
	return nil
}

// annotate remembers a secret for the help, which cobra knows nothing of.
func annotate(cmd *cobra.Command, s *setting) {
	if cmd.Annotations == nil {
		cmd.Annotations = map[string]string{}
	}
	cmd.Annotations[settingAnnotation] += fmt.Sprintf("  %-30s %s\n", s.variable, s.usage)
}

func writeSecrets(w io.Writer, cmd *cobra.Command) {
	if secrets := cmd.Annotations[settingAnnotation]; secrets != "" {
		fmt.Fprintf(w, "\nSecrets, from these variables, or from the file that the variable with _FILE at its end names:\n%s", secrets)
	}
}

// values reads settings, and collects all that is wrong with them.
type values struct {
	flags *pflag.FlagSet
	env   map[string]string
	errs  []error
}

func newValues(cmd *cobra.Command, p *process) *values {
	return &values{flags: cmd.Flags(), env: p.env}
}

// err returns all problems, or nil.
func (v *values) err() error { return usageError(errors.Join(v.errs...)) }

// name is what the user knows a setting by: what it was set with, if it was.
func (v *values) name(s *setting) string {
	switch {
	case s.secret():
		if v.env[s.variable] == "" && v.env[s.variable+fileSuffix] != "" {
			return s.variable + fileSuffix
		}
		return s.variable
	case v.flags.Changed(s.flag) || v.env[s.variable] == "":
		return "--" + s.flag
	}
	return s.variable
}

// problem adds a problem with a setting.
func (v *values) problem(s *setting, format string, args ...any) {
	v.errs = append(v.errs, fmt.Errorf("%s: %w", v.name(s), fmt.Errorf(format, args...)))
}

// isSet reports whether the user has set it, to anything.
func (v *values) isSet(s *setting) bool {
	return !s.secret() && v.flags.Changed(s.flag) || v.env[s.variable] != "" || s.secret() && v.env[s.variable+fileSuffix] != ""
}

// text returns a setting that is not secret.
func (v *values) text(s *setting) string {
	if !v.flags.Changed(s.flag) {
		if value := v.env[s.variable]; value != "" {
			return value
		}
	}
	return v.flags.Lookup(s.flag).Value.String()
}

// on returns a switch.
func (v *values) on(s *setting) bool {
	on, err := strconv.ParseBool(v.text(s))
	if err != nil {
		v.problem(s, "want true or false")
	}
	return on
}

// oneOf returns a setting that is one of the choices.
func (v *values) oneOf(s *setting, choices ...string) string {
	value := v.text(s)
	if !slices.Contains(choices, value) {
		v.problem(s, "want %s, not %s", strings.Join(choices, " or "), quote(value))
	}
	return value
}

// number returns a whole number from 1 to most.
func (v *values) number(s *setting, most int) int {
	n, err := strconv.Atoi(v.text(s))
	if err != nil || n < 1 || n > most {
		v.problem(s, "want a number from 1 to %d, not %s", most, quote(v.text(s)))
	}
	return n
}

// duration returns a length of time between two others.
func (v *values) duration(s *setting, least, most time.Duration) time.Duration {
	d, err := parseDuration(v.text(s))
	if err != nil || d < least || d > most {
		v.problem(s, "want a time from %s to %s, such as 90s, 1h30m, 2d, or 90 for seconds, not %s", showDuration(least), showDuration(most), quote(v.text(s)))
	}
	return d
}

const day = 24 * time.Hour

// parseDuration reads 1h30m, days such as 400d, and numbers of seconds.
func parseDuration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * day, err
	}
	if seconds, err := strconv.ParseUint(text, 10, 32); err == nil {
		return time.Duration(seconds) * time.Second, nil
	}
	return time.ParseDuration(text)
}

// showDuration writes a time as parseDuration reads it, without what is zero.
func showDuration(d time.Duration) string {
	if d > 0 && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = text[:len(text)-2]
		}
	}
	return text
}

const fileSuffix = "_FILE"

// hidden returns a secret, which is in its variable or in the file that its twin
// names; empty if there is neither.
func (v *values) hidden(s *setting) string {
	value, file := v.env[s.variable], v.env[s.variable+fileSuffix]
	switch {
	case value != "" && file != "":
		v.errs = append(v.errs, fmt.Errorf("%s and %s%s are both set: unset one of them", s.variable, s.variable, fileSuffix))
		return ""
	case file == "":
		return value
	}
	text, err := readSmall(file)
	switch {
	case err != nil:
		v.errs = append(v.errs, fmt.Errorf("%s%s: %w", s.variable, fileSuffix, err))
	case strings.TrimSpace(text) == "":
		v.errs = append(v.errs, fmt.Errorf("%s%s: the file is empty", s.variable, fileSuffix))
	}
	return strings.TrimRight(text, "\r\n") // editors and echo end a file so
}

// several returns secrets with blanks or line breaks between, each of least
// characters or more.
func (v *values) several(s *setting, least int) []string {
	before := len(v.errs)
	secrets := strings.Fields(v.hidden(s))
	if len(secrets) == 0 && v.isSet(s) && len(v.errs) == before {
		v.problem(s, "it is empty")
	}
	for i, secret := range secrets {
		if strings.ContainsFunc(secret, unicode.IsControl) {
			v.problem(s, "secret %d contains a control character", i+1)
		}
		if len(secret) < least {
			v.problem(s, "secret %d has fewer than %d characters and could be guessed: make one with openssl rand -hex 32", i+1, least)
		}
	}
	return secrets
}

// minSecret is how many characters a secret has at least where it guards something.
const minSecret = 16

// header returns a setting that is the name of a header.
func (v *values) header(s *setting) string {
	name := v.text(s)
	if !isHeader(name) {
		v.problem(s, "%s is not a valid header name", quote(name))
	}
	return name
}

// isHeader reports whether a text is one that a header may be called by.
func isHeader(name string) bool {
	return name != "" && !strings.EqualFold(name, "Host") && !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?={}`, r)
	})
}

// user returns a setting that is a user name of HTTP Basic.
func (v *values) user(s *setting) string {
	name := v.text(s)
	if name == "" || name != strings.TrimSpace(name) || strings.Contains(name, ":") || strings.ContainsFunc(name, unicode.IsControl) {
		v.problem(s, "a user name must not be empty, contain a colon or a control character, or have white space at its ends")
	}
	return name
}

// timeout returns how long one delivery or download may take.
func timeout(v *values, unset time.Duration) time.Duration {
	if !v.isSet(timeLimit) {
		return unset
	}
	return v.duration(timeLimit, time.Millisecond, time.Hour)
}

// loopback reports whether a host is this one.
func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
}

// readSmall reads a file that is no larger than a secret may be. No error shows the
// path: whoever mixes two variables up has put the secret itself there.
func readSmall(name string) (text string, err error) {
	defer func() {
		if e, ok := errors.AsType[*fs.PathError](err); ok {
			err = fmt.Errorf("want the path of a file that can be read: %w", e.Err)
		}
	}()
	f, err := openRegular(name)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	const most = 64 << 10
	all, err := io.ReadAll(io.LimitReader(f, most+1))
	if len(all) > most {
		err = fmt.Errorf("the file has more than %d bytes", most)
	}
	return string(all), err
}

var errNotRegular = errors.New("it is not a regular file")

// quote shows a value that is wrong. Long ones are cut: whoever mixes two variables
// up may have put a secret there, and its beginning alone is of no use to anybody.
func quote(value string) string {
	const most = 8
	if len(value) > most {
		return strconv.Quote(strings.ToValidUTF8(value[:most/2], "")) + "…"
	}
	return strconv.Quote(value)
}
