package mirror

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
)

// A page of the memory test: 10 leaves, 2 KB as JSON.
func pageRecords() (count int, out []byte) {
	text := func(n int) string { return `"` + string(bytes.Repeat([]byte("x"), n)) + `"` }
	leaf := func(value string, path ...string) {
		out = appendBytes(appendPath(append(out, byte(opSet)), path), []byte(value))
		count++
	}
	dict := func(key string) {
		out = appendPath(append(out, byte(opClear)), []string{key})
		count++
	}
	leaf(`"Invoice 12345"`, "title")
	dict("filter")
	leaf(`"2026-01-01"`, "filter", "from")
	leaf(`"2026-02-01"`, "filter", "to")
	leaf(text(480), "filter", "text")
	dict("cart")
	leaf(text(480), "cart", "note")
	leaf("1234.5", "cart", "total")
	leaf("12", "cart", "count")
	dict("form")
	leaf(text(480), "form", "name")
	leaf(text(470), "form", "address")
	leaf("true", "form", "dirty")
	return count, out
}

func pageID(i int) Ref { return Ref{Page, fmt.Sprintf("%022d", i)} }

// benchMirror has some pages of one user, as full as those of the memory test.
func benchMirror(t testing.TB, pages int) *Mirror {
	t.Helper()
	m := New(0, Limits{Store: 1 << 20, All: 1 << 30})
	_, records := pageRecords()
	for i := range pages {
		if err := m.Restore("anna", pageID(i), records); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func benchApply(b *testing.B, count int, records []byte) {
	m := benchMirror(b, 1000)
	state := frame(0, "anna", m.Generation("anna"), pageID(7), count, records)
	var from Source
	b.ReportAllocs()
	for b.Loop() {
		binary.LittleEndian.PutUint64(state[8:], from.last+1)
		if err := m.Apply(&from, state); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApplyTenWrites(b *testing.B) {
	var records []byte
	for i := range 10 {
		path := appendPath([]byte{byte(opSet)}, []string{"cart", "total"})
		records = append(records, appendBytes(path, fmt.Appendf(nil, "%d.5", i))...)
	}
	benchApply(b, 10, records)
}

func BenchmarkApplyTenNewKeys(b *testing.B) {
	records := appendPath([]byte{byte(opClear)}, []string{"lines"})
	for i := range 10 {
		path := appendPath([]byte{byte(opSet)}, []string{"lines", fmt.Sprint("key", i)})
		records = append(records, appendBytes(path, fmt.Appendf(nil, "%d.5", i))...)
	}
	benchApply(b, 11, records)
}

func BenchmarkApplyOneWrite(b *testing.B) {
	benchApply(b, 1, set("title", `"another"`))
}

func BenchmarkApplyNothingWritten(b *testing.B) {
	m := benchMirror(b, 1)
	le := binary.LittleEndian
	state := append([]byte{version, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 8)...)
	state = append(le.AppendUint16(le.AppendUint16(state, 1), 4), "anna"...)
	state = le.AppendUint32(le.AppendUint64(state, m.Generation("anna")), 0)
	var from Source
	b.ReportAllocs()
	for b.Loop() {
		le.PutUint64(state[8:], from.last+1)
		if err := m.Apply(&from, state); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSnapshotAndRestoreOfAPage(b *testing.B) {
	m := benchMirror(b, 1)
	for b.Loop() {
		records, _, err := m.Snapshot(pageID(0))
		if err != nil {
			b.Fatal(err)
		}
		m.Drop(pageID(0))
		if err := m.Restore("anna", pageID(0), records); err != nil {
			b.Fatal(err)
		}
	}
}

// memoryOfPages is what a page of the memory test takes beyond its leaves.
func memoryOfPages(t testing.TB) float64 {
	t.Helper()
	const pages = 2000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	m := benchMirror(t, pages)
	runtime.GC()
	runtime.ReadMemStats(&after)
	leaves := 0
	for _, s := range m.stores {
		leaves += leafBytes(s.root)
	}
	runtime.KeepAlive(m)
	return (float64(after.HeapAlloc) - float64(before.HeapAlloc) - float64(leaves)) / pages
}

func leafBytes(n *node) int {
	sum := len(n.leaf)
	for _, child := range n.dict {
		sum += leafBytes(child)
	}
	return sum
}

func BenchmarkMemoryOfAPage(b *testing.B) {
	for b.Loop() {
		b.ReportMetric(memoryOfPages(b), "B/page")
	}
}
