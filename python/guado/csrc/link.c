/* The link's life: opening, handshake, drain, close; and what a fork leaves of it.
 * Before: boot.py; after: read.c, send.c, loop.c move the frames. Not here: the
 * JSON's meaning.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

static gd_link *links;
static pthread_mutex_t links_mu = PTHREAD_MUTEX_INITIALIZER; /* guards links */

/* ---- fork ------------------------------------------------------------------ */

static void before_fork(void) {
    pthread_mutex_lock(&links_mu);
}

static void after_fork_in_parent(void) {
    pthread_mutex_unlock(&links_mu);
}

static void close_fd(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* Another thread may have held mu: nothing that needs it is touched again. The
 * descriptors are closed, so that the host sees the worker's end and not a
 * grandchild's. Only calls that are safe after fork. */
static void after_fork_in_child(void) {
    for (gd_link *l = links; l; l = l->next_link) {
        atomic_store(&l->forked, true);
        close_fd(&l->shm.to_worker);
        close_fd(&l->shm.to_host);
        close_fd(&l->shm.to_watch);
        close_fd(&l->shm.epoll);
        close_fd(&l->sock.fd);
        close_fd(&l->control);
        gd_event_close(&l->sock.kick);
        gd_event_close(&l->main_bell);
        gd_event_close(&l->loop_bell);
        gd_event_close(&l->interrupt_bell);
        if (!l->shm.map)
            gd_event_close(&l->watch_bell);
    }
    pthread_mutex_unlock(&links_mu);
}

static void watch_forks(void) {
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* ---- the lock ---------------------------------------------------------------- */

void gd_lock(gd_link *l) {
    pthread_mutex_lock(&l->mu);
}

void gd_unlock(gd_link *l) {
    unsigned todo = l->todo;
    l->todo = 0;
    pthread_mutex_unlock(&l->mu);
    if (!todo)
        return;
    if (todo & GD_TODO_FLUSH)
        l->wire->flush(l);
    if (todo & GD_TODO_FDS)
        gd_control_flush(l);
    if (todo & GD_TODO_WATCH)
        gd_watch_ring(l);
    if (todo & GD_TODO_MAIN)
        gd_event_ring(&l->main_bell);
    if (todo & GD_TODO_KICK)
        l->wire->kick(l);
    if (todo & GD_TODO_INTERRUPT)
        gd_event_ring(&l->interrupt_bell);
}

void gd_settle(gd_link *l) {
    if (l->todo) {
        gd_unlock(l);
        gd_lock(l);
    }
}

/* ---- ends ---------------------------------------------------------------------- */

void gd_fail_locked(gd_link *l, int why) {
    if (l->closed)
        return;
    l->closed = why;
    gd_signal_all(l);
    gd_calls_wake(l);
    gd_globals_wake(l);
    gd_restores_wake(l);
    gd_loop_ring(l);
    l->todo |= GD_TODO_MAIN | GD_TODO_WATCH | GD_TODO_INTERRUPT;
}

void gd_fail(gd_link *l, int why) {
    gd_lock(l);
    gd_fail_locked(l, why);
    gd_unlock(l);
}

/* Nothing that this process still does can reach anybody. */
static void leave(gd_link *l) {
    (void)l;
    _exit(1);
}

void gd_host_gone(gd_link *l) {
    if (l->gone)
        l->gone(l);
    gd_fail(l, GD_CLOSED);
}

void gd_check_drained(gd_link *l) {
    if (l->draining && !l->open && !l->fds_head && !l->commit_head && l->wire->idle(l))
        l->todo |= GD_TODO_MAIN;
}

/* ---- open and close ---------------------------------------------------------- */

static int parse_spec(const char *spec, bool *shm, int fds[5]) {
    char more;
    *shm = strncmp(spec, "shm:", 4) == 0;
    if (*shm)
        return sscanf(spec, "shm:%d,%d,%d,%d,%d%c", &fds[0], &fds[1], &fds[2], &fds[3], &fds[4],
                      &more) == 5;
    return sscanf(spec, "socket:%d,%d%c", &fds[0], &fds[4], &more) == 2;
}

static gd_link *new_link(void) {
    gd_link *l = calloc(1, sizeof *l);
    if (!l)
        return NULL;
    gd_mutex_init(&l->mu);
    l->control = l->sock.fd = -1;
    l->shm.to_worker = l->shm.to_host = l->shm.to_watch = l->shm.epoll = -1;
    l->main_bell = l->loop_bell = l->interrupt_bell = (gd_event){-1, -1};
    l->sock.kick = l->watch_bell = (gd_event){-1, -1};
    l->zero.link = l;
    l->parked = &l->own_parked;
    l->gone = leave;
    return l;
}

int gd_link_open(const char *spec, gd_link **out, const char **why) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    int fds[5], rc;
    bool shm;
    *out = NULL;
    *why = NULL;
    if (!parse_spec(spec, &shm, fds)) {
        *why = "GUADO_LINK is not \"shm:…\" or \"socket:…\" with descriptor numbers";
        return GD_CORRUPT;
    }
    gd_link *l = new_link();
    if (!l) {
        *why = "no memory for the link";
        return GD_NOMEM;
    }
    l->control = fds[4];
    gd_cloexec(l->control);
    rc = shm ? gd_shm_open(l, fds, why) : gd_sock_open(l, fds[0], why);
    if (rc == GD_OK) {
        l->table = calloc(l->nslots, sizeof *l->table);
        if (!l->table || gd_event_open(&l->main_bell) < 0 || gd_event_open(&l->loop_bell) < 0 ||
            gd_event_open(&l->interrupt_bell) < 0) {
            *why = "no memory or descriptors for the link";
            rc = GD_NOMEM;
        }
    }
    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&links_mu);
    l->next_link = links;
    links = l;
    pthread_mutex_unlock(&links_mu);
    if (rc != GD_OK)
        gd_link_close(l);
    else
        *out = l;
    return rc;
}

