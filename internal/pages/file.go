package pages

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/guado-server/guado/internal/exchange"
	"github.com/guado-server/guado/internal/item"
	"github.com/guado-server/guado/internal/push"
	"github.com/guado-server/guado/internal/statefile"
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
	Made    time.Time       `json:"made,omitzero"`
	Address netip.Addr      `json:"address,omitzero"`
	Agent   string          `json:"agent,omitempty"`
	Fields  json.RawMessage `json:"fields,omitempty"`
}

// waiting is a message that was taken and had not reached the application.
type waiting struct {
	// Of a request: somebody waits for the reply.
	ID       uint64 `json:"id,omitempty"`
	Instance uint32 `json:"instance,omitempty"`

	To    string          `json:"to,omitempty"`
	Write bool            `json:"write,omitempty"` // of what is shared: data is the list of changes
	User  string          `json:"user,omitempty"`  // who sent it
	Data  json.RawMessage `json:"data"`
}

// file is the file of pages; a line has the messages that wait.
var file = statefile.Kind{Name: "guado-pages", Version: 1}

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
	p.work.all.Wait()
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
	p.Freeze() // what sessions say of requests that wait is what the pages say
	if err := p.write(dir, topics, (*page).save); err != nil {
		return err
	}
	return p.hub.Save(filepath.Join(dir, sessionsFile))
}

// Copy writes them while they are in use; see [push.Hub.Copy].
func (p *Pages) Copy(dir string, topics func(page string) []string) error {
	err := p.write(dir, topics, func(pg *page) saved {
		v, _ := pg.described()
		return v
	})
	if err != nil {
		return err
	}
	return p.hub.Copy(filepath.Join(dir, sessionsFile))
}

func (p *Pages) write(dir string, topics func(page string) []string, save func(pg *page) saved) error {
	var all []*page
	for _, s := range p.hub.Sessions() {
		if pg := pageOf(s); pg != nil {
			all = append(all, pg)
		}
	}
	path := filepath.Join(dir, pagesFile)
	err := file.Write(path, len(all), func(yield func(any) bool) {
		for _, pg := range all {
			v := save(pg)
			if topics != nil {
				v.Topics = topics(pg.id)
			}
			if !yield(v) {
				return
			}
		}
	})
	if err != nil {
		return fmt.Errorf("save pages to %s: %w", path, err)
	}
	return nil
}

// The files, in server.state_dir.
const (
	pagesFile    = "pages"
	sessionsFile = "push"
)

// described is a page with its session.
type described struct {
	saved
	Session json.RawMessage `json:"session"`
}

// Describe gives a page as [Pages.Load] takes it; false: there is none. Once [Pages.Freeze] was
// called that is all of it.
func (p *Pages) Describe(id string, topics func(page string) []string) (data []byte, ok bool) {
	pg := p.page(id)
	if pg == nil {
		return nil, false
	}
	v := described{saved: pg.save()}
	if topics != nil {
		v.Topics = topics(id)
	}
	session, err := pg.session.Describe()
	if err == nil {
		v.Session = session
		data, err = json.Marshal(&v)
	}
	if err != nil {
		p.opts.Log.Error("a page cannot be written", "page", id, "error", err)
	}
	return data, err == nil
}

// Freeze ends all changes, as Save does.
func (p *Pages) Freeze() {
	p.work.wait.Wait()
	p.hub.Freeze()
}

// Load takes a page back that Describe gave, before anybody asks for it; frozen: Freeze had
// been called. subscribe hears of what it had subscribed to.
func (p *Pages) Load(data []byte, frozen bool, subscribe func(page, topic string)) error {
	var v described
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	s, err := p.hub.Load(v.Session, frozen)
	if err != nil {
		return err
	}
	if s.Page() != v.Page {
		s.End(push.CodeEnded)
		return fmt.Errorf("the session of page %q is that of %q", v.Page, s.Page())
	}
	p.restore(s, &v.saved, subscribe)
	return nil
}

