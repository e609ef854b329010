/* Who reads: leader and followers. A thread that waits for anything takes the claim
 * if it is free and reads for all; the others sleep until something is filed for
 * them. Before: stream.c files; after: wsgi and asgi take. The watch thread is the
 * reader of last resort (watch.c), the event loop its own (loop.c).
 *
 * Followers are not woken into a taken GIL: a finishing thread takes the next queued
 * request itself, and idle threads are woken only when nobody is inside the
 * application, or by the watch thread when a whole tick passed without progress.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "internal.h"

int gd_drain(gd_link *l) {
    int count = 0, rc = l->wire->look(l);
    gd_frame_head h;
    while (rc >= 0 && (rc = l->wire->peek(l, &h)) == 1) {
        rc = gd_file_frame(l, &h);
        if (rc < 0)
            break;
        l->wire->advance(l, &h);
        count++;
    }
    l->wire->drained(l);
    if (rc == GD_CLOSED) {
        gd_host_gone(l);
        return rc;
    }
    if (rc < 0) {
        gd_fail(l, rc);
        return rc;
    }
    gd_lock(l);
    gd_pump(l);
    gd_unlock(l);
    return count;
}

/* ---- waiting ---------------------------------------------------------------- */

static void list_add(gd_waiters *q, gd_waiter *w) { /* last in, first out: warm caches */
    w->prev = NULL;
    w->next = q->head;
    if (q->head)
        q->head->prev = w;
    else
        q->tail = w;
    q->head = w;
}

static void list_remove(gd_waiters *q, gd_waiter *w) {
    if (w->prev)
        w->prev->next = w->next;
    else
        q->head = w->next;
    if (w->next)
        w->next->prev = w->prev;
    else
        q->tail = w->prev;
}

void gd_signal(gd_waiters *list, gd_waiter *w) {
    list_remove(list, w);
    w->signalled = true;
    pthread_cond_signal(&w->cond);
}

void gd_signal_all(gd_link *l) {
    while (l->idle.head)
        gd_signal(&l->idle, l->idle.head);
    while (l->needy.head)
        gd_signal(&l->needy, l->needy.head);
    if (l->claimed)
        l->todo |= GD_TODO_KICK;
}

void gd_wait_begin(gd_waiter *w, gd_stream *s) {
    memset(w, 0, sizeof *w);
    w->stream = s;
    pthread_cond_init(&w->cond, NULL);
    if (s)
        s->waiters++;
}

/* Beside a loop that watches TO_WORKER only the loop's own thread may sleep on it: the
 * loop empties its counter, and another sleeper would miss the wake-up. */
static bool may_read(gd_link *l) {
    if (l->taking_over)
        return false;
    return l->mode != GD_MODE_LOOP ||
           (l->loop_known && pthread_equal(l->loop_thread, pthread_self()));
}

static void release_claim(gd_link *l);

void gd_wait_step(gd_link *l, gd_waiter *w, int64_t timeout_ms) {
    if (w->leader && !may_read(l)) { /* since it began to */
        w->leader = false;
        release_claim(l);
    }
    if (!l->claimed && may_read(l)) {
        l->claimed = w->leader = true;
        l->idle_leader = !w->stream;
    }
    if (w->leader) {
        l->leader_stream = w->stream;
        l->leader_thread = pthread_self();
        l->loop_leads = l->loop_known && pthread_equal(l->loop_thread, pthread_self());
        gd_unlock(l);
        if (gd_drain(l) == 0) {
            l->wire->sleep(l, timeout_ms);
            gd_drain(l);
        }
        gd_lock(l);
        l->leader_stream = NULL;
        l->loop_leads = false;
        return;
    }
    gd_waiters *list = w->stream ? &l->needy : &l->idle;
    w->signalled = false;
    list_add(list, w);
    if (l->mode == GD_MODE_LOOP)
        gd_watch_unpark(l); /* stands in when the loop does not come */
    /* What is noted so far must not wait until this thread wakes. */
    gd_settle(l);
    struct timespec end;
    if (timeout_ms >= 0) {
        clock_gettime(CLOCK_REALTIME, &end);
        int64_t ns = end.tv_nsec + timeout_ms % 1000 * 1000000;
        end.tv_sec += timeout_ms / 1000 + ns / 1000000000;
        end.tv_nsec = ns % 1000000000;
    }
    while (!w->signalled) {
        if (timeout_ms < 0) {
            pthread_cond_wait(&w->cond, &l->mu);
        } else if (pthread_cond_timedwait(&w->cond, &l->mu, &end) == ETIMEDOUT && !w->signalled) {
            list_remove(list, w);
            w->signalled = true;
        }
    }
}

