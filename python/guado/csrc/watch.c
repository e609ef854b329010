/* The watch thread: the reader of last resort. While all threads are inside the
 * application, or the loop does not come back, it reads within a tick, answers PING,
 * files CANCEL, wakes a pool thread when nothing moves, tells of a GIL that is held; it waits for
 * room in sockets, and ends the process when the host is gone. It never touches Python or the GIL.
 *
 * It parks when there is nothing to do: the host calls it (shared memory), or the
 * thread that leaves the wire unread does (socket).
 */
#include <poll.h>
#include <string.h>

#include "internal.h"

typedef struct {
    uint64_t taken, drains; /* as of the last tick */
    unsigned idle;          /* ticks without anything to do */
} view;

void gd_watch_unpark(gd_link *l) {
    if (atomic_load_explicit(l->parked, memory_order_relaxed))
        l->todo |= GD_TODO_WATCH;
    else if (l->watch_sleeps)
        l->todo |= GD_TODO_KICK;
}

void gd_watch_ring(gd_link *l) {
    uint32_t one = 1;
    if (atomic_compare_exchange_strong(l->parked, &one, 0))
        gd_event_ring(&l->watch_bell);
}

/* Sleeps a tick or until called; notices the host's end and room in the sockets. */
static void rest(gd_link *l, int64_t us) {
    struct pollfd p[3] = {{l->control, POLLIN, 0}, {l->watch_bell.r, POLLIN, 0}};
    unsigned n = 2;
    gd_lock(l);
    if (l->fds_blocked)
        p[0].events |= POLLOUT;
    short wanted = 0;
    if (!l->shm.map && l->sock.blocked)
        wanted |= POLLOUT;
    /* The host cannot call a parked watch thread here, and nobody else may look at the
     * socket: all threads are inside the application, or the loop is and stays there. */
    if (!l->shm.map && us < 0 && !l->claimed)
        wanted |= POLLIN;
    if (wanted)
        p[n++] = (struct pollfd){l->sock.fd, wanted, 0};
    gd_unlock(l);
    if (gd_poll(p, n, us) <= 0)
        return;
    if (p[1].revents)
        gd_event_clear(&l->watch_bell);
    if (p[0].revents & ~POLLOUT && gd_control_gone(l))
        gd_host_gone(l);
    if (p[0].revents & POLLOUT)
        gd_control_flush(l);
    if (n > 2 && p[2].revents)
        l->wire->flush(l);
}

static bool take_claim(gd_link *l) { /* [mu] */
    if (l->claimed || l->closed)
        return false;
    return l->claimed = true;
}

static void give_claim(gd_link *l) { /* [mu] */
    l->claimed = false;
    gd_signal_reader(l);
    if (l->mode == GD_MODE_LOOP)
        gd_loop_ring(l); /* nobody is armed: the loop is, when it has come */
}

/* [mu] A whole tick passed and no queued request was taken: a thread more. */
static void wake_stalled(gd_link *l, view *v) {
    if (l->queue_head && l->idle.head && l->taken == v->taken) {
        l->stalled = true;
        l->stall_mark = l->finished;
        if (!l->waking)
            gd_wake_idle(l);
    }
    v->taken = l->taken;
}

static bool blocked(const gd_link *l) { /* [mu] somebody waits for room in a socket */
    return l->fds_blocked || (!l->shm.map && l->sock.blocked);
}

/* One tick beside threads or a loop that read themselves. */
static bool tick(gd_link *l, view *v) {
    bool busy = false;
    gd_lock(l);
    bool loop = l->mode == GD_MODE_LOOP;
    bool late = !loop || l->loop_drains == v->drains; /* the loop had its chance */
    v->drains = l->loop_drains;
    if (!l->claimed && !l->closed) {
        gd_unlock(l);
        bool unread = l->wire->unread(l);
        gd_lock(l);
        busy = unread;
        if (unread && late && take_claim(l)) {
            gd_unlock(l);
            gd_drain(l);
            gd_lock(l);
            give_claim(l);
        }
    }
    gd_pump(l); /* room may have come while nobody reads */
    wake_stalled(l, v);
    busy = busy || l->ninterrupts || (l->queue_head && l->idle.head) || l->ready_head || blocked(l);
    gd_unlock(l);
    return busy;
}

/* Sets the parked word, looks once more, sleeps. */
static void park(gd_link *l, view *v) {
    atomic_store(l->parked, 1);
    gd_lock(l);
    bool busy = l->stop || l->ninterrupts || (!l->claimed && l->wire->unread(l)) || l->ready_head ||
                blocked(l) || (l->queue_head && l->idle.head) || l->mode == GD_MODE_BOOT ||
                l->mode == GD_MODE_MIXED;
    gd_unlock(l);
    if (!busy)
        rest(l, -1);
    atomic_store(l->parked, 0);
    gd_lock(l);
    v->taken = l->taken;
    v->drains = l->loop_drains;
    gd_unlock(l);
    v->idle = 0;
}

/* Boot and mixed mode: the watch thread is the reader. */
static void lead(gd_link *l, view *v) { /* [mu] on entry and exit, claim taken */
    while (!l->stop && !l->closed && (l->mode == GD_MODE_BOOT || l->mode == GD_MODE_MIXED)) {
        gd_unlock(l);
        int frames = gd_drain(l);
        gd_lock(l);
        if (frames)
            continue;
        bool ticking = (l->queue_head && l->idle.head) || blocked(l) || l->ninterrupts;
        l->watch_sleeps = !ticking;
        v->taken = l->taken;
        gd_unlock(l);
        gd_interrupt_look(l);
        if (ticking)
            rest(l, GD_TICK_US);
        else
            l->wire->sleep(l, -1);
        gd_lock(l);
        l->watch_sleeps = false;
        if (ticking)
            wake_stalled(l, v);
    }
    give_claim(l);
}

static void *run(void *arg) {
    gd_link *l = arg;
    view v = {0};
    for (;;) {
        gd_lock(l);
        bool stop = l->stop || l->closed;
        bool reader = l->mode == GD_MODE_BOOT || l->mode == GD_MODE_MIXED;
        if (!stop && reader && take_claim(l)) {
            lead(l, &v);
            gd_unlock(l);
            continue;
        }
        int64_t tick_us = l->mode == GD_MODE_LOOP ? 2 * GD_TICK_US : GD_TICK_US;
        gd_unlock(l);
        if (stop)
            return NULL;
        gd_interrupt_look(l);
        v.idle = tick(l, &v) ? 0 : v.idle + 1;
        if (v.idle > GD_IDLE_TICKS)
            park(l, &v);
        rest(l, tick_us);
    }
}

int gd_watch_start(gd_link *l) {
    int rc = gd_thread_start(&l->watch, run, l);
    gd_lock(l);
    l->watching = rc == GD_OK;
    gd_unlock(l);
    return rc;
}

void gd_watch_stop(gd_link *l) {
    gd_lock(l);
    bool watching = l->watching;
    l->stop = true;
    l->watching = false;
    if (l->claimed)
        l->todo |= GD_TODO_KICK;
    gd_unlock(l);
    if (!watching)
        return;
    gd_event_ring(&l->watch_bell);
    pthread_join(l->watch, NULL);
}
