package guado_test

import (
	"fmt"
	"testing"

	"github.com/guado-server/guado/internal/identity"
)

func TestAStopAndAStartKeepEveryItem(t *testing.T) {
	dir := t.TempDir()
	i := index(t, dir, "")
	connection, page := identity.NewID(), identity.NewID()
	i.makes("connections", connection, told{"user": "ann", "address": "10.1.2.3", "fields": item{"n": 1}})
	i.makes("pages", page, told{"connection": connection, "user_agent": "Legacy/1", "fields": item{"n": 2}})
	i.makes("users", "bob", told{"fields": item{"n": 3}})
	i.ask("pages", "touch", []any{page}, nil)
	before := map[string]any{}
	for kind, id := range map[string]string{"connections": connection, "pages": page, "users": "bob"} {
		before[kind] = i.ask(kind, "get", []any{id}, nil)
	}
	if err := i.end(); err != nil {
		t.Fatal(err)
	}
	i = index(t, dir, "")
	for kind, id := range map[string]string{"connections": connection, "pages": page, "users": "bob"} {
		after, is := i.ask(kind, "get", []any{id}, nil).(item)
		if !is {
			t.Fatalf("%s %s is gone", kind, id)
		}
		was := before[kind].(item)
		for name, value := range was {
			if name != "last_seen" && name != "started" && fmt.Sprint(after[name]) != fmt.Sprint(value) {
				t.Errorf("%s: %s is %v, and was %v", kind, name, after[name], value)
			}
		}
	}
	// Whose they are is as it was: both go with the user.
	if n := i.ask("users", "drop", []any{"ann"}, nil); n != 3.0 {
		t.Errorf("%v have ended", n)
	}
}
