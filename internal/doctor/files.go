package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/guado-server/guado/internal/config"
)

func (e *exam) files(context.Context) {
	c := e.Config
	if c.File != "" {
		e.code("configuration", filepath.Join(c.Dir, filepath.Base(c.File)), "whoever writes it decides what the server runs")
	}
	e.folder("state_dir", c.Server.StateDir, "server.state_dir")
	e.folder("cache_dir", c.Server.CacheDir, "server.cache_dir")
	e.code("cache_dir", c.Server.CacheDir, "workers run what is in it")
	e.space("spool", e.spoolDir(), uint64(max(c.Server.Spool.Disk.Bytes(), 0)))
	if log := c.Server.AccessLog; log != "" && log != "-" {
		e.log("access_log", log)
	}
	for i := range c.Programs {
		p := &c.Programs[i]
		for _, log := range []string{p.Stdout, p.Stderr} {
			if log != "" && log != os.DevNull {
				e.log("log of program "+p.Name, log)
			}
		}
	}
	e.certificate()
	e.secrets()
	e.adminSocket()
	e.places()
}

func (e *exam) spoolDir() string {
	if dir := e.Config.Server.Spool.Dir; dir != "" {
		return dir
	}
	return os.TempDir()
}

// nearest gives the path, or the first folder above it that is there.
func nearest(path string) (string, fs.FileInfo, error) {
	for {
		info, err := os.Stat(path)
		if err == nil || !errors.Is(err, fs.ErrNotExist) || filepath.Dir(path) == path {
			return path, info, err
		}
		path = filepath.Dir(path)
	}
}

// folder looks whether the server can write to a folder, or make it.
func (e *exam) folder(check, dir, key string) {
	at, info, err := nearest(dir)
	advice := fmt.Sprintf("give it to %s (chown), or name another folder: %s", e.who, key)
	switch closed := e.who.reach(at + "/x"); {
	case err != nil:
		e.find(Fail, check, dir+": "+err.Error(), advice)
	case !info.IsDir():
		e.find(Fail, check, at+" is no folder", "remove it, or name another folder: "+key)
	case closed != "" && closed != at:
		e.find(Fail, check, fmt.Sprintf("%s: %s cannot pass through %s", dir, e.who, closed), advice)
	case !e.who.may(info, mayWrite|mayEnter):
		e.find(Fail, check, fmt.Sprintf("%s cannot be written to by %s (%s)", at, e.who, mode(info)), advice)
	case at != dir:
		e.ok(check, dir+" will be made")
	default:
		e.ok(check, fmt.Sprintf("%s %s", dir, mode(info)))
	}
}

// code looks who else can write what the server obeys.
func (e *exam) code(check, path, why string) {
	info, err := os.Stat(path)
	if err != nil {
		return // the server says so
	}
	const others, group = 0o002, 0o020
	switch {
	case info.Mode().Perm()&others != 0:
		e.find(Fail, check, fmt.Sprintf("%s can be written to by everybody (%s)", path, mode(info)), "chmod o-w "+path+": "+why)
	case info.Mode().Perm()&group != 0:
		e.find(Warn, check, fmt.Sprintf("%s can be written to by its group (%s)", path, mode(info)), "chmod g-w "+path+", unless all of the group may decide: "+why)
	case check == "configuration":
		e.ok(check, fmt.Sprintf("%s %s", path, mode(info)))
	}
}

// space compares what is free with what uploads may take.
func (e *exam) space(check, dir string, most uint64) {
	at, _, err := nearest(dir)
	var st unix.Statfs_t
	if err == nil {
		err = unix.Statfs(at, &st)
	}
	if err != nil {
		e.find(Warn, check, dir+": "+err.Error(), "name another folder: server.spool.dir")
		return
	}
	free := uint64(st.Bavail) * uint64(st.Bsize) //nolint:unconvert // of other types elsewhere
	value := fmt.Sprintf("%s has %s free; uploads may take %s", at, human(free), human(most))
	if free < most {
		e.find(Warn, check, value, "lower server.spool.disk below what is free, or name a larger folder (server.spool.dir): a full disk is a disk full for the applications, too")
		return
	}
	e.ok(check, value)
}

func (e *exam) log(check, file string) {
	at, info, err := nearest(file)
	if err != nil {
		e.find(Fail, check, file+": "+err.Error(), "name another file")
		return
	}
	want := uint32(mayWrite)
	if info.IsDir() {
		want |= mayEnter
	}
	if closed := e.who.reach(file); closed != "" || !e.who.may(info, want) {
		e.find(Fail, check, fmt.Sprintf("%s cannot be written to by %s (%s is %s)", file, e.who, at, mode(info)), fmt.Sprintf("give it to %s (chown)", e.who))
		return
	}
	e.ok(check, fmt.Sprintf("%s (%s is %s)", file, at, mode(info)))
}

