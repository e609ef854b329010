package runtime

import (
	"path/filepath"
	"slices"
	"strings"
)

// AddPath is an environment in which Python also looks for modules in dir, behind those
// folders that PYTHONPATH names already.
func AddPath(base []string, dir string) []string {
	env := make([]string, 0, len(base)+1)
	path := dir
	for _, variable := range base {
		if before, ok := strings.CutPrefix(variable, "PYTHONPATH="); !ok {
			env = append(env, variable)
		} else if before != "" { // an empty part would mean the working directory
			path = before + string(filepath.ListSeparator) + dir
		}
	}
	return append(env, "PYTHONPATH="+path)
}

// Environ is an environment as the interpreter's virtual environment activates it:
// VIRTUAL_ENV names it (or is taken out), and its commands come first on the PATH,
// so that a subprocess of the application finds the same Python.
func (in *Interpreter) Environ(base []string) []string {
	bin := filepath.Dir(in.Executable)
	path := ""
	env := make([]string, 0, len(base)+2)
	for _, variable := range base {
		name, value, _ := strings.Cut(variable, "=")
		switch {
		case name == "PATH":
			path = value
		case name == "VIRTUAL_ENV", name == "VIRTUAL_ENV_PROMPT":
		case name == "PYTHONHOME" && in.VirtualEnv != "": // it would hide the environment's packages
		default:
			env = append(env, variable)
		}
	}
	dirs := filepath.SplitList(path)
	if in.VirtualEnv != "" {
		env = append(env, "VIRTUAL_ENV="+in.VirtualEnv)
		dirs = slices.DeleteFunc(dirs, func(dir string) bool { return dir == bin })
		dirs = slices.Insert(dirs, 0, bin)
	} else if !slices.Contains(dirs, bin) {
		dirs = slices.Insert(dirs, 0, bin)
	}
	return append(env, "PATH="+strings.Join(dirs, string(filepath.ListSeparator)))
}
