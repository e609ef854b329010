/* Streams: one per exchange, found by the slot in their id; and the filing of the
 * host's frames to them. Runs without the GIL, in whichever thread reads.
 * Before: shm.c or sock.c bring a frame; after: read.c and loop.c hand the stream to
 * the application. Not here: what the application sends (send.c).
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static gd_stream *lookup(gd_link *l, uint32_t id) {
    uint32_t slot = id & 0xffff;
    gd_stream *s = slot < l->nslots ? l->table[slot] : NULL;
    return s && s->id == id ? s : NULL;
}

gd_stream *gd_stream_new(gd_link *l, uint32_t id) {
    gd_stream *s = l->spare;
    if (s) {
        l->spare = s->next;
        l->nspare--;
        gd_stream old = *s;
        memset(s, 0, sizeof *s);
        s->buf = old.buf;
        s->buf_cap = old.buf_cap;
        s->request.fields = old.request.fields;
        s->fields_cap = old.fields_cap;
    } else if (!(s = calloc(1, sizeof *s))) {
        return NULL;
    }
    s->link = l;
    s->id = id;
    s->body_credit = l->request_credit;
    s->credit = l->response_credit;
    s->file_credit = l->file_credit;
    return s;
}

static void drop_body(gd_stream *s) {
    while (s->body_head) {
        gd_chunk *c = s->body_head;
        s->body_head = c->next;
        free(c);
    }
    s->body_tail = NULL;
    s->body_bytes = 0;
}

void gd_stream_free(gd_stream *s) {
    drop_body(s);
    gd_request_clear(&s->request);
    free(s->buf);
    free(s);
}

void gd_stream_recycle(gd_stream *s) {
    gd_link *l = s->link;
    if (!s->released || s->in_ready || s->in_events || s->queued || s->out_head)
        return;
    if (!s->finished && !s->revoked)
        return;
    s->released = false; /* once only */
    drop_body(s);
    if (l->nspare >= GD_KEEP_STREAMS || l->closed) {
        gd_stream_free(s);
        return;
    }
    if (s->buf_cap > GD_KEEP_BUFFER) {
        free(s->buf);
        s->buf = NULL;
        s->buf_cap = 0;
    }
    s->next = l->spare;
    l->spare = s;
    l->nspare++;
}

static void leave_table(gd_stream *s) {
    gd_link *l = s->link;
    uint32_t slot = s->id & 0xffff;
    if (l->table[slot] == s) {
        l->table[slot] = NULL;
        l->open--;
        gd_check_drained(l);
    }
}

void gd_stream_gone(gd_stream *s) {
    s->finished = true;
    s->due = 0;
    leave_table(s);
}

/* The host took the request back, or was faster with the slot's next one. */
static void revoke(gd_stream *s) {
    s->revoked = s->ended = s->over = true;
    leave_table(s);
}

int gd_stream_start(gd_stream *s) {
    gd_link *l = s->link;
    if (s->revoked)
        return GD_REVOKED;
    if (l->shm.slots) {
        uint32_t was = (s->id & 0xffff0000u) | GD_SLOT_QUEUED;
        uint32_t is = (s->id & 0xffff0000u) | GD_SLOT_STARTED;
        if (!atomic_compare_exchange_strong(&l->shm.slots[s->id & 0xffff], &was, is)) {
            revoke(s);
            return GD_REVOKED;
        }
    } else {
        gd_due(s, GD_DUE_STARTED);
    }
    s->started = true;
    s->taken_us = gd_now_us();
    return GD_OK;
}

void gd_stream_news(gd_stream *s, uint32_t events) {
    gd_link *l = s->link;
    if (s->waiters)
        for (gd_waiter *w = l->needy.head, *next; w; w = next) {
            next = w->next;
            if (w->stream == s)
                gd_signal(&l->needy, w);
        }
    /* The reader sleeps on the wire, and what it waits for may be done by another thread:
     * its message left when that one found room. */
    if (l->leader_stream == s && !pthread_equal(l->leader_thread, pthread_self()))
        l->todo |= GD_TODO_KICK;
    if (s->kind != GD_ASGI || !s->started || s->released || !events)
        return;
    s->events |= events;
    if (!s->in_events) {
        s->in_events = true;
        s->event_next = NULL;
        if (l->event_tail)
            l->event_tail->event_next = s;
        else
            l->event_head = s;
        l->event_tail = s;
    }
    gd_loop_ring(l);
}

/* ---- filing ----------------------------------------------------------------- */

