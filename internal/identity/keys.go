package identity

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/guado-server/guado/internal/statefile"
)

// Files of the state folder.
const (
	keysFile        = "keys"
	connectionsFile = "connections"
	lockFile        = "lock"
)

const (
	keysVersion  = 1
	secretLength = 32
)

// savedKeys is the file of keys. The first signs; all are believed, so that another one
// can take its place without logging anybody out.
type savedKeys struct {
	Version int        `json:"version"`
	Keys    []savedKey `json:"keys"`
}

type savedKey struct {
	ID     uint32 `json:"id"`
	Secret []byte `json:"secret"` // base64
}

// Lock makes the state folder and takes it for this server alone.
func Lock(dir string) (unlock func(), err error) {
	_, err = os.Stat(dir)
	isNew := errors.Is(err, fs.ErrNotExist)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("server.state_dir: %w", err)
	}
	if isNew {
		// It may lie in the working copy of a project, and holds secrets.
		if err := os.WriteFile(filepath.Join(dir, ".gitignore"), []byte("*\n"), 0o600); err != nil {
			return nil, fmt.Errorf("server.state_dir: %w", err)
		}
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("server.state_dir must be a folder that the server can write to: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // the first error is the one that tells
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("server.state_dir %s is in use by another server; each needs one of its own", dir)
		}
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { _ = f.Close() }, nil // that unlocks, and nothing was written
}

// openKeys reads the keys, which it makes the first time.
func openKeys(dir string, log *slog.Logger) (*keyring, error) {
	path := filepath.Join(dir, keysFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if text, err = makeKeys(path); err == nil {
			log.Info("keys for cookies are made", "file", path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("keys for cookies: %w", err)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		log.Warn("others than the server can read the keys for cookies, and with them be any user; set the mode of the file to 0600", "file", path, "mode", info.Mode().Perm().String())
	}
	var saved savedKeys
	if err := json.Unmarshal(text, &saved); err != nil {
		return nil, fmt.Errorf("keys for cookies in %s: %w; put the file back from a backup, or remove it: all users must log in again then", path, err)
	}
	r := &keyring{}
	seen := map[uint32]bool{}
	for _, k := range saved.Keys {
		if len(k.Secret) < secretLength || seen[k.ID] {
			return nil, fmt.Errorf("keys for cookies in %s: key %d is shorter than %d bytes or there twice", path, k.ID, secretLength)
		}
		seen[k.ID] = true
		r.keys = append(r.keys, newKey(k.ID, k.Secret))
	}
	if saved.Version != keysVersion || len(r.keys) == 0 {
		return nil, fmt.Errorf("keys for cookies in %s: version %d with %d keys; this Guado reads version %d with at least one", path, saved.Version, len(r.keys), keysVersion)
	}
	return r, nil
}

// makeKeys writes two keys: the one that signs, and the one that will.
func makeKeys(path string) ([]byte, error) {
	saved := savedKeys{Version: keysVersion}
	for id := range uint32(2) {
		secret := make([]byte, secretLength)
		_, _ = rand.Read(secret) // it never fails: without randomness the program ends
		saved.Keys = append(saved.Keys, savedKey{ID: id + 1, Secret: secret})
	}
	text, err := json.MarshalIndent(saved, "", "  ")
	if err != nil {
		return nil, err
	}
	text = append(text, '\n')
	return text, statefile.Replace(path, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}
