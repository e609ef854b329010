package link_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/guado-server/guado/internal/link"
	"github.com/guado-server/guado/internal/link/linktest"
)

func tempFile(t *testing.T, content string) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "file")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() }) // only read
	if _, err := f.WriteString(content); err != nil {
		t.Fatal(err)
	}
	return f
}

func checkFile(t *testing.T, f link.Frame, want string) {
	t.Helper()
	if f.Kind != link.KindFile || f.File == nil {
		t.Fatalf("a file came as %v", f.Kind)
	}
	defer func() { _ = f.File.Close() }() // only read
	b, err := io.ReadAll(io.NewSectionReader(f.File, f.Offset, f.Count))
	if err != nil || string(b) != want {
		t.Errorf("the file is %q, %v, not %q", b, err, want)
	}
	flags, err := unix.FcntlInt(f.File.Fd(), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Error("a worker's descriptor is not close-on-exec")
	}
}

func TestAFileComesWhicheverChannelIsFirst(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		for _, first := range []string{"descriptor", "frame"} {
			t.Run(first, func(t *testing.T) {
				l, p := pair(t, link.Options{Transport: transport})
				f := tempFile(t, "0123456789")
				c := open(t, l).request(true)
				id := next(t, p, link.KindRequest).Stream
				commit(t, p, id, 0, "")
				descriptor := func() {
					if err := p.SendDescriptor(id, 7, int(f.Fd())); err != nil {
						t.Fatal(err)
					}
				}
				if first == "descriptor" {
					descriptor()
				}
				send(t, p, link.KindFile, 0, id, 7, linktest.FilePayload(2, 5))
				send(t, p, link.KindResponseBody, link.End, id, 0, []byte("tail"))
				settled(t, l, p)
				if first == "frame" {
					// What is behind the file waits with it, and the reader does not.
					for _, x := range c.s.Take(nil) {
						if x.Kind != link.KindCommit {
							t.Errorf("%v overtook a file", x.Kind)
						}
					}
					descriptor()
				}
				var got []string
				c.wait(func(x link.Frame) bool {
					got = append(got, x.Kind.String())
					if x.Kind == link.KindFile {
						checkFile(t, x, "23456")
					}
					if x.Kind == link.KindResponseBody && string(x.Payload) != "tail" {
						t.Errorf("behind the file came %q", x.Payload)
					}
					return x.Flags&link.End != 0
				})
				if n := len(got); n < 2 || got[n-2] != "FILE" || got[n-1] != "RESPONSE_BODY" {
					t.Errorf("frames came as %v", got)
				}
				c.s.Close()
			})
		}
	})
}

func TestAFileThatIsAnnouncedAndNeverComesEndsTheWorker(t *testing.T) {
	t.Parallel() // it takes the five seconds that such a file has
	l, p := pair(t, link.Options{})
	c := open(t, l).request(true)
	id := next(t, p, link.KindRequest).Stream
	commit(t, p, id, 0, "")
	send(t, p, link.KindFile, link.End, id, 7, linktest.FilePayload(2, 5))
	settled(t, l, p)
	if err := l.Err(); err != nil {
		t.Fatalf("at once: %v", err)
	}
	ended(t, l, "no descriptor for FILE 7")
	c.s.Close()
}

func TestTwoAnswersMaySendTheSameFile(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		f := tempFile(t, "abcdefgh")
		l := served(t, link.Options{Transport: transport}, func(r *linktest.Request) {
			_ = r.Head(200, 4)
			_ = r.Peer().SendFile(r.Stream, f, 4, 4, link.End)
		})
		a, b := open(t, l).request(true), open(t, l).request(true)
		for _, c := range []*client{a, b} {
			got := c.read()
			if len(got.files) != 1 {
				t.Fatalf("%d files came", len(got.files))
			}
			checkFile(t, got.files[0], "efgh")
			c.s.Close()
		}
	})
}

