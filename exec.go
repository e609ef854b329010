package guado

import (
	"fmt"
	"os"
	"syscall"

	"github.com/guado-server/guado/internal/runtime"
)

// Exec replaces this process by the command of a program, in its folder, with its
// environment and limits, as its user. c has been resolved. It returns only when that
// fails.
func Exec(c *Config, p *Program, environ []string) error {
	who, err := account(&p.Account)
	if err != nil {
		return err
	}
	env, err := c.Environ(p, who.Identity.Environ(environ))
	if err != nil {
		return err
	}
	in, err := runtime.Locate(environ, p.Python, p.Dir, c.Dir)
	switch {
	case err == nil:
		env = in.Environ(env)
	case p.Python != "":
		return err
	}
	who.Path, who.Dir, who.Env = p.Command[0], p.Dir, env
	path, err := who.Find()
	if err != nil {
		return err
	}
	if err := os.Chdir(p.Dir); err != nil {
		return err
	}
	if err := who.Assume(); err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", path, syscall.Exec(path, p.Command, env))
}
