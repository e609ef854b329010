/* What the worker sends: messages become frames as room in the wire and the
 * stream's credit allow. Streams with something to send take turns, one frame each.
 * Before: wsgi and asgi; after: shm.c or sock.c. Not here: waiting rules (read.c).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

enum { NO_CREDIT = 1, MORE_LEFT = 2, SENT = 3 }; /* results of emit() beside GD_AGAIN */

static size_t most(const gd_link *l) {
    return l->max_frame - GD_HEADER;
}

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

static uint8_t *begin(gd_link *l, size_t payload) {
    return l->wire->reserve(l, GD_HEADER + payload);
}

static void finish(gd_stream *s, uint8_t *p, size_t payload, uint8_t kind, uint8_t flags,
                   uint32_t arg) {
    gd_link *l = s->link;
    gd_frame_encode_head(p, (uint32_t)(GD_HEADER + payload), kind, flags, s->id, arg);
    l->wire->push(l, GD_HEADER + payload);
    if (kind == GD_K_ABORT || kind == GD_K_DONE || ((flags & GD_END) && !(flags & GD_BUSY)))
        gd_stream_gone(s);
}

/* How much of the body goes with the head is decided once, with the credit there is;
 * the last four bytes of the head say it. */
static void decide_inline(gd_stream *s, gd_out *m) {
    size_t max = most(s->link), room = m->head_len <= max ? max - m->head_len : max;
    m->inline_len = least(least(m->body_len, s->credit), room);
    s->credit -= m->inline_len;
    m->begun = true;
    gd_put32((uint8_t *)m->head + m->head_len - 4, (uint32_t)m->inline_len);
}

/* COMMIT: head and first bytes of the body, in fragments only when the head is larger
 * than a frame; the rest of the body goes on as RESPONSE_BODY. */
static int emit_commit(gd_stream *s, gd_out *m) {
    if (!m->begun)
        decide_inline(s, m);
    size_t head = m->head_len - m->head_off, left = head + m->inline_len - m->body_off;
    size_t n = least(left, most(s->link)), from_head = least(head, n);
    uint8_t *p = begin(s->link, n);
    if (!p)
        return GD_AGAIN;
    memcpy(p + GD_HEADER, m->head + m->head_off, from_head);
    if (n > from_head)
        memcpy(p + GD_HEADER + from_head, m->body + m->body_off, n - from_head);
    m->head_off += from_head;
    m->body_off += n - from_head;
    if (n < left) {
        finish(s, p, n, GD_K_COMMIT, GD_MORE, 0);
        return MORE_LEFT;
    }
    bool all = m->inline_len == m->body_len;
    m->kind = GD_K_RESPONSE_BODY;
    finish(s, p, n, GD_K_COMMIT, all ? m->flags : 0, m->arg);
    return all ? SENT : MORE_LEFT;
}

static bool lacks_credit(const gd_stream *s, const gd_out *m) {
    if (m->kind == GD_K_MESSAGE_UP)
        return m->body_len != m->body_off ? !s->credit : s->credit < GD_MESSAGE_COST;
    if (m->kind == GD_K_RESPONSE_BODY)
        return !s->credit && m->body_len != m->body_off;
    return m->kind == GD_K_FILE && !s->file_credit;
}

static int emit_body(gd_stream *s, gd_out *m) {
    size_t left = m->body_len - m->body_off;
    size_t n = least(least(left, s->credit), most(s->link));
    if (lacks_credit(s, m))
        return NO_CREDIT;
    uint8_t *p = begin(s->link, n);
    if (!p)
        return GD_AGAIN;
    if (n)
        memcpy(p + GD_HEADER, m->body + m->body_off, n);
    m->body_off += n;
    s->credit -= n;
    bool all = n == left;
    finish(s, p, n, m->kind, all ? m->flags : 0, m->arg);
    return all ? SENT : MORE_LEFT;
}

