// Package statefile keeps what a graceful stop leaves for the next start: records with checksums
// of their own, written whole or not at all, and read once. The log of internal/durable is made
// of the same records.
// Before it: whoever has something that must survive (identity, pages, push). After it: a
// file in server.state_dir.
// Not here: what the records mean.
package statefile

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strconv"
)

// Kind is a file of one kind: a record that names it, so many with a JSON object each, and one
// that says again how many they are. All have the file's version.
type Kind struct {
	Name    string // "guado-push"
	Version int
}

// What a record of such a file is.
const (
	opFirst = 1 // its id is the name of the kind, its data the count
	opOne   = 2
	opLast  = 3 // likewise
)

// ErrDamaged: the file is not what was written.
var ErrDamaged = errors.New("the file is damaged")

// LossError says that some of the records are gone; the others were given.
type LossError struct {
	Lost int // -1: nobody knows how many
}

func (e *LossError) Error() string {
	if e.Lost < 0 {
		return "the file is damaged: an unknown number of records is gone"
	}
	return fmt.Sprintf("the file is damaged: %d records are gone", e.Lost)
}

// Is makes it an ErrDamaged.
func (e *LossError) Is(target error) bool { return target == ErrDamaged }

// Lossy reports whether err says no more than that some records are gone, or is nil.
func Lossy(err error) bool {
	var loss *LossError
	return err == nil || errors.As(err, &loss)
}

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
	out := bufio.NewWriter(w)
	number := uint64(0)
	var room []byte
	put := func(op byte, data []byte) error {
		number++
		room = AppendRecord(room[:0], &Record{Number: number, Version: uint32(k.Version), Op: op, ID: k.Name, Data: data})
		_, err := out.Write(room)
		return err
	}
	size := binary.LittleEndian.AppendUint64(nil, uint64(count))
	if err := put(opFirst, size); err != nil {
		return err
	}
	var text bytes.Buffer
	lines := json.NewEncoder(&text)
	lines.SetEscapeHTML(false)
	for r := range records {
		text.Reset()
		if err := lines.Encode(r); err != nil {
			return err
		}
		if err := put(opOne, bytes.TrimSuffix(text.Bytes(), []byte("\n"))); err != nil {
			return err
		}
	}
	if err := put(opLast, size); err != nil {
		return err
	}
	return out.Flush()
}

// Take reads the file and removes it: it is older than all that happens from then on, and
// read once more after a crash it would bring back what is no more. No file is no error.
// record gets each record that is whole; one that it refuses counts as damaged. A file that
// is not whole, or of another version, is put aside, as PATH.damaged or PATH.version-N; of the
// former what record got is good where the error is a [LossError].
func (k Kind) Take(path string, record func(data []byte) error) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = k.Decode(data, record)
	var other *VersionError
	switch {
	case errors.As(err, &other):
		return errors.Join(fmt.Errorf("%s is put aside: %w", path, err), os.Rename(path, path+".version-"+other.Found))
	case err != nil:
		if failed := errors.Join(os.Rename(path, path+".damaged"), syncFolder(filepath.Dir(path))); failed != nil {
			// It would be read again: nothing of it may be used.
			return fmt.Errorf("%s cannot be put aside: %w (%w: %s)", path, failed, ErrDamaged, err.Error())
		}
		return fmt.Errorf("%s is put aside: %w", path, err)
	}
	if err := errors.Join(os.Remove(path), syncFolder(filepath.Dir(path))); err != nil {
		return fmt.Errorf("the file must be removed before it is used: %w", err)
	}
	return nil
}

// Decode reads a file of this kind; see [Kind.Take].
func (k Kind) Decode(data []byte, record func(data []byte) error) error {
	scan := NewScanner(data)
	good, count := 0, -1
	for {
		r, whole, ok := scan.Next()
		switch {
		case !ok && scan.Skipped == 0 && count == good:
			return nil
		case !ok && count < 0 && good == 0:
			return fmt.Errorf("%w: it is none of %s", ErrDamaged, k.Name)
		case !ok && count < 0:
			return &LossError{-1}
		case !ok:
			return &LossError{max(count-good, 0)}
		case r.ID != k.Name:
			return fmt.Errorf("%w: it is one of %q", ErrDamaged, r.ID)
		case r.Version != uint32(k.Version):
			return &VersionError{k.Name, strconv.FormatUint(uint64(r.Version), 10), strconv.Itoa(k.Version)}
		case r.Op == opOne && whole:
			if err := record(r.Data); err == nil {
				good++
			}
		case whole && len(r.Data) == 8:
			count = int(binary.LittleEndian.Uint64(r.Data))
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

// Remove removes a file for good; that there is none is no error.
func Remove(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, syncFolder(filepath.Dir(path)))
}

// syncFolder makes a new or removed name last.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
