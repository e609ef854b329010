package config

// Idempotency bounds the answers that are kept for requests that come again.
type Idempotency struct {
	TTL     Duration `toml:"ttl" default:"10m" min:"1s" doc:"How long an answer is kept."`
	Answer  Size     `toml:"answer" default:"1MiB" min:"1KiB" doc:"Longest answer that is kept, with its fields. Of a longer one, and of an event stream, it is only remembered that the request was done: it is refused when it comes again."`
	Bytes   Size     `toml:"bytes" default:"64MiB" min:"64KiB" doc:"All answers together. Over it the oldest are dropped, and it is only remembered that their requests were done."`
	Answers int      `toml:"answers" default:"10000" min:"1" doc:"Keys that are remembered; over it the oldest are forgotten."`
}

// checkIdempotency refuses to keep what no application answers.
func (r *resolver) checkIdempotency(m *Mount, path string) {
	if kind := m.Kind(); m.Idempotency && kind != MountApp {
		r.wrong(path+".idempotency", path+".idempotency", true, "is for mounts of an app, and this is one of %s", kind)
	}
	if m.IdempotencyRequired && !m.Idempotency {
		r.wrong(path+".idempotency_required", path+".idempotency_required", true, "means nothing without idempotency = true")
	}
	if i := &r.Idempotency; i.Answer > i.Bytes {
		r.wrong("idempotency.answer", "idempotency.answer", i.Answer.String(), "must be at most idempotency.bytes (%s), which is for all answers", i.Bytes)
	}
}