/* A message goes in parts when neither frame nor credit hold it whole. */
static int emit_message(gd_stream *s, gd_out *m) {
    size_t left = m->body_len - m->body_off, cost = left + GD_MESSAGE_COST;
    if (lacks_credit(s, m))
        return NO_CREDIT;
    size_t n = least(least(left, s->credit), most(s->link));
    bool last = n == left && s->credit >= cost;
    if (!last)
        cost = n;
    uint8_t *p = begin(s->link, n);
    if (!p)
        return GD_AGAIN;
    if (n)
        memcpy(p + GD_HEADER, m->body + m->body_off, n);
    m->body_off += n;
    s->credit -= cost;
    finish(s, p, n, m->kind, last ? m->flags : GD_MORE, m->arg);
    return last ? SENT : MORE_LEFT;
}

/* Texts and heads that cost no credit, and files, whose credit counts them; MORE where one frame
 * does not hold them. */
static int emit_free(gd_stream *s, gd_out *m) {
    size_t left = m->head_len - m->head_off, n = least(left, most(s->link));
    if (lacks_credit(s, m))
        return NO_CREDIT;
    uint8_t *p = begin(s->link, n);
    if (!p)
        return GD_AGAIN;
    if (n)
        memcpy(p + GD_HEADER, m->head + m->head_off, n);
    m->head_off += n;
    if (m->file) {
        s->file_credit--;
        gd_control_pass(s->link, m->file);
        m->file = NULL;
    }
    if (m->about) { /* LOG is sent by stream 0 and names an exchange */
        gd_frame_encode_head(p, (uint32_t)(GD_HEADER + n), m->kind, n == left ? 0 : GD_MORE,
                             m->about, m->arg);
        s->link->wire->push(s->link, GD_HEADER + n);
    } else {
        finish(s, p, n, m->kind, n == left ? m->flags : GD_MORE, m->arg);
    }
    return n == left ? SENT : MORE_LEFT;
}

static int emit(gd_stream *s, gd_out *m) {
    switch (m->kind) {
    case GD_K_COMMIT:
        return emit_commit(s, m);
    case GD_K_RESPONSE_BODY:
        return emit_body(s, m);
    case GD_K_MESSAGE_UP:
        return emit_message(s, m);
    default:
        return emit_free(s, m);
    }
}

/* One small frame that is due on the stream. */
static int emit_due(gd_stream *s) {
    gd_link *l = s->link;
    uint8_t what = s->due & (uint8_t)-s->due;
    char stats[128];
    size_t n = what == GD_DUE_CONTINUE ? 16
               : what == GD_DUE_STATS  ? gd_stats_text(l, stats, sizeof stats)
                                       : 0;
    uint8_t *p = begin(l, n);
    if (!p)
        return GD_AGAIN;
    s->due &= (uint8_t)~what;
    switch (what) {
    case GD_DUE_STARTED:
        finish(s, p, n, GD_K_STARTED, 0, 0);
        break;
    case GD_DUE_CONTINUE:
        gd_head_encode(p + GD_HEADER, &(gd_head){.status = 100, .length = -1});
        finish(s, p, n, GD_K_INFORMATIONAL, 0, 0);
        break;
    case GD_DUE_CREDIT:
        s->body_credit += s->body_back;
        finish(s, p, n, GD_K_CREDIT_UP, 0, s->body_back);
        s->body_back = 0;
        break;
    case GD_DUE_ABORT:
        finish(s, p, n, GD_K_ABORT, 0, 3);
        break;
    case GD_DUE_STATS:
        memcpy(p + GD_HEADER, stats, n);
        finish(s, p, n, GD_K_STATS, 0, 0);
        break;
    default:
        finish(s, p, n, GD_K_PONG, 0, l->pong);
    }
    return SENT;
}

static size_t out_size(const gd_out *m) {
    size_t weight = m->kind == GD_K_FILE ? GD_FILE_WEIGHT : 0;
    return weight + GD_HEADER + m->head_len - m->head_off + m->body_len - m->body_off;
}

static void out_done(gd_out *m) {
    m->done = true;
    if (m->file) {
        close(m->file->fd);
        free(m->file);
        m->file = NULL;
    }
    if (m->heap)
        free(m);
}

/* Sends one frame of the stream. */
static int step(gd_stream *s) {
    if (s->due)
        return emit_due(s);
    gd_out *m = s->out_head;
    if (!m || m->entry)
        return NO_CREDIT;
    size_t before = out_size(m);
    int rc = emit(s, m);
    if (rc == SENT) {
        s->out_bytes -= before;
        s->out_head = m->next;
        if (!s->out_head)
            s->out_tail = NULL;
        out_done(m);
        gd_stream_news(s, s->out_head ? 0 : GD_EV_DRAINED);
    } else if (rc == MORE_LEFT) {
        s->out_bytes -= before - out_size(m);
    }
    return rc;
}

