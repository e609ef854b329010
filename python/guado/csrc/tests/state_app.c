/* State of stores in stress.c: see state_app.h. A state is its number, its length and bytes
 * that follow from both; numbers are last + 1, whoever seals.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "state_app.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STATE_HEAD = 12, LARGEST = 40000 };

/* ---- the application ---------------------------------------------------------------- */

static pthread_mutex_t record = PTHREAD_MUTEX_INITIALIZER; /* as Ledger.lock */
static uint64_t sealed;                                    /* under it */
static atomic_bool stopped, loose_over, enough;
static atomic_ulong taken, wrong;

static size_t write_state(uint8_t *p, uint64_t number, size_t n) {
    gd_put32(gd_put64(p, number), (uint32_t)n);
    for (size_t i = 0; i < n; i++)
        p[STATE_HEAD + i] = stress_byte(number + i);
    return STATE_HEAD + n;
}

/* Mostly small; sometimes more than a ring takes at once. */
static size_t some_size(uint64_t of) {
    return of % 7 == 0 ? (of * 7919) % LARGEST : (of * 31) % 300;
}

void state_reply(gd_stream *s, size_t n, int wait) {
    uint8_t *body = malloc(n + 1), *state = malloc(STATE_HEAD + LARGEST);
    gd_field f = {{"Content-Type", 12}, {"text/plain", 10}};
    gd_head head = {.status = 200, .length = (int64_t)n, .nfields = 1, .fields = &f};
    for (size_t i = 0; i < n; i++)
        body[i] = stress_byte(i);
    pthread_mutex_lock(&record);
    uint64_t number = ++sealed;
    size_t len = write_state(state, number, some_size(number));
    ssize_t rc = gd_seal_commit(s, &head, body, n, wait ? GD_END : GD_END | GD_BUSY, state, len);
    pthread_mutex_unlock(&record);
    free(state);
    free(body);
    if (rc >= 0)
        rc = gd_push(s);
    if (rc > 0 && wait)
        gd_flush(s);
    if (rc >= 0 && !wait)
        gd_done(s);
}

void *state_loose(void *arg) {
    gd_link *l = arg;
    uint8_t *state = malloc(STATE_HEAD + LARGEST);
    for (unsigned i = 0; !atomic_load(&stopped); i++) {
        pthread_mutex_lock(&record);
        uint64_t number = ++sealed;
        size_t len = write_state(state, number, some_size(number * 3));
        int rc = gd_seal_alone(l, 0, state, len);
        pthread_mutex_unlock(&record);
        if (rc != GD_OK || gd_commits_push(l, i % 2) != GD_OK)
            break;
        poll(NULL, 0, 1);
    }
    free(state);
    atomic_store(&loose_over, true);
    return NULL;
}

/* What the host sends of stores: in its order, and as it was. */
static void look(const uint8_t *p, size_t n, uint64_t *last) {
    bool good = n >= STATE_HEAD && gd_get64(p) == ++*last && gd_get32(p + 8) == n - STATE_HEAD;
    for (size_t i = STATE_HEAD; good && i < n; i++)
        good = p[i] == stress_byte(*last + i - STATE_HEAD);
    if (!good)
        atomic_fetch_add(&wrong, 1);
    atomic_fetch_add(&taken, 1);
}

void *state_taker(void *arg) {
    gd_link *l = arg;
    gd_restored r;
    gd_reply u;
    uint64_t stores = 0, globals = 0;
    do {
        gd_restore_wait(l);
        while (gd_restore_take(l, &r) == GD_OK) {
            look(r.data, r.len, &stores);
            gd_restore_free(&r);
        }
        while (gd_link_update(l, &u) == GD_OK) {
            look(u.data, u.len, &globals);
            gd_reply_free(&u);
        }
    } while (!atomic_load(&enough));
    return NULL;
}

void state_stop(void) {
    atomic_store(&stopped, true);
}

void state_end(gd_link *l) {
    atomic_store(&enough, true);
    gd_restore_poke(l);
}

/* ---- the host ------------------------------------------------------------------------ */

static struct {
    uint64_t last;
    size_t left;    /* of the state under way */
    uint32_t about; /* its stream */
    uint32_t owed;  /* whose COMMIT comes before any other state; 0: nobody's */
    uint64_t at;
    bool open;
} in;

static bool begins(const host_frame *f) {
    if (in.owed || f->n < STATE_HEAD || gd_get64(f->payload) != in.last + 1)
        return false;
    in.last++;
    in.left = gd_get32(f->payload + 8);
    in.about = f->h.stream;
    in.at = 0;
    in.open = true;
    return true;
}

bool state_came(const host_frame *f) {
    size_t skip = in.open ? 0 : STATE_HEAD;
    if (!in.open && !begins(f))
        return false;
    if (f->h.stream != in.about || f->n - skip > in.left)
        return false;
    for (size_t i = skip; i < f->n; i++)
        if (f->payload[i] != stress_byte(in.last + in.at++))
            return false;
    in.left -= f->n - skip;
    in.open = f->h.flags & GD_MORE;
    if (in.open)
        return true;
    in.owed = f->h.flags & GD_ALONE ? 0 : f->h.stream;
    return in.left == 0;
}

bool state_commit_came(uint32_t stream, bool with) {
    bool is = in.owed == (with ? stream : 0) && !in.open;
    in.owed = 0;
    return is;
}

static struct {
    uint8_t data[STATE_HEAD + LARGEST];
    size_t len, at;
    uint8_t kind;
    uint64_t stores, globals;
} out;

static const uint8_t sorts[] = {GD_K_RESTORE, GD_K_RELEASE, GD_K_APPLY, GD_K_GLOBAL};

void state_send(host *h, unsigned *seed) {
    if (!out.len) {
        if (rand_r(seed) % 4)
            return;
        out.kind = sorts[(unsigned)rand_r(seed) % sizeof sorts];
        uint64_t number = out.kind == GD_K_GLOBAL ? ++out.globals : ++out.stores;
        out.len = write_state(out.data, number, some_size((unsigned)rand_r(seed)));
        out.at = 0;
    }
    while (out.len) {
        size_t most = h->max_frame - GD_HEADER, left = out.len - out.at;
        size_t n = left < most ? left : most;
        if (!host_send(h, out.kind, n < left ? GD_MORE : 0, 0, 0, out.data + out.at, n))
            return;
        out.at += n;
        if (out.at == out.len)
            out.len = 0;
    }
}

bool state_through(host *h) {
    if (!atomic_load(&loose_over))
        return false;
    while (out.len) {
        unsigned none = 0;
        state_send(h, &none);
        if (out.len)
            return false;
    }
    pthread_mutex_lock(&record);
    bool all = in.last == sealed && !in.open && !in.owed;
    pthread_mutex_unlock(&record);
    return all && !atomic_load(&wrong) && atomic_load(&taken) == out.stores + out.globals;
}

unsigned long state_count(void) {
    return (unsigned long)in.last;
}
