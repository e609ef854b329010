package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/guado-server/guado/internal/version"
)

func (e *exam) server(context.Context) {
	r := e.Running
	if r == nil {
		e.ok("running", "no server answers that runs with this configuration")
		return
	}
	value := fmt.Sprintf("pid %d as %s, %s", r.PID, e.who, r.State)
	if len(r.Problems) > 0 {
		e.find(Fail, "running", value+": "+strings.Join(r.Problems, "; "), "guado status and guado logs tell more")
	} else {
		e.ok("running", value)
	}
	if r.Version != version.Version {
		e.find(Warn, "version", fmt.Sprintf("%s runs, this is %s", r.Version, version.Version), "start the server anew")
	}
	if r.Closed != "" {
		e.find(Warn, "open", r.Closed, "guado resume, or guado maintenance off")
	}
	if r.Reload != "" {
		e.find(Warn, "last reload", r.Reload, "mend the file (guado check), then guado reload")
	}
	if len(r.Pending) > 0 {
		e.find(Warn, "needs a restart", strings.Join(r.Pending, ", "), "what was changed there takes effect when the server is started anew")
	}
	if e.who.uid == 0 && !e.ownAccounts() {
		e.find(Warn, "account", "applications run as root", "name an account: user on [[app]], or User= in the unit (guado service --user NAME)")
	}
}

// ownAccounts reports whether every group has an account of its own.
func (e *exam) ownAccounts() bool {
	for i := range e.Config.Groups {
		if e.Config.Groups[i].User == "" {
			return false
		}
	}
	return true
}
