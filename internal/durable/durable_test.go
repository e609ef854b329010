package durable

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/statefile"
)

// Kinds of the tests: a notebook is written whole when it is touched, a ledger line by line.
const (
	notebook byte = 1
	ledger   byte = 2
)

// shop is something with items, and its log.
type shop struct {
	t   testing.TB
	dir string
	log *Log

	mu    sync.Mutex // guards items
	items map[Key]string
}

// openShop takes up the log in a folder.
func openShop(t testing.TB, dir string, o Options) (*shop, *Recovered) {
	t.Helper()
	found, err := Recover(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{t: t, dir: dir, items: map[Key]string{}}
	if found != nil {
		s.items = read(found)
	}
	o.Dir = dir
	if s.log, err = Open(o, found); err != nil {
		t.Fatal(err)
	}
	s.log.Kinds(map[byte]Kind{notebook: {Describe: s.describe}, ledger: {Rewrite: s.rewrite}})
	if err := s.log.Begin(); err != nil {
		t.Fatal(err)
	}
	return s, found
}

func read(r *Recovered) map[Key]string {
	out := map[Key]string{}
	for k, i := range r.Items {
		out[k] = string(i.Base) + string(bytes.Join(i.Deltas, nil))
	}
	return out
}

func (s *shop) describe(id string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, ok := s.items[Key{notebook, id}]
	return []byte(text), ok
}

func (s *shop) rewrite(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if text, ok := s.items[Key{ledger, id}]; ok {
		s.log.Append(Change{Key{ledger, id}, Put, []byte(text)})
	}
}

func (s *shop) note(id, text string) {
	s.mu.Lock()
	s.items[Key{notebook, id}] = text
	s.mu.Unlock()
	s.log.Touch(notebook, id)
}

func (s *shop) add(text string, ids ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var changes []Change
	for _, id := range ids {
		s.items[Key{ledger, id}] += text
		changes = append(changes, Change{Key{ledger, id}, Add, []byte(text)})
	}
	s.log.Append(changes...)
}

func (s *shop) drop(k Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.items, k)
	if k.Kind == ledger {
		s.log.Append(Change{Key: k, Op: Drop})
		return
	}
	s.log.Touch(k.Kind, k.ID)
}

func (s *shop) wait() {
	s.t.Helper()
	if err := s.log.Wait(); err != nil {
		s.t.Fatal(err)
	}
}

// crash gives a copy of the folder as it is now.
func (s *shop) crash() string {
	s.t.Helper()
	to := filepath.Join(s.t.TempDir(), "log")
	if err := os.CopyFS(to, os.DirFS(s.dir)); err != nil {
		s.t.Fatal(err)
	}
	return to
}

func (s *shop) want(dir string) {
	s.t.Helper()
	found, err := Recover(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		s.t.Fatal(err)
	}
	if got := read(found); !maps.Equal(got, s.items) || len(found.Damaged) > 0 {
		s.t.Errorf("recovered %v, damaged %v, want %v", got, found.Damaged, s.items)
	}
}

// busy does some of everything.
func (s *shop) busy(rounds int) {
	for i := range rounds {
		s.note(fmt.Sprint("n", i%3), fmt.Sprint("note ", i))
		s.add(fmt.Sprint(i, ";"), "a", fmt.Sprint("l", i%2))
		if i%4 == 3 {
			s.drop(Key{ledger, "l0"})
			s.drop(Key{notebook, "n1"})
		}
		s.wait()
	}
}

func (s *shop) close() {
	s.t.Helper()
	if err := s.log.Close(); err != nil {
		s.t.Fatal(err)
	}
}

func TestWhatWasWaitedForIsThereBehindACrash(t *testing.T) {
	for _, always := range []bool{false, true} {
		s, _ := openShop(t, t.TempDir(), Options{Always: always})
		s.busy(9)
		s.want(s.crash())
		s.close()
		for range 3 { // a log goes on where the one before was cut off
			image := s.crash()
			next, _ := openShop(t, image, Options{Always: always})
			if !maps.Equal(next.items, s.items) {
				t.Fatalf("%v, want %v", next.items, s.items)
			}
			next.busy(5)
			next.want(next.crash())
			next.close()
			s = next
		}
	}
}

