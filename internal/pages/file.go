package pages

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/guado-server/guado/internal/push"
)

// saved is a page in the file of pages: one line of JSON.
type saved struct {
	Page    string          `json:"page"`
	App     string          `json:"app,omitempty"`
	Class   string          `json:"class,omitempty"`
	Args    json.RawMessage `json:"args,omitempty"`
	Path    string          `json:"path,omitempty"`
	From    From            `json:"from"`
	Opened  bool            `json:"opened,omitempty"`
	Owed    bool            `json:"owed,omitempty"`
	Topics  []string        `json:"topics,omitempty"`
	Waiting []waiting       `json:"waiting,omitempty"`
}

// waiting is a message that was taken and had not reached the application.
type waiting struct {
	To   string          `json:"to,omitempty"`
	Data json.RawMessage `json:"data"`
}

const (
	fileMagic   = "guado-pages"
	fileVersion = 1
)

var errFile = errors.New("the file of pages is damaged")

// Stop lets what runs come to its end until ctx ends. What waits then is begun no more: it
// is saved. Sessions must have been detached.
func (p *Pages) Stop(ctx context.Context) {
	idle := make(chan struct{})
	p.work.close()
	go func() {
		defer close(idle)
		p.work.wait.Wait()
	}()
	select {
	case <-idle:
	case <-ctx.Done():
	}
	close(p.over)
}

// Close waits for what is left, which has been cut by now, and ends the hub.
func (p *Pages) Close() {
	p.work.close()
	p.work.wait.Wait()
	p.hub.Close()
}

func (p *Pages) stopping() bool {
	select {
	case <-p.over:
		return true
	default:
		return false
	}
}

// Save writes sessions and pages into two files of a folder, once nothing runs any more:
// what did not end by itself has been cut, and nobody pushes.
// topics gives what a page has subscribed to.
func (p *Pages) Save(dir string, topics func(page string) []string) error {
	p.work.wait.Wait()
	all := p.hub.Sessions()
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %d\n", fileMagic, fileVersion)
	lines := json.NewEncoder(&b)
	lines.SetEscapeHTML(false)
	for _, s := range all {
		pg := pageOf(s)
		if pg == nil {
			continue
		}
		v := pg.save()
		if topics != nil {
			v.Topics = topics(pg.id)
		}
		if err := lines.Encode(v); err != nil {
			return fmt.Errorf("save page %q: %w", pg.id, err)
		}
	}
	sum := sha256.Sum256(b.Bytes())
	fmt.Fprintf(&b, "sha256 %s\n", hex.EncodeToString(sum[:]))
	if err := write(filepath.Join(dir, pagesFile), b.Bytes()); err != nil {
		return fmt.Errorf("save pages: %w", err)
	}
	return p.hub.Save(filepath.Join(dir, sessionsFile))
}

// The files, in server.state_dir.
const (
	pagesFile    = "pages"
	sessionsFile = "push"
)

func (pg *page) save() saved {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	v := saved{
		Page: pg.id, App: pg.app, Class: pg.class, Args: pg.args, Path: pg.path, From: pg.from,
		Opened: pg.opened, Owed: pg.owed,
	}
	for _, l := range []*line{pg.mailbox, pg.messages} {
		if l == nil {
			continue
		}
		for _, j := range l.waiting {
			// Requests are answered as lost, and what the host itself wants done it will
			// want again.
			if j.ref.ID != 0 && !j.reply {
				v.Waiting = append(v.Waiting, waiting{j.to, j.data})
			}
		}
	}
	return v
}

// write writes a file at once and whole, mode 0600.
func write(path string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".pages-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close() // the first error is the one that tells
			_ = os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Restore takes sessions and pages back, and removes their files. A session without its
// page ends: its client begins anew. subscribe hears of what a page had subscribed to.
func (p *Pages) Restore(dir string, subscribe func(page, topic string)) (int, error) {
	pages, err := readFile(filepath.Join(dir, pagesFile))
	sessions, failed := p.hub.Restore(filepath.Join(dir, sessionsFile))
	n := 0
	for _, s := range sessions {
		v, ok := pages[s.Page()]
		if !ok {
			s.End(push.CodeEnded)
			continue
		}
		pg := &page{
			pages: p, session: s, id: v.Page, app: v.App, class: v.Class, args: v.Args, path: v.Path, from: v.From,
			opened: v.Opened, owed: v.Owed,
		}
		s.SetValue(pg)
		for _, topic := range v.Topics {
			if subscribe != nil {
				subscribe(v.Page, topic)
			}
		}
		for i, m := range v.Waiting {
			pg.again(i, m)
		}
		n++
	}
	return n, errors.Join(err, failed)
}

// again puts a message back into its line.
func (pg *page) again(i int, m waiting) {
	// A number that no message has: nobody cancels or answers it.
	j := &job{ref: push.Ref{ID: ^uint64(i)}, to: m.To, data: m.Data}
	if m.To == "" && pg.class != "" {
		j.do = &turn{do: doMessage, data: m.Data}
		pg.add(&pg.mailbox, 1, j)
		return
	}
	pg.add(&pg.messages, 1, j)
}

// readFile checks the whole file before it gives anything of it, and removes it. A damaged
// one is put aside.
func readFile(path string) (map[string]saved, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("restore pages: %w", err)
	}
	all, err := parse(data)
	if err != nil {
		if errors.Is(err, errFile) {
			err = errors.Join(err, os.Rename(path, path+".damaged"))
		}
		return nil, fmt.Errorf("restore pages from %s: %w; pages that were open before begin anew", path, err)
	}
	if err := os.Remove(path); err != nil {
		return nil, fmt.Errorf("restore pages: the file must be removed first: %w", err)
	}
	return all, nil
}

func parse(data []byte) (map[string]saved, error) {
	end := bytes.LastIndex(bytes.TrimSuffix(data, []byte("\n")), []byte("\n")) + 1
	sum := sha256.Sum256(data[:end])
	if string(data[end:]) != "sha256 "+hex.EncodeToString(sum[:])+"\n" {
		return nil, fmt.Errorf("%w: its checksum is wrong", errFile)
	}
	lines := bytes.Split(bytes.TrimSuffix(data[:end], []byte("\n")), []byte("\n"))
	var version int
	if _, err := fmt.Sscanf(string(lines[0]), fileMagic+" %d", &version); err != nil {
		return nil, fmt.Errorf("%w: it does not begin as one", errFile)
	}
	if version != fileVersion {
		return nil, fmt.Errorf("the file of pages has version %d, this Guado reads version %d", version, fileVersion)
	}
	all := map[string]saved{}
	for _, text := range lines[1:] {
		var v saved
		if err := json.Unmarshal(text, &v); err != nil {
			return nil, fmt.Errorf("%w: %w", errFile, err)
		}
		all[v.Page] = v
	}
	return all, nil
}
