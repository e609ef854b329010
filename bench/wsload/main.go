// Command wsload is the client of bench/ws.py: it opens WebSockets, plain ones or
// sessions of push, and measures one thing. Its results are lines of JSON; between two
// steps it waits for a line on its standard input, so that the caller can look at the
// server meanwhile.
// Not here: servers, rounds, tables (bench/ws.py).
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type options struct {
	addr    string
	path    string
	push    bool
	what    string
	n       int
	size    int
	seconds time.Duration
	times   int
}

// patience bounds every wait for a server.
const patience = time.Minute

func main() {
	var o options
	flag.StringVar(&o.addr, "addr", "", "host:port of the server")
	flag.StringVar(&o.path, "path", "/echo", "path of the WebSocket")
	flag.BoolVar(&o.push, "push", false, "open sessions of push instead")
	flag.StringVar(&o.what, "what", "echo", "idle, echo or broadcast")
	flag.IntVar(&o.n, "n", 64, "connections")
	flag.IntVar(&o.size, "size", 100, "bytes of a message")
	flag.DurationVar(&o.seconds, "for", 3*time.Second, "how long echo runs")
	flag.IntVar(&o.times, "times", 5, "broadcasts")
	flag.Parse()
	log.SetFlags(0)
	if err := run(&o); err != nil {
		log.Fatal("wsload: ", err)
	}
}

func run(o *options) error {
	todo, ok := map[string]func(*options, []*client) (any, error){"idle": idle, "echo": echo, "broadcast": broadcast}[o.what]
	if !ok {
		return fmt.Errorf("-what %s: must be idle, echo or broadcast", o.what)
	}
	clients, err := connectAll(o)
	defer func() {
		for _, c := range clients {
			_ = c.conn.Close() // the measurement is over
		}
	}()
	if err != nil {
		return err
	}
	if err := say(map[string]int{"ready": len(clients)}); err != nil {
		return err
	}
	if err := proceed(); err != nil {
		return err
	}
	result, err := todo(o, clients)
	if err != nil {
		return err
	}
	return say(result)
}

func say(v any) error { return json.NewEncoder(os.Stdout).Encode(v) }

var input = bufio.NewReader(os.Stdin)

// proceed waits for the caller.
func proceed() error {
	_, err := input.ReadString('\n')
	return err
}

// dialers is how many connections are opened at once.
const dialers = 16

func connectAll(o *options) ([]*client, error) {
	all := make([]*client, o.n)
	errs := make([]error, dialers)
	var next atomic.Int64
	var group sync.WaitGroup
	for d := range dialers {
		group.Go(func() {
			for errs[d] == nil {
				i := int(next.Add(1)) - 1
				if i >= o.n {
					return
				}
				all[i], errs[d] = dial(o)
			}
		})
	}
	group.Wait()
	clients := slices.DeleteFunc(all, func(c *client) bool { return c == nil })
	return clients, cmp.Or(errs...)
}

func idle(*options, []*client) (any, error) { return struct{}{}, nil }

// echo sends a message on each connection as soon as the one before has come back.
func echo(o *options, clients []*client) (any, error) {
	text := strings.Repeat("x", o.size)
	begin := time.Now()
	end := begin.Add(o.seconds)
	times := make([][]float64, len(clients))
	errs := make([]error, len(clients))
	var group sync.WaitGroup
	for i, c := range clients {
		group.Go(func() {
			if errs[i] = c.conn.SetDeadline(end.Add(patience)); errs[i] != nil {
				return
			}
			for errs[i] == nil {
				at := time.Now()
				if at.After(end) {
					return
				}
				if errs[i] = c.roundTrip(text); errs[i] == nil {
					times[i] = append(times[i], float64(time.Since(at).Microseconds()))
				}
			}
		})
	}
	group.Wait()
	took := time.Since(begin)
	if err := cmp.Or(errs...); err != nil {
		return nil, err
	}
	all := slices.Concat(times...)
	slices.Sort(all)
	return map[string]float64{
		"messages": float64(len(all)), "rate": float64(len(all)) / took.Seconds(),
		"p50": quantile(all, 0.5) / 1000, "p99": quantile(all, 0.99) / 1000,
	}, nil
}

func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// broadcast asks the server, over a connection that is open already, to send one message
// to all clients, and takes the time until the last one has it.
func broadcast(o *options, clients []*client) (any, error) {
	trigger, err := newTrigger(o)
	if err != nil {
		return nil, err
	}
	defer trigger.close()
	got := make(chan error, len(clients))
	var group sync.WaitGroup
	for _, c := range clients {
		group.Go(func() {
			for {
				err := c.message()
				got <- err
				if err != nil {
					return
				}
			}
		})
	}
	defer group.Wait()
	defer func() {
		for _, c := range clients {
			_ = c.conn.Close() // ends its reader
		}
	}()
	var ms []float64
	for range o.times {
		begin := time.Now()
		if err := trigger.send(); err != nil {
			return nil, err
		}
		timeout := time.After(patience)
		for i := range clients {
			select {
			case err := <-got:
				if err != nil {
					return nil, err
				}
			case <-timeout:
				return nil, fmt.Errorf("%d of %d clients got the broadcast within %v", i, len(clients), patience)
			}
		}
		ms = append(ms, float64(time.Since(begin).Microseconds())/1000)
		if err := trigger.answer(); err != nil {
			return nil, err
		}
		for _, c := range clients {
			if err := c.acknowledge(); err != nil {
				return nil, err
			}
		}
		time.Sleep(300 * time.Millisecond) // acknowledgements arrive, collectors rest
	}
	return map[string]any{"ms": ms}, nil
}
