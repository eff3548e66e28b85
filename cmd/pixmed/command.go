package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The exit codes.
const (
	exitOK          = 0
	exitFailed      = 1   // it was tried and failed; the text says what
	exitUsage       = 2   // the command line or the settings are wrong; nothing was tried
	exitRefused     = 3   // the other side rejected the credentials
	exitDiffers     = 4   // the inbox and the list that it is compared with are not the same
	exitInterrupted = 130 // by a signal, before it was done
)

const exitCodes = `Exit codes:
  0    done
  1    failed
  2    the command line or the settings are wrong, and nothing was tried
  3    the other side rejected the credentials
  4    the inbox and the list that it is compared with differ
  130  interrupted
`

// exit is an error that says which code the program ends with.
type exit struct {
	code int
	err  error // nil if all has been said
}

func (e *exit) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

// usageError returns an error that ends the program with exitUsage, or nil for nil.
func usageError(err error) error {
	if err == nil {
		return nil
	}
	return &exit{exitUsage, err}
}

// run runs the command line and returns the program's exit code.
func run(ctx context.Context, args []string, p *process) int {
	safe := *p
	safe.raw, safe.rawErr = p.out, p.err
	safe.out, safe.err = &escaper{w: p.out}, &escaper{w: p.err}
	root := newRoot(&safe)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	coded, ok := errors.AsType[*exit](err)
	if !ok {
		coded = &exit{exitFailed, err}
	}
	if coded.err != nil {
		fmt.Fprintf(safe.err, "%s: %s\n", cmd.CommandPath(), strings.ReplaceAll(inWords(coded.err.Error()), "\n", "\n  "))
	}
	if coded.code == exitUsage && coded.err != nil {
		fmt.Fprintf(safe.err, "See %s --help.\n", cmd.CommandPath())
	}
	return coded.code
}

// newRoot returns the program's command.
func newRoot(p *process) *cobra.Command {
	root := &cobra.Command{
		Use:   "pixmed",
		Short: "Receive, try out and operate MED (Pix infraction) webhooks",
		Long: `pixmed receives a payment gateway's MED (Pix infraction) webhooks, sends test
deliveries, downloads receipts, operates the inbox, and checks a configuration.

A flag followed by a name in brackets can also be set by the environment variable of
that name; the flag wins. Secrets are read from variables only, because everybody on
the machine can see a command's arguments. To read a secret from a file, add _FILE to
the variable's name and set it to the file's path.`,
		SilenceErrors: true, SilenceUsage: true,
	}
	asGroup(root)
	root.SetIn(p.in)
	root.SetOut(p.raw) // completion scripts
	root.SetErr(p.err)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { writeHelp(p.out, cmd) })
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError(flagError(cmd, err)) })
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveDefault)
	root.AddCommand(newServe(p), newReceipts(p), newSend(p), newInbox(p), newDoctor(p), newVersion(p))
	return root
}

// asGroup makes a command of one that has only others in it. Without one of those it
// shows its help, and is no success: a script has lost a word.
func asGroup(cmd *cobra.Command) {
	cmd.Args = noArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := cmd.Help(); err != nil {
			return err
		}
		return &exit{code: exitUsage}
	}
}

// noArgs refuses arguments and does not repeat them: one may be a secret.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasSubCommands() {
		return usageError(fmt.Errorf("there is no command of this name%s", suggestions(cmd, args[0])))
	}
	return usageError(fmt.Errorf("unexpected arguments: %s takes none, and got %d", cmd.CommandPath(), len(args)))
}

func suggestions(cmd *cobra.Command, arg string) string {
	cmd.SuggestionsMinimumDistance = 2
	if similar := cmd.SuggestionsFor(arg); len(similar) > 0 {
		return "; did you mean " + strings.Join(similar, " or ") + "?"
	}
	return ""
}

// flagError says what is wrong with a flag without its value, which may be a secret.
func flagError(cmd *cobra.Command, err error) error {
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		if group := unknown.GetSpecifiedShortnames(); group != "" {
			name, _, _ := strings.Cut(group, "=")
			if cmd.Flags().Lookup(name) != nil {
				return fmt.Errorf("write --%s, with two dashes", name)
			}
			return fmt.Errorf("there is no flag -%s", group[:1])
		}
		return fmt.Errorf("there is no flag --%s", unknown.GetSpecifiedName())
	}
	if missing, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return fmt.Errorf("--%s needs a value", missing.GetFlag().Name)
	}
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return fmt.Errorf("--%s does not take this value", invalid.GetFlag().Name)
	}
	return errors.New("the flags cannot be read: write --name=value")
}

// writeHelp writes what a command does, and how.
func writeHelp(w io.Writer, cmd *cobra.Command) {
	about := cmd.Long
	if about == "" {
		about = cmd.Short + "."
	}
	fmt.Fprintf(w, "%s\n\nUsage:\n", about)
	if !cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "  %s\n", cmd.UseLine())
	} else {
		fmt.Fprintf(w, "  %s COMMAND\n\nCommands:\n", cmd.CommandPath())
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() || c.Name() == "help" {
				fmt.Fprintf(w, "  %-*s  %s\n", cmd.NamePadding(), c.Name(), c.Short)
			}
		}
	}
	if cmd.Example != "" {
		fmt.Fprintf(w, "\nExamples:\n%s\n", cmd.Example)
	}
	if cmd.HasAvailableFlags() {
		fmt.Fprintf(w, "\nFlags:\n%s", cmd.Flags().FlagUsagesWrapped(100))
	}
	writeSecrets(w, cmd)
	fmt.Fprintf(w, "\n%s", exitCodes)
}
