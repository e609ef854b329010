package supervise

// WriteLine writes one line, which ends with a newline, for outputs that are not a
// worker's: a program's.
func (l *Lines) WriteLine(line []byte) error { return l.write(line) }
