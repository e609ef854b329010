/* The event loop's end: its thread is the ordinary reader, woken by descriptors that
 * the loop watches. Before: stream.c files; after: asgi runs the application.
 * Not here: who reads when the loop does not (read.c, watch.c).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <unistd.h>

#include "internal.h"

enum { LOOKS = 8 }; /* before the loop's other callbacks get their turn */

/* In mixed mode the watch thread reads and the loop only hears from it: a second
 * sleeper on the same descriptor would wake, and take the GIL, for every frame. */
int gd_loop_fd(gd_link *l) {
    gd_lock(l);
    bool own = l->mode == GD_MODE_LOOP;
    gd_unlock(l);
    return !own ? l->loop_bell.r : l->shm.map ? l->shm.to_worker : l->sock.fd;
}

int gd_loop_wake_fd(gd_link *l) {
    gd_lock(l);
    bool own = l->mode == GD_MODE_LOOP;
    gd_unlock(l);
    return own ? l->loop_bell.r : -1;
}

void gd_loop_ring(gd_link *l) {
    if (l->loop_reading || l->loop_rung)
        return;
    if (l->mode != GD_MODE_LOOP && l->mode != GD_MODE_MIXED)
        return;
    l->loop_rung = true;
    /* Under the lock, so that mark and bell never disagree for the one who clears them. */
    gd_event_ring(&l->loop_bell);
}

/* Bells first, marks after: what is filed in between is found by the look that follows.
 * The counter of TO_WORKER is only worth a system call when somebody rang it. */
static void answer_bells(gd_link *l, bool rung, bool own) {
    if (rung) {
        gd_event_clear(&l->loop_bell);
        gd_lock(l);
        l->loop_rung = false;
        gd_unlock(l);
    }
    if (own && l->shm.map && !(l->loop_armed && gd_shm_armed(l)))
        gd_event_clear(&(gd_event){l->shm.to_worker, l->shm.to_worker});
    l->loop_armed = false;
}

int gd_loop_drain(gd_link *l) {
    if (atomic_load(&l->forked))
        return GD_CLOSED;
    gd_lock(l);
    bool rung = l->loop_rung, own = l->mode == GD_MODE_LOOP;
    bool claim = own && !l->claimed && !l->closed;
    l->loop_drains++;
    l->loop_thread = pthread_self();
    l->loop_known = true;
    l->claimed |= claim;
    l->loop_reading = claim;
    gd_unlock(l);
    answer_bells(l, rung, own);
    if (claim) {
        int looks = 0;
        bool armed = false;
        while (looks++ < LOOKS && gd_drain(l) >= 0 && !(armed = l->wire->arm(l)))
            ;
        l->loop_armed = armed;
        gd_lock(l);
        l->claimed = l->loop_reading = false;
        if (!armed)
            gd_loop_ring(l);
        if (!l->shm.slots && l->open)
            gd_watch_unpark(l); /* the host cannot call it on this transport */
        gd_unlock(l);
    }
    gd_lock(l);
    gd_stats_loop(l);
    int rc = l->closed;
    gd_unlock(l);
    return rc;
}

int gd_loop_request(gd_link *l, gd_stream **out) {
    if (atomic_load(&l->forked))
        return GD_CLOSED;
    gd_lock(l);
    gd_stream *s = l->loop_head;
    if (s) {
        l->loop_head = s->next;
        if (!l->loop_head)
            l->loop_tail = NULL;
        s->queued = false;
    }
    gd_unlock(l);
    *out = s;
    return s ? GD_OK : GD_AGAIN;
}

int gd_start(gd_stream *s) {
    gd_link *l = s->link;
    if (atomic_load(&l->forked))
        return GD_CLOSED;
    gd_lock(l);
    int rc = l->closed ? l->closed : gd_stream_start(s);
    gd_unlock(l);
    return rc;
}

int gd_loop_event(gd_link *l, gd_stream **out, int *events) {
    if (atomic_load(&l->forked))
        return GD_CLOSED;
    *out = NULL;
    gd_lock(l);
    while (l->event_head && !*out) {
        gd_stream *s = l->event_head;
        l->event_head = s->event_next;
        if (!l->event_head)
            l->event_tail = NULL;
        s->in_events = false;
        *events = (int)s->events;
        s->events = 0;
        if (s->released)
            gd_stream_recycle(s);
        else
            *out = s;
    }
    gd_unlock(l);
    return *out ? GD_OK : GD_AGAIN;
}
