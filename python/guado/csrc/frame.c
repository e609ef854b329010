/* Frames as bytes: decoding and encoding, bounds-checked, without state.
 * Before: shm.c and sock.c bring the bytes; after: stream.c files what they say.
 * Not here: cursors, streams, credit. Fuzzed by tests/fuzz_frame.c.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

uint16_t gd_get16(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}

uint32_t gd_get32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

uint64_t gd_get64(const uint8_t *p) {
    return (uint64_t)gd_get32(p) | (uint64_t)gd_get32(p + 4) << 32;
}

uint8_t *gd_put16(uint8_t *p, uint16_t v) {
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    return p + 2;
}

uint8_t *gd_put32(uint8_t *p, uint32_t v) {
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    p[2] = (uint8_t)(v >> 16);
    p[3] = (uint8_t)(v >> 24);
    return p + 4;
}

uint8_t *gd_put64(uint8_t *p, uint64_t v) {
    gd_put32(p, (uint32_t)v);
    gd_put32(p + 4, (uint32_t)(v >> 32));
    return p + 8;
}

int gd_frame_decode_head(const uint8_t *at, size_t n, uint32_t max_frame, gd_frame_head *out) {
    if (n < GD_HEADER)
        return GD_AGAIN;
    out->size = gd_get32(at);
    out->kind = at[4];
    out->flags = at[5];
    out->stream = gd_get32(at + 8);
    out->arg = gd_get32(at + 12);
    if (out->size < GD_HEADER || gd_get16(at + 6) != 0)
        return GD_CORRUPT;
    /* PAD may be as long as the rest of the ring; who skips it checks that. */
    if (out->kind != GD_K_PAD && out->size > max_frame)
        return GD_CORRUPT;
    return GD_OK;
}

void gd_frame_encode_head(uint8_t *at, uint32_t size, uint8_t kind, uint8_t flags, uint32_t stream,
                          uint32_t arg) {
    gd_put32(at, size);
    at[4] = kind;
    at[5] = flags;
    at[6] = at[7] = 0;
    gd_put32(at + 8, stream);
    gd_put32(at + 12, arg);
}

/* Reads forward and remembers whether it ever ran over the end. */
typedef struct {
    const uint8_t *at, *end;
    bool bad;
} cursor;

static const uint8_t *take(cursor *c, size_t n) {
    if ((size_t)(c->end - c->at) < n) {
        c->bad = true;
        return NULL;
    }
    const uint8_t *p = c->at;
    c->at += n;
    return p;
}

static uint16_t take16(cursor *c) {
    const uint8_t *p = take(c, 2);
    return p ? gd_get16(p) : 0;
}

static uint32_t take32(cursor *c) {
    const uint8_t *p = take(c, 4);
    return p ? gd_get32(p) : 0;
}

static gd_str take_bytes(cursor *c, size_t n) {
    gd_str s = {(const char *)take(c, n), 0};
    if (s.at)
        s.len = n;
    return s;
}

static gd_str take_str(cursor *c) {
    return take_bytes(c, take32(c));
}

/* A field takes at least 8 bytes: a count that cannot fit is refused before memory
 * is asked for it. */
static int take_fields(cursor *c, gd_request *r, uint32_t *cap) {
    if (c->bad || (size_t)(c->end - c->at) / 8 < r->nfields)
        return GD_CORRUPT;
    if (r->nfields > *cap) {
        gd_field *f = realloc(r->fields, r->nfields * sizeof *f);
        if (!f)
            return GD_NOMEM;
        r->fields = f;
        *cap = r->nfields;
    }
    for (uint32_t i = 0; i < r->nfields; i++) {
        uint16_t name = take16(c), zero = take16(c);
        uint32_t value = take32(c);
        r->fields[i].name = take_bytes(c, name);
        r->fields[i].value = take_bytes(c, value);
        if (c->bad || zero)
            return GD_CORRUPT;
    }
    return GD_OK;
}

