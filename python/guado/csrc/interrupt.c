/* INTERRUPT: the deadline of a request has passed while the application has it.
 * Before: stream.c files the frame, without the GIL. After: the thread of
 * worker/interrupt.py, which holds the GIL and reaches the code that runs (wsgi_call.c,
 * asgi_exchange.c). Not here: anything of Python, but for one signal: while the GIL is
 * held by code that does not give it up, nobody else can say where that is.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* A thread that only computes gives the GIL up after 5 ms; so long it takes when the
 * machine is busy, too. */
enum { GIL_PATIENCE_MS = 2000 };

/* [mu] A request that nobody has begun needs no one to interrupt it. Without memory the
 * stream is cancelled all the same. */
void gd_interrupt_file(gd_stream *s) {
    gd_link *l = s->link;
    s->interrupted = true;
    if (!s->started || s->released)
        return;
    uint32_t *all = realloc(l->interrupts, (l->ninterrupts + 1) * sizeof *all);
    if (!all)
        return;
    l->interrupts = all;
    if (!l->ninterrupts) {
        l->interrupt_due = gd_now_ms() + GIL_PATIENCE_MS;
        l->interrupt_told = false;
    }
    all[l->ninterrupts++] = s->id;
    l->todo |= GD_TODO_INTERRUPT;
    gd_watch_unpark(l);
}

int gd_interrupt_wait(gd_link *l, int timeout_ms) {
    struct pollfd p = {l->interrupt_bell.r, POLLIN, 0};
    for (bool waited = false;; waited = true) {
        if (atomic_load(&l->forked))
            return GD_CLOSED;
        gd_lock(l);
        int rc = l->closed;
        bool any = l->ninterrupts > 0;
        gd_unlock(l);
        if (rc || any)
            return rc;
        if (waited)
            return GD_TIMEOUT;
        gd_poll(&p, 1, timeout_ms < 0 ? -1 : (int64_t)timeout_ms * 1000);
        gd_event_clear(&l->interrupt_bell);
    }
}

bool gd_interrupt_take(gd_link *l, uint32_t *stream) {
    gd_lock(l);
    bool any = l->ninterrupts > 0;
    if (any) {
        *stream = l->interrupts[0];
        l->ninterrupts--;
        memmove(l->interrupts, l->interrupts + 1, l->ninterrupts * sizeof *l->interrupts);
        l->interrupt_due = gd_now_ms() + GIL_PATIENCE_MS;
    }
    gd_unlock(l);
    return any;
}

bool gd_interrupted(const gd_stream *s) {
    gd_link *l = s->link;
    if (atomic_load(&l->forked))
        return false;
    gd_lock(l);
    bool interrupted = s->interrupted;
    gd_unlock(l);
    return interrupted;
}

void gd_interrupt_signal(gd_link *l, int number) {
    gd_lock(l);
    l->dump_signal = number;
    gd_unlock(l);
}

/* In this thread, which no system call of the application runs in: a signal for the
 * process could cut short just what is to be seen. Our threads take no signals else. */
static void dump_stacks(int number) {
    sigset_t one, before;
    sigemptyset(&one);
    sigaddset(&one, number);
    pthread_sigmask(SIG_UNBLOCK, &one, &before);
    pthread_kill(pthread_self(), number);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* The watch thread's: nobody could take the interrupt, because the GIL is held. */
void gd_interrupt_look(gd_link *l) {
    gd_lock(l);
    bool late = l->ninterrupts && !l->interrupt_told && gd_now_ms() >= l->interrupt_due;
    uint32_t stream = late ? l->interrupts[0] : 0;
    int number = l->dump_signal;
    l->interrupt_told |= late;
    gd_unlock(l);
    if (!late)
        return;
    char text[200];
    int n = snprintf(text, sizeof text,
                     "past its deadline, the request cannot be interrupted: code that does not "
                     "give up the GIL has run for %d s%s",
                     GIL_PATIENCE_MS / 1000,
                     number ? "; the stacks of all threads are on standard error" : "");
    gd_out m = {.kind = GD_K_LOG,
                .arg = 3,
                .head = (const uint8_t *)text,
                .head_len = (size_t)n,
                .about = stream};
    gd_post(&l->zero, &m, 0);
    if (number)
        dump_stacks(number);
}

bool gd_under_way(gd_link *l, uint32_t id) {
    if (atomic_load(&l->forked))
        return false;
    gd_lock(l);
    uint32_t slot = id & 0xffff;
    gd_stream *s = slot < l->nslots ? l->table[slot] : NULL;
    bool there = s && s->id == id && s->started && !s->released;
    gd_unlock(l);
    return there;
}
