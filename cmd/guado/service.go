package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/runtime"
	"github.com/guado-server/guado/internal/service"
)

// serviceOptions are what a unit needs that no configuration says.
type serviceOptions struct {
	user, name, output, binary string
	sockets                    []string
	systemd                    int
}

func (c *command) service() *cobra.Command {
	var s *source
	var o serviceOptions
	cmd := &cobra.Command{
		Use:   "service [MODULE:ATTR]",
		Short: "Print the systemd unit that runs this configuration as a service",
		Long: "Print the systemd unit that runs this configuration as a service, with its times, limits\n" +
			"and folders; with --socket also the unit by which systemd holds its sockets, so that no\n" +
			"connection is refused while the server is started anew. Nothing is installed.",
		Example: example(
			"guado service --user shop", "to look at",
			"guado service --user shop -o /etc/systemd/system", "then: systemctl daemon-reload",
			"guado service --user shop --socket :80", "and a socket unit",
		),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := c.load(s, args, false)
			if err != nil {
				return err
			}
			u, err := c.unit(cmd.Context(), s, args, cfg, &o)
			if err != nil {
				return err
			}
			files, err := u.Files()
			if err != nil {
				return err
			}
			return c.units(files, o.output)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.user, "user", "", "account that it runs as, NAME or NAME:GROUP (default: the owner of the configuration)")
	f.StringVar(&o.name, "name", "", "name of the unit (default: that of the folder)")
	f.StringArrayVar(&o.sockets, "socket", nil, "[NAME=]ADDR at which systemd listens for it, as :80; may be given again")
	f.StringVarP(&o.output, "output", "o", "", "write the units into this folder (default: standard output)")
	f.StringVar(&o.binary, "binary", "", "path of guado on the machine that runs it (default: this one's)")
	f.IntVar(&o.systemd, "systemd", 0, "version of systemd there (default: this machine's)")
	must(cmd.MarkFlagDirname("output"))
	s = addSource(cmd)
	return cmd
}

// unit gathers what the unit says.
func (c *command) unit(ctx context.Context, s *source, args []string, cfg *config.Config, o *serviceOptions) (*service.Unit, error) {
	u := &service.Unit{Config: cfg, Name: o.name, Dir: cfg.Dir}
	var err error
	binary := o.binary
	if binary == "" {
		if binary, err = os.Executable(); err != nil {
			return nil, failed(err)
		}
	}
	if !filepath.IsAbs(binary) {
		return nil, fmt.Errorf("--binary %s: systemd needs an absolute path", binary)
	}
	if u.Name == "" {
		u.Name = unitName(cfg)
	}
	if !unitNames.MatchString(u.Name) {
		return nil, fmt.Errorf("--name %s: a unit's name has letters, digits, and : - _ . alone", u.Name)
	}
	for _, text := range o.sockets {
		one, err := service.ParseSocket(text)
		if err != nil {
			return nil, err
		}
		u.Sockets = append(u.Sockets, one)
	}
	u.User, u.Group, _ = strings.Cut(o.user, ":")
	if o.user == "" {
		u.User = owner(cfg)
	}
	u.Command = append([]string{binary, "serve"}, serveArgs(s, args, cfg)...)
	if o.systemd == 0 {
		o.systemd = systemdVersion(ctx)
	}
	u.Old = o.systemd > 0 && o.systemd < notifyReload
	if cfg.File != "" && cfg.Admin.Socket != config.AdminOff {
		u.Reload = []string{binary, "reload", "--config", file(cfg)}
	}
	u.Paths = append(c.interpreters(cfg), homes(u.User, cfg)...)
	c.remarks(u, cfg)
	return u, nil
}

// interpreters are those of the groups, and what their links lead to.
func (c *command) interpreters(cfg *config.Config) (paths []string) {
	for i := range cfg.Groups {
		g := &cfg.Groups[i]
		in, err := runtime.Locate(c.environ, g.Python, g.Dir, cfg.Dir)
		if err != nil {
			continue // it may be there on the machine that runs it
		}
		paths = append(paths, in.Executable)
		if real, err := filepath.EvalSymlinks(in.Executable); err == nil {
			paths = append(paths, real)
		}
	}
	return paths
}

