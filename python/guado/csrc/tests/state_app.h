/* State of stores in stress.c: commits with their answers and without, sealed under one lock
 * by many threads; and what the host sends of stores, which a thread takes.
 */
#ifndef GUADO_TEST_STATE_APP_H
#define GUADO_TEST_STATE_APP_H

#include "host.h"

uint8_t stress_byte(uint64_t i);

/* The application's side. A complete answer of n bytes that goes with a state. */
void state_reply(gd_stream *s, size_t n, int wait);
/* Threads: one seals states that belong to no answer, until state_stop; one takes what the
 * host sends, until state_end. */
void *state_loose(void *link);
void *state_taker(void *link);
void state_stop(void);
void state_end(gd_link *l);

/* The host's side. False: something is wrong with a STATE, or with a COMMIT that must be, or
 * must not be, behind one. */
bool state_came(const host_frame *f);
bool state_commit_came(uint32_t stream, bool with);
/* Goes on sending what stores the worker gets. */
void state_send(host *h, unsigned *seed);
/* All that was sent, here and there, has come. */
bool state_through(host *h);
unsigned long state_count(void);

#endif
