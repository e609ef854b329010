package kill

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// history is what clients did to registers, and what they were told.
type history struct {
	start time.Time

	mu   sync.Mutex // guards the rest
	keys map[string]*keyHistory
}

type keyHistory struct {
	operations []porcupine.Operation
}

// mostOperations bounds the history of one key: the check takes time that grows fast.
const mostOperations = 200

// operation is one on a register; a write's value is used once.
type operation struct {
	write bool
	value int
}

// unknown is the outcome of an operation whose answer never came.
const unknown = -1

func newHistory() *history { return &history{start: time.Now(), keys: map[string]*keyHistory{}} }

func (h *history) now() int64 { return time.Since(h.start).Nanoseconds() }

// takes reports whether one more operation on a key can be told.
func (h *history) takes(key string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.keys[key]
	return k == nil || len(k.operations) < mostOperations-8 // some are under way
}

// tell adds an operation that began at call. A read without an answer says nothing; a write
// without one may have been done at any time from its call on, or never.
func (h *history) tell(client int, key string, op operation, call int64, outcome int) {
	end := h.now()
	if outcome == unknown {
		if !op.write {
			return
		}
		end = never
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.keys[key]
	if k == nil {
		k = &keyHistory{}
		h.keys[key] = k
	}
	k.operations = append(k.operations, porcupine.Operation{ClientId: client, Input: op, Call: call, Output: outcome, Return: end})
}

// register is a value that is read and written, whole.
var register = porcupine.Model{
	Init: func() any { return 0 },
	Step: func(state, input, output any) (bool, any) {
		op := input.(operation)
		if op.write {
			return true, op.value
		}
		return output.(int) == state.(int), state
	},
	DescribeOperation: func(input, output any) string {
		op := input.(operation)
		if op.write {
			return fmt.Sprintf("write %d → %d", op.value, output)
		}
		return fmt.Sprintf("read → %d", output)
	},
}

// never is when an operation ends whose answer did not come.
const never = 1<<62 - 1

// settled takes off what makes the check slow and says nothing. A write without an answer that
// nobody has read may as well have been done behind all others; one that was read was done
// before that read had its answer.
func settled(all []porcupine.Operation) []porcupine.Operation {
	seen := map[int]int64{}
	for _, o := range all {
		if !o.Input.(operation).write {
			value := o.Output.(int)
			if first, is := seen[value]; !is || o.Return < first {
				seen[value] = o.Return
			}
		}
	}
	var out []porcupine.Operation
	for _, o := range all {
		if o.Return == never {
			first, is := seen[o.Input.(operation).value]
			if !is {
				continue
			}
			o.Return = max(first, o.Call)
		}
		out = append(out, o)
	}
	return out
}

// check holds the histories of all keys against a register.
func (h *history) check(limit time.Duration) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key, k := range h.keys {
		if len(k.operations) > mostOperations {
			return fmt.Errorf("%d operations in the history of %s, the most are %d", len(k.operations), key, mostOperations)
		}
		if verdict := porcupine.CheckOperationsTimeout(register, settled(k.operations), limit); verdict != porcupine.Ok {
			lines := ""
			for _, o := range k.operations {
				lines += fmt.Sprintf("\n  client %d, %d to %d µs: %s", o.ClientId, o.Call/1000, o.Return/1000, register.DescribeOperation(o.Input, o.Output))
			}
			return fmt.Errorf("the history of %s is %s:%s", key, verdict, lines)
		}
	}
	return nil
}

func (h *history) size() (keys, operations int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range h.keys {
		operations += len(k.operations)
	}
	return len(h.keys), operations
}

// journal is one client's log in a store: what it appended, in order, and what it was told.
type journal struct {
	appended []int
	told     map[int]bool // the answer came
	heard    []int        // over the page's session, of those that were pushed
}

func (j *journal) append(told bool) {
	if j.told == nil {
		j.told = map[int]bool{}
	}
	n := j.next()
	j.appended = append(j.appended, n)
	j.told[n] = told
}

func (j *journal) next() int { return len(j.appended) + 1 }

// check holds what the store has in the end against what the client was told: all of that
// is there, everything once, and in order.
func (j *journal) check(found []int) error {
	if !slices.IsSorted(found) || len(slices.Compact(slices.Clone(found))) != len(found) {
		return fmt.Errorf("not each once and in order: %v", found)
	}
	for n, told := range j.told {
		if told && !slices.Contains(found, n) {
			return fmt.Errorf("%d was told and is lost; there is %v", n, found)
		}
	}
	if !slices.IsSorted(j.heard) || len(slices.Compact(slices.Clone(j.heard))) != len(j.heard) {
		return fmt.Errorf("not each once and in order: %v was pushed", j.heard)
	}
	for _, n := range j.heard {
		if !slices.Contains(found, n) {
			return fmt.Errorf("%d was pushed and is lost; there is %v", n, found)
		}
	}
	if len(found) > 0 && found[len(found)-1] > len(j.appended) {
		return fmt.Errorf("%d was never written", found[len(found)-1])
	}
	return nil
}