static int grow(gd_stream *s, size_t need) {
    if (need <= s->buf_cap)
        return GD_OK;
    if (need > (s->turn ? GD_MAX_TURN : GD_MAX_MESSAGE))
        return GD_CORRUPT;
    size_t cap = s->buf_cap ? s->buf_cap : 2048;
    while (cap < need)
        cap *= 2;
    uint8_t *p = realloc(s->buf, cap);
    if (!p)
        return GD_NOMEM;
    s->buf = p;
    s->buf_cap = cap;
    return GD_OK;
}

/* The slot's stream for this frame of REQUEST or TURN: a new one, or the one that is being
 * put together. */
static int request_stream(gd_link *l, uint32_t id, gd_stream **out) {
    uint32_t slot = id & 0xffff;
    if (slot >= l->nslots || !(id >> 16) || !l->kinds)
        return GD_CORRUPT;
    gd_stream *s = l->table[slot];
    if (s && s->id == id) {
        *out = s;
        return s->assembled ? GD_CORRUPT : GD_OK;
    }
    if (s && s->started)
        return GD_CORRUPT;
    if (s) {
        bool orphan = !s->assembled; /* nobody else knows it */
        revoke(s);
        s->released |= orphan;
        gd_stream_recycle(s);
    }
    *out = s = gd_stream_new(l, id);
    if (!s)
        return GD_NOMEM;
    l->table[slot] = s;
    l->open++;
    return GD_OK;
}

static void enqueue(gd_stream **head, gd_stream **tail, gd_stream *s) {
    s->next = NULL;
    s->queued = true;
    if (*tail)
        (*tail)->next = s;
    else
        *head = s;
    *tail = s;
}

static int file_request(gd_link *l, const gd_frame_head *h) {
    gd_stream *s;
    size_t n = h->size - GD_HEADER;
    gd_lock(l);
    int rc = request_stream(l, h->stream, &s);
    gd_unlock(l);
    bool turn = h->kind == GD_K_TURN;
    if (rc == GD_OK && s->buf_len && s->turn != turn)
        return GD_CORRUPT;
    if (rc == GD_OK)
        s->turn = turn;
    if (rc != GD_OK || (rc = grow(s, s->buf_len + n)) != GD_OK)
        return rc;
    /* Until it is queued only the reader knows this stream's request. */
    l->wire->copy(l, GD_HEADER, s->buf + s->buf_len, n);
    s->buf_len += n;
    if (h->flags & GD_MORE)
        return GD_OK;
    rc = turn ? gd_turn_decode(s->buf, s->buf_len, &s->request)
              : gd_request_decode_into(s->buf, s->buf_len, &s->request, &s->fields_cap, &s->rest);
    if (rc != GD_OK || s->request.app >= l->napps)
        return rc != GD_OK ? rc : GD_CORRUPT;
    if ((s->request.flags & GD_REQ_SOCKET) && l->kinds[s->request.app] != GD_ASGI)
        return GD_CORRUPT;
    gd_lock(l);
    s->kind = l->kinds[s->request.app];
    s->socket = s->request.flags & GD_REQ_SOCKET;
    s->assembled = true;
    s->body_ended = h->flags & GD_END;
    if (s->kind == GD_ASGI) {
        enqueue(&l->loop_head, &l->loop_tail, s);
        gd_loop_ring(l);
    } else {
        enqueue(&l->queue_head, &l->queue_tail, s);
        gd_nudge(l);
    }
    gd_unlock(l);
    return GD_OK;
}

static int file_body(gd_link *l, const gd_frame_head *h) {
    size_t n = h->size - GD_HEADER;
    gd_chunk *c = NULL;
    if (n) {
        if (!(c = malloc(sizeof *c + n)))
            return GD_NOMEM;
        *c = (gd_chunk){.len = (uint32_t)n};
        l->wire->copy(l, GD_HEADER, c->data, n);
    }
    gd_lock(l);
    gd_stream *s = lookup(l, h->stream);
    int rc = GD_OK;
    if (s && (!s->assembled || s->socket || s->body_ended || n > s->body_credit)) {
        rc = GD_CORRUPT;
    } else if (s) {
        s->body_credit -= (uint32_t)n;
        if (h->flags & GD_END) {
            s->body_ended = true;
            s->cut = h->arg == 1;
        }
        if (c && !s->released) {
            if (s->body_tail)
                s->body_tail->next = c;
            else
                s->body_head = c;
            s->body_tail = c;
            s->body_bytes += n;
            c = NULL;
        }
        gd_stream_news(s, GD_EV_BODY);
    }
    gd_unlock(l);
    free(c);
    return rc;
}

