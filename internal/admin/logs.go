package admin

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"
)

// usualTail is how many records come first when nobody says.
const usualTail = 100

// writeTime is how long a reader of the stream may take for one write.
const writeTime = 30 * time.Second

// logs answers GET /v1/logs: a record to each line, and on as they come when follow
// is set.
func (s *Server) logs(w http.ResponseWriter, q *http.Request) {
	values := q.URL.Query()
	want, tail := filter{sources: values["source"], level: slog.LevelDebug}, usualTail
	var err error
	if text := values.Get("tail"); text != "" {
		tail, err = strconv.Atoi(text)
	}
	follow := false
	if text := values.Get("follow"); err == nil && text != "" {
		follow, err = strconv.ParseBool(text)
	}
	if text := values.Get("level"); err == nil && text != "" {
		err = want.level.UnmarshalText([]byte(text))
	}
	if err != nil || tail < 0 {
		s.tell(w, nil, &Refusal{Status: http.StatusBadRequest, Code: "bad_query", Message: fmt.Sprintf("tail must be a number, follow true or false, level debug, info, warn or error (%s)", q.URL.RawQuery)})
		return
	}
	if want.sources, err = s.sources(want.sources); err != nil {
		s.tell(w, nil, err)
		return
	}
	past, to := s.options.Journal.follow(want, tail, follow)
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := stream{control: http.NewResponseController(w), encoder: json.NewEncoder(w)}
	for i := range past {
		if out.write(past[i]) != nil {
			break
		}
	}
	if to == nil {
		return
	}
	defer s.options.Journal.leave(to)
	for out.flush() == nil {
		select {
		case r := <-to.records:
			if out.write(r) != nil {
				return
			}
			if n := s.options.Journal.skipped(to); n > 0 && out.write(gap(n)) != nil {
				return
			}
		case <-q.Context().Done(): // the client has left, or the server ends
			return
		}
	}
}

// sources are what is meant by the names that somebody asks for.
func (s *Server) sources(names []string) (all []string, err error) {
	if s.options.Sources == nil {
		return names, nil
	}
	for _, name := range names {
		means, err := s.options.Sources(name)
		if err != nil {
			return nil, err
		}
		all = append(all, means...)
	}
	return all, nil
}

// gap stands where records were left out.
func gap(n int) Record {
	return Record{
		Time: time.Now(), Level: slog.LevelWarn.String(), Source: host,
		Message: "this reader was too slow: records are left out", Attrs: map[string]any{"records": n},
	}
}

// stream writes records to a client that may not read.
type stream struct {
	control *http.ResponseController
	encoder *json.Encoder
}

func (s stream) write(r Record) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	return s.encoder.Encode(r)
}

func (s stream) flush() error { return s.control.Flush() }
