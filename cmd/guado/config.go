package main

import (
	"github.com/spf13/cobra"

	"github.com/guado-server/guado/internal/config"
)

func (c *command) config() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the configuration, its defaults, its reference or its schema",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.configShow(), &cobra.Command{
		Use:     "default",
		Short:   "Print a file with every key, commented out, and its default",
		Example: example("guado config default > guado.toml", "start a configuration"),
		Args:    cobra.NoArgs,
		RunE:    func(*cobra.Command, []string) error { return c.say(config.DefaultFile()) },
	}, &cobra.Command{
		Use:   "doc",
		Short: "Print the reference of all keys (Markdown)",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return c.say(config.Reference()) },
	}, &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the file, for editors",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			schema, err := config.Schema()
			if err != nil {
				return failed(err)
			}
			return c.say(string(schema))
		},
	})
	return cmd
}

func (c *command) configShow() *cobra.Command {
	var set, asJSON bool
	var s *source
	cmd := &cobra.Command{
		Use:   "show [MODULE:ATTR]",
		Short: "Print the configuration as it is in effect, and where each value comes from",
		Example: example(
			"guado config show", "every value, and where it comes from",
			"guado config show --set", "what guado.toml, the environment and flags say",
			"guado config show --json", "for programs",
		),
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, err := c.load(s, args, false)
			if err != nil {
				return err
			}
			if !asJSON {
				return c.say(cfg.Show(!set))
			}
			text, err := cfg.JSON()
			if err != nil {
				return failed(err)
			}
			return c.say(string(text) + "\n")
		},
	}
	s = addSource(cmd)
	cmd.Flags().BoolVar(&set, "set", false, "only the values that something has set")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON (always all)")
	return cmd
}
