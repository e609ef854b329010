package config

import "time"

// What a host needs beside what it is told to wait for.
const (
	// startMargin is for finding interpreters, and for compiling the extension at a first start.
	startMargin = 30 * time.Second
	// stopMargin is for answers that say "stopping", signals that are ignored, and the
	// last traces.
	stopMargin = 10 * time.Second
)

// StartTime is how long a start takes at most until the server is said to be ready:
// workers boot side by side, and programs that hold some of them are not waited for
// longer than for a worker.
func (c *Config) StartTime() time.Duration { return c.longestBoot() + startMargin }

func (c *Config) longestBoot() time.Duration {
	var most Duration
	for i := range c.Groups {
		most = max(most, c.Groups[i].BootTimeout)
	}
	for i := range c.Executors {
		most = max(most, c.Executors[i].BootTimeout)
	}
	return most.Std()
}

// StopTime is how long a stop takes at most: requests, then workers, then programs, each
// after those that come after it.
func (c *Config) StopTime() time.Duration {
	s := &c.Server
	stop := c.Health.DrainDelay + s.GracefulTimeout + s.ExitTimeout
	return stop.Std() + c.programsStop() + stopMargin
}

// programsStop is the slowest chain of programs that end one after the other.
func (c *Config) programsStop() time.Duration {
	longest := map[string]time.Duration{}
	// A name without an entry yet is 0: a circle, which Resolve refuses, ends here, too.
	var from func(p *Program) time.Duration
	from = func(p *Program) time.Duration {
		if known, ok := longest[p.Name]; ok {
			return known
		}
		longest[p.Name] = 0
		var before time.Duration
		for _, name := range p.After {
			if other := c.Program(name); other != nil {
				before = max(before, from(other))
			}
		}
		longest[p.Name] = before + p.StopTimeout.Std()
		return longest[p.Name]
	}
	var most time.Duration
	for i := range c.Programs {
		most = max(most, from(&c.Programs[i]))
	}
	return most
}

// ReloadTime is how long a reload takes at most when each worker has to be replaced, one
// after the other in each group.
func (c *Config) ReloadTime() time.Duration {
	total := c.StartTime() + c.Server.GracefulTimeout.Std() + c.Server.ExitTimeout.Std() + c.programsStop()
	for i := range c.Groups {
		g := &c.Groups[i]
		total += time.Duration(g.Workers) * (g.BootTimeout + g.DrainMax + c.Server.ExitTimeout).Std()
	}
	for i := range c.Executors {
		g := c.ExecutorGroup(&c.Executors[i])
		total += time.Duration(g.Workers) * (g.BootTimeout + g.DrainMax + c.Server.ExitTimeout).Std()
	}
	return total
}
