package doctor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	workers "github.com/guado-server/guado/internal/runtime"
	"github.com/guado-server/guado/internal/version"
)

func (e *exam) versions(ctx context.Context) {
	e.ok("guado", fmt.Sprintf("%s, built with %s for %s/%s", version.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH))
	if len(e.Config.Groups) == 0 {
		return
	}
	cache, end, err := e.cache()
	if err != nil {
		e.find(Fail, "python", err.Error(), "make room in the folder of temporary files, or name another: $TMPDIR")
		return
	}
	defer end()
	for i := range e.Config.Groups {
		g := &e.Config.Groups[i]
		check := "python of " + g.Name
		in, err := cache.Find(ctx, g.Python, g.Dir, e.Config.Dir)
		if err != nil {
			e.find(Fail, check, err.Error(), "name an interpreter: python on [[app]] or [[group]], or --python")
			continue
		}
		value := fmt.Sprintf("%s from %s", in, in.Source)
		if err := e.extension(ctx, cache, in); err != nil {
			e.find(Fail, check, value, err.Error())
			continue
		}
		if e.speaksASGI(g.Name) {
			value += ", " + loopOf(ctx, in)
		}
		e.ok(check, value)
	}
}

// cache is a folder of our own: what another account's server keeps must not get files of
// ours.
func (e *exam) cache() (cache *workers.Cache, end func(), err error) {
	dir, err := os.MkdirTemp("", "guado-doctor-")
	if err != nil {
		return nil, nil, err
	}
	end = func() { _ = os.RemoveAll(dir) } // the system's folder of temporary files is cleaned by others
	cache, err = workers.Open(workers.Options{Dir: filepath.Join(dir, "cache"), Environ: e.Environ, Files: e.Files, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		end()
	}
	return cache, end, err
}

// extension looks whether there is one for an interpreter, or could be. It compiles none.
func (e *exam) extension(ctx context.Context, cache *workers.Cache, in *workers.Interpreter) error {
	if !cache.Prebuilt() {
		return cache.CanCompile(in)
	}
	_, err := cache.Package(ctx, in)
	return err
}

func (e *exam) speaksASGI(group string) bool {
	for i := range e.Config.Apps {
		if a := &e.Config.Apps[i]; a.Group == group && a.Kind != "wsgi" {
			return true
		}
	}
	return false
}

// askTime bounds a question to an interpreter.
const askTime = 20 * time.Second

// loopOf tells which event loop ASGI applications get.
func loopOf(ctx context.Context, in *workers.Interpreter) string {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	const ask = "import importlib.metadata as m; print(m.version('uvloop'))"
	out, err := exec.CommandContext(ctx, in.Executable, "-c", ask).Output()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return "uvloop " + strings.TrimSpace(string(out))
	case errors.As(err, &exit):
		return "asyncio (no uvloop)"
	}
	return "event loop unknown: " + err.Error()
}
