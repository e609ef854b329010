/* The messages of an answer, made from what the application said.
 * Before: wsgi and asgi; after: send.c. Not here: frames, room, credit.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

enum { ON_STACK = 4096 };

/* Posts a message whose head part has `size` bytes, written by the caller's code
 * into `at`; short heads need no heap. */
typedef struct {
    uint8_t stack[ON_STACK];
    uint8_t *at;
} scratch;

static bool scratch_get(scratch *k, size_t size) {
    k->at = size <= ON_STACK ? k->stack : malloc(size);
    return k->at != NULL;
}

static void scratch_put(scratch *k) {
    if (k->at != k->stack)
        free(k->at);
}

/* For the host's figures: microseconds in the application so far, at least one. */
static uint32_t spent(const gd_stream *s) {
    int64_t us = gd_now_us() - s->taken_us;
    return us < 1 ? 1 : us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
}

/* State that goes with a COMMIT. */
typedef struct {
    const void *at;
    size_t len;
} state;

static ssize_t post_head(gd_stream *s, uint8_t kind, const gd_head *h, const void *body, size_t n,
                         int flags, int wait, const state *with) {
    size_t size = gd_head_size(h);
    if (size == SIZE_MAX || h->status < 100 || h->status > 999)
        return GD_CORRUPT;
    if (kind == GD_K_INFORMATIONAL && size > s->link->max_frame - GD_HEADER)
        return GD_CORRUPT;
    scratch k;
    if (kind == GD_K_COMMIT)
        size += 4; /* the length of the body's part that goes along: send.c writes it */
    if (!scratch_get(&k, size))
        return GD_NOMEM;
    gd_head_encode(k.at, h);
    gd_out m = {.kind = kind,
                .flags = (uint8_t)flags,
                .arg = kind == GD_K_COMMIT ? spent(s) : 0,
                .head = k.at,
                .head_len = size,
                .body = body,
                .body_len = n};
    ssize_t rc = with ? gd_seal_out(s, &m, with->at, with->len) : gd_post(s, &m, wait);
    scratch_put(&k);
    return rc;
}

ssize_t gd_commit(gd_stream *s, const gd_head *h, const void *body, size_t n, int flags, int wait) {
    return post_head(s, GD_K_COMMIT, h, body, n, flags, wait, NULL);
}

ssize_t gd_seal_commit(gd_stream *s, const gd_head *h, const void *body, size_t n, int flags,
                       const void *at, size_t len) {
    return post_head(s, GD_K_COMMIT, h, body, n, flags, 0, &(state){at, len});
}

ssize_t gd_informational(gd_stream *s, const gd_head *h, int wait) {
    return post_head(s, GD_K_INFORMATIONAL, h, NULL, 0, 0, wait, NULL);
}

ssize_t gd_body(gd_stream *s, const void *body, size_t n, int flags, int wait) {
    if (n == 0 && !(flags & GD_END))
        return wait ? gd_flush(s) : 0;
    gd_out m = {.kind = GD_K_RESPONSE_BODY,
                .flags = (uint8_t)flags,
                .arg = flags & GD_END ? spent(s) : 0,
                .body = body,
                .body_len = n};
    return gd_post(s, &m, wait);
}

ssize_t gd_trailers(gd_stream *s, const gd_field *f, uint16_t n, int flags, int wait) {
    size_t size = gd_fields_size(f, n);
    if (size > s->link->max_frame - GD_HEADER - 2)
        return GD_CORRUPT;
    scratch k;
    if (!scratch_get(&k, size + 2))
        return GD_NOMEM;
    gd_fields_encode(gd_put16(k.at, n), f, n);
    gd_out m = {.kind = GD_K_TRAILERS,
                .flags = (uint8_t)(flags | GD_END),
                .arg = spent(s),
                .head = k.at,
                .head_len = size + 2};
    ssize_t rc = gd_post(s, &m, wait);
    scratch_put(&k);
    return rc;
}

/* The descriptor is duplicated: it leaves with its frame, which may be later. */
ssize_t gd_file(gd_stream *s, int fd, uint64_t offset, uint64_t count, int flags, int wait) {
    uint8_t range[16];
    gd_fd *f = malloc(sizeof *f);
    if (!f)
        return GD_NOMEM;
    *f = (gd_fd){.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3), .stream = s->id, .seq = s->file_seq++};
    if (f->fd < 0) {
        free(f);
        return GD_NOMEM;
    }
    gd_put64(gd_put64(range, offset), count);
    gd_out m = {.kind = GD_K_FILE,
                .flags = (uint8_t)flags,
                .arg = f->seq,
                .head = range,
                .head_len = sizeof range,
                .file = f};
    return gd_post(s, &m, wait);
}

ssize_t gd_abort(gd_stream *s, uint32_t reason, const char *text, size_t n) {
    size_t most = s->link->max_frame - GD_HEADER;
    most = most < GD_MAX_TEXT ? most : GD_MAX_TEXT;
    gd_out m = {.kind = GD_K_ABORT,
                .arg = reason,
                .head = (const uint8_t *)text,
                .head_len = n < most ? n : most};
    return gd_post(s, &m, 0);
}

/* CANCEL may have dropped the END that DONE follows: then the answer was cut. */
ssize_t gd_done(gd_stream *s) {
    if (gd_stream_unended(s))
        return gd_abort(s, 3, "", 0);
    gd_out m = {.kind = GD_K_DONE};
    return gd_post(s, &m, 0);
}
