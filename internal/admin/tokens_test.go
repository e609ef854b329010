package admin

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestATokenIsGoodForItsHolderUntilTheNextOne(t *testing.T) {
	var all Tokens
	first, other := all.Issue("program tasks"), all.Issue("program mail")
	if name, ok := all.holder(first); !ok || name != "program tasks" {
		t.Errorf("%q %v", name, ok)
	}
	second := all.Issue("program tasks")
	if second == first {
		t.Error("the same token twice")
	}
	if _, ok := all.holder(first); ok {
		t.Error("the token of before is good")
	}
	for _, text := range []string{"", "x", second + "x", second[1:], strings.ToLower(second)} {
		if _, ok := all.holder(text); ok {
			t.Errorf("%q is good", text)
		}
	}
	all.Revoke(func(holder string) bool { return holder == "program mail" })
	if _, ok := all.holder(second); ok {
		t.Error("a revoked token is good")
	}
	if name, _ := all.holder(other); name != "program mail" {
		t.Error("a token that was kept is not good")
	}
}

func TestATokenOfAProcessEndsWithIt(t *testing.T) {
	var all Tokens
	process := exec.Command("sleep", "1000")
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	text, err := all.IssueTo("exec 1", process.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	all.Revoke(func(string) bool { return false })
	if _, ok := all.holder(text); !ok {
		t.Error("the token of a process that runs is not good")
	}
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = process.Wait() // it was killed
	if _, ok := all.holder(text); ok {
		t.Error("the token of a process that has ended is good")
	}
	for n := range mostTokens {
		if _, err := all.IssueTo("exec "+strconv.Itoa(n), os.Getpid()); err != nil {
			t.Fatal(n, err)
		}
	}
	if _, err := all.IssueTo("exec once more", os.Getpid()); err == nil {
		t.Error("there is no bound")
	}
}

// newGate is the interface for programs, with one action.
func newGate(t *testing.T, tokens *Tokens) (r *rig, begun, ended chan struct{}) {
	t.Helper()
	begun, ended = make(chan struct{}, 1), make(chan struct{}, 1)
	r = newRig(t, func(o *Options) {
		o.Tokens, o.Shared, o.Journal, o.Readings = tokens, true, nil, nil
		o.Actions = []Action{
			{Path: "push", Brief: true, Largest: 2 * largestBody, Do: func(_ context.Context, c Call) (any, error) {
				body, err := c.Raw()
				return map[string]any{"holder": c.Holder(), "bytes": len(body)}, err
			}},
			{Path: "wait", Brief: true, Do: func(ctx context.Context, _ Call) (any, error) {
				begun <- struct{}{}
				<-ctx.Done()
				ended <- struct{}{}
				return nil, ctx.Err()
			}},
		}
	})
	return r, begun, ended
}

func (r *rig) show(token, path, body string) (int, string) {
	r.t.Helper()
	status, answer, err := askWith(r.Path(), http.MethodPost, path, body, token)
	if err != nil {
		r.t.Fatal(err)
	}
	return status, answer
}

func TestProgramsAreLetInByTokenAndMayDoNothingElse(t *testing.T) {
	var tokens Tokens
	r, _, _ := newGate(t, &tokens)
	token := tokens.Issue("program tasks")
	if status, body := r.show(token, "push", "{}"); status != http.StatusOK || body != "{\"bytes\":2,\"holder\":\"program tasks\"}\n" {
		t.Errorf("%d %s", status, body)
	}
	for _, wrong := range []string{"", "x" + token, token[:len(token)-1]} {
		status, body := r.show(wrong, "push", "{}")
		if status != http.StatusUnauthorized || code(t, body) != "bad_token" {
			t.Errorf("token %q: %d %s", wrong, status, body)
		}
	}
	for _, path := range []string{"stop", "reload", "logs", "openapi.yaml", "status"} {
		if status, body := r.show(token, path, ""); status != http.StatusNotFound || code(t, body) != "unknown_path" {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, body := r.show(token, "push", strings.Repeat(" ", 2*largestBody)); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
	if status, body := r.show(token, "push", strings.Repeat(" ", 2*largestBody+1)); status != http.StatusRequestEntityTooLarge {
		t.Errorf("%d %s", status, body)
	}
	past, _ := r.journal.follow(filter{}, 100, false)
	for _, record := range past {
		for name, value := range record.Attrs {
			if text, is := value.(string); is && strings.Contains(text, token) {
				t.Errorf("the token is in the log: %s", name)
			}
		}
	}
}

func TestTheSocketOfProgramsCanBeOpenedByOtherAccountsWhereTheyMayBe(t *testing.T) {
	var tokens Tokens
	r, _, _ := newGate(t, &tokens)
	info, err := os.Stat(r.Path())
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o666 {
		t.Errorf("mode %o", info.Mode().Perm())
	}
	own := newRig(t, func(o *Options) { o.Socket = filepath.Join(t.TempDir(), "a", "admin.sock") })
	if info, err = os.Stat(own.Path()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %o %v", info.Mode().Perm(), err)
	}
}

func TestABriefActionEndsWhenItsClientLeaves(t *testing.T) {
	var tokens Tokens
	r, begun, ended := newGate(t, &tokens)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://guado/v1/wait", nil)
	if err != nil {
		t.Fatal(err)
	}
	q.Header.Set("Authorization", "Bearer "+tokens.Issue("program tasks"))
	left := make(chan error, 1)
	go func() {
		res, err := dialer(r.Path()).RoundTrip(q)
		if err == nil {
			err = res.Body.Close()
		}
		left <- err
	}()
	<-begun
	leave()
	if err := <-left; err == nil {
		t.Error("it was answered")
	}
	select {
	case <-ended:
	case <-time.After(limit):
		t.Error("it goes on")
	}
}