static void file_cancel(gd_link *l, const gd_frame_head *h) {
    gd_lock(l);
    gd_stream *s = lookup(l, h->stream);
    bool interrupt = h->kind == GD_K_INTERRUPT;
    if (s && (s->cancelled == 0 || s->cancelled == 2)) {
        s->cancelled = h->arg ? h->arg : 1;
        if (interrupt)
            gd_interrupt_file(s);
        gd_stream_news(s, interrupt ? GD_EV_CANCEL | GD_EV_INTERRUPT : GD_EV_CANCEL);
        if (s->cancelled != 2)
            gd_drop_out(s); /* may be the last that s needed: s is gone then */
    }
    gd_unlock(l);
}

static void file_credit(gd_link *l, const gd_frame_head *h) {
    gd_lock(l);
    gd_stream *s = lookup(l, h->stream);
    if (s) {
        if (h->kind == GD_K_FILE_CREDIT)
            s->file_credit += h->arg;
        else
            s->credit += h->arg;
        gd_ready(s);
    }
    gd_unlock(l);
}

static int file_hello(gd_link *l, const gd_frame_head *h) {
    size_t n = h->size - GD_HEADER;
    gd_lock(l);
    int rc = l->hello_done || l->hello_len + n > GD_MAX_JSON ? GD_CORRUPT : GD_OK;
    char *p = rc == GD_OK ? realloc(l->hello, l->hello_len + n + 1) : NULL;
    if (rc == GD_OK && !p)
        rc = GD_NOMEM;
    if (rc == GD_OK) {
        l->wire->copy(l, GD_HEADER, p + l->hello_len, n);
        l->hello = p;
        l->hello_len += n;
        l->hello[l->hello_len] = 0;
        l->hello_done = !(h->flags & GD_MORE);
    }
    gd_unlock(l);
    return rc;
}

static void file_drain(gd_link *l, const gd_frame_head *h) {
    gd_lock(l);
    l->draining = true;
    l->grace_end = gd_now_ms() + h->arg;
    gd_signal_all(l);
    gd_loop_ring(l);
    gd_check_drained(l);
    l->todo |= GD_TODO_MAIN;
    gd_unlock(l);
}

static int file_ping(gd_link *l, const gd_frame_head *h) {
    uint8_t sent[8] = {0};
    if (h->size == GD_HEADER + sizeof sent)
        l->wire->copy(l, GD_HEADER, sent, sizeof sent);
    gd_lock(l);
    l->pong = h->arg;
    gd_due(&l->zero, GD_DUE_PONG);
    gd_stats_ping(l, (int64_t)gd_get64(sent));
    gd_unlock(l);
    return GD_OK;
}

int gd_file_frame(gd_link *l, const gd_frame_head *h) {
    bool link = h->kind == GD_K_HELLO || h->kind == GD_K_DRAIN || h->kind == GD_K_PING ||
                h->kind == GD_K_REPLY || h->kind == GD_K_GLOBAL || h->kind == GD_K_RESTORE ||
                h->kind == GD_K_RELEASE || h->kind == GD_K_APPLY;
    if (link != (h->stream == 0))
        return GD_CORRUPT;
    switch (h->kind) {
    case GD_K_HELLO:
        return file_hello(l, h);
    case GD_K_REQUEST:
    case GD_K_TURN:
        return file_request(l, h);
    case GD_K_BODY:
        return file_body(l, h);
    case GD_K_MESSAGE:
        return gd_message_file(l, lookup, h);
    case GD_K_DISCONNECT:
        return gd_disconnect_file(l, lookup, h);
    case GD_K_CANCEL:
    case GD_K_INTERRUPT:
        file_cancel(l, h);
        return GD_OK;
    case GD_K_CREDIT_DOWN:
    case GD_K_FILE_CREDIT:
        file_credit(l, h);
        return GD_OK;
    case GD_K_DRAIN:
        file_drain(l, h);
        return GD_OK;
    case GD_K_PING:
        return file_ping(l, h);
    case GD_K_REPLY:
        return gd_reply_file(l, h);
    case GD_K_GLOBAL:
        return gd_global_file(l, h);
    case GD_K_RESTORE:
    case GD_K_RELEASE:
    case GD_K_APPLY:
        return gd_restore_file(l, h);
    default:
        return GD_CORRUPT;
    }
}
