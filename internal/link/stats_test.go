package link_test

import (
	"encoding/binary"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/link"
)

func TestAWorkerTellsOfItselfAtEachHeartbeat(t *testing.T) {
	overBoth(t, func(t *testing.T, transport string) {
		l, p := pair(t, link.Options{Transport: transport})
		if st := l.Stats(); !st.At.IsZero() {
			t.Errorf("it told %+v before it said anything", st)
		}
		l.Ping(1)
		f := next(t, p, link.KindPing)
		if runtime.GOOS == "linux" && (len(f.Payload) != 8 || binary.LittleEndian.Uint64(f.Payload) == 0) {
			t.Errorf("PING carries % x, not the host's clock", f.Payload)
		}
		send(t, p, link.KindStats, 0, 0, 0, []byte(`{"gil_waits":2,"gil_wait_us":31,"loop_lag_us":180,"later":"more"}`))
		settled(t, l, p)
		st := l.Stats()
		if st.At.IsZero() || st.GILWaits != 2 || st.GILWait != 31*time.Microsecond || st.LoopLag != 180*time.Microsecond {
			t.Errorf("%+v", st)
		}
		send(t, p, link.KindStats, 0, 0, 0, []byte(`{"gil_wait_us":18446744073709551615,"loop_lag_us":9223372036854775808}`))
		settled(t, l, p)
		if st := l.Stats(); st.GILWait < 0 || st.LoopLag < 0 {
			t.Errorf("a number that is too large became %+v", st)
		}
	})
}

func TestStatsThatAreNoneEndTheWorker(t *testing.T) {
	for name, payload := range map[string]string{
		"text": "hello", "negative": `{"gil_waits":-1}`, "endless": `{"a":"` + strings.Repeat("x", 5000) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			l, p := pair(t, link.Options{})
			send(t, p, link.KindStats, 0, 0, 0, []byte(payload))
			ended(t, l, "STATS")
		})
	}
}
