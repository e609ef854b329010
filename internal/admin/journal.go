package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"strings"
	"sync"
	"time"
)

// Record is one entry of the journal: what the host logged, or a line that a worker or
// program printed.
type Record struct {
	Time    time.Time      `json:"time"`
	Level   string         `json:"level,omitempty"`  // of the host's own: DEBUG, INFO, WARN, ERROR
	Source  string         `json:"source"`           // "host", or who printed it: "p01", a program's name
	Stream  string         `json:"stream,omitempty"` // stdout, stderr
	Message string         `json:"message"`
	Attrs   map[string]any `json:"attrs,omitempty"`

	level slog.Level
	of    string // the group or program that Source is of
	size  int
}

const (
	// The journal keeps this much for those who ask later.
	keptRecords, keptBytes = 4096, 1 << 20
	// behind is how many records a reader may be behind before some are left out.
	behind = 1024
	// host is the source of what the host logs itself.
	host = "host"
)

// Journal keeps the last records and passes new ones on to those who follow. It never
// waits for a reader.
type Journal struct {
	mu      sync.Mutex // guards all below
	kept    []Record   // oldest first
	bytes   int
	readers map[*reader]struct{}
	owners  map[string]string // source: the group or program that it is of
}

// Knows reports whether a source has ever been of something: also one that is gone, of
// which there may be lines.
func (j *Journal) Knows(source string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	_, ok := j.owners[source]
	return ok
}

// reader is one who follows.
type reader struct {
	records chan Record
	want    filter
	missed  int // records that there was no room for
}

// NewJournal makes an empty one.
func NewJournal() *Journal {
	return &Journal{readers: map[*reader]struct{}{}, owners: map[string]string{}}
}

// Belongs says that a source is of a group or program: who asks for that has its lines,
// too.
func (j *Journal) Belongs(source, to string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.owners[source] = to
}

// Line notes a line that source printed.
func (j *Journal) Line(source, stream, line string) {
	text := strings.TrimRight(line, "\r\n")
	j.add(Record{Time: time.Now(), Source: source, Stream: stream, Message: text, level: lineLevel(text)})
}

func (j *Journal) add(r Record) {
	r.size = len(r.Message) + len(r.Attrs)*64 + 64
	j.mu.Lock()
	defer j.mu.Unlock()
	if r.Source != host {
		r.of = j.owners[r.Source]
	}
	j.kept = append(j.kept, r)
	j.bytes += r.size
	drop := 0
	for len(j.kept)-drop > keptRecords || j.bytes > keptBytes {
		j.bytes -= j.kept[drop].size
		drop++
	}
	clear(j.kept[:drop])
	j.kept = j.kept[drop:]
	for to := range j.readers {
		if !to.want.takes(&r) {
			continue
		}
		select {
		case to.records <- r:
		default:
			to.missed++
		}
	}
}

// follow gives the last n records that want takes and, unless only those are wanted,
// a reader of those to come, without a gap between. leave must be called on it.
func (j *Journal) follow(want filter, n int, on bool) (past []Record, to *reader) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i := len(j.kept) - 1; i >= 0 && len(past) < n; i-- {
		if want.takes(&j.kept[i]) {
			past = append(past, j.kept[i])
		}
	}
	for a, b := 0, len(past)-1; a < b; a, b = a+1, b-1 {
		past[a], past[b] = past[b], past[a]
	}
	if on {
		to = &reader{records: make(chan Record, behind), want: want}
		j.readers[to] = struct{}{}
	}
	return past, to
}

func (j *Journal) leave(to *reader) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.readers, to)
}

// skipped gives, once, how many records a reader was too slow for.
func (j *Journal) skipped(to *reader) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := to.missed
	to.missed = 0
	return n
}

// filter says which records somebody wants.
type filter struct {
	sources []string // any of them; empty: all
	level   slog.Level
}

// takes: a record is about a source when it printed it or a worker of it did, or when
// the host's record names it.
func (f filter) takes(r *Record) bool {
	if r.level < f.level {
		return false
	}
	if len(f.sources) == 0 {
		return true
	}
	for _, name := range f.sources {
		if r.Source == name || r.of == name && r.of != "" {
			return true
		}
		for _, key := range []string{"slot", "worker", "group", "app", "program", "executor"} {
			if r.Attrs[key] == name {
				return true
			}
		}
	}
	return false
}

// lineLevel is the level of a printed line: what it says itself where it is an object
// of JSON, as loggers write it, and else the least, because nobody knows.
func lineLevel(text string) slog.Level {
	if !strings.HasPrefix(text, "{") {
		return slog.LevelDebug
	}
	var said struct{ Level, Levelname, Severity any }
	if json.Unmarshal([]byte(text), &said) != nil {
		return slog.LevelDebug
	}
	for _, v := range []any{said.Level, said.Levelname, said.Severity} {
		name, ok := v.(string)
		if !ok {
			continue
		}
		switch strings.ToLower(name) {
		case "info", "notice":
			return slog.LevelInfo
		case "warn", "warning":
			return slog.LevelWarn
		case "error", "critical", "fatal", "alert", "emergency":
			return slog.LevelError
		}
	}
	return slog.LevelDebug
}

// Handler passes records on to h and notes them.
func (j *Journal) Handler(h slog.Handler) slog.Handler { return &tee{Handler: h, journal: j} }

type tee struct {
	slog.Handler
	journal *Journal
	attrs   map[string]any // of With
	prefix  string         // of WithGroup: "group."
}

// Enabled: the journal has what matters also where the log does not.
func (t *tee) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || t.Handler.Enabled(ctx, level)
}

func (t *tee) Handle(ctx context.Context, r slog.Record) error {
	record := Record{Time: r.Time, Level: r.Level.String(), Source: host, Message: r.Message, level: r.Level}
	record.Attrs = maps.Clone(t.attrs)
	r.Attrs(func(a slog.Attr) bool {
		if record.Attrs == nil {
			record.Attrs = map[string]any{}
		}
		note(record.Attrs, t.prefix, a)
		return true
	})
	t.journal.add(record)
	if !t.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return t.Handler.Handle(ctx, r)
}

func (t *tee) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := &tee{Handler: t.Handler.WithAttrs(attrs), journal: t.journal, prefix: t.prefix, attrs: maps.Clone(t.attrs)}
	if with.attrs == nil {
		with.attrs = map[string]any{}
	}
	for _, a := range attrs {
		note(with.attrs, t.prefix, a)
	}
	return with
}

func (t *tee) WithGroup(name string) slog.Handler {
	return &tee{Handler: t.Handler.WithGroup(name), journal: t.journal, prefix: t.prefix + name + ".", attrs: t.attrs}
}

// note puts an attribute into a record as JSON will show it: as it is now, because what
// it points to may change.
func note(into map[string]any, prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindFloat64:
		into[prefix+a.Key] = math.Round(v.Float64()*1000) / 1000 // seconds, as a rule
	case slog.KindGroup:
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, inner := range v.Group() {
			note(into, prefix, inner)
		}
	case slog.KindBool, slog.KindInt64, slog.KindUint64, slog.KindString:
		into[prefix+a.Key] = v.Any()
	case slog.KindAny:
		if err, ok := v.Any().(error); ok {
			into[prefix+a.Key] = err.Error()
			return
		}
		text, err := json.Marshal(v.Any())
		if err != nil {
			into[prefix+a.Key] = fmt.Sprint(v.Any())
			return
		}
		into[prefix+a.Key] = json.RawMessage(text)
	default: // times and durations
		into[prefix+a.Key] = v.String()
	}
}
