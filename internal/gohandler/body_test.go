package gohandler_test

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAFileIsServedWithRanges(t *testing.T) {
	onEach(t, func(t *testing.T, h2 bool) {
		content := strings.Repeat("0123456789", 100_000)
		name := filepath.Join(t.TempDir(), "file.txt")
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		s := start(t, h2, "/", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, name) })
		if _, body := s.get(t, "/"); body != content {
			t.Errorf("%d bytes", len(body))
		}
		r, err := http.NewRequest("GET", s.url("/"), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Range", "bytes=500005-700004")
		res, err := s.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 206 || string(b) != content[500_005:700_005] {
			t.Errorf("%d, %d bytes, %v", res.StatusCode, len(b), err)
		}
	})
}

func TestReadFromCopiesWhatIsNoFileAndAFileFromWhereItStands(t *testing.T) {
	onEach(t, func(t *testing.T, h2 bool) {
		name := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(name, []byte("0123456789"), 0o600); err != nil {
			t.Fatal(err)
		}
		s := start(t, h2, "/", func(w http.ResponseWriter, r *http.Request) {
			f, err := os.Open(name)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = f.Close() }()
			if _, err := f.Seek(2, io.SeekStart); err != nil {
				t.Error(err)
			}
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("Content-Length", "9")
			_, _ = io.WriteString(w, "<")
			if n, err := io.CopyN(w, f, 3); n != 3 || err != nil {
				t.Errorf("copied %d, %v", n, err)
			}
			if n, err := io.Copy(w, f); n != 5 || err != nil { // from where the last copy ended
				t.Errorf("copied %d, %v", n, err)
			}
		})
		if _, body := s.get(t, "/"); body != "<23456789" {
			t.Errorf("%q", body)
		}
	})
}

func TestWritingMoreThanWasDeclaredFailsAndLessCutsTheAnswer(t *testing.T) {
	onEach(t, func(t *testing.T, h2 bool) {
		s := start(t, h2, "/", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "5")
			if r.URL.Path == "/more" {
				_, _ = io.WriteString(w, "12345")
				if _, err := io.WriteString(w, "6"); !errors.Is(err, http.ErrContentLength) {
					t.Errorf("%v", err)
				}
				return
			}
			_, _ = io.WriteString(w, "123")
		})
		if _, body := s.get(t, "/more"); body != "12345" {
			t.Errorf("%q", body)
		}
		res, err := s.client.Get(s.url("/less"))
		if err != nil {
			return // cut before the head left
		}
		defer func() { _ = res.Body.Close() }()
		if b, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("read %q to a clean end", b)
		}
	})
}

func TestDeadlinesOfTheResponseControllerHold(t *testing.T) {
	onEach(t, func(t *testing.T, h2 bool) {
		result := make(chan error, 1)
		s := start(t, h2, "/", func(w http.ResponseWriter, r *http.Request) {
			if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
				t.Error(err)
			}
			_, err := io.ReadAll(r.Body)
			result <- err
		})
		body, feed := io.Pipe()
		defer func() { _ = feed.Close() }()
		r, err := http.NewRequest("POST", s.url("/"), body)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if res, err := s.client.Do(r); err == nil {
				_ = res.Body.Close()
			}
		}()
		select {
		case err := <-result:
			if err == nil {
				t.Error("the read came to a clean end")
			}
		case <-time.After(patience):
			t.Fatal("the read outlasts its deadline")
		}
	})
}

func TestABodyThatIsStillReadWhenTheHandlerReturnsIsLetGo(t *testing.T) {
	onEach(t, func(t *testing.T, h2 bool) {
		stopped := make(chan error, 1)
		s := start(t, h2, "/", func(w http.ResponseWriter, r *http.Request) {
			reading := make(chan struct{})
			go func() {
				b := make([]byte, 100)
				_, _ = r.Body.Read(b)
				close(reading)
				_, err := r.Body.Read(b)
				stopped <- err
			}()
			<-reading
			_, _ = io.WriteString(w, "done")
		})
		body, feed := io.Pipe()
		defer func() { _ = feed.Close() }()
		go func() { _, _ = io.WriteString(feed, "first") }()
		r, err := http.NewRequest("POST", s.url("/"), body)
		if err != nil {
			t.Fatal(err)
		}
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			if res, err := s.client.Do(r); err == nil {
				_ = res.Body.Close()
			}
		}()
		select {
		case err := <-stopped:
			if err == nil {
				t.Error("the read came to a clean end")
			}
		case <-time.After(patience):
			t.Fatal("the read outlasts its exchange")
		}
		<-answered
	})
}
