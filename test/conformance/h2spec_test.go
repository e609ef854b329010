package conformance

import (
	"context"
	"encoding/xml"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/guado-server/guado/test/harness"
)

const (
	overTLS        = "tls"
	priorKnowledge = "prior knowledge"
)

// explained are cases of h2spec that fail for a reason which was looked at: the
// section and description as h2spec prints them, why, and in which modes. One that
// passes must leave the list.
var explained = map[string]explanation{
	"http2/6.5.3: Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE": everywhere("net/http refuses a SETTINGS frame that names one setting twice (a connection error, " +
		"stricter than RFC 9113 section 6.5.3 asks): real clients never do, and each repetition would be work for free"),
	"http2/8.1.2.2: Sends a HEADERS frame that contains the connection-specific header field": everywhere("net/http answers 400 and keeps the connection instead of resetting the stream; " +
		"RFC 9113 section 8.1.1 allows an answer before the stream error, and nothing reaches the application"),
	"http2/8.1.2.2: Sends a HEADERS frame that contains the TE header field with any value other than \"trailers\"": everywhere("as for other connection-specific fields: 400"),
	"http2/3.5: Sends invalid connection preface": {why: "a plain listener speaks HTTP/1.1 too: what is not the HTTP/2 preface is an HTTP/1.1 request, answered 400, and the connection is closed",
		modes: []string{priorKnowledge}},
}

type explanation struct {
	why   string
	modes []string
}

func everywhere(why string) explanation { return explanation{why, []string{overTLS, priorKnowledge}} }

type report struct {
	Suites []struct {
		Package string `xml:"package,attr"`
		Cases   []struct {
			Class   string    `xml:"classname,attr"`
			Failure *struct{} `xml:"failure"`
			Error   *struct{} `xml:"error"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

func TestH2specFindsNothingUnexplained(t *testing.T) {
	h2spec := os.Getenv("GUADO_H2SPEC")
	if h2spec == "" {
		t.Skip("make conformance installs h2spec and names it in GUADO_H2SPEC")
	}
	for _, mode := range []string{overTLS, priorKnowledge} {
		t.Run(mode, func(t *testing.T) {
			r, out := runH2spec(t, h2spec, mode)
			ran, unexplained := 0, 0
			failed := map[string]bool{}
			for _, suite := range r.Suites {
				for _, c := range suite.Cases {
					ran++
					if c.Failure == nil && c.Error == nil {
						continue
					}
					name := suite.Package + ": " + c.Class
					failed[name] = true
					if x, ok := explained[name]; ok && slices.Contains(x.modes, mode) {
						t.Logf("explained: %s: %s", name, x.why)
						continue
					}
					unexplained++
					t.Errorf("%s", name)
				}
			}
			for name, x := range explained {
				if slices.Contains(x.modes, mode) && !failed[name] {
					t.Errorf("%s passes, or is no case of h2spec: take it off the list", name)
				}
			}
			if ran < 100 {
				t.Errorf("only %d cases ran", ran)
			}
			if unexplained > 0 {
				t.Logf("h2spec printed:\n%s", out)
			}
			t.Logf("%d cases, %d unexplained failures", ran, unexplained)
		})
	}
}

// runH2spec runs all cases against a server; its report, and what it printed.
func runH2spec(t *testing.T, h2spec, mode string) (r report, out []byte) {
	t.Helper()
	o := harness.Options{Args: []string{"witness:wsgi"}, TLS: mode == overTLS}
	if mode == priorKnowledge {
		o.Env = []string{"GUADO__SERVER__H2C=true"}
	}
	s := harness.Start(t, o)
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "report.xml")
	args := []string{"-h", host, "-p", port, "-o", "5", "-j", file}
	if mode == overTLS {
		args = append(args, "-t", "-k")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	out, runErr := exec.CommandContext(ctx, h2spec, args...).CombinedOutput()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("h2spec wrote no report (%v):\n%s", runErr, out)
	}
	if err := xml.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	return r, out
}
