// Package statefile keeps what a graceful stop leaves for the next start: lines of JSON
// between a head and a checksum, written whole or not at all, and read once.
// Before it: whoever has something that must survive (identity, pages, push). After it: a
// file in server.state_dir.
// Not here: what the lines mean.
package statefile

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Kind is a file of one kind:
//
//	NAME VERSION COUNT
//	{…}                    COUNT lines, each a JSON object
//	sha256 HEX             of all before
type Kind struct {
	Name    string // "guado-push"
	Version int
	Line    int // bytes of the longest line
}

// ErrDamaged: the file is not what was written.
var ErrDamaged = errors.New("the file is damaged")

// VersionError says that the file is one of another Guado.
type VersionError struct {
	Name        string
	Found, Read string
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s has version %s, and this Guado reads version %s", e.Name, e.Found, e.Read)
}

// Write puts count records in the place of the file.
func (k Kind) Write(path string, count int, records iter.Seq[any]) error {
	return Replace(path, func(w io.Writer) error { return k.encode(w, count, records) })
}

func (k Kind) encode(w io.Writer, count int, records iter.Seq[any]) error {
	sum := sha256.New()
	out := bufio.NewWriter(io.MultiWriter(w, sum))
	if _, err := fmt.Fprintf(out, "%s %d %d\n", k.Name, k.Version, count); err != nil {
		return err
	}
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	for r := range records {
		if err := lines.Encode(r); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "sha256 %s\n", hex.EncodeToString(sum.Sum(nil)))
	return err
}

// Take reads the file and removes it: it is older than all that happens from then on, and
// read once more after a crash it would bring back what is no more. No file is no error.
// record gets each line; what it makes of them counts only when Take returns nil, for the
// checksum comes last. A file that cannot be used is put aside, as PATH.damaged or
// PATH.version-N.
func (k Kind) Take(path string, record func(line []byte) error) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = errors.Join(k.Decode(f, record), f.Close())
	var other *VersionError
	switch {
	case errors.Is(err, ErrDamaged):
		return errors.Join(fmt.Errorf("%s is put aside: %w", path, err), os.Rename(path, path+".damaged"))
	case errors.As(err, &other):
		return errors.Join(fmt.Errorf("%s is put aside: %w", path, err), os.Rename(path, path+".version-"+other.Found))
	case err != nil:
		return fmt.Errorf("read %s: %w", path, err)
	}
	if err := errors.Join(os.Remove(path), syncFolder(filepath.Dir(path))); err != nil {
		return fmt.Errorf("the file must be removed before it is used: %w", err)
	}
	return nil
}

// Decode reads a file of this kind; see [Kind.Take].
func (k Kind) Decode(r io.Reader, record func(line []byte) error) error {
	in := &reader{bufio.NewReaderSize(r, 64<<10), sha256.New(), k.Line}
	head, err := in.line()
	if err != nil {
		return err
	}
	count, err := k.head(string(head))
	if err != nil {
		return err
	}
	in.sum.Write(head)
	for range count {
		text, err := in.line()
		if err != nil {
			return err
		}
		in.sum.Write(text)
		if err := record(text[:len(text)-1]); err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	want := "sha256 " + hex.EncodeToString(in.sum.Sum(nil)) + "\n"
	if last, err := in.line(); err != nil {
		return err
	} else if string(last) != want {
		return fmt.Errorf("%w: its checksum is wrong", ErrDamaged)
	}
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows its end", ErrDamaged)
	}
	return nil
}

func (k Kind) head(text string) (count int, err error) {
	words := strings.Fields(text)
	if len(words) != 3 || words[0] != k.Name {
		return 0, fmt.Errorf("%w: it does not begin with %q", ErrDamaged, k.Name)
	}
	version, err := strconv.ParseUint(words[1], 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%w: version %q", ErrDamaged, words[1])
	}
	if int(version) != k.Version {
		return 0, &VersionError{k.Name, words[1], strconv.Itoa(k.Version)}
	}
	if count, err = strconv.Atoi(words[2]); err != nil || count < 0 {
		return 0, fmt.Errorf("%w: %q records", ErrDamaged, words[2])
	}
	return count, nil
}

type reader struct {
	*bufio.Reader
	sum  hash.Hash
	most int
}

// line reads a line with its end.
func (r *reader) line() ([]byte, error) {
	var whole []byte
	for {
		part, err := r.ReadSlice('\n')
		whole = append(whole, part...)
		switch {
		case err == nil:
			return whole, nil
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("%w: it ends early", ErrDamaged)
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		case len(whole) > r.most:
			return nil, fmt.Errorf("%w: a line is longer than %d bytes", ErrDamaged, r.most)
		}
	}
}

// Replace writes a file (mode 0600) at once and whole or not at all, so that it lasts.
func Replace(path string, write func(io.Writer) error) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			// The first error is the one that tells; what is left over is removed if it can be.
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	for _, step := range []func() error{
		func() error { return write(f) }, f.Sync, f.Close,
		func() error { return os.Rename(f.Name(), path) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return syncFolder(dir)
}

// syncFolder makes a new or removed name last.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