func TestManyWhoWaitAreServedByFewWrites(t *testing.T) {
	s, _ := openShop(t, t.TempDir(), Options{Always: true})
	const writers, each = 32, 20
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			for i := range each {
				s.add(fmt.Sprint(i, ","), fmt.Sprint("w", w))
				if err := s.log.Wait(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	s.want(s.crash())
	if st := s.log.Status(); st.Writes >= writers*each || st.Kept < writers*each {
		t.Errorf("%d writes for %d changes; %+v", st.Writes, writers*each, st)
	}
	s.close()
}

func TestALogThatHasGrownIsWrittenAnewWhileItIsUsed(t *testing.T) {
	s, _ := openShop(t, t.TempDir(), Options{Segment: 4 << 10})
	for i := 0; s.log.Status().Anew < 4; i++ { // the first time is the beginning
		s.note(fmt.Sprint("n", i%5), strings.Repeat("x", 100))
		s.add("0123456789", fmt.Sprint("l", i%7))
		if i%50 == 49 {
			s.drop(Key{ledger, "l3"})
		}
		s.wait()
		if i == 1_000_000 {
			t.Fatal("it never is")
		}
	}
	s.want(s.crash())
	s.close()
	all, err := segments(s.dir)
	if err != nil || len(all) > 3 {
		t.Errorf("segments %v, %v", all, err)
	}
	s.want(s.dir)
}

func TestWhatWasNotWrittenToItsEndIsCutOffWhole(t *testing.T) {
	s, _ := openShop(t, t.TempDir(), Options{})
	s.add("told;", "a", "b")
	s.wait()
	before := maps.Clone(s.items)
	all, _ := segments(s.dir)
	path := filepath.Join(s.dir, segmentName(all[0])+suffixLog)
	told, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	index, err := os.ReadFile(filepath.Join(s.dir, indexName))
	if err != nil {
		t.Fatal(err)
	}
	s.add("untold;", "a", "b")
	s.wait()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s.close()
	for end := len(told); end < len(whole); end++ {
		dir := t.TempDir()
		write(t, filepath.Join(dir, filepath.Base(path)), whole[:end])
		write(t, filepath.Join(dir, indexName), index) // as it was: it is written behind the log
		next, found := openShop(t, dir, Options{})
		if !maps.Equal(next.items, before) || len(found.Damaged) > 0 {
			t.Fatalf("%d bytes: %v, damaged %v", end, next.items, found.Damaged)
		}
		next.add("more;", "a", "b")
		next.wait()
		next.want(next.crash())
		next.close()
	}
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestWhateverBytesAreDamagedAnItemIsWholeOrGone damages every range of every file: zeros, ones,
// other bits, and cuts. What is there then is as it was last; what is not there is told of.
func TestWhateverBytesAreDamagedAnItemIsWholeOrGone(t *testing.T) {
	s, _ := openShop(t, t.TempDir(), Options{})
	s.busy(6)
	s.close()
	again, _ := openShop(t, s.dir, Options{}) // a second segment
	again.busy(4)
	want := again.items
	again.close()
	list, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, f := range list {
		path := filepath.Join(s.dir, f.Name())
		if files[path], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	for path, good := range files {
		lost := 0
		for size := 1; size <= 2*len(good); size *= 2 {
			step := max(1, size/3)
			for at := 0; at < len(good); at += step {
				for _, bad := range damaged(good, at, min(size, len(good)-at)) {
					with := maps.Clone(files)
					with[path] = bad
					lost += held(t, s.dir, with, want, fmt.Sprintf("%s: %d bytes at %d of %d", path, size, at, len(good)))
				}
			}
		}
		if filepath.Base(path) != indexName && lost == 0 {
			t.Errorf("%s: nothing was ever lost, so nothing was damaged", path)
		}
	}
}

// damaged is bytes of which some are others.
func damaged(good []byte, at, n int) [][]byte {
	flipped, zero, ones := bytes.Clone(good), bytes.Clone(good), bytes.Clone(good)
	for i := at; i < at+n; i++ {
		flipped[i] ^= 0x15
		zero[i], ones[i] = 0, 0xff
	}
	return [][]byte{flipped, zero, ones, slices.Concat(good[:at], good[at+n:]), good[:at]}
}

// held looks at what a damaged log gives: every item is as it was, or it is known to be gone.
func held(t *testing.T, dir string, files map[string][]byte, want map[Key]string, what string) (lost int) {
	t.Helper()
	found, err := recoverFrom(dir, slog.New(slog.DiscardHandler), disk{
		func(path string) ([]byte, error) { return files[path], nil },
		func(string, int64) error { return nil },
	})
	var other *VersionError
	switch {
	case errors.As(err, &other):
		t.Fatalf("%s: %v", what, err) // a head has a checksum
	case err != nil:
		t.Fatalf("%s: %v", what, err)
	case found == nil:
		t.Fatalf("%s: there is no log", what)
	}
	got := read(found)
	for k, text := range got {
		if want[k] != text {
			t.Fatalf("%s: %v is %q, and was %q", what, k, text, want[k])
		}
	}
	for k := range want {
		if _, there := got[k]; there {
			continue
		}
		lost++
		if !slices.Contains(found.Damaged, k) && !found.Lost(k) {
			t.Fatalf("%s: %v is gone, and nobody is told", what, k)
		}
	}
	return lost
}

func TestADiskThatFailsWithholdsUntilAllIsWrittenAnew(t *testing.T) {
	s, _ := openShop(t, t.TempDir(), Options{})
	s.busy(3)
	s.log.turn.Lock()
	closed := s.log.file.Close() // every write fails from now on
	s.log.turn.Unlock()
	if closed != nil {
		t.Fatal(closed)
	}
	told := maps.Clone(s.items)
	image := s.crash()
	s.add("more;", "a")
	if err := s.log.Wait(); !errors.Is(err, ErrUnavailable) || !errors.Is(err, os.ErrClosed) {
		t.Fatalf("it says that it is kept: %v", err)
	}
	s.note("new", "while it fails")
	if err := s.log.Wait(); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("it says that it is kept: %v", err)
	}
	kept := &shop{t: t, items: told}
	kept.want(image)
	for s.log.Wait() != nil { // it tries again by itself
		time.Sleep(time.Millisecond)
	}
	s.want(s.crash())
	if st := s.log.Status(); st.Failed != 1 || st.Anew != 2 || st.Error != "" {
		t.Errorf("%+v", st)
	}
	s.busy(3)
	s.want(s.crash())
	s.close()
}

func TestALogOfAnotherVersionIsNotRead(t *testing.T) {
	s, _ := openShop(t, t.TempDir(), Options{})
	s.busy(1)
	s.close()
	all, _ := segments(s.dir)
	write(t, filepath.Join(s.dir, segmentName(all[0])+suffixLog), headOf(version+1, &Options{}))
	_, err := Recover(s.dir, slog.New(slog.DiscardHandler))
	var other *VersionError
	if !errors.As(err, &other) || other.Found != version+1 {
		t.Fatal(err)
	}
}

// What a crash of the machine costs of a log that is synced now and then is its end, and not all
// of the items that had changed then: the index may have come to the disk, and the log not.
func TestAnIndexThatIsAheadOfTheLogOfAnEarlierStartOfTheMachineCostsNothing(t *testing.T) {
	s, _ := openShop(t, t.TempDir(), Options{})
	s.add("old;", "a")
	s.wait()
	all, _ := segments(s.dir)
	path := filepath.Join(s.dir, segmentName(all[0])+suffixLog)
	short, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s.add("new;", "a")
	s.wait()
	s.close()
	index, err := os.ReadFile(filepath.Join(s.dir, indexName))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		boot string
		want map[Key]string
	}{
		"the same start": {boot(), map[Key]string{}},
		"another start":  {strings.Repeat("x", len(boot())), map[Key]string{{ledger, "a"}: "old;"}},
	} {
		head, ok := firstOf(short)
		if !ok {
			t.Fatal("there is no head")
		}
		n := len(statefile.AppendRecord(nil, &head))
		head.Data = []byte("interval " + c.boot)
		write(t, path, append(statefile.AppendRecord(nil, &head), short[n:]...))
		found, err := Recover(s.dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if got := read(found); !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, damaged %v", name, got, found.Damaged)
		}
		if len(c.want) > 0 { // and it goes on
			dir := filepath.Join(t.TempDir(), "log")
			if err := os.CopyFS(dir, os.DirFS(s.dir)); err != nil {
				t.Fatal(err)
			}
			next, _ := openShop(t, dir, Options{})
			next.add("more;", "a")
			next.wait()
			next.want(next.crash())
			next.close()
			next.want(next.dir)
		}
		write(t, filepath.Join(s.dir, indexName), index)
	}
}

func firstOf(data []byte) (statefile.Record, bool) {
	r, whole, ok := statefile.NewScanner(data).Next()
	return r, whole && ok
}

// FuzzRecover wants that whatever is in the files, reading them ends, and what comes of it can be
// kept again.
func FuzzRecover(f *testing.F) {
	s, _ := openShop(f, f.TempDir(), Options{})
	s.busy(3)
	s.close()
	all, _ := segments(s.dir)
	segment, err := os.ReadFile(filepath.Join(s.dir, segmentName(all[0])+suffixLog))
	if err != nil {
		f.Fatal(err)
	}
	index, err := os.ReadFile(filepath.Join(s.dir, indexName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(segment, index)
	f.Add(segment[:len(segment)/2], index)
	f.Add(segment, index[:len(index)/2])
	f.Fuzz(func(t *testing.T, segment, index []byte) {
		dir := t.TempDir()
		write(t, filepath.Join(dir, segmentName(1)+suffixLog), segment)
		write(t, filepath.Join(dir, indexName), index)
		if _, err := Recover(dir, slog.New(slog.DiscardHandler)); err != nil {
			return
		}
		next, _ := openShop(t, dir, Options{})
		next.add("more;", "a")
		next.wait()
		next.close()
		next.want(dir)
	})
}

func TestWhatIsThereAgainBehindItsEndIsKeptHoweverOftenTheLogWasWrittenAnew(t *testing.T) {
	s, _ := openShop(t, t.TempDir(), Options{Segment: 4 << 10})
	const items = 8
	anew := func() {
		for before, i := s.log.Status().Anew, 0; s.log.Status().Anew == before; i++ {
			s.add("0123456789", "other")
			if i%100 == 99 {
				s.drop(Key{ledger, "other"})
			}
			s.wait()
			if i == 1_000_000 {
				t.Fatal("it is not written anew")
			}
		}
	}
	for range 5 {
		for i := range items {
			for range i + 1 {
				s.note(fmt.Sprint("n", i), "here")
				s.wait()
			}
		}
		s.want(s.crash())
		for i := range items {
			s.drop(Key{notebook, fmt.Sprint("n", i)})
		}
		s.wait()
		anew()
		anew() // that was begun behind their end
		last := fmt.Sprint("n", items-1)
		s.note(last, "here again") // and the others are not
		s.wait()
		s.want(s.crash())
		s.drop(Key{notebook, last})
	}
	s.note("n1", "here again")
	s.wait()
	s.close()
	next, _ := openShop(t, s.crash(), Options{})
	next.drop(Key{notebook, "n1"})
	next.wait()
	next.note("n1", "once more")
	next.wait()
	next.want(next.crash())
	next.close()
}

func TestWhatIsThereAgainWhileTheLogCannotBeWrittenIsKeptWhenItCan(t *testing.T) {
	s, _ := openShop(t, t.TempDir(), Options{})
	s.note("n", "here")
	s.wait()
	s.drop(Key{notebook, "n"})
	s.wait()
	s.log.fail(errors.New("no room"))
	s.note("n", "here again")
	eventually(t, "the log works again", func() bool { return !s.log.broken.Load() })
	s.wait()
	s.want(s.crash())
	s.close()
}

func TestAnFsyncThatFailsBehindALogWrittenAnewIsAFailure(t *testing.T) {
	s, _ := openShop(t, t.TempDir(), Options{})
	r, w, err := os.Pipe() // nothing to be synced
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	s.log.turn.Lock()
	old := s.log.index.file
	s.log.index.file = w
	s.log.turn.Unlock()
	defer func() { _ = old.Close() }()
	if err := s.log.compactInto(s.log.segment, s.log.o.Kinds); err == nil {
		t.Error("it was written anew")
	}
	if s.log.Status().Failed != 1 {
		t.Error("nobody was told")
	}
	eventually(t, "the log works again", func() bool { return !s.log.broken.Load() })
	s.close()
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: " + what)
		}
	}
}
