package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Extension is the C extension's file below the folder that holds the package.
const Extension = "guado/_core.abi3.so"

// buildScript compiles the extension; it is embedded beside the package.
const buildScript = "build_ext.py"

// compileTimeout bounds the one compilation of a machine, a slow one included.
const compileTimeout = 5 * time.Minute

// Prebuilt reports whether the binary carries a built extension.
func (c *Cache) Prebuilt() bool {
	_, err := fs.Stat(c.files, Extension)
	return err == nil
}

// fits loads the extension of the tree in the interpreter, once for each pair, and
// remembers that it went well. The version alone does not tell: libc and machine
// must match as well, and a cache folder may be mounted noexec.
func (c *Cache) fits(ctx context.Context, in *Interpreter, dir string) error {
	key, err := fileKey(in.Executable)
	if err != nil {
		return err
	}
	mark := filepath.Join(c.dir, "interpreters", key+"-"+filepath.Base(dir)+".fits")
	if _, err := os.Stat(mark); err == nil {
		return nil
	}
	const load = "import sys; sys.dont_write_bytecode = True; sys.path.insert(0, sys.argv[1]); import guado._core"
	if _, err := c.run(ctx, in.Executable, "-I", "-c", load, dir); err != nil {
		if strings.Contains(err.Error(), "failed to map segment") {
			return fmt.Errorf("%w; the cache folder %q is mounted noexec: name another with server.cache_dir or GUADO_CACHE_DIR", err, c.dir)
		}
		return err
	}
	return c.writeFile(mark, nil, 0o600)
}

// compileOnce compiles the extension into dir. Hosts that start at the same time
// wait for the first one instead of compiling as well.
func (c *Cache) compileOnce(ctx context.Context, in *Interpreter, dir string) (err error) {
	if err := c.CanCompile(in); err != nil {
		return err
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return fmt.Errorf("cache folder %q: %w", c.dir, err)
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if _, err := os.Stat(filepath.Join(dir, Extension)); err == nil {
		return nil
	}
	temp, err := os.MkdirTemp(c.dir, ".build-")
	if err != nil {
		return fmt.Errorf("compile the extension: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	if err := c.unpack(filepath.Join(temp, "tree"), sources); err != nil {
		return err
	}
	c.log.Info("compiling the worker's C extension, once for this interpreter", "python", in.String())
	if err := c.compile(ctx, in, filepath.Join(temp, "tree"), temp); err != nil {
		return err
	}
	if err := c.unpack(dir, sources); err != nil {
		return err
	}
	return os.Rename(filepath.Join(temp, filepath.Base(Extension)), filepath.Join(dir, Extension))
}

func (c *Cache) compile(ctx context.Context, in *Interpreter, tree, folder string) error {
	ctx, cancel := context.WithTimeout(ctx, compileTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, in.Executable, "-I", filepath.Join(tree, buildScript), "--cc", c.compiler(), "--out", folder)
	cmd.Dir, cmd.Env, cmd.WaitDelay = tree, c.environ, time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil && err != nil {
		err = ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("the worker's C extension could not be compiled for %s: %w\n%s", in, err, bytes.TrimSpace(out))
	}
	return nil
}

// CanCompile looks for compiler and headers first: what is missing is said in words
// and not in a compiler's output.
func (c *Cache) CanCompile(in *Interpreter) error {
	var missing []string
	if c.compiler() == "" {
		missing = append(missing, "a C compiler")
	}
	if !in.Headers {
		missing = append(missing, fmt.Sprintf("Python.h (looked for in %s)", in.Include))
	}
	if len(missing) == 0 {
		return nil
	}
	minor := fmt.Sprintf("3.%d", in.Version[1])
	return fmt.Errorf("this guado carries no C extension that fits %s, and it cannot be compiled here: missing %s; "+
		"install them (Debian, Ubuntu: apt install gcc libc6-dev python%s-dev; Fedora: dnf install gcc python%s-devel; Alpine: apk add gcc musl-dev python3-dev; macOS: xcode-select --install), "+
		"or use the guado wheel for this platform", in, strings.Join(missing, " and "), minor, minor)
}

// compiler gives the command of the C compiler, $CC before the usual names; empty
// when there is none.
func (c *Cache) compiler() string {
	if cc := c.getenv("CC"); strings.TrimSpace(cc) != "" {
		name := strings.Fields(cc)[0]
		if strings.ContainsRune(name, filepath.Separator) {
			if _, err := os.Stat(name); err == nil {
				return cc
			}
		} else if _, err := c.lookPath(name); err == nil {
			return cc
		}
		return ""
	}
	for _, name := range []string{"cc", "gcc", "clang"} {
		if _, err := c.lookPath(name); err == nil {
			return name
		}
	}
	return ""
}

// lock takes the cache's lock, which one host at a time holds while it compiles.
// The kernel gives it back when that host dies. It is asked for again and again
// because a blocked flock(2) cannot be called off.
func (c *Cache) lock(ctx context.Context) (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(c.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return f.Close, nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			return nil, errors.Join(err, f.Close())
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		}
	}
}
