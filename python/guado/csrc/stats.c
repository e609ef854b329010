/* What a worker tells of itself: how long its threads waited for the GIL, and how late
 * its event loop came. Before: read.c and loop.c see it happen; after: send.c writes
 * STATS. Not here: what one exchange took, which its answer's frames say (answer.c).
 *
 * No timer: the host's PING is the heartbeat. Its payload is the host's clock, which is
 * the worker's too, so that a loop that was late to read it cannot hide that.
 */
#include <inttypes.h>
#include <stdio.h>

#include "internal.h"

/* Holds the GIL, so that pool threads do not add at once; the sender only reads. */
void gd_stats_gil(const gd_stream *s) {
    gd_link *l = s->link;
    int64_t us = gd_now_us() - s->taken_us;
    atomic_fetch_add_explicit(&l->gil_waits, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&l->gil_wait_us, us > 0 ? (uint64_t)us : 0, memory_order_relaxed);
}

/* A worker without a loop answers at once. One with a loop answers when the loop has
 * come, and at the next PING when it has not. */
void gd_stats_ping(gd_link *l, int64_t sent_us) {
    bool loop = l->mode == GD_MODE_LOOP || l->mode == GD_MODE_MIXED;
    if (!loop || l->beat_us)
        gd_due(&l->zero, GD_DUE_STATS);
    if (!loop)
        return;
    if (!l->beat_us)
        l->beat_us = sent_us > 0 ? sent_us : gd_now_us();
    gd_loop_ring(l);
}

void gd_stats_loop(gd_link *l) {
    if (!l->beat_us)
        return;
    int64_t us = gd_now_us() - l->beat_us;
    l->beat_us = 0;
    l->loop_lag_us = us > 0 ? us : 0;
    gd_due(&l->zero, GD_DUE_STATS);
}

/* The heartbeat of Python: the caller has just got the GIL. */
void gd_stats_python(gd_link *l) {
    atomic_store_explicit(&l->python_us, gd_now_us(), memory_order_relaxed);
}

size_t gd_stats_text(const gd_link *l, char *to, size_t room) {
    int64_t lag = l->beat_us ? gd_now_us() - l->beat_us : l->loop_lag_us;
    int64_t ran = atomic_load_explicit(&l->python_us, memory_order_relaxed);
    int64_t still = ran ? gd_now_us() - ran : 0;
    int n = snprintf(to, room,
                     "{\"gil_waits\":%" PRIu64 ",\"gil_wait_us\":%" PRIu64
                     ",\"loop_lag_us\":%" PRId64 ",\"python_still_us\":%" PRId64 "}",
                     atomic_load_explicit(&l->gil_waits, memory_order_relaxed),
                     atomic_load_explicit(&l->gil_wait_us, memory_order_relaxed), lag, still);
    return n > 0 && (size_t)n < room ? (size_t)n : 0;
}
