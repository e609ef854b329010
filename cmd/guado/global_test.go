package main

import (
	"strings"
	"testing"
)

func TestTheGlobalStoreIsReadAndWrittenFromAShell(t *testing.T) {
	dir, s := site(t, map[string]string{"guado.toml": "phase = 4\n[[app]]\ntarget = \"hello\"\n"})
	get(t, s.url)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"list"}, 0, "PATH  VALUE\n"},
		{[]string{"get", "a"}, 1, "there is nothing at a"},
		{[]string{"get", "--json", "a"}, 1, "{\n  \"found\": false,\n  \"number\": 0\n}\n"},
		{[]string{"set", "a", `{"b": [1, {"c": 2}], "d": {}, "e.f": 1.50}`}, 0, ""},
		{[]string{"set", "--json", `["x.y", ""]`, `"è"`}, 0, "{\n  \"number\": 2\n}\n"},
		{[]string{"set", "--ttl", "1h", "t", `{"$decimal": "1.10"}`}, 0, ""},
		{[]string{"list"}, 0, "PATH         VALUE\na.b          [1,{\"c\":2}]\na.d          {}\n[\"a\",\"e.f\"]  1.5\n[\"x.y\",\"\"]   \"è\"\nt            {\"$decimal\":\"1.10\"}\n"},
		{[]string{"list", "a.b"}, 0, "PATH  VALUE\na.b   [1,{\"c\":2}]\n"},
		{[]string{"get", "a"}, 0, "{\n  \"b\": [\n    1,\n"},
		{[]string{"set", "a.b.c", "1"}, 1, `a key on the way holds a value, and can have none below it; delete it first: "b"`},
		{[]string{"set", "a", "text"}, 2, `"text" is no JSON`},
		{[]string{"set", "--ttl", "1ns", "a", "1"}, 2, "at least 1ms"},
		{[]string{"set", "[1]", "1"}, 2, "no list of keys"},
		{[]string{"delete", "a"}, 0, ""},
		{[]string{"delete", "a"}, 1, "there is nothing at a"},
		{[]string{"delete", "--json", "x.y"}, 1, "\"deleted\": false"},
	} {
		r := run(t, dir, append([]string{"global"}, c.args...)...)
		if r.code != c.code || !strings.Contains(r.out+r.err, c.says) || c.says == "" && r.out+r.err != "" {
			t.Errorf("%q: %d %s%s", c.args, r.code, r.out, r.err)
		}
	}
	dir, s = site(t, map[string]string{"guado.toml": pagesConfig})
	get(t, s.url)
	for _, words := range []string{"list", "get a", "set a 1", "delete a"} {
		if r := run(t, dir, append([]string{"global"}, strings.Fields(words)...)...); r.code != exitFailed || !strings.Contains(r.err, "begins with server.phase = 4") {
			t.Errorf("%s in phase 3: %d %s%s", words, r.code, r.out, r.err)
		}
	}
}