// soon is when the end of a certificate is news.
const soon = 14 * 24 * time.Hour

func (e *exam) certificate() {
	t := e.Config.Server.TLS
	if !t.Enabled() {
		return
	}
	e.private("tls key", t.Key, Fail)
	pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	var leaf *x509.Certificate
	if err == nil {
		leaf, err = x509.ParseCertificate(pair.Certificate[0])
	}
	if err != nil {
		verdict := Fail
		if errors.Is(err, fs.ErrPermission) {
			verdict = Warn // not ours to read
		}
		e.find(verdict, "certificate", err.Error(), "server.tls.cert and server.tls.key must be a PEM certificate with its chain, and its key; run guado doctor as root to see files of others")
		return
	}
	value := fmt.Sprintf("%s is good until %s", leaf.Subject.CommonName, leaf.NotAfter.Format(time.DateOnly))
	switch left := time.Until(leaf.NotAfter); {
	case left < 0:
		e.find(Fail, "certificate", value, "renew it; the server reads the new files by itself")
	case left < soon:
		e.find(Warn, "certificate", value, "renew it now; what should have done that by itself has not")
	default:
		e.ok("certificate", value)
	}
}

// private looks at a file that holds a secret.
// private looks who can read a secret; open is how bad it is when everybody can.
func (e *exam) private(check, path string, open Verdict) {
	info, err := os.Stat(path)
	const others, write = 0o007, 0o002
	switch {
	case err != nil:
		e.find(Fail, check, err.Error(), "name the file that is there")
	case info.Mode().Perm()&write != 0:
		e.find(Fail, check, fmt.Sprintf("%s can be written to by everybody on this machine (%s)", path, mode(info)), "chmod o= "+path)
	case info.Mode().Perm()&others != 0:
		e.find(open, check, fmt.Sprintf("%s is open to everybody on this machine (%s)", path, mode(info)), "chmod o= "+path)
	case !e.who.may(info, mayRead) || e.who.reach(path) != "":
		e.find(Fail, check, fmt.Sprintf("%s cannot be read by %s (%s)", path, e.who, mode(info)), fmt.Sprintf("give it to %s, or to a group of its: chgrp, chmod 0640", e.who))
	default:
		e.ok(check, fmt.Sprintf("%s %s", path, mode(info)))
	}
}

func (e *exam) secrets() {
	c := e.Config
	var seen []string
	each := func(what string, list map[string]string) {
		for name, path := range list {
			if !slices.Contains(seen, path) {
				seen = append(seen, path)
				e.private(fmt.Sprintf("secret %s of %s", name, what), path, Fail)
			}
		}
	}
	for i := range c.Groups {
		each(c.Groups[i].Name, c.Groups[i].SecretEnv)
	}
	for i := range c.Programs {
		each(c.Programs[i].Name, c.Programs[i].SecretEnv)
	}
	for i := range c.Mounts {
		if file := c.Mounts[i].BasicAuth; file != "" && !slices.Contains(seen, file) {
			seen = append(seen, file)
			e.private("passwords of "+c.Mounts[i].Path, file, Warn) // they are hashes
		}
	}
}

// adminSocket tells who can steer the server.
func (e *exam) adminSocket() {
	const check = "admin socket"
	path := e.Config.Admin.Socket
	if e.Running != nil && e.Running.Admin != "" {
		path = e.Running.Admin
	}
	if path == config.AdminOff || path == "" {
		e.find(Warn, check, "none (admin.socket = \"off\")", "without it there is no guado status, logs, reload or stop; signals are left")
		return
	}
	at, info, err := nearest(filepath.Dir(path))
	if err != nil {
		e.find(Fail, check, err.Error(), "name another socket: admin.socket")
		return
	}
	const others, sticky = 0o002, fs.ModeSticky
	if info.Mode().Perm()&others != 0 && info.Mode()&sticky == 0 {
		e.find(Fail, check, fmt.Sprintf("%s: everybody can put another one in its place (%s is %s)", path, at, mode(info)), "chmod o-w "+at+", or name another socket: admin.socket")
		return
	}
	socket, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.folder(check, filepath.Dir(path), "admin.socket")
	case err != nil:
		e.find(Warn, check, err.Error(), "run guado doctor as the account of the server, or as root")
	case socket.Mode()&fs.ModeSocket == 0:
		e.find(Fail, check, path+" is no socket", "remove it, or name another: admin.socket")
	case socket.Mode().Perm()&0o077 != 0:
		e.find(Fail, check, fmt.Sprintf("%s can be reached by others (%s)", path, mode(socket)), "chmod 0600 "+path+"; the server makes it so: something has changed it")
	default:
		uid, _ := ownerOf(socket)
		who := "root"
		if uid != 0 {
			who = userName(uid) + " and root"
		}
		e.ok(check, fmt.Sprintf("%s %s: %s can steer the server", path, mode(socket), who))
	}
}
