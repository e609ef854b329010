package conformance

import (
	"context"
	"encoding/xml"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/guado-server/guado/test/harness"
)

// explained are cases of h2spec that fail for a reason which was looked at: the
// section and description as h2spec prints them, and why.
var explained = map[string]string{
	"http2/6.5.3: Sends multiple values of SETTINGS_INITIAL_WINDOW_SIZE": "net/http refuses a SETTINGS frame that names one setting twice (a connection error, " +
		"stricter than RFC 9113 section 6.5.3 asks): real clients never do, and each repetition would be work for free",
	"http2/8.1.2.2: Sends a HEADERS frame that contains the connection-specific header field": "net/http answers 400 and keeps the connection instead of resetting the stream; " +
		"RFC 9113 section 8.1.1 allows an answer before the stream error, and nothing reaches the application",
	"http2/8.1.2.2: Sends a HEADERS frame that contains the TE header field with any value other than \"trailers\"": "as for other connection-specific fields: 400",
	"http2/3.5: Sends invalid connection preface":                                                                   "a plain listener speaks HTTP/1.1 too: what is not the HTTP/2 preface is an HTTP/1.1 request, answered 400, and the connection is closed",
}

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
	for _, mode := range []string{"tls", "prior knowledge"} {
		t.Run(mode, func(t *testing.T) {
			o := harness.Options{Args: []string{"witness:wsgi"}, TLS: mode == "tls"}
			if mode != "tls" {
				o.Env = []string{"GUADO__SERVER__H2C=true"}
			}
			s := harness.Start(t, o)
			host, port, err := net.SplitHostPort(s.Addr)
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "report.xml")
			args := []string{"-h", host, "-p", port, "-o", "5", "-j", file}
			if mode == "tls" {
				args = append(args, "-t", "-k")
			}
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
			defer cancel()
			out, runErr := exec.CommandContext(ctx, h2spec, args...).CombinedOutput()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatalf("h2spec wrote no report (%v):\n%s", runErr, out)
			}
			var r report
			if err := xml.Unmarshal(text, &r); err != nil {
				t.Fatal(err)
			}
			ran, failed := 0, 0
			for _, suite := range r.Suites {
				for _, c := range suite.Cases {
					ran++
					if c.Failure == nil && c.Error == nil {
						continue
					}
					name := suite.Package + ": " + c.Class
					if why, ok := explained[name]; ok {
						t.Logf("explained: %s: %s", name, why)
						continue
					}
					failed++
					t.Errorf("%s", name)
				}
			}
			if ran < 100 {
				t.Errorf("only %d cases ran", ran)
			}
			if failed > 0 {
				t.Logf("h2spec printed:\n%s", out)
			}
			t.Logf("%d cases, %d unexplained failures", ran, failed)
		})
	}
}
