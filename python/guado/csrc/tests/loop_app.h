/* What stress.c and loop_app.c share. */
#ifndef GUADO_TEST_LOOP_APP_H
#define GUADO_TEST_LOOP_APP_H

#include "../internal.h"

/* A complete answer of n bytes; `wait` 0: ended with BUSY and DONE. */
void stress_reply(gd_stream *s, size_t n, int wait);
void *stress_loop(void *link);

#endif
