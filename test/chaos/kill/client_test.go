package kill

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"sync/atomic"
	"time"
)

// browser is one connection, with tabs.
type browser struct {
	world *world
	http  *http.Client
	user  string       // who has logged in; empty: a guest
	done  atomic.Int64 // operations of its tabs, which all use one key for a while
}

// login makes the browser a user's.
func (b *browser) login(page, user string) error {
	b.user = user
	var who string
	return b.post("/", page, do{Login: user}, &who)
}

// checkLogin sees that it still is.
func (b *browser) checkLogin(page string) error {
	if b.user == "" {
		return nil
	}
	var who string
	if err := b.post("/", page, do{Who: true}, &who); err != nil || who != b.user {
		return fmt.Errorf("%s was logged in, and the browser is that of %q: %w", b.user, who, err)
	}
	return nil
}

func newBrowser(w *world) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic(err) // it has no options that could be wrong
	}
	return &browser{world: w, http: &http.Client{Jar: jar, Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 8}}}
}

// patience bounds every wait for one event.
const patience = 60 * time.Second

// errUnknown is the outcome of a request of which nobody can say whether it was done.
var errUnknown = errors.New("no answer")

// errRunning is told of a request whose first try is under way.
var errRunning = errors.New("it is under way")

func (b *browser) post(path, page string, body any, into any) error {
	return b.request(context.Background(), path, page, "", body, into)
}

func (b *browser) request(ctx context.Context, path, page, key string, body any, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	url, host := b.world.where()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	if page != "" {
		r.Header.Set("Guado-Page", page)
	}
	r.Header.Set("Content-Type", "application/json")
	return b.send(r, host, into)
}

// send gives the answer of that host.
func (b *browser) send(r *http.Request, host int, into any) error {
	answer, err := b.http.Do(r)
	if err != nil {
		return b.world.broken(host, err)
	}
	found, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close() // read to its end
	switch {
	case err != nil:
		return b.world.broken(host, err)
	case answer.StatusCode == http.StatusOK:
		b.world.heard(answer.Header.Get("Worker"))
		return json.Unmarshal(found, into)
	case answer.StatusCode == http.StatusBadGateway || answer.StatusCode == http.StatusServiceUnavailable:
		return errUnknown
	case answer.StatusCode == http.StatusConflict && bytes.Contains(found, []byte("idempotency_running")):
		return errRunning
	}
	return fmt.Errorf("%s %s: %s", r.URL.Path, answer.Status, found)
}

// open makes a page of the class.
func (b *browser) open() (page string, err error) {
	var made struct{ Page string }
	err = b.post("/_guado/page", "", map[string]string{"path": "/", "class": "Kill"}, &made)
	return made.Page, err
}

func (b *browser) cookies(path string) string {
	url, _ := b.world.where()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url+path, http.NoBody)
	if err != nil {
		panic(err) // the URL is the server's own
	}
	var all []string
	for _, c := range b.http.Jar.Cookies(r.URL) {
		all = append(all, c.Name+"="+c.Value)
	}
	return strings.Join(all, "; ")
}

// do is one operation on a key of a store: see test/apps/kill_app.py.
type do struct {
	Of     string `json:"of"`
	Key    string `json:"key"`
	Write  int    `json:"write,omitempty"`
	Append int    `json:"append,omitempty"`
	All    bool   `json:"all,omitempty"`
	Login  string `json:"login,omitempty"`
	Who    bool   `json:"who,omitempty"`
	Alone  bool   `json:"alone,omitempty"` // in a transaction
	Share  string `json:"share,omitempty"` // over session or requests
}

// asker carries an operation to the application: as a request, or over the page's session.
type asker func(d do, into any) error

// tab is one client: it does one thing after the other, and remembers what it was told.
type tab struct {
	number  int
	page    string
	browser *browser
	world   *world
	ask     asker
	log     journal
	socket  *socket
	copy    *copied
	wrote   []int // once
}

// values are used once, over all clients.
var values atomic.Int64

// live works until the world says that it is enough.
func (t *tab) live() error {
	for i := 0; ; i++ {
		select {
		case <-t.world.enough:
			return nil
		default:
		}
		if err := t.step(i); err != nil {
			return fmt.Errorf("client %d (page %s): %w", t.number, t.page, err)
		}
	}
}

func (t *tab) step(i int) error {
	if i%4 == 0 {
		return t.append()
	}
	if i%8 == 7 {
		return t.once()
	}
	if i%8 == 5 {
		if err := t.shared(); err != nil {
			return err
		}
	}
	const of = "connection" // of all tabs of the browser
	key := fmt.Sprintf("%s %p %d", of, t.browser, t.browser.done.Add(1)/(mostOperations-20))
	if !t.world.history.takes(key) {
		return nil
	}
	op := operation{write: i%4 == 1}
	d := do{Of: of, Key: key}
	if op.write {
		op.value = int(values.Add(1))
		d.Write = op.value
	}
	call := t.world.history.now()
	var found int
	switch err := t.ask(d, &found); {
	case errors.Is(err, errUnknown):
		t.world.unknown.Add(1)
		found = unknown
	case err != nil:
		return err
	default:
		t.world.told.Add(1)
	}
	t.world.history.tell(t.number, key, op, call, found)
	return nil
}

// append adds the next number to the log of this client, once whatever comes.
func (t *tab) append() error {
	var length int
	err := t.ask(do{Of: "page", Key: "log", Append: t.log.next()}, &length)
	switch {
	case errors.Is(err, errUnknown):
		t.world.unknown.Add(1)
	case err != nil:
		return err
	}
	t.log.append(err == nil)
	return nil
}

// listened takes what was pushed. The session of a page is never dropped by the end of a worker.
func (t *tab) listened() error {
	select {
	case <-t.socket.done:
		if !t.world.setting.hosts {
			return fmt.Errorf("the session of client %d (page %s) was dropped: %w", t.number, t.page, t.socket.err)
		}
	default:
	}
	t.log.heard = t.socket.pushes()
	return nil
}

// check reads the log to the end, in the quiet.
func (t *tab) check() error {
	if err := t.listened(); err != nil {
		return err
	}
	var found []int
	if err := t.browser.post("/", t.page, do{Of: "page", Key: "log", All: true}, &found); err != nil {
		return err
	}
	if err := t.log.check(found); err != nil {
		return fmt.Errorf("the log of client %d (page %s): %w", t.number, t.page, err)
	}
	return errors.Join(t.checkShared(found), t.checkOnce(), t.browser.checkLogin(t.page))
}
