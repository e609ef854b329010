package edge

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/guado-server/guado/internal/exchange"
)

// Clients that do not go on, in both lanes.

func TestHardeningAClientThatReadsNothingIsCutAfterTheIdleTime(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		result := make(chan error, 1)
		r := serve(t, m, func(x *exchange.Exchange) {
			_ = x.Answer.Head(exchange.Head{Status: 200, Length: -1})
			for {
				if _, err := x.Answer.Write(make([]byte, 64<<10)); err != nil {
					result <- err
					return
				}
			}
		}, func(o *Options) { o.Limits.WriteIdle = 300 * time.Millisecond })
		resp, err := r.client.Get(r.url("/"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close() //nolint:errcheck // never read
		select {
		case err := <-result:
			if !errors.Is(err, exchange.ErrClientGone) {
				t.Errorf("writing gave %v", err)
			}
		case <-time.After(patience):
			t.Fatal("the writer still waits")
		}
	})
}

func TestAPausedAnswerIsNotCut(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		const idle = 200 * time.Millisecond
		r := serve(t, m, func(x *exchange.Exchange) {
			_ = x.Answer.Head(exchange.Head{Status: 200, Length: -1})
			for range 2 {
				_, _ = x.Answer.Write([]byte("part "))
				_ = x.Answer.Flush()
				<-time.After(3 * idle) // it is the step that pauses, not the client
			}
			_, _ = x.Answer.Write([]byte("end"))
		}, func(o *Options) { o.Limits.WriteIdle = idle })
		if _, body := r.get("/"); body != "part part end" {
			t.Errorf("body %q", body)
		}
	})
}

func TestHardeningAClientThatStopsSendingItsBodyIsSlow(t *testing.T) {
	inEveryLane(t, func(t *testing.T, m mode) {
		r := serve(t, m, func(x *exchange.Exchange) {
			_, err := io.ReadAll(x.Body)
			if !errors.Is(err, exchange.ErrSlowClient) {
				t.Errorf("read gave %v, want ErrSlowClient", err)
			}
			x.Fail(&exchange.Problem{Status: 408, Code: "body_timeout", Err: err})
		}, func(o *Options) { o.Limits.ReadIdle = 300 * time.Millisecond })
		pr, pw := io.Pipe()
		go func() { _, _ = pw.Write([]byte("some")) }()
		resp, err := r.client.Do(r.request("POST", "/", pr))
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode != 408 {
				t.Errorf("status %d", resp.StatusCode)
			}
		}
		_ = pw.Close()
	})
}
