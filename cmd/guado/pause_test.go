package main

import (
	"strings"
	"testing"
)

func TestAPauseHoldsRequestsUntilItIsOver(t *testing.T) {
	dir, s := site(t, map[string]string{})
	get(t, s.url)
	if r := run(t, dir, "resume"); r.code != exitFailed || !strings.Contains(r.err, "the server is not paused") {
		t.Errorf("resume without a pause: %+v", r)
	}
	if r := run(t, dir, "pause", "--requests", "5", "--wait", "1h"); r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	if r := run(t, dir, "pause"); r.code != exitFailed || !strings.Contains(r.err, "paused already") {
		t.Errorf("a second pause: %+v", r)
	}
	answers := ask(s.url)
	poll(t, "the held request", func() bool {
		return strings.Contains(run(t, dir, "status").out, "1 request held; guado resume lets them go on")
	})
	if r := run(t, dir, "resume"); r.code != exitOK {
		t.Errorf("resume: %+v", r)
	}
	if a := <-answers; a.status != 200 {
		t.Errorf("the held request: %+v", a)
	}
	if r := run(t, dir, "status"); strings.Contains(r.out, "paused") {
		t.Errorf("afterwards: %s", r.out)
	}
}

func TestAPauseLastsAsLongAsItsCommand(t *testing.T) {
	dir, s := site(t, map[string]string{})
	get(t, s.url)
	for _, c := range []struct {
		words []string
		code  int
		says  string
	}{
		{[]string{"sh", "-c", "echo migrated; exec curl -s -m 1 " + s.url}, 28, "migrated"}, // it is held: curl gives up
		{[]string{"sh", "-c", "exit 7"}, 7, ""},
		{[]string{"true"}, exitOK, ""},
		{[]string{"nosuchcommand"}, exitFailed, "nosuchcommand"},
	} {
		r := run(t, dir, append([]string{"pause", "--"}, c.words...)...)
		if r.code != c.code || !strings.Contains(r.out+r.err, c.says) {
			t.Errorf("%v: %+v, want exit code %d", c.words, r, c.code)
		}
		get(t, s.url) // the pause is over
	}
	if r := run(t, dir, "pause"); r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	if r := run(t, dir, "pause", "--", "true"); r.code != exitFailed || !strings.Contains(run(t, dir, "status").out, "paused for") {
		t.Errorf("the pause of somebody else was ended: %+v", r)
	}
	if r := run(t, dir, "pause", "true"); r.code != exitUsage || !strings.Contains(r.err, "guado pause -- COMMAND") {
		t.Errorf("without --: %+v", r)
	}
}

func TestMaintenanceClosesAndOpensTheServer(t *testing.T) {
	dir, s := site(t, map[string]string{})
	get(t, s.url)
	if r := run(t, dir, "maintenance", "on"); r.code != exitOK {
		t.Fatalf("%+v", r)
	}
	if a, err := try(s.url); err != nil || a.status != 503 || !strings.Contains(a.body, "maintenance") {
		t.Errorf("%+v %v", a, err)
	}
	if r := run(t, dir, "status"); !strings.Contains(r.out, "closed for maintenance; guado maintenance off opens it") {
		t.Errorf("%+v", r)
	}
	if r := run(t, dir, "maintenance", "off"); r.code != exitOK {
		t.Errorf("%+v", r)
	}
	get(t, s.url)
	if r := run(t, dir, "maintenance", "perhaps"); r.code != exitUsage {
		t.Errorf("%+v", r)
	}
}