static void forget(gd_link *l) {
    pthread_mutex_lock(&links_mu);
    for (gd_link **p = &links; *p; p = &(*p)->next_link)
        if (*p == l) {
            *p = l->next_link;
            break;
        }
    pthread_mutex_unlock(&links_mu);
}

static void free_streams(gd_link *l) {
    for (uint32_t i = 0; l->table && i < l->nslots; i++)
        if (l->table[i]) {
            gd_drop_out(l->table[i]);
            gd_stream_free(l->table[i]);
        }
    while (l->spare) {
        gd_stream *s = l->spare;
        l->spare = s->next;
        gd_stream_free(s);
    }
    gd_drop_out(&l->zero);
    free(l->table);
}

/* For tests and failed opens: a worker that ends lets the kernel close the link, so
 * that its threads may use it to the last moment. */
void gd_link_close(gd_link *l) {
    if (atomic_load(&l->forked))
        return;
    gd_fail(l, GD_CLOSED);
    gd_watch_stop(l);
    forget(l);
    gd_commits_free(l);
    free_streams(l);
    gd_calls_free(l);
    gd_globals_free(l);
    gd_restores_free(l);
    while (l->fds_head) {
        gd_fd *f = l->fds_head;
        l->fds_head = f->next;
        close(f->fd);
        free(f);
    }
    if (l->wire)
        l->wire->close(l);
    gd_event_close(&l->main_bell);
    gd_event_close(&l->loop_bell);
    gd_event_close(&l->interrupt_bell);
    close_fd(&l->control);
    pthread_mutex_destroy(&l->mu);
    free(l->kinds);
    free(l->hello);
    free(l->interrupts);
    free(l);
}

/* ---- handshake ------------------------------------------------------------------ */

int gd_link_hello(gd_link *l, char **json, size_t *len, int timeout_ms) {
    if (atomic_load(&l->forked))
        return GD_CLOSED;
    int64_t end = gd_now_ms() + timeout_ms;
    gd_waiter w;
    int rc;
    gd_lock(l);
    gd_wait_begin(&w, &l->zero);
    while ((rc = l->closed) == 0 && !l->hello_done) {
        int64_t left = timeout_ms < 0 ? -1 : end - gd_now_ms();
        if (timeout_ms >= 0 && left <= 0) {
            rc = GD_TIMEOUT;
            break;
        }
        gd_wait_step(l, &w, left);
    }
    gd_wait_end(l, &w);
    *json = l->hello;
    *len = l->hello_len;
    if (rc == 0)
        l->hello = NULL;
    bool start = rc == 0 && !l->watching;
    gd_unlock(l);
    return start ? gd_watch_start(l) : rc;
}

void gd_link_free_json(char *json) {
    free(json);
}

