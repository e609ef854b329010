/* What stress.c and loop_app.c share. */
#ifndef GUADO_TEST_LOOP_APP_H
#define GUADO_TEST_LOOP_APP_H

#include "../internal.h"

/* A complete answer of n bytes; `wait` 0: ended with BUSY and DONE. */
void stress_reply(gd_stream *s, size_t n, int wait);
void *stress_loop(void *link);
/* A thread beside the loop that writes to the host's log, waiting for room. */
void *stress_log(void *link);

#endif