static bool can_send(const gd_stream *s) {
    const gd_out *m = s->out_head;
    if (s->due)
        return true;
    return m && !m->entry && !lacks_credit(s, m);
}

void gd_ready(gd_stream *s) {
    gd_link *l = s->link;
    if (s->in_ready || !can_send(s))
        return;
    s->in_ready = true;
    s->ready_next = NULL;
    if (l->ready_tail)
        l->ready_tail->ready_next = s;
    else
        l->ready_head = s;
    l->ready_tail = s;
}

static gd_stream *pop_ready(gd_link *l) {
    gd_stream *s = l->ready_head;
    l->ready_head = s->ready_next;
    if (!l->ready_head)
        l->ready_tail = NULL;
    s->in_ready = false;
    return s;
}

void gd_pump(gd_link *l) {
    if (l->commit_head && !gd_commits_write(l))
        return;
    while (l->ready_head && !l->closed) {
        gd_stream *s = l->ready_head;
        if (can_send(s) && step(s) == GD_AGAIN)
            return;
        pop_ready(l);
        gd_ready(s);
        gd_stream_recycle(s);
    }
}

void gd_due(gd_stream *s, uint8_t what) {
    if (s->finished || s->link->closed)
        return;
    s->due |= what;
    gd_ready(s);
    gd_pump(s->link);
}

/* An answer whose end was dropped with it still owes the host an end. A head whose state is
 * on the wire follows it. */
void gd_drop_out(gd_stream *s) {
    gd_out *kept = NULL;
    if (s->out_head)
        s->ended = s->over = false;
    while (s->out_head) {
        gd_out *m = s->out_head;
        s->out_head = m->next;
        if (m->entry && !gd_entry_detach(m->entry))
            kept = m;
        else
            out_done(m);
    }
    s->out_head = s->out_tail = kept;
    s->out_bytes = 0;
    if (kept) {
        kept->next = NULL;
        s->out_bytes = out_size(kept);
        s->ended = kept->flags & GD_END;
        s->over = (kept->flags & (GD_END | GD_BUSY)) == GD_END;
    }
    if (s->released && !s->over)
        gd_due(s, GD_DUE_ABORT);
}

/* ---- posting ------------------------------------------------------------------ */

static gd_out *keep(const gd_out *m) {
    size_t head = m->head_len - m->head_off, body = m->body_len - m->body_off;
    gd_out *k = malloc(sizeof *k + head + body);
    if (!k)
        return NULL;
    uint8_t *at = (uint8_t *)(k + 1);
    *k = *m;
    k->heap = true;
    if (head)
        memcpy(at, m->head + m->head_off, head);
    if (body)
        memcpy(at + head, m->body + m->body_off, body);
    k->head = at;
    k->body = at + head;
    k->head_len = head;
    k->body_len = body;
    k->inline_len = m->inline_len - least(m->inline_len, m->body_off);
    k->head_off = k->body_off = 0;
    return k;
}

static void append(gd_stream *s, gd_out *m) {
    m->next = NULL;
    if (s->out_tail)
        s->out_tail->next = m;
    else
        s->out_head = m;
    s->out_tail = m;
    s->out_bytes += out_size(m);
    gd_ready(s);
}

/* [mu] 0, or why nothing may be sent on the stream. */
static int refuse(const gd_stream *s, uint8_t kind) {
    if (s->link->closed)
        return s->link->closed;
    if (s->id == 0)
        return GD_OK;
    if (kind == GD_K_ABORT)
        return s->finished || s->released ? GD_CORRUPT : GD_OK;
    if (s->over || (kind == GD_K_DONE) != s->ended)
        return GD_CORRUPT;
    return s->cancelled && s->cancelled != 2 && kind != GD_K_DONE ? GD_GONE : GD_OK;
}

bool gd_stream_unended(gd_stream *s) {
    if (atomic_load(&s->link->forked))
        return false;
    gd_lock(s->link);
    bool dropped = s->cancelled && !s->ended && !s->over;
    gd_unlock(s->link);
    return dropped;
}

