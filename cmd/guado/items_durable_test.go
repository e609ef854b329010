package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/guado-server/guado/internal/durable"
	"github.com/guado-server/guado/internal/identity"
)

func TestWhomTheOperatorEndsIsGoneBehindACrash(t *testing.T) {
	l := startLively(t, "[state]\ndurability = \"host\"\n")
	for range 5 {
		legacy, n := identity.NewID(), 0
		l.verbs([]any{"connections", "create", []any{legacy}, map[string]any{"user": "ann"}})
		if _, err := l.admin("connections/"+legacy+"/end", struct{}{}, nil); err != nil {
			t.Fatal(err)
		}
		image := t.TempDir()
		if err := os.CopyFS(image, os.DirFS(filepath.Join(l.dir, "state", "log"))); err != nil {
			t.Fatal(err)
		}
		found, err := durable.Recover(image, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		for key := range found.Items {
			if key.ID == legacy {
				n++
			}
		}
		if n > 0 {
			t.Errorf("the connection is there again")
		}
	}
}
