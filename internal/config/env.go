package config

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/joho/godotenv"
)

// Environ is the environment of a group's workers: base (as of os.Environ) without
// GUADO__* and what belongs to this process alone, then env_file, env and
// secret_env, later ones winning. The files are read at each call, so that a
// restarted worker gets a rotated secret.
func (p *Process) Environ(base []string) ([]string, error) {
	merged := map[string]string{}
	for _, variable := range base {
		name, value, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, EnvPrefix) && !hostOnly[name] {
			merged[name] = value
		}
	}
	if p.EnvFile != "" {
		vars, err := godotenv.Read(p.EnvFile)
		if err != nil {
			return nil, fmt.Errorf("env_file %q: %w", p.EnvFile, err)
		}
		maps.Copy(merged, vars)
	}
	maps.Copy(merged, p.Env)
	for name, file := range p.SecretEnv {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("secret_env %s: %w", name, err)
		}
		value := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
		if strings.ContainsRune(value, 0) {
			return nil, fmt.Errorf("secret_env %s: %q holds a zero byte, which no environment variable can", name, file)
		}
		merged[name] = value
	}
	list := make([]string, 0, len(merged))
	for _, name := range slices.Sorted(maps.Keys(merged)) {
		list = append(list, name+"="+merged[name])
	}
	return list, nil
}

// hostOnly are variables that tell this process something and would mislead a
// child: sockets and the watchdog of systemd, whose numbers a worker does not have.
var hostOnly = map[string]bool{
	"LISTEN_FDS": true, "LISTEN_PID": true, "LISTEN_FDNAMES": true,
	"NOTIFY_SOCKET": true, "WATCHDOG_PID": true, "WATCHDOG_USEC": true,
	"GUADO_LINK": true, "GUADO_PACKAGE": true,
	"GUADO_PUSH": true, "GUADO_PUSH_TOKEN": true, // of a program that is a server itself
}
