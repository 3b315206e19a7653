// Command nametap watches a mirror of a mobile core network and says, per class
// of WhatsApp traffic, how much there is and how its connections fare.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit statuses (contract).
const (
	exitDone  = 0
	exitError = 1
	exitUsage = 2
)

// usageError is a mistake in how the program was called.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// joined are several errors in one line, where errors.Join would take one each. What
// one has said (a full disk, at each write) the next ones do not say again.
type joined []error

func (j joined) Error() string {
	var texts []string
	for _, err := range j {
		if text := err.Error(); !slices.ContainsFunc(texts, func(t string) bool { return strings.Contains(t, text) }) {
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, "; ")
}

func (j joined) Unwrap() []error { return j }

// oneLine joins the errors that are not nil.
func oneLine(errs ...error) error {
	var j joined
	for _, err := range errs {
		if err != nil {
			j = append(j, err)
		}
	}
	if len(j) == 0 {
		return nil
	}
	return j
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// execute runs one command line and returns its exit status.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root, unknownCommand(root, args)
	if err == nil {
		cmd, err = root.ExecuteContextC(ctx)
	}
	if err == nil {
		return exitDone
	}
	var usage usageError
	if !errors.As(err, &usage) {
		_, _ = fmt.Fprintf(stderr, "nametap: %v\n", err)
		return exitError
	}
	_, _ = fmt.Fprintf(stderr, "nametap: %v; see %s --help\n", err, cmd.CommandPath())
	return exitUsage
}

// unknownCommand finds a first word that is no command, of which cobra says
// nothing where --help stands beside it.
func unknownCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 || args[0] == "" || args[0][0] == '-' {
		return nil
	}
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd(args...)
	cmd, _, err := root.Find(args[:1])
	switch {
	case strings.HasPrefix(args[0], cobra.ShellCompRequestCmd):
		return nil
	case err != nil || cmd == root:
		return usagef("unknown command %q", args[0])
	case len(args) == 1 || strings.HasPrefix(args[1], "-") || !cmd.HasSubCommands() || cmd.Args == nil:
		return nil
	}
	if sub, _, err := root.Find(args[:2]); err == nil && sub == cmd && cmd.Args(cmd, args[1:2]) != nil {
		return usagef("unknown command %q of %s", args[1], cmd.CommandPath())
	}
	return nil
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "nametap",
		Short: "Names and counts WhatsApp traffic on a mirror of a mobile core network",
		Long: `nametap listens to a mirror of a mobile core network. It remembers which name
each subscriber was told for which server address, names every TCP connection
that follows, sorts it into a class (chat, photo, audio, video, media …) and
counts volume, connections, round-trip times and losses per class.

  nametap demo                       a simulated network, no tap and no root needed
  nametap analyze trace.pcap         what is in a capture file
  nametap run --interface eth1       watch a tap; metrics on http://127.0.0.1:9108/metrics`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.Version = version // else there is no --version
	root.SetVersionTemplate(versionText())
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		if text, cause := err.Error(), errors.Unwrap(err); cause != nil {
			return usagef("%s%w", strings.TrimSuffix(text, cause.Error()), inWords(cause))
		}
		return usageError{err}
	})
	root.AddCommand(newRun(), newAnalyze(), newReport(), newAtlas(), newRules(), newSynth(), newDemo(), newVersion())
	root.AddCommand(newPing(), newForecast(), newDetect(), newBench())
	return root
}

// inWords is an error of a flag's value without the names of Go's functions.
func inWords(err error) error {
	var number *strconv.NumError
	if !errors.As(err, &number) {
		if text, ok := strings.CutPrefix(err.Error(), "time: "); ok {
			return errors.New(text + "; write one such as 90s, 15m or 5h")
		}
		return err
	}
	what := map[string]string{
		"Atoi": "a whole number", "ParseInt": "a whole number", "ParseUint": "a whole number from 0 on",
		"ParseFloat": "a number", "ParseBool": "true or false",
	}[number.Func]
	if errors.Is(err, strconv.ErrRange) {
		return fmt.Errorf("%q is too large", number.Num)
	}
	return fmt.Errorf("%q is not %s", number.Num, what)
}

// exactly, atLeast and none are cobra's argument checks, as usage errors.
func atLeast(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < n {
			return usagef("name %s", what)
		}
		return nil
	}
}

func exactly(n int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return usagef("name %s, not %d arguments", what, len(args))
		}
		return nil
	}
}

func none(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("takes no arguments, but got %q", args[0])
	}
	return nil
}
