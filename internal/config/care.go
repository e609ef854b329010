package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Account is whom a process runs as and what it may use.
type Account struct {
	User        string            `toml:"user" doc:"Account of the processes: \"NAME\", \"NAME:GROUP\", or numbers. The host must run as root then. HOME, USER and LOGNAME are set to it. Empty: the host's."`
	Umask       string            `toml:"umask" doc:"File mode mask in octal, as \"027\". Empty: the host's."`
	Rlimits     map[string]string `toml:"rlimits" doc:"Resource limits: nofile = \"65536\", core = \"0:unlimited\" (soft:hard), as = \"4GiB\". Names are those of setrlimit(2) in small letters."`
	OOMScoreAdj int               `toml:"oom_score_adj" default:"0" min:"-1000" doc:"Added to the score by which the kernel chooses what it kills for want of memory: -1000 to 1000, higher is sooner (Linux). 0: the host's."`
}

// Care is when a worker is started again, replaced, or given up.
type Care struct {
	FreezeAfter       int      `toml:"freeze_after" default:"10" min:"0" doc:"Failed boots, or deaths within 5 seconds of being ready, after which a worker is not started again by itself. A boot that succeeds forgets the first; serving forgets half of the second every 15 seconds, all after 60. 0: never."`
	MaxRequests       int      `toml:"max_requests" default:"0" min:"0" doc:"A worker that has answered so many requests is replaced. 0: never."`
	MaxRequestsJitter int      `toml:"max_requests_jitter" default:"0" min:"0" doc:"Each worker's max_requests is raised by a random number up to this, so that they are not replaced together."`
	MaxAge            Duration `toml:"max_age" default:"0" min:"0" doc:"A worker that has served so long is replaced. 0: never."`
	MaxAgeJitter      Duration `toml:"max_age_jitter" default:"0" min:"0" doc:"Each worker's max_age is raised by a random time up to this."`
	MemorySoft        Size     `toml:"memory_soft" default:"0" min:"0" doc:"A worker with more resident memory than this, in memory_samples looks of a second one after the other, is replaced (Linux). 0: none."`
	MemorySamples     int      `toml:"memory_samples" default:"5" min:"1" doc:"See memory_soft."`
	MemoryHard        Size     `toml:"memory_hard" default:"0" min:"0" doc:"A worker with more resident memory than this is killed at once and started again (Linux). 0: none."`
	HangTimeout       Duration `toml:"hang_timeout" default:"120s" min:"0" doc:"A worker in which Python (a deadlock, or C code that keeps the GIL), or the event loop (blocking code in a coroutine), has not run for so long prints its stacks, is killed and started again. 0: never."`
	SlowRequest       Duration `toml:"slow_request" default:"0" min:"0" doc:"A request that the application has not begun to answer after so long is logged, and its worker prints the stacks of its threads. 0: never."`
	OutputLimit       int      `toml:"output_limit" default:"2000" min:"0" doc:"Lines a second that a worker may print; five seconds' worth may come at once. What is over is counted and suppressed. 0: no limit."`
	Account
}

// Limit is a resource limit of a process.
type Limit struct {
	Name       string
	Soft, Hard uint64 // [NoLimit]: none
}

// NoLimit is the value of a limit that is none.
const NoLimit = ^uint64(0)

// Limits gives the account's resource limits in the order of their names.
func (a *Account) Limits() ([]Limit, error) {
	var all []Limit
	for name, text := range a.Rlimits {
		soft, hard, both := strings.Cut(text, ":")
		l := Limit{Name: name}
		var err error
		if l.Soft, err = parseLimit(soft); err != nil {
			return nil, fmt.Errorf("rlimits.%s: %w", name, err)
		}
		if l.Hard = l.Soft; both {
			if l.Hard, err = parseLimit(hard); err != nil {
				return nil, fmt.Errorf("rlimits.%s: %w", name, err)
			}
		}
		if l.Soft > l.Hard {
			return nil, fmt.Errorf("rlimits.%s: the soft limit %q is above the hard one %q", name, soft, hard)
		}
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b Limit) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func parseLimit(text string) (uint64, error) {
	if text == "unlimited" {
		return NoLimit, nil
	}
	if n, err := strconv.ParseUint(text, 10, 64); err == nil {
		return n, nil
	}
	var size Size
	if err := size.UnmarshalText([]byte(text)); err != nil {
		return 0, fmt.Errorf("%q must be a number, a size such as \"4GiB\", or \"unlimited\", or two of them as soft:hard", text)
	}
	return uint64(size.Bytes()), nil
}

// Mask gives the account's umask; nil when it sets none.
func (a *Account) Mask() (*int, error) {
	if a.Umask == "" {
		return nil, nil //nolint:nilnil // none is set, which is no error
	}
	n, err := strconv.ParseInt(a.Umask, 8, 32)
	if err != nil || n < 0 || n > 0o777 {
		return nil, fmt.Errorf("umask %q must be three octal digits, as \"027\"", a.Umask)
	}
	mask := int(n)
	return &mask, nil
}

// UserAndGroup takes user apart.
func (a *Account) UserAndGroup() (user, group string) {
	user, group, _ = strings.Cut(a.User, ":")
	return user, group
}

// checkAccount looks for what the start of a process would fail at.
func (r *resolver) checkAccount(a *Account, path, shown string) {
	if _, err := a.Limits(); err != nil {
		r.wrong(path+".rlimits", shown+".rlimits", nil, "%s", err)
	}
	if _, err := a.Mask(); err != nil {
		r.wrong(path+".umask", shown+".umask", a.Umask, "must be three octal digits, as \"027\"")
	}
	if a.OOMScoreAdj > 1000 {
		r.wrong(path+".oom_score_adj", shown+".oom_score_adj", a.OOMScoreAdj, "must be between -1000 and 1000")
	}
}

// checkCare looks for settings of a group that contradict each other.
func (r *resolver) checkCare(c *Care, path, shown string) {
	r.checkAccount(&c.Account, path, shown)
	if c.MemoryHard > 0 && c.MemorySoft > c.MemoryHard {
		r.wrong(path+".memory_soft", shown+".memory_soft", c.MemorySoft.String(), "is above memory_hard %s", c.MemoryHard.String())
	}
}
