package guado

import (
	"context"
	"fmt"

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
		Path: in.Executable, Args: []string{"-u", "-c", bootstrap}, Dir: g.Dir, Child: who,
		Env: func() ([]string, error) {
			env, err := g.Environ(who.Identity.Environ(environ))
			return in.Environ(env), err
		},
		Package: func(ctx context.Context) (string, error) { return cache.Package(ctx, in) },
	}, nil
}

// lifetime is after what a worker of a group is replaced.
func lifetime(g *config.Group) supervise.Limits {
	return supervise.Limits{
		Requests: g.MaxRequests, RequestsJitter: g.MaxRequestsJitter, Age: g.MaxAge.Std(), AgeJitter: g.MaxAgeJitter.Std(),
		MemorySoft: g.MemorySoft.Bytes(), MemoryHard: g.MemoryHard.Bytes(), MemorySamples: g.MemorySamples,
	}
}
