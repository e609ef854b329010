/* Updates of the global store: the thread that reads files them, whole and in order, without
 * the GIL; whoever reads the store takes them first, and a thread of the process takes them
 * where nobody does, so that they do not heap up.
 * Before: the host's GLOBAL. After: guado/_replica.py. Not here: what an update says.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* What may wait before the process's own thread is woken to take it, and before a process
 * whose Python does not run is given up. */
enum { DUE = 256 << 10, DUE_UPDATES = 4096, MOST = 256 << 20 };

typedef struct update {
    struct update *next;
    size_t len, cap;
    uint8_t data[];
} update;

struct gd_globals { /* [mu], but `partial`: [claim] */
    pthread_cond_t news;
    update *head, *tail;
    update *partial; /* under reassembly: fragments of stream 0 are not interleaved */
    size_t bytes;
    bool watched; /* every update is due */
};

/* [mu] Made at the first use. */
static struct gd_globals *globals_of(gd_link *l) {
    if (!l->globals && (l->globals = calloc(1, sizeof *l->globals)))
        pthread_cond_init(&l->globals->news, NULL);
    return l->globals;
}

static update *room(update *u, size_t n) {
    size_t len = u ? u->len : 0, cap = u ? u->cap : 0;
    if (u && cap - len >= n)
        return u;
    while (cap - len < n)
        cap = cap ? 2 * cap : n;
    update *grown = realloc(u, sizeof *u + cap);
    if (!grown)
        return NULL;
    grown->len = len;
    grown->cap = cap;
    return grown;
}

static bool due(const gd_link *l, const struct gd_globals *g) {
    return g->head &&
           (g->watched || g->bytes >= DUE || atomic_load(&l->global_waiting) >= DUE_UPDATES);
}

int gd_global_file(gd_link *l, const gd_frame_head *h) {
    size_t n = h->size - GD_HEADER;
    gd_lock(l);
    struct gd_globals *g = globals_of(l);
    bool full = g && g->bytes > MOST;
    gd_unlock(l);
    if (!g || full)
        return GD_NOMEM;
    update *u = room(g->partial, n ? n : 1);
    if (!u)
        return GD_NOMEM;
    l->wire->copy(l, GD_HEADER, u->data + u->len, n);
    u->len += n;
    g->partial = h->flags & GD_MORE ? u : NULL;
    if (g->partial)
        return GD_OK;
    gd_lock(l);
    u->next = NULL;
    if (g->tail)
        g->tail->next = u;
    else
        g->head = u;
    g->tail = u;
    g->bytes += u->len;
    atomic_fetch_add(&l->global_waiting, 1);
    if (due(l, g))
        pthread_cond_signal(&g->news);
    gd_unlock(l);
    return GD_OK;
}

void gd_globals_wake(gd_link *l) {
    if (l->globals)
        pthread_cond_broadcast(&l->globals->news);
}

int gd_link_update(gd_link *l, gd_reply *out) {
    if (atomic_load(&l->forked))
        return GD_CLOSED;
    if (!atomic_load(&l->global_waiting))
        return GD_AGAIN;
    gd_lock(l);
    struct gd_globals *g = l->globals;
    update *u = g ? g->head : NULL;
    if (u) {
        g->head = u->next;
        if (!g->head)
            g->tail = NULL;
        g->bytes -= u->len;
        atomic_fetch_sub(&l->global_waiting, 1);
        *out = (gd_reply){.data = u->data, .len = u->len, .memory = u};
    }
    gd_unlock(l);
    return u ? GD_OK : GD_AGAIN;
}

int gd_link_updates_wait(gd_link *l) {
    if (atomic_load(&l->forked))
        return GD_CLOSED;
    gd_lock(l);
    struct gd_globals *g = globals_of(l);
    int rc = g ? l->closed : GD_NOMEM;
    while (rc == GD_OK && !due(l, g)) {
        pthread_cond_wait(&g->news, &l->mu);
        rc = l->closed;
    }
    gd_unlock(l);
    return rc;
}

int gd_link_updates_watch(gd_link *l) {
    if (atomic_load(&l->forked))
        return GD_CLOSED;
    gd_lock(l);
    struct gd_globals *g = globals_of(l);
    if (g) {
        g->watched = true;
        pthread_cond_signal(&g->news);
    }
    gd_unlock(l);
    return g ? GD_OK : GD_NOMEM;
}

void gd_globals_free(gd_link *l) {
    struct gd_globals *g = l->globals;
    if (!g)
        return;
    while (g->head) {
        update *u = g->head;
        g->head = u->next;
        free(u);
    }
    free(g->partial);
    pthread_cond_destroy(&g->news);
    free(g);
    l->globals = NULL;
}