/* [mu] Blocks until m has left or was dropped (m NULL: until all has left). */
static int wait_sent(gd_stream *s, gd_out *m) {
    gd_link *l = s->link;
    gd_waiter w;
    bool pool = s->kind == GD_WSGI && s->started;
    gd_wait_begin(&w, s);
    l->running -= pool;
    gd_nudge(l);
    while (!l->closed && (m ? !m->done : s->out_head != NULL))
        gd_wait_step(l, &w, -1);
    l->running += pool;
    gd_wait_end(l, &w);
    if (!l->closed)
        return s->cancelled && s->cancelled != 2 ? GD_GONE : GD_OK;
    if (m && !m->done)
        gd_drop_out(s); /* m is the caller's memory */
    return l->closed;
}

ssize_t gd_post(gd_stream *s, gd_out *m, int wait) {
    gd_link *l = s->link;
    if (atomic_load(&l->forked))
        return GD_CLOSED;
    gd_lock(l);
    ssize_t rc = refuse(s, m->kind);
    if (rc == GD_OK) {
        if (m->kind == GD_K_ABORT)
            gd_drop_out(s);
        bool last = m->kind == GD_K_ABORT || m->kind == GD_K_DONE;
        s->ended |= (m->flags & GD_END) || last;
        s->over |= last || (m->flags & (GD_END | GD_BUSY)) == GD_END;
        int sent = MORE_LEFT;
        if (l->commit_head)
            gd_pump(l);
        if (!s->out_head && !s->due && !l->ready_head && !l->commit_head)
            while ((sent = emit(s, m)) == MORE_LEFT)
                ;
        if (sent == SENT) {
            out_done(m);
        } else if (wait) {
            append(s, m);
            rc = wait_sent(s, m);
        } else {
            gd_out *k = keep(m);
            if (k) {
                append(s, k);
                m->file = NULL;
                rc = (ssize_t)s->out_bytes;
            } else {
                rc = GD_NOMEM;
            }
        }
    }
    if (m->file)
        out_done(m);
    gd_unlock(l);
    return rc;
}

ssize_t gd_out_queue(gd_stream *s, gd_out *m, gd_entry *e) {
    int rc = refuse(s, m->kind);
    gd_out *k = rc == GD_OK ? keep(m) : NULL;
    if (!k)
        return rc != GD_OK ? rc : GD_NOMEM;
    s->ended |= (m->flags & GD_END) != 0;
    s->over |= (m->flags & (GD_END | GD_BUSY)) == GD_END;
    k->entry = e;
    append(s, k);
    return GD_OK;
}

static bool commit_left(gd_stream *s, gd_out *m) {
    while (s->due || s->out_head != m)
        if (step(s) == GD_AGAIN)
            return false;
    gd_entry *e = m->entry;
    int rc;
    m->entry = NULL;
    do
        rc = step(s);
    while (rc == MORE_LEFT && m->kind == GD_K_COMMIT);
    if (rc == GD_AGAIN)
        m->entry = e;
    return rc != GD_AGAIN;
}

/* The head has left: the rest of an answer that ends with ABORT may not follow that. */
static void drop_rest(gd_stream *s) {
    while (s->out_head) {
        gd_out *m = s->out_head;
        s->out_head = m->next;
        out_done(m);
    }
    s->out_tail = NULL;
    s->out_bytes = 0;
}

bool gd_out_commit(gd_stream *s, gd_out *m) {
    uint8_t behind = s->due & GD_DUE_ABORT; /* of an answer that was dropped but for its head */
    s->due &= (uint8_t)~behind;
    bool left = commit_left(s, m);
    s->due |= behind;
    if (left) {
        if (behind)
            drop_rest(s);
        gd_ready(s);
        gd_stream_recycle(s);
    }
    return left;
}

ssize_t gd_flush(gd_stream *s) {
    gd_link *l = s->link;
    if (atomic_load(&l->forked))
        return GD_CLOSED;
    gd_lock(l);
    ssize_t rc = l->closed;
    if (!rc && s->out_head)
        rc = wait_sent(s, NULL);
    gd_unlock(l);
    return rc;
}
