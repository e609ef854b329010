/* Calls to the host and its replies: what a worker asks of others. The thread that reads
 * files a reply, and one thread of the process waits for them all. That one never reads
 * the wire itself: it would keep the claim from those that serve requests.
 * Before: guado/_calls.py calls; after: send.c. Not here: what a call means.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

typedef struct reply {
    struct reply *next;
    uint32_t id;
    size_t len, cap;
    uint8_t data[];
} reply;

struct gd_calls { /* [mu], but `partial`: [claim] */
    pthread_cond_t news;
    reply *head, *tail;
    reply *partial; /* under reassembly: fragments of stream 0 are not interleaved */
};

/* [mu] Made at the first use. */
static struct gd_calls *calls_of(gd_link *l) {
    if (!l->calls && (l->calls = calloc(1, sizeof *l->calls)))
        pthread_cond_init(&l->calls->news, NULL);
    return l->calls;
}

int gd_link_call(gd_link *l, int kind, uint32_t id, const void *data, size_t len) {
    if (kind != GD_K_CALL && kind != GD_K_CALL_CANCEL)
        return GD_CORRUPT;
    gd_out m = {.kind = (uint8_t)kind, .arg = id, .head = data, .head_len = len};
    ssize_t rc = gd_post(&l->zero, &m, 0);
    return rc < 0 ? (int)rc : GD_OK;
}

static reply *room(reply *r, uint32_t id, size_t n) {
    size_t len = r ? r->len : 0, cap = r ? r->cap : 0;
    if (r && cap - len >= n)
        return r;
    while (cap - len < n)
        cap = cap ? 2 * cap : n;
    reply *grown = realloc(r, sizeof *r + cap);
    if (!grown)
        return NULL;
    grown->id = id;
    grown->len = len;
    grown->cap = cap;
    return grown;
}

int gd_reply_file(gd_link *l, const gd_frame_head *h) {
    size_t n = h->size - GD_HEADER;
    gd_lock(l);
    struct gd_calls *c = calls_of(l);
    gd_unlock(l);
    if (!c)
        return GD_NOMEM;
    if (c->partial && c->partial->id != h->arg)
        return GD_CORRUPT;
    reply *r = room(c->partial, h->arg, n);
    if (!r)
        return GD_NOMEM;
    l->wire->copy(l, GD_HEADER, r->data + r->len, n);
    r->len += n;
    c->partial = h->flags & GD_MORE ? r : NULL;
    if (c->partial)
        return GD_OK;
    gd_lock(l);
    r->next = NULL;
    if (c->tail)
        c->tail->next = r;
    else
        c->head = r;
    c->tail = r;
    pthread_cond_signal(&c->news);
    gd_unlock(l);
    return GD_OK;
}

void gd_calls_wake(gd_link *l) {
    if (l->calls)
        pthread_cond_broadcast(&l->calls->news);
}

int gd_link_reply(gd_link *l, bool wait, gd_reply *out) {
    if (atomic_load(&l->forked))
        return GD_CLOSED;
    gd_lock(l);
    struct gd_calls *c = calls_of(l);
    int rc = c ? l->closed : GD_NOMEM;
    if (rc == GD_OK && !c->head && !wait)
        rc = GD_AGAIN;
    while (rc == GD_OK && !c->head) {
        pthread_cond_wait(&c->news, &l->mu);
        rc = l->closed;
    }
    if (rc == GD_OK) {
        reply *r = c->head;
        c->head = r->next;
        if (!c->head)
            c->tail = NULL;
        *out = (gd_reply){.id = r->id, .data = r->data, .len = r->len, .memory = r};
    }
    gd_unlock(l);
    return rc;
}

void gd_reply_free(gd_reply *r) {
    free(r->memory);
}

void gd_calls_free(gd_link *l) {
    struct gd_calls *c = l->calls;
    if (!c)
        return;
    while (c->head) {
        reply *r = c->head;
        c->head = r->next;
        free(r);
    }
    free(c->partial);
    pthread_cond_destroy(&c->news);
    free(c);
    l->calls = NULL;
}
