package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"math"
	"os"
	"strings"
	"sync"

	"github.com/lmittmann/tint"
	"golang.org/x/term"

	"github.com/guado-server/guado/internal/config"
)

// newLogger makes the host's log on w, and gives its level, which a reload may change.
func newLogger(w io.Writer, s *config.Server) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	if err := level.UnmarshalText([]byte(s.LogLevel)); err != nil {
		level.Set(slog.LevelInfo) // config has checked it
	}
	if s.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: toMillis})), level
	}
	return slog.New(newConsole(w, level, isTerminal(w))), level
}

// toMillis rounds seconds to milliseconds: what is behind them is noise, and what a float
// makes of them is worse (1.2730000000000001).
func toMillis(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindFloat64 && strings.HasSuffix(a.Key, "seconds") {
		a.Value = slog.Float64Value(math.Round(a.Value.Float64()*1000) / 1000)
	}
	return a
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// console is a log for people: a line to each record, and values of several lines
// (a traceback) below it as they are, where a line of key=value would quote them.
type console struct {
	line slog.Handler // writes to buffer
	to   *output
	more []slog.Attr // multi-line values of With
}

// output is shared by all handlers made from one.
type output struct {
	mu     sync.Mutex // guards buffer and w: records do not mix
	buffer bytes.Buffer
	w      io.Writer
}

func newConsole(w io.Writer, level slog.Leveler, color bool) *console {
	to := &output{w: w}
	return &console{to: to, line: tint.NewTextHandler(&to.buffer, &tint.Options{
		Level: level, TimeFormat: "15:04:05.000", ReplaceAttr: toMillis, NoColor: !color || os.Getenv("NO_COLOR") != "",
	})}
}

func (c *console) Enabled(ctx context.Context, level slog.Level) bool {
	return c.line.Enabled(ctx, level)
}

func (c *console) Handle(ctx context.Context, r slog.Record) error {
	message, rest, _ := strings.Cut(r.Message, "\n")
	short := slog.NewRecord(r.Time, r.Level, message, r.PC)
	blocks := c.more
	if rest != "" {
		blocks = append([]slog.Attr{slog.String("message", rest)}, blocks...)
	}
	hint := ""
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "hint" {
			hint = a.Value.String()
			return true
		}
		if isBlock(a) {
			blocks = append(blocks[:len(blocks):len(blocks)], a)
		} else {
			short.AddAttrs(a)
		}
		return true
	})
	c.to.mu.Lock()
	defer c.to.mu.Unlock()
	c.to.buffer.Reset()
	if err := c.line.Handle(ctx, short); err != nil {
		return err
	}
	for _, a := range blocks {
		c.to.buffer.WriteString(strings.TrimRight(a.Value.String(), "\n") + "\n")
	}
	if hint != "" { // last, as what is read and done next
		c.to.buffer.WriteString("hint: " + hint + "\n")
	}
	_, err := c.to.w.Write(c.to.buffer.Bytes())
	return err
}

func isBlock(a slog.Attr) bool {
	switch v := a.Value.Resolve(); v.Kind() {
	case slog.KindString:
		return strings.Contains(v.String(), "\n")
	case slog.KindAny:
		err, ok := v.Any().(error)
		return ok && strings.Contains(err.Error(), "\n")
	default:
		return false
	}
}

func (c *console) WithAttrs(attrs []slog.Attr) slog.Handler {
	with := &console{to: c.to, more: c.more[:len(c.more):len(c.more)]}
	var short []slog.Attr
	for _, a := range attrs {
		if isBlock(a) {
			with.more = append(with.more, a)
		} else {
			short = append(short, a)
		}
	}
	with.line = c.line.WithAttrs(short)
	return with
}

func (c *console) WithGroup(name string) slog.Handler {
	return &console{to: c.to, more: c.more, line: c.line.WithGroup(name)}
}
