/* Messages of a WebSocket, both ways. Before: stream.c hands over MESSAGE and DISCONNECT;
 * asgi_websocket.c takes and sends. After: send.c. Not here: Python, what messages mean.
 *
 * Credit: a frame costs its bytes, and the one that completes a message 64 more. What is
 * whole is paid back when the application takes it; parts of a message that is first in
 * line at once, for a message may be larger than all the credit there is.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

enum { DISCONNECT = 3 }; /* gd_chunk.what beside the kinds of MESSAGE */

static void append(gd_stream *s, gd_chunk *c) {
    if (s->body_tail)
        s->body_tail->next = c;
    else
        s->body_head = c;
    s->body_tail = c;
}

static gd_chunk *chunk(gd_link *l, const gd_frame_head *h) {
    size_t n = h->size - GD_HEADER;
    gd_chunk *c = malloc(sizeof *c + n);
    if (!c)
        return NULL;
    *c = (gd_chunk){.len = (uint32_t)n, .arg = h->arg, .more = h->flags & GD_MORE};
    l->wire->copy(l, GD_HEADER, c->data, n);
    return c;
}

static uint32_t cost_of(const gd_chunk *c) {
    return c->len + (c->more ? 0 : GD_MESSAGE_COST);
}

/* What of a chunk was not paid back yet. */
static uint32_t pay(gd_chunk *c) {
    uint32_t due = c->paid || c->what == DISCONNECT ? 0 : cost_of(c);
    c->paid = true;
    return due;
}

/* [mu] */
static int file_message(gd_stream *s, gd_chunk *c) {
    uint32_t cost = cost_of(c);
    bool inside = s->body_tail && s->body_tail->more;
    if (!s->socket || s->body_ended || cost > s->body_credit || (c->more && !c->len) ||
        (c->arg != GD_TEXT && c->arg != GD_BINARY) || (inside && s->body_tail->arg != c->arg))
        return GD_CORRUPT;
    s->body_credit -= cost;
    if (s->released) {
        free(c);
        return GD_OK;
    }
    c->what = (uint8_t)c->arg;
    append(s, c);
    if (!c->more)
        s->messages++;
    else if (!s->messages)
        gd_give_back(s, pay(c));
    return GD_OK;
}

int gd_message_file(gd_link *l, gd_stream *(*find)(gd_link *, uint32_t), const gd_frame_head *h) {
    gd_chunk *c = chunk(l, h);
    if (!c)
        return GD_NOMEM;
    gd_lock(l);
    gd_stream *s = find(l, h->stream);
    int rc = s && s->assembled ? file_message(s, c) : s ? GD_CORRUPT : GD_OK;
    if (rc != GD_OK || !s)
        free(c);
    else if (!s->released)
        gd_stream_news(s, GD_EV_BODY);
    gd_unlock(l);
    return rc;
}

/* The client has closed, or is gone: nothing more is wanted of the application. */
int gd_disconnect_file(gd_link *l, gd_stream *(*find)(gd_link *, uint32_t),
                       const gd_frame_head *h) {
    gd_chunk *c = chunk(l, h);
    if (!c)
        return GD_NOMEM;
    gd_lock(l);
    gd_stream *s = find(l, h->stream);
    int rc = GD_OK;
    if (s && (!s->assembled || !s->socket || s->body_ended || c->len > GD_MAX_CLOSE_REASON))
        rc = GD_CORRUPT;
    if (!s || rc != GD_OK || s->released) {
        free(c);
    } else {
        s->body_ended = true;
        c->what = DISCONNECT;
        append(s, c);
        s->messages++;
        if (s->cancelled == 0 || s->cancelled == 2)
            s->cancelled = h->arg == 1012 ? 4 : 1;
        gd_stream_news(s, GD_EV_BODY | GD_EV_CANCEL);
        gd_drop_out(s); /* may be the last that s needed: s is gone then */
    }
    gd_unlock(l);
    return rc;
}

int gd_message_take(gd_stream *s, gd_message *out) {
    gd_link *l = s->link;
    memset(out, 0, sizeof *out);
    if (atomic_load(&l->forked))
        return GD_CLOSED;
    gd_lock(l);
    int rc = GD_AGAIN;
    if (s->messages) {
        rc = GD_OK;
        gd_chunk *first = s->body_head, *last = first;
        size_t back = pay(last);
        for (out->len = last->len; last->more; out->len += last->len) {
            last = last->next;
            back += pay(last);
        }
        s->body_head = last->next;
        if (!last->next)
            s->body_tail = NULL;
        last->next = NULL;
        out->chunks = first;
        out->text = last->what == GD_TEXT;
        out->disconnect = last->what == DISCONNECT;
        out->code = (uint16_t)last->arg;
        if (!--s->messages)
            for (gd_chunk *c = s->body_head; c; c = c->next)
                back += pay(c);
        gd_give_back(s, back);
    } else if (l->closed) {
        rc = l->closed;
    } else if (s->cancelled && s->cancelled != 2) {
        rc = GD_GONE;
    }
    gd_unlock(l);
    return rc;
}

void gd_message_copy(const gd_message *m, void *to) {
    char *at = to;
    for (const gd_chunk *c = m->chunks; c; c = c->next) {
        memcpy(at, c->data, c->len);
        at += c->len;
    }
}

void gd_message_free(gd_message *m) {
    while (m->chunks) {
        gd_chunk *c = m->chunks;
        m->chunks = c->next;
        free(c);
    }
}

const char *gd_message_whole(const gd_message *m) {
    return m->chunks && !m->chunks->next ? (const char *)m->chunks->data : NULL;
}

ssize_t gd_message_send(gd_stream *s, bool text, const void *data, size_t n) {
    gd_out m = {
        .kind = GD_K_MESSAGE_UP, .arg = text ? GD_TEXT : GD_BINARY, .body = data, .body_len = n};
    return gd_post(s, &m, 0);
}

ssize_t gd_message_close(gd_stream *s, uint16_t code, const char *reason, size_t n, int flags) {
    if (n > GD_MAX_CLOSE_REASON)
        return GD_CORRUPT;
    gd_out m = {.kind = GD_K_CLOSE,
                .flags = (uint8_t)(flags | GD_END),
                .arg = code,
                .head = (const uint8_t *)reason,
                .head_len = n};
    return gd_post(s, &m, 0);
}

void gd_stream_forget_request(gd_stream *s) {
    gd_link *l = s->link;
    gd_lock(l);
    gd_request_clear(&s->request);
    s->fields_cap = 0;
    free(s->buf);
    s->buf = NULL;
    s->buf_len = s->buf_cap = 0;
    memset(&s->request, 0, sizeof s->request);
    s->request.flags = GD_REQ_SOCKET;
    gd_unlock(l);
}
