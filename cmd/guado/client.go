package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/guado-server/guado/internal/config"
)

// remote is what all verbs share that speak to a running server: where it is.
type remote struct {
	file, socket text
	asJSON       bool
}

// addRemote gives a command the flags that say which server is meant.
func addRemote(cmd *cobra.Command, reads bool) *remote {
	r := &remote{file: text{kind: "FILE"}, socket: text{kind: "PATH"}}
	cmd.Flags().SortFlags = false
	cmd.Flags().Var(&r.file, "config", "configuration file of the server (default guado.toml when it is there)")
	cmd.Flags().Var(&r.socket, "socket", "admin socket of the server (default: as the configuration says)")
	must(cmd.MarkFlagFilename("config", "toml"))
	if reads {
		cmd.Flags().BoolVar(&r.asJSON, "json", false, "as JSON, for programs")
	}
	return r
}

// client speaks to the admin interface of one server.
type client struct {
	http   *http.Client
	socket string
}

// connect finds the server that is meant.
func (c *command) connect(ctx context.Context, r *remote) (*client, error) {
	path := r.socket.value
	if path == "" {
		var err error
		if path, err = c.socketOf(r); err != nil {
			return nil, err
		}
		if path, err = alive(ctx, path); err != nil {
			return nil, err
		}
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		},
	}
	return &client{http: &http.Client{Transport: transport}, socket: path}, nil
}

// asking is the body of a verb that talks to the running server, until a signal ends it.
// What r points to is known when the verb runs.
func (c *command) asking(r **remote, talk func(ctx context.Context, server *client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx, release := interruptible(cmd.Context())
		defer release()
		server, err := c.connect(ctx, *r)
		if err != nil {
			return err
		}
		return talk(ctx, server, args)
	}
}

// socketOf tells where the server of this folder, or of a file, has its socket.
func (c *command) socketOf(r *remote) (string, error) {
	o := config.Options{File: r.file.value, Environ: c.environ}
	if o.File == "" {
		if _, err := os.Stat(defaultFile); err == nil {
			o.File = defaultFile
		}
	}
	path, err := config.AdminSocket(o)
	switch {
	case err != nil:
		return "", fmt.Errorf("%w\n(the socket of a running server can also be named: --socket PATH)", err)
	case path == config.AdminOff:
		return "", errors.New("the configuration turns the admin interface off (admin.socket)")
	}
	return path, nil
}

// alive looks for the one server at path or, where several were started with the same
// configuration, beside it.
func alive(ctx context.Context, path string) (string, error) {
	beside, err := filepath.Glob(strings.TrimSuffix(path, ".sock") + ".*.sock")
	if err != nil {
		beside = nil // a path with brackets has no names beside it
	}
	var found []string
	for _, p := range append([]string{path}, beside...) {
		if conn, err := (&net.Dialer{}).DialContext(ctx, "unix", p); err == nil {
			_ = conn.Close() // it was only tried
			found = append(found, p)
		}
	}
	switch len(found) {
	case 0:
		return "", noServer(path, nil)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%d servers run with this configuration; say which one:\n  --socket %s", len(found), strings.Join(found, "\n  --socket "))
}

// noServer is the error about a server that does not answer.
func noServer(path string, err error) error {
	text := fmt.Sprintf("no server answers at %s", path)
	switch {
	case errors.Is(err, os.ErrPermission):
		text = fmt.Sprintf("%s cannot be opened: only the server's account and root may", path)
	case err != nil:
		text += ": " + err.Error()
	}
	return &failure{code: exitNoServer, err: errors.New(text)}
}

// refused is an error that the server told.
type refused struct {
	Code    string          `json:"code"`
	Message string          `json:"message"`
	Detail  json.RawMessage `json:"detail"`
}

func (r *refused) Error() string { return r.Message }

// do asks and gives the answer; its body is the caller's to close.
func (c *client) do(ctx context.Context, method, path string, query url.Values, body any) (*http.Response, error) {
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(text)
	}
	u := url.URL{Scheme: "http", Host: "guado", Path: "/v1/" + path, RawQuery: query.Encode()}
	q, err := http.NewRequestWithContext(ctx, method, u.String(), in)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(q)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return nil, noServer(c.socket, err)
	}
	if res.StatusCode < http.StatusBadRequest {
		return res, nil
	}
	defer res.Body.Close() //nolint:errcheck // it was read
	var answer struct {
		Error *refused `json:"error"`
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || answer.Error == nil {
		return nil, failed(fmt.Errorf("%s: %s", c.socket, res.Status))
	}
	return nil, failed(answer.Error)
}

// fetch gives the whole answer.
func (c *client) fetch(ctx context.Context, method, path string, query url.Values, body any) (answer []byte, err error) {
	res, err := c.do(ctx, method, path, query, body)
	if err != nil {
		return nil, err
	}
	answer, err = io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return nil, failed(fmt.Errorf("the answer of %s: %w", c.socket, err))
	}
	return answer, nil
}

// get reads the answer into v and also gives it as it came.
func (c *client) get(ctx context.Context, path string, v any) ([]byte, error) {
	return c.getWith(ctx, path, nil, v)
}

// getWith is get with a query.
func (c *client) getWith(ctx context.Context, path string, query url.Values, v any) ([]byte, error) {
	answer, err := c.fetch(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return nil, err
	}
	return answer, c.read(answer, v)
}

func (c *client) read(answer []byte, v any) error {
	if err := json.Unmarshal(answer, v); err != nil {
		return failed(fmt.Errorf("the answer of %s: %w", c.socket, err))
	}
	return nil
}

// post has something done.
func (c *client) post(ctx context.Context, path string, body any) ([]byte, error) {
	return c.fetch(ctx, http.MethodPost, path, nil, body)
}

// sayJSON prints an answer for programs, and for people who read it.
func (c *command) sayJSON(answer []byte) error {
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(answer), "", "  "); err != nil {
		return failed(err)
	}
	return c.say(b.String() + "\n")
}
