package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Class says what a change of a key needs to take effect in a running server.
type Class string

// The classes of keys.
const (
	Live     Class = "live"              // at once
	Workers  Class = "replaced workers"  // new workers in place of those of its group
	Programs Class = "replaced programs" // the program ends and starts anew
	Restart  Class = "needs restart"     // the value stays as it is until the server starts anew
)

// classes gives each key its class, by the path of its tags. "app.*" stands for the
// keys of a table that are not named; what is named must exist. TestEachKeyHasAClass
// holds this against the structure.
//
// A key of [server] needs a restart unless somebody has seen to it that it does not.
var classes = map[string]Class{
	"server.*":                 Restart,
	"server.listen":            Live,
	"server.trusted_proxies":   Live,
	"server.forwarded":         Live,
	"server.allow_hosts":       Live,
	"server.allow_headers":     Live,
	"server.expose_request_id": Live,
	"server.hsts":              Live,
	"server.access_log":        Live,
	"server.access_log_format": Live,
	"server.log_level":         Live,
	"server.compression":       Live,
	"server.compression_min":   Live,
	"server.request_timeout":   Live,
	"server.graceful_timeout":  Live,
	"server.exit_timeout":      Workers,
	"server.phase":             Workers,
	"server.transport":         Workers,
	"server.ring":              Workers,
	"server.http2":             Live,
	"server.h2c":               Live,
	"server.proxy_protocol":    Live,
	"server.tls.*":             Live,
	"server.limits.*":          Live,
	"server.https_redirect":    Live,
	"server.https_port":        Live,
	"server.canonical_host":    Live,
	"server.rate_limit":        Live,
	"server.rate_burst":        Live,
	"server.rate_exempt":       Live,
	"server.maintenance.*":     Live,
	"server.pause.*":           Live,
	"server.timeouts.*":        Live,
	"server.spool.*":           Live,
	"server.websocket.*":       Live,
	"metrics.enabled":          Restart,
	"metrics.listen":           Live,
	"health.*":                 Live,
	"trace.*":                  Live,
	"admin.*":                  Restart,
	"identity.*":               Restart,
	"cookie.*":                 Restart,
	"page.*":                   Live,
	"push.*":                   Restart,
	"push.origins":             Live,
	"events.*":                 Live,
	"global.*":                 Live,
	"state.*":                  Restart,
	"idempotency.*":            Restart,
	"group.*":                  Workers,
	"group.state":              Restart,
	"group.queue":              Live,
	"group.queue_wait":         Live,
	"app.*":                    Workers,
	"app.request_timeout":      Live,
	"app.spool":                Live,
	"app.retry":                Live,
	"mount.*":                  Live,
	"program.*":                Programs,
	"executor.*":               Workers,
	"executor.queue":           Live,
	"executor.task_timeout":    Live,
}

// ClassOf gives the class of a key by its path of tags: "server.limits.head".
func ClassOf(key string) (Class, bool) {
	if c, ok := classes[key]; ok {
		return c, true
	}
	for table := key; table != ""; {
		table = above(table)
		if c, ok := classes[table+".*"]; ok {
			return c, true
		}
	}
	return "", false
}

// classOf is the class of a key that there is, so that it has one (TestEachKeyHasAClass).
func classOf(key string) Class {
	c, _ := ClassOf(key)
	return c
}

// above is the table of a key.
func above(key string) string { return key[:max(strings.LastIndexByte(key, '.'), 0)] }

// Change is a key whose value is another one, or an element of a list that came or went.
type Change struct {
	Key   string `json:"key"` // as messages call it: "server.log_level", "app.shop.threads", "mount./api"
	Class Class  `json:"class"`
	Old   string `json:"old,omitempty"` // as the file spells it, secrets hidden; empty: it came
	New   string `json:"new,omitempty"` // empty: it went

	table, element string // "app", "shop": which element of which list it is about
}

// About tells which element of which list the change is about: "group", "shop".
func (c *Change) About() (table, element string) { return c.table, c.element }

