package doctor

import (
	"context"
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/guado-server/guado/internal/child"
)

// kernel tries what the server uses, rather than to believe a version.
func (e *exam) kernel(context.Context) {
	var name unix.Utsname
	if err := unix.Uname(&name); err == nil {
		e.ok("release", unix.ByteSliceToString(name.Release[:]))
	}
	const old = "Linux 5.10 or newer has it; a container's seccomp profile may forbid it"
	verdict, socket := Fail, old+"; server.transport = \"socket\" does without"
	if e.Config.Server.Transport == "socket" {
		verdict = Warn
	}
	for _, try := range []struct {
		check   string
		do      func() error
		verdict Verdict
		advice  string
	}{
		{"memfd with seals", sealedMemory, verdict, socket},
		{"eventfd without waiting", eventfd, verdict, socket},
		{"pidfd", pidfd, Warn, old + "; without it the guard knows processes by their numbers alone"},
		{"signal at the host's death", deathSignal, Warn, old + "; without it a host that is killed may leave workers until the guard ends them"},
		{"sendfile", sendfile, Warn, old + "; without it files are copied through the server"},
	} {
		if err := try.do(); err != nil {
			e.find(try.verdict, try.check, err.Error(), try.advice)
		} else {
			e.ok(try.check, "works")
		}
	}
	e.cgroups()
}

func sealedMemory() (err error) {
	fd, err := unix.MemfdCreate("guado-doctor", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	if err := unix.Fallocate(fd, 0, 0, int64(os.Getpagesize())); err != nil {
		return err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return err
	}
	mem, err := unix.Mmap(fd, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	return unix.Munmap(mem)
}

func eventfd() (err error) {
	fd, err := unix.Eventfd(1, unix.EFD_CLOEXEC)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	var counter [8]byte
	_, err = unix.Preadv2(fd, [][]byte{counter[:]}, -1, unix.RWF_NOWAIT)
	return err
}

func pidfd() error {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return err
	}
	return errors.Join(unix.PidfdSendSignal(fd, 0, nil, 0), unix.Close(fd))
}

func deathSignal() error {
	var signal int32
	return unix.Prctl(unix.PR_GET_PDEATHSIG, uintptr(unsafe.Pointer(&signal)), 0, 0, 0)
}

func sendfile() (err error) {
	file, err := unix.MemfdCreate("guado-doctor", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(file)) }()
	if _, err := unix.Write(file, []byte("guado")); err != nil {
		return err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Close(pair[0]), unix.Close(pair[1])) }()
	var offset int64
	_, err = unix.Sendfile(pair[0], file, &offset, len("guado"))
	return err
}

// cgroups tells whether workers get cgroups of their own, and who counts what the kernel
// kills.
func (e *exam) cgroups() {
	folder, delegated := child.Cgroup(e.pid())
	switch {
	case folder == "":
		e.find(Warn, "cgroups", "there is no cgroup v2 here", "what leaves its process group and changes its environment outlives its worker; boot with the unified hierarchy (systemd.unified_cgroup_hierarchy=1)")
	case folder == "/sys/fs/cgroup":
		e.ok("cgroups", "those of a container: what a worker leaves behind is found by its environment")
	case !delegated && e.Running == nil:
		e.ok("cgroups", folder+" is not handed over to this process; Delegate=yes in the unit does that for the server")
	case !delegated:
		e.find(Warn, "cgroups", folder+" is not handed over to the server", "Delegate=yes in the unit (guado service writes it): each worker gets a cgroup then, and leaves nothing behind")
	default:
		e.ok("cgroups", folder+" is handed over: a cgroup for each worker")
	}
	if file := child.OOMCounter(e.pid()); file != "" {
		if err := unix.Access(file, unix.R_OK); err != nil {
			e.find(Warn, "memory kills", file+": "+err.Error(), "let the server read it: a worker that the kernel killed for want of memory is not named as such")
		} else {
			e.ok("memory kills", "counted in "+file)
		}
	}
}

// cgroupOf is the folder of a process; empty: there is none.
func cgroupOf(pid int) string {
	folder, _ := child.Cgroup(pid)
	return folder
}
