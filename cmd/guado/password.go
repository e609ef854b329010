package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/term"
)

func (c *command) password() *cobra.Command {
	return &cobra.Command{
		Use:   "password NAME",
		Short: "Print a line of a password file for basic_auth",
		Long: "Print a line of the file that basic_auth of a mount names: NAME and the bcrypt hash of a\n" +
			"password, which is asked for, or read from standard input when that is no terminal.",
		Example: example("guado password anna >> htpasswd", "asks twice, without showing it"),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if strings.ContainsAny(args[0], ":\n") {
				return fmt.Errorf("%q is no name of a user: it has a colon or a line end", args[0])
			}
			password, err := c.askPassword(cmd.InOrStdin())
			if err != nil {
				return failed(err)
			}
			hash, err := bcrypt.GenerateFromPassword(password, bcrypt.DefaultCost)
			if err != nil { // longer than the 72 bytes that bcrypt knows
				return failed(err)
			}
			return c.say(args[0] + ":" + string(hash) + "\n")
		},
	}
}

// askPassword reads a password: a line, or what somebody types twice.
func (c *command) askPassword(in io.Reader) ([]byte, error) {
	file, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		line, err := bufio.NewReader(in).ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("standard input: %w", err)
		}
		return notEmpty([]byte(strings.TrimRight(string(line), "\r\n")))
	}
	var typed [2][]byte
	for i, prompt := range []string{"Password: ", "Again: "} {
		c.tell("%s", prompt)
		var err error
		typed[i], err = term.ReadPassword(int(file.Fd()))
		c.tell("\n")
		if err != nil {
			return nil, fmt.Errorf("the terminal: %w", err)
		}
	}
	if string(typed[0]) != string(typed[1]) {
		return nil, errors.New("these are two different passwords")
	}
	return notEmpty(typed[0])
}

func notEmpty(password []byte) ([]byte, error) {
	if len(password) == 0 {
		return nil, errors.New("the password is empty")
	}
	return password, nil
}
