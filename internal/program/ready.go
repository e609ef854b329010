package program

import (
	"context"
	"net"
	"os"
	"regexp"
	"time"
)

// Condition is what makes a program ready. Its kind is tcp, unix, file, log, notify,
// or empty for the time it has run.
type Condition struct {
	Kind    string
	Value   string
	Pattern *regexp.Regexp // of log
}

// lookEvery is the pause between two looks at a port or a file, for which there is no
// event that works on every file system.
const lookEvery = 50 * time.Millisecond

// listener waits for a process to be ready; it is made before the process starts.
type listener struct {
	instance *instance
	notify   *notifySocket
	before   os.FileInfo // the file as another process left it
	found    <-chan struct{}
	end      context.CancelFunc
	done     chan struct{}
}

// prepare notes what there is before the process starts.
func (c *Condition) prepare(i *instance) (*listener, error) {
	l := &listener{instance: i}
	switch c.Kind {
	case "notify":
		var err error
		if l.notify, err = newNotifySocket(); err != nil {
			return nil, err
		}
	case "file":
		l.before, _ = os.Stat(c.Value) // none is the usual case
	case "log":
		l.found = i.out.await(c.Pattern)
	case "tcp", "unix":
		ctx, cancel := context.WithTimeout(context.Background(), lookEvery)
		defer cancel()
		if conn, err := new(net.Dialer).DialContext(ctx, c.Kind, c.Value); err == nil {
			_ = conn.Close() // nothing was written
			i.log.Warn("something else listens already where the program is to listen", "ready", c.Kind+":"+c.Value)
		}
	}
	return l, nil
}

// env is what the process is told.
func (l *listener) env() []string {
	if l.notify == nil {
		return nil
	}
	return []string{"NOTIFY_SOCKET=" + l.notify.name}
}

// watch gives what is closed when the process is ready.
func (l *listener) watch(seconds time.Duration) <-chan struct{} {
	if l.found != nil {
		return l.found
	}
	ready := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	l.end, l.done = cancel, make(chan struct{})
	go func() {
		defer close(l.done)
		l.look(ctx, seconds, func() { close(ready) })
	}()
	return ready
}

// look calls ready once when the process is; it ends with ctx.
func (l *listener) look(ctx context.Context, seconds time.Duration, ready func()) {
	c := &l.instance.spec.Ready
	switch c.Kind {
	case "notify":
		l.notify.listen(ctx, ready, l.instance.status)
	case "file":
		poll(ctx, ready, func() bool {
			info, err := os.Stat(c.Value)
			return err == nil && !l.same(info)
		})
	case "tcp", "unix":
		dialer := net.Dialer{Timeout: time.Second}
		poll(ctx, ready, func() bool {
			conn, err := dialer.DialContext(ctx, c.Kind, c.Value)
			if err == nil {
				_ = conn.Close() // nothing was written
			}
			return err == nil
		})
	default:
		t := time.NewTimer(seconds)
		defer t.Stop()
		select {
		case <-t.C:
			ready()
		case <-ctx.Done():
		}
	}
}

// same reports whether a file is the one that was there before the process started.
func (l *listener) same(info os.FileInfo) bool {
	return l.before != nil && os.SameFile(info, l.before) && info.ModTime().Equal(l.before.ModTime()) && info.Size() == l.before.Size()
}

func poll(ctx context.Context, ready func(), is func() bool) {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for !is() {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
	ready()
}

// status notes what a process says of itself.
func (i *instance) status(text string) {
	i.set.mu.Lock()
	i.text = text
	i.set.mu.Unlock()
}

// close ends the wait.
func (l *listener) close() {
	if l.end != nil {
		l.end()
		if l.notify != nil {
			l.notify.close()
		}
		<-l.done
	} else if l.notify != nil {
		l.notify.close()
	}
	if l.found != nil {
		l.instance.out.forget()
	}
}
