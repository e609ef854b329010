// Package runtime gives workers something to run on: it finds the interpreter of a
// group and unpacks the worker's Python package, with an extension that fits, from
// the binary into a cache folder.
// Before it: config. After it: supervise, which starts processes.
// Not here: starting workers, the environment of the application (config).
package runtime

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

// Cache is the folder that holds what was unpacked, compiled and learnt. Several
// hosts may use one at the same time: everything appears by rename, under a name
// made from its content.
type Cache struct {
	dir     string
	environ []string
	log     *slog.Logger
	files   fs.FS // package guado, build_ext.py
	hash    string
}

// Options of a [Cache].
type Options struct {
	Dir     string   // made with mode 0700 when it is not there
	Environ []string // as of os.Environ, for PATH, VIRTUAL_ENV and the compiler
	Files   fs.FS    // the worker's code: python.Files
	Log     *slog.Logger
}

// Open opens a cache folder.
func Open(o Options) (*Cache, error) {
	c := &Cache{dir: o.Dir, environ: o.Environ, log: o.Log, files: o.Files}
	if err := c.secure(); err != nil {
		return nil, fmt.Errorf("cache folder %q: %w; name another with server.cache_dir or GUADO_CACHE_DIR", o.Dir, err)
	}
	h := sha256.New()
	err := c.walk(everything, func(name string, data []byte) error {
		_, err := fmt.Fprintf(h, "%s %d %x\n", name, len(data), sha256.Sum256(data))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("embedded worker package: %w", err)
	}
	c.hash = hex.EncodeToString(h.Sum(nil))[:16]
	return c, nil
}

// Dir is the folder.
func (c *Cache) Dir() string { return c.dir }

// secure makes the folder and makes sure that nobody else can put code into it.
func (c *Cache) secure() error {
	if err := os.MkdirAll(filepath.Join(c.dir, "interpreters"), 0o700); err != nil {
		return err
	}
	info, err := os.Stat(c.dir)
	if err != nil {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && int(owner.Uid) != os.Getuid() && owner.Uid != 0 {
		return fmt.Errorf("belongs to user %d, not to this one (%d)", owner.Uid, os.Getuid())
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("can be written by others (mode %04o)", info.Mode().Perm())
	}
	return nil
}

func (c *Cache) getenv(name string) string {
	for i := len(c.environ) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(c.environ[i], name+"="); ok {
			return value
		}
	}
	return ""
}

// Package gives the folder that holds the package guado with an extension that
// loads in the interpreter: the value of GUADO_PACKAGE. It is cheap once the cache
// is warm; call it before each start of a worker, because a cache may be cleaned
// while a host runs.
func (c *Cache) Package(ctx context.Context, in *Interpreter) (string, error) {
	if c.Prebuilt() {
		dir := c.tree("")
		if err := c.unpack(dir, everything); err != nil {
			return "", err
		}
		err := c.fits(ctx, in, dir)
		if err == nil {
			return dir, nil
		}
		c.log.Debug("the built-in extension does not fit; one is compiled", "python", in.String(), "error", err)
	}
	dir := c.tree(in.key())
	if _, err := os.Stat(filepath.Join(dir, Extension)); err != nil {
		if err := c.compileOnce(ctx, in, dir); err != nil {
			return "", err
		}
	}
	if err := c.unpack(dir, sources); err != nil {
		return "", err
	}
	if err := c.fits(ctx, in, dir); err != nil {
		return "", fmt.Errorf("the extension that was compiled for %s does not load: %w", in, err)
	}
	return dir, nil
}

// Modules gives a folder that holds the modules of the package guado, for programs: the
// extension, which only a worker has a use for, may be missing or be of another build.
func (c *Cache) Modules() (string, error) {
	dir := c.tree("")
	return dir, c.unpack(dir, sources)
}

// tree names the folder of one unpacked package; variant is the interpreter it was
// compiled for, or empty.
func (c *Cache) tree(variant string) string {
	name := c.hash
	if variant != "" {
		name += "-" + variant
	}
	return filepath.Join(c.dir, "worker", name)
}

// unpack makes dir hold the embedded files, byte for byte. A new tree appears as a
// whole by rename; files that were damaged since are replaced one by one.
func (c *Cache) unpack(dir string, s selection) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := c.unpackNew(dir, s); err != nil {
			return fmt.Errorf("unpack the worker package: %w", err)
		}
	}
	err := c.walk(s, func(name string, want []byte) error {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if have, err := os.ReadFile(file); err == nil && bytes.Equal(have, want) {
			return nil
		}
		return c.writeFile(file, want, 0o600)
	})
	if err != nil {
		return fmt.Errorf("unpack the worker package: %w", err)
	}
	return nil
}

func (c *Cache) unpackNew(dir string, s selection) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), ".new-")
	if err != nil {
		return err
	}
	err = c.walk(s, func(name string, data []byte) error {
		file := filepath.Join(temp, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return err
		}
		return os.WriteFile(file, data, 0o600)
	})
	if err == nil {
		err = os.Rename(temp, dir)
		if _, errStat := os.Stat(dir); errStat == nil && err != nil {
			err = nil // another host was faster; what it made is checked next
		} else if err == nil {
			return nil
		}
	}
	return errors.Join(err, os.RemoveAll(temp))
}

// writeFile puts a file in place by rename, so that nobody reads half of it.
func (c *Cache) writeFile(name string, data []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(name), ".new-")
	if err != nil {
		return err
	}
	_, err = temp.Write(data)
	err = errors.Join(err, temp.Chmod(mode), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return nil
}

// selection is what a tree holds of the embedded files.
type selection bool

const (
	sources    selection = false // a tree whose extension is compiled on this machine
	everything selection = true  // with the built extension
)

// walk visits the files of the worker's code, without what Python, a build or an
// editor left beside them.
func (c *Cache) walk(s selection, visit func(name string, data []byte) error) error {
	return fs.WalkDir(c.files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if entry.IsDir() {
			if base == "__pycache__" || base == "tests" || strings.HasPrefix(base, ".") && base != "." {
				return fs.SkipDir
			}
			return nil
		}
		switch ext := path.Ext(base); {
		case name == Extension && s == everything:
		case ext == ".so" || ext == ".o" || ext == ".pyc" || strings.HasPrefix(base, "."):
			return nil
		}
		data, err := fs.ReadFile(c.files, name)
		if err != nil {
			return err
		}
		return visit(name, data)
	})
}
