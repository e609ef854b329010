package runtime

// Locate finds the interpreter that a program's commands come with, by the rules of
// [Cache.Find], and does not ask it what it is: a program may run on any version. Of
// what it gives, Executable, VirtualEnv and Source are set.
func Locate(environ []string, python string, dirs ...string) (*Interpreter, error) {
	c := Cache{environ: environ}
	path, source, err := c.locate(python, dirs)
	if err != nil {
		return nil, err
	}
	return &Interpreter{Executable: path, VirtualEnv: virtualEnv(path), Source: source}, nil
}
