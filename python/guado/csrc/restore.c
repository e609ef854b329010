/* RESTORE and RELEASE: stores that this worker gets, and those that have ended; APPLY: what
 * other groups write to them. The thread
 * that reads files them; guado/_state.py takes them when somebody asks for a store, or when
 * many wait.
 * Before: stream.c; after: _state.py. Not here: what is in them.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

enum { MANY = 256, RELEASED = 16 }; /* a store that is not wanted any more takes memory */

typedef struct item {
    struct item *next;
    uint8_t kind;
    size_t len, cap;
    uint8_t data[];
} item;

struct gd_restores { /* [mu], but `partial`: [claim] */
    pthread_cond_t news;
    item *head, *tail;
    unsigned waiting, released;
    bool poked;
    item *partial; /* under reassembly: fragments of stream 0 are not interleaved */
};

/* [mu] Made at the first use. */
static struct gd_restores *restores_of(gd_link *l) {
    if (!l->restores && (l->restores = calloc(1, sizeof *l->restores)))
        pthread_cond_init(&l->restores->news, NULL);
    return l->restores;
}

static item *room(item *i, uint8_t kind, size_t n, bool more) {
    size_t len = i ? i->len : 0, cap = i ? i->cap : 0;
    if (i && cap - len >= n)
        return i;
    while (cap - len < n || !cap)
        cap = cap ? 2 * cap : more ? 2 * n : n ? n : 1;
    item *grown = realloc(i, sizeof *i + cap);
    if (!grown)
        return NULL;
    grown->kind = kind;
    grown->len = len;
    grown->cap = cap;
    return grown;
}

int gd_restore_file(gd_link *l, const gd_frame_head *h) {
    size_t n = h->size - GD_HEADER;
    gd_lock(l);
    struct gd_restores *r = restores_of(l);
    gd_unlock(l);
    if (!r)
        return GD_NOMEM;
    if (r->partial && r->partial->kind != h->kind)
        return GD_CORRUPT;
    item *i = room(r->partial, h->kind, n, h->flags & GD_MORE);
    if (!i)
        return GD_NOMEM;
    l->wire->copy(l, GD_HEADER, i->data + i->len, n);
    i->len += n;
    r->partial = h->flags & GD_MORE ? i : NULL;
    if (r->partial)
        return GD_OK;
    gd_lock(l);
    i->next = NULL;
    if (r->tail)
        r->tail->next = i;
    else
        r->head = i;
    r->tail = i;
    if (h->kind == GD_K_RELEASE)
        r->released++;
    /* Nobody else may come for it. */
    r->poked |= h->kind == GD_K_APPLY || r->released >= RELEASED;
    if (++r->waiting >= MANY || r->poked)
        pthread_cond_broadcast(&r->news);
    gd_unlock(l);
    return GD_OK;
}

int gd_restore_take(gd_link *l, gd_restored *out) {
    if (atomic_load(&l->forked))
        return GD_CLOSED;
    gd_lock(l);
    struct gd_restores *r = l->restores;
    int rc = r && r->head ? GD_OK : l->closed ? l->closed : GD_AGAIN;
    if (rc == GD_OK) {
        item *i = r->head;
        r->head = i->next;
        if (!r->head)
            r->tail = NULL;
        r->waiting--;
        r->released -= i->kind == GD_K_RELEASE;
        *out = (gd_restored){.kind = i->kind, .data = i->data, .len = i->len, .memory = i};
    }
    gd_unlock(l);
    return rc;
}

void gd_restore_free(gd_restored *r) {
    free(r->memory);
}

int gd_restore_wait(gd_link *l) {
    if (atomic_load(&l->forked))
        return GD_CLOSED;
    gd_lock(l);
    struct gd_restores *r = restores_of(l);
    while (r && !l->closed && !r->poked && r->waiting < MANY)
        pthread_cond_wait(&r->news, &l->mu);
    if (r)
        r->poked = false;
    int rc = r ? l->closed : GD_NOMEM;
    gd_unlock(l);
    return rc;
}

void gd_restore_poke(gd_link *l) {
    if (atomic_load(&l->forked))
        return;
    gd_lock(l);
    struct gd_restores *r = restores_of(l);
    if (r) {
        r->poked = true;
        pthread_cond_broadcast(&r->news);
    }
    gd_unlock(l);
}

void gd_restores_wake(gd_link *l) {
    if (l->restores)
        pthread_cond_broadcast(&l->restores->news);
}

void gd_restores_free(gd_link *l) {
    struct gd_restores *r = l->restores;
    if (!r)
        return;
    while (r->head) {
        item *i = r->head;
        r->head = i->next;
        free(i);
    }
    free(r->partial);
    pthread_cond_destroy(&r->news);
    free(r);
    l->restores = NULL;
}
