// Command guado serves Python WSGI and ASGI applications; this file is the whole
// of main, each verb has its own.
// Before it: the shell. After it: config, then the root package, which serves.
// Not here: anything a program that uses the library could want.
package main

import (
	"context"
	"os"

	"github.com/guado-server/guado"
)

func main() {
	if code, is := guado.Child(); is {
		os.Exit(code)
	}
	os.Exit(execute(context.Background(), os.Args[1:], os.Stdout, os.Stderr, os.Environ()))
}
