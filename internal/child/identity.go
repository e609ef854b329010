package child

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
)

// Identity is the account that a child runs as.
type Identity struct {
	UID, GID int
	Groups   []int // supplementary
	Name     string
	Home     string
}

// LookupIdentity finds the account of a user and group, each a name or a number. An
// empty group is the user's own; an empty user is this process's. Both empty: nil.
func LookupIdentity(userName, groupName string) (*Identity, error) {
	if userName == "" && groupName == "" {
		return nil, nil //nolint:nilnil // no other identity, and no error
	}
	id := &Identity{UID: os.Getuid(), GID: os.Getgid()}
	if userName != "" {
		if err := id.setUser(userName); err != nil {
			return nil, err
		}
	}
	if groupName != "" {
		gid, err := strconv.Atoi(groupName)
		if err != nil {
			g, err := user.LookupGroup(groupName)
			if err != nil {
				return nil, fmt.Errorf("group %q: %w", groupName, err)
			}
			if gid, err = strconv.Atoi(g.Gid); err != nil {
				return nil, fmt.Errorf("group %q: %w", groupName, err)
			}
		}
		id.GID = gid
	}
	return id, nil
}

func (id *Identity) setUser(name string) error {
	find := user.Lookup
	number, notNumber := strconv.Atoi(name)
	if notNumber == nil {
		find = user.LookupId
	}
	u, err := find(name)
	var unknown user.UnknownUserIdError
	switch {
	case errors.As(err, &unknown): // a number needs no account, as in containers
		id.UID, id.GID = number, number
		return nil
	case err != nil:
		return fmt.Errorf("user %q: %w", name, err)
	}
	uid, errUID := strconv.Atoi(u.Uid)
	gid, errGID := strconv.Atoi(u.Gid)
	groups, errGroups := u.GroupIds()
	if err := errors.Join(errUID, errGID, errGroups); err != nil {
		return fmt.Errorf("user %q: %w", name, err)
	}
	id.UID, id.GID, id.Name, id.Home, id.Groups = uid, gid, u.Username, u.HomeDir, nil
	for _, g := range groups {
		if n, err := strconv.Atoi(g); err == nil {
			id.Groups = append(id.Groups, n)
		}
	}
	return nil
}

// same reports whether it is what this process is already.
func (id *Identity) same() bool { return id.UID == os.Getuid() && id.GID == os.Getgid() }

// Environ is an environment as a login of the account would have it: HOME, USER and
// LOGNAME. Variables that the configuration sets come over it.
func (id *Identity) Environ(base []string) []string {
	if id == nil || id.Name == "" {
		return base
	}
	env := slices.DeleteFunc(slices.Clone(base), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return name == "HOME" || name == "USER" || name == "LOGNAME"
	})
	return append(env, "HOME="+id.Home, "USER="+id.Name, "LOGNAME="+id.Name)
}
