package edge

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// TLSConfig names the certificate of the listeners.
type TLSConfig struct {
	CertFile         string        // PEM, with its chain
	KeyFile          string        // PEM
	MinVersion       uint16        // 0: TLS 1.2
	HandshakeTimeout time.Duration // 0: ten seconds
}

const (
	protoH2 = "h2"
	// checkEvery bounds how often a handshake looks at the files.
	checkEvery = time.Second
)

// certificates holds the certificate of the files and looks, at a handshake, whether
// they have changed: renewal needs no signal, and an idle server does nothing. Files
// that do not fit together (one is written before the other) leave the old one in use.
type certificates struct {
	certFile, keyFile string
	timeout           time.Duration
	config            *tls.Config
	log               *slog.Logger
	current           atomic.Pointer[tls.Certificate]
	nextCheck         atomic.Int64 // Unix nanoseconds
	mu                sync.Mutex   // guards seen; one reload at a time
	seen              [2]stamp
}

// stamp is what tells one version of a file from another.
type stamp struct {
	modified time.Time
	size     int64
	failed   bool
}

func newCertificates(c *TLSConfig, offerH2 bool, log *slog.Logger) (*certificates, error) {
	certs := &certificates{certFile: c.CertFile, keyFile: c.KeyFile, timeout: c.HandshakeTimeout, log: log}
	if certs.timeout <= 0 {
		certs.timeout = 10 * time.Second
	}
	if err := certs.reload(); err != nil {
		return nil, err
	}
	certs.config = &tls.Config{
		MinVersion:     max(c.MinVersion, tls.VersionTLS12),
		NextProtos:     []string{"http/1.1"},
		GetCertificate: certs.get,
	}
	if offerH2 {
		certs.config.NextProtos = []string{protoH2, "http/1.1"}
	}
	return certs, nil
}

// reload reads the files now, whether they have changed or not.
func (c *certificates) reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.load(c.stamps())
}

func (c *certificates) load(now [2]stamp) error {
	c.seen = now // also when it fails: once per change is enough
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("TLS certificate %s with key %s: %w", c.certFile, c.keyFile, err)
	}
	if leaf := pair.Leaf; leaf != nil && time.Now().After(leaf.NotAfter) {
		c.log.Warn("TLS certificate has expired", "file", c.certFile, "expired", leaf.NotAfter)
	}
	c.current.Store(&pair)
	return nil
}

func (c *certificates) stamps() (s [2]stamp) {
	for i, file := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(file)
		if err != nil {
			s[i].failed = true
			continue
		}
		s[i] = stamp{modified: info.ModTime(), size: info.Size()}
	}
	return s
}

func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	now := time.Now().UnixNano()
	if next := c.nextCheck.Load(); now >= next && c.nextCheck.CompareAndSwap(next, now+int64(checkEvery)) {
		c.check()
	}
	if pair := c.current.Load(); pair != nil {
		return pair, nil
	}
	return nil, errors.New("no certificate")
}

func (c *certificates) check() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.stamps()
	if now == c.seen {
		return
	}
	if err := c.load(now); err != nil {
		c.log.Error("TLS certificate not renewed; the old one stays in use", "error", err)
		return
	}
	c.log.Info("TLS certificate renewed", "file", c.certFile)
}
