package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/nametap/nametap/classify"
)

func newRules() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "Show, check and try the rules that turn a name into a class",
		Long: `The rules say which names belong to which app and class. They come as YAML;
the built-in ones are a good start for one's own:

  nametap rules show > rules.yaml     write down the rules in use
  nametap rules check rules.yaml      compile them and run every example
  nametap rules match e5.whatsapp.net which class a name gets, and by which rule
  nametap run --rules rules.yaml …    use them; SIGHUP reads them anew`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newRulesShow(), newRulesCheck(), newRulesMatch())
	return cmd
}

func newRulesShow() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the rules as YAML",
		Args:  none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rules, err := rulesFrom(file)
			if err != nil {
				return err
			}
			_, err = io.WriteString(cmd.OutOrStdout(), rules.Source())
			return err
		},
	}
	cmd.Flags().StringVar(&file, "rules", "", "naming scheme `FILE` (default: built in)")
	return cmd
}

func newRulesCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Compile a rules file and run every example in it",
		Args:  exactly(1, "one rules file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			rules, err := classify.Load(args[0])
			if err != nil {
				return err
			}
			var classes, examples int
			for _, app := range rules.Apps() {
				classes += len(app.Classes)
				for _, class := range app.Classes {
					examples += len(class.Match) + len(class.Miss)
				}
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %s, %s, all as they should be\n",
				args[0], number(len(rules.Apps()), "app", "apps"), number(classes, "class", "classes"), number(examples, "example", "examples"))
			return err
		},
	}
}

// number writes how many there are of something.
func number(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func newRulesMatch() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:     "match NAME...",
		Short:   "Say which app and class a name gets, and by which rule",
		Example: "  nametap rules match e5.whatsapp.net mmi123.whatsapp.net example.com",
		Args:    atLeast(1, "at least one domain name"),
		RunE: func(cmd *cobra.Command, names []string) error {
			rules, err := rulesFrom(file)
			if err != nil {
				return err
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			for _, name := range names {
				v := rules.Match(name)
				_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", name, v.App, v.Class, decided(rules, v))
			}
			return t.Flush()
		},
	}
	cmd.Flags().StringVar(&file, "rules", "", "naming scheme `FILE` (default: built in)")
	return cmd
}

// decided says which rule decided.
func decided(rules *classify.Rules, v classify.Verdict) string {
	switch {
	case v.Rule != "":
		return fmt.Sprintf("%s:%d %s", rules.File(), v.Line, v.Rule)
	case v.Drift:
		return fmt.Sprintf("%s:%d under the app's domains, but no class matches", rules.File(), v.Line)
	}
	return "no app has this domain"
}

func rulesFrom(file string) (*classify.Rules, error) {
	if file == "" {
		return classify.Builtin(), nil
	}
	return classify.Load(file)
}