func TestOnlyOneRegularFileMayComeInAMessage(t *testing.T) {
	f := tempFile(t, "x")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close(); _ = w.Close() }() // nothing was written
	l4, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l4.Close() }() // nobody came
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }() // only read
	good := linktest.ControlMessage(1<<16, 1)
	many := make([]int, 20)
	for i := range many {
		many[i] = int(f.Fd())
	}
	cases := []struct {
		name, why string
		message   []byte
		fds       []int
	}{
		{"a pipe", "no regular file", good, []int{int(r.Fd())}},
		{"a directory", "no regular file", good, []int{int(dir.Fd())}},
		{"two", "2 descriptors", good, []int{int(f.Fd()), int(f.Fd())}},
		{"twenty", "truncated", good, many},
		{"none", "0 descriptors", good, nil},
		{"a wrong mark", "control message", append([]byte("NOPE"), good[4:]...), []int{int(f.Fd())}},
		{"a long message", "", append(good, good...), []int{int(f.Fd())}},
		{"a slot that cannot be", "cannot be", linktest.ControlMessage(1<<16|16384, 1), []int{int(f.Fd())}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			overBoth(t, func(t *testing.T, transport string) {
				l, p := pair(t, link.Options{Transport: transport})
				if err := p.SendControl(c.message, c.fds...); err != nil {
					t.Fatal(err)
				}
				ended(t, l, c.why)
			})
		})
	}
}

// copies is how many descriptors of this process are f's file; 1 where nobody can tell.
func copies(t *testing.T, f *os.File) int {
	t.Helper()
	all, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(all) == 0 {
		return 1
	}
	n := 0
	for _, fd := range all {
		if name, err := os.Readlink(fd); err == nil && name == f.Name() {
			n++
		}
	}
	return n
}

func TestFilesOfAStreamThatEndedAreClosed(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		l, p := pair(t, link.Options{Transport: transport})
		f := tempFile(t, "x")
		// Not named by any FILE when the stream ends, and arriving afterwards: more
		// than the limit of unclaimed ones, were they kept.
		for i := range 100 {
			c := open(t, l).request(true)
			id := next(t, p, link.KindRequest).Stream
			if err := p.SendDescriptor(id, uint32(i), int(f.Fd())); err != nil {
				t.Fatal(err)
			}
			commit(t, p, id, link.End, "")
			c.read()
			c.s.Close()
			if err := p.SendDescriptor(id, uint32(i)+1000, int(f.Fd())); err != nil {
				t.Fatal(err)
			}
		}
		until(t, "the descriptors are closed", func() bool { return copies(t, f) == 1 })
		if err := l.Err(); err != nil {
			t.Error(err)
		}
	})
}

func TestAnAnswerOfManyFilesWaitsForItsClient(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		f := tempFile(t, "0123456789")
		var sent atomic.Int32
		l := served(t, link.Options{Transport: transport, FileCredit: 8}, func(r *linktest.Request) {
			_ = r.Head(200, -1)
			for i := range 200 {
				if err := r.File(f, int64(i%10), 1, 0); err != nil {
					t.Errorf("file %d: %v", i, err)
				}
				sent.Add(1)
			}
			_ = r.Write(nil, link.End)
		})
		c := open(t, l).request(true)
		taken := 0
		c.wait(func(x link.Frame) bool {
			if x.Kind == link.KindFile {
				// Those that were taken and not credited count, however many calls of Take there are.
				if ahead := int(sent.Load()) - taken; ahead > 8 {
					t.Errorf("%d files are under way", ahead)
				}
				checkFile(t, x, string("0123456789"[taken%10]))
				taken++
				c.s.CreditFile()
			}
			return x.Flags&link.End != 0
		})
		if taken != 200 || l.Err() != nil {
			t.Errorf("%d files came, %v", taken, l.Err())
		}
		c.s.Close()
	})
}

func TestAFileBeyondTheCreditEndsTheWorker(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		for _, dropped := range []bool{false, true} {
			l, p := pair(t, link.Options{Transport: transport, FileCredit: 8})
			f := tempFile(t, "x")
			c := open(t, l).request(true)
			id := next(t, p, link.KindRequest).Stream
			commit(t, p, id, 0, "")
			for range 8 {
				if err := p.SendFile(id, f, 0, 1, 0); err != nil {
					t.Fatal(err)
				}
			}
			settled(t, l, p)
			if err := l.Err(); err != nil {
				t.Fatalf("within the credit: %v", err)
			}
			if dropped {
				// Nobody wants them any more: the worker has all of its credit again.
				c.s.Cancel(link.CancelGone)
				if got := next(t, p, link.KindFileGrant, link.KindCancel); got.Arg != 8 {
					t.Errorf("%d files were granted", got.Arg)
				}
				for range 100 {
					if err := p.SendFile(id, f, 0, 1, 0); err != nil {
						t.Fatal(err)
					}
					settled(t, l, p)
				}
				if err := l.Err(); err != nil {
					t.Errorf("after CANCEL: %v", err)
				}
				continue
			}
			_ = p.SendFile(id, f, 0, 1, 0) // the link may end meanwhile
			ended(t, l, "8 were granted")
		}
	})
}
