package http1

import "sync/atomic"

// A connection has two words of state, one for its reading and one for its writing
// side, each written by the one goroutine that uses the side and looked at by the
// sweeper. They replace timers: a phase is stamped with the tick at which it began,
// and a word that the sweeper finds too old is flagged by compare-and-swap, so that
// either the side moved on in time or it learns that it did not.
type phase uint8

// Phases of the reading side.
const (
	reading   phase = iota // waiting for the first byte of a request: Limits.KeepAlive
	readHead               // inside a head: Limits.HeadTimeout, in total
	readBusy               // an exchange runs and nobody reads: no limit, the client is watched
	readBody               // waiting for bytes of the body: Limits.ReadIdle
	readDrain              // discarding what nobody wants: drainTime, in total
	readOver               // never again
)

// Phases of the writing side.
const (
	writeQuiet phase = iota
	writing          // waiting for the client to take bytes: Limits.WriteIdle
)

// word packs phase (4 bits), flags (4), the number of the exchange (16) and the
// tick at which the phase began (40).
type word uint64

const (
	expiredFlag word = 1 << 4 // the sweeper ended the wait
	watchedFlag word = 1 << 5 // a watch has the reading side
	phaseMask   word = 0xf
	numberShift      = 8
	numberMask  word = 0xffff << numberShift
	tickShift        = 24
)

func (w word) phase() phase   { return phase(w & phaseMask) }
func (w word) expired() bool  { return w&expiredFlag != 0 }
func (w word) watched() bool  { return w&watchedFlag != 0 }
func (w word) number() uint16 { return uint16(w >> numberShift) }
func (w word) tick() int64    { return int64(w >> tickShift) }

// side is one of the two words.
type side struct{ v atomic.Uint64 }

func (s *side) load() word { return word(s.v.Load()) }

// enter begins a phase. It takes the expired flag down and gives the old word,
// which tells whether it was up.
func (s *side) enter(p phase, tick int64) word {
	for {
		old := s.load()
		next := word(p) | old&(watchedFlag|numberMask) | word(tick)<<tickShift
		if s.v.CompareAndSwap(uint64(old), uint64(next)) {
			return old
		}
	}
}

// begin is enter(readBusy) for the next exchange.
func (s *side) begin(tick int64) word {
	for {
		old := s.load()
		next := word(readBusy) | (old+1<<numberShift)&numberMask | old&watchedFlag | word(tick)<<tickShift
		if s.v.CompareAndSwap(uint64(old), uint64(next)) {
			return old
		}
	}
}

// flag raises a flag on exactly this word; false when the side has moved on.
func (s *side) flag(old, flag word) bool {
	return s.v.CompareAndSwap(uint64(old), uint64(old|flag))
}

// unwatched takes the watched flag down.
func (s *side) unwatched() { s.v.And(^uint64(watchedFlag)) }
