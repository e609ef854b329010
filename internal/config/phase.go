package config

import "slices"

// StateOfPages is server.state_dir as it is from phase 3 on, where phase 0 has another one.
func (c *Config) StateOfPages() string {
	if c.pages != "" {
		return c.pages
	}
	return c.Server.StateDir
}

// Raised gives the configuration of a server that has its own step back to c before it: of a
// phase above c's, with the folder and the group that have the state. nil: nothing says which
// group that is.
func (c *Config) Raised(phase int) *Config {
	up := *c
	up.Server.Phase, up.Server.StateDir = phase, c.StateOfPages()
	up.Groups = slices.Clone(c.Groups)
	at := slices.IndexFunc(up.Groups, func(g Group) bool { return g.State })
	if at < 0 && len(up.Groups) == 1 {
		at = 0
	}
	for i := range c.Apps {
		if a := &c.Apps[i]; at < 0 && a.Register != "" {
			at = slices.IndexFunc(up.Groups, func(g Group) bool { return g.Name == a.Group })
		}
	}
	if at < 0 {
		return nil
	}
	up.Groups[at].State, up.Groups[at].Workers = true, 1
	return &up
}
