package linktest

import (
	"encoding/binary"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

type sockChannel struct {
	f  *os.File
	mu sync.Mutex // keeps frames whole
}

func openSocket(fd int) (channel, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	return &sockChannel{f: os.NewFile(uintptr(fd), "link")}, nil
}

func (c *sockChannel) next(into []byte) ([]byte, error) {
	into = append(into, make([]byte, 16)...)
	if _, err := io.ReadFull(c.f, into); err != nil {
		return nil, io.EOF
	}
	size := int(binary.LittleEndian.Uint32(into))
	into = append(into, make([]byte, (size+7)&^7-16)...)
	if _, err := io.ReadFull(c.f, into[16:]); err != nil {
		return nil, io.EOF
	}
	return into[:size], nil
}

func (c *sockChannel) send(raw []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.f.Write(raw)
	return err
}

func (c *sockChannel) start(uint32) bool { return false } // Peer sends STARTED

func (c *sockChannel) close() error { return c.f.Close() }