/* The process may end right after FAILED: everything has left when this returns. */
int gd_link_announce(gd_link *l, int kind, const char *json, size_t len) {
    if ((kind != GD_K_READY && kind != GD_K_FAILED) || len > GD_MAX_JSON)
        return GD_CORRUPT;
    gd_out m = {.kind = (uint8_t)kind, .head = (const uint8_t *)json, .head_len = len};
    int rc = (int)gd_post(&l->zero, &m, 1);
    if (rc < 0 || l->shm.map)
        return rc;
    for (;;) {
        gd_lock(l);
        rc = l->closed;
        bool idle = l->wire->idle(l);
        gd_unlock(l);
        if (rc || idle)
            return rc;
        struct pollfd p = {l->sock.fd, POLLOUT, 0};
        gd_poll(&p, 1, 100000);
        l->wire->flush(l);
    }
}

int gd_link_log(gd_link *l, uint32_t stream, int level, const char *text, size_t len) {
    gd_out m = {.kind = GD_K_LOG,
                .arg = (uint32_t)level,
                .head = (const uint8_t *)text,
                .head_len = len,
                .about = stream};
    ssize_t rc = gd_post(&l->zero, &m, 1);
    return rc < 0 ? (int)rc : GD_OK;
}

/* The reader until now, the watch thread or one that waits for a reply, may still sleep on
 * TO_WORKER, whose counter a loop empties: were the loop to begin before it let go, it would
 * miss the kick. Nobody reads meanwhile; what waits for a reply may do so for hours. */
static void take_over(gd_link *l) { /* [mu] */
    gd_waiter w;
    gd_wait_begin(&w, &l->zero);
    l->taking_over = l->mode != GD_MODE_MIXED;
    while (l->taking_over && l->claimed && !l->closed)
        gd_wait_step(l, &w, -1);
    l->taking_over = false;
    gd_wait_end(l, &w);
    if (l->mode == GD_MODE_THREADS)
        gd_signal_reader(l);
}

int gd_link_serve(gd_link *l, const uint8_t *kinds, size_t napps, uint32_t request_credit,
                  uint32_t response_credit, uint32_t file_credit) {
    if (atomic_load(&l->forked))
        return GD_CLOSED;
    uint8_t *copy = malloc(napps ? napps : 1);
    bool wsgi = false, asgi = false;
    if (!copy)
        return GD_NOMEM;
    for (size_t i = 0; i < napps; i++) {
        copy[i] = kinds[i];
        wsgi |= kinds[i] == GD_WSGI;
        asgi |= kinds[i] == GD_ASGI;
    }
    gd_lock(l);
    bool again = l->kinds != NULL;
    if (!again) {
        l->kinds = copy;
        l->napps = napps;
        l->request_credit = request_credit;
        l->response_credit = response_credit;
        l->file_credit = file_credit;
        l->mode = wsgi && asgi ? GD_MODE_MIXED : asgi ? GD_MODE_LOOP : GD_MODE_THREADS;
        if (l->claimed)
            l->todo |= GD_TODO_KICK; /* whoever reads until now */
        if (l->draining)
            gd_loop_ring(l);
    }
    if (!again)
        take_over(l);
    int rc = l->closed;
    bool start = !l->watching;
    gd_unlock(l);
    if (again) {
        free(copy);
        return GD_CORRUPT;
    }
    return rc == 0 && start ? gd_watch_start(l) : rc;
}

/* ---- drain ------------------------------------------------------------------------ */

int gd_link_draining(gd_link *l, int64_t *left_ms) {
    if (atomic_load(&l->forked))
        return 0;
    gd_lock(l);
    int draining = l->draining;
    int64_t end = l->grace_end;
    gd_unlock(l);
    if (left_ms)
        *left_ms = draining ? end - gd_now_ms() : 0;
    return draining;
}

/* Not a reader: the main thread would hold the claim for ever. Interrupted by any
 * signal, so that the interpreter's handlers run. */
int gd_link_wait_drained(gd_link *l, int timeout_ms) {
    struct pollfd p = {l->main_bell.r, POLLIN, 0};
    for (bool waited = false, before = false;; waited = true) {
        if (atomic_load(&l->forked))
            return GD_CLOSED;
        gd_lock(l);
        int rc = l->closed;
        bool draining = l->draining;
        bool empty = draining && !l->open && !l->fds_head && !l->commit_head && l->wire->idle(l);
        gd_unlock(l);
        if (rc || empty)
            return rc ? rc : GD_DRAINED;
        if (waited && draining && !before)
            return GD_TIMEOUT; /* from now on the caller has a grace to keep */
        before = draining;
        int n = gd_poll(&p, 1, timeout_ms < 0 ? -1 : (int64_t)timeout_ms * 1000);
        if (n <= 0)
            return n == 0 || errno == EINTR ? GD_TIMEOUT : GD_CORRUPT;
        gd_event_clear(&l->main_bell);
    }
}
