// Package doctor looks at what a server needs of its machine: limits, the kernel,
// interpreters, files, sockets, and the server itself when it runs.
// Before it: cmd/guado. After it: nothing; it changes and starts nothing that stays.
// Not here: whether the configuration is right (config), and importing applications
// (guado check --load).
package doctor

import (
	"context"
	"io/fs"
	"slices"

	"github.com/guado-server/guado/internal/config"
)

// Verdict is what is thought of a finding.
type Verdict string

// Verdicts, from good to bad.
const (
	OK   Verdict = "ok"
	Warn Verdict = "warn" // it serves, until something happens
	Fail Verdict = "fail" // it does not serve, or others can do what they must not
)

// Finding is one thing that was looked at.
type Finding struct {
	Area    string  `json:"area"`
	Check   string  `json:"check"`
	Value   string  `json:"value"`
	Verdict Verdict `json:"verdict"`
	Advice  string  `json:"advice,omitempty"` // what to do
}

// Report is all of them.
type Report struct {
	Verdict  Verdict   `json:"verdict"` // the worst
	Findings []Finding `json:"findings"`
}

// Running is the server that runs with the configuration.
type Running struct {
	PID      int
	Version  string
	State    string
	Listen   []string // as it tells it: URLs and "unix:PATH"
	Admin    string   // its socket
	Problems []string // what cannot serve, in words
	Pending  []string // keys that wait for a restart
	Reload   string   // why the last reload failed
	Closed   string   // why requests are not answered: maintenance, a pause
}

// Case is what is looked at.
type Case struct {
	Config  *config.Config
	Environ []string
	Files   fs.FS    // the worker's code
	Running *Running // nil: it does not run
}

// exam is a look at a case.
type exam struct {
	Case
	who      account // as which files are opened
	area     string
	findings []Finding
}

// Examine looks at everything.
func Examine(ctx context.Context, c Case) *Report {
	e := &exam{Case: c, who: accountOf(c.Running)}
	for _, look := range []struct {
		area string
		at   func(context.Context)
	}{
		{"versions", e.versions}, {"kernel", e.kernel}, {"limits", e.limits},
		{"files", e.files}, {"network", e.network}, {"server", e.server},
	} {
		e.area = look.area
		look.at(ctx)
	}
	r := &Report{Verdict: OK, Findings: e.findings}
	for _, f := range e.findings {
		order := []Verdict{OK, Warn, Fail}
		if slices.Index(order, f.Verdict) > slices.Index(order, r.Verdict) {
			r.Verdict = f.Verdict
		}
	}
	return r
}

func (e *exam) ok(check, value string) { e.find(OK, check, value, "") }

func (e *exam) find(v Verdict, check, value, advice string) {
	if v == OK {
		advice = ""
	}
	e.findings = append(e.findings, Finding{Area: e.area, Check: check, Value: value, Verdict: v, Advice: advice})
}

// pid is the process whose limits count: the server's, else this one's, which has what a
// server started from the same place would have.
func (e *exam) pid() int {
	if e.Running != nil {
		return e.Running.PID
	}
	return 0
}
