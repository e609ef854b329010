/* The application's side of a request: its head, its body, the end of its use.
 * Before: stream.c filed it; after: send.c takes the answer. Not here: Python.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

const gd_request *gd_stream_request(const gd_stream *s) {
    return &s->request;
}

uint32_t gd_stream_id(const gd_stream *s) {
    return s->id;
}

void gd_stream_set_owner(gd_stream *s, void *owner) {
    s->owner = owner;
}

void *gd_stream_owner(const gd_stream *s) {
    return s->owner;
}

uint32_t gd_stream_cancelled(const gd_stream *s) {
    gd_link *l = s->link;
    if (atomic_load(&l->forked))
        return 1;
    gd_lock(l);
    uint32_t c = l->closed ? 4 : s->cancelled;
    gd_unlock(l);
    return c;
}

void gd_stream_release(gd_stream *s) {
    gd_link *l = s->link;
    if (atomic_load(&l->forked))
        return;
    gd_lock(l);
    bool ended = s->ended, over = s->over, gone = s->cancelled && s->cancelled != 2;
    gd_unlock(l);
    if (!over && ended)
        gd_done(s);
    else if (!over)
        gd_abort(s, gone ? 3 : 2, "", 0);
    gd_lock(l);
    if (s->kind == GD_WSGI && s->started) {
        int64_t took = gd_now_us() - s->taken_us;
        l->service_us += (took - l->service_us) / 8;
        l->running--;
        l->finished++;
    }
    s->released = true;
    s->owner = NULL;
    gd_stream_recycle(s);
    gd_unlock(l);
}

/* ---- body ------------------------------------------------------------------- */

/* Credit goes back in halves of the window: one small frame for many reads. */
void gd_give_back(gd_stream *s, size_t n) {
    s->body_back += (uint32_t)n;
    if (!s->body_ended && s->body_back >= s->link->request_credit / 2)
        gd_due(s, GD_DUE_CREDIT);
}

static size_t take_body(gd_stream *s, uint8_t *to, size_t n) {
    size_t got = s->rest.len < n ? s->rest.len : n;
    if (got) {
        memcpy(to, s->rest.at, got);
        s->rest.at += got;
        s->rest.len -= got;
    }
    size_t inline_part = got;
    while (got < n && s->body_head) {
        gd_chunk *c = s->body_head;
        size_t part = c->len - c->off < n - got ? c->len - c->off : n - got;
        memcpy(to + got, c->data + c->off, part);
        c->off += (uint32_t)part;
        got += part;
        if (c->off == c->len) {
            s->body_head = c->next;
            if (!c->next)
                s->body_tail = NULL;
            free(c);
        }
    }
    s->body_bytes -= got - inline_part;
    if (got > inline_part)
        gd_give_back(s, got - inline_part);
    return got;
}

/* [mu] What a read gives now: bytes, or 0 at the end, or GD_AGAIN. */
static ssize_t read_some(gd_stream *s, void *buf, size_t n) {
    gd_link *l = s->link;
    if (l->closed)
        return l->closed;
    if (s->cancelled && s->cancelled != 2)
        return GD_GONE;
    if (s->rest.len || s->body_head)
        return (ssize_t)take_body(s, buf, n);
    if (s->body_ended)
        return s->cut ? GD_CUT : 0;
    if (s->request.flags & GD_REQ_EXPECT) {
        s->request.flags &= (uint16_t)~GD_REQ_EXPECT;
        gd_due(s, GD_DUE_CONTINUE);
    }
    return GD_AGAIN;
}

ssize_t gd_read(gd_stream *s, void *buf, size_t n) {
    gd_link *l = s->link;
    if (atomic_load(&l->forked))
        return GD_CLOSED;
    gd_lock(l);
    ssize_t got = read_some(s, buf, n);
    if (got == GD_AGAIN) {
        gd_waiter w;
        bool pool = s->kind == GD_WSGI;
        gd_wait_begin(&w, s);
        l->running -= pool;
        gd_nudge(l);
        while ((got = read_some(s, buf, n)) == GD_AGAIN)
            gd_wait_step(l, &w, -1);
        l->running += pool;
        gd_wait_end(l, &w);
    }
    gd_unlock(l);
    return got;
}

ssize_t gd_read_now(gd_stream *s, void *buf, size_t n) {
    gd_link *l = s->link;
    if (atomic_load(&l->forked))
        return GD_CLOSED;
    gd_lock(l);
    ssize_t got = read_some(s, buf, n);
    gd_unlock(l);
    return got;
}

size_t gd_readable(gd_stream *s, int *ended) {
    gd_link *l = s->link;
    *ended = 1;
    if (atomic_load(&l->forked))
        return 0;
    gd_lock(l);
    size_t n = s->rest.len + s->body_bytes;
    *ended = s->body_ended || l->closed || (s->cancelled && s->cancelled != 2);
    gd_unlock(l);
    return n;
}