// Diff lists what is different in next, in the order of the structure. Both have been
// resolved.
func (c *Config) Diff(next *Config) []Change {
	d := differ{old: c, next: next}
	a, b := reflect.ValueOf(c).Elem(), reflect.ValueOf(next).Elem()
	for _, f := range fieldsOf(a.Type()) {
		if kindOf(f.typ) == kindTable {
			d.table(f.key, f.key, a.FieldByIndex(f.index), b.FieldByIndex(f.index))
			continue
		}
		d.elements(f.key, a.FieldByIndex(f.index), b.FieldByIndex(f.index))
	}
	return d.list
}

type differ struct {
	old, next *Config
	list      []Change
	in        Change // table and element that are compared now
}

// table compares the keys of a struct. path is that of the tags, shown how messages
// call it.
func (d *differ) table(path, shown string, a, b reflect.Value) {
	for _, f := range fieldsOf(a.Type()) {
		if f.group && a.Type() == reflect.TypeFor[App]() {
			continue // they belong to the app's group by now
		}
		x, y := a.FieldByIndex(f.index), b.FieldByIndex(f.index)
		if kindOf(f.typ) == kindTable {
			d.table(join(path, f.key), join(shown, f.key), x, y)
			continue
		}
		before, after := tomlValue(x), tomlValue(y)
		if before == after {
			continue
		}
		change := d.in
		change.Key, change.Class = join(shown, f.key), classOf(join(path, f.key))
		change.Old, change.New = tomlValue(hideSecrets(f, x)), tomlValue(hideSecrets(f, y))
		d.list = append(d.list, change)
	}
}

// elements compares lists of tables, whose elements are known by name, mounts by place.
func (d *differ) elements(key string, a, b reflect.Value) {
	before, after := d.byName(a), d.byName(b)
	names := slices.Collect(maps.Keys(before))
	for name := range after {
		if _, both := before[name]; !both {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		d.in = Change{table: key, element: name}
		shown := join(key, name)
		if key == "group" && d.ownGroup(name) {
			shown = join("app", name)
		}
		x, old := before[name]
		y, stays := after[name]
		if old && stays {
			d.table(key, shown, x, y)
			continue
		}
		if key == "group" && shown != join(key, name) {
			continue // it comes and goes with its app
		}
		change := d.in
		change.Key, change.Class = shown, classOf(key+".name")
		if old {
			change.Old = "there"
		} else {
			change.New = "there"
		}
		d.list = append(d.list, change)
	}
	d.in = Change{}
}

// ownGroup reports whether a group is that of the app of its name.
func (d *differ) ownGroup(name string) bool {
	for _, c := range []*Config{d.old, d.next} {
		if a := c.App(name); a != nil && a.Group == name {
			return true
		}
	}
	return false
}

func (d *differ) byName(list reflect.Value) map[string]reflect.Value {
	all := map[string]reflect.Value{}
	for i := range list.Len() {
		v := list.Index(i)
		name := ""
		if m, ok := v.Addr().Interface().(*Mount); ok {
			name = m.Host + m.Path
		} else if f := v.FieldByName("Name"); f.IsValid() {
			name = f.String()
		}
		if _, twice := all[name]; twice || name == "" {
			name = fmt.Sprintf("%s#%d", name, i)
		}
		all[name] = v
	}
	return all
}

// Keep gives the keys that need a restart the values that they have in old, so that
// the configuration says what is in effect.
func (c *Config) Keep(old *Config) {
	a, b := reflect.ValueOf(old).Elem(), reflect.ValueOf(c).Elem()
	for _, f := range fieldsOf(a.Type()) {
		if kindOf(f.typ) == kindTable {
			keep(f.key, a.FieldByIndex(f.index), b.FieldByIndex(f.index))
		}
	}
	for i := range c.Groups {
		if g := old.Group(c.Groups[i].Name); g != nil {
			if old.Server.Phase > 0 && c.Server.Phase > 0 {
				c.Groups[i].State = g.State
			}
		}
	}
}

func keep(path string, a, b reflect.Value) {
	for _, f := range fieldsOf(a.Type()) {
		x, y := a.FieldByIndex(f.index), b.FieldByIndex(f.index)
		switch {
		case kindOf(f.typ) == kindTable:
			keep(join(path, f.key), x, y)
		case classOf(join(path, f.key)) == Restart:
			y.Set(x)
		}
	}
}
