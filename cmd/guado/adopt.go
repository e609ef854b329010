package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/guado-server/guado/internal/adopt"
	"github.com/guado-server/guado/internal/config"
)

func (c *command) adopt() *cobra.Command {
	var o adopt.Options
	var output string
	cmd := &cobra.Command{
		Use:   "adopt",
		Short: "Write a guado.toml for what nginx, gunicorn and supervisord run now",
		Long: "Read the configuration of nginx, gunicorn and supervisord and print one guado.toml that\n" +
			"serves the same. What could not be carried over is in its comments. Nothing of the old\n" +
			"stack is changed or stopped.\n\n" +
			"A gunicorn command is run with --print-config, which imports its application; a gunicorn\n" +
			"configuration file is run by Python, as gunicorn does.",
		Example: example(
			"guado adopt --nginx /etc/nginx/nginx.conf --supervisord /etc/supervisor/supervisord.conf", "",
			"guado adopt --gunicorn \"gunicorn -c conf.py shop.wsgi\" -o guado.toml", "",
		),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Dir, err = os.Getwd(); err != nil {
				return failed(err)
			}
			if output != "" {
				if o.Dir, err = filepath.Abs(filepath.Dir(output)); err != nil {
					return failed(err)
				}
			}
			o.Environ = c.environ
			for _, path := range []*string{&o.Nginx, &o.Supervisord} {
				if *path, err = absolute(*path); err != nil {
					return err
				}
			}
			result, err := adopt.Adopt(cmd.Context(), o)
			if err != nil {
				return failed(err)
			}
			return c.adopted(result, output, o.Dir)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.Nginx, "nginx", "", "nginx.conf, or a file of sites-enabled")
	f.StringVar(&o.Gunicorn, "gunicorn", "", "the command that starts it, or its configuration file")
	f.StringVar(&o.Supervisord, "supervisord", "", "supervisord.conf, or a file of conf.d")
	f.StringVarP(&output, "output", "o", "", "write this file, which must not be there yet (default: standard output)")
	for _, name := range []string{"nginx", "supervisord", "output"} {
		must(cmd.MarkFlagFilename(name))
	}
	return cmd
}

func absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	if _, err := os.Stat(path); err != nil {
		return "", err
	}
	return filepath.Abs(path)
}

// adopted writes the file and says how it stands with it.
func (c *command) adopted(result *adopt.Result, output, dir string) error {
	if output == "" {
		if err := c.say(result.Text); err != nil {
			return err
		}
	} else {
		mode := fs.FileMode(0o644)
		if result.Private {
			mode = 0o600 // variables of an environment may be passwords
		}
		if err := writeNew(output, result.Text, mode); err != nil {
			return failed(err)
		}
		if result.Private {
			c.tell("%s is for your eyes only, as it has variables of an environment; an account that serves must be able to read it.\n", output)
		}
	}
	for _, missed := range result.Missed {
		c.tell("not carried over: %s\n", missed)
	}
	name := output
	if name == "" {
		name = "guado.toml"
	}
	_, err := config.Load(config.Options{File: filepath.Join(dir, filepath.Base(name)), Text: []byte(result.Text), Workdir: dir, Environ: c.environ})
	if problems, ok := config.AsProblems(err); ok {
		c.tell("On this machine guado check would say:\n")
		for _, p := range problems {
			c.tell("  %s\n", p)
		}
		return nil // what is missing may be on another machine
	}
	return failed(err)
}

// writeNew writes a file that must not be there: an operator's own would be lost.
func writeNew(path, text string, mode fs.FileMode) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already; choose another --output or move it away", path)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = f.WriteString(text)
	return err
}
