package edge

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/guado-server/guado/internal/exchange"
)

func TestABusyPortNamesItsOwner(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // of the test
	_, err = Listen(l.Addr().String())
	if err == nil {
		t.Fatal("the address was opened twice")
	}
	if !errors.Is(err, syscall.EADDRINUSE) || strings.Count(err.Error(), l.Addr().String()) != 1 {
		t.Errorf("%v", err)
	}
	for _, want := range []string{l.Addr().String(), "in use by", "pid " + strconv.Itoa(os.Getpid())} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %q", want, err)
		}
	}
}

func TestAUnixSocketHasItsModeAndReplacesADeadOneOnly(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	first, err := Listen("unix:" + path + "?mode=0606")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o606 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := Listen("unix:" + path); err == nil || !strings.Contains(err.Error(), "pid "+strconv.Itoa(os.Getpid())) {
		t.Errorf("a socket in use gave %v", err)
	}
	// Dead: closed without taking the file away, as after a kill.
	first.(*Listener).Listener.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := Listen("unix:" + path)
	if err != nil {
		t.Fatalf("a dead socket was not replaced: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket file stayed: %v", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix:" + file); err == nil {
		t.Error("a file was taken for a socket")
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "precious" {
		t.Errorf("the file is %q, %v", b, err)
	}
}

func TestAddressesThatAreNoneAreRefusedWithAHint(t *testing.T) {
	for addr, want := range map[string]string{
		"unix:":             "no path",
		"unix:/x?mode=999":  "mode=0660",
		"unix:/x?umask=2":   "mode=0660",
		"fd://x":            "3 or more",
		"fd://0":            "3 or more",
		"fd://987":          "not open",
		"127.0.0.1":         "missing port",
		"systemd":           "passed no socket",
		"systemd:web":       "passed no socket",
		"http://127.0.0.1/": "missing port",
	} {
		if _, err := Listen(addr); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", addr, err, want)
		}
	}
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // of the test
	if _, err := Listen(fmt.Sprintf("fd://%d", f.Fd())); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("a file as fd:// gave %v", err)
	}
}

// TestMain plays the inheriting process when it is asked to.
func TestMain(m *testing.M) {
	if addrs := os.Getenv("EDGE_TEST_LISTEN"); addrs != "" {
		inherit(strings.Split(addrs, " "))
		return
	}
	os.Exit(m.Run())
}

// inherit opens addresses and prints where each one listens.
func inherit(addrs []string) {
	if os.Getenv("LISTEN_PID") == "self" {
		if err := os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid())); err != nil {
			panic(err)
		}
	}
	for _, addr := range addrs {
		all, err := ListenAll([]string{addr})
		if err != nil {
			fmt.Printf("error: %v\n", err)
			continue
		}
		for _, l := range all {
			fmt.Println(l.Addr())
		}
	}
}

func TestInheritedSocketsAreTakenOver(t *testing.T) {
	var files []*os.File
	var names []string
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() //nolint:errcheck // of the test
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close() //nolint:errcheck // of the test
		files, names = append(files, f), append(names, l.Addr().String())
	}
	for _, c := range []struct {
		listen string
		env    []string
		want   string
	}{
		{"fd://3 fd://4", nil, names[0] + "\n" + names[1] + "\n"},
		{"systemd", []string{"LISTEN_PID=self", "LISTEN_FDS=2"}, names[0] + "\n" + names[1] + "\n"},
		{"systemd:b systemd:a", []string{"LISTEN_PID=self", "LISTEN_FDS=2", "LISTEN_FDNAMES=a:b"}, names[1] + "\n" + names[0] + "\n"},
		{"systemd:c", []string{"LISTEN_PID=self", "LISTEN_FDS=2", "LISTEN_FDNAMES=a:b"}, "error: listen systemd:c: no socket of this name"},
		{"systemd", []string{"LISTEN_PID=1", "LISTEN_FDS=2"}, "error: listen systemd: systemd passed no socket"},
	} {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), append(c.env, "EDGE_TEST_LISTEN="+c.listen, "GORACE=atexit_sleep_ms=0")...)
		child.ExtraFiles = files
		out, err := child.CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), c.want) {
			t.Errorf("%s %v: %v\n%s\nwant %s", c.listen, c.env, err, out, c.want)
		}
	}
}

func TestAUnixSocketIsServed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	r := serve(t, modes[0], func(x *exchange.Exchange) {
		text(x, 200, fmt.Sprint(x.Unix, " ", x.LocalName == path, " ", x.LocalPort, " ", x.Client.IsValid(), " ", x.Scheme, " ", string(x.Host)))
	}, func(o *Options) {
		l, err := Listen("unix:" + path)
		if err != nil {
			t.Fatal(err)
		}
		o.Listeners = append(o.Listeners, l)
		o.TLS = certificateFiles(t, t.TempDir(), "a.test") // which a Unix socket has no use for
	})
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // of the test
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\nX-Forwarded-Proto: https\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if err != nil || !strings.HasSuffix(string(answer), "true true 0 false http a.test") {
		t.Errorf("%q %v\n%s", answer, err, r.logs)
	}
}

func TestAnAddressCanStayPlainBesideTLS(t *testing.T) {
	var plain net.Listener
	r := serve(t, modes[1], func(x *exchange.Exchange) { text(x, 200, x.Scheme) }, func(o *Options) {
		var err error
		if plain, err = Listen("http://127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		o.Listeners = append(o.Listeners, plain)
	})
	if _, body := r.get("/"); body != "https" {
		t.Errorf("over TLS: %q", body)
	}
	resp, err := http.Get("http://" + plain.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // of the test
	if body, err := io.ReadAll(resp.Body); string(body) != "http" || err != nil {
		t.Errorf("plain: %q %v", body, err)
	}
}