bool gd_signal_reader(gd_link *l) {
    bool any = l->needy.head != NULL;
    do {
        if (l->needy.head)
            gd_signal(&l->needy, l->needy.head);
    } while (l->needy.head && (l->mode == GD_MODE_LOOP || l->taking_over)); /* one may read */
    return any;
}

/* The claim goes to a thread that waits for bytes of its stream: it sleeps without
 * the GIL, so waking it disturbs nobody. Idle pool threads are left asleep. In loop
 * mode the loop must be armed again. */
static void release_claim(gd_link *l) {
    l->claimed = l->idle_leader = false;
    if (gd_signal_reader(l) && l->mode != GD_MODE_LOOP)
        return;
    if (l->mode == GD_MODE_LOOP)
        gd_loop_ring(l);
    else if (l->mode != GD_MODE_THREADS || !l->shm.slots)
        gd_watch_unpark(l); /* it reads itself, or the host cannot call it */
    else if (atomic_load(l->parked) && l->wire->unread(l))
        gd_watch_unpark(l); /* the host counted on this thread, and it parked just now */
}

void gd_wait_end(gd_link *l, gd_waiter *w) {
    if (w->stream)
        w->stream->waiters--;
    pthread_cond_destroy(&w->cond);
    if (w->leader)
        release_claim(l);
    w->leader = false;
}

/* ---- pool threads ------------------------------------------------------------ */

void gd_wake_idle(gd_link *l) {
    l->waking++;
    l->idle.head->woken = true;
    gd_signal(&l->idle, l->idle.head);
}

void gd_nudge(gd_link *l) {
    if (!l->queue_head)
        return;
    if (l->idle_leader)
        return; /* it reads this very frame and takes it */
    if (l->idle.head && l->running + l->waking == 0) {
        gd_wake_idle(l);
    } else {
        gd_watch_unpark(l);
    }
}

/* Takes the oldest request that was not revoked. */
static gd_stream *take_queued(gd_link *l) {
    while (l->queue_head) {
        gd_stream *s = l->queue_head;
        l->queue_head = s->next;
        if (!l->queue_head)
            l->queue_tail = NULL;
        s->queued = false;
        int rc = gd_stream_start(s);
        if (rc == GD_OK && s->interrupted) { /* nobody waits for it any more */
            s->ended = s->over = s->released = true;
            gd_due(s, GD_DUE_ABORT);
            continue;
        }
        if (rc == GD_OK) {
            l->taken++;
            l->running++;
            return s;
        }
        s->released = true;
        gd_stream_recycle(s);
    }
    return NULL;
}

/* Slow applications give the GIL up, as a rule: then the thread that leaves wakes the
 * next one at once, to read or to serve. Otherwise what is left waits for the thread
 * that finishes next; when the watch thread has found that none does, each woken thread
 * wakes the next one while that lasts. */
static void pass_on(gd_link *l) {
    bool stalled = l->stalled && l->stall_mark == l->finished;
    bool slow = l->service_us >= GD_SLOW_US && !l->claimed && !l->waking;
    if (l->idle.head && (slow || (l->queue_head && stalled))) {
        gd_wake_idle(l);
    } else if (l->queue_head) {
        l->stalled = false;
        gd_watch_unpark(l);
    }
}

static int no_more(gd_link *l) {
    if (l->closed)
        return l->closed;
    return l->draining && !l->queue_head ? GD_DRAINED : GD_OK;
}

int gd_next_wsgi(gd_link *l, gd_stream **out) {
    if (atomic_load(&l->forked))
        return GD_CLOSED;
    gd_waiter w;
    gd_wait_begin(&w, NULL);
    gd_lock(l);
    int rc;
    while ((rc = no_more(l)) == GD_OK) {
        *out = take_queued(l);
        if (w.woken)
            l->waking--;
        w.woken = false;
        if (*out)
            break;
        gd_wait_step(l, &w, -1);
    }
    if (w.woken)
        l->waking--;
    gd_wait_end(l, &w);
    pass_on(l);
    gd_unlock(l);
    return rc;
}
