package doctor

import (
	"fmt"
	"os"
	"slices"

	"github.com/guado-server/guado/internal/child"
	"github.com/guado-server/guado/internal/config"
)

// places looks whether processes and folders can be reached by the accounts that need
// them.
func (e *exam) places() {
	c := e.Config
	for i := range c.Groups {
		g := &c.Groups[i]
		if who, ok := e.processAccount("group "+g.Name, &g.Account); ok {
			e.readable("folder of "+g.Name, g.Dir, who)
		}
	}
	for i := range c.Programs {
		p := &c.Programs[i]
		if who, ok := e.processAccount("program "+p.Name, &p.Account); ok {
			e.readable("folder of "+p.Name, p.Dir, who)
		}
	}
	for i := range c.Mounts {
		if dir := c.Mounts[i].Static; dir != "" {
			e.readable("files of "+c.Mounts[i].Path, dir, e.who)
		}
	}
}

// processAccount gives who a process runs as; false: it cannot run as that one.
func (e *exam) processAccount(check string, a *config.Account) (account, bool) {
	if a.User == "" {
		return e.who, true
	}
	id, err := child.LookupIdentity(a.UserAndGroup())
	if err != nil {
		e.find(Fail, check, err.Error(), "make the account (useradd --system), or name another: user")
		return account{}, false
	}
	if e.who.uid != 0 && id.UID != e.who.uid {
		e.find(Fail, check, fmt.Sprintf("is to run as %s, but the server runs as %s", a.User, e.who), "start the server as root: only root can give a process another account")
		return account{}, false
	}
	return account{uid: id.UID, groups: append(slices.Clone(id.Groups), id.GID)}, true
}

func (e *exam) readable(check, dir string, who account) {
	info, err := os.Stat(dir)
	advice := fmt.Sprintf("let %s in: chmod o+x for the folders above, o+rx for this one, or a group that both have", who)
	switch closed := who.reach(dir); {
	case closed != "":
		e.find(Fail, check, fmt.Sprintf("%s: %s cannot pass through %s", dir, who, closed), advice)
	case err != nil:
		e.find(Fail, check, err.Error(), "name the folder that is there")
	case !who.may(info, mayRead|mayEnter):
		e.find(Fail, check, fmt.Sprintf("%s cannot be read by %s (%s)", dir, who, mode(info)), advice)
	default:
		e.ok(check, fmt.Sprintf("%s %s, read by %s", dir, mode(info), who))
	}
}