int gd_request_decode_into(const uint8_t *at, size_t n, gd_request *r, uint32_t *cap,
                           gd_str *body) {
    cursor c = {at, at + n, false};
    const uint8_t *p = take(&c, 28);
    if (!p)
        return GD_CORRUPT;
    r->version = p[0];
    r->flags = gd_get16(p + 2);
    r->app = gd_get16(p + 4);
    r->nfields = gd_get16(p + 6);
    r->length = (int64_t)gd_get64(p + 8);
    r->tls_version = gd_get16(p + 16);
    r->tls_cipher = gd_get16(p + 18);
    r->server_port = gd_get16(p + 20);
    r->client_port = gd_get16(p + 22);
    c.at = p + 24;
    if ((r->version != 10 && r->version != 11 && r->version != 20) || p[1] || r->length < -1)
        return GD_CORRUPT;
    gd_str *strings[] = {&r->id,          &r->method,      &r->scheme,     &r->path,
                         &r->raw_path,    &r->query,       &r->target,     &r->root,
                         &r->server_name, &r->client_host, &r->traceparent};
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        *strings[i] = take_str(&c);
    int rc = take_fields(&c, r, cap);
    if (rc != GD_OK)
        return rc;
    *body = take_str(&c);
    return c.bad || c.at != c.end ? GD_CORRUPT : GD_OK;
}

int gd_request_decode(const uint8_t *at, size_t n, gd_request *r, gd_str *body) {
    uint32_t cap = 0;
    memset(r, 0, sizeof *r);
    int rc = gd_request_decode_into(at, n, r, &cap, body);
    if (rc != GD_OK)
        gd_request_clear(r);
    return rc;
}

int gd_turn_decode(const uint8_t *at, size_t n, gd_request *r) {
    cursor c = {at, at + n, false};
    const uint8_t *p = take(&c, 8);
    if (!p)
        return GD_CORRUPT;
    gd_turn *t = &r->turn;
    r->app = gd_get16(p);
    t->do_ = p[2];
    t->opened = p[3] & 1;
    if (t->do_ < GD_TURN_OPEN || t->do_ > GD_TURN_WRITE || p[3] > 1 || gd_get32(p + 4))
        return GD_CORRUPT;
    t->page = take_str(&c);
    t->user = take_str(&c);
    t->connection = take_str(&c);
    t->data = take_str(&c);
    t->rest.at = (const char *)c.at;
    for (int i = 0; i < 4; i++)
        take_str(&c);
    if (c.bad || c.at != c.end)
        return GD_CORRUPT;
    t->rest.len = (size_t)((const char *)c.at - t->rest.at);
    return GD_OK;
}

void gd_request_clear(gd_request *r) {
    free(r->fields);
    r->fields = NULL;
    r->nfields = 0;
}

size_t gd_fields_size(const gd_field *f, uint16_t n) {
    size_t size = 0;
    for (uint16_t i = 0; i < n; i++) {
        if (f[i].name.len > UINT16_MAX || f[i].value.len > GD_MAX_MESSAGE)
            return SIZE_MAX;
        size += 8 + f[i].name.len + f[i].value.len;
    }
    return size > GD_MAX_MESSAGE ? SIZE_MAX : size;
}

static uint8_t *put_bytes(uint8_t *p, const void *at, size_t n) {
    if (n)
        memcpy(p, at, n);
    return p + n;
}

uint8_t *gd_fields_encode(uint8_t *p, const gd_field *f, uint16_t n) {
    for (uint16_t i = 0; i < n; i++) {
        p = gd_put16(p, (uint16_t)f[i].name.len);
        p = gd_put16(p, 0);
        p = gd_put32(p, (uint32_t)f[i].value.len);
        p = put_bytes(p, f[i].name.at, f[i].name.len);
        p = put_bytes(p, f[i].value.at, f[i].value.len);
    }
    return p;
}

size_t gd_head_size(const gd_head *h) {
    size_t fields = gd_fields_size(h->fields, h->nfields);
    if (fields == SIZE_MAX || h->reason.len > UINT16_MAX)
        return SIZE_MAX;
    return 16 + h->reason.len + fields;
}

uint8_t *gd_head_encode(uint8_t *p, const gd_head *h) {
    p = gd_put16(p, h->status);
    p = gd_put16(p, h->nfields);
    p = gd_put64(p, (uint64_t)h->length);
    p = gd_put32(p, (uint32_t)h->reason.len);
    p = put_bytes(p, h->reason.at, h->reason.len);
    return gd_fields_encode(p, h->fields, h->nfields);
}
