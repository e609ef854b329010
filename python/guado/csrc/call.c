/* Calls to the host and its replies: what a worker asks of others. The thread that reads
 * files a reply, and one thread of the process waits for them all. That one never reads
 * the wire itself: it would keep the claim from those that serve requests. A thread that
 * waits for one reply and for nothing else asks for that one: it reads meanwhile, where
 * nobody does, and is not woken by way of another thread.
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

/* A thread that waits for one reply. */
typedef struct asker {
    struct asker *next;
    uint32_t id;
    bool woken, asleep;
    reply *came;
    gd_waiter waiter;
} asker;

struct gd_calls { /* [mu], but `partial`: [claim] */
    pthread_cond_t news;
    reply *head, *tail;
    asker *askers;
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

static asker *asker_of(struct gd_calls *c, uint32_t id) { /* [mu] */
    asker *a = c ? c->askers : NULL;
    while (a && a->id != id)
        a = a->next;
    return a;
}

/* [mu] The thread, if it sleeps, looks at what it waits for. */
static void rouse(gd_link *l, asker *a) {
    if (!a->asleep || a->waiter.signalled)
        return;
    if (!a->waiter.leader)
        gd_signal(&l->needy, &a->waiter);
    else if (!pthread_equal(l->leader_thread, pthread_self()))
        l->todo |= GD_TODO_KICK;
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
    asker *a = asker_of(c, r->id);
    if (a && !a->came) {
        a->came = r;
        rouse(l, a);
    } else {
        if (c->tail)
            c->tail->next = r;
        else
            c->head = r;
        c->tail = r;
        pthread_cond_signal(&c->news);
    }
    gd_unlock(l);
    return GD_OK;
}

/* ---- a thread waits for one ------------------------------------------------------ */

bool gd_loop_leads(gd_link *l) {
    gd_lock(l);
    bool leads = l->claimed && l->loop_leads;
    gd_unlock(l);
    return leads;
}

/* [mu] Takes the reply out of the queue of the thread that waits for all. */
static reply *fetch(struct gd_calls *c, uint32_t id) {
    reply *before = NULL;
    for (reply *r = c->head; r; before = r, r = r->next) {
        if (r->id != id)
            continue;
        *(before ? &before->next : &c->head) = r->next;
        if (c->tail == r)
            c->tail = before;
        return r;
    }
    return NULL;
}

int gd_expect(gd_link *l, uint32_t id) {
    asker *a = calloc(1, sizeof *a);
    if (!a)
        return GD_NOMEM;
    a->id = id;
    gd_lock(l);
    struct gd_calls *c = calls_of(l);
    int rc = c ? l->closed : GD_NOMEM;
    bool beside = l->mode == GD_MODE_LOOP &&
                  !(l->loop_known && pthread_equal(l->loop_thread, pthread_self()));
    if (rc == GD_OK && (beside || asker_of(c, id)))
        rc = GD_AGAIN; /* this thread may not read, or another one waits for it already */
    if (rc == GD_OK) {
        a->came = fetch(c, id);
        a->next = c->askers;
        c->askers = a;
        gd_wait_begin(&a->waiter, &l->zero);
    }
    gd_unlock(l);
    if (rc != GD_OK)
        free(a);
    return rc;
}

int gd_expected(gd_link *l, uint32_t id, int timeout_ms, gd_reply *out) {
    int64_t end = timeout_ms < 0 ? -1 : gd_now_ms() + timeout_ms;
    gd_lock(l);
    asker *a = asker_of(l->calls, id);
    int rc = a ? GD_OK : GD_AGAIN;
    while (rc == GD_OK && !a->came) {
        int64_t left = end < 0 ? -1 : end - gd_now_ms();
        if (l->closed)
            rc = l->closed;
        else if (a->woken)
            rc = GD_AGAIN;
        else if (end >= 0 && left <= 0)
            rc = GD_TIMEOUT;
        if (rc != GD_OK)
            break;
        a->asleep = true;
        gd_wait_step(l, &a->waiter, left);
        a->asleep = false;
    }
    if (a) {
        a->woken = false;
        if (a->came) {
            reply *r = a->came;
            *out = (gd_reply){.id = r->id, .data = r->data, .len = r->len, .memory = r};
            a->came = NULL;
            rc = GD_OK;
        }
    }
    gd_unlock(l);
    return rc;
}

void gd_expected_end(gd_link *l, uint32_t id) {
    gd_lock(l);
    struct gd_calls *c = l->calls;
    asker **at = &c->askers;
    while (*at && (*at)->id != id)
        at = &(*at)->next;
    asker *a = *at;
    if (a) {
        *at = a->next;
        gd_wait_end(l, &a->waiter);
        reply *r = a->came;
        if (r) { /* it came when nobody waited any more: it is settled as others are */
            r->next = c->head;
            c->head = r;
            if (!c->tail)
                c->tail = r;
            pthread_cond_signal(&c->news);
        }
    }
    gd_unlock(l);
    free(a);
}

void gd_expected_wake(gd_link *l, uint32_t id) {
    gd_lock(l);
    asker *a = asker_of(l->calls, id);
    if (a) {
        a->woken = true;
        rouse(l, a);
    }
    gd_unlock(l);
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
    while (c->askers) {
        asker *a = c->askers;
        c->askers = a->next;
        free(a->came);
        free(a);
    }
    free(c->partial);
    pthread_cond_destroy(&c->news);
    free(c);
    l->calls = NULL;
}
