/* The commit queue: state of stores on its way to the host. Entries are appended under
 * the worker's record lock, by gd_seal, which only copies; whoever holds gd_link.mu and
 * finds room writes them, before all else and in their order. An entry is STATE, and the
 * COMMIT of its stream right behind it, so that the host takes both or none.
 * Before: guado/_state.py seals; after: shm.c or sock.c. Not here: what is in a state.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

struct gd_entry { /* [mu] */
    gd_entry *next;
    gd_stream *stream; /* whose COMMIT goes with it; NULL: it goes alone */
    gd_out *answer;
    uint32_t about; /* the stream's number, or 0 */
    bool begun;
    size_t len, off;
    uint8_t data[];
};

static gd_entry *entry_new(uint32_t about, const void *state, size_t n) {
    gd_entry *e = malloc(sizeof *e + n);
    if (!e)
        return NULL;
    *e = (gd_entry){.about = about, .len = n};
    memcpy(e->data, state, n);
    return e;
}

/* [mu] */
static void entry_add(gd_link *l, gd_entry *e) {
    if (l->commit_tail)
        l->commit_tail->next = e;
    else
        l->commit_head = e;
    l->commit_tail = e;
    l->sealed++;
}

uint32_t gd_stream_number(const gd_stream *s) {
    return s->id;
}

/* Memory only, and nothing is noted in todo: the caller may hold the record lock. */
static int enter(gd_link *l) {
    if (atomic_load(&l->forked))
        return GD_CLOSED;
    pthread_mutex_lock(&l->mu);
    return GD_OK;
}

static void leave(gd_link *l) {
    pthread_mutex_unlock(&l->mu);
}

int gd_seal_alone(gd_link *l, uint32_t about, const void *state, size_t n) {
    gd_entry *e = entry_new(about, state, n);
    if (!e)
        return GD_NOMEM;
    int rc = enter(l);
    if (rc == GD_OK) {
        if ((rc = l->closed) == GD_OK)
            entry_add(l, e);
        leave(l);
    }
    if (rc != GD_OK)
        free(e);
    return rc;
}

/* The answer that is not wanted any more leaves its state to go alone. */
ssize_t gd_seal_out(gd_stream *s, gd_out *m, const void *state, size_t n) {
    gd_link *l = s->link;
    gd_entry *e = entry_new(s->id, state, n);
    if (!e)
        return GD_NOMEM;
    if (enter(l) != GD_OK) {
        free(e);
        return GD_CLOSED;
    }
    ssize_t rc = gd_out_queue(s, m, e);
    if (rc >= 0) {
        e->stream = s;
        e->answer = s->out_tail;
    }
    if (l->closed)
        free(e);
    else
        entry_add(l, e);
    leave(l);
    return rc;
}

/* [mu] The answer is dropped; false: its state is on the wire, and it must follow. */
bool gd_entry_detach(gd_entry *e) {
    if (e->begun)
        return false;
    e->stream = NULL;
    e->answer = NULL;
    return true;
}

/* [mu] Writes STATE as far as there is room. */
static bool write_state(gd_link *l, gd_entry *e) {
    size_t most = l->max_frame - GD_HEADER;
    while (!e->begun || e->off < e->len) {
        size_t left = e->len - e->off, n = left < most ? left : most;
        uint8_t *p = l->wire->reserve(l, GD_HEADER + n);
        if (!p)
            return false;
        e->begun = true;
        memcpy(p + GD_HEADER, e->data + e->off, n);
        e->off += n;
        uint8_t flags = (uint8_t)((n < left ? GD_MORE : 0) | (e->stream ? 0 : GD_ALONE));
        gd_frame_encode_head(p, (uint32_t)(GD_HEADER + n), GD_K_STATE, flags, e->about, 0);
        l->wire->push(l, GD_HEADER + n);
    }
    return true;
}

bool gd_commits_write(gd_link *l) {
    while (l->commit_head && !l->closed) {
        gd_entry *e = l->commit_head;
        if (!write_state(l, e) || (e->stream && !gd_out_commit(e->stream, e->answer)))
            return false;
        l->commit_head = e->next;
        if (!l->commit_head)
            l->commit_tail = NULL;
        free(e);
        l->written++;
        gd_stream_news(&l->zero, 0);
    }
    return true;
}

ssize_t gd_push(gd_stream *s) {
    gd_link *l = s->link;
    if (atomic_load(&l->forked))
        return GD_CLOSED;
    gd_lock(l);
    gd_pump(l);
    ssize_t rc = l->closed ? l->closed : (ssize_t)s->out_bytes;
    gd_unlock(l);
    return rc;
}

int gd_commits_push(gd_link *l, bool wait) {
    if (atomic_load(&l->forked))
        return GD_CLOSED;
    gd_waiter w;
    gd_lock(l);
    gd_pump(l);
    uint64_t upto = l->sealed;
    if (wait && l->written < upto && !l->closed) {
        gd_wait_begin(&w, &l->zero);
        while (!l->closed && l->written < upto)
            gd_wait_step(l, &w, -1);
        gd_wait_end(l, &w);
    }
    int rc = l->closed;
    gd_unlock(l);
    return rc;
}

void gd_commits_free(gd_link *l) {
    while (l->commit_head) {
        gd_entry *e = l->commit_head;
        l->commit_head = e->next;
        if (e->answer)
            e->answer->entry = NULL;
        free(e);
    }
    l->commit_tail = NULL;
}