// save describes it. Requests that wait are in it when the session is frozen, which then
// does not answer them as lost.
func (pg *page) save() saved {
	v, requests := pg.described()
	ids := make([]uint64, 0, len(requests))
	for _, w := range requests {
		ids = append(ids, w.ID)
	}
	if len(ids) > 0 && pg.session.Waiting(ids) {
		v.Waiting = append(v.Waiting, requests...)
	}
	return v
}

func (pg *page) described() (v saved, requests []waiting) {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	v = saved{
		Page: pg.id, App: pg.app, Class: pg.class, Args: pg.args, Path: pg.path, From: pg.from,
		Opened: pg.opened, Owed: pg.owed, Made: pg.made.UTC(),
		Address: pg.meta.Address, Agent: pg.meta.Agent, Fields: pg.meta.Fields,
	}
	for _, l := range []*line{pg.mailbox, pg.beside, pg.messages} {
		if l == nil {
			continue
		}
		for _, j := range l.waiting {
			w := waiting{To: j.to, Write: j.do != nil && j.do.do == exchange.TurnWrite, User: j.user, Data: j.data}
			switch { // what the host itself wants done it will want again
			case j.ref.ID == 0 || j.gone:
			case j.reply:
				w.ID, w.Instance = j.ref.ID, j.ref.Instance
				requests = append(requests, w)
			default:
				v.Waiting = append(v.Waiting, w)
			}
		}
	}
	return v, requests
}

// Restore takes sessions and pages back, and removes their files. A session without its
// page ends: its client begins anew. subscribe hears of what a page had subscribed to.
func (p *Pages) Restore(dir string, subscribe func(page, topic string)) (int, error) {
	pages, err := take(filepath.Join(dir, pagesFile))
	sessions, failed := p.hub.Restore(filepath.Join(dir, sessionsFile))
	n := 0
	for _, s := range sessions {
		v, ok := pages[s.Page()]
		if !ok {
			s.End(push.CodeEnded)
			continue
		}
		p.restore(s, &v, subscribe)
		n++
	}
	return n, errors.Join(err, failed)
}

func (p *Pages) restore(s *push.Session, v *saved, subscribe func(page, topic string)) {
	pg := &page{
		pages: p, session: s, id: v.Page, app: v.App, class: v.Class, args: v.Args, path: v.Path, from: v.From,
		opened: v.Opened, owed: v.Owed, made: v.Made,
		meta: item.Meta{Address: v.Address, Agent: item.NewAgent([]byte(v.Agent)), Fields: v.Fields},
	}
	s.SetValue(pg)
	p.keep(pg)
	for _, topic := range v.Topics {
		if subscribe != nil {
			subscribe(v.Page, topic)
		}
	}
	for i, m := range v.Waiting {
		pg.again(i, m)
	}
}

// again puts a message back into its line.
func (pg *page) again(i int, m waiting) {
	// A number that no message has: nobody cancels or answers it.
	j := &job{ref: push.Ref{ID: ^uint64(i)}, to: m.To, user: m.User, data: m.Data, restored: true}
	do, at, width := exchange.TurnMessage, &pg.messages, 1
	if m.ID != 0 {
		j.ref, j.reply = push.Ref{Instance: m.Instance, ID: m.ID}, true
		do, at, width = exchange.TurnRequest, &pg.beside, mostAtOnce
	}
	switch {
	case m.Write:
		j.do = &turn{do: exchange.TurnWrite, data: writing(m.Data, m.ID)}
		at, width = &pg.mailbox, 1
	case m.To == "" && pg.class != "":
		j.do = &turn{do: do, data: m.Data}
		at, width = &pg.mailbox, 1
	}
	pg.add(at, width, j)
}

func take(path string) (map[string]saved, error) {
	all := map[string]saved{}
	err := file.Take(path, func(line []byte) error {
		var v saved
		err := json.Unmarshal(line, &v)
		if err == nil {
			all[v.Page] = v
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("restore pages: %w; those that are gone begin anew", err)
	}
	if !statefile.Lossy(err) {
		return nil, err
	}
	return all, err
}
