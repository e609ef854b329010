package guado

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/guado-server/guado/internal/child"
	"github.com/guado-server/guado/internal/config"
	"github.com/guado-server/guado/internal/runtime"
	"github.com/guado-server/guado/internal/supervise"
)

// account turns the configuration's account into what a process is started with.
func account(a *config.Account) (child.Child, error) {
	var c child.Child
	var err error
	if c.Identity, err = child.LookupIdentity(a.UserAndGroup()); err != nil {
		return c, err
	}
	if c.Umask, err = a.Mask(); err != nil {
		return c, err
	}
	limits, err := a.Limits()
	if err != nil {
		return c, err
	}
	for _, l := range limits {
		c.Rlimits = append(c.Rlimits, child.Rlimit{Name: l.Name, Soft: l.Soft, Hard: l.Hard})
	}
	if a.OOMScoreAdj != 0 {
		c.OOMScoreAdj = &a.OOMScoreAdj
	}
	return c, nil
}

// workerCommand is what the workers of a group are started with.
func workerCommand(g *config.Group, in *runtime.Interpreter, cache *runtime.Cache, environ []string) (supervise.Command, error) {
	who, err := account(&g.Account)
	if err != nil {
		return supervise.Command{}, fmt.Errorf("group %s: %w", g.Name, err)
	}
	return supervise.Command{
		Path: in.Executable, Args: []string{"-u", "-c", title(g.Name) + bootstrap}, Dir: g.Dir, Child: who,
		Env: func() ([]string, error) {
			env, err := g.Environ(who.Identity.Environ(environ))
			return in.Environ(env), err
		},
		Package: func(ctx context.Context) (string, error) {
			folder, err := cache.Package(ctx, in)
			if err == nil && who.Identity != nil {
				err = share(folder, cache.Dir())
			}
			return folder, err
		},
	}, nil
}

// title is a statement that does nothing, for those who look at processes with ps: the
// interpreter finds its environment by its name, so that must not be another.
func title(group string) string { return strconv.QuoteToASCII("guado worker "+group+" {slot}") + ";" }

// lifetime is after what a worker of a group is replaced.
func lifetime(g *config.Group) supervise.Limits {
	return supervise.Limits{
		Requests: g.MaxRequests, RequestsJitter: g.MaxRequestsJitter, Age: g.MaxAge.Std(), AgeJitter: g.MaxAgeJitter.Std(),
		MemorySoft: g.MemorySoft.Bytes(), MemoryHard: g.MemoryHard.Bytes(), MemorySamples: g.MemorySamples,
	}
}

// share lets another account read the worker's code, which holds no secrets: the cache
// folder is its owner's otherwise.
func share(folder, cache string) error {
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return os.Chmod(path, 0o755) //nolint:gosec // to be read by another account
		}
		return os.Chmod(path, 0o644) //nolint:gosec // as above
	})
	for dir := filepath.Dir(folder); err == nil && len(dir) >= len(cache); dir = filepath.Dir(dir) {
		err = os.Chmod(dir, 0o711) //nolint:gosec // to be passed through
	}
	if err != nil {
		return fmt.Errorf("share the worker's code: %w", err)
	}
	for dir := filepath.Dir(cache); dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("share the worker's code: %w", err)
		}
		if info.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("another account cannot pass through %s (mode %04o) to the worker's code in %s; set server.cache_dir to a folder that it can reach, such as /var/cache/guado",
				dir, info.Mode().Perm(), cache)
		}
	}
	return nil
}