// homes are those of the accounts that processes run as: applications look for files
// there. One that this machine does not know may be anywhere.
func homes(name string, cfg *config.Config) (paths []string) {
	names := make([]string, 1, 1+len(cfg.Groups)+len(cfg.Programs))
	names[0] = name
	for i := range cfg.Groups {
		names = append(names, cfg.Groups[i].User)
	}
	for i := range cfg.Programs {
		names = append(names, cfg.Programs[i].User)
	}
	for i, name := range names {
		name, _, _ = strings.Cut(name, ":")
		switch u, err := user.Lookup(name); {
		case err == nil:
			paths = append(paths, u.HomeDir)
		case name != "":
			paths = append(paths, "/home/"+name)
		case i == 0:
			paths = append(paths, "/root")
		}
	}
	return paths
}

// remarks tells what the unit cannot.
func (c *command) remarks(u *service.Unit, cfg *config.Config) {
	if u.User == "" {
		c.tell("guado: the unit runs the server as root; name an account: --user NAME\n")
	}
	for _, variable := range c.environ {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, config.EnvPrefix) {
			c.tell("guado: %s is set here, but is not in the unit\n", name)
		}
	}
	if cfg.Server.StateDir == "" || !cfg.Given("server.state_dir") {
		c.tell("guado: server.state_dir is not set; with state_dir = \"/var/lib/%s\" in the file, guado status finds the server\n", u.Name)
	}
}

var unitNames = regexp.MustCompile(`^[A-Za-z0-9:_.\-]+$`)

// unitName is that of the folder in which the configuration is.
func unitName(cfg *config.Config) string {
	name := regexp.MustCompile(`[^A-Za-z0-9_.\-]+`).ReplaceAllString(filepath.Base(cfg.Dir), "-")
	if strings.Trim(name, "-.") == "" {
		return "guado"
	}
	return name
}

func file(cfg *config.Config) string {
	if filepath.IsAbs(cfg.File) {
		return cfg.File
	}
	return filepath.Join(cfg.Dir, filepath.Base(cfg.File))
}

// serveArgs says again what this command was told, so that it holds in any folder.
func serveArgs(s *source, args []string, cfg *config.Config) []string {
	var all []string
	if cfg.File != "" {
		all = append(all, "--config", file(cfg))
	}
	s.set.VisitAll(func(f *pflag.Flag) {
		if !f.Changed || !serves(f.Name) {
			return
		}
		switch v := f.Value.(type) {
		case *texts:
			for _, one := range v.values {
				all = append(all, "--"+f.Name, one)
			}
		case *text:
			all = append(all, "--"+f.Name, v.value)
		default:
			all = append(all, "--"+f.Name)
		}
	})
	return append(all, args...)
}

func serves(name string) bool {
	for _, f := range serveFlags {
		if f.name == name {
			return true
		}
	}
	return false
}

// owner is whose the configuration is, unless it is root's: whoever looks after an
// application is a better guess than root.
func owner(cfg *config.Config) string {
	for _, path := range []string{file(cfg), cfg.Dir} {
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		if uid := ownerOf(info); uid > 0 {
			if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
				return u.Username
			}
			return strconv.Itoa(uid)
		}
	}
	return ""
}

// notifyReload is the version of systemd that learnt Type=notify-reload.
const notifyReload = 253

// systemdVersion asks systemd; 0: there is none here.
func systemdVersion(ctx context.Context) int {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemctl", "--version").Output()
	if err != nil {
		return 0
	}
	var version int
	if _, err := fmt.Sscanf(string(out), "systemd %d", &version); err != nil {
		return 0
	}
	return version
}

// units prints unit files as `systemctl cat` does, or writes them.
func (c *command) units(files []service.File, folder string) error {
	const place = "/etc/systemd/system"
	if folder == "" {
		all := make([]string, 0, len(files))
		for _, f := range files {
			all = append(all, "# "+filepath.Join(place, f.Name)+"\n"+f.Text)
		}
		return c.say(strings.Join(all, "\n"))
	}
	var err error
	for _, f := range files {
		path := filepath.Join(folder, f.Name)
		if wrong := writeNew(path, f.Text, 0o644); wrong != nil {
			err = errors.Join(err, wrong)
			continue
		}
		err = errors.Join(err, c.say(path+"\n"))
	}
	return failed(err)
}
